//! Which of the offered answers was chosen? The letter, however it is written.
//!
//! An answer that names another letter beside the right one is wrong: naming all of them must not pay.

mod token;

use std::fmt;

use super::qa;
use super::text::fold_width;
use token::{Kind, Token, tokens};

/// Letters A to Z, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Letters(u32);

impl Letters {
    fn add(&mut self, letter: u8) {
        self.0 |= 1 << (letter - b'A');
    }

    fn join(&mut self, other: Letters) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = (b'A'..=b'Z').filter(|letter| self.0 & (1 << (letter - b'A')) != 0);
        let names: Vec<String> = named.map(|letter| char::from(letter).to_string()).collect();
        f.write_str(&names.join(", "))
    }
}

/// Whether `answer` chooses what `reference` does: the same letters, no more and no fewer. A reference that names no
/// letter is compared as words; so is an answer without one, with the words behind the reference's letter (`C. 23`).
#[must_use]
pub fn equal(answer: &str, reference: &str) -> bool {
    match (letters(answer), letters(reference)) {
        (Some(answer), Some(reference)) => answer == reference,
        (None, Some(_)) => {
            let option = reference.trim_start_matches(['(', '[']).get(1..).unwrap_or_default();
            let option = option.trim_start_matches([')', ']', '.', ':', ' ', '-']);
            !qa::normalized(option).is_empty() && qa::exact_match(answer, option)
        }
        (_, None) => !reference.trim().is_empty() && qa::exact_match(answer, reference),
    }
}

/// Words that may stand in front of a letter that is chosen.
#[rustfmt::skip]
const LEADING: &[&str] = &[
    "the", "this", "that", "my", "it", "is", "are", "be", "to", "with", "so", "therefore", "thus", "hence", "both", "either",
    "final", "correct", "best", "right", "answer", "answers", "ans", "option", "options", "choice", "choices", "letter",
    "letters", "question", "would", "should", "must", "choose", "chose", "pick", "picked", "select", "selected", "think",
    "believe", "guess", "say", "go", "i'd", "i'll", "it's", "its", "that's", "we", "probably", "clearly", "definitely",
];
/// Characters of which Chinese words in front of a letter consist.
const LEADING_HAN: &str = "答案是为选项择应该正确的故所以因此最终本题我";
/// Words that announce the answer itself.
const ANNOUNCING: &[&str] = &["answer", "answers", "ans"];
/// Words that announce a letter.
const NAMING: &[&str] = &["option", "options", "choice", "choices"];
/// Words between letters that are named together.
const JOINING: &[&str] = &["and", "or", "和", "或", "及", "与"];
/// Words that may follow a letter that nothing marks as one.
const FOLLOWING: &[&str] = &["is", "are", "because", "since", "as", "seems", "was", "for"];

/// The letters that a text chooses: the statement it begins with, and each that a word such as `answer` announces. `None`
/// when there is none.
#[must_use]
pub fn letters(text: &str) -> Option<Letters> {
    let folded = fold_width(text).replace('’', "'");
    let tokens = tokens(&folded);
    let announces =
        |token: &Token<'_>| token.is_in(ANNOUNCING) || token.kind == Kind::Han && token.text.contains("答案");
    let names =
        |token: &Token<'_>| token.is_in(NAMING) || token.kind == Kind::Han && token.text.ends_with(['选', '项']);
    // Statements by how sure it is that they say the answer. What begins a text always counts.
    let (mut first, mut announced, mut named) = (None, None, None);
    let mut at = 0;
    while at < tokens.len() {
        let here = &tokens[at];
        let place = match (announces(here), names(here)) {
            _ if at == 0 => &mut first,
            (true, _) => &mut announced,
            (false, true) => &mut named,
            (false, false) => {
                at += 1;
                continue;
            }
        };
        let (found, end) = statement(&tokens, at);
        if let Some(mut found) = found {
            let behind = tokens[end..].iter().position(|token| announces(token) || names(token));
            let behind = behind.map_or(tokens.len(), |n| end + n);
            also_named(&tokens[..behind], end, &mut found);
            place.get_or_insert_with(Letters::default).join(found);
        }
        at = end.max(at + 1);
    }
    let mut all = announced.or(named);
    if let Some(first) = first {
        all.get_or_insert_with(Letters::default).join(first);
    }
    all
}

fn is_at(tokens: &[Token<'_>], at: usize, words: &[&str]) -> bool {
    tokens.get(at).is_some_and(|token| token.is_in(words))
}

fn kind_at(tokens: &[Token<'_>], at: usize) -> Option<Kind> {
    tokens.get(at).map(|token| token.kind)
}

/// Reads words that lead to a letter, the letter, and others joined to it, from `at` on. Returns what was named, and where
/// the reading ended; never in front of where the leading words end.
fn statement(tokens: &[Token<'_>], mut at: usize) -> (Option<Letters>, usize) {
    let begin = at;
    let mut is_led = false;
    while let Some(token) = tokens.get(at) {
        let leads = match token.kind {
            Kind::Word => token.is_in(LEADING),
            Kind::Han => token.text.chars().all(|c| LEADING_HAN.contains(c)),
            // `I` in front of a verb is somebody, `A` never leads.
            Kind::Letter(b'I', true) => {
                kind_at(tokens, at + 1) == Some(Kind::Word)
                    && is_at(tokens, at + 1, LEADING)
                    && !is_at(tokens, at + 1, &["is"])
            }
            Kind::Mark(c) => {
                matches!(c, ':' | '=' | '-' | '–' | '—' | ',' | '#' | '>') && (is_led || matches!(c, '#' | '>' | '-'))
            }
            Kind::Line => true,
            _ => false,
        };
        if !leads {
            break;
        }
        is_led |= matches!(token.kind, Kind::Word | Kind::Han);
        at += 1;
    }
    let Some((mut found, mut end, mut is_marked)) = item(tokens, at, is_led) else {
        return (None, at.max(begin + 1));
    };
    loop {
        let joins = match tokens.get(end) {
            Some(Token { kind: Kind::Mark(c), .. }) => matches!(c, ',' | ';' | '/' | '&' | '+' | '、'),
            Some(token) => token.is_in(JOINING),
            None => false,
        };
        // `A, and B`, and `A B`.
        let n_joining = match (joins, is_at(tokens, end + 1, JOINING)) {
            (true, true) => 2,
            (true, false) => 1,
            (false, _) => 0,
        };
        let Some((more, behind, marked)) = item(tokens, end + n_joining, n_joining > 0) else { break };
        found.join(more);
        (end, is_marked) = (behind, marked);
    }
    let ends_well = match kind_at(tokens, end) {
        None | Some(Kind::Line | Kind::Open | Kind::Han) => true,
        Some(Kind::Mark(c)) => {
            // `C++` and `C#` are languages, `C?` is a question.
            matches!(c, '.' | ':' | ',' | ';' | '!' | '。' | '-' | '–' | '—' | '、')
        }
        Some(Kind::Word) => is_marked || is_at(tokens, end, FOLLOWING) || is_led && !is_article(tokens, end - 1),
        Some(Kind::Letter(..) | Kind::Close) => is_marked,
    };
    (ends_well.then_some(found), end)
}

/// Whether the letter there is also a word of English: `A cat`, `I think`, `a cat`.
fn is_article(tokens: &[Token<'_>], at: usize) -> bool {
    matches!(kind_at(tokens, at), Some(Kind::Letter(b'A', _) | Kind::Letter(b'I', true)))
}

/// A letter, in brackets or not, or several capitals in a row (`ACD`); where it ends, and whether it is marked as a letter
/// rather than a word. A small letter must be marked or end the text.
fn item(tokens: &[Token<'_>], at: usize, is_led: bool) -> Option<(Letters, usize, bool)> {
    let mut found = Letters::default();
    let opened = kind_at(tokens, at) == Some(Kind::Open);
    let at = at + usize::from(opened);
    let is_upper = match tokens.get(at)? {
        Token { kind: Kind::Letter(letter, is_upper), .. } => {
            found.add(*letter);
            *is_upper
        }
        Token { kind: Kind::Word, text, .. } if is_row_of_letters(text) => {
            text.bytes().for_each(|letter| found.add(letter));
            // A word in capitals is letters only where nothing else is said.
            let behind = at + 1 + usize::from(opened);
            let alone = matches!(kind_at(tokens, behind), None | Some(Kind::Line | Kind::Mark('.' | '。')));
            if !alone || behind + 1 < tokens.len() && kind_at(tokens, behind) != Some(Kind::Line) {
                return None;
            }
            true
        }
        _ => return None,
    };
    let closed = kind_at(tokens, at + 1) == Some(Kind::Close);
    let end = at + 1 + usize::from(closed);
    if opened && !closed {
        return None;
    }
    let next = kind_at(tokens, end);
    let dotted = matches!(next, Some(Kind::Mark('.' | ':' | '-' | '–' | '—')));
    let is_marked = closed || dotted;
    let ends = matches!(next, None | Some(Kind::Line | Kind::Mark(',' | ';' | '。' | '、' | '/' | '&')));
    let joined = is_at(tokens, end, JOINING);
    let is_word = is_article(tokens, at) && matches!(next, Some(Kind::Word)) && !is_at(tokens, end, FOLLOWING);
    let good = is_marked || ends || joined || (is_upper && !is_word) || (is_led && next.is_none());
    good.then_some((found, end, is_marked))
}

/// A few different capitals in the order of the alphabet: `ACD`.
fn is_row_of_letters(word: &str) -> bool {
    word.len() <= 6
        && word.bytes().all(|b| b.is_ascii_uppercase())
        && word.as_bytes().windows(2).all(|pair| pair[0] < pair[1])
}

/// Adds the letters that the text from `from` on names as options: `or D`, `(D)`, `option D`, and `D` where a sentence or a
/// line begins. Letters inside a sentence (`vitamin D`, `P(X)`) are part of the option's text.
fn also_named(tokens: &[Token<'_>], from: usize, found: &mut Letters) {
    for at in from..tokens.len() {
        let Kind::Letter(letter, true) = tokens[at].kind else { continue };
        let before = kind_at(tokens, at.wrapping_sub(1));
        let next = kind_at(tokens, at + 1);
        let bracketed = before == Some(Kind::Open) && next == Some(Kind::Close) && !tokens[at - 1].touches;
        let joined = is_at(tokens, at.wrapping_sub(1), JOINING);
        let begins = matches!(before, None | Some(Kind::Line | Kind::Mark('.' | '。' | ';' | '!' | '?' | '/')));
        let goes_on = match next {
            // `C. D minor`: what follows the mark of a letter is its option.
            Some(Kind::Word) if !is_at(tokens, at + 1, FOLLOWING) => at <= from + 1 || is_article(tokens, at),
            // `P(X)`, `X > 2`.
            Some(Kind::Open) => tokens[at + 1].touches,
            Some(Kind::Mark(c)) => !matches!(c, '.' | ':' | ',' | ';' | '!' | '?' | '。' | '、' | '/'),
            _ => false,
        };
        if bracketed || ((joined || begins && !tokens[at].touches) && !goes_on) {
            found.add(letter);
        }
    }
}

#[cfg(test)]
mod tests;
