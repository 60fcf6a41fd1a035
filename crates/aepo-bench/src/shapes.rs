//! Which models are measured?

use aepo::config::{Arithmetic, Stored};
use aepo::seed::Seed;
use aepo_engine::Engine;
use aepo_engine::config::rope::RopeScaling;
use aepo_engine::config::{Family, ModelConfig, TokenIds};
use aepo_engine::setup::{Setup, Train};
use clap::ValueEnum;

use crate::args::{Common, Precision};

/// A shape of model. All are of the Llama family with the output head tied to the embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// 288 wide, 6 blocks, 6 heads, vocabulary 32000: 15 million weights.
    #[value(name = "15m")]
    M15,
    /// 768 wide, 12 blocks, 12 heads, vocabulary 32000: 110 million weights.
    #[value(name = "110m")]
    M110,
    /// SmolLM2-135M: 576 wide, 30 blocks, 9 heads over 3, vocabulary 49152: 135 million weights.
    #[value(name = "135m")]
    M135,
}

impl Shape {
    /// As rows and options write it.
    pub fn name(self) -> &'static str {
        match self {
            Shape::M15 => "15m",
            Shape::M110 => "110m",
            Shape::M135 => "135m",
        }
    }

    /// The model's shape, with a context that holds every case.
    pub fn config(self) -> ModelConfig {
        let (hidden_size, num_hidden_layers, heads, kv_heads, intermediate_size, vocab_size) = match self {
            Shape::M15 => (288, 6, 6, 6, 768, 32000),
            Shape::M110 => (768, 12, 12, 12, 2048, 32000),
            Shape::M135 => (576, 30, 9, 3, 1536, 49152),
        };
        ModelConfig {
            model_type: Family::Llama,
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim: hidden_size / heads,
            rms_norm_eps: 1e-5,
            rope_theta: 100_000.0,
            rope_scaling: RopeScaling::Unscaled,
            max_position_embeddings: 1 << 17,
            tie_word_embeddings: true,
            sliding_window: None,
            token_ids: TokenIds { bos: Some(1), eos: vec![2], pad: Some(0) },
        }
    }
}

/// What the engine is made for in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Training steps.
    Training,
    /// Training steps that keep the input of each block only.
    Recomputing,
    /// Sampling alone.
    Sampling,
}

/// The engine of a case: over the weights that were asked for, or random ones.
pub fn engine(shape: Shape, purpose: For, common: &Common) -> anyhow::Result<Engine> {
    let setup = setup(purpose, common);
    let made = match &common.weights {
        Some(dir) => Engine::load_as(dir, &setup),
        None => Engine::random_as(shape.config(), Seed(1), &setup),
    };
    Ok(made?)
}

/// In bf16 matrices are multiplied in bf16, and weights that no step may change are kept in it too.
fn setup(purpose: For, common: &Common) -> Setup {
    let (arithmetic, frozen) = match common.precision {
        Precision::F32 => (Arithmetic::F32, Stored::F32),
        Precision::Bf16 => (Arithmetic::Bf16, Stored::Bf16),
    };
    let (train, recompute) = match purpose {
        For::Training => (Train::All, false),
        For::Recomputing => (Train::All, true),
        For::Sampling => (Train::Nothing, false),
    };
    Setup { train, frozen, arithmetic, recompute, ..Setup::full(common.threads) }
}
