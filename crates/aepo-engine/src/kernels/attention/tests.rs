//! Is attention over trees its definition, and its backward pass the derivative?

use aepo::train::batch::TreeBatch;

use super::*;
use crate::real::dot;
use crate::testing::{assert_gradient, random, tree_batch};

const SHAPE: AttentionShape = AttentionShape { n_q: 4, n_kv: 2, head_dim: 6, window: None };

/// None, shorter than most segments, of one token, and longer than a block of queries.
const WINDOWS: [Option<usize>; 4] = [None, Some(4), Some(1), Some(66)];

fn forward(batch: &TreeBatch, window: Option<usize>, heads: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = batch.tokens.len();
    let (mut o, mut lse) = (vec![0.0; SHAPE.n_q * n * SHAPE.head_dim], vec![0.0; SHAPE.n_q * n]);
    let shape = AttentionShape { window, ..SHAPE };
    tree_attention(&Visibility::new(batch), shape, heads, &mut o, &mut lse);
    (o, lse)
}

/// The definition, token by token, over parents.
#[test]
fn equals_the_definition() {
    let batch = tree_batch(&[5, 70, 3, 1, 130, 4, 2], 50);
    let (n, hd) = (batch.tokens.len(), SHAPE.head_dim);
    let heads = random(1, (SHAPE.n_q + 2 * SHAPE.n_kv) * n * hd);
    let mut parent = vec![None; n];
    for s in &batch.segments {
        let start = s.start_idx as usize;
        parent[start] = s.parent.map(|p| batch.last_idx(p) as usize);
        for (i, p) in parent.iter_mut().enumerate().skip(start + 1).take(s.n_tokens as usize - 1) {
            *p = Some(i - 1);
        }
    }
    for window in WINDOWS {
        let (o, _) = forward(&batch, window, &heads);
        for head in 0..SHAPE.n_q {
            let kv = SHAPE.n_q + head / 2;
            let row = |head: usize, i: usize| &heads[(head * n + i) * hd..][..hd];
            for i in 0..n {
                let mut ancestors = vec![i];
                while let Some(p) = parent[*ancestors.last().unwrap()] {
                    ancestors.push(p);
                }
                ancestors.truncate(window.unwrap_or(n));
                let weights: Vec<f64> =
                    ancestors.iter().map(|&j| (dot(row(head, i), row(kv, j)) / (hd as f64).sqrt()).exp()).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..hd {
                    let exact: f64 =
                        ancestors.iter().zip(&weights).map(|(&j, w)| w / total * row(kv + SHAPE.n_kv, j)[d]).sum();
                    assert!((o[(head * n + i) * hd + d] - exact).abs() < 1e-12, "window {window:?}");
                }
            }
        }
    }
}

#[test]
fn backward_is_the_derivative() {
    let batch = tree_batch(&[3, 2, 1, 66, 2], 50);
    let (n, hd) = (batch.tokens.len(), SHAPE.head_dim);
    let heads = random(1, (SHAPE.n_q + 2 * SHAPE.n_kv) * n * hd);
    let c = random(2, SHAPE.n_q * n * hd);
    for window in [None, Some(5)] {
        let (o, lse) = forward(&batch, window, &heads);
        let mut dheads = vec![7.0; heads.len()];
        let shape = AttentionShape { window, ..SHAPE };
        tree_attention_backward(&Visibility::new(&batch), shape, &heads, &o, &lse, &c, &mut dheads);
        assert_gradient(&heads, &dheads, |heads| dot(&forward(&batch, window, heads).0, &c));
    }
}
