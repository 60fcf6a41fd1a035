//! What samples for a run and what learns? The embedded engine does either or both, servers the rest.

use std::path::Path;
use std::time::Duration;

use aepo::config::lora::Projection;
use aepo::config::{Config, TrainEngine};
use aepo::policy::{Policy, Sampler as _};
use aepo::tool::Toolset;
use aepo_engine::Engine;
use aepo_remote::ahead::{Parts, Plan, Steps, ahead};
use aepo_remote::embedded::apart;
use aepo_remote::pair::Pair;
use aepo_remote::publish::{Follower as _, Publisher};
use aepo_remote::room::Room;
use aepo_remote::sample::RemoteSampler;
use aepo_remote::tinker::{Capabilities, ServerState, TinkerLearner, TinkerSettings};
use anyhow::bail;

use crate::error::usage;
use crate::progress::Teller;
use crate::served;

/// Log-probabilities of the same weights in two programs differ by less than this on average, nats: far more than
/// rounding to bf16 does.
const MAX_APART: f64 = 0.2;

/// A policy of a run. Wherever it samples and learns, its engine is loaded: it gives a learner its first weights, and at
/// the end it has the model.
pub enum Trained {
    /// The engine does both.
    Here(Box<Engine>),
    /// A server learns, the engine samples.
    Learned(Box<Pair<Engine, TinkerLearner>>),
    /// Servers sample, the engine learns.
    Served(Box<Pair<RemoteSampler, Engine>>),
    /// Servers sample, and another learns.
    There(Box<Pair<RemoteSampler, TinkerLearner>>, Box<Engine>),
}

impl Trained {
    /// Makes the recipe's policy around an engine, which has been loaded from the checkpoint `from` where there is one.
    pub fn new(
        mut engine: Engine,
        config: &Config,
        from: Option<&Path>,
        teller: &mut Teller,
    ) -> anyhow::Result<Trained> {
        let learner = learner(&mut engine, config, from, teller)?;
        let served = match served::engine(config) {
            Some(by) => {
                teller.note(&format!("sampling by {} at {}", by.name(), config.policy_sample.urls.join(", ")));
                Some(served::connect(by, config, engine.vocab_size(), engine.context_len(), engine.version())?)
            }
            None => None,
        };
        let room = || Room::new(config.policy_sample.weights_dir.as_deref().map(Path::new));
        Ok(match (served, learner) {
            (None, None) => Trained::Here(Box::new(engine)),
            (None, Some(learner)) => Trained::Learned(Box::new(Pair::new(engine, learner, room()?)?)),
            (Some(sampler), None) => Trained::Served(Box::new(Pair::new(sampler, engine, room()?)?)),
            (Some(sampler), Some(learner)) => {
                Trained::There(Box::new(Pair::new(sampler, learner, room()?)?), Box::new(engine))
            }
        })
    }

    /// What samples and learns.
    pub fn policy(&mut self) -> &mut dyn Policy {
        match self {
            Trained::Here(engine) => &mut **engine,
            Trained::Learned(pair) => &mut **pair,
            Trained::Served(pair) => &mut **pair,
            Trained::There(pair, _) => &mut **pair,
        }
    }

    /// What checkpoints are written of, and which weights it has.
    pub fn publisher(&mut self) -> &mut dyn Publisher {
        match self {
            Trained::Here(engine) => &mut **engine,
            Trained::Learned(pair) => &mut pair.learner,
            Trained::Served(pair) => &mut pair.learner,
            Trained::There(pair, _) => &mut pair.learner,
        }
    }

    /// The engine with the weights that were trained.
    pub fn engine(&mut self) -> anyhow::Result<&Engine> {
        Ok(match self {
            Trained::Here(engine) => engine,
            Trained::Learned(pair) => &pair.sampler,
            Trained::Served(pair) => &pair.learner,
            Trained::There(pair, engine) => {
                engine.follow(&pair.room.publish(&mut pair.learner)?)?;
                engine
            }
        })
    }

    /// Weights of the model.
    pub fn n_parameters(&self) -> usize {
        match self {
            Trained::Here(engine) | Trained::There(_, engine) => engine.n_parameters(),
            Trained::Learned(pair) => pair.sampler.n_parameters(),
            Trained::Served(pair) => pair.learner.n_parameters(),
        }
    }

    /// What the servers that sample did since they were last asked, for a reader; `None` without servers.
    pub fn told(&mut self) -> Option<String> {
        match self {
            Trained::Here(_) | Trained::Learned(_) => None,
            Trained::Served(pair) => Some(served::told(&mut pair.sampler)),
            Trained::There(pair, _) => Some(served::told(&mut pair.sampler)),
        }
    }

    /// Runs steps of which several are under way at once, where two programs share the work.
    pub fn ahead<'r>(
        &mut self,
        plan: Plan<'r>,
        tools: &mut (dyn Toolset + Send),
        work: &mut dyn Steps<'r, Error = anyhow::Error>,
    ) -> anyhow::Result<()> {
        fn parts<S, L: Publisher>(pair: &mut Pair<S, L>) -> Parts<'_, S> {
            Parts { sampler: &mut pair.sampler, learner: &mut pair.learner, room: &mut pair.room }
        }
        match self {
            Trained::Here(_) => bail!("policy.sample.staleness is above 0, and one program samples and learns"),
            Trained::Learned(pair) => ahead(plan, parts(pair), tools, work),
            Trained::Served(pair) => ahead(plan, parts(pair), tools, work),
            Trained::There(pair, _) => ahead(plan, parts(pair), tools, work),
        }
    }
}

/// Connects to the server that learns; `None` where the engine does.
fn learner(
    engine: &mut Engine,
    config: &Config,
    from: Option<&Path>,
    teller: &mut Teller,
) -> anyhow::Result<Option<TinkerLearner>> {
    let Some(settings) = settings(config) else { return Ok(None) };
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
    let mean = apart(engine, &mut learner)?;
    // A number that is none is no small difference.
    if mean.is_nan() || mean > MAX_APART {
        bail!(
            "{} gives other log-probabilities to `{}` than the model of model.init ({mean:.2} nats apart on average): \
             start it with the same weights",
            settings.url,
            learner.can.model
        );
    }
    Ok(Some(learner))
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
