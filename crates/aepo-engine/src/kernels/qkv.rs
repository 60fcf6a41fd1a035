//! From a row of projections to heads: optional per-head RMSNorm (QK-norm), RoPE by depth, head-major layout.
//!
//! RoPE (arXiv 2104.09864) in the half-split form of the Hugging Face weights: for `i < hd/2`,
//! `(a_i, a_{i+hd/2}) → (a_i·cos θ − a_{i+hd/2}·sin θ, a_{i+hd/2}·cos θ + a_i·sin θ)`, `θ = pos · f_i`, times an
//! amplitude; [`crate::config::rope`] has the frequencies.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::norm::{norm_row, norm_row_backward, norm_row_weight_gradient};
use super::{ROW_CHUNK, reduce_rows};
use crate::config::ModelConfig;
use crate::config::rope::{Frequencies, frequencies};
use crate::real::{Real, vectorize};

/// Positions whose angles are computed at once.
const CHUNK: usize = 256;

/// `[CHUNK, half]` pairs of cosine and sine.
type Chunk<T> = OnceLock<Box<[(T, T)]>>;

/// Cosines and sines of every position, computed when a position is first met: a context of a million tokens costs
/// nothing until it is used.
pub struct RopeTable<T> {
    half: usize,
    frequencies: Frequencies,
    /// In order of position.
    chunks: Vec<Chunk<T>>,
}

impl<T: Real> RopeTable<T> {
    /// Angles in `f64`, rounded once.
    #[must_use]
    pub fn new(config: &ModelConfig) -> Self {
        let frequencies = frequencies(&config.rope_scaling, config.rope_theta, config.head_dim);
        let n_chunks = config.max_position_embeddings.div_ceil(CHUNK);
        RopeTable { half: config.head_dim / 2, frequencies, chunks: (0..n_chunks).map(|_| OnceLock::new()).collect() }
    }

    /// `[half]` pairs of one position, the amplitude in them.
    #[inline(always)]
    fn row(&self, pos: usize) -> &[(T, T)] {
        let chunk = self.chunks[pos / CHUNK].get_or_init(|| self.chunk(pos / CHUNK));
        &chunk[pos % CHUNK * self.half..]
    }

    fn chunk(&self, index: usize) -> Box<[(T, T)]> {
        let Frequencies { inv_freq, amplitude } = &self.frequencies;
        let of = |pos: usize| {
            inv_freq.iter().map(move |f| {
                let angle = pos as f64 * f;
                (T::of(angle.cos() * amplitude), T::of(angle.sin() * amplitude))
            })
        };
        (index * CHUNK..(index + 1) * CHUNK).flat_map(of).collect()
    }

    /// Rotates one head's row to `pos`.
    #[inline(always)]
    pub fn rotate(&self, pos: usize, x: &mut [T]) {
        let (a, b) = x.split_at_mut(self.half);
        for ((a, b), &(cos, sin)) in a.iter_mut().zip(b).zip(self.row(pos)) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }

    /// The transposed map, which is the backward pass (and, without an amplitude, the inverse rotation).
    #[inline(always)]
    pub fn rotate_back(&self, pos: usize, x: &mut [T]) {
        let (a, b) = x.split_at_mut(self.half);
        for ((a, b), &(cos, sin)) in a.iter_mut().zip(b).zip(self.row(pos)) {
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

    fn norm_of(&self, head: usize) -> Option<&[T]> {
        let (q, k) = self.qk_norm?;
        Some(if head < self.n_q { q } else { k })
    }

    /// Normalises and rotates one query or key head.
    #[inline(always)]
    pub fn prepare(&self, head: usize, pos: usize, raw: &[T], out: &mut [T]) {
        match self.norm_of(head) {
            Some(w) => norm_row(raw, w, self.eps, out),
            None => out.copy_from_slice(raw),
        }
        self.rope.rotate(pos, out);
    }
}

/// `raw`: `[n, row_dim]`; `positions`: `[n]`; `heads`: `[n_q + 2·n_kv][n][head_dim]`, queries, keys, values.
pub fn split_heads<T: Real>(h: &Heads<'_, T>, raw: &[T], positions: &[u32], heads: &mut [T]) {
    let (hd, dim, n) = (h.head_dim, h.row_dim(), positions.len());
    heads.par_chunks_mut(n * hd).enumerate().for_each(|(head, out)| {
        vectorize(
            #[inline(always)]
            || {
                for (i, (out, &pos)) in out.chunks_exact_mut(hd).zip(positions).enumerate() {
                    let raw = &raw[i * dim + head * hd..][..hd];
                    match head < h.n_q + h.n_kv {
                        true => h.prepare(head, pos as usize, raw, out),
                        false => out.copy_from_slice(raw),
                    }
                }
            },
        );
    });
}

/// The backward of [`split_heads`]: `dheads` is overwritten on the way, `draw` is overwritten with the gradient, and
/// the norms' weight gradients are added.
pub fn split_heads_backward<T: Real>(
    h: &Heads<'_, T>,
    raw: &[T],
    positions: &[u32],
    dheads: &mut [T],
    draw: &mut [T],
    dnorm: Option<(&mut [T], &mut [T])>,
) {
    let (hd, dim, n) = (h.head_dim, h.row_dim(), positions.len());
    let n_rotated = h.n_q + h.n_kv;
    dheads[..n_rotated * n * hd].par_chunks_mut(n * hd).for_each(|rows| {
        vectorize(
            #[inline(always)]
            || {
                for (row, &pos) in rows.chunks_exact_mut(hd).zip(positions) {
                    h.rope.rotate_back(pos as usize, row);
                }
            },
        );
    });
    let dheads = &*dheads;
    if let Some((dq_norm, dk_norm)) = dnorm {
        for (heads, dw) in [(0..h.n_q, dq_norm), (h.n_q..n_rotated, dk_norm)] {
            reduce_rows(
                n,
                dw,
                #[inline(always)]
                |rows, dw| {
                    for i in rows {
                        for head in heads.clone() {
                            let raw = &raw[i * dim + head * hd..][..hd];
                            norm_row_weight_gradient(raw, h.eps, &dheads[(head * n + i) * hd..][..hd], dw);
                        }
                    }
                },
            );
        }
    }
    draw.par_chunks_mut(ROW_CHUNK * dim).enumerate().for_each(|(chunk, rows)| {
        vectorize(
            #[inline(always)]
            || {
                for (j, row) in rows.chunks_exact_mut(dim).enumerate() {
                    let i = chunk * ROW_CHUNK + j;
                    for (head, out) in row.chunks_exact_mut(hd).enumerate() {
                        let dy = &dheads[(head * n + i) * hd..][..hd];
                        match h.norm_of(head).filter(|_| head < n_rotated) {
                            Some(w) => {
                                norm_row_backward(
                                    &raw[i * dim + head * hd..][..hd],
                                    w,
                                    h.eps,
                                    dy,
                                    #[inline(always)]
                                    |i, g| out[i] = g,
                                );
                            }
                            None => out.copy_from_slice(dy),
                        }
                    }
                }
            },
        );
    });
}

/// `[n_heads][n][hd]` to `[n][n_heads·hd]`.
pub fn merge_heads<T: Real>(heads: &[T], n_heads: usize, hd: usize, rows: &mut [T]) {
    let n = rows.len() / (n_heads * hd);
    rows.par_chunks_mut(ROW_CHUNK * n_heads * hd).enumerate().for_each(|(chunk, rows)| {
        for (j, row) in rows.chunks_exact_mut(n_heads * hd).enumerate() {
            let i = chunk * ROW_CHUNK + j;
            for (head, out) in row.chunks_exact_mut(hd).enumerate() {
                out.copy_from_slice(&heads[(head * n + i) * hd..][..hd]);
            }
        }
    });
}

/// `[n][n_heads·hd]` to `[n_heads][n][hd]`.
pub fn unmerge_heads<T: Real>(rows: &[T], n_heads: usize, hd: usize, heads: &mut [T]) {
    let n = rows.len() / (n_heads * hd);
    heads.par_chunks_mut(n.max(1) * hd).enumerate().for_each(|(head, out)| {
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
        let config = config(Family::Qwen3, true);
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
                split_heads(&h, raw, &positions, out);
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
            split_heads_backward(&h, &raw, &positions, &mut dheads, &mut draw, dnorm);
            assert_gradient(&raw, &draw, |raw| value(&wq, &wk, raw));
            assert_gradient(&wq, &dwq, |wq| value(wq, &wk, &raw));
            assert_gradient(&wk, &dwk, |wk| value(&wq, wk, &raw));
        }
    }

    #[test]
    fn merging_undoes_unmerging() {
        let rows = random(1, 6 * 4 * 8);
        let (mut heads, mut back) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
        unmerge_heads(&rows, 4, 8, &mut heads);
        merge_heads(&heads, 4, 8, &mut back);
        assert_eq!(rows, back);
        assert_ne!(rows, heads);
    }
}
