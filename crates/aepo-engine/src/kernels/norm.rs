//! RMSNorm: `y = x / rms(x) · w`, `rms(x) = √(mean(x²) + ε)` (arXiv 1910.07467).

use rayon::prelude::*;

use super::{ROW_CHUNK, reduce_rows};
use crate::real::{Real, dot, vectorize};

/// `x`, `y`: `[n_rows, d]`, `w`: `[d]`.
pub fn rms_norm<T: Real>(x: &[T], w: &[T], eps: f64, y: &mut [T]) {
    let d = w.len();
    y.par_chunks_mut(ROW_CHUNK * d).zip(x.par_chunks(ROW_CHUNK * d)).for_each(|(y, x)| {
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

/// Normalises one row.
#[inline(always)]
pub(crate) fn norm_row<T: Real>(x: &[T], w: &[T], eps: f64, y: &mut [T]) {
    let r = inverse_rms(x, eps);
    for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
        *y = x * r * w;
    }
}

#[inline(always)]
fn inverse_rms<T: Real>(x: &[T], eps: f64) -> T {
    T::ONE / (dot(x, x) / T::of(x.len() as f64) + T::of(eps)).sqrt()
}

/// Adds the input gradient to `dx` and, where it is wanted, the weight gradient to `dw`.
///
/// With `x̂ = x·r`, `r = 1/rms(x)` and `g = dy·w`: `dx = r·(g − x̂·mean(g·x̂))`, `dw = Σ_rows dy·x̂`.
pub fn rms_norm_backward<T: Real>(x: &[T], w: &[T], eps: f64, dy: &[T], dx: &mut [T], dw: Option<&mut [T]>) {
    let d = w.len();
    dx.par_chunks_mut(ROW_CHUNK * d).zip(x.par_chunks(ROW_CHUNK * d)).zip(dy.par_chunks(ROW_CHUNK * d)).for_each(
        |((dx, x), dy)| {
            vectorize(
                #[inline(always)]
                || {
                    for ((dx, x), dy) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(dy.chunks_exact(d)) {
                        norm_row_backward(
                            x,
                            w,
                            eps,
                            dy,
                            #[inline(always)]
                            |i, g| dx[i] += g,
                        );
                    }
                },
            );
        },
    );
    let Some(dw) = dw else { return };
    reduce_rows(
        x.len() / d,
        dw,
        #[inline(always)]
        |rows, dw| {
            for i in rows {
                norm_row_weight_gradient(&x[i * d..][..d], eps, &dy[i * d..][..d], dw);
            }
        },
    );
}

/// Hands each element of one row's input gradient to `put`.
#[inline(always)]
pub(crate) fn norm_row_backward<T: Real>(x: &[T], w: &[T], eps: f64, dy: &[T], mut put: impl FnMut(usize, T)) {
    let r = inverse_rms(x, eps);
    let mut lanes = [T::ZERO; 16];
    for (i, ((&x, &w), &dy)) in x.iter().zip(w).zip(dy).enumerate() {
        lanes[i % 16] = (dy * w).mul_add(x * r, lanes[i % 16]);
    }
    let mean = crate::real::sum_lanes(lanes) / T::of(x.len() as f64);
    for (i, ((&x, &w), &dy)) in x.iter().zip(w).zip(dy).enumerate() {
        put(i, r * (dy * w - x * r * mean));
    }
}

/// Adds one row's weight gradient to `dw`.
#[inline(always)]
pub(crate) fn norm_row_weight_gradient<T: Real>(x: &[T], eps: f64, dy: &[T], dw: &mut [T]) {
    let r = inverse_rms(x, eps);
    for ((dw, &x), &dy) in dw.iter_mut().zip(x).zip(dy) {
        *dw += dy * x * r;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_gradient, random};

    #[test]
    fn backward_is_the_derivative() {
        let (n, d, eps) = (5, 24, 1e-5);
        let (x, w, c) = (random(1, n * d), random(2, d), random(3, n * d));
        let value = |x: &[f64], w: &[f64]| {
            let mut y = vec![0.0; n * d];
            rms_norm(x, w, eps, &mut y);
            dot(&y, &c)
        };
        let (mut dx, mut dw) = (vec![0.0; n * d], vec![0.0; d]);
        rms_norm_backward(&x, &w, eps, &c, &mut dx, Some(&mut dw));
        assert_gradient(&x, &dx, |x| value(x, &w));
        assert_gradient(&w, &dw, |w| value(&x, w));
    }
}
