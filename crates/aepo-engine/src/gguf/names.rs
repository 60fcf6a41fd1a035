//! Which model do the keys and tensors of a GGUF file describe? A [`ModelConfig`], and each tensor's name in the file.
//!
//! Whatever would change the mathematics and has no place in [`ModelConfig`] is refused by name: every key of the
//! architecture must be one that is read here, or hold the value with which it changes nothing.

use std::collections::BTreeMap;

use super::error::GgufError;
use super::reader::{TensorInfo, Value};
use super::rope;
use crate::config::rope::RopeScaling;
use crate::config::{Family, ModelConfig, TokenIds};

/// Keys, by name.
pub type Keys = BTreeMap<String, Value>;

/// Keys of an architecture that [`config`] reads.
const READ: &[&str] = &[
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.freq_base",
    "rope.dimension_count",
    "vocab_size",
];

/// Keys of an architecture that ask for nothing while they hold this value.
const NEUTRAL: &[(&str, Value)] = &[
    ("attention.causal", Value::Bool(true)),
    ("attention.sliding_window", Value::Integer(0)),
    ("attention.clamp_kqv", Value::F32(0.0)),
    ("attention.max_alibi_bias", Value::F32(0.0)),
    ("expert_count", Value::Integer(0)),
    ("expert_used_count", Value::Integer(0)),
    ("pooling_type", Value::Integer(0)),
    ("rope.scale_linear", Value::F32(1.0)),
    ("use_parallel_residual", Value::Bool(false)),
];

/// Reads the model's shape; the embedding gives the vocabulary's size, which may be padded beyond the tokenizer's.
///
/// `factors` are the numbers of [`rope::FACTORS`], where the file has that tensor.
pub fn config(
    keys: &Keys,
    tensors: &BTreeMap<String, TensorInfo>,
    factors: Option<&[f32]>,
) -> Result<ModelConfig, GgufError> {
    const ARCHITECTURE: &str = "general.architecture";
    let name = required(text(keys, ARCHITECTURE)?, ARCHITECTURE)?;
    let model_type = match name {
        "llama" => Family::Llama,
        "qwen2" => Family::Qwen2,
        "qwen3" => Family::Qwen3,
        other => return Err(unsupported(ARCHITECTURE, format!("`{}`", clip(other)), "llama, qwen2 and qwen3 are")),
    };
    refuse_unsupported(keys, name)?;
    let key = |suffix: &str| format!("{name}.{suffix}");
    let count = |suffix: &str| integer(keys, &key(suffix));
    let needed = |suffix: &str| required(count(suffix)?, &key(suffix));
    let embedding = tensors.get("token_embd.weight");
    let embedding = embedding.ok_or_else(|| GgufError::MissingTensor { name: "token_embd.weight".into() })?;
    let (heads, hidden_size) = (needed("attention.head_count")?, needed("embedding_length")?);
    let head_dim = count("attention.key_length")?.unwrap_or(hidden_size.checked_div(heads).unwrap_or(0));
    for suffix in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = count(suffix)?.filter(|&n| n != head_dim) {
            let found = format!("{other} of the {head_dim} dimensions of a head");
            return Err(unsupported(&key(suffix), found, "the whole head is"));
        }
    }
    let vocab_size = embedding.shape[0];
    if let Some(other) = count("vocab_size")?.filter(|&n| n != vocab_size) {
        let problem = format!("is {other}, but tensor `token_embd.weight` has {vocab_size} rows");
        return Err(GgufError::key(&key("vocab_size"), problem));
    }
    // Each block has at least seven matrices and two norms; with this no other number decides how much is laid out.
    let num_hidden_layers = needed("block_count")?;
    if num_hidden_layers > tensors.len() / 9 {
        let problem = format!("is {num_hidden_layers}, more blocks than {} tensors make", tensors.len());
        return Err(GgufError::key(&key("block_count"), problem));
    }
    let epsilon = key("attention.layer_norm_rms_epsilon");
    let rope_theta = number(keys, &key("rope.freq_base"))?.unwrap_or(10_000.0);
    let mut config = ModelConfig {
        model_type,
        vocab_size,
        hidden_size,
        intermediate_size: needed("feed_forward_length")?,
        num_hidden_layers,
        num_attention_heads: heads,
        num_key_value_heads: count("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        rms_norm_eps: required(number(keys, &epsilon)?, &epsilon)?,
        rope_theta,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: needed("context_length")?,
        tie_word_embeddings: !tensors.contains_key("output.weight"),
        sliding_window: None,
        token_ids: token_ids(keys)?,
    };
    // The frequencies are asked for only of a base and a width that make sense.
    config.validate().map_err(GgufError::Shape)?;
    config.rope_scaling = rope::scaling(keys, name, factors, rope_theta, head_dim)?;
    config.validate().map_err(GgufError::Shape)?;
    Ok(config)
}

/// What other programs look for in a `config.json`; `tokenizer` checks that the tokens are there.
fn token_ids(keys: &Keys) -> Result<TokenIds, GgufError> {
    let id = |name: &str| {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let id = integer(keys, &key)?.map(u32::try_from).transpose();
        id.map_err(|_| GgufError::key(&key, "is too large for a token"))
    };
    let mut eos: Vec<u32> = [id("eos")?, id("eot")?].into_iter().flatten().collect();
    eos.dedup();
    Ok(TokenIds { bos: id("bos")?, eos, pad: id("padding")? })
}

fn refuse_unsupported(keys: &Keys, architecture: &str) -> Result<(), GgufError> {
    if let Some(kind) = text(keys, "general.type")?.filter(|&kind| kind != "model") {
        return Err(unsupported("general.type", format!("`{}`", clip(kind)), "`model` is"));
    }
    if let Some(n) = integer(keys, "split.count")?.filter(|&n| n > 1) {
        return Err(unsupported("split.count", format!("{n} files"), "join them with `gguf-split --merge`"));
    }
    for (key, value) in keys {
        let Some(suffix) = key.strip_prefix(architecture).and_then(|k| k.strip_prefix('.')) else { continue };
        if READ.contains(&suffix)
            || rope::READ.contains(&suffix)
            || NEUTRAL.iter().any(|(s, neutral)| *s == suffix && neutral == value)
        {
            continue;
        }
        return Err(unsupported(key, format!("{value}"), "models without it are"));
    }
    Ok(())
}

/// The name in a GGUF file of a tensor of [`crate::layout::Layout`].
#[must_use]
pub fn in_file(name: &str) -> String {
    let Some((layer, part)) = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) else {
        return match name {
            "model.embed_tokens.weight" => "token_embd.weight",
            "model.norm.weight" => "output_norm.weight",
            "lm_head.weight" => "output.weight",
            other => other,
        }
        .to_owned();
    };
    let (module, kind) = part.rsplit_once('.').unwrap_or((part, "weight"));
    let module = match module {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        other => other,
    };
    format!("blk.{layer}.{module}.{kind}")
}

/// Whether the rows of a tensor of [`crate::layout::Layout`] stand in the order of [`rotate_halves`] in a file.
#[must_use]
pub fn is_interleaved(family: Family, name: &str) -> bool {
    family == Family::Llama && (name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight"))
}

/// Undoes the row order of llama-architecture files, in place.
///
/// Those pair the dimensions 2j and 2j+1 of a head in RoPE, the engine j and j + head_dim/2: row 2j+s of a head in the
/// file is row s·head_dim/2 + j here.
pub fn rotate_halves(weights: &mut [f32], head_dim: usize, row_len: usize) {
    let half = head_dim / 2;
    let mut rows = vec![0.0; head_dim * row_len];
    for head in weights.chunks_exact_mut(head_dim * row_len) {
        rows.copy_from_slice(head);
        for (to, row) in head.chunks_exact_mut(row_len).enumerate() {
            let from = 2 * (to % half) + to / half;
            row.copy_from_slice(&rows[from * row_len..][..row_len]);
        }
    }
}

/// A key that must be there.
pub(super) fn required<T>(value: Option<T>, key: &str) -> Result<T, GgufError> {
    value.ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
}

/// A key that holds text.
pub(super) fn text<'a>(keys: &'a Keys, key: &str) -> Result<Option<&'a str>, GgufError> {
    match keys.get(key) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(other) => Err(GgufError::key(key, format!("must be text, found {other}"))),
    }
}

/// A key that holds a count.
pub(super) fn integer(keys: &Keys, key: &str) -> Result<Option<usize>, GgufError> {
    let wrong = |found: &Value| GgufError::key(key, format!("must be one whole number from 0, found {found}"));
    match keys.get(key) {
        None => Ok(None),
        Some(found @ Value::Integer(n)) => usize::try_from(*n).map(Some).map_err(|_| wrong(found)),
        Some(other) => Err(wrong(other)),
    }
}

/// A key that is true or false.
pub(super) fn boolean(keys: &Keys, key: &str) -> Result<Option<bool>, GgufError> {
    match keys.get(key) {
        None => Ok(None),
        Some(Value::Bool(x)) => Ok(Some(*x)),
        Some(other) => Err(GgufError::key(key, format!("must be true or false, found {other}"))),
    }
}

/// A key that holds a number. A single is read as the shortest decimal that rounds to it, 1e-5 and not
/// 9.999999747378752e-6, because the model's `config.json` said the decimal.
pub(super) fn number(keys: &Keys, key: &str) -> Result<Option<f64>, GgufError> {
    match keys.get(key) {
        None => Ok(None),
        Some(Value::F32(x)) => Ok(Some(x.to_string().parse().unwrap_or(f64::from(*x)))),
        Some(Value::F64(x)) => Ok(Some(*x)),
        Some(other) => Err(GgufError::key(key, format!("must be a number, found {other}"))),
    }
}

pub(super) fn unsupported(key: &str, found: impl Into<String>, supported: &str) -> GgufError {
    GgufError::Unsupported { key: key.to_owned(), found: found.into(), supported: supported.to_owned() }
}

/// The beginning of a text, for messages.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::testing::config as small;

    #[test]
    fn every_tensor_has_a_name_of_its_own_in_the_file() {
        for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
            let layout = Layout::new(&small(family, false));
            let names: std::collections::BTreeSet<String> = layout.tensors.iter().map(|t| in_file(&t.name)).collect();
            assert_eq!(names.len(), layout.tensors.len());
            let ours = |n: &&String| n.contains("proj") || n.contains("layernorm") || n.starts_with("model");
            assert_eq!(names.iter().find(ours), None);
        }
        assert_eq!(in_file("model.layers.12.self_attn.q_proj.bias"), "blk.12.attn_q.bias");
    }

    #[test]
    fn pairs_of_neighbours_become_pairs_of_halves() {
        // Two heads of four rows of two numbers; row r of head h holds 10·h + r.
        let row = |x: i32| [x as f32, -x as f32];
        let mut weights: Vec<f32> = [0, 1, 2, 3, 10, 11, 12, 13].into_iter().flat_map(row).collect();
        rotate_halves(&mut weights, 4, 2);
        let expected: Vec<f32> = [0, 2, 1, 3, 10, 12, 11, 13].into_iter().flat_map(row).collect();
        assert_eq!(weights, expected);
    }
}
