//! What trains the model of a run? The embedded engine, or a server, whose weights the engine samples from.

use std::path::Path;
use std::time::Duration;

use aepo::config::lora::Projection;
use aepo::config::{Config, TrainEngine};
use aepo::policy::{Learner, Policy};
use aepo_engine::Engine;
use aepo_remote::embedded::apart;
use aepo_remote::pair::Pair;
use aepo_remote::tinker::{Capabilities, ServerState, TinkerLearner, TinkerSettings};
use anyhow::bail;

use crate::error::usage;
use crate::progress::Teller;

/// Log-probabilities of the same weights in two programs differ by less than this on average, nats: far more than
/// rounding to bf16 does.
const MAX_APART: f64 = 0.2;

/// A policy of a run.
pub enum Trained {
    /// The engine does both.
    Here(Box<Engine>),
    /// A server learns, the engine samples.
    There(Box<Pair<Engine, TinkerLearner>>),
}

impl Trained {
    /// Makes the recipe's policy around an engine, which has been loaded from the checkpoint `from` where there is one.
    pub fn new(
        mut engine: Engine,
        config: &Config,
        from: Option<&Path>,
        teller: &mut Teller,
    ) -> anyhow::Result<Trained> {
        let Some(settings) = settings(config) else { return Ok(Trained::Here(Box::new(engine))) };
        if from.is_none() && engine.adapter_changes_something() {
            let message = "model.init holds what LoRA adds to a model, and a Tinker server begins with nothing added";
            return Err(usage(message, "merge it first (`model/` of a run is merged), or train it here"));
        }
        let state = from.map(ServerState::read).transpose()?;
        teller.note(&format!("training on {}", settings.url));
        let mut learner = TinkerLearner::connect(&settings, &engine.base_name, state.as_ref())?;
        learner.check(config.train.max_grad_norm)?;
        teller.event("server", &learner.can);
        teller.note(&words(&learner.can));
        // After a checkpoint the engine has its matrices, and the server those of its state.
        let mean = apart(&mut engine, &mut learner)?;
        // A number that is none is no small difference.
        if mean.is_nan() || mean > MAX_APART {
            bail!(
                "{} gives other log-probabilities to `{}` than the model of model.init ({mean:.2} nats apart on average): \
                 start it with the same weights",
                settings.url,
                learner.can.model
            );
        }
        Ok(Trained::There(Box::new(Pair::new(engine, learner)?)))
    }

    /// What samples and learns.
    pub fn policy(&mut self) -> &mut dyn Policy {
        match self {
            Trained::Here(engine) => &mut **engine,
            Trained::There(pair) => &mut **pair,
        }
    }

    /// What checkpoints are written of.
    pub fn learner(&mut self) -> &mut dyn Learner {
        match self {
            Trained::Here(engine) => &mut **engine,
            Trained::There(pair) => &mut **pair,
        }
    }

    /// The engine that samples; its weights are those that were trained.
    pub fn engine(&self) -> &Engine {
        match self {
            Trained::Here(engine) => engine,
            Trained::There(pair) => &pair.sampler,
        }
    }
}

/// The server of a recipe; `None` where it trains here.
fn settings(config: &Config) -> Option<TinkerSettings> {
    let p = &config.policy_train;
    // The settings were checked: where a server trains, there is an address.
    let url = p.url.clone().filter(|_| p.engine == TrainEngine::Tinker)?;
    Some(TinkerSettings {
        key_env: p.key_env.clone(),
        model: p.base_model.clone(),
        seed: (config.train.seed % (1 << 31)) as u32,
        attention: config.lora.targets.has(Projection::Q),
        mlp: config.lora.targets.has(Projection::Up),
        patience: Duration::from_secs_f64(p.patience_secs),
        ..TinkerSettings::of(url, config.lora.rank)
    })
}

/// What a server can do, in a line.
fn words(can: &Capabilities) -> String {
    format!(
        "{}: {} by {}, losses {}, repeated requests {}, gradients {}",
        can.host,
        can.model,
        can.dialect,
        match can.reduction {
            aepo_remote::tinker::probe::Reduction::Sum => "added up",
            aepo_remote::tinker::probe::Reduction::MeanOfMeans => "averaged (which is undone)",
        },
        if can.numbered { "count once" } else { "count twice (none is made)" },
        if can.clips { "clipped there" } else { "not clipped" },
    )
}
