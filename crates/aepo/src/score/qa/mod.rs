//! How near is an answer to a reference? F1 and exact match as SQuAD defines them; and, beside them, whether both name
//! the same number, date, or yes or no.
//!
//! SQuAD's normalisation (Rajpurkar et al., arXiv 1606.05250, and its script): lower case, no ASCII punctuation, no
//! articles, single spaces. It takes `1.5` for `15`; [`same`] does not.

mod date;
mod han;
mod number;

use std::collections::HashMap;

use super::text::{is_space, is_word_char};

/// A text as SQuAD compares it: words with single spaces between them.
#[must_use]
pub fn normalized(text: &str) -> String {
    let kept: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut out = String::with_capacity(kept.len());
    for word in kept.split(is_space) {
        let before = out.len();
        if !out.is_empty() {
            out.push(' ');
        }
        let begin = out.len();
        without_articles(word, &mut out);
        if out.len() == begin {
            out.truncate(before);
        }
    }
    out
}

/// Adds `word` without the articles between its word boundaries: in `—the—end` there is one, and it leaves a space.
fn without_articles(word: &str, out: &mut String) {
    // Most words need no closer look.
    if !word.contains('a') && !word.contains("the") {
        out.push_str(word);
        return;
    }
    let mut rest = word;
    let mut gap = false;
    while !rest.is_empty() {
        let run = rest.find(|c| !is_word_char(c)).unwrap_or(rest.len());
        let (letters, behind) = rest.split_at(run);
        let other = behind.find(is_word_char).unwrap_or(behind.len());
        let (others, behind) = behind.split_at(other);
        let is_article = matches!(letters, "a" | "an" | "the");
        gap |= is_article && !out.is_empty() && !out.ends_with(' ');
        for part in [if is_article { "" } else { letters }, others] {
            if gap && !part.is_empty() {
                out.push(' ');
                gap = false;
            }
            out.push_str(part);
        }
        rest = behind;
    }
}

fn words(normalized: &str) -> impl Iterator<Item = &str> {
    normalized.split(' ').filter(|word| !word.is_empty())
}

/// F1 = 2·P·R / (P + R) over two bags of tokens, P = common / tokens of the answer, R = common / tokens of the reference;
/// in [0, 1]. Where either has none, it is 1 when both have none, else 0 (SQuAD 2.0's script).
fn bag_f1<'a>(answer: impl Iterator<Item = &'a str>, reference: impl Iterator<Item = &'a str>) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    let mut n_reference = 0usize;
    for token in reference {
        *left.entry(token).or_default() += 1;
        n_reference += 1;
    }
    let (mut n_answer, mut n_common) = (0usize, 0usize);
    for token in answer {
        n_answer += 1;
        if let Some(n) = left.get_mut(token).filter(|n| **n > 0) {
            *n -= 1;
            n_common += 1;
        }
    }
    if n_answer == 0 || n_reference == 0 {
        return if n_answer == n_reference { 1.0 } else { 0.0 };
    }
    // 2PR/(P+R) with P = c/a and R = c/r is 2c/(a+r); written so, equal bags give exactly 1.
    2.0 * n_common as f64 / (n_answer + n_reference) as f64
}

/// Token F1 as SQuAD defines it, in [0, 1].
#[must_use]
pub fn f1(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (normalized(answer), normalized(reference));
    bag_f1(words(&answer), words(&reference))
}

/// Exact match as SQuAD defines it.
#[must_use]
pub fn exact_match(answer: &str, reference: &str) -> bool {
    normalized(answer) == normalized(reference)
}

/// The best F1 over the accepted answers, as SQuAD defines it; 0 without any.
#[must_use]
pub fn best_f1(answer: &str, accepted: &[String]) -> f64 {
    let answer = normalized(answer);
    let f1 = |reference: &String| {
        let reference = normalized(reference);
        bag_f1(words(&answer), words(&reference))
    };
    accepted.iter().map(f1).fold(0.0, f64::max)
}

/// F1 as SQuAD defines it; where the reference is written in Chinese or Japanese, which have no spaces, over characters too,
/// as CMRC 2018 (arXiv 1810.07366) has it, and the greater counts.
#[must_use]
pub fn overlap(answer: &str, reference: &str) -> f64 {
    Answer::new(answer).overlap(reference)
}

/// Whether any accepted answer matches exactly as SQuAD defines it.
#[must_use]
pub fn any_exact_match(answer: &str, accepted: &[String]) -> bool {
    let answer = normalized(answer);
    accepted.iter().any(|reference| normalized(reference) == answer)
}

/// An answer that is compared with several references: what is made of it is made once.
pub(super) struct Answer<'a> {
    text: &'a str,
    normalized: String,
}

impl<'a> Answer<'a> {
    pub(super) fn new(text: &'a str) -> Answer<'a> {
        Answer { text, normalized: normalized(text) }
    }

    /// See [`overlap`].
    pub(super) fn overlap(&self, reference: &str) -> f64 {
        let of_characters = match han::is_written_so(reference) {
            true => bag_f1(han::tokens(self.text).iter(), han::tokens(reference).iter()),
            false => 0.0,
        };
        let reference = normalized(reference);
        bag_f1(words(&self.normalized), words(&reference)).max(of_characters)
    }

    /// See [`same`].
    pub(super) fn same(&self, reference: &str) -> Option<As> {
        if let (Some(answer), Some(reference)) = (number::read(self.text), number::read(reference)) {
            return answer.equals(&reference).then_some(As::Number);
        }
        if let (Some(answer), Some(reference)) = (date::read(self.text), date::read(reference)) {
            return (answer == reference).then_some(As::Date);
        }
        if let (Some(answer), Some(reference)) = (first_word_decides(self.text), whole_decides(reference)) {
            return (answer == reference).then_some(As::YesNo);
        }
        if self.normalized == normalized(reference) {
            return Some(As::Words);
        }
        let is_wide = |text: &str| text.chars().any(han::is_wide);
        if is_wide(self.text) || is_wide(reference) {
            let (answer, reference) = (han::tokens(self.text), han::tokens(reference));
            return (answer == reference && answer.iter().next().is_some()).then_some(As::Characters);
        }
        None
    }
}

/// As what two texts are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// Two ways to write a number: `1,200`, `1200.0`, `twelve hundred`.
    Number,
    /// Two ways to write a day or a month.
    Date,
    /// Both say yes, or both say no.
    YesNo,
    /// Their words, in order ([`exact_match`]).
    Words,
    /// Their characters, in order, as Chinese and Japanese text is compared.
    Characters,
}

impl As {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            As::Number => "the same number",
            As::Date => "the same date",
            As::YesNo => "the same decision",
            As::Words => "the same words",
            As::Characters => "the same characters",
        }
    }
}

/// Whether `answer` says what `reference` says. Where both are numbers as a whole, or both dates, only their values count.
#[must_use]
pub fn same(answer: &str, reference: &str) -> Option<As> {
    Answer::new(answer).same(reference)
}

/// Yes or no, where a text says just that.
fn whole_decides(text: &str) -> Option<bool> {
    match normalized(&super::text::fold_width(text)).trim_end_matches('。') {
        "yes" | "是" | "是的" | "对" | "有" => Some(true),
        "no" | "否" | "不" | "不是" | "没有" => Some(false),
        _ => None,
    }
}

/// Yes or no, where a text says just that, or begins with that word and a mark behind it, and has no other such word:
/// `Yes, both are.`
fn first_word_decides(text: &str) -> Option<bool> {
    if let Some(decided) = whole_decides(text) {
        return Some(decided);
    }
    let (first, rest) = text.trim_start().split_once([',', '.', ';', ':', '!', '，', '。'])?;
    let decided = whole_decides(first)?;
    let other = if decided { ["no", "not"] } else { ["yes", "not"] };
    let rest = normalized(rest);
    (!words(&rest).any(|word| other.contains(&word))).then_some(decided)
}

#[cfg(test)]
mod tests;
