//! What is known of a model before its weights are read? Its shape, and what it says about text.

use std::path::{Path, PathBuf};

use aepo::config::Config;
use aepo::prompt::Tokenizer;
use aepo_engine::checkpoint::{CONFIG, load_adapter_config};
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};
use anyhow::Context as _;

use super::{Chat, Place, TokenizerFiles, gguf, hub, hub_name, is_adapter, place};
use crate::assets;
use crate::checkpoint::TOKENIZER;

/// A model without its weights.
pub struct Facts {
    /// Its shape.
    pub config: ModelConfig,
    /// Ids that its tokenizer knows.
    pub n_ids: usize,
    /// How it wants conversations to be written.
    pub chat: Chat,
    /// What messages call the place of `files`.
    pub label: PathBuf,
    /// The files about text.
    pub files: TokenizerFiles,
}

/// Reads what there is besides weights.
pub fn look(at: &Place) -> anyhow::Result<Facts> {
    let (config, label, files, chat) = match at {
        Place::Embedded => {
            let config = ModelConfig::from_json(std::str::from_utf8(assets::MODEL_CONFIG)?)?;
            let files = TokenizerFiles::alone(assets::TOKENIZER.to_vec());
            (config, Path::new("the model inside the program"), files, Chat::default())
        }
        Place::Directory(dir) if is_adapter(dir) => {
            let base = load_adapter_config(dir)?.base;
            let base = match hub_name(&base, Path::new("")) {
                Some(name) => hub::from_cache(&name)?,
                None => place(&base)?,
            };
            anyhow::ensure!(base != *at, "{} names itself as its base model", dir.display());
            return look(&base);
        }
        Place::Directory(dir) => {
            let config = shape(at)?;
            let files = TokenizerFiles::read(dir)?;
            let chat = Chat::of(dir, &files, &config)?;
            (config, &**dir, files, chat)
        }
        Place::Gguf(path) => {
            let (config, files, chat) = gguf::look(path)?;
            (config, &**path, files, chat)
        }
    };
    let tokenizer = Tokenizer::from_bytes(&files.json);
    let n_ids = tokenizer.with_context(|| label.join(TOKENIZER).display().to_string())?.vocab_size();
    Ok(Facts { config, n_ids, chat, label: label.to_owned(), files })
}

/// The shape alone.
pub fn shape(at: &Place) -> anyhow::Result<ModelConfig> {
    match at {
        Place::Directory(dir) if !is_adapter(dir) => {
            let path = dir.join(CONFIG);
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            ModelConfig::from_json(&text).with_context(|| path.display().to_string())
        }
        _ => Ok(look(at)?.config),
    }
}

/// The shape that `[model.expect]` states, where it states one.
pub fn expected(config: &Config) -> Option<ModelConfig> {
    let e = &config.expect;
    Some(ModelConfig {
        model_type: family(e.family.as_deref()?)?,
        vocab_size: e.vocab_size?,
        hidden_size: e.hidden_size?,
        intermediate_size: e.intermediate_size?,
        num_hidden_layers: e.n_layers?,
        num_attention_heads: e.n_heads?,
        num_key_value_heads: e.n_kv_heads?,
        head_dim: e.head_dim?,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: e.context_len?,
        tie_word_embeddings: e.tied_head?,
        sliding_window: None,
        token_ids: TokenIds::default(),
    })
}

fn family(name: &str) -> Option<Family> {
    [Family::Llama, Family::Qwen2, Family::Qwen3].into_iter().find(|family| family.names().0 == name)
}

/// Fails where a model is not what `[model.expect]` says.
pub fn check_expected(config: &Config, found: &ModelConfig) -> anyhow::Result<()> {
    let Some(expected) = expected(config) else { return Ok(()) };
    let facts = |c: &ModelConfig| {
        [
            ("family", c.model_type.names().0.to_owned()),
            ("vocab_size", c.vocab_size.to_string()),
            ("hidden_size", c.hidden_size.to_string()),
            ("intermediate_size", c.intermediate_size.to_string()),
            ("n_layers", c.num_hidden_layers.to_string()),
            ("n_heads", c.num_attention_heads.to_string()),
            ("n_kv_heads", c.num_key_value_heads.to_string()),
            ("head_dim", c.head_dim.to_string()),
            ("context_len", c.max_position_embeddings.to_string()),
            ("tied_head", c.tie_word_embeddings.to_string()),
        ]
    };
    for ((key, wanted), (_, is)) in facts(&expected).into_iter().zip(facts(found)) {
        anyhow::ensure!(wanted == is, "`model.expect.{key}` is {wanted}, but {} has {is}", config.model.init);
    }
    Ok(())
}
