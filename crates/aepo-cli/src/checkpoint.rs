//! What does training go on from? Directories that are there whole, and are checked before they are believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use aepo::policy::Learner;
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::run_dir::read_json;
use crate::source::TokenizerFiles;

/// Checkpoints that are kept.
const N_KEPT: usize = 2;
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";
/// Name of the vocabulary in a model directory.
pub const TOKENIZER: &str = "tokenizer.json";

/// What is known besides weights and optimiser. Everything random follows from the step's number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Time spent on the run so far, seconds.
    pub elapsed_secs: f64,
    /// Processor time spent on the run so far, that of its tools included, seconds.
    pub cpu_secs: f64,
    /// The most memory that any process of the run held, MiB.
    pub peak_memory_mb: f64,
}

/// Size and checksum of each file but the manifest itself.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    files: BTreeMap<String, FileMark>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMark {
    n_bytes: u64,
    crc32: u32,
}

/// A checkpoint that cannot be used.
pub struct Damaged {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What a directory of checkpoints holds.
pub struct Found {
    /// The newest whole one.
    pub newest: Option<(PathBuf, State)>,
    /// Newer ones that are not whole.
    pub damaged: Vec<Damaged>,
}

/// Writes `checkpoints/step-NNNNNN` under another name, flushes it to the disk, checks it, renames it into place, and
/// then removes all but the last two.
pub fn write(
    dir: &Path,
    learner: &mut dyn Learner,
    tokenizer: &TokenizerFiles,
    state: &State,
) -> anyhow::Result<PathBuf> {
    let path = dir.join(name(state.step));
    let temporary = dir.join(format!(".{}.tmp", name(state.step)));
    let fill = |learner: &mut dyn Learner| -> anyhow::Result<()> {
        std::fs::create_dir(&temporary)?;
        learner.save(&temporary, true)?;
        tokenizer.write(&temporary)?;
        std::fs::write(temporary.join(STATE), serde_json::to_vec_pretty(state)?)?;
        let marks = Manifest { files: marks(&temporary)? };
        std::fs::write(temporary.join(MANIFEST), serde_json::to_vec_pretty(&marks)?)?;
        for name in marks.files.keys() {
            File::open(temporary.join(name))?.sync_all()?;
        }
        File::open(temporary.join(MANIFEST))?.sync_all()?;
        File::open(&temporary)?.sync_all()?;
        // A damaged checkpoint of the same step may stand in the way; the new one is complete by now.
        remove(&path)?;
        std::fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()?;
        Ok(())
    };
    remove(&temporary)?;
    fill(learner).with_context(|| format!("cannot write checkpoint {}", path.display())).inspect_err(|_| {
        // The error that matters is the first; what is left over is removed by the next attempt.
        let _ = remove(&temporary);
    })?;
    let mut all = list(dir)?;
    all.truncate(all.len().saturating_sub(N_KEPT));
    for (_, old) in all {
        remove(&old)?;
    }
    Ok(path)
}

/// The newest checkpoint whose every file is as it was written, and those that were passed over.
pub fn newest(dir: &Path) -> anyhow::Result<Found> {
    let mut damaged = Vec::new();
    for (step, path) in list(dir)?.into_iter().rev() {
        match check(&path, step) {
            Ok(state) => return Ok(Found { newest: Some((path, state)), damaged }),
            Err(e) => damaged.push(Damaged { path, why: format!("{e:#}") }),
        }
    }
    Ok(Found { newest: None, damaged })
}

/// Whether a directory is a checkpoint, and not only a model.
pub fn is_one(dir: &Path) -> bool {
    dir.join(STATE).is_file()
}

/// Looks at every file of a checkpoint.
fn check(path: &Path, step: u64) -> anyhow::Result<State> {
    let Some(manifest) = read_json::<Manifest>(&path.join(MANIFEST))? else {
        bail!("{MANIFEST} is missing");
    };
    let found = marks(path)?;
    for (file, mark) in &manifest.files {
        match found.get(file) {
            None => bail!("{file} is missing"),
            Some(now) if now.n_bytes != mark.n_bytes => {
                bail!("{file} has {} bytes, it was written with {}", now.n_bytes, mark.n_bytes)
            }
            Some(now) if now != mark => bail!("{file} is not what was written"),
            Some(_) => {}
        }
    }
    match read_json::<State>(&path.join(STATE))? {
        Some(state) if state.step == step && manifest.files.contains_key(STATE) => Ok(state),
        Some(state) => bail!("{STATE} belongs to step {}", state.step),
        None => bail!("{STATE} is missing"),
    }
}

/// Size and checksum of every file below `dir` but the manifest, by its path from there.
fn marks(dir: &Path) -> anyhow::Result<BTreeMap<String, FileMark>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(marks(&entry.path())?.into_iter().map(|(inner, mark)| (format!("{name}/{inner}"), mark)));
        } else if name != MANIFEST && kind.is_file() {
            files.insert(name, mark(&entry.path())?);
        }
    }
    Ok(files)
}

/// Reads a file piece by piece: weights are larger than what one would hold twice.
fn mark(path: &Path) -> std::io::Result<FileMark> {
    let (mut file, mut crc, mut n_bytes) = (File::open(path)?, crc32fast::Hasher::new(), 0);
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(FileMark { n_bytes, crc32: crc.finalize() }),
            Ok(n) => {
                crc.update(&piece[..n]);
                n_bytes += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// All checkpoints, whole or not, by step.
fn list(dir: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| dir.display().to_string()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| dir.display().to_string())?;
        let step = entry.file_name().to_str().and_then(|n| n.strip_prefix("step-")?.parse().ok());
        found.extend(step.map(|step: u64| (step, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// `step-000012`
pub fn name(step: u64) -> String {
    format!("step-{step:06}")
}

fn remove(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use aepo::seed::Seed;
    use aepo_engine::Engine;
    use aepo_engine::config::ModelConfig;

    use super::*;

    const TINY: &str = r#"{"model_type":"qwen3","vocab_size":16,"hidden_size":8,"intermediate_size":8,
        "num_hidden_layers":1,"num_attention_heads":1,"head_dim":8,"max_position_embeddings":16,
        "tie_word_embeddings":true}"#;

    fn files() -> TokenizerFiles {
        TokenizerFiles::alone(b"{}".to_vec())
    }

    fn written(steps: &[u64]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = Engine::random(ModelConfig::from_json(TINY).unwrap(), Seed(1), 1).unwrap();
        for &step in steps {
            let state = State { step, elapsed_secs: 1.5, cpu_secs: 2.0, peak_memory_mb: 2.5 };
            write(dir.path(), &mut engine, &files(), &state).unwrap();
        }
        dir
    }

    fn steps(dir: &Path) -> Vec<u64> {
        list(dir).unwrap().into_iter().map(|(step, _)| step).collect()
    }

    #[test]
    fn the_last_two_are_kept_and_the_newest_is_found() {
        let dir = written(&[1, 2, 12, 30]);
        assert_eq!(steps(dir.path()), [12, 30]);
        let Found { newest: found, damaged } = newest(dir.path()).unwrap();
        let (path, state) = found.unwrap();
        assert!(path.ends_with("step-000030") && damaged.is_empty());
        assert_eq!(state, State { step: 30, elapsed_secs: 1.5, cpu_secs: 2.0, peak_memory_mb: 2.5 });
        assert!(Engine::resume(&path, 1).is_ok());
    }

    #[test]
    fn every_kind_of_damage_is_passed_over() {
        type Harm = fn(&Path);
        let harms: [(&str, Harm); 6] = [
            ("model.safetensors has", |d| {
                let file = d.join("model.safetensors");
                let bytes = std::fs::read(&file).unwrap();
                std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
            }),
            ("optimizer.state is not what was written", |d| {
                let file = d.join("optimizer.state");
                let mut bytes = std::fs::read(&file).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                std::fs::write(file, bytes).unwrap();
            }),
            ("tokenizer.json is missing", |d| std::fs::remove_file(d.join(TOKENIZER)).unwrap()),
            ("manifest.json is missing", |d| std::fs::remove_file(d.join(MANIFEST)).unwrap()),
            ("manifest.json", |d| std::fs::write(d.join(MANIFEST), "{\"files\":").unwrap()),
            ("state.json is missing", |d| {
                std::fs::remove_file(d.join(STATE)).unwrap();
                let marks = Manifest { files: marks(d).unwrap() };
                std::fs::write(d.join(MANIFEST), serde_json::to_vec(&marks).unwrap()).unwrap();
            }),
        ];
        for (expected, harm) in harms {
            let dir = written(&[4, 8]);
            // A tiny model before its first step has empty moments, which end in the header.
            harm(&dir.path().join(name(8)));
            let Found { newest: found, damaged } = newest(dir.path()).unwrap();
            assert_eq!(found.unwrap().1.step, 4, "{expected}");
            assert_eq!(damaged.len(), 1);
            assert!(damaged[0].why.contains(expected), "{expected}: {}", damaged[0].why);
        }
    }

    #[test]
    fn what_a_killed_writer_left_is_no_checkpoint_and_does_not_disturb() {
        let dir = written(&[3]);
        let leftover = dir.path().join(".step-000009.tmp");
        std::fs::create_dir(&leftover).unwrap();
        std::fs::write(leftover.join("model.safetensors"), "half").unwrap();
        assert_eq!(newest(dir.path()).unwrap().newest.unwrap().1.step, 3);
        let mut engine = Engine::random(ModelConfig::from_json(TINY).unwrap(), Seed(1), 1).unwrap();
        write(
            dir.path(),
            &mut engine,
            &files(),
            &State { step: 9, elapsed_secs: 0.0, cpu_secs: 0.0, peak_memory_mb: 0.0 },
        )
        .unwrap();
        assert_eq!(newest(dir.path()).unwrap().newest.unwrap().1.step, 9);
    }
}
