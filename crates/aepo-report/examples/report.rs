//! What do these run directories show? `report OUT BASELINE NAME=RUN_DIR…`: writes a report, NAME being an algorithm.
//!
//! A run's seed is read from its `summary.json`, or counted from 1 where there is none yet.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use aepo::eval::EvalReport;
use aepo::record::TreeRecord;
use aepo_report::{Context, Rollout, Row, RunData, comparison};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [out, baseline, runs @ ..] = args.as_slice() else { return Err("OUT BASELINE NAME=RUN_DIR…".into()) };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut data = Vec::new();
    for run in runs {
        let (name, dir) = run.split_once('=').ok_or("NAME=RUN_DIR")?;
        let count = counts.entry(name).or_default();
        *count += 1;
        data.push(read(name, Path::new(dir), *count).map_err(|e| format!("{dir}: {e}"))?);
    }
    let context = Context {
        recipe: "quickstart".to_owned(),
        command: format!("report {}", args.join(" ")),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: None,
        machine: "not known".to_owned(),
        settings: vec![],
        baseline: baseline.clone(),
    };
    for file in comparison(&context, &data)? {
        let path = Path::new(out).join(&file.name);
        fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        fs::write(&path, &file.content)?;
        println!("{} {}", file.content.len(), path.display());
    }
    Ok(())
}

fn read(algorithm: &str, dir: &Path, count: u64) -> Result<RunData, Box<dyn Error>> {
    let lines = fs::read_to_string(dir.join("metrics.jsonl"))?;
    let rows: Vec<Row> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut evals = Vec::new();
    for entry in fs::read_dir(dir.join("evals"))? {
        let path = entry?.path();
        let step = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.strip_prefix("step-")).ok_or("a name")?;
        evals.push((step.parse()?, serde_json::from_str::<EvalReport>(&fs::read_to_string(&path)?)?));
    }
    let summary = fs::read_to_string(dir.join("summary.json")).unwrap_or_else(|_| "{}".to_owned());
    let summary: serde_json::Value = serde_json::from_str(&summary)?;
    let last = rows.len().saturating_sub(1) as u64;
    let mut rollouts = Vec::new();
    for step in [0, last / 2, last] {
        let trees = fs::read_to_string(dir.join(format!("trees/step-{step:06}.jsonl")))?;
        for (task, line) in trees.lines().enumerate() {
            let tree: TreeRecord = serde_json::from_str(line)?;
            rollouts.extend(tree.leaves.iter().map(|leaf| Rollout { step, task, tokens: tokens(&tree, leaf.node) }));
        }
    }
    let secs: f64 = rows.iter().filter_map(|row| row.times.get("secs_total")).sum();
    let memory = rows.iter().filter_map(|row| row.times.get("peak_memory_mb")).copied().fold(0.0, f64::max);
    Ok(RunData {
        algorithm: algorithm.to_owned(),
        seed: summary["seed"].as_u64().unwrap_or(count),
        rows,
        evals,
        rollouts,
        seconds: summary["seconds"].as_f64().unwrap_or(secs),
        cpu_secs: secs,
        peak_memory_mb: memory,
    })
}

/// Sampled tokens from the root to a node.
fn tokens(tree: &TreeRecord, node: u32) -> Vec<u32> {
    let mut path = Vec::new();
    let mut at = Some(node);
    while let Some(node) = at.and_then(|i| tree.nodes.get(i as usize)) {
        path.push(node);
        at = node.parent;
    }
    path.iter().rev().filter(|node| node.mask).flat_map(|node| node.tokens.iter().copied()).collect()
}
