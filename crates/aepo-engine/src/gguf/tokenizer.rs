//! How does the model cut text into tokens? The byte-level BPE of a GGUF file, written as a `tokenizer.json`.
//!
//! A file names its rules for cutting text before merging (`tokenizer.ggml.pre`) but does not hold them. They are those
//! of the models' published tokenizers: GPT-2, SmolLM2, Qwen2 to Qwen3, Llama 3. `default` is what converters wrote for
//! models they did not know; it has a definition too, that of llama.cpp, which is kept.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value as Json, json};

use super::error::GgufError;
use super::names::{Keys, boolean, clip, integer, required, text, unsupported};
use super::reader::Value;

/// Ids with a meaning, where the file names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn, where that is another token.
    pub eot: Option<u32>,
    /// Fills up a batch.
    pub pad: Option<u32>,
}

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is cut before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Gpt2,
    SmolLm,
    Qwen2,
    Llama3,
    Default,
}

impl Cut {
    fn of(pre: &str) -> Result<Cut, GgufError> {
        Ok(match pre {
            "gpt-2" | "gpt2" => Cut::Gpt2,
            "smollm" => Cut::SmolLm,
            "qwen2" => Cut::Qwen2,
            "llama-bpe" | "llama3" | "llama-v3" => Cut::Llama3,
            "default" => Cut::Default,
            other => {
                let known = "smollm, qwen2, llama-bpe, gpt-2 and default are";
                return Err(unsupported(PRE, format!("the rules `{}`", clip(other)), known));
            }
        })
    }

    /// Applied one after another, each to the pieces of the one before.
    fn steps(self) -> Vec<Json> {
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        match self {
            Cut::Gpt2 => vec![split(GPT2)],
            Cut::SmolLm => vec![json!({"type": "Digits", "individual_digits": true}), split(GPT2)],
            Cut::Qwen2 => vec![split(QWEN2)],
            Cut::Llama3 => vec![split(LLAMA3)],
            Cut::Default => [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"].map(split).to_vec(),
        }
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Made by merging bytes.
    Normal,
    /// Found in the text as a whole before it is cut, and part of what is said.
    Added,
    /// As `Added`, and no part of what is said.
    Special,
    /// Fills up the vocabulary.
    Unused,
}

/// Writes the tokenizer of a model whose embedding has `vocab_size` rows.
pub fn tokenizer(keys: &Keys, vocab_size: usize) -> Result<(String, SpecialIds), GgufError> {
    let model = required(text(keys, MODEL)?, MODEL)?;
    if model != "gpt2" {
        let found = format!("a tokenizer of the kind `{}`", clip(model));
        return Err(unsupported(MODEL, found, "byte-level BPE, `gpt2`, is"));
    }
    const PREFIX: &str = "tokenizer.ggml.add_space_prefix";
    if boolean(keys, PREFIX)? == Some(true) {
        return Err(unsupported(PREFIX, "a space before every text", "tokenizers without it are"));
    }
    let cut = Cut::of(required(text(keys, PRE)?, PRE)?)?;
    let tokens = texts(keys, TOKENS)?;
    if tokens.len() > vocab_size {
        let problem = format!("has {} entries, but tensor `token_embd.weight` only {vocab_size} rows", tokens.len());
        return Err(GgufError::key(TOKENS, problem));
    }
    let kinds = kinds(keys, tokens.len())?;
    let special = SpecialIds {
        bos: id(keys, BOS, &kinds)?,
        eos: id(keys, EOS, &kinds)?,
        eot: id(keys, "tokenizer.ggml.eot_token_id", &kinds)?,
        pad: id(keys, "tokenizer.ggml.padding_token_id", &kinds)?,
    };
    let (n_plain, added) = added_tokens(tokens, &kinds)?;
    let vocab = vocabulary(&tokens[..n_plain], &kinds)?;
    let mut steps = cut.steps();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    steps.push(byte_level.clone());
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": (cut == Cut::Qwen2).then(|| json!({"type": "NFC"})),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": frame(keys, cut, tokens, special)?,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": cut == Cut::Llama3,
            "merges": merges(texts(keys, MERGES)?, &vocab)?,
            "vocab": vocab,
        },
    });
    Ok((json.to_string(), special))
}

fn texts<'a>(keys: &'a Keys, key: &str) -> Result<&'a [String], GgufError> {
    match required(keys.get(key), key)? {
        Value::Texts(texts) => Ok(texts),
        other => Err(GgufError::key(key, format!("must be an array of strings, found {other}"))),
    }
}

fn kinds(keys: &Keys, n_tokens: usize) -> Result<Vec<Kind>, GgufError> {
    let types = match required(keys.get(TYPES), TYPES)? {
        Value::Integers(types) if types.len() == n_tokens => types,
        other => {
            return Err(GgufError::key(
                TYPES,
                format!("must hold one integer for each of {n_tokens} tokens, found {other}"),
            ));
        }
    };
    let kind = |(id, found): (usize, &i64)| match found {
        1 => Ok(Kind::Normal),
        2 | 3 => Ok(Kind::Special),
        4 => Ok(Kind::Added),
        5 => Ok(Kind::Unused),
        other => Err(GgufError::key(TYPES, format!("says {other} of token {id}, which is no type of byte-level BPE"))),
    };
    types.iter().enumerate().map(kind).collect()
}

fn id(keys: &Keys, key: &str, kinds: &[Kind]) -> Result<Option<u32>, GgufError> {
    let Some(id) = integer(keys, key)? else { return Ok(None) };
    match kinds.get(id) {
        Some(Kind::Unused) | None => Err(GgufError::key(key, format!("is {id}, but the tokenizer has no such token"))),
        Some(_) => Ok(Some(id as u32)),
    }
}

/// How many of the tokens belong into the model's vocabulary, and the entries of all that are found as a whole.
///
/// A `tokenizer.json` gives added tokens behind the vocabulary the ids that follow it. Where the file's end that way,
/// as those of Qwen and Llama 3, they stay out of the vocabulary, so that no merging can make one; others, as those at
/// the beginning of SmolLM2's, are in it under the ids they have.
fn added_tokens(tokens: &[String], kinds: &[Kind]) -> Result<(usize, Vec<Json>), GgufError> {
    let is_added = |kind: &Kind| matches!(kind, Kind::Added | Kind::Special);
    let n_used = kinds.iter().rposition(|&kind| kind != Kind::Unused).map_or(0, |last| last + 1);
    let n_before = kinds[..n_used].iter().rposition(|kind| !is_added(kind)).map_or(0, |last| last + 1);
    let n_plain = if kinds[..n_before].contains(&Kind::Unused) { n_used } else { n_before };
    let mut seen = HashMap::new();
    let mut added = Vec::new();
    for (id, (token, kind)) in tokens.iter().zip(kinds).enumerate().filter(|(_, (_, kind))| **kind != Kind::Unused) {
        if let Some(other) = seen.insert(token, id) {
            return Err(GgufError::key(TOKENS, format!("has `{}` twice, as {other} and {id}", clip(token))));
        }
        if token.is_empty() {
            return Err(GgufError::key(TOKENS, format!("has an empty token, {id}")));
        }
        if is_added(kind) {
            added.push(json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": *kind == Kind::Special,
            }));
        }
    }
    Ok((n_plain, added))
}

fn vocabulary(tokens: &[String], kinds: &[Kind]) -> Result<serde_json::Map<String, Json>, GgufError> {
    let used = tokens.iter().zip(kinds).enumerate().filter(|(_, (_, kind))| **kind != Kind::Unused);
    let vocab: serde_json::Map<String, Json> = used.map(|(id, (token, _))| (token.clone(), id.into())).collect();
    match vocab.is_empty() {
        true => Err(GgufError::key(TOKENS, "has no token that merging could make")),
        false => Ok(vocab),
    }
}

/// Pairs in the order of their rank; all three tokens of a merge must be in the vocabulary.
fn merges(merges: &[String], vocab: &serde_json::Map<String, Json>) -> Result<Vec<Json>, GgufError> {
    let mut seen = BTreeSet::new();
    let pair = |(i, merge): (usize, &String)| {
        let wrong = |problem: &str| GgufError::key(MERGES, format!("entry {i}, `{}`, {problem}", clip(merge)));
        let (left, right) = merge.split_once(' ').ok_or_else(|| wrong("is no pair of tokens"))?;
        let whole = format!("{left}{right}");
        if [left, right, &whole].into_iter().any(|token| !vocab.contains_key(token)) {
            return Err(wrong("is of tokens that the vocabulary does not have"));
        }
        Ok(json!([left, right]))
    };
    if let Some(twice) = merges.iter().find(|merge| !seen.insert(merge.as_str())) {
        return Err(GgufError::key(MERGES, format!("has `{}` twice", clip(twice))));
    }
    merges.iter().enumerate().map(pair).collect()
}

/// What stands around every text: the tokens that begin and end it, where the file or the rules ask for them.
fn frame(keys: &Keys, cut: Cut, tokens: &[String], special: SpecialIds) -> Result<Json, GgufError> {
    let begins = boolean(keys, "tokenizer.ggml.add_bos_token")?.unwrap_or(cut == Cut::Llama3);
    let ends = boolean(keys, "tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut entries = serde_json::Map::new();
    for (asked, id, key, at) in [(begins, special.bos, BOS, &mut before), (ends, special.eos, EOS, &mut after)] {
        if asked {
            let id = required(id, key)?;
            let token = &tokens[id as usize];
            at.push(token);
            entries.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
        }
    }
    if entries.is_empty() {
        return Ok(Json::Null);
    }
    let text = |name: &str, type_id: u32| {
        let special = |token: &&String| json!({"SpecialToken": {"id": token, "type_id": type_id}});
        let sequence = json!({"Sequence": {"id": name, "type_id": type_id}});
        before.iter().map(special).chain([sequence]).chain(after.iter().map(special)).collect::<Vec<_>>()
    };
    let pair = [text("A", 0), text("B", 1)].concat();
    Ok(json!({"type": "TemplateProcessing", "single": text("A", 0), "pair": pair, "special_tokens": entries}))
}
