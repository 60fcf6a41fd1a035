//! Which `tokenizer.json` can be used, and what is read from it? Byte-level BPE whose every step is known to keep text.

use std::collections::BTreeMap;

use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::{AddedToken, SplitDelimiterBehavior};
use tokenizers::{DecoderWrapper, PostProcessorWrapper, TokenizerImpl};

use super::super::PromptError;
use super::byte_letters;

/// The library's tokenizer without added tokens, unknown tokens, truncation or padding.
pub(super) type Plain =
    TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Largest id that is accepted; the largest published vocabularies have about 260,000.
pub const MAX_ID: u32 = (1 << 22) - 1;

/// Longest text of an added token that is accepted, in bytes.
pub const MAX_ADDED: usize = 512;

/// What a file holds.
pub(super) struct Parts {
    pub plain: Plain,
    /// By id.
    pub added: BTreeMap<u32, AddedToken>,
    /// Bytes that each id stands for; nothing where no token has the id.
    pub bytes: Vec<Option<Box<[u8]>>>,
    /// Bytes without a token, ascending.
    pub uncovered: Vec<u8>,
    /// Id of each single byte.
    pub byte_ids: Vec<Option<u32>>,
}

pub(super) fn load(json: &[u8]) -> Result<Parts, PromptError> {
    let whole = tokenizers::Tokenizer::from_bytes(json).map_err(|e| PromptError::Unreadable(e.to_string()))?;
    let ModelWrapper::BPE(model) = whole.get_model() else {
        return Err(unsupported("a model other than BPE"));
    };
    check_model(model)?;
    if let Some(normalizer) = whole.get_normalizer() {
        check_normalizer(normalizer)?;
    }
    let mut byte_level = false;
    if let Some(step) = whole.get_pre_tokenizer() {
        check_pre_tokenizer(step, &mut byte_level)?;
    }
    if !byte_level {
        return Err(unsupported("no pre-tokenizer `ByteLevel`"));
    }
    let added: BTreeMap<u32, AddedToken> = whole.get_added_tokens_decoder().into_iter().collect();
    added.values().try_for_each(check_added)?;

    let letters: BTreeMap<char, u8> = byte_letters().map(|(byte, letter)| (letter, byte)).collect();
    let vocab = model.get_vocab();
    let n_ids = vocab.values().chain(added.keys()).max().map_or(0, |&id| id as usize + 1);
    if n_ids > MAX_ID as usize + 1 {
        return Err(unsupported(format!("the id {}, larger than {MAX_ID}", n_ids - 1)));
    }
    let mut bytes: Vec<Option<Box<[u8]>>> = vec![None; n_ids];
    for (text, &id) in &vocab {
        let spelled: Option<Vec<u8>> = text.chars().map(|letter| letters.get(&letter).copied()).collect();
        // A token in other letters is never the outcome of byte-level BPE; its text is its own.
        let spelled = spelled.unwrap_or_else(|| text.as_bytes().to_vec());
        if bytes[id as usize].replace(spelled.into()).is_some() {
            return Err(unsupported(format!("two tokens with the id {id}")));
        }
    }
    for (&id, token) in &added {
        bytes[id as usize] = Some(token.content.as_bytes().into());
    }

    let mut byte_ids = vec![None; 256];
    for (byte, letter) in byte_letters() {
        byte_ids[usize::from(byte)] = vocab.get(letter.encode_utf8(&mut [0; 4]) as &str).copied();
    }
    if let Some(byte) = (0..128u8).find(|&byte| byte_ids[usize::from(byte)].is_none() && expected(byte)) {
        return Err(PromptError::MissingByte { byte });
    }
    if let Some(id) = byte_ids.iter().flatten().find(|id| added.contains_key(id)) {
        return Err(unsupported(format!("the added token {:?} is a single byte", added[id].content)));
    }
    let uncovered = (0..=255u8).filter(|&byte| byte_ids[usize::from(byte)].is_none()).collect();

    let mut model = model.clone();
    // An unknown byte must not become a special token, which is what published files name here.
    model.unk_token = None;
    let mut plain = Plain::new(model);
    let failed = |e: tokenizers::Error| PromptError::Unreadable(e.to_string());
    plain.with_normalizer(whole.get_normalizer().cloned()).map_err(failed)?;
    plain.with_pre_tokenizer(whole.get_pre_tokenizer().cloned());
    Ok(Parts { plain, added, bytes, uncovered, byte_ids })
}

/// ASCII that texts are made of; the other control characters are missing from some published vocabularies.
fn expected(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')
}

fn unsupported(what: impl Into<String>) -> PromptError {
    PromptError::Unsupported { what: what.into() }
}

fn check_model(model: &BPE) -> Result<(), PromptError> {
    let marks = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
    if marks.into_iter().flatten().any(|mark| !mark.is_empty()) {
        return Err(unsupported("marks inside or behind words (`continuing_subword_prefix`, `end_of_word_suffix`)"));
    }
    if model.dropout.is_some_and(|p| p != 0.0) {
        return Err(unsupported("`dropout`"));
    }
    if model.byte_fallback {
        return Err(unsupported("`byte_fallback`: the vocabulary is not byte-level"));
    }
    Ok(())
}

fn check_normalizer(normalizer: &NormalizerWrapper) -> Result<(), PromptError> {
    match normalizer {
        NormalizerWrapper::NFC(_) => Ok(()),
        NormalizerWrapper::Sequence(steps) => steps.as_ref().iter().try_for_each(check_normalizer),
        _ => Err(unsupported("a normalizer other than `NFC`")),
    }
}

fn check_pre_tokenizer(step: &PreTokenizerWrapper, byte_level: &mut bool) -> Result<(), PromptError> {
    if *byte_level {
        return Err(unsupported("a pre-tokenizer behind `ByteLevel`"));
    }
    match step {
        PreTokenizerWrapper::Sequence(steps) => {
            steps.as_ref().iter().try_for_each(|step| check_pre_tokenizer(step, byte_level))
        }
        PreTokenizerWrapper::ByteLevel(step) if step.add_prefix_space => {
            Err(unsupported("`add_prefix_space`, which puts a space before every text"))
        }
        PreTokenizerWrapper::ByteLevel(_) => {
            *byte_level = true;
            Ok(())
        }
        PreTokenizerWrapper::Split(step) if step.behavior == SplitDelimiterBehavior::Removed => {
            Err(unsupported("a `Split` that removes text"))
        }
        PreTokenizerWrapper::Split(_) | PreTokenizerWrapper::Digits(_) => Ok(()),
        _ => Err(unsupported("a pre-tokenizer other than `Split`, `Digits` and `ByteLevel`")),
    }
}

fn check_added(token: &AddedToken) -> Result<(), PromptError> {
    let text = &token.content;
    let fault = if token.lstrip {
        "`lstrip`"
    } else if token.rstrip {
        "`rstrip`"
    } else if token.single_word {
        "`single_word`"
    } else if text.len() > MAX_ADDED {
        "an overlong text"
    } else if text.trim() != text {
        "white space at an end"
    } else if text.chars().nth(1).is_none() {
        "a single character"
    } else if token.normalized && !text.is_ascii() {
        "`normalized`, and is not ASCII"
    } else {
        return Ok(());
    };
    let start: String = text.chars().take(40).collect();
    Err(unsupported(format!("the added token {start:?}, which has {fault}")))
}
