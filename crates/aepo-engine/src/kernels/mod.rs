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
pub mod stats;
pub mod swiglu;

use std::ops::Range;

use crate::real::{Real, fit, vectorize};
use crate::team::Team;
use crate::weights::Matrix;

/// Numbers that one task works on at least where it does little with each: some microseconds of work.
const TASK: usize = 1 << 14;

/// Rows whose contributions are summed before they meet those of others.
pub(crate) const SUM_CHUNK: usize = 128;

/// Rows of width `d` that one task works on.
pub(crate) fn rows_of(d: usize) -> usize {
    (TASK / d.max(1)).max(1)
}

/// The rows `0..n`, `of` at a time.
pub(crate) fn row_parts(n: usize, of: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(of).map(move |start| start..n.min(start + of))
}

/// Adds `bias` to each row of `x`.
pub fn add_bias<T: Real>(team: &Team, x: &mut [T], bias: &[T]) {
    team.split((x, rows_of(bias.len()) * bias.len()), |_, rows| {
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

/// Adds the column sums of `dy` to `dbias`: the backward of [`add_bias`]. `partials` is a buffer.
pub fn add_bias_backward<T: Real>(team: &Team, dy: &[T], dbias: &mut [T], partials: &mut Vec<T>) {
    let d = dbias.len();
    let partials = partial_sums(partials, dy.len() / d, d);
    team.split((&mut *partials, d), |i, sum| {
        let rows = &dy[i * SUM_CHUNK * d..((i + 1) * SUM_CHUNK * d).min(dy.len())];
        vectorize(
            #[inline(always)]
            || {
                for row in rows.chunks_exact(d) {
                    for (s, &g) in sum.iter_mut().zip(row) {
                        *s += g;
                    }
                }
            },
        );
    });
    add_up(partials, dbias);
}

/// A row of zeros for each [`SUM_CHUNK`] of `n_rows`, to sum contributions in.
pub(crate) fn partial_sums<T: Real>(partials: &mut Vec<T>, n_rows: usize, width: usize) -> &mut [T] {
    fit(partials, n_rows.div_ceil(SUM_CHUNK) * width);
    partials.fill(T::ZERO);
    partials
}

/// Adds rows of partial sums to `total`, in order.
pub(crate) fn add_up<T: Real>(partials: &[T], total: &mut [T]) {
    for partial in partials.chunks_exact(total.len().max(1)) {
        for (t, &p) in total.iter_mut().zip(partial) {
            *t += p;
        }
    }
}

/// Copies rows of width `d` of `from` into `to`, in the order of `indices`.
pub fn gather_rows<T: Real>(team: &Team, from: Matrix<'_, T>, d: usize, indices: &[u32], to: &mut [T]) {
    let n_rows = rows_of(d);
    team.split((to, n_rows * d), |i, rows| {
        for (row, &index) in rows.chunks_exact_mut(d).zip(&indices[i * n_rows..]) {
            let start = index as usize * d;
            from.part(start..start + d).copy_to(row);
        }
    });
}

/// Adds row `i` of `from` to row `indices[i]` of `to`, in order: the backward of [`gather_rows`].
pub fn scatter_add_rows<T: Real>(team: &Team, from: &[T], d: usize, indices: &[u32], to: &mut [T]) {
    // Each task owns rows of `to` and looks through all indices for them: rows are long, and indices are few. A batch
    // that holds little is not worth a second look.
    let n_tasks = if from.len() < TASK { 1 } else { 4 * team.n_threads() };
    let n_rows = (to.len() / d).div_ceil(n_tasks).max(1);
    team.split((to, n_rows * d), |task, to| {
        let own = task * n_rows..task * n_rows + to.len() / d;
        vectorize(
            #[inline(always)]
            || {
                for (row, &i) in from.chunks_exact(d).zip(indices) {
                    if own.contains(&(i as usize)) {
                        for (a, &b) in to[(i as usize - own.start) * d..][..d].iter_mut().zip(row) {
                            *a += b;
                        }
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::dot;
    use crate::testing::{assert_gradient, random};

    #[test]
    fn the_backward_of_a_bias_is_its_derivative() {
        let (n, d, team) = (2 * SUM_CHUNK + 5, 3, Team::new(2).unwrap());
        let (x, bias, c) = (random(1, n * d), random(2, d), random(3, n * d));
        let mut dbias = vec![0.0; d];
        add_bias_backward(&team, &c, &mut dbias, &mut Vec::new());
        assert_gradient(&bias, &dbias, |bias| {
            let mut y = x.clone();
            add_bias(&team, &mut y, bias);
            dot(&y, &c)
        });
    }

    #[test]
    fn rows_are_scattered_where_they_were_gathered() {
        for (n, d, n_rows) in [(7, 4, 3), (2000, 16, 50)] {
            let indices: Vec<u32> = (0..n).map(|i| (i * i % n_rows) as u32).collect();
            let from = random(1, n * d);
            let mut expected = random(2, n_rows * d);
            let mut one = expected.clone();
            for (row, &i) in from.chunks_exact(d).zip(&indices) {
                for (a, &b) in expected[i as usize * d..].iter_mut().zip(row) {
                    *a += b;
                }
            }
            let mut two = one.clone();
            for (to, n_threads) in [(&mut one, 1), (&mut two, 2)] {
                let team = Team::new(n_threads).unwrap();
                scatter_add_rows(&team, &from, d, &indices, to);
                assert_eq!(to, &expected);
                let mut gathered = vec![0.0; n * d];
                gather_rows(&team, Matrix::Full(to), d, &indices, &mut gathered);
                for (row, &i) in gathered.chunks_exact(d).zip(&indices) {
                    assert_eq!(row, &to[i as usize * d..][..d]);
                }
            }
        }
    }
}
