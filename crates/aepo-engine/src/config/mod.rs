//! What shape has the model? A Hugging Face `config.json` of the Llama / Qwen2 / Qwen3 family, or a clear refusal.

mod error;
mod parse;
pub mod rope;

pub use error::ConfigError;
use rope::RopeScaling;

/// Which published architecture the weights follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 2/3, SmolLM2: no bias, no QK-norm.
    Llama,
    /// Qwen2, Qwen2.5: biases on the query, key and value projections.
    Qwen2,
    /// Qwen3: per-head RMSNorm on queries and keys before RoPE.
    Qwen3,
}

/// The shape of a decoder-only transformer, under the names of its `config.json`.
#[derive(Clone, Debug, PartialEq)]
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
    /// What was done to RoPE's frequencies.
    pub rope_scaling: RopeScaling,
    /// Longest sequence, tokens.
    pub max_position_embeddings: usize,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Blocks whose tokens look back over a few tokens only.
    pub sliding_window: Option<SlidingWindow>,
    /// Token ids that other programs look for in this file.
    pub token_ids: TokenIds,
}

/// Attention over the last tokens of a path: a token reads itself and the `n_tokens − 1` before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Tokens read, the reading one included.
    pub n_tokens: usize,
    /// `[num_hidden_layers]`, whether a block has the window; the others read everything.
    pub layers: Vec<bool>,
}

/// Ids with a meaning. The engine only hands them on: what ends a turn is the caller's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenIds {
    /// `bos_token_id`
    pub bos: Option<u32>,
    /// `eos_token_id`, one or several.
    pub eos: Vec<u32>,
    /// `pad_token_id`
    pub pad: Option<u32>,
}

/// Bounds that keep a hostile file from asking for absurd memory before its weights are looked at.
const MAX_DIM: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 12;
const MAX_PARAMETERS: u128 = 1 << 40;

/// Widest attention head.
pub const MAX_HEAD_DIM: usize = 512;

impl ModelConfig {
    /// Checks that the numbers fit together; the error names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (key, value, most) in [
            ("vocab_size", self.vocab_size, MAX_DIM),
            ("hidden_size", self.hidden_size, MAX_DIM),
            ("intermediate_size", self.intermediate_size, MAX_DIM),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_DIM),
            ("num_key_value_heads", self.num_key_value_heads, MAX_DIM),
            ("head_dim", self.head_dim, MAX_HEAD_DIM),
            ("max_position_embeddings", self.max_position_embeddings, MAX_DIM),
        ] {
            if value == 0 || value > most {
                return Err(ConfigError::OutOfRange { key, most, found: value });
            }
        }
        let wrong = |key: &str, expected, found: String| Err(ConfigError::Wrong { key: key.into(), expected, found });
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let found = format!("{} for {} heads", self.num_key_value_heads, self.num_attention_heads);
            return wrong("num_key_value_heads", "a divisor of num_attention_heads", found);
        }
        if !self.head_dim.is_multiple_of(2) {
            return wrong("head_dim", "even", self.head_dim.to_string());
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return wrong("rms_norm_eps", "a number between 0 and 1", self.rms_norm_eps.to_string());
        }
        if !(self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            return wrong("rope_theta", "a number above 1", self.rope_theta.to_string());
        }
        self.rope_scaling.validate()?;
        if let Some(window) = &self.sliding_window {
            if window.n_tokens == 0 {
                return wrong("sliding_window", "at least 1", "0".into());
            }
            if window.layers.len() != self.num_hidden_layers {
                return wrong("layer_types", "one entry a layer", format!("{} entries", window.layers.len()));
            }
        }
        let per_layer = self.hidden_size as u128
            * (2 * self.q_dim() as u128 + 2 * self.kv_dim() as u128 + 3 * self.intermediate_size as u128);
        let total =
            per_layer * self.num_hidden_layers as u128 + 2 * (self.vocab_size as u128 * self.hidden_size as u128);
        match total > MAX_PARAMETERS {
            true => Err(ConfigError::TooManyParameters(total)),
            false => Ok(()),
        }
    }

    /// The `config.json` that other tools read, with weights of `torch_dtype` beside it. RoPE is written under the
    /// keys that old and new versions of `transformers`, and vLLM, all understand.
    #[must_use]
    pub fn to_json(&self, torch_dtype: &str) -> String {
        let (model_type, architecture) = self.model_type.names();
        let mut json = serde_json::json!({
            "architectures": [architecture],
            "attention_bias": self.model_type == Family::Qwen2,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": model_type,
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": self.rope_scaling.to_json(),
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": torch_dtype,
            "vocab_size": self.vocab_size,
        });
        if let Some(map) = json.as_object_mut() {
            let ids = &self.token_ids;
            map.extend(ids.bos.map(|id| ("bos_token_id".to_owned(), id.into())));
            map.extend(ids.pad.map(|id| ("pad_token_id".to_owned(), id.into())));
            map.extend(match &ids.eos[..] {
                [] => None,
                [id] => Some(("eos_token_id".to_owned(), (*id).into())),
                ids => Some(("eos_token_id".to_owned(), ids.into())),
            });
            if let Some(window) = &self.sliding_window {
                let kind = |&has: &bool| if has { SLIDING } else { FULL };
                map.insert("use_sliding_window".into(), true.into());
                map.insert("sliding_window".into(), window.n_tokens.into());
                map.insert("layer_types".into(), window.layers.iter().map(kind).collect());
                // The older key can say only that the window begins at some block.
                let first = window.layers.iter().position(|&has| has).unwrap_or(self.num_hidden_layers);
                if window.layers[first..].iter().all(|&has| has) {
                    map.insert("max_window_layers".into(), first.into());
                }
            }
        }
        let mut text = serde_json::to_string_pretty(&json).unwrap_or_default();
        text.push('\n');
        text
    }

    /// How many tokens, itself included, a token of a block reads at most; `None` is all of its path.
    #[must_use]
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.as_ref().filter(|w| w.layers.get(layer) == Some(&true)).map(|w| w.n_tokens)
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

/// The two values of `layer_types` that are built.
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

impl Family {
    /// `model_type` and the entry of `architectures`.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Family::Llama => ("llama", "LlamaForCausalLM"),
            Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
            Family::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
        }
    }
}
