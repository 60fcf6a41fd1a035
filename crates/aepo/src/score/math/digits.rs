//! Which number do digits name? Separators of thousands, points, exponents, bases, and Unicode's small digits.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::pow;

/// More digits are compared as text.
const MAX_DIGITS: usize = 2000;
/// The largest size of an exponent behind `e`.
const MAX_EXPONENT: i64 = 2000;

/// Signs of `^{…}` in Unicode.
pub const SUPERSCRIPTS: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻";

/// A number at the beginning of a text.
pub struct Decimal {
    /// Without separators; may hold a point and an exponent.
    pub digits: String,
    pub n_bytes: usize,
    /// Whether commas that might also separate members of a list were read as separators of thousands.
    pub grouped: bool,
}

/// Reads digits, a point with digits, an exponent. `commas`: whether a bare comma may separate thousands.
pub fn decimal(text: &str, commas: bool) -> Option<Decimal> {
    let mut at = run(text);
    let mut digits = text[..at].to_owned();
    let mut grouped = false;
    if (1..=3).contains(&at) && !text.starts_with('0') {
        let mut separator = None;
        while let Some((kind, n)) = group(&text[at..], commas).filter(|(kind, _)| separator.is_none_or(|s| s == *kind))
        {
            separator = Some(kind);
            at += n;
            digits.push_str(&text[at - 3..at]);
        }
        grouped = separator == Some(Separator::Comma);
    }
    if text[at..].starts_with('.') {
        let n = run(&text[at + 1..]);
        // A point without digits ends a number (or a sentence) only where nothing else follows it.
        let ends = text[at + 1..].chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '.');
        if n > 0 {
            digits.push_str(&text[at..=at + n]);
            at += 1 + n;
            let repeats = ["\\overline{", "\\overline {", "\\bar{"].iter().any(|s| text[at..].starts_with(s));
            if text[at..].starts_with('.') && !repeats && text[at + 1..].starts_with(|c: char| c.is_ascii_digit()) {
                return None;
            }
        } else if text[at + 1..].starts_with("\\overline") || text[at + 1..].starts_with("\\bar{") {
            digits.push('.');
            at += 1;
        } else if ends {
            at += 1;
        } else {
            return None;
        }
    }
    if let Some(n) = exponent(&text[at..]) {
        digits.push_str(&text[at..at + n]);
        at += n;
    }
    (digits.len() <= MAX_DIGITS).then_some(Decimal { digits, n_bytes: at, grouped })
}

#[derive(Clone, Copy, PartialEq)]
enum Separator {
    Comma,
    /// `{,}`, `,\!`: made to stand inside a number.
    Bound,
    Space,
}

/// A separator of thousands and exactly three digits: which, and how many bytes both have.
fn group(text: &str, commas: bool) -> Option<(Separator, usize)> {
    let skipped = |rest: &str| text.len() - rest.len();
    let (kind, at) = if let Some(rest) = text.strip_prefix("{,}") {
        (Separator::Bound, skipped(rest))
    } else if let Some(mut rest) = text.strip_prefix(',') {
        let mut kind = Separator::Comma;
        while let Some(more) = rest.strip_prefix("\\!") {
            (kind, rest) = (Separator::Bound, more);
        }
        if kind == Separator::Bound {
            rest = rest.trim_start_matches(' ');
        }
        (kind, skipped(rest))
    } else {
        let spaces = ["\\,", "\\ ", "~", " ", "\u{a0}", "\u{2009}", "\u{202f}"];
        (Separator::Space, spaces.iter().find(|s| text.starts_with(**s))?.len())
    };
    if kind == Separator::Comma && !commas {
        return None;
    }
    let digits = &text[at..];
    // `1 234/5` and `2 100_8` are not numbers with separators.
    let plain = kind != Separator::Space || !digits[run(digits)..].trim_start().starts_with(['/', '_']);
    (run(digits) == 3 && plain).then_some((kind, at + 3))
}

/// How many ASCII digits the text begins with.
fn run(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// The length of `e5`, `E-5`: an exponent that no letter follows.
fn exponent(text: &str) -> Option<usize> {
    let rest = text.strip_prefix(['e', 'E'])?;
    let sign = usize::from(rest.starts_with(['+', '-']));
    let n = run(&rest[sign..]);
    let ends = !rest[sign + n..].starts_with(|c: char| c.is_alphanumeric() || c == '.');
    ((1..=4).contains(&n) && ends).then_some(1 + sign + n)
}

/// The value of what [`decimal`] has read.
pub fn value(digits: &str) -> Option<BigRational> {
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if digits.len() > MAX_DIGITS || exponent.abs() > MAX_EXPONENT || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let number = BigInt::parse_bytes(format!("{whole}{fraction}").as_bytes(), 10)?;
    let shift = exponent - i64::try_from(fraction.len()).ok()?;
    let power = pow(BigInt::from(10), usize::try_from(shift.unsigned_abs()).ok()?);
    Some(if shift < 0 { BigRational::new(number, power) } else { BigRational::from_integer(number * power) })
}

/// The value of `digits` followed by `period` for ever: 0.1 and 6 are 1/6.
pub fn repeating(digits: &str, period: &str) -> Option<BigRational> {
    let (_, fraction) = digits.split_once('.')?;
    if digits.contains(['e', 'E']) || period.is_empty() || !period.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let start = if digits.ends_with('.') { value(&format!("{digits}0"))? } else { value(digits)? };
    if fraction.len() + period.len() > MAX_DIGITS {
        return None;
    }
    let nines = pow(BigInt::from(10), period.len()) - 1;
    let behind =
        BigRational::new(BigInt::parse_bytes(period.as_bytes(), 10)?, nines * pow(BigInt::from(10), fraction.len()));
    Some(start + behind)
}

/// `17_8` at the beginning of a text.
pub struct Based {
    pub digits: String,
    pub base: u32,
    pub n_bytes: usize,
}

/// Reads digits (`0`–`9`, `A`–`Z`) with a base from 2 to 36 below them.
pub fn based(text: &str) -> Option<Based> {
    let n = text.bytes().take_while(|b| b.is_ascii_digit() || b.is_ascii_uppercase()).take(MAX_DIGITS).count();
    let digits = &text[..n];
    let rest = text[n..].trim_start_matches(' ').strip_prefix('_')?.trim_start_matches(' ');
    if !digits.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    let in_braces = rest.strip_prefix('{');
    let base_text = in_braces.unwrap_or(rest);
    let skipped = base_text.len() - base_text.trim_start_matches(' ').len();
    let base_text = base_text.trim_start_matches(' ');
    let n_base = run(base_text);
    let base: u32 = base_text[..n_base].parse().ok().filter(|base| (2..=36).contains(base))?;
    let after = &base_text[n_base..];
    let closing =
        if in_braces.is_some() { after.len() - after.trim_start_matches(' ').strip_prefix('}')?.len() } else { 0 };
    let before = text.len() - n - rest.len();
    digits.chars().all(|c| c.is_digit(base)).then(|| Based {
        digits: digits.to_owned(),
        base,
        n_bytes: n + before + usize::from(in_braces.is_some()) + skipped + n_base + closing,
    })
}

/// The plain sign of a raised one.
pub fn from_superscript(c: char) -> Option<char> {
    let idx = SUPERSCRIPTS.chars().position(|s| s == c)?;
    "0123456789-".chars().nth(idx)
}

/// `½` as numerator and denominator.
pub fn vulgar_fraction(c: char) -> Option<(&'static str, &'static str)> {
    let table = [
        ('½', "1", "2"),
        ('⅓', "1", "3"),
        ('⅔', "2", "3"),
        ('¼', "1", "4"),
        ('¾', "3", "4"),
        ('⅕', "1", "5"),
        ('⅖', "2", "5"),
        ('⅗', "3", "5"),
        ('⅘', "4", "5"),
        ('⅙', "1", "6"),
        ('⅚', "5", "6"),
        ('⅛', "1", "8"),
        ('⅜', "3", "8"),
        ('⅝', "5", "8"),
        ('⅞', "7", "8"),
    ];
    table.iter().find(|(sign, ..)| *sign == c).map(|(_, over, under)| (*over, *under))
}
