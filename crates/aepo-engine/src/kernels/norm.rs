//! RMSNorm: `y = x / rms(x) · w`, `rms(x) = √(mean(x²) + ε)` (arXiv 1910.07467).

use super::{SUM_CHUNK, add_up, partial_sums, rows_of};
use crate::real::{Real, dot, sum_lanes, vectorize};
use crate::team::Team;

/// `x`, `y`: `[n_rows, d]`, `w`: `[d]`.
pub fn rms_norm<T: Real>(team: &Team, x: &[T], w: &[T], eps: f64, y: &mut [T]) {
    let d = w.len();
    let rows = rows_of(d);
    team.split((y, rows * d), |i, y| {
        let x = &x[i * rows * d..][..y.len()];
        vectorize(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    norm_row(x, w, eps, y);
                }
            },
        );
    });
}

/// [`rms_norm`] that also copies `x` to `kept` while it is at hand: what goes into a norm is what a block adds to.
pub fn rms_norm_keeping<T: Real>(team: &Team, x: &[T], w: &[T], eps: f64, y: &mut [T], kept: &mut [T]) {
    let d = w.len();
    let rows = rows_of(d);
    team.split(((y, rows * d), (kept, rows * d)), |i, (y, kept)| {
        let x = &x[i * rows * d..][..y.len()];
        vectorize(
            #[inline(always)]
            || {
                for ((y, kept), x) in y.chunks_exact_mut(d).zip(kept.chunks_exact_mut(d)).zip(x.chunks_exact(d)) {
                    norm_row(x, w, eps, y);
                    kept.copy_from_slice(x);
                }
            },
        );
    });
}

/// Normalises one row.
#[inline(always)]
pub(crate) fn norm_row<T: Real>(x: &[T], w: &[T], eps: f64, y: &mut [T]) {
    let r = inverse_rms(x, eps);
    for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
        *y = x * r * w;
    }
}

/// Normalises one row where it stands.
#[inline(always)]
pub(crate) fn norm_row_in_place<T: Real>(x: &mut [T], w: &[T], eps: f64) {
    let r = inverse_rms(x, eps);
    for (x, &w) in x.iter_mut().zip(w) {
        *x = *x * r * w;
    }
}

#[inline(always)]
fn inverse_rms<T: Real>(x: &[T], eps: f64) -> T {
    T::ONE / (dot(x, x) / T::of(x.len() as f64) + T::of(eps)).sqrt()
}

/// Adds the input gradient to `dx` and, where it is wanted, the weight gradient to `dw`; `partials` is a buffer.
///
/// With `x̂ = x·r`, `r = 1/rms(x)` and `g = dy·w`: `dx = r·(g − x̂·mean(g·x̂))`, `dw = Σ_rows dy·x̂`.
#[allow(clippy::too_many_arguments)]
pub fn rms_norm_backward<T: Real>(
    team: &Team,
    x: &[T],
    w: &[T],
    eps: f64,
    dy: &[T],
    dx: &mut [T],
    dw: Option<&mut [T]>,
    partials: &mut Vec<T>,
) {
    let d = w.len();
    let Some(dw) = dw else {
        let rows = rows_of(d);
        team.split((dx, rows * d), |i, dx| {
            let part = i * rows * d..i * rows * d + dx.len();
            let (x, dy) = (&x[part.clone()], &dy[part]);
            vectorize(
                #[inline(always)]
                || rows_backward(x, w, eps, dy, dx, None),
            );
        });
        return;
    };
    let partials = partial_sums(partials, x.len() / d, d);
    team.split(((dx, SUM_CHUNK * d), (&mut *partials, d)), |i, (dx, dw)| {
        let part = i * SUM_CHUNK * d..i * SUM_CHUNK * d + dx.len();
        let (x, dy) = (&x[part.clone()], &dy[part]);
        vectorize(
            #[inline(always)]
            || rows_backward(x, w, eps, dy, dx, Some(dw)),
        );
    });
    add_up(partials, dw);
}

/// [`rms_norm_backward`] of some rows.
#[inline(always)]
fn rows_backward<T: Real>(x: &[T], w: &[T], eps: f64, dy: &[T], dx: &mut [T], mut dw: Option<&mut [T]>) {
    let d = w.len();
    for ((dx, x), dy) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(dy.chunks_exact(d)) {
        let row = NormRow::new(x, w, eps, dy);
        row.add_dx(dx);
        if let Some(dw) = dw.as_deref_mut() {
            row.add_dw(dw);
        }
    }
}

/// What the backward pass needs to know of a row.
pub(crate) struct NormRow<'a, T> {
    x: &'a [T],
    w: &'a [T],
    dy: &'a [T],
    /// 1/rms(x)
    r: T,
    /// mean(g·x̂)
    mean: T,
}

impl<'a, T: Real> NormRow<'a, T> {
    /// All slices as long as the row.
    #[inline(always)]
    pub(crate) fn new(x: &'a [T], w: &'a [T], eps: f64, dy: &'a [T]) -> Self {
        let r = inverse_rms(x, eps);
        let mut lanes = [T::ZERO; 16];
        let ((x16, x_rest), (w16, w_rest), (dy16, dy_rest)) =
            (x.as_chunks::<16>(), w.as_chunks::<16>(), dy.as_chunks::<16>());
        for ((x, w), dy) in x16.iter().zip(w16).zip(dy16) {
            for i in 0..16 {
                lanes[i] = (dy[i] * w[i]).mul_add(x[i], lanes[i]);
            }
        }
        for (i, ((&x, &w), &dy)) in x_rest.iter().zip(w_rest).zip(dy_rest).enumerate() {
            lanes[i] = (dy * w).mul_add(x, lanes[i]);
        }
        let mean = sum_lanes(lanes) * r / T::of(x.len() as f64);
        NormRow { x, w, dy, r, mean }
    }

    /// Adds the input gradient.
    #[inline(always)]
    pub(crate) fn add_dx(&self, dx: &mut [T]) {
        let inner = self.r * self.mean;
        for (((dx, &x), &w), &dy) in dx.iter_mut().zip(self.x).zip(self.w).zip(self.dy) {
            *dx += self.r * (dy * w - x * inner);
        }
    }

    /// Writes the input gradient.
    #[inline(always)]
    pub(crate) fn write_dx(&self, dx: &mut [T]) {
        let inner = self.r * self.mean;
        for (((dx, &x), &w), &dy) in dx.iter_mut().zip(self.x).zip(self.w).zip(self.dy) {
            *dx = self.r * (dy * w - x * inner);
        }
    }

    /// Adds the weight gradient.
    #[inline(always)]
    pub(crate) fn add_dw(&self, dw: &mut [T]) {
        for ((dw, &x), &dy) in dw.iter_mut().zip(self.x).zip(self.dy) {
            *dw += dy * (x * self.r);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_gradient, random};

    #[test]
    fn backward_is_the_derivative() {
        let team = Team::new(2).unwrap();
        // More rows than are summed at once, and a row that is no whole number of vectors.
        for (n, d) in [(5, 24), (SUM_CHUNK + 3, 3), (2, 37)] {
            let eps = 1e-5;
            let (x, w, c) = (random(1, n * d), random(2, d), random(3, n * d));
            let value = |x: &[f64], w: &[f64]| {
                let mut y = vec![0.0; n * d];
                rms_norm(&team, x, w, eps, &mut y);
                dot(&y, &c)
            };
            let (mut dx, mut dw) = (vec![0.0; n * d], vec![0.0; d]);
            rms_norm_backward(&team, &x, &w, eps, &c, &mut dx, Some(&mut dw), &mut vec![7.0; 2]);
            assert_gradient(&x, &dx, |x| value(x, &w));
            assert_gradient(&w, &dw, |w| value(&x, w));
            let mut frozen = vec![0.0; n * d];
            rms_norm_backward(&team, &x, &w, eps, &c, &mut frozen, None, &mut Vec::new());
            assert_eq!(frozen, dx);
        }
    }

    #[test]
    fn what_is_kept_is_what_went_in() {
        let (n, d) = (70, 40);
        let (x, w, team) = (random(1, n * d), random(2, d), Team::new(2).unwrap());
        let (mut y, mut kept, mut again) = (vec![0.0; n * d], vec![0.0; n * d], vec![0.0; n * d]);
        rms_norm(&team, &x, &w, 1e-5, &mut y);
        rms_norm_keeping(&team, &x, &w, 1e-5, &mut again, &mut kept);
        assert_eq!((kept, again), (x, y));
    }
}
