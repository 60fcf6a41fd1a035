//! How fast is a training step over linear sequences?

use std::ops::Range;

use aepo::train::batch::TreeBatch;

use crate::args::TrainArgs;
use crate::cases::{push_path, token, training_step};
use crate::flops;
use crate::limits::Limits;
use crate::memory;
use crate::rounds::{Work, measure};
use crate::shapes::{For, engine};

/// `aepo-bench train`
pub fn train(args: &TrainArgs) -> anyhow::Result<()> {
    let limits = Limits::measure(args.common.threads);
    memory::reset();
    let mut engine = engine(args.model, For::Training, &args.common)?;
    let vocab_size = engine.config().vocab_size;
    let of_pass = args.sequences.div_ceil(args.passes.max(1)).max(1);
    let batches: Vec<TreeBatch> = (0..args.sequences)
        .step_by(of_pass)
        .map(|first| sequences(first..args.sequences.min(first + of_pass), args.len, vocab_size))
        .collect();
    let work = Work {
        case: format!("train {}x{}", args.sequences, args.len),
        model: args.model.name(),
        tokens: batches.iter().map(|batch| batch.tokens.len() as u64).sum(),
        flop: Some(batches.iter().map(|batch| flops::step(engine.config(), batch)).sum()),
        weight_bytes: None,
        detail: [("passes".to_owned(), batches.len().into())].into_iter().collect(),
    };
    measure(&args.common, limits, &work, || training_step(&mut engine, &batches))
}

/// Sequences of made-up tokens: token `j` of sequence `i` is number `i·len + j`.
pub fn sequences(which: Range<usize>, len: usize, vocab_size: usize) -> TreeBatch {
    let mut batch = TreeBatch::default();
    for i in which {
        let tokens: Vec<u32> = (0..len).map(|j| token((i * len + j) as u64, vocab_size)).collect();
        push_path(&mut batch, None, &tokens);
    }
    batch
}
