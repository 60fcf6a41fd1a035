//! What was an evaluation asked to do? Written down at its start, and held against what it is asked when it goes on.

use std::path::{Path, PathBuf};

use aepo::config::Config;
use aepo::eval::paper::Paper;
use aepo::seed::Seed;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::sets::Set;
use crate::error::usage;

/// Its name in the directory of an evaluation.
pub const PLAN: &str = "plan.json";

/// Everything beside `config.toml` that decides on answers and figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What is measured: a place, or the name of a served model.
    pub model: String,
    /// Where it is served. That may change while an evaluation goes on, the model may not.
    pub server: Option<String>,
    /// Where results of tools are written, of a served model.
    pub results: Option<String>,
    /// The sets, in their order.
    pub sets: Vec<SetFile>,
    /// Answers per question.
    pub samples: usize,
    /// k of Pass@k and majority@k.
    pub ks: Vec<usize>,
    /// Questions of each set at most.
    pub limit: Option<usize>,
    /// Whose evaluation is repeated.
    pub paper: Option<Paper>,
    /// The command line.
    pub command: String,
}

/// A file of questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetFile {
    /// The set.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// CRC-32 of its bytes.
    pub crc32: u32,
}

impl SetFile {
    /// Looks at the file.
    pub fn of(set: &Set) -> anyhow::Result<SetFile> {
        let file = std::path::absolute(&set.file)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut reader = std::fs::File::open(&file).with_context(|| file.display().to_string())?;
        let mut bytes = vec![0; 1 << 16];
        loop {
            match std::io::Read::read(&mut reader, &mut bytes).with_context(|| file.display().to_string())? {
                0 => return Ok(SetFile { name: set.name.clone(), file, crc32: hasher.finalize() }),
                n => hasher.update(&bytes[..n]),
            }
        }
    }
}

/// Refuses to go on with an evaluation of something else. More or other samples, questions and sets may be asked for:
/// what is there is kept.
pub fn check(dir: &Path, before: &Plan, now: &Plan, config: [&str; 2]) -> anyhow::Result<()> {
    let refuse = |what: &str, before: &str, now: &str| {
        let message = format!("{} is an evaluation with {what} {before}, not {now}", dir.display());
        Err(usage(message, "leave --resume out and take another --out"))
    };
    if before.model != now.model {
        return refuse("the model", &before.model, &now.model);
    }
    if before.results != now.results {
        let name = |results: &Option<String>| results.clone().unwrap_or_default();
        return refuse("--results", &name(&before.results), &name(&now.results));
    }
    for set in &now.sets {
        if let Some(other) = before.sets.iter().find(|other| other.name == set.name && other.crc32 != set.crc32) {
            let (a, b) = (other.file.display().to_string(), set.file.display().to_string());
            return refuse("another content of", &a, &b);
        }
    }
    let [old, new] = config.map(deciding);
    if let Some((a, b)) = old.iter().zip(&new).find(|(a, b)| a != b) {
        return refuse("the setting", a, b);
    }
    if old.len() != new.len() {
        return refuse("settings", &format!("({} of them)", old.len()), &format!("{} of them", new.len()));
    }
    Ok(())
}

/// Lines of a resolved recipe that decide on answers, each with its section.
fn deciding(config: &str) -> Vec<String> {
    const FREE: [&str; 5] = ["eval.samples", "eval.n_tasks", "eval.every", "tools.n_workers", "rollout.max_live_paths"];
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in config.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => section = name.to_owned(),
            None => lines.push(format!("{section}.{line}")),
        }
    }
    lines.retain(|line| !FREE.iter().any(|key| line.split(" =").next() == Some(key)));
    lines
}

/// Every draw of a question's answers follows from this. It fits a double, which is what JSON numbers are to many.
pub fn question_seed(config: &Config, set: &str, id: &str) -> Seed {
    const BENCHMARK: u64 = 5;
    let of_text = |seed: Seed, text: &str| seed.child(u64::from(crc32fast::hash(text.as_bytes())));
    let seed = of_text(of_text(Seed(config.train.seed).child(BENCHMARK), set), id);
    Seed(seed.0 >> 11)
}

/// The same for one answer of a served model.
pub fn answer_seed(config: &Config, set: &str, id: &str, sample: usize) -> Seed {
    Seed(question_seed(config, set, id).child(sample as u64).0 >> 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_models_files_and_settings_are_refused_and_more_answers_are_not() {
        let plan = Plan {
            model: "a".to_owned(),
            server: None,
            results: None,
            sets: vec![SetFile { name: "x".to_owned(), file: "x.jsonl".into(), crc32: 1 }],
            samples: 1,
            ks: vec![1],
            limit: Some(3),
            paper: None,
            command: String::new(),
        };
        let config = "[eval]\nsamples = 1\ntemperature = 0.6\n";
        let check =
            |now: &Plan, text: &str| check(Path::new("d"), &plan, now, [config, text]).map_err(|e| e.to_string());
        let more = Plan { samples: 5, limit: None, ks: vec![1, 5], ..plan.clone() };
        assert_eq!(check(&more, "[eval]\nsamples = 5\ntemperature = 0.6\n"), Ok(()));
        let other = Plan { model: "b".to_owned(), ..plan.clone() };
        assert!(check(&other, config).unwrap_err().contains("the model a, not b"));
        let mut changed = plan.clone();
        changed.sets[0].crc32 = 2;
        assert!(check(&changed, config).unwrap_err().contains("another content of x.jsonl"));
        let error = check(&plan, "[eval]\nsamples = 1\ntemperature = 1.0\n").unwrap_err();
        assert!(error.contains("eval.temperature = 0.6, not eval.temperature = 1.0"), "{error}");
        assert!(check(&plan, "[eval]\nsamples = 1\ntemperature = 0.6\ntop_p = 0.9\n").is_err());
    }
}
