//! Where does a cold start begin? From a model of random weights, or from another's.

use std::path::PathBuf;

use aepo::config::Config;
use aepo::prompt::{Protocol, Tokenizer};
use aepo::seed::Seed;
use aepo_engine::Engine;
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};
use aepo_engine::setup::Setup;
use aepo_tools::hub::What;

use crate::args::Net;
use crate::assets::{self, RANDOM};
use crate::error::usage;
use crate::machine;
use crate::progress::Teller;
use crate::room::{self, Job};
use crate::source::{self, Chat, Source, TokenizerFiles};
use crate::toolbox;
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
    world::load(&place, config, &toolbox::specs(config)?)
}

/// A Qwen3-style decoder of the recipe's shape with random weights and the vocabulary inside the program.
fn random(config: &Config) -> anyhow::Result<Model> {
    if config.prompt.protocol != Protocol::Tags {
        let message =
            "`sft.init` is \"random\", but a random model has the quickstart's vocabulary and no chat template";
        return Err(usage(message, "name a model with sft.init, or choose prompt.protocol = \"tags\""));
    }
    if config.lora.rank > 0 {
        let message = format!(
            "`lora.rank` is {}, but `sft.init` is \"random\": LoRA would leave the random weights as they are",
            config.lora.rank
        );
        return Err(usage(message, "name a model with sft.init, or set lora.rank = 0"));
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
    let setup = Setup::of(config, config.train.threads);
    let engine = Engine::random_as(shape, Seed(config.sft.seed).child(INIT), &setup)?;
    let files = TokenizerFiles::alone(assets::TOKENIZER.to_vec());
    world::model(
        Source { engine, label: PathBuf::from("the program"), files, chat: Chat::default() },
        config,
        &toolbox::specs(config)?,
    )
}
