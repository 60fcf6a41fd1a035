//! Which cases are there? One file each.

pub mod controller;
pub mod decode;
pub mod machine;
pub mod prefill;
pub mod scale;
pub mod simulate;
pub mod step;
pub mod train;
pub mod trees;
pub mod weights;

use std::time::Instant;

use aepo::policy::{Learner, StepParams};
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;

/// Numbers from 0 below `n` that look random and are the same everywhere: the peers' scripts make the same ones.
pub fn token(index: u64, n: usize) -> u32 {
    // The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    let mut x = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) % n as u64) as u32
}

/// Appends a segment of which every token that something precedes is a target.
pub fn push_path(batch: &mut TreeBatch, parent: Option<u32>, tokens: &[u32]) -> u32 {
    let before = parent.map(|p| batch.last_idx(p));
    let segment = batch.push_segment(parent, tokens);
    let start = batch.segments[segment as usize].start_idx;
    let sources = before.into_iter().chain(start..start + tokens.len() as u32 - 1);
    let targets = tokens.iter().skip(usize::from(before.is_none()));
    batch.targets.extend(sources.zip(targets).map(|(from_idx, &token)| Target { from_idx, token }));
    segment
}

/// Seconds of a forward and a backward pass over each batch, and of an AdamW step over all of them.
pub fn training_step(engine: &mut Engine, batches: &[TreeBatch]) -> anyhow::Result<f64> {
    let n_targets: usize = batches.iter().map(|batch| batch.targets.len()).sum();
    let coefficients = vec![-1.0 / n_targets.max(1) as f32; n_targets];
    let params =
        StepParams { learning_rate: 1e-4, weight_decay: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm: 1.0 };
    let start = Instant::now();
    for batch in batches {
        engine.forward(batch, 1.0, true)?;
        engine.backward(batch, &coefficients[..batch.targets.len()], &[])?;
    }
    let report = engine.step(&params)?;
    let secs = start.elapsed().as_secs_f64();
    anyhow::ensure!(report.applied, "the gradient of a measured step is not finite: the step is no measure");
    Ok(secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_tokens_are_those_of_the_peers() {
        // `common.token` of benches/peers gives these for 0, 1, 2 and 1000 below 32000.
        let tokens = [0, 1, 2, 1000].map(|i| token(i, 32000));
        assert_eq!(tokens, TOKENS);
    }

    const TOKENS: [u32; 4] = [15535, 19700, 25679, 481];

    #[test]
    fn every_token_with_something_before_it_is_a_target() {
        let mut batch = TreeBatch::default();
        let root = push_path(&mut batch, None, &[5, 6, 7]);
        push_path(&mut batch, Some(root), &[8, 9]);
        let targets: Vec<(u32, u32)> = batch.targets.iter().map(|t| (t.from_idx, t.token)).collect();
        assert_eq!(targets, [(0, 6), (1, 7), (2, 8), (3, 9)]);
    }
}
