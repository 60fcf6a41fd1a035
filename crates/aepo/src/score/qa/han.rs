//! How is text without spaces compared? Character by character, with the words and numbers of other scripts whole.
//!
//! The mixed segmentation of CMRC 2018 (Cui et al., arXiv 1810.07366); numbers keep their decimal point here.

use crate::score::text::fold_width;

/// A character that is a token of its own: Han, and the kana.
pub(super) fn is_own_token(c: char) -> bool {
    matches!(c,
        '\u{3005}' | '\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// A character of such text: one of these, or a wide form of ASCII.
pub(super) fn is_wide(c: char) -> bool {
    is_own_token(c) || matches!(c, '\u{3000}' | '\u{ff01}'..='\u{ff5e}')
}

/// Whether at least half of the letters and digits are such characters.
pub(super) fn is_written_so(text: &str) -> bool {
    let (mut n, mut n_own) = (0usize, 0usize);
    for c in text.chars().filter(|c| c.is_alphanumeric()) {
        n += 1;
        n_own += usize::from(is_own_token(c));
    }
    n_own > 0 && 2 * n_own >= n
}

/// Tokens, one behind another in one text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tokens {
    text: String,
    /// Where each token ends in `text`, bytes.
    ends: Vec<usize>,
}

impl Tokens {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end])
    }
}

/// Every Han character or kana, and every run of other letters and digits, in lower case, wide forms as ASCII. Other
/// characters divide tokens; a comma or a point between digits does not, and the comma is left out.
pub(super) fn tokens(text: &str) -> Tokens {
    let folded = fold_width(text).to_lowercase();
    let mut tokens = Tokens { text: String::with_capacity(folded.len()), ends: Vec::new() };
    let mut open = false;
    let mut last = ' ';
    let mut chars = folded.chars().peekable();
    while let Some(c) = chars.next() {
        let in_number = last.is_ascii_digit() && chars.peek().is_some_and(char::is_ascii_digit);
        last = c;
        if is_own_token(c) || !(c.is_alphanumeric() || in_number && matches!(c, '.' | ',')) {
            if open {
                tokens.ends.push(tokens.text.len());
                open = false;
            }
            if is_own_token(c) {
                tokens.text.push(c);
                tokens.ends.push(tokens.text.len());
            }
        } else if c != ',' {
            tokens.text.push(c);
            open = true;
        }
    }
    if open {
        tokens.ends.push(tokens.text.len());
    }
    tokens
}

/// The value of a number in Chinese numerals: by places (`三百二十`, `两千零五`, `一亿二千万`) or digit by digit (`一九三〇`).
pub(super) fn numeral(text: &str) -> Option<u64> {
    let digit = |c| "〇一二三四五六七八九".chars().position(|d| d == c).map(|value| value as u64);
    let digit = |c| match c {
        '零' => Some(0),
        '两' => Some(2),
        other => digit(other),
    };
    let n_chars = text.chars().count();
    if n_chars == 0 || n_chars > 24 {
        return None;
    }
    if text.chars().all(|c| digit(c).is_some()) && (n_chars == 1 || n_chars > 2) {
        return text.chars().try_fold(0u64, |value, c| value.checked_mul(10)?.checked_add(digit(c)?));
    }
    // Value of what is complete (units of 万 and 亿), of the present group of four places, and of the pending digit.
    let (mut total, mut group, mut pending) = (0u64, 0u64, None);
    let mut least_place = u64::MAX;
    for c in text.chars() {
        let place = match c {
            '十' => 10,
            '百' => 100,
            '千' => 1000,
            '万' => 10_000,
            '亿' => 100_000_000,
            _ => {
                let value = digit(c)?;
                if pending.is_some_and(|before| before != 0) {
                    return None;
                }
                pending = Some(value);
                continue;
            }
        };
        if place < 10_000 {
            if place >= least_place {
                return None;
            }
            // Ten alone is one ten; other places need their digit.
            let times = match pending.take() {
                Some(times) if times > 0 => times,
                _ if place == 10 => 1,
                _ => return None,
            };
            group += times * place;
            least_place = place;
        } else {
            group += pending.take().unwrap_or(0);
            if group == 0 && total == 0 {
                return None;
            }
            total = match place {
                100_000_000 => total.checked_add(group)?.checked_mul(place)?,
                _ => total.checked_add(group.checked_mul(place)?)?,
            };
            (group, least_place) = (0, u64::MAX);
        }
    }
    total.checked_add(group + pending.unwrap_or(0))
}
