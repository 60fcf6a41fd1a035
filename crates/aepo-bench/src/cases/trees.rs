//! What does a training step over trees of a real run cost, and what the same trajectories one by one?

use aepo::record::TreeRecord;
use aepo::train::batch::{Target, TreeBatch};
use anyhow::Context as _;

use crate::args::TreesArgs;
use crate::cases::training_step;
use crate::flops;
use crate::limits::Limits;
use crate::memory;
use crate::rounds::{Work, measure};
use crate::shapes::{For, engine};

/// `aepo-bench trees`
pub fn trees(args: &TreesArgs) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&args.trees).with_context(|| args.trees.display().to_string())?;
    let records = text
        .lines()
        .take(args.n_trees)
        .enumerate()
        .map(|(i, line)| serde_json::from_str(line).with_context(|| format!("{} line {}", args.trees.display(), i + 1)))
        .collect::<anyhow::Result<Vec<TreeRecord>>>()?;
    anyhow::ensure!(!records.is_empty(), "{} holds no tree", args.trees.display());
    let limits = Limits::measure(args.common.threads);
    memory::reset();
    let mut engine = engine(args.model, For::Training, &args.common)?;
    let vocab_size = engine.config().vocab_size;
    let (tree, unrolled) = (as_trees(&records, vocab_size), as_sequences(&records, vocab_size));
    let (n_unique, n_unrolled) = (tree.tokens.len(), unrolled.tokens.len());
    let batch = if args.unrolled { unrolled } else { tree };
    let leaves: usize = records.iter().map(|r| r.leaves.len()).sum();
    let work = Work {
        case: if args.unrolled { "trees unrolled" } else { "trees" }.to_owned(),
        model: args.model.name(),
        tokens: batch.tokens.len() as u64,
        flop: Some(flops::step(engine.config(), &batch)),
        weight_bytes: None,
        detail: [
            ("trees", records.len()),
            ("leaves", leaves),
            ("unique_tokens", n_unique),
            ("unrolled_tokens", n_unrolled),
            ("targets", batch.targets.len()),
        ]
        .map(|(key, n)| (key.to_owned(), n.into()))
        .into_iter()
        .collect(),
    };
    measure(&args.common, limits, &work, || training_step(&mut engine, std::slice::from_ref(&batch)))
}

/// Every node once. A node without tokens is no segment; what follows it follows what is before it.
pub fn as_trees(records: &[TreeRecord], vocab_size: usize) -> TreeBatch {
    let mut batch = TreeBatch::default();
    for record in records {
        let mut segments: Vec<Option<u32>> = Vec::new();
        for node in &record.nodes {
            let parent = node.parent.and_then(|p| segments.get(p as usize).copied().flatten());
            segments.push(push_node(&mut batch, parent, &node.tokens, node.mask, vocab_size).or(parent));
        }
    }
    batch
}

/// Every trajectory from its root, as a sequence of its own.
pub fn as_sequences(records: &[TreeRecord], vocab_size: usize) -> TreeBatch {
    let mut batch = TreeBatch::default();
    for record in records {
        for leaf in &record.leaves {
            let mut nodes = Vec::new();
            let mut at = Some(leaf.node);
            // Parents stand before their children, so a chain is no longer than there are nodes.
            while let Some(node) =
                at.and_then(|i| record.nodes.get(i as usize)).filter(|_| nodes.len() <= record.nodes.len())
            {
                nodes.push(node);
                at = node.parent;
            }
            let mut parent = None;
            for node in nodes.into_iter().rev() {
                parent = push_node(&mut batch, parent, &node.tokens, node.mask, vocab_size).or(parent);
            }
        }
    }
    batch
}

/// Appends a node's tokens; those that the model sampled are targets.
fn push_node(batch: &mut TreeBatch, parent: Option<u32>, tokens: &[u32], mask: bool, vocab_size: usize) -> Option<u32> {
    if tokens.is_empty() {
        return None;
    }
    let tokens: Vec<u32> = tokens.iter().map(|&t| t % vocab_size as u32).collect();
    let before = parent.map(|p| batch.last_idx(p));
    let segment = batch.push_segment(parent, &tokens);
    if mask {
        let start = batch.segments[segment as usize].start_idx;
        let sources = before.into_iter().chain(start..start + tokens.len() as u32 - 1);
        let targets = tokens.iter().skip(usize::from(before.is_none()));
        batch.targets.extend(sources.zip(targets).map(|(from_idx, &token)| Target { from_idx, token }));
    }
    Some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The trees that the table is made from.
    fn records() -> Vec<TreeRecord> {
        let text = include_str!("../../../../results/speed/trees-quickstart-k16.jsonl");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn unrolled_trajectories_hold_the_trees_paths() {
        let records = records();
        let (tree, unrolled) = (as_trees(&records, 32000), as_sequences(&records, 32000));
        assert!(tree.tokens.len() < unrolled.tokens.len());
        let roots = |b: &TreeBatch| b.segments.iter().filter(|s| s.parent.is_none()).count();
        let leaves: usize = records.iter().map(|r| r.leaves.len()).sum();
        assert_eq!((roots(&tree), roots(&unrolled), leaves), (4, 64, 64));
        // Every target of the trees is one of some trajectory, with the same tokens before it.
        let paths = |b: &TreeBatch| -> std::collections::BTreeSet<Vec<u32>> {
            b.targets.iter().map(|t| before(b, t.from_idx).into_iter().chain([t.token]).collect()).collect()
        };
        assert_eq!(paths(&tree), paths(&unrolled));
    }

    /// The tokens up to one, from its root.
    fn before(batch: &TreeBatch, idx: u32) -> Vec<u32> {
        let mut at = batch.segments.iter().position(|s| (s.start_idx..s.start_idx + s.n_tokens).contains(&idx));
        let (mut end, mut out) = (idx + 1, Vec::new());
        while let Some(i) = at {
            let s = batch.segments[i];
            out.splice(0..0, batch.tokens[s.start_idx as usize..end as usize].iter().copied());
            at = s.parent.map(|p| p as usize);
            end = at.map_or(0, |p| batch.segments[p].start_idx + batch.segments[p].n_tokens);
        }
        out
    }
}
