//! What does a row of logits say? Log-sum-exp and entropy, read from memory once.
//!
//! The row is taken in blocks that stay near the processor: of each the maximum `m_b`, then, with
//! `z = (x − m_b)/T`, the sums `s_b = Σ eᶻ` and `w_b = Σ eᶻ·z`. With `M = max m_b` and `f_b = e^((m_b − M)/T)`:
//! `S = Σ f_b·s_b`, `W = Σ f_b·(w_b + (m_b − M)/T·s_b)`, and so `lse = M/T + ln S`, `H = ln S − W/S`.

use crate::real::{Real, max, sum_lanes};

/// Logits of a block: whole panels of a product, so that training reads them as sampling does.
pub const BLOCK: usize = 8 * crate::gemm::WIDTH;

/// Log-sum-exp and entropy of one row of logits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStats<T> {
    /// Of `logits/T`.
    pub lse: T,
    /// Nats, over the full vocabulary.
    pub entropy: T,
}

/// What a block adds to a row.
#[derive(Clone, Copy, Debug)]
pub struct Block<T> {
    /// The largest logit, not yet divided by the temperature.
    pub top: T,
    /// `Σ eᶻ`
    pub sum: T,
    /// `Σ eᶻ·z`
    pub weighted: T,
}

/// Blocks added so far, relative to the largest logit among them.
#[derive(Clone, Copy, Debug)]
pub struct Total<T> {
    inverse: T,
    /// The largest logit.
    pub top: T,
    /// `S`
    pub sum: T,
    weighted: T,
}

/// One block's maximum and sums; `inverse` is 1/T.
#[inline(always)]
pub fn block<T: Real>(logits: &[T], inverse: T) -> Block<T> {
    let top = max(logits);
    let (mut sums, mut weighted) = ([T::ZERO; 16], [T::ZERO; 16]);
    let (chunks, rest) = logits.as_chunks::<16>();
    for chunk in chunks {
        for i in 0..16 {
            let z = (chunk[i] - top) * inverse;
            let e = z.exp();
            sums[i] += e;
            weighted[i] = e.mul_add(z, weighted[i]);
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        let z = (x - top) * inverse;
        let e = z.exp();
        sums[i] += e;
        weighted[i] = e.mul_add(z, weighted[i]);
    }
    Block { top, sum: sum_lanes(sums), weighted: sum_lanes(weighted) }
}

impl<T: Real> Total<T> {
    /// Of nothing.
    #[inline(always)]
    pub fn new(inverse: T) -> Total<T> {
        Total { inverse, top: T::NEG_INFINITY, sum: T::ZERO, weighted: T::ZERO }
    }

    /// Adds a block.
    #[inline(always)]
    pub fn add(&mut self, b: Block<T>) {
        if b.top > self.top {
            // What was added before is seen from the new top; the first block meets nothing.
            if self.sum > T::ZERO {
                let down = (self.top - b.top) * self.inverse;
                let factor = down.exp();
                self.weighted = factor * (self.weighted + down * self.sum);
                self.sum = factor * self.sum;
            }
            self.top = b.top;
            self.sum += b.sum;
            self.weighted += b.weighted;
        } else {
            let down = (b.top - self.top) * self.inverse;
            let factor = down.exp();
            self.sum += factor * b.sum;
            self.weighted += factor * (b.weighted + down * b.sum);
        }
    }

    /// Log-sum-exp and entropy of all blocks together.
    #[inline(always)]
    pub fn stats(&self) -> RowStats<T> {
        let log_sum = self.sum.ln();
        let entropy = (log_sum - self.weighted / self.sum).max(T::ZERO);
        RowStats { lse: self.top * self.inverse + log_sum, entropy }
    }
}

/// Log-sum-exp and entropy of a row.
#[inline(always)]
pub fn row_stats<T: Real>(logits: &[T], inverse_temperature: T) -> RowStats<T> {
    let mut total = Total::new(inverse_temperature);
    for part in logits.chunks(BLOCK) {
        total.add(block(part, inverse_temperature));
    }
    total.stats()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    #[test]
    fn entropy_of_known_distributions() {
        for n in [40, BLOCK, 3 * BLOCK + 7] {
            let uniform = row_stats(&vec![3.0f32; n], 1.0);
            assert!((f64::from(uniform.entropy) - (n as f64).ln()).abs() < 1e-6);
            let mut logits = vec![0.0f32; n];
            logits[n / 2] = 200.0;
            let certain = row_stats(&logits, 1.0);
            assert_eq!((certain.entropy, certain.lse), (0.0, 200.0));
        }
    }

    /// The definition in one go, on rows whose blocks differ much and grow, fall and repeat.
    #[test]
    fn blocks_make_the_row() {
        for (n, slope) in [(5, 0.0), (BLOCK + 1, 0.05), (4 * BLOCK + 100, -0.03), (3000, 0.001)] {
            let logits: Vec<f64> =
                random(n as u64, n).iter().enumerate().map(|(i, x)| 5.0 * x + slope * i as f64).collect();
            let narrow: Vec<f32> = logits.iter().map(|&x| x as f32).collect();
            for inverse in [1.0, 0.5, 1.7] {
                let top = logits.iter().fold(f64::NEG_INFINITY, |a, &x| a.max(x * inverse));
                let sum: f64 = logits.iter().map(|x| (x * inverse - top).exp()).sum();
                let lse = top + sum.ln();
                let entropy: f64 = logits.iter().map(|x| (lse - x * inverse) * (x * inverse - lse).exp()).sum();
                let found = row_stats(&logits, inverse);
                assert!((found.lse - lse).abs() < 1e-11 && (found.entropy - entropy).abs() < 1e-11);
                let found = row_stats(&narrow, inverse as f32);
                assert!((f64::from(found.lse) - lse).abs() < 1e-6 * lse.abs().max(4.0));
                assert!((f64::from(found.entropy) - entropy).abs() < 4e-6 * entropy.max(1.0), "{n} {slope} {inverse}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_seen() {
        for bad in [f32::NAN, f32::INFINITY] {
            for at in [0, 700, 1299] {
                let mut logits = vec![0.5f32; 1300];
                logits[at] = bad;
                let stats = row_stats(&logits, 1.0);
                assert!(!stats.lse.is_finite() || !stats.entropy.is_finite(), "{bad} at {at}");
            }
        }
    }
}
