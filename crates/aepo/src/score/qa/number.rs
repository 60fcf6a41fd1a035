//! Which number does a text name, as a whole? In digits or words, with a unit or without.

use super::han;
use crate::score::text::{digit, fold_width};

/// Longer texts name no number, bytes.
const MAX_BYTES: usize = 120;

/// A number in its shortest decimal form: 0.`digits` · 10^`exponent`, negated where `is_negative`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    /// Without zeros at either end; empty for 0.
    digits: String,
    exponent: i32,
}

/// A number and what it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number {
    value: Decimal,
    /// The unit's own name in [`UNITS`], or a Chinese counter as it stands.
    unit: Option<String>,
}

impl Number {
    /// Equal values in equal units. A unit that only one of the two has is taken for granted.
    pub(super) fn equals(&self, other: &Number) -> bool {
        let units = match (&self.unit, &other.unit) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        units && self.value == other.value
    }
}

/// Units by their own name, and how else they are written, in lower case.
const UNITS: &[(&str, &[&str])] = &[
    ("%", &["percent", "per cent", "pct"]),
    ("$", &["us$", "usd", "dollar", "dollars", "us dollars", "u.s. dollars", "美元"]),
    ("€", &["eur", "euro", "euros", "欧元"]),
    ("£", &["gbp", "pounds sterling", "英镑"]),
    ("元", &["yuan", "rmb", "cny", "人民币"]),
    ("円", &["yen", "jpy", "日元"]),
    ("m", &["metre", "metres", "meter", "meters", "米"]),
    ("km", &["kilometre", "kilometres", "kilometer", "kilometers", "公里", "千米"]),
    ("cm", &["centimetre", "centimetres", "centimeter", "centimeters", "厘米"]),
    ("mm", &["millimetre", "millimetres", "millimeter", "millimeters", "毫米"]),
    ("mi", &["mile", "miles", "英里"]),
    ("ft", &["foot", "feet", "英尺"]),
    ("in", &["inch", "inches", "英寸"]),
    ("yd", &["yard", "yards"]),
    ("kg", &["kilogram", "kilograms", "公斤", "千克"]),
    ("g", &["gram", "grams", "克"]),
    ("lb", &["lbs", "pound", "pounds"]),
    ("t", &["ton", "tons", "tonne", "tonnes", "吨"]),
    ("year", &["years", "yr", "yrs", "years old", "年", "岁"]),
    ("month", &["months", "个月"]),
    ("week", &["weeks", "周"]),
    ("day", &["days", "天"]),
    ("hour", &["hours", "h", "hr", "hrs", "小时"]),
    ("minute", &["minutes", "min", "mins", "分钟"]),
    ("second", &["seconds", "s", "sec", "secs", "秒"]),
    ("km²", &["km2", "km^2", "sq km", "square km", "square kilometres", "square kilometers", "平方公里", "平方千米"]),
    ("m²", &["m2", "m^2", "sq m", "square metres", "square meters", "平方米"]),
    ("mi²", &["mi2", "sq mi", "square miles"]),
    ("ha", &["hectare", "hectares", "公顷"]),
    ("acre", &["acres"]),
    ("°c", &["degrees celsius", "摄氏度"]),
    ("°f", &["degrees fahrenheit"]),
    ("°", &["degree", "degrees", "度"]),
    ("km/h", &["kmh", "kph", "kilometres per hour", "kilometers per hour"]),
    ("mph", &["miles per hour"]),
    ("people", &["persons", "inhabitants", "人"]),
];

/// Words and characters that multiply, by their power of ten.
const SCALES: &[(&str, i32)] = &[
    ("hundred", 2),
    ("thousand", 3),
    ("million", 6),
    ("billion", 9),
    ("trillion", 12),
    ("百万", 6),
    ("千万", 7),
    ("万亿", 12),
    ("万", 4),
    ("亿", 8),
];

const CURRENCY_SIGNS: &[&str] = &["us$", "$", "€", "£"];

/// Reads a whole text as one number.
pub(super) fn read(text: &str) -> Option<Number> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let text = fold_width(text).to_lowercase();
    let text = text.trim().trim_end_matches(['.', ',', '。']).trim_end();
    let (is_negative, text) = sign(text);
    let currency = CURRENCY_SIGNS.iter().find(|sign| text.starts_with(**sign));
    let text = currency.map_or(text, |sign| text[sign.len()..].trim_start());
    let (is_negative, text) = match currency {
        Some(_) if !is_negative => sign(text),
        _ => (is_negative, text),
    };
    let (mut value, rest) = in_digits(text).or_else(|| in_words(text)).or_else(|| in_han(text))?;
    if rest == "s" && !text.ends_with(" s") {
        // `1930s` is a decade.
        return None;
    }
    let (power, rest) = scale(rest);
    value.exponent = if value.digits.is_empty() { 0 } else { value.exponent.checked_add(power)? };
    value.is_negative = is_negative && !value.digits.is_empty();
    let unit = match (currency, rest) {
        (Some(sign), "") => Some(unit_named(sign)?),
        (Some(_), _) => return None,
        (None, "") => None,
        (None, rest) => Some(unit_named(rest)?),
    };
    Some(Number { value, unit })
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// The unit that a text names.
fn unit_named(text: &str) -> Option<String> {
    let known = UNITS.iter().find(|(name, others)| *name == text || others.contains(&text));
    if let Some((name, _)) = known {
        return Some((*name).to_owned());
    }
    // A Chinese counter: one or two characters (句, 首歌).
    let n_chars = text.chars().count();
    (n_chars <= 2 && text.chars().all(han::is_own_token)).then(|| text.to_owned())
}

/// What multiplies a number in front of it: its power of ten, and what is behind it.
fn scale(text: &str) -> (i32, &str) {
    let found = SCALES.iter().find_map(|(name, power)| {
        let rest = text.strip_prefix(name)?;
        // An English one ends where its word ends.
        let ends = !name.is_ascii() || !rest.starts_with(|c: char| c.is_alphanumeric());
        ends.then_some((*power, rest.trim_start()))
    });
    found.unwrap_or((0, text))
}

/// `1,234.50`, digits of any script; and what is behind it.
fn in_digits(text: &str) -> Option<(Decimal, &str)> {
    let end = text.find(|c| !(matches!(c, '.' | ',') || digit(c).is_some())).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let rest_of_groups: Vec<&str> = groups.collect();
    let n_digits = |text: &str| text.chars().count();
    let is_grouped = rest_of_groups.is_empty() || (1..=3).contains(&n_digits(first));
    if !is_grouped || rest_of_groups.iter().any(|group| n_digits(group) != 3) {
        return None;
    }
    // Every character is a digit, a comma between groups, or the point; a second point or a comma behind it is neither.
    let digits = |text: &str| text.chars().map(|c| digit(c).map(|d| char::from(b'0' + d))).collect::<Option<String>>();
    let whole = digits(&whole.replace(',', ""))?;
    let fraction = digits(fraction)?;
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // A letter that touches the number is a unit or a scale; `5th` is neither and fails there.
    Some((decimal(&whole, &fraction)?, rest.trim_start()))
}

fn decimal(whole: &str, fraction: &str) -> Option<Decimal> {
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let n_dropped = all.len() - digits.len();
    let digits = digits.trim_end_matches('0').to_owned();
    let exponent = i32::try_from(whole.len()).ok()? - i32::try_from(n_dropped).ok()?;
    Some(Decimal { is_negative: false, exponent: if digits.is_empty() { 0 } else { exponent }, digits })
}

/// A cardinal number in English words, and what is behind it.
fn in_words(text: &str) -> Option<(Decimal, &str)> {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    const GROUPS: [(&str, u64); 4] =
        [("thousand", 1000), ("million", 1_000_000), ("billion", 1_000_000_000), ("trillion", 1_000_000_000_000)];
    // Of the present group of three places: what was read, and the least place taken, so that `one two` is no number.
    let (mut total, mut group, mut least) = (0u64, None, 1000u64);
    let mut least_group = u64::MAX;
    let mut rest = text;
    let mut behind = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(value) = SMALL.iter().position(|w| *w == word) {
            let place = if value < 10 { 1 } else { 10 };
            if least <= place || (least == 10 && value == 0) {
                return None;
            }
            group = Some(group.unwrap_or(0) + value as u64);
            least = 1;
        } else if let Some(value) = TENS.iter().position(|w| *w == word) {
            if least <= 10 {
                return None;
            }
            group = Some(group.unwrap_or(0) + 20 + 10 * value as u64);
            least = 10;
        } else if word == "hundred" {
            // `twelve hundred` is said too.
            let times = group.filter(|times| (1..100).contains(times))?;
            group = Some(100 * times);
            least = 100;
        } else if let Some((_, factor)) = GROUPS.iter().find(|(name, _)| *name == word) {
            if *factor >= least_group {
                return None;
            }
            total = total.checked_add(group.take()?.checked_mul(*factor)?)?;
            (least, least_group) = (1000, *factor);
        } else if word != "and" || (total == 0 && group.is_none()) {
            break;
        }
        rest = after.trim_start_matches([' ', '-']);
        if word != "and" {
            behind = after.trim_start();
        }
    }
    if behind.len() == text.len() {
        return None;
    }
    let value = total.checked_add(group.unwrap_or(0))?;
    Some((decimal(&value.to_string(), "")?, behind))
}

/// A number in Chinese numerals, and what is behind it.
fn in_han(text: &str) -> Option<(Decimal, &str)> {
    let end = text.find(|c| !"〇零一二两三四五六七八九十百千万亿".contains(c)).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((decimal(&han::numeral(number)?.to_string(), "")?, rest.trim_start()))
}
