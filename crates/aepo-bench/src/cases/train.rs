//! How fast is a training step over linear sequences?

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
    let batch = sequences(args.sequences, args.len, engine.config().vocab_size);
    let work = Work {
        case: format!("train {}x{}", args.sequences, args.len),
        model: args.model.name(),
        tokens: batch.tokens.len() as u64,
        flop: Some(flops::step(engine.config(), &batch)),
        weight_bytes: None,
        detail: serde_json::Map::new(),
    };
    measure(&args.common, limits, &work, || training_step(&mut engine, &batch))
}

/// Sequences of made-up tokens: token `j` of sequence `i` is number `i·len + j`.
pub fn sequences(n: usize, len: usize, vocab_size: usize) -> TreeBatch {
    let mut batch = TreeBatch::default();
    for i in 0..n {
        let tokens: Vec<u32> = (0..len).map(|j| token((i * len + j) as u64, vocab_size)).collect();
        push_path(&mut batch, None, &tokens);
    }
    batch
}
