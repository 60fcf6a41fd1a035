//! What is told of a comparison? The files of its report, and a short table.

use std::path::{Path, PathBuf};

use aepo_report::{Context, ReportError, ReportFile, RunData, comparison};
use anyhow::Context as _;
use serde_json::{Value, json};

use super::result;
use super::study::Study;
use crate::run_dir::make;
use crate::table::{minutes, table};

/// The page in a comparison's directory.
const PAGE: &str = "report.html";

/// What a report says in short.
pub struct Told {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
}

/// Writes the report of every finished run; `None` while there is none of the baseline.
pub fn write(out: &Path, study: &Study, baseline: Option<&str>) -> anyhow::Result<Option<Told>> {
    let runs = result::read_all(out, study)?;
    let mut settings: Vec<(String, String)> = study.sets.clone().into_iter().collect();
    settings.push(("train.threads".to_owned(), study.threads.to_string()));
    let context = Context {
        recipe: study.recipe.clone(),
        command: study.command(),
        version: study.versions.join(", "),
        commit: Some(study.commits.join(", ")).filter(|commits| !commits.is_empty()),
        machine: study.machines.join("; "),
        settings,
        baseline: baseline.unwrap_or_else(|| default_baseline(study)).to_owned(),
    };
    let files = match comparison(&context, &runs) {
        Ok(files) => files,
        Err(ReportError::NoRuns | ReportError::NoBaseline { .. }) => return Ok(None),
        Err(error) => return Err(error).context("no report"),
    };
    place(out, &files)?;
    let summary = files.iter().find(|file| file.name == "summary.json").context("a report without a summary")?;
    let summary: Value = serde_json::from_str(&summary.content)?;
    let n_asked_for = study.algorithms.len() * study.seeds as usize;
    let told = short(&context.baseline, &summary, &runs);
    let of = match runs.len() < n_asked_for {
        true => format!("{} of {n_asked_for} runs are finished; ", runs.len()),
        false => String::new(),
    };
    let page = out.join(PAGE);
    let text = format!("{}\n{of}the report is {}\n", told.text, page.display());
    Ok(Some(Told { text, json: json!({ "report": page, "finished": runs.len(), "algorithms": told.json }) }))
}

fn default_baseline(study: &Study) -> &str {
    let names = || study.algorithms.iter().map(|own| own.name.as_str());
    names().find(|name| *name == "grpo").or_else(|| names().next()).unwrap_or("")
}

/// Pass@1 before and after, and what is gained on the baseline, algorithm by algorithm.
fn short(baseline: &str, summary: &Value, runs: &[RunData]) -> Told {
    let measure = |key: &str| summary["measures"].as_array()?.iter().find(|m| m["key"] == key);
    let (before, after) = (measure("pass_at_1_before"), measure("pass_at_1_after"));
    let (mut rows, mut json) = (Vec::new(), Vec::new());
    for (i, algorithm) in summary["algorithms"].as_array().into_iter().flatten().enumerate() {
        let name = algorithm["name"].as_str().unwrap_or("");
        let of = |measure: Option<&Value>, kind: &str| measure.map_or(Value::Null, |m| m[kind][i].clone());
        let (b, a, d) = (of(before, "estimates"), of(after, "estimates"), of(after, "differences"));
        let own = || runs.iter().filter(|run| run.algorithm == name);
        let n = own().count();
        let mean = |of: fn(&RunData) -> f64| own().map(of).sum::<f64>() / n.max(1) as f64;
        let (secs, cpu_secs) = (mean(|run| run.seconds), mean(|run| run.cpu_secs));
        let less = if name == baseline { "–".to_owned() } else { points(&d) };
        rows.push(vec![name.to_owned(), n.to_string(), share(&b), share(&a), less, minutes(secs), minutes(cpu_secs)]);
        json.push(json!({
            "algorithm": name, "runs": n, "before": b, "after": a, "difference": d, "seconds": secs,
            "cpu_secs": cpu_secs,
        }));
    }
    let less = format!("less {baseline}");
    let header = ["algorithm", "runs", "pass@1 before", "after", &less, "time", "of processors"];
    let about = "Means over runs, ± half of the 95 % interval over seeds.";
    Told { text: format!("{}{about}", table(&header, &rows)), json: json.into() }
}

/// `45.2 ± 3.1 %`
fn share(estimate: &Value) -> String {
    let Some(mean) = estimate["mean"].as_f64() else { return "–".to_owned() };
    format!("{:.1}{} %", 100.0 * mean, half(estimate))
}

/// `+3.2 ± 1.0 points`
fn points(estimate: &Value) -> String {
    let Some(mean) = estimate["mean"].as_f64() else { return "–".to_owned() };
    format!("{:+.1}{} points", 100.0 * mean, half(estimate))
}

/// Half of the interval, in per cent; nothing where one seed has none.
fn half(estimate: &Value) -> String {
    let end = |i: usize| estimate["interval"][i].as_f64();
    end(0).zip(end(1)).map_or_else(String::new, |(low, high)| format!(" ± {:.1}", 50.0 * (high - low)))
}

/// Writes every file under another name first, so that a full disk leaves the report that was there.
fn place(out: &Path, files: &[ReportFile]) -> anyhow::Result<()> {
    let stage = out.join(".report.tmp");
    let fill = || -> anyhow::Result<()> {
        let _ = std::fs::remove_dir_all(&stage);
        for file in files {
            let path = stage.join(&file.name);
            make(path.parent().unwrap_or(&stage))?;
            std::fs::write(&path, &file.content).with_context(|| path.display().to_string())?;
            std::fs::File::open(&path)?.sync_all()?;
        }
        for entry in std::fs::read_dir(&stage)? {
            let from = entry?.path();
            let to: PathBuf = out.join(from.file_name().unwrap_or_default());
            if to.is_dir() {
                // Pictures of an earlier report that this one does not have.
                std::fs::remove_dir_all(&to)?;
            }
            std::fs::rename(&from, &to)?;
        }
        Ok(())
    };
    let filled = fill().with_context(|| format!("cannot write the report in {}", out.display()));
    let _ = std::fs::remove_dir_all(&stage);
    filled
}
