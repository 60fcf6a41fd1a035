//! Where does a cold start begin, and what does it leave? A model of random weights or another's, and a model directory.

use std::path::{Path, PathBuf};

use aepo::config::Config;
use aepo::prompt::{Protocol, Tokenizer};
use aepo::seed::Seed;
use aepo_engine::Engine;
use aepo_engine::checkpoint::Precision;
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};
use aepo_tools::hub::What;
use anyhow::Context as _;

use crate::args::Net;
use crate::assets::{self, RANDOM};
use crate::error::usage;
use crate::machine;
use crate::progress::Teller;
use crate::room::{self, Job};
use crate::source::{self, Chat, Source, TokenizerFiles};
use crate::world::{self, Model};

/// Label of the seed's stream that draws the first weights.
const INIT: u64 = 2;

/// The model that `sft.init` names; one of the hub is fetched, and its commit written into the settings.
pub fn model(config: &mut Config, net: Net, teller: &mut Teller) -> anyhow::Result<Model> {
    if config.sft.init == RANDOM {
        return random(config);
    }
    let named = source::named(&config.sft.init)?;
    room::before_weights(config, &named, Job::Sft, net.offline, teller)?;
    let (place, pinned) = source::bring(&named, What::Everything, net.offline, teller)?;
    if let Some(pinned) = pinned {
        config.settings.sft.init = pinned.to_string();
    }
    world::load(&place, config)
}

/// A Qwen3-style decoder of the recipe's shape with random weights and the vocabulary inside the program.
fn random(config: &Config) -> anyhow::Result<Model> {
    if config.prompt.protocol != Protocol::Tags {
        let message =
            "`sft.init` is \"random\", but a random model has the quickstart's vocabulary and no chat template";
        return Err(usage(message, "name a model with sft.init, or choose prompt.protocol = \"tags\""));
    }
    let tokenizer = Tokenizer::from_bytes(assets::TOKENIZER)?;
    let s = &config.shape;
    let shape = ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: tokenizer.vocab_size(),
        hidden_size: s.hidden_size,
        intermediate_size: s.intermediate_size,
        num_hidden_layers: s.n_layers,
        num_attention_heads: s.n_heads,
        num_key_value_heads: s.n_kv_heads,
        head_dim: s.head_dim,
        rms_norm_eps: 1e-6,
        rope_theta: s.rope_theta,
        rope_scaling: RopeScaling::Unscaled,
        max_position_embeddings: s.context_len,
        tie_word_embeddings: true,
        sliding_window: None,
        token_ids: TokenIds::default(),
    };
    shape.validate().map_err(|e| usage(format!("[model.shape]: {e}"), ""))?;
    if let Some(free) = machine::free_memory() {
        room::require(config, false, &shape, Job::Sft, free)?;
    }
    let engine = Engine::random(shape, Seed(config.sft.seed).child(INIT), config.train.threads)?;
    let files = TokenizerFiles::alone(assets::TOKENIZER.to_vec());
    world::model(Source { engine, label: PathBuf::from("the program"), files, chat: Chat::default() }, config)
}

/// Writes `model/`: the weights in half their size, for shipping and for training to start from.
pub fn export(root: &Path, engine: &Engine, tokenizer: &TokenizerFiles) -> anyhow::Result<()> {
    let (path, temporary) = (root.join("model"), root.join(".model.tmp"));
    let write = || -> anyhow::Result<()> {
        std::fs::create_dir_all(&temporary)?;
        engine.export(&temporary, Precision::Bf16)?;
        tokenizer.write(&temporary)?;
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::rename(&temporary, &path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
