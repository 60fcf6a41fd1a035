//! What do the log-probabilities of the k likeliest tokens say of an entropy? Two bounds that cannot be narrowed.
//!
//! Of a distribution over V tokens the k largest probabilities are known, m = Σ p is their mass, r = 1 − m is left for
//! the other V − k tokens, and none of these is likelier than p_k, the least of those that are known. The entropy is
//! `−Σ p·ln p` over the known ones, plus what the rest adds:
//!
//! - at most `r·ln((V − k)/r)`, where the rest is spread evenly;
//! - at least as much as when the rest sits in as few tokens as it can, which `q ≤ p_k` bounds: `⌊r/p_k⌋` tokens of
//!   p_k and one with the remainder. (`−q·ln q` is concave, so its sum is least at a corner of what is allowed.)
//!
//! Both are reached by some distribution. The estimate is their middle, which is wrong by half their distance at most.

/// Where an entropy lies, nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// At least this.
    pub lower: f64,
    /// At most this.
    pub upper: f64,
}

impl Bounds {
    /// The middle: off by at most half of [`Bounds::gap`].
    #[must_use]
    pub fn middle(self) -> f64 {
        0.5 * (self.lower + self.upper)
    }

    /// How far apart the bounds are, nats; 0 where all tokens are known.
    #[must_use]
    pub fn gap(self) -> f64 {
        self.upper - self.lower
    }
}

/// `−Σ p·ln p` over log-probabilities, nats.
#[must_use]
pub fn partial(logprobs: &[f32]) -> f64 {
    logprobs.iter().map(|&l| f64::from(l)).map(|l| -l.exp() * l).sum()
}

/// The entropy of a distribution over `vocab_size` tokens of which `top` holds the largest log-probabilities, falling.
#[must_use]
pub fn bounds(top: &[f32], vocab_size: usize) -> Bounds {
    let known = partial(top).max(0.0);
    let mass: f64 = top.iter().map(|&l| f64::from(l).exp()).sum();
    let n_rest = vocab_size.saturating_sub(top.len()) as f64;
    let (rest, largest) = (1.0 - mass, top.last().map_or(1.0, |&l| f64::from(l).exp()));
    if n_rest < 1.0 || rest <= 0.0 {
        return Bounds { lower: known, upper: known };
    }
    let term = |q: f64| if q > 0.0 { -q * q.ln() } else { 0.0 };
    let upper = known + rest * (n_rest / rest).ln();
    // Rounding may leave a little where nothing is allowed to be.
    let n_full = if largest > 0.0 { (rest / largest).floor().min(n_rest) } else { 0.0 };
    let lower = known + n_full * term(largest) + term((rest - n_full * largest).max(0.0));
    Bounds { lower: lower.min(upper), upper }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aepo::seed::Seed;

    fn entropy(p: &[f64]) -> f64 {
        p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum()
    }

    /// Log-probabilities of the k largest.
    fn top(p: &[f64], k: usize) -> Vec<f32> {
        let mut sorted = p.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted[..k].iter().map(|p| p.ln() as f32).collect()
    }

    #[test]
    fn every_distribution_lies_between_and_more_tokens_narrow_it() {
        for case in 0..300 {
            let (seed, n) = (Seed(case), 2 + (case as usize * 7) % 60);
            let sharpness = 8.0 * seed.uniform(1_000);
            let e: Vec<f64> = (0..n).map(|i| (sharpness * seed.uniform(i as u64)).exp()).collect();
            let p: Vec<f64> = e.iter().map(|x| x / e.iter().sum::<f64>()).collect();
            let (truth, mut last_gap) = (entropy(&p), f64::INFINITY);
            for k in 1..=n {
                let b = bounds(&top(&p, k), n);
                assert!(b.lower <= truth + 1e-5 && truth <= b.upper + 1e-5, "{case} {k}: {b:?} {truth}");
                assert!(b.gap() <= last_gap + 1e-5 && b.gap() >= 0.0, "{case} {k}: {b:?}");
                assert!((b.middle() - truth).abs() <= 0.5 * b.gap() + 1e-5, "{case} {k}: {b:?} {truth}");
                last_gap = b.gap();
            }
            assert!(last_gap == 0.0 && (bounds(&top(&p, n), n).lower - truth).abs() < 1e-5, "{case}");
        }
    }

    #[test]
    fn both_bounds_are_reached() {
        // 0.3 is left for four tokens of at most 0.2: as evenly as possible, and in as few as possible.
        let even = [0.5, 0.2, 0.075, 0.075, 0.075, 0.075];
        let few = [0.5, 0.2, 0.2, 0.1, 0.0, 0.0];
        let b = bounds(&top(&even, 2), 6);
        assert!((b.upper - entropy(&even)).abs() < 1e-6, "{b:?}");
        assert!((b.lower - entropy(&few)).abs() < 1e-6, "{b:?}");
        // Where the rest fits one token, it adds r·ln(1/r) at least.
        let b = bounds(&top(&[0.6, 0.35, 0.05, 0.0], 2), 4);
        assert!((b.lower - entropy(&[0.6, 0.35, 0.05])).abs() < 1e-6, "{b:?}");
    }

    #[test]
    fn what_rounding_and_cuts_leave_is_no_entropy() {
        // vLLM writes −9999 for what has no probability.
        let certain = bounds(&[0.0, -9999.0], 50_000);
        assert_eq!((certain.lower, certain.upper), (0.0, 0.0));
        let above_one = bounds(&[(0.5f32).ln() + 1e-7, (0.5f32).ln()], 10);
        assert!(above_one.gap() < 1e-4 && (above_one.lower - std::f64::consts::LN_2).abs() < 1e-4, "{above_one:?}");
        let none = bounds(&[], 8);
        assert!(none.lower == 0.0 && (none.upper - 8f64.ln()).abs() < 1e-12, "{none:?}");
    }
}
