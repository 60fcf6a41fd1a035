//! How is an engine made, and how do its weights come onto the disk?

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aepo::config::Stored;
use aepo::policy::{PolicyError, PolicyVersion};
use aepo::seed::Seed;
use half::bf16;

use crate::adamw::Moments;
use crate::cache::BlockPool;
use crate::checkpoint::{self, MAX_SHARD_BYTES, Precision};
use crate::config::ModelConfig;
use crate::decode::DecodeBuffers;
use crate::engine::{Engine, checkpoint_error};
use crate::gguf::{self, GgufText};
use crate::layout::{Layout, Tensor};
use crate::live::Step;
use crate::lora::Lora;
use crate::model::{Keep, Model, Workspace};
use crate::real::fit;
use crate::setup::{Setup, Train};
use crate::team::Team;
use crate::weights::Weights;

impl Engine {
    /// An engine over given weights (layout order) that trains all of them on `n_threads` threads.
    pub fn new(config: ModelConfig, params: Vec<f32>, n_threads: usize) -> Result<Engine, PolicyError> {
        Engine::with(config, Weights::full(params), &Setup::full(n_threads))
    }

    /// An engine over given weights, which are rounded where the setup says so and they are not yet.
    pub fn with(config: ModelConfig, weights: Weights<f32>, setup: &Setup) -> Result<Engine, PolicyError> {
        let n_threads = setup.n_threads.max(1);
        let team =
            Team::new(n_threads).map_err(|e| PolicyError::Misuse(format!("cannot start {n_threads} threads: {e}")))?;
        let weights = match (setup.stored(), weights.numbers()) {
            (Stored::Bf16, Some(numbers)) => {
                let rounded = numbers.iter().map(|&x| bf16::from_f32(x)).collect();
                Weights::narrow(&Layout::new(&config), rounded)
            }
            _ => weights,
        };
        let (lora, keep) = match &setup.train {
            Train::Nothing => (None, Keep::Nothing),
            Train::All | Train::Lora(_) => {
                let keep = if setup.recompute { Keep::Inputs } else { Keep::All };
                let lora = match &setup.train {
                    Train::Lora(spec) => Some(Lora::new(&config, spec.clone(), setup.seed)),
                    _ => None,
                };
                (lora, keep)
            }
        };
        Ok(Engine {
            n_drawn: config.vocab_size,
            pool: BlockPool::new(&config),
            grads: Vec::new(),
            model: Model { arithmetic: setup.arithmetic, ..Model::with(config, weights, lora, Arc::new(team)) },
            moments: Moments::default(),
            work: Workspace::default(),
            kept: false,
            keep,
            paths: BTreeMap::new(),
            next_path: 0,
            step: Step::default(),
            buffers: DecodeBuffers::default(),
            generation_config: None,
            base_name: String::new(),
        })
    }

    /// Random weights: normal with standard deviation 0.02, residual outputs scaled by 1/√(2·layers) (GPT-2), norms 1.
    pub fn random(config: ModelConfig, seed: Seed, n_threads: usize) -> Result<Engine, PolicyError> {
        Engine::random_as(config, seed, &Setup::full(n_threads))
    }

    /// [`Engine::random`] made for something else than training all weights.
    pub fn random_as(config: ModelConfig, seed: Seed, setup: &Setup) -> Result<Engine, PolicyError> {
        let layout = Layout::new(&config);
        let mut params = Vec::new();
        fit(&mut params, layout.n_parameters());
        for (i, tensor) in layout.tensors.iter().enumerate() {
            let residual = tensor.name.ends_with("o_proj.weight") || tensor.name.ends_with("down_proj.weight");
            let std = 0.02 / if residual { (2.0 * config.num_hidden_layers as f64).sqrt() } else { 1.0 };
            let seed = seed.child(i as u64);
            for (j, x) in params[tensor.range.clone()].iter_mut().enumerate() {
                *x = match (tensor.decays(), tensor.name.ends_with("bias")) {
                    (true, _) => (std * normal(seed, j as u64)) as f32,
                    (false, true) => 0.0,
                    (false, false) => 1.0,
                };
            }
        }
        Engine::with(config, Weights::full(params), setup)
    }

    /// Reads a model directory: `config.json` and `model.safetensors`, or shards and their index. A path that ends in
    /// `.gguf` is read as such a file, of which [`gguf::load`] also gives the tokenizer.
    pub fn load(path: &Path, n_threads: usize) -> Result<Engine, PolicyError> {
        Engine::load_as(path, &Setup::full(n_threads))
    }

    /// [`Engine::load`] made for something else than training all weights. What is kept in bf16 is rounded tensor by
    /// tensor while it is read, so that the whole model is never in memory in full.
    pub fn load_as(path: &Path, setup: &Setup) -> Result<Engine, PolicyError> {
        if gguf::is_gguf(path) && !path.is_dir() {
            return Ok(Engine::load_gguf(path, setup)?.0);
        }
        let (config, weights) = match setup.stored() {
            Stored::F32 => checkpoint::load_model(path).map(|(config, numbers)| (config, Weights::full(numbers))),
            Stored::Bf16 => checkpoint::load_model_as(path).map(|(config, numbers)| {
                let layout = Layout::new(&config);
                (config, Weights::narrow(&layout, numbers))
            }),
        }
        .map_err(checkpoint_error)?;
        let mut engine = Engine::with(config, weights, setup)?;
        engine.generation_config = checkpoint::load_generation_config(path).map_err(checkpoint_error)?;
        engine.base_name = path.display().to_string();
        Ok(engine)
    }

    /// Reads a GGUF file, with what it says about text.
    pub fn load_gguf(path: &Path, setup: &Setup) -> Result<(Engine, GgufText), PolicyError> {
        let (config, weights, text) = match setup.stored() {
            Stored::F32 => {
                let model = gguf::load(path).map_err(checkpoint_error)?;
                (model.config, Weights::full(model.params), model.text)
            }
            Stored::Bf16 => {
                let model = gguf::load_as(path).map_err(checkpoint_error)?;
                let weights = Weights::narrow(&Layout::new(&model.config), model.params);
                (model.config, weights, model.text)
            }
        };
        let mut engine = Engine::with(config, weights, setup)?;
        engine.base_name = path.display().to_string();
        Ok((engine, text))
    }

    /// Reads a model from the bytes of its two files; `label` names them in errors.
    pub fn from_bytes(label: &Path, config: &[u8], weights: &[u8], setup: &Setup) -> Result<Engine, PolicyError> {
        let (config, params) = checkpoint::parse_model(label, config, weights).map_err(checkpoint_error)?;
        let mut engine = Engine::with(config, Weights::full(params), setup)?;
        engine.base_name = label.display().to_string();
        Ok(engine)
    }

    /// Reads what [`aepo::policy::Learner::save`] wrote with the optimiser, all weights being trained: training goes on
    /// exactly.
    pub fn resume(dir: &Path, n_threads: usize) -> Result<Engine, PolicyError> {
        let mut engine = Engine::load(dir, n_threads)?;
        engine.load_optimizer(dir)?;
        Ok(engine)
    }

    /// Puts LoRA's matrices of a directory, which may be PEFT's, in the place of this engine's. Rank, factor and targets
    /// must be those that the engine was made with.
    pub fn load_adapter(&mut self, dir: &Path) -> Result<(), PolicyError> {
        let Some(lora) = &mut self.model.lora else {
            return Err(PolicyError::Misuse("this policy was made without LoRA".into()));
        };
        lora.params = checkpoint::load_adapter(dir, lora).map_err(checkpoint_error)?;
        Ok(())
    }

    /// Takes over LoRA's matrices that another program trained, as the weights of `version`: what
    /// [`Engine::load_adapter`] does, in an engine that is sampling. Nothing is changed where they do not fit.
    pub fn take_adapter(&mut self, dir: &Path, version: PolicyVersion) -> Result<(), PolicyError> {
        if !self.paths.is_empty() {
            let n = self.paths.len();
            return Err(PolicyError::Misuse(format!("{n} paths are open: their cache is of the old weights")));
        }
        self.load_adapter(dir)?;
        self.moments.n_steps = version.0;
        Ok(())
    }

    /// Reads the optimiser's state of a checkpoint.
    pub fn load_optimizer(&mut self, dir: &Path) -> Result<(), PolicyError> {
        self.moments = checkpoint::load_moments(dir, self.model.n_trained()).map_err(checkpoint_error)?;
        Ok(())
    }

    /// The policy before training, to compare with: it shares the frozen weights and so takes no memory for them. It is
    /// the model without LoRA, or with the matrices of the directory that training began from. `None` where all weights
    /// are trained.
    pub fn reference(&self, adapter: Option<&Path>) -> Result<Option<Engine>, PolicyError> {
        let Some(lora) = &self.model.lora else { return Ok(None) };
        let train = adapter.map_or(Train::Nothing, |_| Train::Lora(lora.spec.clone()));
        let setup = Setup { train, arithmetic: self.model.arithmetic, ..Setup::full(self.model.team.n_threads()) };
        let mut engine = Engine::with(self.model.config.clone(), self.model.params.clone(), &setup)?;
        engine.keep = Keep::Nothing;
        adapter.map(|dir| engine.load_adapter(dir)).transpose()?;
        Ok(Some(engine))
    }

    /// Writes the model directory in a chosen precision, LoRA's matrices merged, without optimiser state.
    pub fn export(&self, dir: &Path, precision: Precision) -> Result<(), PolicyError> {
        self.export_shards(dir, precision, MAX_SHARD_BYTES)
    }

    /// [`Engine::export`] with a bound on the bytes of weights in a file.
    pub fn export_shards(&self, dir: &Path, precision: Precision, max_shard_bytes: u64) -> Result<(), PolicyError> {
        let m = &self.model;
        let numbers = |tensor: &Tensor| m.merged(tensor);
        checkpoint::save_shards(dir, &m.config, &m.layout, &numbers, precision, max_shard_bytes)
            .and_then(|()| match &self.generation_config {
                Some(text) => checkpoint::save_generation_config(dir, text),
                None => Ok(()),
            })
            .map_err(checkpoint_error)
    }
}

impl Model<f32> {
    /// A tensor as a program without LoRA needs it: widened, with `(α/r)·B·A` added.
    fn merged(&self, tensor: &Tensor) -> Cow<'_, [f32]> {
        let own = match self.params.numbers() {
            Some(numbers) => Cow::Borrowed(&numbers[tensor.range.clone()]),
            None => {
                let mut wide = vec![0.0; tensor.range.len()];
                self.params.matrix(tensor.range.clone()).copy_to(&mut wide);
                Cow::Owned(wide)
            }
        };
        match self.lora.as_ref().and_then(|lora| lora.product(&tensor.name, &self.team)) {
            Some(added) => own.iter().zip(added).map(|(w, b_a)| w + b_a).collect(),
            None => own,
        }
    }
}

/// The `index`-th standard normal number of a seed (Box–Muller).
fn normal(seed: Seed, index: u64) -> f64 {
    let radius = (-2.0 * (1.0 - seed.uniform(2 * index)).ln()).sqrt();
    radius * (std::f64::consts::TAU * seed.uniform(2 * index + 1)).cos()
}
