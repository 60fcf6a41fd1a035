//! How does one row meet a chunk with AVX-512? A vector of keys, or of values, is read once for all queries of the row.
//! While they meet the keys, the values behind them and the keys of the next row are on their way.

use std::arch::x86_64::*;

use super::{Block, CHUNK, Chunk, GROUP, Scores};
use crate::attend::CHUNK_BLOCKS;
use crate::cache::BLOCK;
use crate::kernels::lanes::LANES;

/// Each block of a chunk as pointers to its keys and values; the last one stands for those that are not there.
type Pointers = [(*const f32, *const f32); CHUNK_BLOCKS];

fn applies() -> bool {
    is_x86_feature_detected!("avx512f")
}

fn pointers(blocks: &[Block<'_>], hd: usize) -> Pointers {
    let last = blocks.len() - 1;
    std::array::from_fn(|b| {
        let (keys, values) = blocks[b.min(last)];
        assert!(keys.len() >= hd * BLOCK && values.len() >= hd * BLOCK);
        (keys.as_ptr(), values.as_ptr())
    })
}

/// [`super::scores`], or `false` where this is not the machine for it.
pub(super) fn scores(queries: &[f32], chunk: &Chunk<'_, '_>, p: &mut Scores) -> bool {
    if !applies() {
        return false;
    }
    let (hd, own) = (chunk.hd, pointers(chunk.blocks, chunk.hd));
    let next = if chunk.behind.is_empty() { own } else { pointers(chunk.behind, hd) };
    assert!(queries.len().is_multiple_of(hd) && queries.len() <= GROUP * hd);
    let (q, p) = (queries.as_ptr(), p.as_flattened_mut().as_mut_ptr());
    // SAFETY: the processor has AVX-512. `pointers` has checked that a block holds `hd` vectors of keys; there are as
    // many rows of `hd` numbers behind `q` as the arm says, and `p` has a chunk for each.
    unsafe {
        match queries.len() / hd {
            0 => {}
            1 => scores_of::<1>(q, hd, own, next, p),
            2 => scores_of::<2>(q, hd, own, next, p),
            3 => scores_of::<3>(q, hd, own, next, p),
            _ => scores_of::<4>(q, hd, own, next, p),
        }
    }
    true
}

/// # Safety
/// AVX-512; `G` rows of `hd` numbers behind `q`, `hd` vectors behind each block's keys, `G` chunks behind `p`.
#[target_feature(enable = "avx512f")]
unsafe fn scores_of<const G: usize>(q: *const f32, hd: usize, own: Pointers, next: Pointers, p: *mut f32) {
    let mut sums = [[_mm512_setzero_ps(); CHUNK_BLOCKS]; G];
    for i in 0..hd {
        // SAFETY: `i < hd`, and the caller's promise. What is asked for ahead may lie anywhere: nothing is read.
        unsafe {
            let at = i * BLOCK;
            let keys: [__m512; CHUNK_BLOCKS] = [
                _mm512_loadu_ps(own[0].0.add(at)),
                _mm512_loadu_ps(own[1].0.add(at)),
                _mm512_loadu_ps(own[2].0.add(at)),
                _mm512_loadu_ps(own[3].0.add(at)),
            ];
            for block in 0..CHUNK_BLOCKS {
                _mm_prefetch::<_MM_HINT_T0>(own[block].1.wrapping_add(at).cast());
                _mm_prefetch::<_MM_HINT_T0>(next[block].0.wrapping_add(at).cast());
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let q = _mm512_set1_ps(*q.add(row * hd + i));
                for (sum, keys) in sums.iter_mut().zip(keys) {
                    *sum = _mm512_fmadd_ps(q, keys, *sum);
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (block, &sum) in sums.iter().enumerate() {
            // SAFETY: `p` has `CHUNK` numbers for each row.
            unsafe { _mm512_storeu_ps(p.add(row * CHUNK + block * BLOCK), sum) };
        }
    }
}

/// [`super::values`], or `false` where this is not the machine for it.
pub(super) fn values(p: &Scores, chunk: &Chunk<'_, '_>, outputs: &mut [f32]) -> bool {
    if !applies() {
        return false;
    }
    let (hd, n_keys) = (chunk.hd, chunk.seen.end);
    let blocks = pointers(chunk.blocks, hd);
    assert!(outputs.len().is_multiple_of(hd) && outputs.len() <= GROUP * hd);
    assert!(n_keys <= chunk.blocks.len() * BLOCK && n_keys <= CHUNK);
    let (p, n) = (p.as_flattened().as_ptr(), outputs.len() / hd);
    let mut column = 0;
    while column < hd {
        let columns = Columns { first: column, hd, n: (hd - column).min(4 * LANES) };
        let out = outputs.as_mut_ptr();
        // SAFETY: the processor has AVX-512; these are columns of `hd`, so all that is read lies in the blocks that
        // `pointers` has checked, and all that is written in the `n` rows of the outputs; `p` has a chunk for each.
        unsafe {
            match n {
                0 => {}
                1 => values_of::<1>(p, blocks, n_keys, columns, out),
                2 => values_of::<2>(p, blocks, n_keys, columns, out),
                3 => values_of::<3>(p, blocks, n_keys, columns, out),
                _ => values_of::<4>(p, blocks, n_keys, columns, out),
            }
        }
        column += columns.n;
    }
    true
}

/// Up to four vectors of columns.
#[derive(Clone, Copy)]
struct Columns {
    first: usize,
    hd: usize,
    n: usize,
}

/// # Safety
/// AVX-512; `G` chunks behind `p`, `G` rows of `hd` numbers behind `out`, blocks that hold `n_keys` rows of values.
#[target_feature(enable = "avx512f")]
unsafe fn values_of<const G: usize>(p: *const f32, blocks: Pointers, n_keys: usize, columns: Columns, out: *mut f32) {
    let Columns { first, hd, n } = columns;
    let masks: [__mmask16; 4] =
        std::array::from_fn(|j| ((1u32 << n.saturating_sub(j * LANES).min(LANES)) - 1) as __mmask16);
    let mut sums = [[_mm512_setzero_ps(); 4]; G];
    for (row, sums) in sums.iter_mut().enumerate() {
        for (j, sum) in sums.iter_mut().enumerate() {
            // SAFETY: masked lanes are not read; the others are columns of this row.
            *sum = unsafe { _mm512_maskz_loadu_ps(masks[j], out.wrapping_add(row * hd + first + j * LANES)) };
        }
    }
    for (block, (_, values)) in blocks.iter().enumerate() {
        for k in 0..n_keys.saturating_sub(block * BLOCK).min(BLOCK) {
            // SAFETY: `k` is a row of this block, and masked lanes are not read; `block·BLOCK + k < CHUNK`.
            unsafe {
                let at = values.wrapping_add(k * hd + first);
                let values: [__m512; 4] = [
                    _mm512_maskz_loadu_ps(masks[0], at),
                    _mm512_maskz_loadu_ps(masks[1], at.wrapping_add(LANES)),
                    _mm512_maskz_loadu_ps(masks[2], at.wrapping_add(2 * LANES)),
                    _mm512_maskz_loadu_ps(masks[3], at.wrapping_add(3 * LANES)),
                ];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let p = _mm512_set1_ps(*p.add(row * CHUNK + block * BLOCK + k));
                    for (sum, values) in sums.iter_mut().zip(values) {
                        *sum = _mm512_fmadd_ps(p, values, *sum);
                    }
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (j, &sum) in sums.iter().enumerate() {
            // SAFETY: masked lanes are not written; the others are columns of this row.
            unsafe { _mm512_mask_storeu_ps(out.wrapping_add(row * hd + first + j * LANES), masks[j], sum) };
        }
    }
}
