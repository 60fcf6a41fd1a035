//! How is a small vocabulary of our own learned? Byte-level BPE with single digits and the protocol's special tokens.

use std::collections::HashSet;

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{AddedToken, SplitDelimiterBehavior};

use super::super::PromptError;
use super::{SPECIALS, byte_letters};

/// Words with the space before them, single digits, runs of signs, single white space. No look-around, so matching is
/// linear in the text.
const PIECES: &str = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s";

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
