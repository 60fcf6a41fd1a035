//! How fast is attention? Arithmetic per second, forward and backward, of sequences and of a tree, on 1 and 2 threads.
//!
//! `cargo run --release -p aepo-engine --example attention [longest]`, where `longest` is the length of the longest
//! sequence in tokens. Only what is needed is counted: `4·head_dim` operations a pair of tokens and query head forward,
//! `10·head_dim` backward, nothing for pairs that do not see each other.

use std::time::Instant;

use aepo::train::batch::TreeBatch;
use aepo_engine::kernels::attention::{AttentionShape, Visibility, tree_attention, tree_attention_backward};
use aepo_engine::team::Team;

fn main() {
    let longest = std::env::args().nth(1).and_then(|x| x.parse().ok()).unwrap_or(8192);
    let shapes = [
        ("15M", AttentionShape { n_q: 6, n_kv: 6, head_dim: 48, window: None }),
        ("135M", AttentionShape { n_q: 9, n_kv: 3, head_dim: 64, window: None }),
    ];
    println!("{:>6} {:>16} {:>8} {:>18} {:>18}", "model", "tokens", "threads", "forward GFLOP/s", "backward GFLOP/s");
    for (name, shape) in shapes {
        let mut batches = vec![("8 x 256".to_owned(), sequences(8, 256)), ("tree of 4000".to_owned(), tree())];
        let lengths = [256, 1024, 4096, 8192, 16_384, 32_768, 65_536];
        batches.extend(lengths.iter().filter(|&&n| n <= longest).map(|&n| (n.to_string(), sequences(1, n))));
        for (label, batch) in batches {
            for n_threads in [1, 2] {
                let Ok(team) = Team::new(n_threads) else { continue };
                let (forward, backward) = measure(&team, &batch, shape);
                println!("{name:>6} {label:>16} {n_threads:>8} {forward:>18.0} {backward:>18.0}");
            }
        }
    }
}

fn sequences(n: usize, len: usize) -> TreeBatch {
    let mut batch = TreeBatch::default();
    for _ in 0..n {
        batch.push_segment(None, &vec![0; len]);
    }
    batch
}

/// A prompt, and two rounds of forks of uneven length.
fn tree() -> TreeBatch {
    let mut batch = TreeBatch::default();
    let root = batch.push_segment(None, &[0; 400]);
    for i in 0..8 {
        let first = batch.push_segment(Some(root), &vec![0; 90 + 13 * i]);
        for j in 0..3 {
            let result = batch.push_segment(Some(first), &vec![0; 20 + 7 * j]);
            batch.push_segment(Some(result), &vec![0; 75 + 9 * i + 5 * j]);
        }
    }
    batch
}

/// Pairs of a token and one that it sees.
fn n_pairs(batch: &TreeBatch) -> f64 {
    batch.segments.iter().map(|s| f64::from(s.n_tokens) * (f64::from(s.depth) + f64::from(s.n_tokens + 1) / 2.0)).sum()
}

/// GFLOP/s forward and backward, the median of some passes.
fn measure(team: &Team, batch: &TreeBatch, shape: AttentionShape) -> (f64, f64) {
    let (n, hd) = (batch.tokens.len(), shape.head_dim);
    let numbers = |n: usize| -> Vec<f32> { (0..n).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect() };
    let heads = numbers((shape.n_q + 2 * shape.n_kv) * n * hd);
    let (mut o, mut lse) = (vec![0.0f32; shape.n_q * n * hd], vec![0.0f32; shape.n_q * n]);
    let d_o = numbers(o.len());
    let mut dheads = vec![0.0f32; heads.len()];
    let visible = Visibility::new(batch);
    let flops = n_pairs(batch) * (shape.n_q * hd) as f64;
    let n_passes = ((4e9 / (14.0 * flops)) as usize).clamp(3, 30);
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for _ in 0..n_passes {
        let start = Instant::now();
        tree_attention(team, &visible, shape, &heads, &mut o, &mut lse);
        forward.push(4.0 * flops / start.elapsed().as_secs_f64() / 1e9);
        let start = Instant::now();
        tree_attention_backward(team, &visible, shape, &heads, &o, &lse, &d_o, &mut dheads);
        backward.push(10.0 * flops / start.elapsed().as_secs_f64() / 1e9);
    }
    (median(forward), median(backward))
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}
