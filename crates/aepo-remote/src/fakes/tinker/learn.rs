//! How does the fake server compute? With the embedded engine, on sequences.

use aepo::config::lora::{LoraTargets, Projection};
use aepo::policy::{Learner as _, PolicyError, StepParams};
use aepo::seed::Seed;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_engine::setup::{LoraSpec, Setup, Train};
use serde_json::{Value, json};

use super::FakeSettings;
use crate::tinker::ALPHA;
use crate::tinker::probe::{LOSS, Reduction};

/// A sequence as it arrived.
#[derive(Clone, Debug, Default)]
pub struct FakeRow {
    /// What the model reads.
    pub read: Vec<u32>,
    /// What follows each.
    pub next: Vec<u32>,
    /// Factors of the losses; 1 where they were left out.
    pub weights: Vec<f32>,
    /// Of what follows, nats.
    pub logprobs: Vec<f32>,
    /// Factors of the ratios.
    pub advantages: Vec<f32>,
}

/// A model that somebody made.
pub struct FakeModel {
    pub(super) engine: Engine,
    rows: Vec<FakeRow>,
    spec: LoraSpec,
    /// Whether something else than making it was asked for.
    pub(super) is_used: bool,
}

fn engine(settings: &FakeSettings, spec: &LoraSpec, seed: Seed) -> Result<Engine, PolicyError> {
    Engine::load_as(&settings.model, &Setup { train: Train::Lora(spec.clone()), seed, ..Setup::full(1) })
}

impl FakeModel {
    pub(super) fn new(settings: &FakeSettings, lora: &Value) -> Result<FakeModel, PolicyError> {
        let wants = |name: &str| lora[name].as_bool().unwrap_or(true);
        let of = |on: bool, which: &[Projection]| if on { which.to_vec() } else { Vec::new() };
        let (attention, mlp) = Projection::ALL.split_at(4);
        let projections = [of(wants("train_attn"), attention), of(wants("train_mlp"), mlp)].concat();
        let refused = |what: &str| PolicyError::Misuse(format!("LoRA {what}"));
        let targets = LoraTargets::new(&projections).ok_or_else(|| refused("of no matrix"))?;
        let rank = lora["rank"].as_u64().filter(|&r| (1..=64).contains(&r));
        let rank = rank.ok_or_else(|| refused("rank must be between 1 and 64"))? as usize;
        let spec = LoraSpec { rank, alpha: ALPHA, targets };
        let seed = Seed(lora["seed"].as_u64().unwrap_or(0));
        Ok(FakeModel { engine: engine(settings, &spec, seed)?, rows: Vec::new(), spec, is_used: false })
    }

    pub(super) fn restart(&mut self, settings: &FakeSettings, seed: Seed) {
        let spec = self.spec.clone();
        if let Ok(engine) = engine(settings, &spec, seed) {
            self.engine = engine;
            // Matrices that add nothing would score as before: one step makes them add something.
            let mut batch = TreeBatch::default();
            batch.push_segment(None, &[1, 2, 3]);
            batch.targets.push(Target { from_idx: 0, token: 2 });
            let step = StepParams {
                learning_rate: 0.5,
                weight_decay: 0.0,
                beta1: 0.0,
                beta2: 0.0,
                eps: 1e-8,
                max_grad_norm: f32::INFINITY,
            };
            let moved = self.engine.forward(&batch, 1.0, true).and_then(|_| self.engine.backward(&batch, &[1.0], &[]));
            let _ = moved.and_then(|()| self.engine.step(&step));
        }
    }

    /// Log-probabilities of each sequence; with `learn`, its gradient counts at the next step.
    pub(super) fn pass(&mut self, rows: Vec<FakeRow>, loss: &str, learn: bool) -> Result<Vec<Vec<f32>>, PolicyError> {
        let batch = forest(&rows);
        let flat = self.engine.forward(&batch, 1.0, false)?.logprobs;
        let mut flat = flat.into_iter();
        let logprobs = rows.iter().map(|row| flat.by_ref().take(row.next.len()).collect()).collect();
        if learn {
            if loss != LOSS {
                return Err(PolicyError::Misuse(format!("{loss} has no gradient here")));
            }
            self.rows.extend(rows);
        }
        Ok(logprobs)
    }

    /// The step's metrics, and how many sequences it learned from.
    pub(super) fn step(&mut self, settings: &FakeSettings, adam: &Value) -> Result<(Value, usize), PolicyError> {
        let rows = std::mem::take(&mut self.rows);
        let number = |name: &str, unless: f64| adam[name].as_f64().unwrap_or(unless) as f32;
        if !rows.is_empty() {
            let batch = forest(&rows);
            let logprobs = self.engine.forward(&batch, 1.0, true)?.logprobs;
            let mut at = logprobs.iter();
            let mut dlogp = Vec::new();
            for row in &rows {
                let weight: f32 = row.weights.iter().sum();
                let share = match settings.reduction {
                    Reduction::Sum => 1.0,
                    Reduction::MeanOfMeans => 1.0 / (f64::from(weight.max(1e-9)) * rows.len() as f64),
                };
                for i in 0..row.next.len() {
                    let logp = at.next().copied().unwrap_or(f32::NAN);
                    let ratio = f64::from(logp - row.logprobs[i]).exp();
                    let term = f64::from(row.weights[i]) * ratio * f64::from(row.advantages[i]);
                    dlogp.push(-(share * term) as f32);
                }
            }
            self.engine.backward(&batch, &dlogp, &[])?;
        }
        let bound = number("grad_clip_norm", 0.0);
        let clips = settings.clips && bound > 0.0;
        let report = self.engine.step(&StepParams {
            learning_rate: number("learning_rate", 1e-4),
            weight_decay: number("weight_decay", 0.0),
            beta1: number("beta1", 0.9),
            beta2: number("beta2", 0.95),
            eps: number("eps", 1e-12),
            max_grad_norm: if clips { bound } else { f32::INFINITY },
        })?;
        let metrics = match settings.reports_norm {
            true => {
                json!({ "skyrl.ai/grad_norm": report.grad_norm, "skyrl.ai/learning_rate": number("learning_rate", 1e-4) })
            }
            false => json!({}),
        };
        Ok((json!({ "metrics": metrics }), rows.len()))
    }
}

/// Each sequence as a tree of one segment, every position a target.
fn forest(rows: &[FakeRow]) -> TreeBatch {
    let mut batch = TreeBatch::default();
    for row in rows {
        let segment = batch.push_segment(None, &row.read);
        let start = batch.segments[segment as usize].start_idx;
        let targets = row.next.iter().enumerate().map(|(i, &token)| Target { from_idx: start + i as u32, token });
        batch.targets.extend(targets);
    }
    batch
}
