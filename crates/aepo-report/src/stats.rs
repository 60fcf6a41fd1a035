//! How sure can a few seeds make us? Means with Student's interval, paired differences, the area under a curve.

pub use aepo::eval::quantiles::{CONFIDENCE, t_quantile};
use serde::Serialize;

/// A number per seed, and what they say together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean over seeds.
    pub mean: f64,
    /// The interval of the mean at [`CONFIDENCE`]; absent with a single seed, which says nothing of the spread.
    pub interval: Option<[f64; 2]>,
    /// Seed and value, in the order of the seeds.
    pub values: Vec<(u64, f64)>,
}

impl Estimate {
    /// Mean ± t · s/√n over seeds, s the sample standard deviation, t Student's quantile with n − 1 degrees of freedom.
    /// `None` without a finite value.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = (u64, f64)>) -> Option<Estimate> {
        let mut values: Vec<(u64, f64)> = values.into_iter().filter(|(_, v)| v.is_finite()).collect();
        values.sort_by_key(|(seed, _)| *seed);
        let n = values.len() as f64;
        let mean = values.iter().map(|(_, v)| v).sum::<f64>() / n;
        let interval = (values.len() > 1).then(|| {
            let variance = values.iter().map(|(_, v)| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let half = t_quantile(values.len() as u32 - 1) * (variance / n).sqrt();
            [mean - half, mean + half]
        });
        let is_finite = mean.is_finite() && interval.iter().flatten().all(|x| x.is_finite());
        is_finite.then_some(Estimate { mean, interval, values })
    }

    /// What is added to and taken from the mean.
    #[must_use]
    pub fn half_width(&self) -> Option<f64> {
        self.interval.map(|[low, high]| (high - low) / 2.0)
    }

    /// Whether 0 lies in the interval, its ends included; `None` without an interval.
    #[must_use]
    pub fn contains_zero(&self) -> Option<bool> {
        self.interval.map(|[low, high]| low <= 0.0 && 0.0 <= high)
    }

    /// The differences to `baseline` on the seeds that both have, as an estimate of their own; `None` without any.
    #[must_use]
    pub fn minus(&self, baseline: &Estimate) -> Option<Estimate> {
        let of = |seed: u64| baseline.values.iter().find(|(s, _)| *s == seed).map(|(_, v)| v);
        Estimate::of(self.values.iter().filter_map(|(seed, v)| Some((*seed, v - of(*seed)?))))
    }
}

/// The area under a curve of (x, y), by trapezia, over the width of its x: the mean height. `None` without a width.
#[must_use]
pub fn mean_height(points: &[(f64, f64)]) -> Option<f64> {
    let width = points.last()?.0 - points.first()?.0;
    let area: f64 = points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0).sum();
    (width > 0.0).then_some(area / width)
}

/// Moving mean over `window` values (odd), centred; fewer at both ends, as many before as after.
#[must_use]
pub fn smooth(values: &[f64], window: usize) -> Vec<f64> {
    let at = |i: usize| {
        let reach = (window / 2).min(i).min(values.len() - 1 - i);
        let part = &values[i - reach..=i + reach];
        part.iter().sum::<f64>() / part.len() as f64
    };
    (0..values.len()).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} is not {b}");
    }

    /// SciPy 1.17.1: `scipy.stats.ttest_1samp([.61, .58, .66, .64], 0).confidence_interval(.95)`, and
    /// `scipy.stats.ttest_rel([.61, .58, .66, .64], [.60, .52, .61, .65]).confidence_interval(.95)`
    #[test]
    fn intervals_are_those_of_another_program() {
        let a = Estimate::of([(3, 0.66), (1, 0.61), (4, 0.64), (2, 0.58)]).unwrap();
        let b = Estimate::of([(1, 0.60), (2, 0.52), (3, 0.61), (4, 0.65), (9, 0.1)]).unwrap();
        close(a.mean, 0.6225);
        assert_eq!(a.values[0], (1, 0.61));
        let [low, high] = a.interval.unwrap();
        close(low, 0.5668071896575351);
        close(high, 0.678192810342465);
        let paired = a.minus(&b).unwrap();
        assert_eq!(paired.values.len(), 4, "seed 9 has no partner");
        close(paired.mean, 0.0275);
        let [low, high] = paired.interval.unwrap();
        close(low, -0.02507461657151005);
        close(high, 0.08007461657151005);
        assert_eq!(paired.contains_zero(), Some(true));
        assert_eq!(a.contains_zero(), Some(false));
    }

    #[test]
    fn one_seed_has_no_interval_and_none_no_estimate() {
        let one = Estimate::of([(5, 0.25)]).unwrap();
        assert_eq!((one.mean, one.interval, one.contains_zero()), (0.25, None, None));
        assert_eq!(Estimate::of([]), None);
        assert_eq!(Estimate::of([(1, f64::NAN)]), None);
        assert_eq!(one.minus(&Estimate::of([(6, 0.5)]).unwrap()), None);
        // Equal values: an interval without width, which holds 0 only if they are 0.
        assert_eq!(Estimate::of([(1, 0.0), (2, 0.0)]).unwrap().contains_zero(), Some(true));
    }

    /// NumPy 2: `numpy.trapezoid([.2, .5, .4], [0, 10, 40]) / 40`
    #[test]
    fn the_area_counts_widths() {
        close(mean_height(&[(0.0, 0.2), (10.0, 0.5), (40.0, 0.4)]).unwrap(), 0.425);
        assert_eq!(mean_height(&[(3.0, 0.5)]), None);
        assert_eq!(mean_height(&[]), None);
    }

    #[test]
    fn smoothing_keeps_a_straight_line() {
        let line = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(smooth(&line, 5), line);
        assert_eq!(smooth(&[0.0, 3.0, 0.0, 0.0], 3), [0.0, 1.0, 1.0, 0.0]);
        assert_eq!(smooth(&[], 3), [0.0; 0]);
    }
}
