//! Which operations make up a transformer? Each file holds one, forward and hand-derived backward, with its formula,
//! and a finite-difference test in `f64`.
//!
//! Conventions: matrices are row-major slices; a backward function *adds* to parameter gradients and, where its name
//! does not say otherwise, overwrites input gradients. Rows are worked on in parallel in fixed chunks and partial sums
//! are added in chunk order, so results do not depend on the number of threads.

pub mod attention;
pub mod head;
pub mod lanes;
pub mod norm;
pub mod product;
pub mod qkv;
pub mod swiglu;

use rayon::prelude::*;

use crate::real::{Real, vectorize};
use crate::weights::Matrix;

/// Rows one task works on at least.
pub(crate) const ROW_CHUNK: usize = 32;

/// Adds `bias` to each row of `x`.
pub fn add_bias<T: Real>(x: &mut [T], bias: &[T]) {
    x.par_chunks_mut(ROW_CHUNK * bias.len()).for_each(|rows| {
        vectorize(
            #[inline(always)]
            || {
                for row in rows.chunks_exact_mut(bias.len()) {
                    for (a, &b) in row.iter_mut().zip(bias) {
                        *a += b;
                    }
                }
            },
        );
    });
}

/// Adds the column sums of `dy` to `dbias`: the backward of [`add_bias`].
pub fn add_bias_backward<T: Real>(dy: &[T], dbias: &mut [T]) {
    let d = dbias.len();
    reduce_rows(
        dy.len() / d,
        dbias,
        #[inline(always)]
        |rows, sum| {
            for row in dy[rows.start * d..rows.end * d].chunks_exact(d) {
                for (s, &g) in sum.iter_mut().zip(row) {
                    *s += g;
                }
            }
        },
    );
}

/// Sums a per-row contribution into `total`: fixed chunks of rows in parallel, partial sums added in order.
pub(crate) fn reduce_rows<T: Real>(
    n_rows: usize,
    total: &mut [T],
    add: impl Fn(std::ops::Range<usize>, &mut [T]) + Sync,
) {
    const CHUNK: usize = 256;
    let partials: Vec<Vec<T>> = (0..n_rows.div_ceil(CHUNK))
        .into_par_iter()
        .map(|i| {
            let mut partial = vec![T::ZERO; total.len()];
            vectorize(
                #[inline(always)]
                || add(i * CHUNK..((i + 1) * CHUNK).min(n_rows), &mut partial),
            );
            partial
        })
        .collect();
    for partial in partials {
        for (t, p) in total.iter_mut().zip(partial) {
            *t += p;
        }
    }
}

/// Copies rows of width `d` of `from` into `to`, in the order of `indices`.
pub fn gather_rows<T: Real>(from: Matrix<'_, T>, d: usize, indices: &[u32], to: &mut [T]) {
    to.par_chunks_mut(ROW_CHUNK * d).zip(indices.par_chunks(ROW_CHUNK)).for_each(|(rows, indices)| {
        for (row, &i) in rows.chunks_exact_mut(d).zip(indices) {
            let start = i as usize * d;
            from.part(start..start + d).copy_to(row);
        }
    });
}

/// Adds row `i` of `from` to row `indices[i]` of `to`, in order: the backward of [`gather_rows`].
pub fn scatter_add_rows<T: Real>(from: &[T], d: usize, indices: &[u32], to: &mut [T]) {
    vectorize(
        #[inline(always)]
        || {
            for (row, &i) in from.chunks_exact(d).zip(indices) {
                for (a, &b) in to[i as usize * d..][..d].iter_mut().zip(row) {
                    *a += b;
                }
            }
        },
    );
}
