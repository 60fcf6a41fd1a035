//! What do the engine's tests share? Random numbers, small configurations and trees, and a gradient check.

use aepo::seed::Seed;
use aepo::train::batch::{Target, TreeBatch};

use crate::config::rope::RopeScaling;
use crate::config::{Family, ModelConfig, TokenIds};

/// Uniform in [−1, 1).
pub fn random(seed: u64, n: usize) -> Vec<f64> {
    (0..n).map(|i| Seed(seed).uniform(i as u64) * 2.0 - 1.0).collect()
}

/// A model small enough for finite differences.
pub fn config(family: Family, tied: bool) -> ModelConfig {
    ModelConfig {
        model_type: family,
        vocab_size: 40,
        hidden_size: 24,
        intermediate_size: 20,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: 256,
        tie_word_embeddings: tied,
        sliding_window: None,
        token_ids: TokenIds::default(),
    }
}

/// Two trees with segments of the given lengths, forked in a fixed pattern; every token but the roots' first is a
/// target, and each fork's parent token is a source more than once.
pub fn tree_batch(lengths: &[usize], vocab: usize) -> TreeBatch {
    let mut batch = TreeBatch::default();
    let mut next = 0u32;
    for (i, &len) in lengths.iter().enumerate() {
        let tokens: Vec<u32> = (0..len).map(|j| (next + j as u32 * 7 + 3 * i as u32) % vocab as u32).collect();
        next = next.wrapping_add(len as u32 * 11);
        // Segment 1 and 2 fork from 0, 3 from 1, and a second tree begins in the middle.
        let second_root = lengths.len() / 2 + 1;
        let parent = match i {
            0 => None,
            i if i == second_root => None,
            i if i > second_root => Some(second_root as u32),
            i => Some((i as u32 - 1) / 2),
        };
        let segment = batch.push_segment(parent, &tokens);
        let start = batch.segments[segment as usize].start_idx;
        if let Some(parent) = parent {
            batch.targets.push(Target { from_idx: batch.last_idx(parent), token: tokens[0] });
        }
        for (j, &token) in tokens.iter().enumerate().skip(1) {
            batch.targets.push(Target { from_idx: start + j as u32 - 1, token });
        }
    }
    batch
}

/// Compares `gradient` with central differences of `value` at `x`, element by element.
pub fn assert_gradient(x: &[f64], gradient: &[f64], value: impl Fn(&[f64]) -> f64) {
    let h = 1e-5;
    let mut point = x.to_vec();
    let scale = gradient.iter().map(|g| g.abs()).fold(1e-3, f64::max);
    for i in 0..x.len() {
        point[i] = x[i] + h;
        let above = value(&point);
        point[i] = x[i] - h;
        let below = value(&point);
        point[i] = x[i];
        let numeric = (above - below) / (2.0 * h);
        assert!(
            (numeric - gradient[i]).abs() <= 1e-6 * scale,
            "element {i}: finite difference {numeric}, gradient {}",
            gradient[i]
        );
    }
}

/// Threads for a test's model.
pub fn team(n_threads: usize) -> std::sync::Arc<crate::team::Team> {
    std::sync::Arc::new(crate::team::Team::new(n_threads).unwrap())
}
