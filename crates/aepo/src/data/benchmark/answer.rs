//! How is the accepted answer taken out of what a benchmark holds for one?

use super::Taking;
use crate::data::boxed::last_boxed_anyhow;
use crate::data::files::lookup::Fault;

/// The accepted answer in the text of a field.
pub fn take(taking: Taking, key: &str, text: &str) -> Result<String, Fault> {
    match taking {
        Taking::Whole => Ok(text.to_owned()),
        Taking::AfterHashes => after_hashes(key, text),
        Taking::Aime => aime(key, text),
        Taking::Boxed => match last_boxed_anyhow(text) {
            Some(answer) => Ok(answer),
            None if key == "solution" => Err(Fault::new(key, "a solution without \\boxed{…}")),
            None => Ok(text.to_owned()),
        },
    }
}

/// `… #### 1,234` is 1234; a number alone is itself. Solutions of GSM8K end so.
fn after_hashes(key: &str, text: &str) -> Result<String, Fault> {
    let number = text.rsplit_once("####").map_or(text, |(_, number)| number).trim();
    let number = number.trim_start_matches('$').replace(',', "");
    if number.parse::<f64>().is_ok_and(f64::is_finite) {
        return Ok(number);
    }
    Err(Fault::new(key, "does not end with #### and a number"))
}

/// `025` is 25. Some copies of the set keep a degree sign, or write the number with a decimal point.
fn aime(key: &str, text: &str) -> Result<String, Fault> {
    let bare = text.trim_matches('$').trim();
    let bare = bare.strip_suffix("^\\circ").or_else(|| bare.strip_suffix('°')).unwrap_or(bare).trim();
    let bare = bare.strip_suffix(".0").unwrap_or(bare);
    match bare.parse::<u16>() {
        Ok(number) if number <= 999 && bare.bytes().all(|b| b.is_ascii_digit()) => Ok(number.to_string()),
        _ => Err(Fault::new(key, "no whole number from 0 to 999")),
    }
}

/// Whether a text is to be compared as mathematics: it holds a digit, a command, or an operator between other things.
#[must_use]
pub fn looks_mathematical(text: &str) -> bool {
    text.chars().any(|c| c.is_ascii_digit() || matches!(c, '\\' | '$' | '=' | '^' | '√' | 'π' | '∞'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_as_each_set_holds_them() {
        let table = [
            (Taking::Whole, "answer", "p - q", Ok("p - q")),
            (Taking::AfterHashes, "answer", "2 + 2 = <<2+2=4>>4\n#### 4", Ok("4")),
            (Taking::AfterHashes, "answer", "#### 1,234,000", Ok("1234000")),
            (Taking::AfterHashes, "answer", "#### -$5.50", Err("key answer: does not end with #### and a number")),
            (Taking::AfterHashes, "answer", "#### $5.50", Ok("5.50")),
            (Taking::AfterHashes, "answer", "18", Ok("18")),
            (Taking::AfterHashes, "answer", "eighteen", Err("key answer: does not end with #### and a number")),
            (Taking::AfterHashes, "answer", "#### nan", Err("key answer: does not end with #### and a number")),
            (Taking::Aime, "answer", "025", Ok("25")),
            (Taking::Aime, "answer", "336^\\circ", Ok("336")),
            (Taking::Aime, "answer", "204.0", Ok("204")),
            (Taking::Aime, "answer", "000", Ok("0")),
            (Taking::Aime, "answer", "1000", Err("key answer: no whole number from 0 to 999")),
            (Taking::Aime, "answer", "+7", Err("key answer: no whole number from 0 to 999")),
            (Taking::Aime, "answer", "\\frac12", Err("key answer: no whole number from 0 to 999")),
            (Taking::Boxed, "solution", "so \\boxed{\\frac{1}{2}}.", Ok("\\frac{1}{2}")),
            (Taking::Boxed, "solution", "so it is 5.", Err("key solution: a solution without \\boxed{…}")),
            (Taking::Boxed, "answer", "5", Ok("5")),
        ];
        for (taking, key, text, expected) in table {
            let got = take(taking, key, text).map_err(|fault| fault.to_string());
            assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn mathematics_is_told_from_words() {
        for text in ["48", "x=y", "\\pi", "2^n", "$q$"] {
            assert!(looks_mathematical(text), "{text}");
        }
        for text in ["Michio Sugeno", "none of them", "肖亮"] {
            assert!(!looks_mathematical(text), "{text}");
        }
    }
}
