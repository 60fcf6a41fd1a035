//! What did the runs leave? Their rows, measurements and trajectories, read from their directories.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use aepo_report::{Rollout, Row, RunData};
use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::study::Study;
use crate::checkpoint;
use crate::commands::train::Summary;
use crate::run_dir::{METRICS, read_json};

/// The result of a run of `steps` steps; `None` where it has none yet.
pub fn finished(dir: &Path, steps: u64) -> anyhow::Result<Option<Summary>> {
    let summary = read_json::<Summary>(&dir.join("summary.json"))?;
    Ok(summary.filter(|summary| summary.steps == steps))
}

/// Where the run of an algorithm with a seed is.
pub fn run_dir(out: &Path, algorithm: &str, seed: u64) -> PathBuf {
    out.join("runs").join(algorithm).join(format!("seed{seed}"))
}

/// Every finished run of a comparison, algorithms in its order, seeds from 1.
pub fn read_all(out: &Path, study: &Study) -> anyhow::Result<Vec<RunData>> {
    let mut runs = Vec::new();
    for algorithm in &study.algorithms {
        for seed in 1..=study.seeds {
            let dir = run_dir(out, &algorithm.name, seed);
            if let Some(summary) = finished(&dir, study.steps)? {
                runs.push(read(&dir, &algorithm.name, &summary)?);
            }
        }
    }
    Ok(runs)
}

fn read(dir: &Path, algorithm: &str, summary: &Summary) -> anyhow::Result<RunData> {
    let mut rows: Vec<Row> = Vec::new();
    each_line(&dir.join(METRICS), &mut |row| rows.push(row))?;
    let mut rollouts = Vec::new();
    // At the start, in the middle and at the end of training.
    let last = summary.steps.saturating_sub(1);
    let mut steps = vec![0, last / 2, last];
    steps.dedup();
    for step in steps {
        let path = dir.join("trees").join(format!("{}.jsonl", checkpoint::name(step)));
        // Trees are large, and somebody may have removed them: the report says whose diversity it could not compare.
        if !path.is_file() {
            continue;
        }
        let mut task = 0;
        each_line(&path, &mut |tree: Tree| {
            rollouts.extend(tree.leaves.iter().map(|leaf| Rollout { step, task, tokens: tree.sampled(leaf.node) }));
            task += 1;
        })?;
    }
    Ok(RunData {
        algorithm: algorithm.to_owned(),
        seed: summary.seed,
        rows,
        evals: evals(&dir.join("evals"))?,
        rollouts,
        seconds: summary.seconds,
        cpu_secs: summary.cpu_secs,
        peak_memory_mb: summary.peak_memory_mb,
    })
}

/// What was measured, by the steps before it.
fn evals(dir: &Path) -> anyhow::Result<Vec<(u64, aepo::eval::EvalReport)>> {
    let mut evals = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry.with_context(|| dir.display().to_string())?.path();
        let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix("step-")?.strip_suffix(".json"));
        let Some(step) = step.and_then(|step| step.parse().ok()) else { continue };
        match read_json(&path)? {
            Some(report) => evals.push((step, report)),
            None => bail!("{} has just been removed", path.display()),
        }
    }
    evals.sort_by_key(|(step, _)| *step);
    Ok(evals)
}

/// What is needed of a tree; the rest of its line is passed over.
#[derive(Deserialize)]
struct Tree {
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
}

#[derive(Deserialize)]
struct Node {
    parent: Option<u32>,
    mask: bool,
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Leaf {
    node: u32,
}

impl Tree {
    /// Sampled tokens from the root to a node.
    fn sampled(&self, node: u32) -> Vec<u32> {
        let mut path = Vec::new();
        let mut at = Some(node);
        while let Some((i, node)) = at.and_then(|i| Some((i, self.nodes.get(i as usize)?))) {
            path.push(node);
            // Parents stand before their children; a file that says otherwise has no end to its path.
            at = node.parent.filter(|parent| *parent < i);
        }
        path.iter().rev().filter(|node| node.mask).flat_map(|node| node.tokens.iter().copied()).collect()
    }
}

/// Reads a file of one JSON object per line, one at a time.
fn each_line<T: for<'de> Deserialize<'de>>(path: &Path, visit: &mut dyn FnMut(T)) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    for (i, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| path.display().to_string())?;
        visit(serde_json::from_str(&line).with_context(|| format!("{}, line {}", path.display(), i + 1))?);
    }
    Ok(())
}
