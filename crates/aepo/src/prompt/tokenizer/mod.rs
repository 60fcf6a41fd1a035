//! How does text become token ids, and ids text? Byte-level BPE; added tokens are never read out of text.

mod guard;
mod load;
mod pieces;
mod train;

use std::collections::BTreeMap;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};

use super::PromptError;
pub use guard::pick_guard;
pub use load::{MAX_ADDED, MAX_ID};
pub use train::train_tokenizer;

/// The special tokens of the protocol, in the order of their ids in a vocabulary made by [`train_tokenizer`].
pub const SPECIALS: [&str; 14] = [
    "<|pad|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<think>",
    "</think>",
    "<search>",
    "</search>",
    "<python>",
    "</python>",
    "<result>",
    "</result>",
    "<answer>",
    "</answer>",
];

/// An added token's place in the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Added {
    id: u32,
    special: bool,
}

/// Text to ids and back.
///
/// An *added* token is one that the file lists beside the vocabulary: `<|im_end|>`, `<tool_call>`. Some of them are
/// *special*; the difference is what a decoder may leave out, and matters little here.
pub struct Tokenizer {
    plain: load::Plain,
    /// Encodes as `plain` does, where its steps are known.
    pieces: Option<pieces::Pieces>,
    added: BTreeMap<String, Added>,
    /// By id: whether it is an added token, and a special one.
    kinds: Vec<(bool, bool)>,
    bytes: Arc<[Box<[u8]>]>,
    known: Vec<bool>,
    uncovered: Vec<u8>,
    byte_ids: Vec<Option<u32>>,
    /// Leftmost-longest over the added tokens that the file wants found before normalising, and those it wants found
    /// behind it; with the ids of their patterns.
    finders: [(Option<AhoCorasick>, Vec<u32>); 2],
    guards: guard::Guards,
    special_guards: guard::Guards,
}

impl Tokenizer {
    /// Reads the `tokenizer.json` of the `tokenizers` library. It must be byte-level BPE, hold every printable ASCII
    /// byte, and ask for nothing that loses text or that [`PromptError::Unsupported`] names.
    pub fn from_bytes(json: &[u8]) -> Result<Tokenizer, PromptError> {
        let parts = load::load(json)?;
        let mut kinds = vec![(false, false); parts.bytes.len()];
        let mut finders = [const { (Vec::new(), Vec::new()) }; 2];
        for (&id, token) in &parts.added {
            kinds[id as usize] = (true, token.special);
            let (texts, ids) = &mut finders[usize::from(token.normalized)];
            texts.push(token.content.clone());
            ids.push(id);
        }
        let [first, second] = finders
            .map(|(texts, ids)| guard::finder(&texts, MatchKind::LeftmostLongest, false).map(|finder| (finder, ids)));
        let special = parts.added.values().filter(|token| token.special).map(|token| token.content.clone()).collect();
        let added =
            parts.added.iter().map(|(&id, token)| (token.content.clone(), Added { id, special: token.special }));
        Ok(Tokenizer {
            added: added.collect(),
            kinds,
            known: parts.bytes.iter().map(Option::is_some).collect(),
            bytes: parts.bytes.into_iter().map(Option::unwrap_or_default).collect(),
            uncovered: parts.uncovered,
            byte_ids: parts.byte_ids,
            finders: [first?, second?],
            special_guards: guard::Guards::new(special)?,
            guards: guard::Guards::new(parts.added.into_values().map(|token| token.content).collect())?,
            pieces: pieces::Pieces::new(parts.plain.get_pre_tokenizer()),
            plain: parts.plain,
        })
    }

    /// Ids of `text`, none of them an added token's. For what a user, a page or a tool wrote. Bytes that the
    /// vocabulary lacks are left out; [`Tokenizer::uncovered_bytes`] names them.
    #[must_use]
    pub fn encode_text(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 2);
        if !self.pieces.as_ref().is_some_and(|pieces| pieces.encode(&self.plain, text, &mut ids)) {
            ids = self.encode_by_library(text);
        }
        match ids.iter().any(|&id| self.is_added(id)) {
            true => ids.into_iter().flat_map(|id| self.spelled_out(id)).collect(),
            false => ids,
        }
    }

    fn encode_by_library(&self, text: &str) -> Vec<u32> {
        match self.plain.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            // `load` has made sure that no step of the encoding has a reason to fail: no dropout, no unknown token.
            Err(error) => unreachable!("a byte-level vocabulary encodes every text: {error}"),
        }
    }

    /// The id itself, or, of an added token that the vocabulary's merges spell, its bytes: they say the same without being
    /// it.
    fn spelled_out(&self, id: u32) -> Vec<u32> {
        match self.is_added(id) {
            true => self.bytes[id as usize].iter().filter_map(|&byte| self.byte_ids[usize::from(byte)]).collect(),
            false => vec![id],
        }
    }

    /// Ids of a rendered conversation: added tokens become their ids, as in `transformers`, unless `guard` stands
    /// inside; `guard` itself is left out. What was not ours to write has gone through [`Tokenizer::guard_text`].
    #[must_use]
    pub fn encode_rendered(&self, text: &str, guard: char) -> Vec<u32> {
        let mut ids = Vec::new();
        let [first, second] = &self.finders;
        pieces(first, text, |part| match part {
            Part::Token(id) => ids.push(id),
            Part::Text(text) => pieces(second, text, |part| match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) if text.contains(guard) => ids.extend(self.encode_text(&text.replace(guard, ""))),
                Part::Text(text) => ids.extend(self.encode_text(text)),
            }),
        });
        ids
    }

    /// `text`, which someone else wrote, with `guard` in every place where an added token could be read out of it or
    /// out of it and its surroundings. `guard` must not occur in `text`; see [`pick_guard`].
    #[must_use]
    pub fn guard_text(&self, text: &str, guard: char) -> String {
        self.guards.guard_text(text, guard)
    }

    /// As [`Tokenizer::guard_text`], but added tokens that are not special may be read: for turns that data shows the
    /// model as its own, in which thoughts and calls have such tokens.
    #[must_use]
    pub fn guard_special(&self, text: &str, guard: char) -> String {
        self.special_guards.guard_text(text, guard)
    }

    /// Ids of text in which the tags of [`SPECIALS`] stand for special tokens. Only for text of our own making, never
    /// for what a user, a page or a model wrote.
    #[must_use]
    pub fn encode_marked(&self, text: &str) -> Vec<u32> {
        split_specials(text)
            .flat_map(|part| match self.special(part) {
                Ok(id) => vec![id],
                Err(_) => self.encode_text(part),
            })
            .collect()
    }

    /// Id of the special token `name`.
    pub fn special(&self, name: &str) -> Result<u32, PromptError> {
        let found = self.added.get(name).filter(|token| token.special);
        found.map(|token| token.id).ok_or_else(|| PromptError::MissingSpecial { name: name.to_owned() })
    }

    /// Id of the added token `name`, special or not.
    #[must_use]
    pub fn added(&self, name: &str) -> Option<u32> {
        self.added.get(name).map(|token| token.id)
    }

    /// Whether `id` is a special token.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.kinds.get(id as usize).is_some_and(|kind| kind.1)
    }

    /// Whether `id` is an added token, special or not.
    #[must_use]
    pub fn is_added(&self, id: u32) -> bool {
        self.kinds.get(id as usize).is_some_and(|kind| kind.0)
    }

    /// The text of `ids`, added tokens written out; bytes that are no UTF-8 become U+FFFD, ids outside the vocabulary
    /// nothing.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::with_capacity(4 * ids.len());
        ids.iter().filter_map(|&id| self.token_bytes(id)).for_each(|piece| bytes.extend_from_slice(piece));
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// The bytes that `id` adds to a text; nothing for an id that no token has.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.known.get(id as usize)?.then(|| &*self.bytes[id as usize])
    }

    /// The bytes of every id, `[vocab_size]`; empty for an id that no token has.
    #[must_use]
    pub fn byte_table(&self) -> Arc<[Box<[u8]>]> {
        self.bytes.clone()
    }

    /// Bytes that no token stands for, so that encoding leaves them out; published vocabularies lack some that occur
    /// in rare scripts or in no UTF-8 at all.
    #[must_use]
    pub fn uncovered_bytes(&self) -> &[u8] {
        &self.uncovered
    }

    /// Number of bytes of `text` that encoding leaves out.
    #[must_use]
    pub fn n_lost_bytes(&self, text: &str) -> usize {
        text.bytes().filter(|byte| self.byte_ids[usize::from(*byte)].is_none()).count()
    }

    /// Number of ids, the largest plus one.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.bytes.len()
    }
}

/// A part of a rendered text.
enum Part<'a> {
    Token(u32),
    Text(&'a str),
}

/// Cuts `text` at the patterns of `finder`.
fn pieces(finder: &(Option<AhoCorasick>, Vec<u32>), text: &str, mut each: impl FnMut(Part<'_>)) {
    let mut from = 0;
    for found in finder.0.iter().flat_map(|automaton| automaton.find_iter(text)) {
        if from < found.start() {
            each(Part::Text(&text[from..found.start()]));
        }
        each(Part::Token(finder.1[found.pattern().as_usize()]));
        from = found.end();
    }
    if from < text.len() {
        each(Part::Text(&text[from..]));
    }
}

/// Cuts `text` before and behind every tag of [`SPECIALS`].
pub(crate) fn split_specials(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let next = SPECIALS.iter().filter_map(|special| rest.find(special).map(|at| (at, special.len()))).min();
        let cut = match next {
            None => rest.len(),
            Some((0, n)) => n,
            Some((at, _)) => at,
        };
        let (part, behind) = rest.split_at(cut);
        rest = behind;
        (!part.is_empty()).then_some(part)
    })
}

/// The letter under which byte-level vocabularies write each byte (GPT-2's table): printable Latin-1 stands for
/// itself, the other 68 bytes follow from U+0100 on.
fn byte_letters() -> impl Iterator<Item = (u8, char)> {
    let mut next = 0x100;
    (0..=255u8).map(move |byte| {
        let letter = if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        (byte, letter)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::seed::Seed;

    /// A small tokenizer that knows the protocol.
    pub(crate) fn tiny() -> Tokenizer {
        let corpus = ["Its capital is Algiers.", "What is the area of Algeria?", "print( 12 + 34)"];
        let corpus = corpus.iter().cycle().take(30).map(|s| (*s).to_owned());
        Tokenizer::from_bytes(&train_tokenizer(corpus, 320).unwrap()).unwrap()
    }

    #[test]
    fn training_is_deterministic_and_keeps_the_size() {
        let corpus = || (0..200).map(|i| format!("The town number {i} of Algeria lies near town {}.", i * 7 % 90));
        let a = train_tokenizer(corpus(), 290).unwrap();
        let b = train_tokenizer(corpus().rev(), 290).unwrap();
        assert!(a == b);
        let tokenizer = Tokenizer::from_bytes(&a).unwrap();
        assert_eq!(tokenizer.vocab_size(), 290);
        for (id, name) in SPECIALS.iter().enumerate() {
            assert_eq!(tokenizer.special(name).unwrap(), id as u32);
            assert!(tokenizer.is_special(id as u32));
        }
        assert!(!tokenizer.is_special(14));
        assert!(matches!(tokenizer.special("<|bos|>"), Err(PromptError::MissingSpecial { .. })));
    }

    #[test]
    fn text_round_trips_and_never_becomes_special() {
        let tokenizer = tiny();
        let page = format!("a <|end|> b{}c<think>\n\t</result>", SPECIALS.concat());
        for text in ["", " ", page.as_str(), "Côte d'Ivoire São 東京 🏔 e\u{301}", "\0\u{7f}\u{ad}", " 2381740.5 "]
        {
            let ids = tokenizer.encode_text(text);
            assert!(ids.iter().all(|&id| !tokenizer.is_special(id)), "{text:?}");
            assert_eq!(tokenizer.decode(&ids), text);
        }
        let long = format!("{}x{}", " ".repeat(50_000), "é".repeat(5_000));
        assert_eq!(tokenizer.decode(&tokenizer.encode_text(&long)), long);
    }

    #[test]
    fn digits_stand_alone_and_numbers_have_the_same_tokens_everywhere() {
        let tokenizer = tiny();
        let digits = |s: &str| {
            let ids = tokenizer.encode_text(s);
            ids.iter().map(|&id| tokenizer.decode(&[id])).filter(|t| t.contains(|c: char| c.is_ascii_digit())).collect()
        };
        let expected: Vec<String> = ["2", "3", "0"].map(str::to_owned).to_vec();
        for text in ["230", " 230", "{ 230}", "print( 230)"] {
            let found: Vec<String> = digits(text);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_special_token_is_written_out_and_an_unknown_id_is_nothing() {
        let tokenizer = tiny();
        let end = tokenizer.special("<|end|>").unwrap();
        assert_eq!(tokenizer.decode(&[end, 1_000_000, end]), "<|end|><|end|>");
    }

    /// Texts of words, signs, digits, white space and characters outside ASCII, some of them not in normal form.
    fn mixed_text(seed: Seed) -> String {
        const PARTS: [&str; 28] = [
            "a", "The", " town", "'s", "'ll", "Algiers", "12", "7", "²", "٣", "½", " ", "  ", "\n", "\r\n", "\t", ".",
            "...", " (", "é", "e\u{301}", "東京", "\u{212b}", "🏔", "<|end|>", "_x", "\u{a0}", "\0",
        ];
        let n = (seed.uniform(0) * 40.0) as u64;
        (1..=n).map(|i| PARTS[(seed.uniform(i) * PARTS.len() as f64) as usize]).collect()
    }

    #[test]
    fn pieces_are_encoded_as_the_library_encodes_the_whole() {
        let own = train_tokenizer((0..300).map(|i| mixed_text(Seed(9).child(i))), 400).unwrap();
        let own: serde_json::Value = serde_json::from_slice(&own).unwrap();
        let level = |use_regex| {
            serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
            "use_regex": use_regex})
        };
        let digits = |each| serde_json::json!({"type": "Digits", "individual_digits": each});
        let split = |pattern: &str, behavior: &str, invert: bool| serde_json::json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert});
        let words =
            r"(?i:'s|'ll)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let steps = [
            (vec![level(true)], true),
            (vec![digits(true), level(true)], true),
            (vec![digits(false), level(false)], true),
            (vec![split(words, "Isolated", false), level(false)], true),
            (vec![split(r"\p{L}*", "Isolated", true), digits(true), level(true)], true),
            (vec![split(r"\s", "MergedWithNext", false), level(false)], false),
        ];
        for (steps, by_pieces) in steps {
            for normalizer in [serde_json::Value::Null, serde_json::json!({"type": "NFC"})] {
                let mut json = own.clone();
                json["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": steps});
                json["normalizer"] = normalizer;
                let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
                assert_eq!(tokenizer.pieces.is_some(), by_pieces, "{steps:?}");
                for i in 0..400 {
                    let text = mixed_text(Seed(10).child(i));
                    let by_library = tokenizer.encode_by_library(&text);
                    let expected: Vec<u32> = by_library.into_iter().flat_map(|id| tokenizer.spelled_out(id)).collect();
                    assert_eq!(tokenizer.encode_text(&text), expected, "{steps:?} {text:?}");
                }
            }
        }
    }

    #[test]
    fn bad_files_are_errors() {
        assert!(matches!(Tokenizer::from_bytes(b"{}"), Err(PromptError::Unreadable(_))));
        let json = String::from_utf8(train_tokenizer(std::iter::empty(), 300).unwrap()).unwrap();
        let broken = json.replace("\"Ġ\":", "\"ĠĠĠ\":");
        assert!(matches!(Tokenizer::from_bytes(broken.as_bytes()), Err(PromptError::MissingByte { byte: 0x20 })));
    }
}
