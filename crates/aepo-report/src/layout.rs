//! Where on the paper does a value lie? Scales, round ticks, and names that fit.

use crate::measure::Unit;

/// Values to coordinates, along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Value at the beginning.
    pub low: f64,
    /// Value at the end.
    pub high: f64,
    /// Coordinate of the beginning.
    pub from: f64,
    /// Coordinate of the end.
    pub to: f64,
}

impl Scale {
    /// The coordinate of a value; one outside lies on the edge.
    pub fn at(&self, value: f64) -> f64 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    /// The same values along other coordinates.
    pub fn along(self, from: f64, to: f64) -> Scale {
        Scale { from, to, ..self }
    }
}

/// A scale that holds `values`, about `n_ticks` round ticks on it, and the distance of two. It begins at 0 where the
/// values are positive and reach down to a third of the largest.
pub fn fit(values: impl IntoIterator<Item = f64>, n_ticks: usize) -> (Scale, Vec<f64>, f64) {
    let finite = values.into_iter().filter(|v| v.is_finite());
    let (mut low, mut high) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        (low, high) = (0.0, 1.0);
    }
    if low > 0.0 && low < high / 3.0 {
        low = 0.0;
    }
    if high - low <= 1e-12 * high.abs().max(low.abs()).max(1e-3) {
        let around = if high == 0.0 { 0.5 } else { 0.1 * high.abs() };
        (low, high) = (low - around, high + around);
    }
    let step = round_step((high - low) / n_ticks.max(1) as f64);
    let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
    // Each end is a tick unless that would leave more than half a step of nothing.
    let low = if low - first * step > 0.6 * step { low - 0.08 * step } else { first * step };
    let high = if last * step - high > 0.6 * step { high + 0.08 * step } else { last * step };
    let n = ((last - first) as usize).min(50);
    let ticks = (0..=n).map(|i| (first + i as f64) * step);
    let ticks = ticks.filter(|t| *t >= low - 1e-9 * step && *t <= high + 1e-9 * step).collect();
    (Scale { low, high, from: 0.0, to: 1.0 }, ticks, step)
}

fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0].into_iter().find(|m| m * power >= rough * 0.999);
    step.unwrap_or(10.0) * power
}

/// A tick's label, as exact as the distance of two ticks asks for.
pub fn tick(unit: Unit, value: f64, step: f64) -> String {
    let factor = match unit {
        Unit::Share => 100.0,
        Unit::Tokens => 1e-3,
        Unit::Nats | Unit::Count | Unit::Secs | Unit::Mib => 1.0,
    };
    let (value, step) = (value * factor, step * factor);
    let decimals = (0..6).find(|d| {
        let scaled = step * 10f64.powi(*d);
        (scaled - scaled.round()).abs() < 1e-6 * scaled.abs()
    });
    let text = format!("{value:.*}", decimals.unwrap_or(6) as usize);
    if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        return "0".to_owned();
    }
    text.replace('-', "\u{2212}")
}

/// A name, and the unit in brackets where there is one; a difference of shares is in percentage points.
pub fn with_unit(name: &str, unit: Unit, is_difference: bool) -> String {
    match unit {
        Unit::Share if is_difference => format!("{name} (points)"),
        Unit::Share => format!("{name} (%)"),
        Unit::Nats => format!("{name} (nats)"),
        Unit::Count => name.to_owned(),
        Unit::Tokens => format!("{name} (thousand)"),
        Unit::Secs => format!("{name} (s)"),
        Unit::Mib => format!("{name} (MiB)"),
    }
}

/// A name in at most `n` characters.
pub fn short(name: &str, n: usize) -> String {
    if name.chars().count() <= n { name.to_owned() } else { name.chars().take(n.max(1) - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_the_values() {
        for (values, expected) in [
            (vec![0.41, 0.78], vec![0.4, 0.5, 0.6, 0.7, 0.8]),
            (vec![0.1, 0.9], vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (vec![-3.0, 7.0], vec![-4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0]),
            (vec![], vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ] {
            let (scale, ticks, _) = fit(values.clone(), 5);
            assert_eq!(ticks.len(), expected.len(), "{ticks:?}");
            assert!(ticks.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "{ticks:?} {expected:?}");
            assert!(values.iter().all(|v| *v >= scale.low && *v <= scale.high));
        }
    }

    #[test]
    fn values_without_spread_have_a_scale() {
        for value in [0.0, 5.0, -2.0, 1e-9, 1e300] {
            let (scale, ticks, _) = fit([value, value], 4);
            assert!(scale.low < value.max(scale.low + 1e-30) && scale.high > scale.low && !ticks.is_empty(), "{value}");
            assert!(scale.along(10.0, 20.0).at(value).is_finite());
        }
    }

    #[test]
    fn labels_are_as_exact_as_their_distance() {
        assert_eq!(tick(Unit::Share, 0.425, 0.025), "42.5");
        assert_eq!(tick(Unit::Share, 0.4, 0.1), "40");
        assert_eq!(tick(Unit::Nats, -0.05, 0.05), "\u{2212}0.05");
        assert_eq!(tick(Unit::Nats, -1e-17, 0.05), "0");
        assert_eq!(tick(Unit::Tokens, 15000.0, 5000.0), "15");
        assert_eq!(short("reinforce++", 6), "reinf…");
    }
}
