//! SwiGLU: `a = silu(gate) · up`, `silu(g) = g·σ(g)` (arXiv 2002.05202).

use rayon::prelude::*;

use super::ROW_CHUNK;
use crate::real::{Real, vectorize};

/// `gate_up`: `[n_rows, 2f]`, gate before up; `a`: `[n_rows, f]`.
pub fn swiglu<T: Real>(gate_up: &[T], f: usize, a: &mut [T]) {
    a.par_chunks_mut(ROW_CHUNK * f).zip(gate_up.par_chunks(ROW_CHUNK * 2 * f)).for_each(|(a, gate_up)| {
        vectorize(
            #[inline(always)]
            || {
                for (a, row) in a.chunks_exact_mut(f).zip(gate_up.chunks_exact(2 * f)) {
                    let (gate, up) = row.split_at(f);
                    for ((a, &g), &u) in a.iter_mut().zip(gate).zip(up) {
                        *a = g * sigmoid(g) * u;
                    }
                }
            },
        );
    });
}

/// Overwrites `gate_up` with its gradient: `dup = da·silu(g)`, `dgate = da·up·σ(g)·(1 + g·(1 − σ(g)))`.
pub fn swiglu_backward_in_place<T: Real>(gate_up: &mut [T], f: usize, da: &[T]) {
    gate_up.par_chunks_mut(ROW_CHUNK * 2 * f).zip(da.par_chunks(ROW_CHUNK * f)).for_each(|(gate_up, da)| {
        vectorize(
            #[inline(always)]
            || {
                for (row, da) in gate_up.chunks_exact_mut(2 * f).zip(da.chunks_exact(f)) {
                    let (gate, up) = row.split_at_mut(f);
                    for ((g, u), &da) in gate.iter_mut().zip(up).zip(da) {
                        let s = sigmoid(*g);
                        let dgate = da * *u * s * (T::ONE + *g * (T::ONE - s));
                        *u = da * *g * s;
                        *g = dgate;
                    }
                }
            },
        );
    });
}

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::dot;
    use crate::testing::{assert_gradient, random};

    #[test]
    fn backward_is_the_derivative() {
        let (n, f) = (3, 10);
        let (x, c) = (random(1, n * 2 * f), random(2, n * f));
        let mut dx = x.clone();
        swiglu_backward_in_place(&mut dx, f, &c);
        assert_gradient(&x, &dx, |x| {
            let mut a = vec![0.0; n * f];
            swiglu(x, f, &mut a);
            dot(&a, &c)
        });
    }

    #[test]
    fn extreme_gates_stay_finite() {
        let mut gate_up = vec![-200.0f32, 200.0, 3.0, 3.0];
        let mut a = vec![0.0; 2];
        swiglu(&gate_up, 2, &mut a);
        assert!(a[0].abs() < 1e-30 && a[1] == 600.0);
        swiglu_backward_in_place(&mut gate_up, 2, &[1.0, 1.0]);
        assert!(gate_up.iter().all(|x| x.is_finite()));
    }
}
