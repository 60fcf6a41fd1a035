//! How sure is a mean over questions? A bootstrap interval that covers as often as it says.

use crate::eval::quantiles::{CONFIDENCE, normal_probability, normal_quantile, t_quantile};
use crate::seed::Seed;

/// Which question of a resample is drawn follows from this and the number of the resample.
const BOOTSTRAP: u64 = u64::MAX;

/// The 95 % interval of the mean of `values`, one per question, over questions drawn anew with replacement.
///
/// The bias-corrected and accelerated interval (Efron, JASA 82, 1987): with z₀ the normal quantile of the share of
/// resampled means below the mean, a = Σd³/(6·(Σd²)^1.5) over the deviations d from the mean, and z the normal quantile
/// of one end's probability, the end lies at Φ(z₀ + (z₀ + z)/(1 − a·(z₀ + z))) of the resampled means. Of n questions a
/// bootstrap is too narrow by √((n−1)/n) and by the tails of Student's t; both are put back into z, as Hesterberg's
/// expanded percentiles do (The American Statistician 69, 2015).
///
/// Means of values in [0, 1] that are all 0 or all 1 have no spread to draw from: their interval is the exact one of
/// Clopper and Pearson, up to 1 − 0.025^(1/n) or down to 0.025^(1/n). Without values it is [0, 0], and of one value, or
/// of equal ones, the value itself.
#[must_use]
pub fn bootstrap(values: &[f64], n_resamples: usize, seed: Seed) -> [f64; 2] {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n.max(1) as f64;
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let all = |x: f64| n > 1 && values.iter().all(|&v| v == x);
    if all(0.0) || all(1.0) {
        let reach = 1.0 - tail.powf(1.0 / n as f64);
        return if mean == 0.0 { [0.0, reach] } else { [1.0 - reach, 1.0] };
    }
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    if n < 2 || n_resamples == 0 || squares <= 0.0 {
        return [mean; 2];
    }
    let means = resampled(values, n_resamples, seed);
    let (below, equal) = means.iter().fold((0.0, 0.0), |(below, equal), m| match m - mean {
        d if d.abs() <= 1e-12 => (below, equal + 1.0),
        d if d < 0.0 => (below + 1.0, equal),
        _ => (below, equal),
    });
    let bias = normal_quantile((below + equal / 2.0) / n_resamples as f64);
    let cubes: f64 = values.iter().map(|v| (v - mean).powi(3)).sum();
    let acceleration = cubes / (6.0 * squares.powf(1.5));
    let z = t_quantile((n - 1).min(u32::MAX as usize) as u32) * (n as f64 / (n - 1) as f64).sqrt();
    let end = |z: f64| {
        let shifted = bias + z;
        let slope = 1.0 - acceleration * shifted;
        // Beyond the pole there is nothing left to correct: the outermost mean.
        let z = if slope > 0.0 { bias + shifted / slope } else { shifted.signum() * 8.0 };
        quantile(&means, normal_probability(z))
    };
    [end(-z), end(z)]
}

/// Means of resamples, sorted.
fn resampled(values: &[f64], n_resamples: usize, seed: Seed) -> Vec<f64> {
    let n = values.len();
    let mut means: Vec<f64> = (0..n_resamples)
        .map(|resample| {
            let draw = seed.child(BOOTSTRAP).child(resample as u64);
            (0..n).map(|i| values[((draw.uniform(i as u64) * n as f64) as usize).min(n - 1)]).sum::<f64>() / n as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    means
}

/// The quantile of sorted values, linear between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let low = at as usize;
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (at - low as f64) * (sorted[high] - sorted[low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_has_the_width_of_the_binomial() {
        // 400 questions, half right: the standard error is 0.5/20 = 0.025, the interval ±1.96 of it.
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let [low, high] = bootstrap(&values, 4000, Seed(1));
        assert!((low - 0.451).abs() < 0.004 && (high - 0.549).abs() < 0.004, "{low} {high}");
        assert_eq!(bootstrap(&values, 4000, Seed(1)), [low, high]);
    }

    #[test]
    fn what_has_no_spread_has_the_exact_interval() {
        // `scipy.stats.binomtest(30, 30).proportion_ci(method="exact")`: 0.8842967, 1.
        let [low, high] = bootstrap(&[1.0; 30], 100, Seed(1));
        assert!((low - 0.884_296_7).abs() < 1e-6 && high == 1.0, "{low} {high}");
        let [low, high] = bootstrap(&[0.0; 30], 100, Seed(1));
        assert!(low == 0.0 && (high - 0.115_703_3).abs() < 1e-6, "{low} {high}");
        assert_eq!(bootstrap(&[0.5; 7], 100, Seed(1)), [0.5, 0.5]);
        assert_eq!(bootstrap(&[1.0], 100, Seed(1)), [1.0, 1.0]);
        assert_eq!(bootstrap(&[], 100, Seed(1)), [0.0, 0.0]);
    }

    /// A Beta(1/2, 1/2)-like difficulty per question: the square of a sine.
    fn answers(seed: Seed, n: usize, samples: usize, hard: f64) -> Vec<f64> {
        let one = |i: u64| {
            let draw = seed.child(i);
            let p = (std::f64::consts::FRAC_PI_2 * draw.uniform(0)).sin().powf(2.0 * hard);
            (0..samples as u64).filter(|&s| draw.uniform(s + 1) < p).count() as f64 / samples as f64
        };
        (0..n as u64).map(one).collect()
    }

    /// Simulated evaluations, whose true mean is known from 400,000 questions: the interval holds it in 95 % of them.
    #[test]
    fn intervals_cover_as_often_as_they_say() {
        const N: usize = 600;
        for (n, samples, hard) in [(30, 5, 1.0), (30, 1, 1.0), (60, 5, 4.0), (200, 5, 1.0), (200, 1, 4.0)] {
            let many = answers(Seed(77), 400_000 / samples, samples, hard);
            let truth = many.iter().sum::<f64>() / many.len() as f64;
            let covers = |run: u64| {
                let seed = Seed(1000 + run);
                let [low, high] = bootstrap(&answers(seed, n, samples, hard), 500, seed);
                (low..=high).contains(&truth)
            };
            let share = (0..N as u64).filter(|&run| covers(run)).count() as f64 / N as f64;
            // Four standard errors of the simulation itself: 4·√(0.95·0.05/600) = 0.036.
            assert!((share - 0.95).abs() <= 0.036, "{n} questions, {samples} answers: {share}");
        }
    }
}
