//! Does a token read its own path and nothing else, the same bits in whatever order and company it is computed?

use super::*;
use crate::config::{Family, ModelConfig, SlidingWindow};
use crate::decode::DecodeBuffers;
use crate::layout::Layout;
use crate::model::{Keep, Workspace};
use crate::testing::{config, random, team};
use aepo::train::batch::{Target, TreeBatch};

/// With weights large enough for uneven attention, and a window in one of two blocks.
fn model(n_q: usize, n_kv: usize, head_dim: usize, window: Option<usize>) -> Model<f32> {
    let base = config(Family::Qwen2, true);
    let sliding_window = window.map(|n_tokens| SlidingWindow { n_tokens, layers: vec![false, true] });
    let (num_attention_heads, num_key_value_heads) = (n_q, n_kv);
    let config = ModelConfig { num_attention_heads, num_key_value_heads, head_dim, sliding_window, ..base };
    let n = Layout::new(&config).n_parameters();
    Model::new(config, random(4, n).into_iter().map(|x| x as f32 * 0.4).collect(), team(1))
}

fn tokens(n: usize, seed: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * i + 7 * seed + i) % 40) as u32).collect()
}

/// Logits behind each row's token.
fn decode(m: &Model<f32>, rows: &[Row], caches: &mut [&mut PathCache], pool: &mut BlockPool) -> Vec<Vec<f32>> {
    let wanted: Vec<usize> = (0..rows.len()).collect();
    let (mut buffers, mut logits) = (DecodeBuffers::default(), Vec::new());
    m.decode(rows, caches, pool, &wanted, &mut buffers, &mut logits, |_, logits, _| logits.to_vec());
    logits.into_iter().flatten().collect()
}

fn rows(path: usize, tokens: &[u32], from: usize, to: usize) -> Vec<Row> {
    (from..to).map(|position| Row { path, token: tokens[position], position }).collect()
}

/// Logits behind every token of one path, so many at a time.
fn alone(m: &Model<f32>, tokens: &[u32], at_once: usize) -> Vec<Vec<f32>> {
    let (mut pool, mut cache) = (BlockPool::new(&m.config), PathCache::default());
    let mut logits = Vec::new();
    for from in (0..tokens.len()).step_by(at_once) {
        let rows = rows(0, tokens, from, tokens.len().min(from + at_once));
        logits.extend(decode(m, &rows, &mut [&mut cache], &mut pool));
    }
    logits
}

const SHAPES: [(usize, usize, usize, Option<usize>); 5] =
    [(4, 2, 8, None), (4, 2, 8, Some(70)), (3, 1, 64, Some(5)), (2, 2, 48, None), (6, 1, 80, Some(64))];

#[test]
fn a_path_has_the_same_bits_token_by_token_and_at_once() {
    for (n_q, n_kv, head_dim, window) in SHAPES {
        let m = model(n_q, n_kv, head_dim, window);
        let tokens = tokens(150, 1);
        let one_by_one = alone(&m, &tokens, 1);
        for at_once in [2, 7, 40, 150] {
            assert!(alone(&m, &tokens, at_once) == one_by_one, "{n_q} heads of {head_dim}, {at_once} at once");
        }
    }
}

/// Forks at every kind of place, of which the prompt's blocks are read by many or by few, and a stranger among them.
#[test]
fn a_path_has_the_same_bits_alone_and_among_those_that_share_its_blocks() {
    for (n_q, n_kv, head_dim, window) in SHAPES {
        let mut m = model(n_q, n_kv, head_dim, window);
        let prompt = tokens(141, 2);
        let forks: Vec<Vec<u32>> = [140, 141, 128, 129, 64, 65, 130, 20, 141, 136, 1, 127]
            .iter()
            .enumerate()
            .map(|(i, &at)| [&prompt[..at], &tokens(30, 3 + i)[..]].concat())
            .collect();
        let stranger = tokens(90, 50);
        for threads in [1, 2] {
            m.team = team(threads);
            let mut pool = BlockPool::new(&m.config);
            let mut root = PathCache::default();
            decode(&m, &rows(0, &prompt, 0, 141), &mut [&mut root], &mut pool);
            let starts: Vec<usize> = forks.iter().map(|f| f.len() - 30).collect();
            let mut caches: Vec<PathCache> = starts.iter().map(|&at| pool.fork(&root, at)).collect();
            caches.push(PathCache::default());
            let mut found: Vec<Vec<Vec<f32>>> = vec![Vec::new(); forks.len() + 1];
            for step in 0..30 {
                let mut step_rows = Vec::new();
                for (i, fork) in forks.iter().enumerate() {
                    step_rows.extend(rows(i, fork, starts[i] + step, starts[i] + step + 1));
                }
                step_rows.extend(rows(forks.len(), &stranger, 3 * step, 3 * step + 3));
                let mut of_paths: Vec<&mut PathCache> = caches.iter_mut().collect();
                let logits = decode(&m, &step_rows, &mut of_paths, &mut pool);
                for (row, logits) in step_rows.iter().zip(logits) {
                    found[row.path].push(logits);
                }
            }
            for (i, fork) in forks.iter().enumerate() {
                assert!(found[i] == alone(&m, fork, 1)[starts[i]..], "fork {i}, {n_q} heads of {head_dim}");
            }
            assert!(found[forks.len()] == alone(&m, &stranger, 1), "{n_q} heads of {head_dim}");
        }
    }
}

/// The log-probabilities of the training pass, which is tested against the definition.
#[test]
fn decoding_reads_what_training_reads() {
    for (n_q, n_kv, head_dim, window) in SHAPES {
        let m = model(n_q, n_kv, head_dim, window);
        let tokens = tokens(150, 6);
        let mut batch = TreeBatch::default();
        batch.push_segment(None, &tokens);
        batch.targets = (1..150).map(|i| Target { from_idx: i - 1, token: tokens[i as usize] }).collect();
        let (expected, _) = m.forward(&batch, 1.0, Keep::Nothing, &mut Workspace::default());
        for (i, logits) in alone(&m, &tokens, 9).iter().take(149).enumerate() {
            let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let logprob = f64::from(logits[tokens[i + 1] as usize]) - sum.ln();
            assert!((logprob - f64::from(expected[i])).abs() < 2e-5, "{logprob} {}", expected[i]);
        }
    }
}
