//! Does a step keep its speed, and its memory its slope, as a tree grows?

use aepo::train::batch::TreeBatch;

use crate::args::ScaleArgs;
use crate::cases::{push_path, token, training_step};
use crate::flops;
use crate::limits::Limits;
use crate::memory;
use crate::rounds::{Work, measure};
use crate::shapes::{For, engine};

/// Leaves of the tree.
const LEAVES: usize = 16;

/// `aepo-bench scale`
pub fn scale(args: &ScaleArgs) -> anyhow::Result<()> {
    let limits = Limits::measure(args.common.threads);
    memory::reset();
    let purpose = if args.recompute { For::Recomputing } else { For::Training };
    let mut engine = engine(args.model, purpose, &args.common)?;
    let vocab_size = engine.config().vocab_size;
    let batch = if args.linear { trajectory(args.tokens, vocab_size) } else { tree(args.tokens, vocab_size) };
    let attention = flops::step(engine.config(), &batch)
        - 3 * flops::forward(engine.config(), batch.tokens.len() as u64, 0, batch.targets.len() as u64);
    let work = Work {
        case: format!("scale {} {}", if args.linear { "trajectory" } else { "tree" }, args.tokens),
        model: args.model.name(),
        tokens: batch.tokens.len() as u64,
        flop: Some(flops::step(engine.config(), &batch)),
        weight_bytes: None,
        detail: [
            ("recompute".to_owned(), args.recompute.into()),
            ("flop_of_attention".to_owned(), attention.into()),
            ("deepest".to_owned(), batch.segments.iter().map(|s| s.depth + s.n_tokens).max().into()),
        ]
        .into_iter()
        .collect(),
    };
    measure(&args.common, limits, &work, || training_step(&mut engine, std::slice::from_ref(&batch)))
}

/// One sequence.
fn trajectory(n: usize, vocab_size: usize) -> TreeBatch {
    let tokens: Vec<u32> = (0..n.max(2) as u64).map(|i| token(i, vocab_size)).collect();
    let mut batch = TreeBatch::default();
    push_path(&mut batch, None, &tokens);
    batch
}

/// A quarter of the tokens is a trunk, a quarter four branches, and half sixteen leaves, as a tree of k = 16 that forked
/// twice has them.
fn tree(n: usize, vocab_size: usize) -> TreeBatch {
    let mut next = 0..;
    let mut tokens =
        |n: usize| -> Vec<u32> { next.by_ref().take(n.max(2)).map(|i: u64| token(i, vocab_size)).collect() };
    let mut batch = TreeBatch::default();
    let trunk = push_path(&mut batch, None, &tokens(n / 4));
    for _ in 0..4 {
        let branch = push_path(&mut batch, Some(trunk), &tokens(n / 16));
        for _ in 0..LEAVES / 4 {
            push_path(&mut batch, Some(branch), &tokens(n / 2 / LEAVES));
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_the_tokens_and_leaves_that_it_says() {
        let batch = tree(1024, 32000);
        assert_eq!((batch.tokens.len(), trajectory(1024, 32000).tokens.len()), (1024, 1024));
        let is_parent = |i: usize| batch.segments.iter().any(|s| s.parent == Some(i as u32));
        assert_eq!((0..batch.segments.len()).filter(|&i| !is_parent(i)).count(), LEAVES);
        assert_eq!(batch.targets.len(), 1023);
    }
}
