//! Is a word a unit, and what is its one spelling?

/// Units with all their spellings; the first is the one that is compared. Names are lower case; a plural `s` is taken
/// off before the search.
const UNITS: &[&[&str]] = &[
    &["%", "percent", "percentage", "pct"],
    &["°", "degree", "deg"],
    &["rad", "radian"],
    &["$", "dollar", "usd", "buck"],
    &["cent", "¢"],
    &["€", "euro", "eur"],
    &["£", "pound sterling", "gbp"],
    &["¥", "yen", "yuan", "rmb", "cny", "jpy"],
    &["mm", "millimeter", "millimetre"],
    &["cm", "centimeter", "centimetre"],
    &["dm", "decimeter", "decimetre"],
    &["m", "meter", "metre"],
    &["km", "kilometer", "kilometre", "kms"],
    &["in", "inch", "inches"],
    &["ft", "foot", "feet"],
    &["yd", "yard"],
    &["mi", "mile"],
    &["mg", "milligram"],
    &["g", "gram", "gm"],
    &["kg", "kilogram", "kilo"],
    &["t", "ton", "tonne"],
    &["lb", "pound"],
    &["oz", "ounce"],
    &["ml", "milliliter", "millilitre"],
    &["l", "liter", "litre"],
    &["gal", "gallon"],
    &["s", "sec", "second"],
    &["min", "minute"],
    &["h", "hr", "hour"],
    &["day"],
    &["week", "wk"],
    &["month"],
    &["year", "yr"],
    &["mph"],
    &["kmh", "kph", "kmph"],
    &["hz", "hertz"],
    &["n", "newton"],
    &["j", "joule"],
    &["w", "watt"],
    &["k", "kelvin"],
    &["v", "volt"],
    &["unit"],
    &["person", "people"],
    &["child", "children"],
    &["man", "men"],
    &["woman", "women"],
    &["penny", "pennies"],
];

/// Words behind a number that multiply it, as powers of ten; a dozen stands beside them.
const MULTIPLIERS: &[(&str, u32)] =
    &[("hundred", 2), ("thousand", 3), ("million", 6), ("billion", 9), ("trillion", 12)];

/// Words behind a number that say something else about it than its unit does.
const CHANGES_VALUE: &[&str] = &[
    "half",
    "halves",
    "third",
    "quarter",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "hundredth",
    "thousandth",
    "squared",
    "cubed",
    "factorial",
    "less",
    "more",
    "than",
    "over",
    "under",
    "plus",
    "minus",
    "times",
    "below",
    "above",
    "negative",
    "zero",
    "not",
    "no",
    "least",
    "most",
    "about",
    "approximately",
    "divided",
    "multiplied",
    "dozen",
    "to",
    "is",
    "if",
    "but",
    "wrong",
    "base",
    "mod",
    "modulo",
];

/// The power of ten that a word behind a number stands for.
pub fn multiplier(word: &str) -> Option<u32> {
    MULTIPLIERS.iter().find(|(name, _)| *name == word.trim().to_lowercase()).map(|(_, power)| *power)
}

/// Whether a word behind a number, or one of several, changes its value, so that it cannot be left out as a unit can.
/// `first`: whether no other word stands before it, which may be squared: "5 metres squared" has a unit, "5 squared"
/// none.
pub fn changes_value(words: &str, first: bool) -> bool {
    let lower = words.to_lowercase();
    let one = |w: &str| CHANGES_VALUE.contains(&w) || MULTIPLIERS.iter().any(|(name, _)| *name == w);
    let changes = |(idx, w): (usize, &str)| {
        let squares_unit = matches!(w, "squared" | "cubed") && (idx > 0 || !first);
        !squares_unit && (one(w) || w.strip_suffix('s').is_some_and(one))
    };
    lower.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).enumerate().any(changes)
}

/// Units of one letter that are not rather variables behind a number and a space.
const SINGLE_LETTERS: &[&str] = &["m", "g", "s", "h", "L", "N", "J", "W", "V"];

/// The one spelling of a word in a unit.
pub fn canonical(word: &str) -> String {
    let lower = word.trim_end_matches('.').to_lowercase();
    let find = |word: &str| UNITS.iter().find(|spellings| spellings.contains(&word)).map(|s| s[0].to_owned());
    if let Some(unit) = find(&lower) {
        return unit;
    }
    let singular = match lower.strip_suffix("ies") {
        Some(stem) if stem.len() > 1 => format!("{stem}y"),
        _ => match lower.strip_suffix('s') {
            Some(stem) if stem.len() > 1 && !stem.ends_with('s') => stem.to_owned(),
            _ => lower,
        },
    };
    find(&singular).unwrap_or(singular)
}

/// Whether a word stands for a unit that is in the table.
fn is_known(word: &str) -> bool {
    let unit = canonical(word);
    UNITS.iter().any(|spellings| spellings[0] == unit)
}

/// Whether a bare word behind a number is a unit and not a product of variables. `spaced`: whether white space stands
/// between both.
pub fn is_unit(word: &str, spaced: bool) -> bool {
    match word.len() {
        1 => spaced && SINGLE_LETTERS.contains(&word),
        2 | 3 => is_known(word) || (word.len() == 3 && spaced && has_vowel(word) && !is_run(word)),
        _ => spaced || is_known(word),
    }
}

/// Whether a word can be spoken, as one of a language can, unlike `xyz`.
pub fn has_vowel(word: &str) -> bool {
    word.chars().any(|c| matches!(c.to_ascii_lowercase(), 'a' | 'e' | 'i' | 'o' | 'u' | 'y'))
        && !word.chars().all(|c| matches!(c, 'x' | 'y' | 'z'))
}

/// Whether letters are neighbours in the alphabet, in whatever order: `abc` is a product.
pub fn is_run(word: &str) -> bool {
    let mut letters = word.as_bytes().to_vec();
    letters.sort_unstable();
    letters.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]))
}

/// The one spelling of a whole unit: its words, powers behind them, "square", "cubic", "per" and "/".
pub fn spelling(words: &[(String, Option<String>)]) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut power_to_come = None;
    for (word, power) in words {
        for word in word.split(|c: char| c.is_whitespace() || c == '-').filter(|w| !w.is_empty()) {
            match word.to_lowercase().as_str() {
                after @ ("squared" | "cubed") if !out.is_empty() => {
                    let last = out.len() - 1;
                    out[last].push_str(if after == "squared" { "^2" } else { "^3" });
                }
                "square" | "sq" | "sq." => power_to_come = Some("2".to_owned()),
                "cubic" | "cu" => power_to_come = Some("3".to_owned()),
                "per" | "/" | "an" | "a" if !out.is_empty() => out.push("/".to_owned()),
                "per" | "/" | "the" | "of" | "in" if out.is_empty() => {}
                _ => {
                    let unit = word.split('/').map(canonical).collect::<Vec<_>>().join(" / ");
                    out.push(match power_to_come.take() {
                        Some(power) => format!("{unit}^{power}"),
                        None => unit,
                    });
                }
            }
        }
        if let (Some(power), Some(last)) = (power, out.last_mut())
            && !last.contains('^')
        {
            last.push('^');
            last.push_str(power);
        }
    }
    if out.is_empty() && power_to_come.is_some() {
        out.push("unit^2".to_owned());
    }
    match out.join(" ").as_str() {
        "mi / h" => "mph".to_owned(),
        "km / h" => "kmh".to_owned(),
        other => other.to_owned(),
    }
}
