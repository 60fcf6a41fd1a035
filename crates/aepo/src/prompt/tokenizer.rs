//! How does text become token ids? Byte-level BPE with single digits; special tokens are never read out of text.

use std::collections::{BTreeMap, HashSet};

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{AddedToken, SplitDelimiterBehavior};

use super::PromptError;

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

/// Words with the space before them, single digits, runs of signs, single white space. No look-around, so matching is
/// linear in the text.
const PIECES: &str = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s";

/// Text to ids and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    specials: BTreeMap<String, u32>,
}

impl Tokenizer {
    /// Reads the JSON that the `tokenizers` library writes. The vocabulary must hold every byte, so that every text
    /// can be encoded.
    pub fn from_bytes(json: &[u8]) -> Result<Tokenizer, PromptError> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| PromptError::Unreadable(e.to_string()))?;
        // Text is never a place for control tokens: `<|end|>` in a page is seven characters.
        inner.set_encode_special_tokens(true);
        for (byte, letter) in byte_letters() {
            if inner.token_to_id(&letter.to_string()).is_none() {
                return Err(PromptError::MissingByte { byte });
            }
        }
        let specials = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, token)| (token.content, id))
            .collect();
        Ok(Tokenizer { inner, specials })
    }

    /// Ids of `text`, none of them special.
    #[must_use]
    pub fn encode_text(&self, text: &str) -> Vec<u32> {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            // `from_bytes` has made sure that every byte has a token, so the model has an answer for every text.
            Err(error) => unreachable!("a byte-level vocabulary encodes every text: {error}"),
        }
    }

    /// Ids of text in which tags stand for special tokens. Only for text of our own making, never for what a user, a
    /// page or a model wrote.
    #[must_use]
    pub fn encode_marked(&self, text: &str) -> Vec<u32> {
        split_specials(text)
            .flat_map(|part| match self.specials.get(part) {
                Some(&id) => vec![id],
                None => self.encode_text(part),
            })
            .collect()
    }

    /// Id of the special token `name`.
    pub fn special(&self, name: &str) -> Result<u32, PromptError> {
        self.specials.get(name).copied().ok_or_else(|| PromptError::MissingSpecial { name: name.to_owned() })
    }

    /// Whether `id` is a special token.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.specials.values().any(|&special| special == id)
    }

    /// The text of `ids`, special tokens written out; bytes that are no UTF-8 become U+FFFD, ids outside the
    /// vocabulary nothing.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        // Each id is looked up before, so that an unknown one cannot fail the whole text.
        let known: Vec<u32> = ids.iter().copied().filter(|&id| self.inner.id_to_token(id).is_some()).collect();
        match self.inner.decode(&known, false) {
            Ok(text) => text,
            Err(error) => unreachable!("a byte-level decoder reads every known token: {error}"),
        }
    }

    /// Number of ids, special ones included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

/// Learns a byte-level BPE vocabulary of `vocab_size` ids from `corpus` and returns its JSON: [`SPECIALS`] first, then
/// the 256 bytes, then merges. The same texts in any order give the same bytes, because merges are ranked by count
/// and then by id.
pub fn train_tokenizer<I>(corpus: I, vocab_size: usize) -> Result<Vec<u8>, PromptError>
where
    I: Iterator<Item = String> + Send,
{
    let fail = |cause: String| PromptError::Training { vocab_size, cause };
    let split = Split::new(SplitPattern::Regex(PIECES.to_owned()), SplitDelimiterBehavior::Isolated, false)
        .map_err(|e| fail(e.to_string()))?;
    let bytes = ByteLevel::new(false, false, false);
    let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Split(split),
        PreTokenizerWrapper::ByteLevel(bytes),
    ])));
    tokenizer.with_decoder(Some(bytes));
    let mut trainer = TrainerWrapper::from(
        BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(byte_letters().map(|(_, letter)| letter).collect::<HashSet<char>>())
            .special_tokens(SPECIALS.iter().map(|&s| AddedToken::from(s, true)).collect())
            .build(),
    );
    tokenizer.train(&mut trainer, corpus).map_err(|e| fail(e.to_string()))?;
    let json = tokenizer.to_string(false).map_err(|e| fail(e.to_string()))?;
    Ok(json.into_bytes())
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

    #[test]
    fn bad_files_are_errors() {
        assert!(matches!(Tokenizer::from_bytes(b"{}"), Err(PromptError::Unreadable(_))));
        let json = String::from_utf8(train_tokenizer(std::iter::empty(), 300).unwrap()).unwrap();
        let broken = json.replace("\"Ġ\":", "\"ĠĠĠ\":");
        assert!(matches!(Tokenizer::from_bytes(broken.as_bytes()), Err(PromptError::MissingByte { byte: 0x20 })));
    }
}
