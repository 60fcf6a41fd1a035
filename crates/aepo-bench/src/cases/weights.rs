//! How do other programs measure the same model? They load the weights that this writes.

use aepo::seed::Seed;
use aepo_engine::Engine;
use aepo_engine::checkpoint::Precision;
use aepo_engine::setup::{Setup, Train};
use anyhow::Context as _;

use crate::args::WeightsArgs;

/// `aepo-bench weights`: a directory with `config.json` and `model.safetensors` in f32.
pub fn weights(args: &WeightsArgs) -> anyhow::Result<()> {
    let setup = Setup { train: Train::Nothing, ..Setup::full(2) };
    let engine = Engine::random_as(args.model.config(), Seed(args.seed), &setup)?;
    std::fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    Ok(engine.export(&args.dir, Precision::F32)?)
}
