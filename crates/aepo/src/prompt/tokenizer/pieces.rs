//! How is text encoded without the library's bookkeeping? Cut into pieces where the library cuts it, each piece encoded
//! once.
//!
//! The library keeps for each token where it came from in the text, and its letters; that takes several times as long as
//! finding the ids, and nobody here asks for it. A byte-level vocabulary encodes each piece of a text by itself, and pieces
//! (words with the space before them, signs, digits) come again and again. So the text is cut by the library's own
//! patterns, and the ids of a piece, which the library's own model finds, are remembered.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::{Model as _, NormalizedString, Normalizer as _, SplitDelimiterBehavior};
use tokenizers::utils::SysRegex;

use super::byte_letters;
use super::load::Plain;

/// What `ByteLevel` cuts by where it is told to: the pattern of GPT-2's vocabulary.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Most pieces that are remembered.
const MAX_PIECES: usize = 1 << 15;
/// Longest piece that is remembered, in bytes. With [`MAX_PIECES`] it bounds the memory at some megabytes.
const MAX_PIECE: usize = 48;

/// Where a vocabulary cuts text, and what it has made of pieces so far.
pub(super) struct Pieces {
    cuts: Vec<Cut>,
    /// The letter of each byte.
    letters: Vec<char>,
    known: Mutex<Known>,
}

/// One step that cuts pieces into smaller ones.
enum Cut {
    /// Before and behind every match of a pattern.
    Pattern(SysRegex),
    /// Before and behind every digit and other numeric character.
    EachNumeric,
    /// Before and behind every run of them.
    NumericRuns,
}

/// The ids of pieces.
#[derive(Default)]
struct Known {
    /// Where in `ids` those of a piece are.
    by_piece: HashMap<Box<str>, Range<u32>>,
    ids: Vec<u32>,
}

impl Pieces {
    /// For these steps of a pre-tokenizer; `None` where one of them cuts otherwise than is known here, so that the library
    /// has to do it.
    pub fn new(step: Option<&PreTokenizerWrapper>) -> Option<Pieces> {
        let mut cuts = Vec::new();
        add_cuts(step?, &mut cuts)?;
        Some(Pieces { cuts, letters: byte_letters().map(|(_, letter)| letter).collect(), known: Mutex::default() })
    }

    /// The ids that `plain` gives for `text`, into `ids`; false, and nothing, where the library has to do it.
    pub fn encode(&self, plain: &Plain, text: &str, ids: &mut Vec<u32>) -> bool {
        match plain.get_normalizer() {
            // Text in ASCII is in normal form.
            Some(normalizer) if !text.is_ascii() => match normalized(normalizer, text) {
                Some(text) => self.encode_normal(plain.get_model(), &text, ids),
                None => false,
            },
            _ => self.encode_normal(plain.get_model(), text, ids),
        }
    }

    fn encode_normal(&self, model: &BPE, text: &str, ids: &mut Vec<u32>) -> bool {
        let n_before = ids.len();
        // What another thread left behind when it panicked is whole pieces: an entry is made when its ids are there.
        let known = &mut *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = self.each(0, text, &mut |piece| match known.by_piece.get(piece) {
            Some(range) => {
                ids.extend_from_slice(&known.ids[range.start as usize..range.end as usize]);
                true
            }
            None => {
                let letters: String = piece.bytes().map(|byte| self.letters[usize::from(byte)]).collect();
                let Ok(tokens) = model.tokenize(&letters) else { return false };
                ids.extend(tokens.iter().map(|token| token.id));
                if piece.len() <= MAX_PIECE && known.by_piece.len() < MAX_PIECES {
                    let start = known.ids.len() as u32;
                    known.ids.extend(tokens.iter().map(|token| token.id));
                    let end = known.ids.len() as u32;
                    known.by_piece.insert(piece.into(), start..end);
                }
                true
            }
        });
        if !whole {
            ids.truncate(n_before);
        }
        whole
    }

    /// Calls `on` with the pieces of `text` in order, cut by the steps from `step` on, until it says no.
    fn each(&self, step: usize, text: &str, on: &mut dyn FnMut(&str) -> bool) -> bool {
        let Some(cut) = self.cuts.get(step) else { return text.is_empty() || on(text) };
        let mut from = 0;
        let mut upto = |end: usize| {
            let start = std::mem::replace(&mut from, end);
            start == end || self.each(step + 1, &text[start..end], on)
        };
        let matched = match cut {
            Cut::Pattern(pattern) => pattern.find_iter(text).all(|(start, end)| upto(start) && upto(end)),
            Cut::EachNumeric => text
                .char_indices()
                .filter(|(_, c)| c.is_numeric())
                .all(|(start, c)| upto(start) && upto(start + c.len_utf8())),
            Cut::NumericRuns => {
                let mut before = None;
                text.char_indices().all(|(start, c)| {
                    let changes = before.replace(c.is_numeric()).is_some_and(|before| before != c.is_numeric());
                    !changes || upto(start)
                })
            }
        };
        matched && upto(text.len())
    }
}

/// Adds the cuts of a step; `None` where one is not known.
fn add_cuts(step: &PreTokenizerWrapper, cuts: &mut Vec<Cut>) -> Option<()> {
    match step {
        PreTokenizerWrapper::Sequence(steps) => steps.as_ref().iter().try_for_each(|step| add_cuts(step, cuts)),
        // Whether matches or what lies between them are the delimiters makes no difference where both stand alone.
        PreTokenizerWrapper::Split(step) if step.behavior == SplitDelimiterBehavior::Isolated => {
            use tokenizers::pre_tokenizers::split::SplitPattern;
            let SplitPattern::Regex(pattern) = &step.pattern else { return None };
            cuts.push(Cut::Pattern(SysRegex::new(pattern).ok()?));
            Some(())
        }
        PreTokenizerWrapper::Digits(step) => {
            cuts.push(if step.individual_digits { Cut::EachNumeric } else { Cut::NumericRuns });
            Some(())
        }
        PreTokenizerWrapper::ByteLevel(step) if !step.add_prefix_space => {
            if step.use_regex {
                cuts.push(Cut::Pattern(SysRegex::new(GPT2).ok()?));
            }
            Some(())
        }
        _ => None,
    }
}

fn normalized(normalizer: &NormalizerWrapper, text: &str) -> Option<String> {
    let mut normal = NormalizedString::from(text);
    normalizer.normalize(&mut normal).ok()?;
    Some(normal.get().to_owned())
}
