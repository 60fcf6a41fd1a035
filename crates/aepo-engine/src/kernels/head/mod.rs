//! The vocabulary head: log-probability and entropy of chosen positions, of few rows' logits at a time.
//!
//! At temperature `T`: `z = logits/T`, `logp_t = z_t − lse(z)`, `H = lse(z) − Σ p·z`. Backward of `Σ c·logp + Σ d·H`:
//! `dz_j = c·(1[j = t] − p_j) − d·p_j·(log p_j + H)`, `dlogits = dz/T`.

pub(crate) mod fused;

use super::product::{self, Columns};
pub use super::stats::{RowStats, row_stats};
use crate::gemm;
use crate::matmul::{How, Mat, MatMut, Store, multiply};
use crate::real::{Real, fit, vectorize};
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

/// Buffers, reused from batch to batch.
#[derive(Default)]
pub struct Buffers<T> {
    /// `[CHUNK, vocab]`
    logits: Vec<T>,
    products: gemm::Buffers,
    pub(crate) fused: fused::Buffers,
}

/// Everything that [`head_backward`] reads.
#[derive(Clone, Copy)]
pub struct HeadGradient<'a, T> {
    /// `[n, d]`
    pub hidden: &'a [T],
    /// `[n]`: which rows of the forward pass these are.
    pub rows: &'a [usize],
    /// `[n]`
    pub targets: &'a [u32],
    /// `[n]`, of the forward pass.
    pub stats: &'a [RowStats<T>],
    /// `dlogp`, `[n]`.
    pub c: &'a [T],
    /// `dentropy`, `[n]`, or empty for zero.
    pub d: &'a [T],
}

/// `hidden`: `[n, d]`; `targets`: `[n]`; writes `logprobs` and `stats`, `[n]` each. This is the definition; in `f32`
/// `fused` computes the same.
pub fn head_forward<T: Real>(
    head: Head<'_, T>,
    hidden: &[T],
    targets: &[u32],
    logprobs: &mut [T],
    stats: &mut [RowStats<T>],
    b: &mut Buffers<T>,
) {
    let vocab = head.weight.len() / head.d;
    let inverse = T::of(1.0 / head.temperature);
    let chunks = targets.chunks(CHUNK).zip(logprobs.chunks_mut(CHUNK)).zip(stats.chunks_mut(CHUNK));
    for (((targets, logprobs), stats), hidden) in chunks.zip(hidden.chunks(CHUNK * head.d)) {
        let logits = &*compute_logits(head, hidden, targets.len(), b);
        head.how.team.split(((logprobs, 1), (stats, 1)), |i, (logprob, stats)| {
            let row = &logits[i * vocab..][..vocab];
            stats[0] = vectorize(
                #[inline(always)]
                || row_stats(row, inverse),
            );
            logprob[0] = row[targets[i] as usize] * inverse - stats[0].lse;
        });
    }
}

/// The backward pass of [`head_forward`]: overwrites `dhidden`, adds to `dweight` where it is wanted. This is the
/// definition; in `f32` `fused` computes the same.
pub fn head_backward<T: Real>(
    head: Head<'_, T>,
    of: HeadGradient<'_, T>,
    dhidden: &mut [T],
    mut dweight: Option<&mut [T]>,
    b: &mut Buffers<T>,
) {
    let HeadGradient { hidden, targets, stats, c, d, .. } = of;
    let vocab = head.weight.len() / head.d;
    let inverse = T::of(1.0 / head.temperature);
    for (start, hidden) in (0..targets.len()).step_by(CHUNK).zip(hidden.chunks(CHUNK * head.d)) {
        let n = CHUNK.min(targets.len() - start);
        let logits = compute_logits(head, hidden, n, b);
        head.how.team.split((logits, vocab), |i, row| {
            let i = start + i;
            let d = if d.is_empty() { T::ZERO } else { d[i] };
            vectorize(
                #[inline(always)]
                || row_backward(row, stats[i], c[i], d, inverse),
            );
            row[targets[i] as usize] += c[i] * inverse;
        });
        let (dlogits, products) = (&b.logits[..n * vocab], &mut b.products);
        let dhidden = &mut dhidden[start * head.d..][..n * head.d];
        product::backward(dhidden, dlogits, n, head.weight.into(), vocab, head.how, products);
        if let Some(dweight) = dweight.as_deref_mut() {
            let dweight = MatMut::new(dweight, vocab, head.d);
            let dlogits = Mat::new(dlogits, n, vocab).t();
            multiply(dweight, Store::Add, dlogits, Mat::new(hidden, n, head.d), head.how, products);
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

/// `[n, vocab]`, in the buffer.
fn compute_logits<'b, T: Real>(head: Head<'_, T>, hidden: &[T], n: usize, b: &'b mut Buffers<T>) -> &'b mut [T] {
    let vocab = head.weight.len() / head.d;
    // All chunks of a batch but the last are of one length, and a batch has one buffer.
    if b.logits.len() < n * vocab {
        fit(&mut b.logits, n * vocab);
    }
    let logits = &mut b.logits[..n * vocab];
    let columns = Columns { data: &mut *logits, width: vocab, range: 0..vocab };
    product::forward(columns, Store::Replace, &hidden[..n * head.d], n, head.weight.into(), head.how, &mut b.products);
    logits
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
                head_forward(head, hidden, &targets, &mut logprobs, &mut stats, &mut Buffers::default());
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
            let b = &mut Buffers::default();
            let rows: Vec<usize> = (0..n).collect();
            let of = HeadGradient { hidden: &hidden, rows: &rows, targets: &targets, stats: &stats, c: &c, d: &e };
            head_backward(head, of, &mut dhidden, Some(&mut dweight), b);
            assert_gradient(&hidden, &dhidden, |h| value(h, &weight));
            assert_gradient(&weight, &dweight, |w| value(&hidden, w));
        }
    }
}
