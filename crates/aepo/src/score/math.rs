//! Do two answers name the same number? Exact rational values, or no number at all.

/// A reduced fraction with a positive denominator, or nothing when a value does not fit 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rational {
    numerator: i128,
    denominator: i128,
}

impl Rational {
    fn new(numerator: i128, denominator: i128) -> Option<Rational> {
        let divisor = i128::try_from(gcd(numerator.unsigned_abs(), denominator.unsigned_abs())).ok()?;
        if denominator == 0 || divisor == 0 {
            return None;
        }
        let sign = if denominator < 0 { -1 } else { 1 };
        Some(Rational {
            numerator: (numerator / divisor).checked_mul(sign)?,
            denominator: (denominator / divisor).checked_mul(sign)?,
        })
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Whether `answer` equals `reference`: as exact values when both are numbers, as texts without spaces around them
/// otherwise.
///
/// Numbers are integers, decimals and fractions of two such, with an optional sign, with commas between groups of
/// three digits, and with an optional `%`. A percentage is its hundredth; but a bare number and a percentage are equal
/// only by value, so `50%` is 0.5 and never 50. Numbers that do not fit 128 bits are compared as digits. When the
/// reference is a bare number, a unit behind the answer (`2381740 square km`) is ignored.
#[must_use]
pub fn equal(answer: &str, reference: &str) -> bool {
    let (answer, reference) = (answer.trim(), reference.trim());
    if answer.is_empty() || reference.is_empty() {
        return false;
    }
    if answer == reference {
        return true;
    }
    let Some(expected) = number(reference) else { return false };
    number(answer).or_else(|| number(without_unit(answer)?)).is_some_and(|value| value == expected)
}

/// Reads a whole text as one number.
fn number(text: &str) -> Option<Rational> {
    let (text, percent) = match text.strip_suffix('%') {
        Some(rest) => (rest.trim_end(), 100),
        None => (text, 1),
    };
    let mut parts = text.split('/');
    let (over, under) = (decimal(parts.next()?.trim())?, parts.next());
    let value = match under {
        None => over,
        Some(under) => {
            let under = decimal(under.trim())?;
            Rational::new(
                over.numerator.checked_mul(under.denominator)?,
                over.denominator.checked_mul(under.numerator)?,
            )?
        }
    };
    if parts.next().is_some() {
        return None;
    }
    Rational::new(value.numerator, value.denominator.checked_mul(percent)?)
}

/// `-1,234.50`: a sign, digits in groups of three or without commas, a point with digits behind it.
fn decimal(text: &str) -> Option<Rational> {
    let (sign, text) = match text.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits_only = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !digits_only(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let rest: Vec<&str> = groups.collect();
    let grouped = rest.is_empty() || (1..=3).contains(&first.len());
    if !digits_only(first) || !grouped || !rest.iter().all(|g| g.len() == 3 && digits_only(g)) {
        return None;
    }
    let mut numerator = 0i128;
    let mut denominator = 1i128;
    for digit in whole.bytes().filter(u8::is_ascii_digit) {
        numerator = numerator.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    for digit in fraction.trim_end_matches('0').bytes() {
        numerator = numerator.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        denominator = denominator.checked_mul(10)?;
    }
    Rational::new(sign * numerator, denominator)
}

/// The first word of an answer whose other words hold only letters, such as a unit and its exponent sign would.
fn without_unit(answer: &str) -> Option<&str> {
    let (value, unit) = answer.split_once(char::is_whitespace)?;
    let is_unit = unit.split_whitespace().all(|word| word.chars().all(|c| c.is_alphabetic() || c == '²' || c == '³'));
    (is_unit && !unit.trim().is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_equal() {
        let table = [
            ("5", "5"),
            (" 5 ", "5"),
            ("+5", "5"),
            ("005", "5"),
            ("5.0", "5"),
            ("5.", "5"),
            (".5", "0.50"),
            ("1/2", "0.5"),
            ("2 / 4", "1/2"),
            ("-1/2", "-0.5"),
            ("1/-2", "-0.5"),
            ("1,234,567", "1234567"),
            ("1,234.50", "1234.5"),
            ("50%", "0.5"),
            ("50 %", "1/2"),
            ("12.5%", "12.50 %"),
            ("-0", "0"),
            ("\u{2212}7", "-7"),
            ("2381740 square km", "2381740"),
            ("2908 m", "2908"),
            ("29.30 years", "29.3"),
            ("12726369558", "12726369558"),
            ("x + 1", "x + 1"),
            ("123456789012345678901234567890123456789012345", "123456789012345678901234567890123456789012345"),
        ];
        for (answer, reference) in table {
            assert!(equal(answer, reference), "{answer} = {reference}");
        }
    }

    #[test]
    fn other_values_are_not() {
        let table = [
            ("1.5", "15"),
            ("15", "1.5"),
            ("-5", "5"),
            ("5", "-5"),
            ("50%", "50"),
            ("50", "50%"),
            ("5", ""),
            ("", "5"),
            ("", ""),
            (" ", " "),
            ("1/0", "0"),
            ("1/0", "2/0"),
            ("1/2/2", "0.25"),
            ("12,34", "1234"),
            ("1,2345", "12345"),
            ("1234,567", "1234567"),
            (",123", "123"),
            ("1,", "1"),
            ("5 6", "5"),
            ("5 or 6", "5"),
            ("5 km", "6"),
            ("5 km", "5 m"),
            ("5", "5 km"),
            ("1e3", "1000"),
            ("--5", "5"),
            ("+-5", "-5"),
            (".", "0"),
            ("-", "0"),
            ("five", "5"),
            ("NaN", "NaN."),
            ("٥", "5"),
            ("123456789012345678901234567890123456789012345", "123456789012345678901234567890123456789012346"),
            ("0.33333", "1/3"),
            ("1000000000000000000000000000000000000001", "1000000000000000000000000000000000000000"),
        ];
        for (answer, reference) in table {
            assert!(!equal(answer, reference), "{answer} ≠ {reference}");
        }
    }

    #[test]
    fn no_text_is_trouble() {
        let long = "9".repeat(100_000);
        assert!(!equal(&format!("{long}/{long}"), "1"));
        assert!(!equal(&"/".repeat(1000), "1"));
        assert!(!equal(&i128::MIN.to_string(), "1/3"));
        assert!(!equal("1/170141183460469231731687303715884105728", "-170141183460469231731687303715884105728/1"));
    }
}
