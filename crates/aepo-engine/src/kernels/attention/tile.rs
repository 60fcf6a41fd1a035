//! How does a block of queries meet keys, forward? Block by block of keys with a running maximum and sum.
//!
//! Scores of one block of keys at a time: with a new maximum, what was summed before is made smaller by the same factor
//! (FlashAttention, arXiv 2205.14135, algorithm 1). Lanes are queries: see [`crate::kernels::lanes`].

use crate::kernels::lanes::{LANES, MAX_KEYS, Mask, Output, Scalars, Start, Vectors, product, softmax};
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
        // Less than every score and yet a number, so that lanes which see nothing of a block compute 0, not NaN.
        self.top.fill(T::of(-1e30));
    }

    /// Gives lanes from `lane` on the queries of successive rows.
    pub fn set_queries(&mut self, lane: usize, rows: &[T]) {
        let scale = T::of(1.0 / (self.head_dim as f64).sqrt());
        transpose(rows, self.head_dim, scale, &mut self.queries[lane..], self.lanes);
    }

    /// The lanes from `lane` on, `n` of them (both multiples of [`LANES`]), read keys that stand in ranges, at most
    /// [`MAX_KEYS`] together. A mask's lanes count from `lane`.
    pub fn read<'a>(
        &mut self,
        lane: usize,
        n: usize,
        ranges: impl Iterator<Item = Keys<'a, T>> + Clone,
        mask: Mask<'_>,
    ) {
        let (stride, hd) = (self.lanes, self.head_dim);
        let queries = Vectors { data: &self.queries[lane..], stride };
        let mut n_keys = 0;
        for range in ranges.clone() {
            let data = &mut self.scores[n_keys * stride + lane..];
            let out = Output { data, stride, n_rows: range.n, width: n };
            product(out, Start::Zero, range.keys, queries, hd);
            n_keys += range.n;
        }
        let lanes = lane..lane + n;
        let (top, sum, shrink) = (&mut self.top[lanes.clone()], &mut self.sum[lanes.clone()], &mut self.shrink[lanes]);
        softmax(&mut self.scores[lane..], stride, n_keys, mask, top, sum, shrink);
        let mut start = Start::Scaled(&*shrink);
        let mut first = 0;
        for range in ranges {
            let out = Output { data: &mut self.outputs[lane..], stride, n_rows: hd, width: n };
            let values = Scalars { data: range.values, row: 1, step: hd };
            product(out, start, values, Vectors { data: &self.scores[first * stride + lane..], stride }, range.n);
            start = Start::Add;
            first += range.n;
        }
    }

    /// What successive lanes have read, as rows, and the logarithms of their sums.
    pub fn finish(&mut self, lane: usize, rows: &mut [T], lse: &mut [T]) {
        let n = lse.len();
        for i in lane..lane + n {
            self.shrink[i] = T::ONE / self.sum[i];
            lse[i - lane] = self.top[i] + self.sum[i].ln();
        }
        for (i, row) in rows.chunks_exact_mut(self.head_dim).enumerate() {
            let column = self.outputs[lane + i..].iter().step_by(self.lanes);
            for (to, &x) in row.iter_mut().zip(column) {
                *to = x * self.shrink[lane + i];
            }
        }
    }
}

/// `to[d][i] = scale · rows[i][d]`.
pub fn transpose<T: Real>(rows: &[T], width: usize, scale: T, to: &mut [T], stride: usize) {
    let n = rows.len() / width;
    for (d, to) in to.chunks_mut(stride).take(width).enumerate() {
        for (to, &x) in to[..n].iter_mut().zip(rows[d..].iter().step_by(width)) {
            *to = x * scale;
        }
    }
}
