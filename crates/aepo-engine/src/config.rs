//! What shape has the model? A Hugging Face `config.json` of the Llama / Qwen2 / Qwen3 family, or a clear refusal.

use serde::{Deserialize, Serialize};

/// Which published architecture the weights follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Llama 2/3, SmolLM2: no bias, no QK-norm.
    Llama,
    /// Qwen2, Qwen2.5: biases on the query, key and value projections.
    Qwen2,
    /// Qwen3: per-head RMSNorm on queries and keys before RoPE.
    Qwen3,
}

/// The shape of a decoder-only transformer, under the names of its `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Architecture.
    pub model_type: Family,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// RMSNorm's ε.
    pub rms_norm_eps: f64,
    /// RoPE's base θ.
    pub rope_theta: f64,
    /// Longest sequence, tokens.
    pub max_position_embeddings: usize,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
}

/// Bounds that keep a hostile file from asking for absurd memory before its weights are looked at.
const MAX_DIM: usize = 1 << 20;
const MAX_PARAMETERS: u128 = 1 << 40;

/// Widest attention head.
pub const MAX_HEAD_DIM: usize = 512;

impl ModelConfig {
    /// Reads a `config.json`; the error names the key.
    pub fn from_json(text: &str) -> Result<ModelConfig, String> {
        let json: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("not valid JSON: {e}"))?;
        let family = match json.get("model_type").and_then(|v| v.as_str()) {
            Some("llama") => Family::Llama,
            Some("qwen2") => Family::Qwen2,
            Some("qwen3") => Family::Qwen3,
            Some(other) => return Err(format!("model_type `{other}` is not supported (llama, qwen2, qwen3 are)")),
            None => return Err("key `model_type` is missing".into()),
        };
        refuse_unsupported(&json)?;
        let count = |key: &str| -> Result<usize, String> {
            let value = json.get(key).ok_or(format!("key `{key}` is missing"))?;
            value.as_u64().map(|v| v as usize).ok_or(format!("key `{key}` must be a whole number, found {value}"))
        };
        let optional = |key: &str| json.get(key).is_some_and(|v| !v.is_null()).then(|| count(key)).transpose();
        let number = |value: Option<&serde_json::Value>, key: &str| match value {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(v) => v.as_f64().map(Some).ok_or(format!("key `{key}` must be a number, found {v}")),
        };
        let rope = json.get("rope_parameters").unwrap_or(&json);
        let heads = count("num_attention_heads")?;
        let config = ModelConfig {
            model_type: family,
            vocab_size: count("vocab_size")?,
            hidden_size: count("hidden_size")?,
            intermediate_size: count("intermediate_size")?,
            num_hidden_layers: count("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: optional("num_key_value_heads")?.unwrap_or(heads),
            head_dim: match optional("head_dim")? {
                Some(dim) => dim,
                None => count("hidden_size")?.checked_div(heads).unwrap_or(0),
            },
            rms_norm_eps: number(json.get("rms_norm_eps"), "rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta: number(rope.get("rope_theta"), "rope_theta")?.unwrap_or(10_000.0),
            max_position_embeddings: count("max_position_embeddings")?,
            tie_word_embeddings: json.get("tie_word_embeddings").and_then(|v| v.as_bool()).unwrap_or(false),
        };
        config.validate()?;
        Ok(config)
    }

    /// Checks that the numbers fit together; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        for (key, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 || value > MAX_DIM {
                return Err(format!("key `{key}` must lie between 1 and {MAX_DIM}, found {value}"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(format!(
                "num_key_value_heads ({}) must divide num_attention_heads ({})",
                self.num_key_value_heads, self.num_attention_heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) || self.head_dim > MAX_HEAD_DIM {
            return Err(format!("head_dim must be even and at most {MAX_HEAD_DIM}, found {}", self.head_dim));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return Err(format!("rms_norm_eps must lie between 0 and 1, found {}", self.rms_norm_eps));
        }
        if !(self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            return Err(format!("rope_theta must be above 1, found {}", self.rope_theta));
        }
        let per_layer = self.hidden_size as u128
            * (2 * self.q_dim() as u128 + 2 * self.kv_dim() as u128 + 3 * self.intermediate_size as u128);
        let total = per_layer * self.num_hidden_layers as u128 + 2 * (self.vocab_size * self.hidden_size) as u128;
        if total > MAX_PARAMETERS {
            return Err(format!("the configuration asks for about {total} parameters"));
        }
        Ok(())
    }

    /// The `config.json` that other tools read.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (architecture, bias) = match self.model_type {
            Family::Llama => ("LlamaForCausalLM", false),
            Family::Qwen2 => ("Qwen2ForCausalLM", true),
            Family::Qwen3 => ("Qwen3ForCausalLM", false),
        };
        let mut json = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = json.as_object_mut() {
            map.insert("architectures".into(), serde_json::json!([architecture]));
            map.insert("attention_bias".into(), serde_json::json!(bias));
            map.insert("hidden_act".into(), "silu".into());
            map.insert("torch_dtype".into(), "bfloat16".into());
        }
        let mut text = serde_json::to_string_pretty(&json).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Width of all query heads together.
    #[must_use]
    pub fn q_dim(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key heads together.
    #[must_use]
    pub fn kv_dim(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Width of a row of queries, keys and values.
    #[must_use]
    pub fn qkv_dim(&self) -> usize {
        self.q_dim() + 2 * self.kv_dim()
    }

    /// Query heads per key/value head.
    #[must_use]
    pub fn group_size(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }
}

/// Everything that would change the mathematics and is not built is refused by name.
fn refuse_unsupported(json: &serde_json::Value) -> Result<(), String> {
    let get = |key: &str| json.get(key).filter(|v| !v.is_null());
    if let Some(act) = get("hidden_act").and_then(|v| v.as_str())
        && act != "silu"
    {
        return Err(format!("hidden_act `{act}` is not supported (silu is)"));
    }
    if let Some(scaling) = get("rope_scaling") {
        return Err(format!("rope_scaling {scaling} is not supported yet"));
    }
    if let Some(kind) = get("rope_parameters").and_then(|r| r.get("rope_type")).and_then(|v| v.as_str())
        && kind != "default"
    {
        return Err(format!("rope_parameters.rope_type `{kind}` is not supported yet"));
    }
    if get("use_sliding_window").and_then(|v| v.as_bool()) == Some(true) {
        return Err("use_sliding_window is not supported yet".into());
    }
    if get("mlp_bias").and_then(|v| v.as_bool()) == Some(true) {
        return Err("mlp_bias is not supported".into());
    }
    let qwen2 = get("model_type").and_then(|v| v.as_str()) == Some("qwen2");
    if !qwen2 && get("attention_bias").and_then(|v| v.as_bool()) == Some(true) {
        return Err("attention_bias is supported for qwen2 only".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"model_type":"qwen3","vocab_size":50,"hidden_size":32,"intermediate_size":48,
        "num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"rms_norm_eps":1e-6,
        "rope_theta":1000000.0,"max_position_embeddings":128,"tie_word_embeddings":true}"#;

    #[test]
    fn reads_what_it_writes() {
        let config = ModelConfig::from_json(GOOD).unwrap();
        assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn names_what_it_refuses() {
        for (from, to, word) in [
            ("qwen3", "gpt2", "gpt2"),
            ("\"vocab_size\":50,", "", "vocab_size"),
            ("\"vocab_size\":50", "\"vocab_size\":\"x\"", "vocab_size"),
            ("\"vocab_size\":50", "\"vocab_size\":99999999999", "vocab_size"),
            ("\"num_key_value_heads\":2", "\"num_key_value_heads\":3", "num_key_value_heads"),
            ("\"head_dim\":16", "\"head_dim\":15", "head_dim"),
            ("\"tie_word", "\"rope_scaling\":{\"type\":\"yarn\"},\"tie_word", "rope_scaling"),
            ("\"tie_word", "\"hidden_act\":\"gelu\",\"tie_word", "hidden_act"),
            ("{", "", "JSON"),
        ] {
            let error = ModelConfig::from_json(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
