//! How is a text kept from spelling an added token? By a character of no meaning put into what looks like one.

use aho_corasick::{AhoCorasick, MatchKind};

use super::super::PromptError;

/// Finds added tokens in text.
pub(super) struct Guards {
    /// Every occurrence, overlapping ones too, in whatever case.
    alike: Option<AhoCorasick>,
    texts: Vec<String>,
}

impl Guards {
    pub(super) fn new(texts: Vec<String>) -> Result<Guards, PromptError> {
        let alike = finder(&texts, MatchKind::Standard, true)?;
        Ok(Guards { alike, texts })
    }

    /// `text` with `guard` inside everything that reads as an added token, and at an end where it could become one
    /// together with what stands beside it. Case counts for nothing, because a template may change it.
    pub(super) fn guard_text(&self, text: &str, guard: char) -> String {
        let mut cuts: Vec<usize> = Vec::new();
        for found in self.alike.iter().flat_map(|alike| alike.find_overlapping_iter(text)) {
            cuts.push(found.start() + text[found.start()..].chars().next().map_or(0, char::len_utf8));
        }
        let (open, close) = (text.len() - text.trim_start().len(), text.trim_end().len());
        let bytes = text.as_bytes();
        let inner = bytes.get(open..close).unwrap_or_default();
        for token in self.texts.iter().map(String::as_bytes) {
            // A template may trim the text or not, so both ends are looked at.
            let opens = (1..token.len()).any(|at| starts(bytes, &token[at..]) || starts(inner, &token[at..]));
            let closes = (1..token.len()).any(|at| ends(bytes, &token[..at]) || ends(inner, &token[..at]));
            let within = !inner.is_empty() && token.windows(inner.len()).any(|part| part.eq_ignore_ascii_case(inner));
            if opens || within {
                cuts.push(open);
            }
            if closes || within {
                cuts.push(close);
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        let mut out = String::with_capacity(text.len() + cuts.len() * guard.len_utf8());
        let mut from = 0;
        for cut in cuts {
            out.push_str(&text[from..cut]);
            out.push(guard);
            from = cut;
        }
        out.push_str(&text[from..]);
        out
    }
}

fn starts(text: &[u8], part: &[u8]) -> bool {
    text.get(..part.len()).is_some_and(|start| start.eq_ignore_ascii_case(part))
}

fn ends(text: &[u8], part: &[u8]) -> bool {
    text.len().checked_sub(part.len()).is_some_and(|at| text[at..].eq_ignore_ascii_case(part))
}

/// An automaton over `texts`; nothing where there are none.
pub(super) fn finder(texts: &[String], kind: MatchKind, any_case: bool) -> Result<Option<AhoCorasick>, PromptError> {
    if texts.is_empty() {
        return Ok(None);
    }
    let built = AhoCorasick::builder().match_kind(kind).ascii_case_insensitive(any_case).build(texts);
    built.map(Some).map_err(|e| PromptError::Unreadable(format!("added tokens: {e}")))
}

/// A character without meaning that occurs in none of `texts`: one of Unicode's 66 noncharacters, or, where a text
/// holds them all, one for private use.
pub fn pick_guard<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<char, PromptError> {
    let seen: std::collections::HashSet<char> =
        texts.into_iter().flat_map(str::chars).filter(|&c| c > '\u{d7ff}').collect();
    let in_planes = (0..=16u32).flat_map(|plane| [plane * 0x1_0000 + 0xFFFE, plane * 0x1_0000 + 0xFFFF]);
    let nonchars = (0xFDD0..=0xFDEFu32).chain(in_planes).filter_map(char::from_u32);
    let private = '\u{e000}'..='\u{f8ff}';
    let mut free = nonchars.chain(private).chain('\u{f0000}'..='\u{ffffd}').filter(|c| !seen.contains(c));
    free.next().ok_or(PromptError::NoGuard)
}
