//! SwiGLU: `a = silu(gate) · up`, `silu(g) = g·σ(g)` (arXiv 2002.05202).

use super::rows_of;
use crate::real::{Real, vectorize, vectorize_op};
use crate::team::Team;

/// `gate_up`: `[n_rows, 2f]`, gate before up; `a`: `[n_rows, f]`.
pub fn swiglu<T: Real>(team: &Team, gate_up: &[T], f: usize, a: &mut [T]) {
    let rows = rows_of(2 * f);
    team.split((a, rows * f), |i, a| {
        let gate_up = &gate_up[i * rows * 2 * f..][..2 * a.len()];
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
pub fn swiglu_backward_in_place<T: Real>(team: &Team, gate_up: &mut [T], f: usize, da: &[T]) {
    let rows = rows_of(2 * f);
    team.split((gate_up, rows * 2 * f), |i, gate_up| {
        let da = &da[i * rows * f..][..gate_up.len() / 2];
        vectorize_op(Backward { gate_up, f, da });
    });
}

/// A task of the backward pass: a body too large to be inlined into the closure that [`vectorize`] takes.
struct Backward<'a, T> {
    gate_up: &'a mut [T],
    f: usize,
    da: &'a [T],
}

impl<T: Real> pulp::NullaryFnOnce for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (row, da) in self.gate_up.chunks_exact_mut(2 * self.f).zip(self.da.chunks_exact(self.f)) {
            let (gate, up) = row.split_at_mut(self.f);
            let (gates, gate_rest) = gate.as_chunks_mut::<LANES>();
            let (ups, up_rest) = up.as_chunks_mut::<LANES>();
            let (das, da_rest) = da.as_chunks::<LANES>();
            for ((g, u), da) in gates.iter_mut().zip(ups).zip(das) {
                // Each step for all lanes: a lane's whole way at once is not made into vectors.
                let mut s = [T::ZERO; LANES];
                for i in 0..LANES {
                    s[i] = sigmoid(g[i]);
                }
                let (mut dgate, mut dup) = ([T::ZERO; LANES], [T::ZERO; LANES]);
                for i in 0..LANES {
                    (dgate[i], dup[i]) = gradients(g[i], u[i], s[i], da[i]);
                }
                (*g, *u) = (dgate, dup);
            }
            for ((g, u), &da) in gate_rest.iter_mut().zip(up_rest).zip(da_rest) {
                (*g, *u) = gradients(*g, *u, sigmoid(*g), da);
            }
        }
    }
}

/// Numbers handled side by side.
const LANES: usize = 16;

/// `dgate` and `dup`, `s` being `σ(g)`.
#[inline(always)]
fn gradients<T: Real>(g: T, u: T, s: T, da: T) -> (T, T) {
    (da * u * s * (T::ONE + g * (T::ONE - s)), da * g * s)
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
        let (n, f, team) = (3, 2 * LANES + 5, Team::new(2).unwrap());
        let (x, c) = (random(1, n * 2 * f), random(2, n * f));
        let mut dx = x.clone();
        swiglu_backward_in_place(&team, &mut dx, f, &c);
        assert_gradient(&x, &dx, |x| {
            let mut a = vec![0.0; n * f];
            swiglu(&team, x, f, &mut a);
            dot(&a, &c)
        });
    }

    #[test]
    fn extreme_gates_stay_finite() {
        let team = Team::new(1).unwrap();
        let mut gate_up = vec![-200.0f32, 200.0, 3.0, 3.0];
        let mut a = vec![0.0; 2];
        swiglu(&team, &gate_up, 2, &mut a);
        assert!(a[0].abs() < 1e-30 && a[1] == 600.0);
        swiglu_backward_in_place(&team, &mut gate_up, 2, &[1.0, 1.0]);
        assert!(gate_up.iter().all(|x| x.is_finite()));
    }
}
