//! Does an answer match by GAIA's rule? Numbers as numbers, lists element by element, everything else as text.
//!
//! The rule of the scorer that GAIA publishes (Mialon et al., arXiv 2311.12983), but that `inf` and `nan` are words here:
//! there every answer that is no number equals the truth `inf`, and none equals `nan`.

use super::text::{digit, is_space};

/// Whether `answer` is right where `truth` is.
///
/// A truth that is a number is compared as one, for which the answer loses `$`, `%` and `,`. A truth with `,` or `;` is a
/// list: the answer must be one of as many elements, each equal as a number, or as a text but for white space and case. Any
/// other truth is compared as a text, without white space, ASCII punctuation and case.
#[must_use]
pub fn equal(answer: &str, truth: &str) -> bool {
    if let Some(value) = float(truth) {
        return is_number(answer, value);
    }
    let is_separator = |c| matches!(c, ',' | ';');
    if !truth.contains(is_separator) {
        return squeezed(answer, false) == squeezed(truth, false);
    }
    let elements_equal = |(answer, truth): (&str, &str)| match float(truth) {
        Some(value) => is_number(answer, value),
        None => squeezed(answer, true) == squeezed(truth, true),
    };
    let n_elements = |text: &str| text.split(is_separator).count();
    n_elements(answer) == n_elements(truth)
        && answer.split(is_separator).zip(truth.split(is_separator)).all(elements_equal)
}

fn is_number(answer: &str, value: f64) -> bool {
    let bare: String = answer.chars().filter(|c| !matches!(c, '$' | '%' | ',')).collect();
    float(&bare) == Some(value)
}

/// A text without white space, in lower case, with punctuation or without.
fn squeezed(text: &str, with_punctuation: bool) -> String {
    let kept: String = text.chars().filter(|c| !is_space(*c)).collect();
    let kept = kept.to_lowercase();
    if with_punctuation { kept } else { kept.chars().filter(|c| !c.is_ascii_punctuation()).collect() }
}

/// The finite number that `float()` of Python reads: white space around it, `_` between digits, digits of any script.
#[must_use]
pub fn float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let mut ascii = String::with_capacity(text.len());
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_between = |next: Option<&char>| before.is_ascii_digit() && next.is_some_and(|c| digit(*c).is_some());
        before = match (c, digit(c)) {
            (_, Some(value)) => char::from(b'0' + value),
            ('_', _) if is_between(chars.peek()) => continue,
            ('+' | '-' | '.' | 'e' | 'E', _) => c,
            _ => return None,
        };
        ascii.push(before);
    }
    ascii.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lists_and_texts() {
        let table = [
            ("10", "10", true),
            ("$1,234.50", "1234.5", true),
            ("50%", "50", true),
            ("ten", "10", false),
            ("1e3", "1000", true),
            ("10 km", "10", false),
            ("ahr,lahn;MOSELLE", "Ahr, Lahn, Moselle", true),
            ("Ahr, Lahn", "Ahr, Lahn, Moselle", false),
            ("Lahn, Ahr, Moselle", "Ahr, Lahn, Moselle", false),
            ("5.0; a b", "5, ab", true),
            ("5; a.b", "5, ab", false),
            ("st louis", "St. Louis", true),
            ("St-Louis!", "St. Louis", true),
            ("inf", "inf", true),
            ("Paris", "inf", false),
            ("NaN", "nan", true),
            ("1e999", "inf", false),
            ("", "", true),
            ("1.5", "15", false),
            ("-5", "5", false),
        ];
        for (answer, truth, expected) in table {
            assert_eq!(equal(answer, truth), expected, "{answer} / {truth}");
        }
    }

    #[test]
    fn numbers_are_read_as_python_does() {
        let table = [
            (" 1_000\n", Some(1000.0)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1_.5", None),
            ("٣.５", Some(3.5)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            (".", None),
            ("", None),
            ("1e", None),
            ("+-1", None),
            ("0x10", None),
            ("inf", None),
            ("1e999", None),
            ("1 2", None),
        ];
        for (text, expected) in table {
            assert_eq!(float(text), expected, "{text:?}");
        }
    }
}
