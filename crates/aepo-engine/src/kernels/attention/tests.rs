//! Is attention over trees its definition, and its backward pass the derivative?

use aepo::train::batch::TreeBatch;

use super::*;
use crate::real::dot;
use crate::testing::{assert_gradient, forest, parents, random, tree_batch};

const SHAPE: AttentionShape = AttentionShape { n_q: 4, n_kv: 2, head_dim: 6, window: None };

/// None, shorter than most segments, of one token, and longer than a block of queries.
const WINDOWS: [Option<usize>; 4] = [None, Some(4), Some(1), Some(66)];

fn forward_on<T: Real>(team: &Team, batch: &TreeBatch, shape: AttentionShape, heads: &[T]) -> (Vec<T>, Vec<T>) {
    let n = batch.tokens.len();
    let (mut o, mut lse) = (vec![T::ZERO; shape.n_q * n * shape.head_dim], vec![T::ZERO; shape.n_q * n]);
    tree_attention(team, &Visibility::new(batch), shape, heads, &mut o, &mut lse);
    (o, lse)
}

fn both_on<T: Real>(
    team: &Team,
    batch: &TreeBatch,
    shape: AttentionShape,
    heads: &[T],
    d_o: &[T],
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let (o, lse) = forward_on(team, batch, shape, heads);
    let mut dheads = vec![T::of(7.0); heads.len()];
    tree_attention_backward(team, &Visibility::new(batch), shape, heads, &o, &lse, d_o, &mut dheads);
    (o, lse, dheads)
}

fn forward<T: Real>(batch: &TreeBatch, shape: AttentionShape, heads: &[T]) -> (Vec<T>, Vec<T>) {
    forward_on(&Team::new(2).unwrap(), batch, shape, heads)
}

fn both<T: Real>(batch: &TreeBatch, shape: AttentionShape, heads: &[T], d_o: &[T]) -> (Vec<T>, Vec<T>, Vec<T>) {
    both_on(&Team::new(2).unwrap(), batch, shape, heads, d_o)
}

/// The definition, token by token over parents: outputs, log-sum-exps and the gradient of `Σ o·d_o`.
fn defined(batch: &TreeBatch, shape: AttentionShape, heads: &[f64], d_o: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (n, hd) = (batch.tokens.len(), shape.head_dim);
    let parent = parents(batch);
    let scale = 1.0 / (hd as f64).sqrt();
    let at = |head: usize, i: usize| (head * n + i) * hd..(head * n + i + 1) * hd;
    let (mut o, mut lse) = (vec![0.0; shape.n_q * n * hd], vec![0.0; shape.n_q * n]);
    let mut dheads = vec![0.0; heads.len()];
    for head in 0..shape.n_q {
        let k = shape.n_q + head / (shape.n_q / shape.n_kv);
        let v = k + shape.n_kv;
        for i in 0..n {
            let seen: Vec<usize> =
                std::iter::successors(Some(i), |&t| parent[t]).take(shape.window.unwrap_or(n)).collect();
            let weights: Vec<f64> =
                seen.iter().map(|&j| (dot(&heads[at(head, i)], &heads[at(k, j)]) * scale).exp()).collect();
            let total: f64 = weights.iter().sum();
            lse[head * n + i] = total.ln();
            for (&j, w) in seen.iter().zip(&weights) {
                for (o, x) in o[at(head, i)].iter_mut().zip(&heads[at(v, j)]) {
                    *o += w / total * x;
                }
            }
            let d_o = &d_o[at(head, i)];
            let delta = dot(&o[at(head, i)], d_o);
            for (&j, w) in seen.iter().zip(&weights) {
                let p = w / total;
                let ds = p * (dot(d_o, &heads[at(v, j)]) - delta) * scale;
                for d in 0..hd {
                    dheads[at(v, j).start + d] += p * d_o[d];
                    dheads[at(k, j).start + d] += ds * heads[at(head, i).start + d];
                    dheads[at(head, i).start + d] += ds * heads[at(k, j).start + d];
                }
            }
        }
    }
    (o, lse, dheads)
}

/// Largest difference, against the largest of `b`.
fn error<T: Real>(a: &[T], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(1e-9, |m: f64, x| m.max(x.abs()));
    a.iter().zip(b).map(|(a, b)| (a.to_f64() - b).abs()).fold(0.0, f64::max) / scale
}

fn check(batch: &TreeBatch, shape: AttentionShape) {
    let n = batch.tokens.len() * shape.head_dim;
    let (heads, d_o) = (random(1, (shape.n_q + 2 * shape.n_kv) * n), random(2, shape.n_q * n));
    let (o, lse, dheads) = defined(batch, shape, &heads, &d_o);
    let found = both(batch, shape, &heads, &d_o);
    for (found, exact) in [(&found.0, &o), (&found.1, &lse), (&found.2, &dheads)] {
        assert!(error(found, exact) < 1e-12, "{shape:?}: {:e} in f64", error(found, exact));
    }
    let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let found = both(batch, shape, &narrow(&heads), &narrow(&d_o));
    for (found, exact) in [(&found.0, &o), (&found.1, &lse), (&found.2, &dheads)] {
        assert!(error(found, exact) < 3e-6, "{shape:?}: {:e} in f32", error(found, exact));
    }
}

#[test]
fn equals_the_definition() {
    let batch = tree_batch(&[5, 70, 3, 1, 130, 4, 2], 50);
    for window in WINDOWS {
        check(&batch, AttentionShape { window, ..SHAPE });
    }
    // Heads of whole vectors and of others, with groups of every size of block.
    for (n_q, n_kv, head_dim) in [(2, 2, 48), (3, 1, 64), (2, 1, 80), (5, 1, 16), (8, 2, 7)] {
        check(&batch, AttentionShape { n_q, n_kv, head_dim, window: None });
    }
}

#[test]
fn interleaved_trees_and_tiny_segments_equal_the_definition() {
    for (seed, longest) in [(1, 1), (2, 4), (3, 40)] {
        for window in [None, Some(9)] {
            check(&forest(seed, 90, longest), AttentionShape { window, ..SHAPE });
        }
    }
}

/// More than one span of keys, so that gradients come from several tasks.
#[test]
fn long_trees_equal_the_definition() {
    let shape = AttentionShape { n_q: 2, n_kv: 1, head_dim: 16, window: None };
    check(&tree_batch(&[700, 300, 40, 600, 30], 50), shape);
    check(&forest(4, 60, 60), AttentionShape { window: Some(600), ..shape });
}

#[test]
fn a_chain_of_tiny_segments_is_one_long_segment() {
    let shape = AttentionShape { n_q: 1, n_kv: 1, head_dim: 16, window: None };
    let (mut whole, mut chain) = (TreeBatch::default(), TreeBatch::default());
    whole.push_segment(None, &[0; 5000]);
    let mut last = None;
    for _ in 0..5000 {
        last = Some(chain.push_segment(last, &[0]));
    }
    let narrow = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
    let (heads, d_o) = (narrow(random(1, 3 * 5000 * 16)), narrow(random(2, 5000 * 16)));
    assert!(both(&whole, shape, &heads, &d_o) == both(&chain, shape, &heads, &d_o));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let shape = AttentionShape { n_q: 6, n_kv: 3, head_dim: 16, window: None };
    let batch = tree_batch(&[700, 300, 40, 900, 30], 50);
    let n = batch.tokens.len() * shape.head_dim;
    let narrow = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
    let (heads, d_o) = (narrow(random(1, 12 * n)), narrow(random(2, 6 * n)));
    let on = |n_threads: usize| both_on(&Team::new(n_threads).unwrap(), &batch, shape, &heads, &d_o);
    let one = on(1);
    assert!(one == on(2) && one == on(5));
}

#[test]
fn backward_is_the_derivative() {
    let batch = tree_batch(&[3, 2, 1, 66, 2], 50);
    let (n, hd) = (batch.tokens.len(), SHAPE.head_dim);
    let heads = random(1, (SHAPE.n_q + 2 * SHAPE.n_kv) * n * hd);
    let c = random(2, SHAPE.n_q * n * hd);
    for window in [None, Some(5)] {
        let shape = AttentionShape { window, ..SHAPE };
        let (_, _, dheads) = both(&batch, shape, &heads, &c);
        assert_gradient(&heads, &dheads, |heads| dot(&forward(&batch, shape, heads).0, &c));
    }
}

#[test]
fn buffers_hold_what_the_formula_says() {
    for (lanes, head_dim) in [(48, 64), (50, 7)] {
        let mut tile = QueryTile::<f32>::default();
        tile.begin(lanes, head_dim);
        assert_eq!(tile.n_held(), QueryTile::<f32>::n_numbers(lanes, head_dim));
    }
}
