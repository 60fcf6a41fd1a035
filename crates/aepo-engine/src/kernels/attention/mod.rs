//! Attention over token trees: each token reads itself, the earlier tokens of its segment and its ancestor segments.
//!
//! `S = q·kᵀ/√hd`, `P = softmax(S)` over the ancestors, `o = P·v`. Neither is ever whole: a block of queries meets one
//! block of keys after the other, in the memory of both, with a running maximum and sum, and the backward pass computes
//! `P` again from the saved log-sum-exp (FlashAttention, arXiv 2205.14135): `dv = Pᵀ·do`, `dP = do·vᵀ`,
//! `dS = P∘(dP − rowsum(do∘o))/√hd`, `dq = dS·k`, `dk = dSᵀ·q`. Keys are read where they lie: nothing of a path is
//! gathered, a block of keys that no query of a block sees is not touched, and memory does not grow with depth. All
//! query heads that share a key head meet its keys together.

mod backward;
mod tile;
mod visible;

use std::ops::Range;

pub use self::tile::{Keys, QueryTile};
pub use self::visible::{Strip, Visibility};

use self::backward::Saved;
use self::visible::Walk;
use crate::kernels::lanes::{LANES, Mask, Scalars};
use crate::real::Real;
use crate::team::Team;

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

impl AttentionShape {
    /// Tokens of a block of queries: few where many heads meet the keys together. At most 64, a bit for each.
    fn block_rows(&self) -> usize {
        match self.n_q / self.n_kv {
            0 | 1 => 64,
            2 => 48,
            3 | 4 => 32,
            _ => LANES,
        }
    }
}

/// Numbers that attention holds for each thread, however long paths are.
#[must_use]
pub fn n_numbers(shape: AttentionShape, learns: bool) -> usize {
    let lanes = shape.n_q / shape.n_kv * shape.block_rows();
    let backward = if learns { backward::n_numbers(lanes, shape.head_dim) } else { 0 };
    QueryTile::<f32>::n_numbers(lanes, shape.head_dim) + backward
}

/// Blocks of queries in a task.
const TASK_BLOCKS: usize = 2;

/// `heads`: `[n_q + 2·n_kv][n][hd]` as [`super::qkv::split_heads`] leaves them; `o`: `[n_q][n][hd]`; `lse`: `[n_q][n]`.
pub fn tree_attention<T: Real>(
    team: &Team,
    visible: &Visibility,
    shape: AttentionShape,
    heads: &[T],
    o: &mut [T],
    lse: &mut [T],
) {
    let (n, hd, group) = (visible.n_tokens(), shape.head_dim, shape.n_q / shape.n_kv);
    if n == 0 {
        return;
    }
    let blocks = visible.query_blocks(shape.block_rows());
    let mut tasks = Vec::new();
    for (kv, (o, lse)) in o.chunks_exact_mut(group * n * hd).zip(lse.chunks_exact_mut(group * n)).enumerate() {
        let mut o: Vec<&mut [T]> = o.chunks_exact_mut(n * hd).collect();
        let mut lse: Vec<&mut [T]> = lse.chunks_exact_mut(n).collect();
        for blocks in blocks.chunks(TASK_BLOCKS) {
            let n_tokens = blocks.iter().map(ExactSizeIterator::len).sum::<usize>();
            let o: Vec<&mut [T]> = o.iter_mut().filter_map(|o| o.split_off_mut(..n_tokens * hd)).collect();
            let lse: Vec<&mut [T]> = lse.iter_mut().filter_map(|lse| lse.split_off_mut(..n_tokens)).collect();
            tasks.push((kv, blocks, o, lse));
        }
    }
    // The last blocks of a tree see the most keys: they come first.
    tasks.reverse();
    let mut scratch: Vec<_> =
        (0..team.n_threads()).map(|_| (QueryTile::default(), Walk::default(), Vec::new())).collect();
    team.split_with(&mut scratch, (&mut tasks[..], 1), |(tile, walk, strips), _, task| {
        let (kv, blocks, ref mut o, ref mut lse) = task[0];
        let first = blocks[0].start;
        let (k, v) = (rows(heads, shape.n_q + kv, n, hd), rows(heads, shape.n_q + shape.n_kv + kv, n, hd));
        for block in blocks {
            let n_rows = block.len().next_multiple_of(LANES);
            tile.begin(group * n_rows, hd);
            for g in 0..group {
                let q = rows(heads, kv * group + g, n, hd);
                tile.set_queries(g * n_rows, &q[block.start * hd..block.end * hd]);
            }
            walk.begin(visible, block.clone(), shape.window, &(0..n));
            while let Some(keys) = walk.next(visible) {
                let mask = match keys.is_full {
                    true => Mask::Full,
                    false => Mask::Rows { bits: &keys.bits, n_rows },
                };
                keys.strips(group * n_rows, strips);
                let parts = |strip: &Strip| {
                    keys.parts(strip).map(move |(tokens, first)| {
                        let of = |x| rows_of(x, &tokens, hd);
                        (
                            Keys { keys: Scalars { data: of(k), row: hd, step: 1 }, values: of(v), n: tokens.len() },
                            first,
                        )
                    })
                };
                tile.read(0..group * n_rows, strips, parts, keys.bits.len(), mask);
            }
            let local = block.start - first..block.end - first;
            for (g, (o, lse)) in o.iter_mut().zip(lse.iter_mut()).enumerate() {
                tile.finish(g * n_rows, &mut o[local.start * hd..local.end * hd], &mut lse[local.clone()]);
            }
        }
    });
}

/// Gradients with respect to `heads`, overwritten into `dheads`. `o`, `lse` as the forward pass left them; `d_o`:
/// `[n_q][n][hd]`.
#[allow(clippy::too_many_arguments)]
pub fn tree_attention_backward<T: Real>(
    team: &Team,
    visible: &Visibility,
    shape: AttentionShape,
    heads: &[T],
    o: &[T],
    lse: &[T],
    d_o: &[T],
    dheads: &mut [T],
) {
    backward::backward(team, visible, shape, Saved { heads, o, lse, d_o }, dheads);
}

fn rows<T>(heads: &[T], head: usize, n: usize, hd: usize) -> &[T] {
    &heads[head * n * hd..(head + 1) * n * hd]
}

fn rows_of<'a, T>(x: &'a [T], tokens: &Range<usize>, hd: usize) -> &'a [T] {
    &x[tokens.start * hd..tokens.end * hd]
}

#[cfg(test)]
mod tests;
