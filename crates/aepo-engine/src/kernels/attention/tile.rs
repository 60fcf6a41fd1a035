//! How does a block of queries meet keys, forward? Block by block of keys with a running maximum and sum.
//!
//! Scores of one block of keys at a time: with a new maximum, what was summed before is made smaller by the same factor
//! (FlashAttention, arXiv 2205.14135, algorithm 1). Lanes are queries: see [`crate::kernels::lanes`].

use std::ops::Range;

use super::visible::Strip;
use crate::kernels::lanes::{LANES, MAX_KEYS, Mask, Output, Scalars, Start, Vectors, product, softmax, transpose};
use crate::real::{Real, fit};

/// What a query has read so far stands in columns, a lane each.
#[derive(Debug, Default)]
pub struct QueryTile<T> {
    head_dim: usize,
    lanes: usize,
    /// `[head_dim][lanes]`, queries over `√head_dim`.
    queries: Vec<T>,
    /// `[MAX_KEYS][lanes]`
    scores: Vec<T>,
    /// `[head_dim][lanes]`, `Σ exp(s − top)·v`.
    outputs: Vec<T>,
    /// `[lanes]`, the largest score.
    top: Vec<T>,
    /// `[lanes]`, `Σ exp(s − top)`.
    sum: Vec<T>,
    /// `[lanes]`
    shrink: Vec<T>,
}

/// Successive keys and their values.
#[derive(Clone, Copy)]
pub struct Keys<'a, T> {
    /// Number `d` of key `k` is `a(k, d)`.
    pub keys: Scalars<'a, T>,
    /// `[n][head_dim]`
    pub values: &'a [T],
    /// How many.
    pub n: usize,
}

impl<T: Real> QueryTile<T> {
    /// The largest score of a lane that has read nothing. Less than every score and yet a number, so that lanes which see
    /// nothing of a block compute 0, not NaN.
    pub const LOWEST: f64 = -1e30;

    /// Numbers that a tile of so many lanes holds.
    #[must_use]
    pub fn n_numbers(lanes: usize, head_dim: usize) -> usize {
        lanes.next_multiple_of(LANES) * (2 * head_dim + MAX_KEYS + 3)
    }

    #[cfg(test)]
    pub(super) fn n_held(&self) -> usize {
        let buffers = [&self.queries, &self.scores, &self.outputs, &self.top, &self.sum, &self.shrink];
        buffers.map(Vec::capacity).iter().sum()
    }

    /// Begins with lanes that have read nothing, with queries of 0; as many as a multiple of [`LANES`] holds.
    pub fn begin(&mut self, lanes: usize, head_dim: usize) {
        self.lanes = lanes.next_multiple_of(LANES);
        self.head_dim = head_dim;
        for (buffer, n) in [
            (&mut self.queries, head_dim),
            (&mut self.outputs, head_dim),
            (&mut self.scores, MAX_KEYS),
            (&mut self.sum, 1),
            (&mut self.shrink, 1),
            (&mut self.top, 1),
        ] {
            fit(buffer, n * self.lanes);
        }
        self.queries.fill(T::ZERO);
        self.outputs.fill(T::ZERO);
        self.sum.fill(T::ZERO);
        self.top.fill(T::of(Self::LOWEST));
    }

    /// Gives lanes from `lane` on the queries of successive rows.
    pub fn set_queries(&mut self, lane: usize, rows: &[T]) {
        let scale = T::of(1.0 / (self.head_dim as f64).sqrt());
        let shape = (rows.len() / self.head_dim, self.head_dim);
        transpose(rows, self.head_dim, shape, scale, &mut self.queries[lane..], self.lanes);
    }

    /// Lanes (from one multiple of [`LANES`] to another) read keys: of each strip of them, what `parts` gives, keys with
    /// the number of the first one among the block's `n_keys`. A mask's lanes count from the first of `lanes`.
    pub fn read<'a, P: Iterator<Item = (Keys<'a, T>, usize)>>(
        &mut self,
        lanes: Range<usize>,
        strips: &[Strip],
        parts: impl Fn(&Strip) -> P,
        n_keys: usize,
        mask: Mask<'_>,
    ) {
        let (stride, hd) = (self.lanes, self.head_dim);
        for strip in strips {
            let queries = Vectors { data: &self.queries[strip.lane..], stride };
            for (range, first) in parts(strip) {
                let data = &mut self.scores[first * stride + strip.lane..];
                let out = Output { data, stride, n_rows: range.n, width: strip.n_lanes };
                product(out, Start::Zero, range.keys, queries, hd);
            }
        }
        let (top, sum, shrink) =
            (&mut self.top[lanes.clone()], &mut self.sum[lanes.clone()], &mut self.shrink[lanes.clone()]);
        softmax(&mut self.scores[lanes.start..], stride, n_keys, mask, top, sum, shrink);
        for strip in strips {
            let mut start = Start::Scaled(&self.shrink[strip.lane..]);
            for (range, first) in parts(strip) {
                let out = Output { data: &mut self.outputs[strip.lane..], stride, n_rows: hd, width: strip.n_lanes };
                let values = Scalars { data: range.values, row: 1, step: hd };
                let weights = Vectors { data: &self.scores[first * stride + strip.lane..], stride };
                product(out, start, values, weights, range.n);
                start = Start::Add;
            }
        }
    }

    /// What successive lanes have summed so far, as rows, with their largest scores and the sums of their weights.
    pub fn take(&self, lane: usize, rows: &mut [T], top: &mut [T], sum: &mut [T]) {
        top.copy_from_slice(&self.top[lane..lane + top.len()]);
        sum.copy_from_slice(&self.sum[lane..lane + sum.len()]);
        let shape = (self.head_dim, top.len());
        transpose(&self.outputs[lane..], self.lanes, shape, T::ONE, rows, self.head_dim);
    }

    /// What successive lanes have read, as rows, and the logarithms of their sums.
    pub fn finish(&self, lane: usize, rows: &mut [T], lse: &mut [T]) {
        let n = lse.len();
        transpose(&self.outputs[lane..], self.lanes, (self.head_dim, n), T::ONE, rows, self.head_dim);
        for (i, (row, lse)) in rows.chunks_exact_mut(self.head_dim).zip(lse).enumerate() {
            let sum = self.sum[lane + i];
            let inverse = T::ONE / sum;
            row.iter_mut().for_each(|x| *x = *x * inverse);
            *lse = self.top[lane + i] + sum.ln();
        }
    }
}
