//! Attention over token trees: each token reads itself, the earlier tokens of its segment and its ancestor segments.
//!
//! `S = q·kᵀ/√hd`, `P = softmax(S)` over the ancestors, `o = P·v`. The backward pass recomputes `P` from the saved
//! log-sum-exp, as FlashAttention does (arXiv 2205.14135): `dv = Pᵀ·do`, `dP = do·vᵀ`,
//! `dS = P∘(dP − rowsum(do∘o))/√hd`, `dq = dS·k`, `dk = dSᵀ·q`. A sibling's keys are never touched: the keys of a
//! segment are the ranges of its ancestors, gathered once per segment and head. Gathered keys stand in order of depth,
//! so a sliding window, in which a token reads itself and the `W − 1` tokens before it on its path, is a range of them.

use std::ops::Range;

use aepo::train::batch::{Segment, TreeBatch};
use rayon::prelude::*;

use crate::matmul::{Mat, MatMut, Store, matmul};
use crate::real::{Real, dot, max, sum_lanes, vectorize};

/// Query rows handled at once; bounds the score buffer and the work above the diagonal.
const ROW_BLOCK: usize = 64;

/// Which tokens and segments belong to one tree of a batch.
#[derive(Clone, Debug)]
pub struct TreeRange {
    /// Indices into [`TreeBatch::segments`].
    pub segments: Range<usize>,
    /// Indices into [`TreeBatch::tokens`].
    pub tokens: Range<usize>,
}

/// Cuts a batch into ranges that no segment reaches out of: its trees, or, where trees are interleaved, groups of them.
#[must_use]
pub fn trees(batch: &TreeBatch) -> Vec<TreeRange> {
    let mut trees: Vec<TreeRange> = Vec::new();
    for (i, s) in batch.segments.iter().enumerate() {
        let mut tree =
            TreeRange { segments: i..i + 1, tokens: s.start_idx as usize..(s.start_idx + s.n_tokens) as usize };
        while let Some(last) = trees
            .pop_if(|last| s.parent.is_some_and(|p| tree.segments.start > p as usize && last.segments.end > p as usize))
        {
            tree.segments.start = last.segments.start;
            tree.tokens.start = last.tokens.start;
        }
        trees.push(tree);
    }
    trees
}

/// Numbers of heads, their width, and how far a token looks back.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads.
    pub n_q: usize,
    /// Key/value heads.
    pub n_kv: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens that one reads at most, itself included; `None` is all of its path.
    pub window: Option<usize>,
}

/// Buffers of one (tree, head) task, reused over its segments.
struct Scratch<T> {
    keys: Vec<T>,
    values: Vec<T>,
    scores: Vec<T>,
}

/// `heads`: `[n_q + 2·n_kv][n][hd]` as [`super::qkv::split_heads`] leaves them; `o`: `[n_q][n][hd]`; `lse`: `[n_q][n]`.
pub fn tree_attention<T: Real>(
    batch: &TreeBatch,
    trees: &[TreeRange],
    shape: AttentionShape,
    heads: &[T],
    o: &mut [T],
    lse: &mut [T],
) {
    let (n, hd) = (batch.tokens.len(), shape.head_dim);
    let mut tasks = Vec::with_capacity(trees.len() * shape.n_q);
    for (head, (o, lse)) in o.chunks_exact_mut(n * hd).zip(lse.chunks_exact_mut(n)).enumerate() {
        for (tree, (o, lse)) in
            trees.iter().zip(split_by_tree(o, trees, hd).into_iter().zip(split_by_tree(lse, trees, 1)))
        {
            tasks.push((head, tree, o, lse));
        }
    }
    tasks.into_par_iter().for_each(|(head, tree, o, lse)| {
        let kv = shape.n_q + head / (shape.n_q / shape.n_kv);
        let (q, k, v) = (rows(heads, head, n, hd), rows(heads, kv, n, hd), rows(heads, kv + shape.n_kv, n, hd));
        let mut scratch = Scratch { keys: Vec::new(), values: Vec::new(), scores: Vec::new() };
        for index in tree.segments.clone() {
            let chain = chain(&batch.segments, index);
            gather(k, &chain, hd, &mut scratch.keys);
            gather(v, &chain, hd, &mut scratch.values);
            let segment = &batch.segments[index];
            for block in blocks(segment) {
                let local = block.start - tree.tokens.start;
                let n_rows = block.len();
                let read = KeyRange::new(segment, &block, shape.window);
                let n_keys = read.n_keys;
                let keys = &scratch.keys[read.first * hd..];
                scratch.scores.resize(n_rows * n_keys, T::ZERO);
                score(&q[block.start * hd..], keys, n_rows, n_keys, hd, &mut scratch.scores);
                let lse = &mut lse[local..local + n_rows];
                vectorize(
                    #[inline(always)]
                    || softmax(&mut scratch.scores, n_rows, &read, hd, lse),
                );
                matmul(
                    MatMut::new(&mut o[local * hd..], n_rows, hd),
                    Store::Replace,
                    Mat::new(&scratch.scores, n_rows, n_keys),
                    Mat::new(&scratch.values[read.first * hd..], n_keys, hd),
                    1,
                );
            }
        }
    });
}

/// Gradients with respect to `heads`, overwritten into `dheads`. `o`, `lse` as the forward pass left them; `d_o`:
/// `[n_q][n][hd]`.
#[allow(clippy::too_many_arguments)]
pub fn tree_attention_backward<T: Real>(
    batch: &TreeBatch,
    trees: &[TreeRange],
    shape: AttentionShape,
    heads: &[T],
    o: &[T],
    lse: &[T],
    d_o: &[T],
    dheads: &mut [T],
) {
    let (n, hd, group) = (batch.tokens.len(), shape.head_dim, shape.n_q / shape.n_kv);
    let (dq, dkv) = dheads.split_at_mut(shape.n_q * n * hd);
    let (dk, dv) = dkv.split_at_mut(shape.n_kv * n * hd);
    let mut tasks = Vec::with_capacity(trees.len() * shape.n_kv);
    for (kv, ((dq, dk), dv)) in dq
        .chunks_exact_mut(group * n * hd)
        .zip(dk.chunks_exact_mut(n * hd))
        .zip(dv.chunks_exact_mut(n * hd))
        .enumerate()
    {
        let mut dq_of_tree: Vec<Vec<&mut [T]>> = trees.iter().map(|_| Vec::with_capacity(group)).collect();
        for dq in dq.chunks_exact_mut(n * hd) {
            for (list, part) in dq_of_tree.iter_mut().zip(split_by_tree(dq, trees, hd)) {
                list.push(part);
            }
        }
        let dkv = split_by_tree(dk, trees, hd).into_iter().zip(split_by_tree(dv, trees, hd));
        for ((tree, dq), (dk, dv)) in trees.iter().zip(dq_of_tree).zip(dkv) {
            tasks.push((kv, tree, dq, dk, dv));
        }
    }
    tasks.into_par_iter().for_each(|(kv, tree, mut dq, dk, dv)| {
        dk.fill(T::ZERO);
        dv.fill(T::ZERO);
        let (k, v) = (rows(heads, shape.n_q + kv, n, hd), rows(heads, shape.n_q + shape.n_kv + kv, n, hd));
        let mut scratch = Scratch { keys: Vec::new(), values: Vec::new(), scores: Vec::new() };
        let (mut dkeys, mut dvalues, mut dscores) = (Vec::new(), Vec::new(), Vec::new());
        for index in tree.segments.clone() {
            let segment = &batch.segments[index];
            let chain = chain(&batch.segments, index);
            gather(k, &chain, hd, &mut scratch.keys);
            gather(v, &chain, hd, &mut scratch.values);
            dkeys.clear();
            dkeys.resize(scratch.keys.len(), T::ZERO);
            dvalues.clear();
            dvalues.resize(scratch.keys.len(), T::ZERO);
            for (g, dq) in dq.iter_mut().enumerate() {
                let head = kv * group + g;
                let (q, o, d_o) = (rows(heads, head, n, hd), rows(o, head, n, hd), rows(d_o, head, n, hd));
                for block in blocks(segment) {
                    let local = block.start - tree.tokens.start;
                    let n_rows = block.len();
                    let read = KeyRange::new(segment, &block, shape.window);
                    let (n_keys, at) = (read.n_keys, read.first * hd);
                    let (keys, values) = (&scratch.keys[at..], &scratch.values[at..]);
                    let (q, d_o) = (&q[block.start * hd..block.end * hd], &d_o[block.start * hd..block.end * hd]);
                    scratch.scores.resize(n_rows * n_keys, T::ZERO);
                    dscores.resize(n_rows * n_keys, T::ZERO);
                    score(q, keys, n_rows, n_keys, hd, &mut scratch.scores);
                    score(d_o, values, n_rows, n_keys, hd, &mut dscores);
                    let lse = &lse[head * n + block.start..head * n + block.end];
                    let o = &o[block.start * hd..block.end * hd];
                    vectorize(
                        #[inline(always)]
                        || {
                            softmax_backward(
                                &mut scratch.scores,
                                &mut dscores,
                                n_rows,
                                &read,
                                hd,
                                lse,
                                #[inline(always)]
                                |row| dot(&o[row * hd..][..hd], &d_o[row * hd..][..hd]),
                            );
                        },
                    );
                    let (p, ds) = (Mat::new(&scratch.scores, n_rows, n_keys), Mat::new(&dscores, n_rows, n_keys));
                    let keys = Mat::new(keys, n_keys, hd);
                    matmul(MatMut::new(&mut dq[local * hd..], n_rows, hd), Store::Replace, ds, keys, 1);
                    matmul(MatMut::new(&mut dkeys[at..], n_keys, hd), Store::Add, ds.t(), Mat::new(q, n_rows, hd), 1);
                    matmul(
                        MatMut::new(&mut dvalues[at..], n_keys, hd),
                        Store::Add,
                        p.t(),
                        Mat::new(d_o, n_rows, hd),
                        1,
                    );
                }
            }
            let mut at = 0;
            for range in chain {
                let local = (range.start - tree.tokens.start) * hd..(range.end - tree.tokens.start) * hd;
                let len = local.len();
                for (to, from) in [(&mut dk[local.clone()], &dkeys), (&mut dv[local], &dvalues)] {
                    for (a, &b) in to.iter_mut().zip(&from[at..at + len]) {
                        *a += b;
                    }
                }
                at += len;
            }
        }
    });
}

/// Token ranges of a segment's ancestors and of itself, root first.
fn chain(segments: &[Segment], index: usize) -> Vec<Range<usize>> {
    let mut chain = Vec::new();
    let mut next = Some(index);
    while let Some(i) = next {
        let s = &segments[i];
        chain.push(s.start_idx as usize..(s.start_idx + s.n_tokens) as usize);
        next = s.parent.map(|p| p as usize);
    }
    chain.reverse();
    chain
}

fn gather<T: Real>(from: &[T], chain: &[Range<usize>], hd: usize, to: &mut Vec<T>) {
    to.clear();
    for range in chain {
        to.extend_from_slice(&from[range.start * hd..range.end * hd]);
    }
}

fn rows<T>(heads: &[T], head: usize, n: usize, hd: usize) -> &[T] {
    &heads[head * n * hd..(head + 1) * n * hd]
}

fn split_by_tree<'a, T>(mut x: &'a mut [T], trees: &[TreeRange], width: usize) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(trees.len());
    for tree in trees {
        let (part, rest) = x.split_at_mut(tree.tokens.len() * width);
        parts.push(part);
        x = rest;
    }
    parts
}

/// Token ranges of a segment's query blocks.
fn blocks(segment: &Segment) -> impl Iterator<Item = Range<usize>> + use<> {
    let (start, end) = (segment.start_idx as usize, (segment.start_idx + segment.n_tokens) as usize);
    (start..end).step_by(ROW_BLOCK).map(move |s| s..(s + ROW_BLOCK).min(end))
}

fn score<T: Real>(a: &[T], b: &[T], n_rows: usize, n_keys: usize, hd: usize, out: &mut [T]) {
    let (a, b) = (Mat::new(a, n_rows, hd), Mat::new(b, n_keys, hd));
    matmul(MatMut::new(out, n_rows, n_keys), Store::Replace, a, b.t(), 1);
}

/// Which of the gathered keys a block of queries reads.
struct KeyRange {
    /// The first key that any of them reads.
    first: usize,
    /// Keys from there to the block's last token.
    n_keys: usize,
    /// The window's length; no less than all keys where there is none.
    window: usize,
}

impl KeyRange {
    /// Keys are numbered by depth, so the block's first query stands at key `depth` and its last one at the end.
    fn new(segment: &Segment, block: &Range<usize>, window: Option<usize>) -> KeyRange {
        let depth = segment.depth as usize + block.start - segment.start_idx as usize;
        let end = depth + block.len();
        let window = window.unwrap_or(end);
        let first = (depth + 1).saturating_sub(window);
        KeyRange { first, n_keys: end - first, window }
    }

    /// What row `i` of `n_rows` reads: all but the last `n_rows − 1 − i` keys, and of these the last of a window.
    #[inline(always)]
    fn visible(&self, i: usize, n_rows: usize) -> Range<usize> {
        let end = self.n_keys - (n_rows - 1 - i);
        end.saturating_sub(self.window)..end
    }
}

#[inline(always)]
fn softmax<T: Real>(scores: &mut [T], n_rows: usize, read: &KeyRange, hd: usize, lse: &mut [T]) {
    let scale = T::of(1.0 / (hd as f64).sqrt());
    for (i, (row, lse)) in scores.chunks_exact_mut(read.n_keys).zip(lse).enumerate() {
        let visible = read.visible(i, n_rows);
        let (seen, hidden) = row.split_at_mut(visible.end);
        let (outside, seen) = seen.split_at_mut(visible.start);
        let top = max(seen) * scale;
        let sum = exp_sum(seen, scale, top);
        let inverse = T::ONE / sum;
        seen.iter_mut().for_each(|p| *p = *p * inverse);
        outside.fill(T::ZERO);
        hidden.fill(T::ZERO);
        *lse = top + sum.ln();
    }
}

/// `x ← exp(x·scale − shift)`; returns the sum.
#[inline(always)]
fn exp_sum<T: Real>(x: &mut [T], scale: T, shift: T) -> T {
    let mut lanes = [T::ZERO; 16];
    let (chunks, rest) = x.as_chunks_mut::<16>();
    for chunk in chunks {
        for i in 0..16 {
            chunk[i] = (chunk[i] * scale - shift).exp();
            lanes[i] += chunk[i];
        }
    }
    for (i, x) in rest.iter_mut().enumerate() {
        *x = (*x * scale - shift).exp();
        lanes[i] += *x;
    }
    sum_lanes(lanes)
}

/// Turns scores into probabilities and `dP` into `dS`, row by row.
#[inline(always)]
fn softmax_backward<T: Real>(
    scores: &mut [T],
    dscores: &mut [T],
    n_rows: usize,
    read: &KeyRange,
    hd: usize,
    lse: &[T],
    delta: impl Fn(usize) -> T,
) {
    let scale = T::of(1.0 / (hd as f64).sqrt());
    for (i, (p, ds)) in scores.chunks_exact_mut(read.n_keys).zip(dscores.chunks_exact_mut(read.n_keys)).enumerate() {
        let (lse, delta, Range { start, end }) = (lse[i], delta(i), read.visible(i, n_rows));
        for (p, ds) in p[start..end].iter_mut().zip(&mut ds[start..end]) {
            *p = (*p * scale - lse).exp();
            *ds = *p * (*ds - delta) * scale;
        }
        for x in [p, ds] {
            x[..start].fill(T::ZERO);
            x[end..].fill(T::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_gradient, random, tree_batch};

    const SHAPE: AttentionShape = AttentionShape { n_q: 4, n_kv: 2, head_dim: 6, window: None };

    /// None, shorter than most segments, of one token, and longer than a block of queries.
    const WINDOWS: [Option<usize>; 4] = [None, Some(4), Some(1), Some(66)];

    fn forward(batch: &TreeBatch, window: Option<usize>, heads: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let n = batch.tokens.len();
        let (mut o, mut lse) = (vec![0.0; SHAPE.n_q * n * SHAPE.head_dim], vec![0.0; SHAPE.n_q * n]);
        let shape = AttentionShape { window, ..SHAPE };
        tree_attention(batch, &trees(batch), shape, heads, &mut o, &mut lse);
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
            tree_attention_backward(&batch, &trees(&batch), shape, &heads, &o, &lse, &c, &mut dheads);
            assert_gradient(&heads, &dheads, |heads| dot(&forward(&batch, window, heads).0, &c));
        }
    }
}
