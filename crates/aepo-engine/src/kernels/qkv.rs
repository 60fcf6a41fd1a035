//! From a row of projections to heads: optional per-head RMSNorm (QK-norm), RoPE by depth, head-major layout.
//!
//! RoPE (arXiv 2104.09864) in the half-split form of the Hugging Face weights: for `i < hd/2`,
//! `(a_i, a_{i+hd/2}) → (a_i·cos θ − a_{i+hd/2}·sin θ, a_{i+hd/2}·cos θ + a_i·sin θ)`, `θ = pos · f_i`, times an
//! amplitude; [`crate::config::rope`] has the frequencies.

use std::sync::OnceLock;

use super::norm::{NormRow, norm_row_in_place};
use super::{SUM_CHUNK, add_up, partial_sums, rows_of};
use crate::config::ModelConfig;
use crate::config::rope::{Frequencies, frequencies};
use crate::real::{Real, vectorize};
use crate::team::Team;

/// Positions whose angles are computed at once.
const CHUNK: usize = 256;

/// `[CHUNK][2][half]`: cosines and sines of each position.
type Chunk<T> = OnceLock<Box<[T]>>;

/// Cosines and sines of every position, computed when a position is first met: a context of a million tokens costs
/// nothing until it is used.
pub struct RopeTable<T> {
    half: usize,
    frequencies: Frequencies,
    /// In order of position.
    chunks: Vec<Chunk<T>>,
}

/// How far a position turns: cosines and sines, `[half]` each, the amplitude in them.
#[derive(Clone, Copy)]
pub struct Turn<'a, T> {
    cos: &'a [T],
    sin: &'a [T],
}

impl<T: Real> RopeTable<T> {
    /// Angles in `f64`, rounded once.
    #[must_use]
    pub fn new(config: &ModelConfig) -> Self {
        let frequencies = frequencies(&config.rope_scaling, config.rope_theta, config.head_dim);
        let n_chunks = config.max_position_embeddings.div_ceil(CHUNK);
        RopeTable { half: config.head_dim / 2, frequencies, chunks: (0..n_chunks).map(|_| OnceLock::new()).collect() }
    }

    /// How far a position turns.
    #[inline(always)]
    pub fn turn(&self, pos: usize) -> Turn<'_, T> {
        let chunk = self.chunks[pos / CHUNK].get_or_init(|| self.chunk(pos / CHUNK));
        let (cos, sin) = chunk[pos % CHUNK * 2 * self.half..][..2 * self.half].split_at(self.half);
        Turn { cos, sin }
    }

    #[cold]
    fn chunk(&self, index: usize) -> Box<[T]> {
        let Frequencies { inv_freq, amplitude } = &self.frequencies;
        let mut chunk = Vec::with_capacity(CHUNK * 2 * self.half);
        for pos in index * CHUNK..(index + 1) * CHUNK {
            let angle = |f: &f64| pos as f64 * f;
            chunk.extend(inv_freq.iter().map(|f| T::of(angle(f).cos() * amplitude)));
            chunk.extend(inv_freq.iter().map(|f| T::of(angle(f).sin() * amplitude)));
        }
        chunk.into_boxed_slice()
    }
}

impl<T: Real> Turn<'_, T> {
    /// Rotates one head's row.
    #[inline(always)]
    pub fn rotate(self, x: &mut [T]) {
        let (a, b) = x.split_at_mut(self.cos.len());
        for (((a, b), &cos), &sin) in a.iter_mut().zip(b).zip(self.cos).zip(self.sin) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }

    /// The transposed map, which is the backward pass (and, without an amplitude, the inverse rotation).
    #[inline(always)]
    pub fn rotate_back(self, x: &mut [T]) {
        let (a, b) = x.split_at_mut(self.cos.len());
        for (((a, b), &cos), &sin) in a.iter_mut().zip(b).zip(self.cos).zip(self.sin) {
            (*a, *b) = (*a * cos + *b * sin, *b * cos - *a * sin);
        }
    }
}

/// What the split needs to know of a block.
#[derive(Clone, Copy)]
pub struct Heads<'a, T> {
    /// Query heads.
    pub n_q: usize,
    /// Key/value heads.
    pub n_kv: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Weights of the query and key norms.
    pub qk_norm: Option<(&'a [T], &'a [T])>,
    /// RMSNorm's ε.
    pub eps: f64,
    /// Rotation angles.
    pub rope: &'a RopeTable<T>,
}

impl<T: Real> Heads<'_, T> {
    /// Width of a row of projections.
    #[must_use]
    pub fn row_dim(&self) -> usize {
        (self.n_q + 2 * self.n_kv) * self.head_dim
    }

    #[inline(always)]
    fn norm_of(&self, head: usize) -> Option<&[T]> {
        let (q, k) = self.qk_norm?;
        Some(if head < self.n_q { q } else { k })
    }

    /// Normalises and rotates one query or key head where it stands.
    #[inline(always)]
    fn prepare(&self, head: usize, turn: Turn<'_, T>, x: &mut [T]) {
        if let Some(w) = self.norm_of(head) {
            norm_row_in_place(x, w, self.eps);
        }
        turn.rotate(x);
    }

    /// Normalises and rotates the queries and keys of a row of projections where they stand.
    #[inline(always)]
    pub fn prepare_row(&self, pos: usize, row: &mut [T]) {
        let turn = self.rope.turn(pos);
        for (head, x) in row.chunks_exact_mut(self.head_dim).take(self.n_q + self.n_kv).enumerate() {
            self.prepare(head, turn, x);
        }
    }
}

/// `raw`: `[n, row_dim]`; `positions`: `[n]`; `heads`: `[n_q + 2·n_kv][n][head_dim]`, queries, keys, values.
pub fn split_heads<T: Real>(team: &Team, h: &Heads<'_, T>, raw: &[T], positions: &[u32], heads: &mut [T]) {
    let (hd, dim, n) = (h.head_dim, h.row_dim(), positions.len());
    team.split((heads, n * hd), |head, out| {
        vectorize(
            #[inline(always)]
            || {
                for ((out, raw), &pos) in out.chunks_exact_mut(hd).zip(raw.chunks_exact(dim)).zip(positions) {
                    out.copy_from_slice(&raw[head * hd..][..hd]);
                    if head < h.n_q + h.n_kv {
                        h.prepare(head, h.rope.turn(pos as usize), out);
                    }
                }
            },
        );
    });
}

/// The backward of [`split_heads`]: `draw` is overwritten with the gradient, the norms' weight gradients are added, and
/// `dheads` is spoiled. `partials` is a buffer.
#[allow(clippy::too_many_arguments)]
pub fn split_heads_backward<T: Real>(
    team: &Team,
    h: &Heads<'_, T>,
    raw: &[T],
    positions: &[u32],
    dheads: &mut [T],
    draw: &mut [T],
    dnorm: Option<(&mut [T], &mut [T])>,
    partials: &mut Vec<T>,
) {
    let (hd, dim, n) = (h.head_dim, h.row_dim(), positions.len());
    let n_rotated = h.n_q + h.n_kv;
    if h.qk_norm.is_some() {
        team.split((&mut dheads[..n_rotated * n * hd], n * hd), |_, rows| {
            vectorize(
                #[inline(always)]
                || {
                    for (row, &pos) in rows.chunks_exact_mut(hd).zip(positions) {
                        h.rope.turn(pos as usize).rotate_back(row);
                    }
                },
            );
        });
    }
    let dheads = &*dheads;
    if let (Some((dq_norm, dk_norm)), Some((wq, wk))) = (dnorm, h.qk_norm) {
        for (heads, w, dw) in [(0..h.n_q, wq, dq_norm), (h.n_q..n_rotated, wk, dk_norm)] {
            let partials = partial_sums(partials, n, hd);
            team.split((&mut *partials, hd), |i, dw| {
                vectorize(
                    #[inline(always)]
                    || {
                        for i in i * SUM_CHUNK..((i + 1) * SUM_CHUNK).min(n) {
                            for head in heads.clone() {
                                let raw = &raw[i * dim + head * hd..][..hd];
                                NormRow::new(raw, w, h.eps, &dheads[(head * n + i) * hd..][..hd]).add_dw(dw);
                            }
                        }
                    },
                );
            });
            add_up(partials, dw);
        }
    }
    let n_rows = rows_of(dim);
    team.split((draw, n_rows * dim), |task, rows| {
        vectorize(
            #[inline(always)]
            || {
                for (j, row) in rows.chunks_exact_mut(dim).enumerate() {
                    let i = task * n_rows + j;
                    let turn = h.rope.turn(positions[i] as usize);
                    for (head, out) in row.chunks_exact_mut(hd).enumerate() {
                        let dy = &dheads[(head * n + i) * hd..][..hd];
                        match h.norm_of(head).filter(|_| head < n_rotated) {
                            Some(w) => NormRow::new(&raw[i * dim + head * hd..][..hd], w, h.eps, dy).write_dx(out),
                            None => {
                                out.copy_from_slice(dy);
                                if head < n_rotated {
                                    turn.rotate_back(out);
                                }
                            }
                        }
                    }
                }
            },
        );
    });
}

/// `[n_heads][n][hd]` to `[n][n_heads·hd]`.
pub fn merge_heads<T: Real>(team: &Team, heads: &[T], n_heads: usize, hd: usize, rows: &mut [T]) {
    let (n, dim) = (rows.len() / (n_heads * hd), n_heads * hd);
    let n_rows = rows_of(dim);
    team.split((rows, n_rows * dim), |task, rows| {
        for (j, row) in rows.chunks_exact_mut(dim).enumerate() {
            let i = task * n_rows + j;
            for (head, out) in row.chunks_exact_mut(hd).enumerate() {
                out.copy_from_slice(&heads[(head * n + i) * hd..][..hd]);
            }
        }
    });
}

/// `[n][n_heads·hd]` to `[n_heads][n][hd]`.
pub fn unmerge_heads<T: Real>(team: &Team, rows: &[T], n_heads: usize, hd: usize, heads: &mut [T]) {
    let n = rows.len() / (n_heads * hd);
    team.split((heads, n.max(1) * hd), |head, out| {
        for (i, out) in out.chunks_exact_mut(hd).enumerate() {
            out.copy_from_slice(&rows[(i * n_heads + head) * hd..][..hd]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Family;
    use crate::real::dot;
    use crate::testing::{assert_gradient, config, random};

    #[test]
    fn backward_is_the_derivative_with_and_without_qk_norm() {
        let (config, team) = (config(Family::Qwen3, true), Team::new(2).unwrap());
        let rope = RopeTable::new(&config);
        let positions = [0u32, 1, 2, 1, 7];
        let n = positions.len();
        let (wq, wk) = (random(1, config.head_dim), random(2, config.head_dim));
        for with_norm in [false, true] {
            let heads_of = |wq: &[f64], wk: &[f64], raw: &[f64], out: &mut [f64]| {
                let h = Heads {
                    n_q: config.num_attention_heads,
                    n_kv: config.num_key_value_heads,
                    head_dim: config.head_dim,
                    qk_norm: with_norm.then_some((wq, wk)),
                    eps: 1e-6,
                    rope: &rope,
                };
                split_heads(&team, &h, raw, &positions, out);
            };
            let raw = random(3, n * config.qkv_dim());
            let c = random(4, raw.len());
            let value = |wq: &[f64], wk: &[f64], raw: &[f64]| {
                let mut out = vec![0.0; raw.len()];
                heads_of(wq, wk, raw, &mut out);
                dot(&out, &c)
            };
            let h = Heads {
                n_q: config.num_attention_heads,
                n_kv: config.num_key_value_heads,
                head_dim: config.head_dim,
                qk_norm: with_norm.then_some((&wq[..], &wk[..])),
                eps: 1e-6,
                rope: &rope,
            };
            let (mut dwq, mut dwk) = (vec![0.0; wq.len()], vec![0.0; wk.len()]);
            let (mut dheads, mut draw) = (c.clone(), vec![0.0; raw.len()]);
            let dnorm = with_norm.then_some((&mut dwq[..], &mut dwk[..]));
            split_heads_backward(&team, &h, &raw, &positions, &mut dheads, &mut draw, dnorm, &mut Vec::new());
            assert_gradient(&raw, &draw, |raw| value(&wq, &wk, raw));
            assert_gradient(&wq, &dwq, |wq| value(wq, &wk, &raw));
            assert_gradient(&wk, &dwk, |wk| value(&wq, wk, &raw));
        }
    }

    #[test]
    fn merging_undoes_unmerging() {
        let (rows, team) = (random(1, 6 * 4 * 8), Team::new(2).unwrap());
        let (mut heads, mut back) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
        unmerge_heads(&team, &rows, 4, 8, &mut heads);
        merge_heads(&team, &heads, 4, 8, &mut back);
        assert_eq!(rows, back);
        assert_ne!(rows, heads);
    }
}
