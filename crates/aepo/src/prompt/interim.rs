//! How are rendered conversations tokenised, for special tokens alone? Until the tokenizer knows every added token.

use std::sync::Arc;

use super::PromptError;
use super::tokenizer::Tokenizer;

impl Tokenizer {
    /// Whether `id` is a token of its own.
    #[must_use]
    pub fn is_added(&self, id: u32) -> bool {
        self.is_special(id)
    }

    /// Ids of a rendered template; what `guard` interrupts is text.
    #[must_use]
    pub fn encode_rendered(&self, text: &str, guard: char) -> Vec<u32> {
        let specials = self.special_texts();
        let (mut ids, mut rest) = (Vec::new(), text);
        loop {
            let next = specials.iter().filter_map(|(t, id)| rest.find(t.as_str()).map(|at| (at, t.len(), *id))).min();
            let end = next.map_or(rest.len(), |(at, ..)| at);
            ids.extend(self.encode_text(&rest[..end].replace(guard, "")));
            let Some((_, n, id)) = next else { return ids };
            ids.push(id);
            rest = &rest[end + n..];
        }
    }

    /// Interrupts whatever looks like a special token.
    #[must_use]
    pub fn guard_text(&self, text: &str, guard: char) -> String {
        self.special_texts().iter().fold(text.to_owned(), |text, (special, _)| {
            let n_first = special.chars().next().map_or(0, char::len_utf8);
            text.replace(special, &format!("{}{guard}{}", &special[..n_first], &special[n_first..]))
        })
    }

    /// As [`Tokenizer::guard_text`].
    #[must_use]
    pub fn guard_special(&self, text: &str, guard: char) -> String {
        self.guard_text(text, guard)
    }

    /// A noncharacter that stands in none of `texts`.
    ///
    /// # Errors
    /// When each of them stands in one.
    pub fn pick_guard<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Result<char, PromptError> {
        let texts: Vec<&str> = texts.into_iter().collect();
        ('\u{FDD0}'..='\u{FDEE}').find(|c| !texts.iter().any(|t| t.contains(*c))).ok_or(PromptError::NoGuard)
    }

    /// The bytes of every id.
    #[must_use]
    pub fn pieces(&self) -> Arc<[Box<[u8]>]> {
        (0..self.vocab_size() as u32).map(|id| self.decode(&[id]).into_bytes().into_boxed_slice()).collect()
    }

    fn special_texts(&self) -> Vec<(String, u32)> {
        let ids = (0..self.vocab_size() as u32).filter(|&id| self.is_special(id));
        ids.map(|id| (self.decode(&[id]), id)).collect()
    }
}
