//! The vocabulary head: log-probability and entropy of chosen positions, in chunks, never the whole batch's logits.
//!
//! At temperature `T`: `z = logits/T`, `logp_t = z_t − lse(z)`, `H = lse(z) − Σ p·z`. Backward of `Σ c·logp + Σ d·H`:
//! `dz_j = c·(1[j = t] − p_j) − d·p_j·(log p_j + H)`, `dlogits = dz/T`.

use rayon::prelude::*;

use super::product::{self, Columns};
use crate::gemm::Buffers;
use crate::matmul::{How, Mat, MatMut, Store, multiply};
use crate::real::{Real, max, sum_lanes, vectorize};
use crate::weights::Matrix;

/// Rows of logits held at once.
pub(crate) const CHUNK: usize = 128;

/// The output projection and how it is read.
#[derive(Clone, Copy)]
pub struct Head<'a, T> {
    /// `[vocab, d]`
    pub weight: Matrix<'a, T>,
    /// Width of a hidden row.
    pub d: usize,
    /// Softmax temperature.
    pub temperature: f64,
    /// How products are made.
    pub how: How<'a>,
}

/// Log-sum-exp and entropy of one row of logits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStats<T> {
    /// Of `logits/T`.
    pub lse: T,
    /// Nats, over the full vocabulary.
    pub entropy: T,
}

/// One pass for the maximum, one for the sums.
#[inline(always)]
pub fn row_stats<T: Real>(logits: &[T], inverse_temperature: T) -> RowStats<T> {
    let top = max(logits);
    let (mut sums, mut weighted) = ([T::ZERO; 16], [T::ZERO; 16]);
    let (chunks, rest) = logits.as_chunks::<16>();
    for chunk in chunks {
        for i in 0..16 {
            let z = (chunk[i] - top) * inverse_temperature;
            let e = z.exp();
            sums[i] += e;
            weighted[i] = e.mul_add(z, weighted[i]);
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        let z = (x - top) * inverse_temperature;
        let e = z.exp();
        sums[i] += e;
        weighted[i] = e.mul_add(z, weighted[i]);
    }
    let sum = sum_lanes(sums);
    let log_sum = sum.ln();
    RowStats { lse: top * inverse_temperature + log_sum, entropy: (log_sum - sum_lanes(weighted) / sum).max(T::ZERO) }
}

/// `hidden`: `[n, d]`; `targets`: `[n]`; writes `logprobs` and `stats`, `[n]` each.
pub fn head_forward<T: Real>(
    head: Head<'_, T>,
    hidden: &[T],
    targets: &[u32],
    logprobs: &mut [T],
    stats: &mut [RowStats<T>],
) {
    let vocab = head.weight.len() / head.d;
    let inverse = T::of(1.0 / head.temperature);
    let mut logits = vec![T::ZERO; CHUNK.min(targets.len()) * vocab];
    let mut scratch = Buffers::default();
    let chunks = targets.chunks(CHUNK).zip(logprobs.chunks_mut(CHUNK)).zip(stats.chunks_mut(CHUNK));
    for (((targets, logprobs), stats), hidden) in chunks.zip(hidden.chunks(CHUNK * head.d)) {
        compute_logits(head, hidden, targets.len(), &mut logits, &mut scratch);
        let rows = logits.par_chunks_exact(vocab).zip(targets).zip(logprobs).zip(stats);
        rows.with_min_len(8).for_each(|(((row, &target), logprob), stats)| {
            *stats = vectorize(
                #[inline(always)]
                || row_stats(row, inverse),
            );
            *logprob = row[target as usize] * inverse - stats.lse;
        });
    }
}

/// The backward pass of [`head_forward`] for coefficients `c = dlogp` and `d = dentropy` (`[n]`, or empty for zero):
/// overwrites `dhidden`, adds to `dweight` where it is wanted.
#[allow(clippy::too_many_arguments)]
pub fn head_backward<T: Real>(
    head: Head<'_, T>,
    hidden: &[T],
    targets: &[u32],
    stats: &[RowStats<T>],
    c: &[T],
    d: &[T],
    dhidden: &mut [T],
    mut dweight: Option<&mut [T]>,
) {
    let vocab = head.weight.len() / head.d;
    let inverse = T::of(1.0 / head.temperature);
    let mut logits = vec![T::ZERO; CHUNK.min(targets.len()) * vocab];
    let mut scratch = Buffers::default();
    for (start, hidden) in (0..targets.len()).step_by(CHUNK).zip(hidden.chunks(CHUNK * head.d)) {
        let n = CHUNK.min(targets.len() - start);
        compute_logits(head, hidden, n, &mut logits, &mut scratch);
        logits.par_chunks_exact_mut(vocab).take(n).enumerate().with_min_len(8).for_each(|(i, row)| {
            let i = start + i;
            let d = if d.is_empty() { T::ZERO } else { d[i] };
            vectorize(
                #[inline(always)]
                || row_backward(row, stats[i], c[i], d, inverse),
            );
            row[targets[i] as usize] += c[i] * inverse;
        });
        let dlogits = Mat::new(&logits, n, vocab);
        let dhidden = &mut dhidden[start * head.d..][..n * head.d];
        product::backward(dhidden, &logits[..n * vocab], n, head.weight, vocab, head.how, &mut scratch);
        if let Some(dweight) = dweight.as_deref_mut() {
            let dweight = MatMut::new(dweight, vocab, head.d);
            multiply(dweight, Store::Add, dlogits.t(), Mat::new(hidden, n, head.d), head.how, &mut scratch);
        }
    }
}

/// `dz/T` without the target's own `c`.
#[inline(always)]
fn row_backward<T: Real>(row: &mut [T], stats: RowStats<T>, c: T, d: T, inverse: T) {
    for x in row {
        let log_p = *x * inverse - stats.lse;
        let p = log_p.exp();
        *x = -p * (c + d * (log_p + stats.entropy)) * inverse;
    }
}

fn compute_logits<T: Real>(head: Head<'_, T>, hidden: &[T], n: usize, logits: &mut [T], scratch: &mut Buffers) {
    let vocab = head.weight.len() / head.d;
    let columns = Columns { data: logits, width: vocab, range: 0..vocab };
    product::forward(columns, Store::Replace, &hidden[..n * head.d], n, head.weight.into(), head.how, scratch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Arithmetic;
    use crate::real::dot;
    use crate::team::Team;
    use crate::testing::{assert_gradient, random};

    #[test]
    fn backward_is_the_derivative_of_logprob_and_entropy() {
        let (n, d, vocab) = (CHUNK + 3, 5, 21);
        let targets: Vec<u32> = (0..n).map(|i| (i * 7 % vocab) as u32).collect();
        let (hidden, weight) = (random(1, n * d), random(2, vocab * d));
        let (c, e) = (random(3, n), random(4, n));
        let team = Team::new(1).unwrap();
        let how = How { arithmetic: Arithmetic::F32, team: &team };
        for temperature in [1.0, 0.7] {
            let run = |hidden: &[f64], weight: &[f64]| {
                let head = Head { weight: Matrix::Full(weight), d, temperature, how };
                let (mut logprobs, mut stats) = (vec![0.0; n], vec![RowStats::default(); n]);
                head_forward(head, hidden, &targets, &mut logprobs, &mut stats);
                (logprobs, stats)
            };
            let value = |hidden: &[f64], weight: &[f64]| {
                let (logprobs, stats) = run(hidden, weight);
                let entropies: Vec<f64> = stats.iter().map(|s| s.entropy).collect();
                dot(&logprobs, &c) + dot(&entropies, &e)
            };
            let (_, stats) = run(&hidden, &weight);
            let head = Head { weight: Matrix::Full(&weight), d, temperature, how };
            let (mut dhidden, mut dweight) = (vec![0.0; n * d], vec![0.0; vocab * d]);
            head_backward(head, &hidden, &targets, &stats, &c, &e, &mut dhidden, Some(&mut dweight));
            assert_gradient(&hidden, &dhidden, |h| value(h, &weight));
            assert_gradient(&weight, &dweight, |w| value(&hidden, w));
        }
    }

    #[test]
    fn entropy_of_known_distributions() {
        let uniform = row_stats(&[3.0f32; 40], 1.0);
        assert!((f64::from(uniform.entropy) - 40f64.ln()).abs() < 1e-6);
        let certain = row_stats(&[0.0f32, 200.0, 0.0], 1.0);
        assert_eq!((certain.entropy, certain.lse), (0.0, 200.0));
    }
}
