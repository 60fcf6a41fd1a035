//! Which day, or which month, does a text name, as a whole?

use super::han;
use crate::score::text::fold_width;

/// Longer texts name no date, bytes.
const MAX_BYTES: usize = 80;

/// A day or a month; what is not said is `None`. A year alone is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    year: Option<u16>,
    month: u8,
    day: Option<u8>,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// `October 22, 1930`, `22nd of Oct. 1930`, `1930-10-22`, `22/10/1930`, `1930年10月22日`, `October 1930`, `October 22`.
/// In figures alone, day and month must be told apart by their size: `03/04/1930` is two days.
pub(super) fn read(text: &str) -> Option<Date> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let text = fold_width(text).to_lowercase();
    let text = text.trim().trim_end_matches(['.', '。']);
    in_figures(text).or_else(|| in_han(text)).or_else(|| in_words(text))
}

fn date(year: Option<u16>, month: u8, day: Option<u8>) -> Option<Date> {
    let good = (1..=12).contains(&month) && day.is_none_or(|day| (1..=31).contains(&day));
    (good && (year.is_some() || day.is_some())).then_some(Date { year, month, day })
}

fn figures<T: std::str::FromStr>(text: &str, n: std::ops::RangeInclusive<usize>) -> Option<T> {
    let good = n.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().ok())?
}

fn in_figures(text: &str) -> Option<Date> {
    let separator = ['-', '/', '.'].into_iter().find(|c| text.contains(*c))?;
    let parts: Vec<&str> = text.split(separator).collect();
    let [first, second, third] = parts[..] else { return None };
    if let Some(year) = figures(first, 4..=4) {
        return date(Some(year), figures(second, 1..=2)?, Some(figures(third, 1..=2)?));
    }
    let year = Some(figures(third, 4..=4)?);
    let (a, b): (u8, u8) = (figures(first, 1..=2)?, figures(second, 1..=2)?);
    match (a > 12, b > 12) {
        (true, false) => date(year, b, Some(a)),
        (false, true) => date(year, a, Some(b)),
        (false, false) if a == b => date(year, a, Some(a)),
        _ => None,
    }
}

fn in_han(text: &str) -> Option<Date> {
    let value = |text: &str| -> Option<u16> {
        let text = text.trim();
        figures(text, 1..=4).or_else(|| u16::try_from(han::numeral(text)?).ok())
    };
    let small = |text: &str| u8::try_from(value(text)?).ok();
    let (year, rest) = match text.split_once('年') {
        Some((year, rest)) => (Some(value(year)?), rest),
        None => (None, text),
    };
    let (month, rest) = rest.split_once('月')?;
    let day = rest.trim();
    let day = match day.strip_suffix(['日', '号']) {
        Some(day) => Some(small(day)?),
        None if day.is_empty() => None,
        None => return None,
    };
    date(year, small(month)?, day)
}

fn in_words(text: &str) -> Option<Date> {
    let (mut year, mut month, mut day) = (None, None, None);
    let mut n_words = 0;
    for word in text.split([' ', ',', '.', '-', '/']).filter(|word| !word.is_empty()) {
        n_words += 1;
        // `Sept` is written too, and any month by its first three letters.
        let is_short_for = |whole: &&str| word.len() >= 3 && whole.starts_with(word);
        if let Some(found) = MONTHS.iter().position(is_short_for) {
            let found = u8::try_from(found + 1).ok()?;
            if month.replace(found).is_some() {
                return None;
            }
        } else if DAYS.iter().any(is_short_for) && n_words == 1 {
            // The day of the week in front follows from the date.
        } else if let Some(found) = figures(word, 3..=4) {
            if year.replace(found).is_some() {
                return None;
            }
        } else if !matches!(word, "of" | "the" | "on" | "in") {
            let ordinal = ["st", "nd", "rd", "th"].iter().find_map(|end| word.strip_suffix(end));
            let found: u8 = figures(ordinal.unwrap_or(word), 1..=2)?;
            if day.replace(found).is_some() {
                return None;
            }
        }
    }
    date(year, month?, day)
}
