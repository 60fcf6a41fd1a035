//! What came out? The runs that are finished, by algorithm.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::commands::train::Summary;
use crate::run_dir::read_json;
use crate::table::{minutes, percent, table as columns};

/// The finished runs of one algorithm, by seed.
#[derive(Serialize)]
pub struct OfAlgorithm {
    /// Its name.
    pub algorithm: String,
    /// Its results.
    pub runs: Vec<Summary>,
}

/// The result of a run of `steps` steps; `None` where it has none yet.
pub fn finished(dir: &Path, steps: u64) -> anyhow::Result<Option<Summary>> {
    let summary = read_json::<Summary>(&dir.join("summary.json"))?;
    Ok(summary.filter(|summary| summary.steps == steps))
}

/// Every finished run below `out/runs`, algorithms by name.
pub fn read_all(out: &Path, steps: u64) -> anyhow::Result<Vec<OfAlgorithm>> {
    let mut all = Vec::new();
    for (algorithm, folder) in folders(&out.join("runs"))? {
        let mut runs = Vec::new();
        for (name, dir) in folders(&folder)? {
            if name.starts_with("seed") {
                runs.extend(finished(&dir, steps)?);
            }
        }
        runs.sort_by_key(|run| run.seed);
        if !runs.is_empty() {
            all.push(OfAlgorithm { algorithm, runs });
        }
    }
    Ok(all)
}

/// The folders in a folder, by name; none where it is missing.
fn folders(dir: &Path) -> anyhow::Result<Vec<(String, std::path::PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| dir.display().to_string()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| dir.display().to_string())?.path();
        if path.is_dir() {
            found.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}

/// A line per algorithm, means over its runs.
pub fn table(results: &[OfAlgorithm]) -> String {
    let line = |one: &OfAlgorithm| {
        let mean = |of: fn(&Summary) -> f64| one.runs.iter().map(of).sum::<f64>() / one.runs.len() as f64;
        vec![
            one.algorithm.clone(),
            one.runs.len().to_string(),
            percent(mean(|s| s.eval_before.pass_at_1)),
            percent(mean(|s| s.eval_after.pass_at_1)),
            format!("{:+.1} points", mean(|s| s.gain_points)),
            minutes(mean(|s| s.seconds)),
            minutes(mean(|s| s.cpu_secs)),
        ]
    };
    let header = ["algorithm", "runs", "pass@1 before", "after", "change", "time", "of processors"];
    columns(&header, &results.iter().map(line).collect::<Vec<_>>())
}
