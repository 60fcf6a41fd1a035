//! What does each new token read of its own path? Attention over the cached keys and values.

use std::ops::Range;

use rayon::prelude::*;

use crate::cache::{BLOCK, BlockPool, BlockRef, PathCache};
use crate::decode::Row;
use crate::model::Model;
use crate::real::{Real, max, sum, vectorize};

impl Model<f32> {
    /// Attention of each row over its own path, `out`: `[n, q_dim]`.
    pub(crate) fn attend_rows(
        &self,
        rows: &[Row],
        caches: &[&mut PathCache],
        pool: &BlockPool,
        layer: usize,
        qkv: &[f32],
        out: &mut [f32],
    ) {
        let c = &self.config;
        let window = c.window(layer).unwrap_or(usize::MAX);
        let refs: Vec<&[BlockRef]> = caches.iter().map(|cache| &cache.refs[..]).collect();
        let out = &mut out[..rows.len() * c.q_dim()];
        out.par_chunks_exact_mut(c.q_dim())
            .zip(qkv.par_chunks_exact(c.qkv_dim()))
            .zip(rows)
            .with_min_len(4)
            .for_each_init(Vec::new, |scores: &mut Vec<f32>, ((out, q), row)| {
                vectorize(
                    #[inline(always)]
                    || {
                        let first = (row.position + 1).saturating_sub(window);
                        for (head, (out, q)) in
                            out.chunks_exact_mut(c.head_dim).zip(q.chunks_exact(c.head_dim)).enumerate()
                        {
                            let blocks =
                                refs[row.path].iter().map(|r| (r, pool.read(r.block, layer, head / c.group_size())));
                            attend(q, first..row.position + 1, blocks, scores, out);
                        }
                    },
                );
            });
    }
}

/// `out = softmax(q·keysᵀ/√hd)·values` over the tokens of the blocks that stand at the positions `read`.
#[inline(always)]
fn attend<'a>(
    q: &[f32],
    read: Range<usize>,
    blocks: impl Iterator<Item = (&'a BlockRef, (&'a [f32], &'a [f32]))> + Clone,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    scores.clear();
    // Position of a block's first token.
    let mut start = 0;
    for (r, (keys, _)) in blocks.clone() {
        if start >= read.end {
            break;
        }
        let slots = slots(r, start, &read);
        start += r.n_tokens as usize;
        if slots.is_empty() {
            continue;
        }
        let (mut even, mut odd) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        let (key_rows, _) = keys.as_chunks::<BLOCK>();
        for (k, q) in key_rows.chunks_exact(2).zip(q.chunks_exact(2)) {
            for i in 0..BLOCK {
                even[i] = k[0][i].mul_add(q[0], even[i]);
                odd[i] = k[1][i].mul_add(q[1], odd[i]);
            }
        }
        for i in 0..BLOCK {
            even[i] += odd[i];
        }
        scores.extend_from_slice(&even[slots]);
    }
    let scale = 1.0 / (q.len() as f32).sqrt();
    let top = max(scores);
    for s in scores.iter_mut() {
        *s = Real::exp((*s - top) * scale);
    }
    let sum = sum(scores);
    out.fill(0.0);
    let mut weights = scores.iter();
    let mut start = 0;
    for (r, (_, values)) in blocks {
        let slots = slots(r, start, &read);
        start += r.n_tokens as usize;
        let values = values.chunks_exact(q.len()).take(slots.end).skip(slots.start);
        for (value, &w) in values.zip(weights.by_ref()) {
            for (o, &v) in out.iter_mut().zip(value) {
                *o = v.mul_add(w, *o);
            }
        }
        if weights.len() == 0 {
            break;
        }
    }
    let inverse = 1.0 / sum;
    for o in out {
        *o *= inverse;
    }
}

/// Which of a block's tokens, the first of which stands at position `start`, are read.
#[inline(always)]
fn slots(r: &BlockRef, start: usize, read: &Range<usize>) -> Range<usize> {
    let end = (r.n_tokens as usize).min(read.end.saturating_sub(start));
    read.start.saturating_sub(start).min(end)..end
}
