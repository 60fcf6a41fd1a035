//! How is a number written? As exactly as its interval deserves, in the unit of its column.

use crate::measure::Unit;
use crate::stats::Estimate;
use crate::summary::Difference;

/// A number in its unit, the unit itself left out.
pub fn number(unit: Unit, value: f64, is_signed: bool) -> String {
    let value = in_unit(unit, value);
    fixed(value, decimals(unit, value), is_signed)
}

fn in_unit(unit: Unit, value: f64) -> f64 {
    match unit {
        Unit::Share => 100.0 * value,
        Unit::Tokens => value / 1000.0,
        Unit::Nats | Unit::Count | Unit::Secs | Unit::Mib => value,
    }
}

fn decimals(unit: Unit, value: f64) -> usize {
    match unit {
        Unit::Share if value.abs() < 1.0 && value != 0.0 => 2,
        Unit::Share => 1,
        Unit::Nats => 3,
        Unit::Count if value.abs() < 10.0 => 2,
        Unit::Count => 1,
        Unit::Secs if value.abs() < 10.0 => 2,
        Unit::Secs if value.abs() < 100.0 => 1,
        Unit::Tokens if value.abs() < 100.0 => 2,
        Unit::Tokens => 1,
        Unit::Secs | Unit::Mib => 0,
    }
}

fn fixed(value: f64, decimals: usize, is_signed: bool) -> String {
    let digits = format!("{:.decimals$}", value.abs());
    let is_zero = digits.chars().all(|c| c == '0' || c == '.');
    let sign = match (is_zero, value < 0.0, is_signed) {
        (true, ..) => "",
        (_, true, _) => "\u{2212}",
        (_, _, true) => "+",
        _ => "",
    };
    format!("{sign}{}", grouped(&digits))
}

/// A thin space between thousands, from five digits on.
fn grouped(digits: &str) -> String {
    let (whole, rest) = digits.split_once('.').map_or((digits, String::new()), |(w, r)| (w, format!(".{r}")));
    if whole.len() < 5 {
        return digits.to_owned();
    }
    let mut out = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push('\u{2009}');
        }
        out.push(c);
    }
    out + &rest
}

/// Mean ± half of the interval; the mean alone for one seed.
pub fn estimate(unit: Unit, estimate: &Estimate, is_signed: bool) -> String {
    let mean = in_unit(unit, estimate.mean);
    // The interval has the decimals of the mean.
    let decimals = decimals(unit, mean);
    let text = fixed(mean, decimals, is_signed);
    match estimate.half_width() {
        Some(half) => format!("{text} ± {}", fixed(in_unit(unit, half), decimals, false)),
        None => text,
    }
}

/// The same, and what the interval says about 0.
pub fn difference(unit: Unit, difference: &Difference) -> String {
    let text = estimate(unit, &difference.estimate, true);
    match difference.contains_zero {
        Some(true) => format!("{text}; contains 0"),
        Some(false) => format!("{text}; excludes 0"),
        None => format!("{text}; one pair"),
    }
}

/// `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// `1 step`, `2 steps`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_decimals_of_their_unit() {
        assert_eq!(number(Unit::Share, 0.4567, false), "45.7");
        assert_eq!(number(Unit::Share, 0.004, true), "+0.40");
        assert_eq!(number(Unit::Nats, -0.0456, true), "\u{2212}0.046");
        assert_eq!(number(Unit::Nats, -0.0001, true), "0.000");
        assert_eq!(number(Unit::Secs, 1234567.0, false), "1\u{2009}234\u{2009}567");
        assert_eq!(number(Unit::Tokens, 14049.0, false), "14.05");
        let two = Estimate::of([(1, 0.5), (2, 0.5)]).unwrap();
        assert_eq!(estimate(Unit::Share, &two, false), "50.0 ± 0.0");
        let wide = Estimate::of([(1, 22.0), (2, 22.2)]).unwrap();
        assert_eq!(estimate(Unit::Count, &wide, false), "22.1 ± 1.3");
        let one = Difference { estimate: Estimate::of([(1, 0.5)]).unwrap(), contains_zero: None };
        assert_eq!(difference(Unit::Share, &one), "+50.0; one pair");
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }
}
