//! How do weights move? AdamW with decoupled weight decay (arXiv 1711.05101) and clipping of the global gradient norm.

use aepo::policy::{StepParams, StepReport};
use rayon::prelude::*;

use crate::layout::Tensor;
use crate::real::vectorize;

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
/// `tensors` tile `params`. A gradient that is not finite leaves everything as it was.
pub fn step(
    tensors: &[Tensor],
    params: &mut [f32],
    grads: &[f32],
    moments: &mut Moments,
    settings: &StepParams,
) -> StepReport {
    let grad_norm = sum_of_squares(grads).sqrt() as f32;
    if !grad_norm.is_finite() {
        return StepReport { grad_norm, applied: false };
    }
    moments.first.resize(params.len(), 0.0);
    moments.second.resize(params.len(), 0.0);
    moments.n_steps += 1;
    let (b1, b2) = (settings.beta1, settings.beta2);
    let clip = if grad_norm > settings.max_grad_norm { settings.max_grad_norm / grad_norm } else { 1.0 };
    let correct1 = (1.0 - f64::from(b1).powf(moments.n_steps as f64)) as f32;
    let correct2 = (1.0 - f64::from(b2).powf(moments.n_steps as f64)) as f32;
    let (lr, eps) = (settings.learning_rate, settings.eps);
    for tensor in tensors {
        let decay = if tensor.decays() { lr * settings.weight_decay } else { 0.0 };
        let range = tensor.range.clone();
        let (w, g) = (&mut params[range.clone()], &grads[range.clone()]);
        let (m, v) = (&mut moments.first[range.clone()], &mut moments.second[range]);
        const CHUNK: usize = 1 << 14;
        let chunks = w.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
        chunks.zip(m.par_chunks_mut(CHUNK)).zip(v.par_chunks_mut(CHUNK)).for_each(|(((w, g), m), v)| {
            vectorize(
                #[inline(always)]
                || {
                    for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                        let g = g * clip;
                        *m = b1 * *m + (1.0 - b1) * g;
                        *v = b2 * *v + (1.0 - b2) * g * g;
                        *w -= lr * (*m / correct1) / ((*v / correct2).sqrt() + eps) + decay * *w;
                    }
                },
            );
        });
    }
    StepReport { grad_norm, applied: true }
}

/// In `f64`, in fixed chunks added in order.
fn sum_of_squares(x: &[f32]) -> f64 {
    let chunk_sum = |c: &[f32]| c.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    x.par_chunks(1 << 14).map(chunk_sum).collect::<Vec<f64>>().into_iter().sum()
}
