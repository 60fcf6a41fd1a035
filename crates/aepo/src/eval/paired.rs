//! Is one evaluation better than another on the same questions? Paired differences, and how easily chance makes them.

use serde::{Deserialize, Serialize};

use crate::eval::interval::bootstrap;
use crate::seed::Seed;

/// The difference of two evaluations over the questions that both have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Questions that both have.
    pub n_questions: usize,
    /// Mean of the first over them.
    pub first: f64,
    /// Mean of the second.
    pub second: f64,
    /// Second less first.
    pub difference: f64,
    /// 95 % bootstrap interval of the difference, over questions.
    pub interval: [f64; 2],
    /// Probability that differences of random signs have a mean as far from 0, either way.
    pub p_value: f64,
    /// Questions on which the second is better.
    pub n_better: usize,
    /// Questions on which it is worse.
    pub n_worse: usize,
}

/// Up to so many questions that differ, every choice of signs is looked at.
const MAX_EXACT: usize = 16;
/// Above it, so many are drawn.
const N_DRAWS: usize = 20_000;

/// Compares pairs (first, second), one per question; `None` without any.
#[must_use]
pub fn paired(pairs: &[(f64, f64)], n_resamples: usize, seed: Seed) -> Option<Paired> {
    let n = pairs.len();
    if n == 0 {
        return None;
    }
    let mean = |f: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>() / n as f64;
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| b - a).collect();
    Some(Paired {
        n_questions: n,
        first: mean(&|p| p.0),
        second: mean(&|p| p.1),
        difference: mean(&|p| p.1 - p.0),
        interval: interval(&differences, n_resamples, seed),
        p_value: sign_flip(&differences, seed),
        n_better: differences.iter().filter(|d| **d > 0.0).count(),
        n_worse: differences.iter().filter(|d| **d < 0.0).count(),
    })
}

/// Differences that are all 0 have no spread, and their interval is a point; that all are 1 says no more than that all
/// answers are right, so it is taken over from [`bootstrap`].
fn interval(differences: &[f64], n_resamples: usize, seed: Seed) -> [f64; 2] {
    match differences.iter().all(|d| *d == 0.0) {
        true => [0.0, 0.0],
        false => bootstrap(differences, n_resamples, seed),
    }
}

/// The paired permutation test: were both the same, each difference would have either sign with probability 1/2.
/// p = P(|Σ ±d| ≥ |Σ d|), exactly for few differences that are not 0; else (1 + hits)/(1 + draws), which is never 0.
#[must_use]
pub fn sign_flip(differences: &[f64], seed: Seed) -> f64 {
    const SIGNS: u64 = u64::MAX - 1;
    let nonzero: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    if nonzero.is_empty() {
        return 1.0;
    }
    let size: f64 = nonzero.iter().map(|d| d.abs()).sum();
    // Sums in another order differ in their last bits.
    let observed = nonzero.iter().sum::<f64>().abs() - 1e-9 * size;
    let sum = |sign: &dyn Fn(usize) -> bool| -> f64 {
        nonzero.iter().enumerate().map(|(i, d)| if sign(i) { *d } else { -*d }).sum()
    };
    if nonzero.len() <= MAX_EXACT {
        let n_all = 1u64 << nonzero.len();
        let hits = (0..n_all).filter(|signs| sum(&|i| signs >> i & 1 == 1).abs() >= observed).count();
        return hits as f64 / n_all as f64;
    }
    let is_hit = |draw: &usize| {
        let draw = seed.child(SIGNS).child(*draw as u64);
        sum(&|i| draw.child(i as u64 / 64).0 >> (i % 64) & 1 == 1).abs() >= observed
    };
    (1 + (0..N_DRAWS).filter(is_hit).count()) as f64 / (1 + N_DRAWS) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_differences_are_tested_exactly() {
        // Five ones: of 32 choices of signs two have a sum of ±5.
        assert_eq!(sign_flip(&[1.0; 5], Seed(1)), 2.0 / 32.0);
        assert_eq!(sign_flip(&[1.0, -1.0], Seed(1)), 1.0);
        assert_eq!(sign_flip(&[0.0; 9], Seed(1)), 1.0);
        assert_eq!(sign_flip(&[], Seed(1)), 1.0);
        // Zeros change nothing: nobody knows their sign.
        assert_eq!(sign_flip(&[1.0, 0.0, 1.0, 0.0, 1.0], Seed(1)), 2.0 / 8.0);
        // By hand: 0.2 + 0.4 − 0.6 and its mirror are nearer to 0 than 0.2 + 0.4 + 0.2 …; SciPy 1.17:
        // `permutation_test(([.2, .4, .6, -.1],), mean, permutation_type="samples", n_resamples=inf)` is 0.25.
        assert_eq!(sign_flip(&[0.2, 0.4, 0.6, -0.1], Seed(1)), 0.25);
    }

    #[test]
    fn drawn_signs_agree_with_the_binomial() {
        // 14 of 20 differences of +1: P(|S| ≥ 8) = 2·Σ_{j≥14} C(20,j)/2^20 = 0.11532.
        let differences: Vec<f64> = (0..20).map(|i| if i < 14 { 1.0 } else { -1.0 }).collect();
        let p = sign_flip(&differences, Seed(3));
        assert!((p - 0.11532).abs() < 0.01, "{p}");
        assert!(sign_flip(&[1.0; 500], Seed(3)) <= 1.0 / 20_000.0, "never 0, and no more than draws can tell");
    }

    #[test]
    fn the_same_questions_are_compared() {
        let pairs: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i % 2), f64::from(u8::from(i % 4 != 0)))).collect();
        let paired = paired(&pairs, 2000, Seed(1)).unwrap();
        assert_eq!((paired.first, paired.second, paired.difference), (0.5, 0.75, 0.25));
        assert_eq!((paired.n_better, paired.n_worse, paired.n_questions), (25, 0, 100));
        assert!(paired.interval[0] > 0.15 && paired.interval[1] < 0.36, "{paired:?}");
        assert!(paired.p_value < 0.001, "{paired:?}");
        let same = super::paired(&[(0.3, 0.3); 9], 100, Seed(1)).unwrap();
        assert_eq!((same.interval, same.p_value), ([0.0, 0.0], 1.0));
        assert_eq!(super::paired(&[], 100, Seed(1)), None);
    }
}
