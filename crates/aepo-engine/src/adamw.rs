//! How do weights move? AdamW with decoupled weight decay (arXiv 1711.05101) and clipping of the global gradient norm.

use aepo::policy::{StepParams, StepReport};

use crate::layout::Tensor;
use crate::real::{fit, vectorize};
use crate::team::Team;

/// Weights that one task moves.
const CHUNK: usize = 1 << 15;

/// First and second moments, laid out as the weights.
#[derive(Default)]
pub struct Moments {
    /// Exponential mean of the gradient.
    pub first: Vec<f32>,
    /// Exponential mean of its square.
    pub second: Vec<f32>,
    /// Steps taken.
    pub n_steps: u64,
}

/// One step: `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, `w ← w − lr·(m̂/(√v̂ + ε) + λw)`, λ on matrices only.
/// `tensors` tile `params`. A gradient that is not finite moves nothing. Gradients are zero afterwards: they are spent
/// while they are at hand, because what a step takes is the time to read and write its five buffers.
pub fn step(
    team: &Team,
    tensors: &[Tensor],
    params: &mut [f32],
    grads: &mut [f32],
    moments: &mut Moments,
    settings: &StepParams,
) -> StepReport {
    assert_eq!(params.len(), grads.len());
    let grad_norm = sum_of_squares(team, grads).sqrt() as f32;
    if !grad_norm.is_finite() {
        team.split((grads, CHUNK), |_, g| g.fill(0.0));
        return StepReport { grad_norm, applied: false };
    }
    fit(&mut moments.first, params.len());
    fit(&mut moments.second, params.len());
    moments.n_steps += 1;
    let (b1, b2) = (settings.beta1, settings.beta2);
    let clip = if grad_norm > settings.max_grad_norm { settings.max_grad_norm / grad_norm } else { 1.0 };
    let correct1 = 1.0 - f64::from(b1).powf(moments.n_steps as f64);
    let correct2 = 1.0 - f64::from(b2).powf(moments.n_steps as f64);
    // m̂/(√v̂ + ε) = (m/c₁)/(√v/√c₂ + ε): the corrections are two factors for all weights.
    let lr = settings.learning_rate;
    let rate = (f64::from(lr) / correct1) as f32;
    let widen = (1.0 / correct2.sqrt()) as f32;
    let eps = settings.eps;
    let (m, v) = (&mut moments.first[..], &mut moments.second[..]);
    team.split((((params, CHUNK), (grads, CHUNK)), ((m, CHUNK), (v, CHUNK))), |i, ((w, g), (m, v))| {
        let (start, end) = (i * CHUNK, i * CHUNK + w.len());
        let first = tensors.partition_point(|t| t.range.end <= start);
        for tensor in tensors[first..].iter().take_while(|t| t.range.start < end) {
            let decay = if tensor.decays() { lr * settings.weight_decay } else { 0.0 };
            let part = tensor.range.start.max(start) - start..tensor.range.end.min(end) - start;
            let (w, g) = (&mut w[part.clone()], &mut g[part.clone()]);
            let (m, v) = (&mut m[part.clone()], &mut v[part]);
            vectorize(
                #[inline(always)]
                || {
                    for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                        let clipped = *g * clip;
                        *g = 0.0;
                        *m = b1 * *m + (1.0 - b1) * clipped;
                        *v = b2 * *v + (1.0 - b2) * clipped * clipped;
                        *w -= rate * *m / (v.sqrt() * widen + eps) + decay * *w;
                    }
                },
            );
        }
    });
    StepReport { grad_norm, applied: true }
}

/// In `f64`, in fixed chunks of sixteen lanes, added in order.
fn sum_of_squares(team: &Team, x: &[f32]) -> f64 {
    let mut sums = vec![0.0f64; x.len().div_ceil(CHUNK)];
    team.split((&mut sums[..], 1), |i, sum| {
        let x = &x[i * CHUNK..((i + 1) * CHUNK).min(x.len())];
        sum[0] = vectorize(
            #[inline(always)]
            || {
                let mut lanes = [0.0f64; 16];
                let (chunks, rest) = x.as_chunks::<16>();
                for chunk in chunks {
                    for i in 0..16 {
                        let g = f64::from(chunk[i]);
                        lanes[i] = g.mul_add(g, lanes[i]);
                    }
                }
                let rest: f64 = rest.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
                crate::real::sum_lanes(lanes) + rest
            },
        );
    });
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    fn settings(max_grad_norm: f32) -> StepParams {
        StepParams { learning_rate: 1e-2, weight_decay: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm }
    }

    fn tensors(lengths: &[usize]) -> Vec<Tensor> {
        let mut start = 0;
        let of = |(i, &n): (usize, &usize)| {
            start += n;
            // Every second one is a vector, on which nothing decays.
            let shape = if i % 2 == 0 { vec![1, n] } else { vec![n] };
            Tensor { name: format!("{i}.weight"), shape, range: start - n..start }
        };
        lengths.iter().enumerate().map(of).collect()
    }

    /// The definition, weight by weight in `f64`, on tensors that begin and end anywhere in a chunk.
    #[test]
    fn every_weight_moves_by_the_formula() {
        let tensors = tensors(&[CHUNK - 5, 3, 7, 2 * CHUNK, 11, 1, 1]);
        let n = tensors.last().unwrap().range.end;
        let numbers = |seed| random(seed, n).into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        let begin = numbers(1);
        let mut ends = Vec::new();
        for n_threads in [1, 3] {
            let team = Team::new(n_threads).unwrap();
            let (mut w, mut moments) = (begin.clone(), Moments::default());
            let mut exact: Vec<(f64, f64, f64)> = begin.iter().map(|&w| (f64::from(w), 0.0, 0.0)).collect();
            for t in 1..4 {
                let mut g = numbers(10 + t);
                let norm = g.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
                let clip = 0.7 / norm;
                for tensor in &tensors {
                    let decay = if tensor.decays() { 0.1 } else { 0.0 };
                    for i in tensor.range.clone() {
                        let (w, m, v) = &mut exact[i];
                        let g = f64::from(g[i]) * clip;
                        *m = 0.9 * *m + 0.1 * g;
                        *v = 0.95 * *v + 0.05 * g * g;
                        let (m, v) = (*m / (1.0 - 0.9f64.powi(t as i32)), *v / (1.0 - 0.95f64.powi(t as i32)));
                        *w -= 1e-2 * (m / (v.sqrt() + 1e-8) + decay * *w);
                    }
                }
                let report = step(&team, &tensors, &mut w, &mut g, &mut moments, &settings(0.7));
                assert!(report.applied && (f64::from(report.grad_norm) - norm).abs() < 1e-4 * norm);
                assert!(g.iter().all(|&g| g == 0.0), "gradients are spent");
            }
            for (i, (&w, &(exact, _, _))) in w.iter().zip(&exact).enumerate() {
                assert!((f64::from(w) - exact).abs() < 2e-6, "weight {i}: {w} {exact}");
            }
            ends.push(w);
        }
        assert!(ends[0] == ends[1], "the number of threads changes no bit");
    }

    #[test]
    fn a_gradient_that_is_no_number_moves_nothing_and_is_gone() {
        let (tensors, team) = (tensors(&[40]), Team::new(2).unwrap());
        let (mut w, mut g, mut moments) = (vec![1.0; 40], vec![0.5; 40], Moments::default());
        g[17] = f32::NAN;
        let report = step(&team, &tensors, &mut w, &mut g, &mut moments, &settings(1.0));
        assert!(!report.applied && moments.n_steps == 0);
        assert_eq!((w, g), (vec![1.0; 40], vec![0.0; 40]));
    }
}
