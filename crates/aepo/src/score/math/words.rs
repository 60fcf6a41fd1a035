//! Do two texts say the same words? And what of a text is dressing: dollar signs, boxes, spaces.

use std::borrow::Cow;

use super::{extract, names, units};

/// Words of two letters; other pairs of letters are products.
const SHORT_WORDS: [&str; 26] = [
    "am", "an", "as", "at", "be", "by", "do", "go", "he", "if", "in", "is", "it", "me", "my", "no", "of", "on", "or",
    "so", "to", "up", "us", "we", "ok", "hi",
];

/// More layers of dressing are left on: taking one off looks at the whole text.
const MAX_LAYERS: usize = 8;

/// Whether letters make a word of a language rather than a product of variables.
pub fn is_word(word: &str) -> bool {
    if names::plain(word).is_some() {
        return false;
    }
    match word.len() {
        0 | 1 => false,
        2 => SHORT_WORDS.contains(&word.to_ascii_lowercase().as_str()),
        3 => units::has_vowel(word) && !units::is_run(word),
        _ => !units::is_run(word),
    }
}

/// Lower case, single spaces.
pub fn folded(text: &str) -> String {
    let lower = text.to_lowercase();
    let mut out = String::with_capacity(lower.len());
    for word in lower.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// A text without what stands around an answer: dollar signs, `\(…\)`, `\boxed{…}`, asterisks, a final full stop; with
/// ASCII in place of full-width signs.
pub fn undressed(text: &str) -> Cow<'_, str> {
    let mut inside = text.trim();
    for _ in 0..MAX_LAYERS {
        let before = inside;
        // A space that is escaped, as in `5\ `, is cut with its backslash.
        inside = inside.strip_suffix('\\').filter(|s| !s.ends_with('\\')).unwrap_or(inside).trim();
        // Three points are no full stop, and `\left.` is no end of a sentence.
        let goes_on = |stem: &&str| [".", "\\left", "\\right"].iter().any(|end| stem.ends_with(end));
        if let Some(stem) = inside.strip_suffix(['.', '。']).filter(|stem| !goes_on(stem)) {
            inside = stem.trim_end();
        }
        for (open, close) in [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**")] {
            let between = inside.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
            // The signs of `$18 and $20$` do not belong together, but `\$` is no such sign.
            let belongs = |b: &str| !b.match_indices(open).any(|(at, _)| !b[..at].ends_with('\\'));
            if let Some(between) = between.filter(|b| belongs(b) && !b.ends_with('\\')) {
                inside = between.trim();
            }
        }
        for open in ["\\boxed{", "\\fbox{"] {
            if let Some(rest) = inside.strip_prefix(open)
                && extract::balanced(rest) == Some(rest.len().wrapping_sub(1))
            {
                inside = rest[..rest.len() - 1].trim();
            }
        }
        if inside.len() == before.len() {
            break;
        }
    }
    let is_wide = |c: char| ('\u{ff01}'..='\u{ff5e}').contains(&c) || c == '\u{3000}';
    if !inside.contains(is_wide) {
        return Cow::Borrowed(inside);
    }
    let narrow = |c: char| match c {
        '\u{3000}' => ' ',
        c if is_wide(c) => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        c => c,
    };
    Cow::Owned(inside.chars().map(narrow).collect())
}

/// The words of a text that consists of nothing else, case-folded: outside of or inside `\text{…}` and its like, or a
/// single letter there or in brackets as for a choice. Nothing for any other text.
pub fn only_words(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut wrapped = false;
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let n = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        match names::command(&rest[..n]) {
            Some(names::Meaning::Text) => {
                let inside = rest[n..].trim_start().strip_prefix('{')?;
                let length = extract::balanced(inside)?;
                plain.push_str(&inside[..length]);
                rest = &inside[length + 1..];
                wrapped = true;
            }
            Some(names::Meaning::Nothing) => {
                plain.push(' ');
                rest = &rest[n..];
            }
            None if n == 0 && rest.starts_with([' ', ',', ';', ':', '!']) => {
                plain.push(' ');
                rest = &rest[1..];
            }
            _ => return None,
        }
    }
    plain.push_str(rest);
    let words = plain.trim().trim_end_matches('.');
    let in_brackets = words.strip_prefix('(').and_then(|w| w.strip_suffix(')'));
    let words = in_brackets.unwrap_or(words);
    let is_part = |c: char| c.is_alphabetic() || c.is_whitespace() || matches!(c, '-' | '\'' | '’');
    if !words.chars().all(is_part) || !words.contains(char::is_alphabetic) {
        return None;
    }
    let has_word = words.split(|c: char| !c.is_alphabetic()).any(|w| is_word(w) || !w.is_ascii());
    let is_letter = words.chars().count() == 1 && (wrapped || in_brackets.is_some());
    let has_sign = words.contains('-') && !has_word;
    (!has_sign && (wrapped || has_word || is_letter)).then(|| folded(words))
}

/// A text without white space and without what changes only its typesetting, for what is not read as an expression.
/// Space between two digits stays: `4 2` is not `42`.
pub fn typeset(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut spaced = false;
    // Of each open brace, whether it belongs to a `\text{…}` and is left out.
    let mut braces: Vec<bool> = Vec::new();
    let mut is_text = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '\\' {
            let after = &rest[1..];
            let n = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let next = after.chars().next();
            rest = &after[n..];
            match (&after[..n], next) {
                ("left" | "right" | "displaystyle" | "quad" | "qquad", _) => {}
                ("dfrac" | "tfrac", _) => out.push_str("\\frac"),
                ("text" | "mbox" | "textbf" | "textrm" | "mathrm", _) => is_text = rest.trim_start().starts_with('{'),
                ("", Some(',' | ';' | ':' | '!' | ' ')) => {
                    spaced = true;
                    rest = &after[1..];
                }
                ("", Some(escaped)) => {
                    out.push('\\');
                    out.push(escaped);
                    rest = &after[escaped.len_utf8()..];
                }
                (name, _) => {
                    out.push('\\');
                    out.push_str(name);
                }
            }
            continue;
        }
        rest = &rest[c.len_utf8()..];
        if c.is_whitespace() {
            spaced = true;
            continue;
        }
        let left_out = match c {
            '{' => {
                braces.push(is_text);
                std::mem::take(&mut is_text)
            }
            '}' => braces.pop().unwrap_or(false),
            _ => false,
        };
        if left_out {
            continue;
        }
        if spaced && c.is_ascii_digit() && out.ends_with(|last: char| last.is_ascii_digit()) {
            out.push(' ');
        }
        spaced = false;
        out.push(c);
    }
    out
}
