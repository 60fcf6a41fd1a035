//! What does one row read by itself? Its queries, up to four at a time, over a chunk of keys.
//!
//! What stands here is the definition, and what processors without AVX-512 run; `avx512` does the same operations in the
//! same order for all queries at once.

use std::ops::Range;

use super::CHUNK;
use crate::cache::BLOCK;
use crate::kernels::lanes::LANES;
use crate::real::{Real, max, vectorize};

#[cfg(target_arch = "x86_64")]
mod avx512;

/// Queries that meet keys at once.
const GROUP: usize = 4;

/// Scores of queries over a chunk, or their weights.
pub(super) type Scores = [[f32; CHUNK]; GROUP];

/// A block's keys `[hd][BLOCK]` and values `[BLOCK][hd]`.
pub(super) type Block<'a> = (&'a [f32], &'a [f32]);

/// A chunk of keys and values, as one row sees it.
pub(super) struct Chunk<'a, 'b> {
    pub hd: usize,
    /// The row's, 1 to 4.
    pub blocks: &'b [Block<'a>],
    /// Those that the next row will read, or none.
    pub behind: &'b [Block<'a>],
    /// Of the chunk's keys.
    pub seen: Range<usize>,
}

/// What rows have read so far, a number or a row of numbers for each query.
pub(super) struct State<'b> {
    /// `[queries][hd]`: `Σ exp(s − top)·v`.
    pub outputs: &'b mut [f32],
    /// `[queries]`
    pub tops: &'b mut [f32],
    /// `[queries]`: `Σ exp(s − top)`.
    pub sums: &'b mut [f32],
}

/// The queries of one row, `[queries][hd]` over `√hd`, meet a chunk.
pub(super) fn meet(queries: &[f32], chunk: &Chunk<'_, '_>, state: State<'_>) {
    let hd = chunk.hd;
    let State { outputs, tops, sums } = state;
    let groups = queries.chunks(GROUP * hd).zip(outputs.chunks_mut(GROUP * hd));
    for ((queries, outputs), (tops, sums)) in groups.zip(tops.chunks_mut(GROUP).zip(sums.chunks_mut(GROUP))) {
        let mut p = [[0.0; CHUNK]; GROUP];
        scores(queries, chunk, &mut p);
        vectorize(
            #[inline(always)]
            || {
                for (i, (p, output)) in p.iter_mut().zip(outputs.chunks_exact_mut(hd)).enumerate() {
                    weigh(p, &chunk.seen, output, &mut tops[i], &mut sums[i]);
                }
            },
        );
        values(&p, chunk, outputs);
    }
}

/// Scores become weights, and what was read before shrinks where there is a new maximum.
#[inline(always)]
fn weigh(p: &mut [f32; CHUNK], seen: &Range<usize>, output: &mut [f32], top: &mut f32, sum: &mut f32) {
    p[..seen.start].fill(f32::NEG_INFINITY);
    p[seen.end..].fill(f32::NEG_INFINITY);
    let new = Real::max(*top, max(p));
    p.iter_mut().for_each(|p| *p = Real::exp(*p - new));
    let mut sums = [0.0f32; 4];
    for p in p.chunks_exact(4) {
        for i in 0..4 {
            sums[i] += p[i];
        }
    }
    let shrink = Real::exp(*top - new);
    *sum = sum.mul_add(shrink, (sums[0] + sums[1]) + (sums[2] + sums[3]));
    *top = new;
    output.iter_mut().for_each(|x| *x *= shrink);
}

/// `p = q·keys`. What stands in `p` behind the row's blocks means nothing.
fn scores(queries: &[f32], chunk: &Chunk<'_, '_>, p: &mut Scores) {
    #[cfg(target_arch = "x86_64")]
    if avx512::scores(queries, chunk, p) {
        return;
    }
    plain_scores(queries, chunk, p);
}

/// `outputs += p·values`, over the keys up to the last that is seen.
fn values(p: &Scores, chunk: &Chunk<'_, '_>, outputs: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if avx512::values(p, chunk, outputs) {
        return;
    }
    plain_values(p, chunk, outputs);
}

fn plain_scores(queries: &[f32], chunk: &Chunk<'_, '_>, p: &mut Scores) {
    vectorize(
        #[inline(always)]
        || {
            for (p, query) in p.iter_mut().zip(queries.chunks_exact(chunk.hd)) {
                for (p, (keys, _)) in p.as_chunks_mut::<BLOCK>().0.iter_mut().zip(chunk.blocks) {
                    let mut sums = [0.0; BLOCK];
                    for (&q, keys) in query.iter().zip(keys.chunks_exact(BLOCK)) {
                        for i in 0..BLOCK {
                            sums[i] = q.mul_add(keys[i], sums[i]);
                        }
                    }
                    *p = sums;
                }
            }
        },
    );
}

fn plain_values(p: &Scores, chunk: &Chunk<'_, '_>, outputs: &mut [f32]) {
    let hd = chunk.hd;
    vectorize(
        #[inline(always)]
        || {
            for (p, output) in p.iter().zip(outputs.chunks_exact_mut(hd)) {
                for (p, (_, values)) in p[..chunk.seen.end].chunks(BLOCK).zip(chunk.blocks) {
                    let mut column = 0;
                    while column + 4 * LANES <= hd {
                        columns::<4>(p, values, hd, column, output);
                        column += 4 * LANES;
                    }
                    while column + LANES <= hd {
                        columns::<1>(p, values, hd, column, output);
                        column += LANES;
                    }
                    for (p, values) in p.iter().zip(values.chunks_exact(hd)) {
                        for (to, &x) in output[column..].iter_mut().zip(&values[column..]) {
                            *to = p.mul_add(x, *to);
                        }
                    }
                }
            }
        },
    );
}

/// `N` vectors of a query's output from column `column` on: `output += Σ_k p[k]·values[k]`.
#[inline(always)]
fn columns<const N: usize>(p: &[f32], values: &[f32], hd: usize, column: usize, output: &mut [f32]) {
    let output = &mut output[column..column + N * LANES];
    let mut sums = [[0.0f32; LANES]; N];
    sums.as_flattened_mut().copy_from_slice(output);
    for (&p, values) in p.iter().zip(values.chunks_exact(hd)) {
        let values = &values[column..column + N * LANES];
        for j in 0..N {
            for i in 0..LANES {
                sums[j][i] = p.mul_add(values[j * LANES + i], sums[j][i]);
            }
        }
    }
    output.copy_from_slice(sums.as_flattened());
}

#[cfg(test)]
mod tests;
