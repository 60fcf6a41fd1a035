//! What do graders of texts call a space, a letter, a digit? What Python calls so, in whose terms the official scorers
//! are written.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

/// White space as `str.split` and `\s` of Python know it: Unicode's, and the four separators of ASCII.
#[must_use]
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// A character of a word as `\w` of Python knows it: letters, numbers and `_`. Marks, such as an accent that was written
/// apart from its letter, are none.
#[must_use]
pub fn is_word_char(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    matches!(
        get_general_category(c),
        Category::LowercaseLetter
            | Category::UppercaseLetter
            | Category::TitlecaseLetter
            | Category::ModifierLetter
            | Category::OtherLetter
            | Category::DecimalNumber
            | Category::LetterNumber
            | Category::OtherNumber
    )
}

/// The value of a decimal digit of any script, 0 to 9.
#[must_use]
pub fn digit(c: char) -> Option<u8> {
    let is_decimal = |c: char| get_general_category(c) == Category::DecimalNumber;
    if c.is_ascii() {
        return c.is_ascii_digit().then(|| c as u8 - b'0');
    }
    if !is_decimal(c) {
        return None;
    }
    // Digits stand in the code in tens, 0 first, and never more than a few tens in a row.
    let before = (1..c as u32).take_while(|n| char::from_u32(c as u32 - n).is_some_and(is_decimal)).count();
    u8::try_from(before % 10).ok()
}

/// `text` with the wide forms of ASCII, which Chinese and Japanese text has (`Ａ`, `１`, `，`), as ASCII.
#[must_use]
pub fn fold_width(text: &str) -> String {
    let fold = |c| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        other => other,
    };
    text.chars().map(fold).collect()
}

/// Characters of a text that a person is shown.
const MAX_SHOWN_CHARS: usize = 60;

/// `text` for a person: one short line.
#[must_use]
pub fn shown(text: &str) -> String {
    // A bound on what is looked at, so that a long text of nothing costs nothing.
    let start = text.chars().take(4 * MAX_SHOWN_CHARS);
    let line: String = start.map(|c| if c.is_control() || is_space(c) { ' ' } else { c }).collect();
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if text.chars().nth(4 * MAX_SHOWN_CHARS).is_some() => format!("{line}…"),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_every_script_have_their_value() {
        let table = [('7', 7), ('٣', 3), ('०', 0), ('９', 9), ('\u{1d7ff}', 9), ('\u{1d7d8}', 0)];
        for (c, value) in table {
            assert_eq!(digit(c), Some(value), "{c}");
        }
        assert_eq!(['a', '½', '十', '²'].map(digit), [None; 4]);
    }

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(shown(" a\n\tb\u{0} "), "a b");
        assert_eq!(shown(&"x".repeat(61)), format!("{}…", "x".repeat(60)));
        assert_eq!(shown(&" ".repeat(1 << 20)), "…");
        assert_eq!(fold_width("Ａ（１）\u{3000}中"), "A(1) 中");
    }
}
