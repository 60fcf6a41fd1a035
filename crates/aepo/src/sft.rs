//! How does a model get its first skills? Next-token training on the agent's part of demonstrations.

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::data::demonstrator::Carelessness;
use crate::data::demos::{DemoSettings, Demonstrator, Role};
use crate::policy::{Policy, PolicyError, StepParams};
use crate::prompt::demo::encode_demo;
use crate::prompt::{PromptError, Renderer};
use crate::seed::Seed;
use crate::train::batch::{Target, TreeBatch};
use crate::train::schedule::learning_rate;

/// A cold start. As in training, a step is a function of this, its number and the weights.
#[derive(Clone)]
pub struct SftRun {
    /// Every setting; `[sft]` is the part that is read.
    pub config: Config,
    /// Writes demonstrations.
    pub demonstrator: Demonstrator,
    /// Makes ids of them.
    pub renderer: Renderer,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SftRecord {
    /// Step, from 0.
    pub step: u64,
    /// Mean negative log-likelihood of the trained tokens, nats per token.
    pub loss: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
    /// False when the gradient was not finite and nothing was changed.
    pub applied: bool,
    /// Demonstrations.
    pub n_demos: usize,
    /// Demonstrations left out because they are longer than the model's context or hold nothing to train.
    pub n_left_out: usize,
    /// Tokens, context included.
    pub n_tokens: usize,
    /// Tokens that were trained.
    pub n_trained: usize,
    /// Weights of repeating, looking up and solving in this step.
    pub shares: [f64; 3],
}

/// What can stop a cold start.
#[derive(Debug, thiserror::Error)]
pub enum SftError {
    /// The policy failed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A demonstration has no form in the model's protocol.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// Not one of many demonstrations fits.
    #[error("none of {n_tried} demonstrations fits the model's context of {context_len} tokens")]
    NothingFits {
        /// How many were drawn.
        n_tried: usize,
        /// The model's limit.
        context_len: usize,
    },
    /// The policy answered for another number of tokens than it was asked about.
    #[error("the policy returned {n_got} log-probabilities for {n_targets} targets")]
    WrongLength {
        /// What came.
        n_got: usize,
        /// What was asked for.
        n_targets: usize,
    },
}

impl SftRun {
    /// Optimiser steps of the whole cold start.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        self.config.sft.tokens.div_ceil(self.config.sft.batch_tokens as u64)
    }

    /// What demonstrations are drawn in a step: the shares move along a line from their first to their second value
    /// over the first `curriculum` of the run, then stay.
    #[must_use]
    pub fn demo_settings(&self, step: u64) -> DemoSettings {
        let s = &self.config.sft;
        let done = (step as f64 / (s.curriculum * self.n_steps() as f64)).min(1.0);
        let at = |[from, to]: [f64; 2]| from + (to - from) * done;
        DemoSettings {
            copy_share: at(s.copy_share),
            lookup_share: at(s.lookup_share),
            task_share: at(s.task_share),
            kind_shares: s.kind_shares,
            invented: s.invented,
            careless: Carelessness {
                head_answer: s.head_answer,
                wrong_query: s.wrong_query,
                head_math: s.head_math,
                needless_call: s.needless_call,
                bad_format: s.bad_format,
            },
        }
    }

    /// One optimiser step on fresh demonstrations: the loss is the mean of −logp over the trained tokens of the step,
    /// so each has the coefficient −1/n whatever the packing.
    ///
    /// # Errors
    /// When the policy fails or no demonstration fits its context.
    pub fn step(&self, step: u64, policy: &mut dyn Policy) -> Result<SftRecord, SftError> {
        let s = &self.config.sft;
        let demos = self.demo_settings(step);
        let drawn = self.draw(step, &demos, policy.context_len())?;
        let batches = pack_demos(&drawn.rows, s.max_batch_tokens);
        let n_trained: usize = batches.iter().map(|b| b.targets.len()).sum();

        let mut sum_logp = 0.0;
        for batch in &batches {
            let stats = policy.forward(batch, 1.0, true)?;
            let (n_got, n_targets) = (stats.logprobs.len(), batch.targets.len());
            if n_got != n_targets {
                return Err(SftError::WrongLength { n_got, n_targets });
            }
            sum_logp += stats.logprobs.iter().map(|&l| f64::from(l)).sum::<f64>();
            policy.backward(batch, &vec![-1.0 / n_trained as f32; n_targets], &[])?;
        }
        let n_warmup = (s.warmup_share * self.n_steps() as f64).round() as u64;
        let rate = learning_rate(s.schedule, s.learning_rate, step, self.n_steps(), n_warmup);
        let report = policy.step(&StepParams {
            learning_rate: rate as f32,
            weight_decay: s.weight_decay as f32,
            beta1: s.beta1 as f32,
            beta2: s.beta2 as f32,
            eps: s.eps as f32,
            max_grad_norm: s.max_grad_norm as f32,
        })?;
        Ok(SftRecord {
            step,
            loss: -sum_logp / n_trained as f64,
            learning_rate: rate,
            grad_norm: f64::from(report.grad_norm),
            applied: report.applied,
            n_demos: drawn.rows.len(),
            n_left_out: drawn.n_left_out,
            n_tokens: batches.iter().map(|b| b.tokens.len()).sum(),
            n_trained,
            shares: [demos.copy_share, demos.lookup_share, demos.task_share],
        })
    }

    /// Demonstrations up to `batch_tokens` tokens, one at least.
    fn draw(&self, step: u64, settings: &DemoSettings, context_len: usize) -> Result<Drawn, SftError> {
        const MAX_MISSES: usize = 1000;
        const DEMOS: u64 = 1;
        let seed = Seed(self.config.sft.seed).child(DEMOS).child(step);
        let mut drawn = Drawn { rows: Vec::new(), n_left_out: 0 };
        let (mut n_tokens, mut n_misses) = (0, 0);
        for i in 0.. {
            let row = encode_demo(&self.renderer, &self.demonstrator.demo(seed.child(i), settings))?;
            let n = row.iter().map(|(_, ids)| ids.len()).sum::<usize>();
            // A row without anything to train would only take up room.
            let trained = row.iter().any(|(role, _)| *role == Role::Written);
            if n <= context_len && trained {
                if n_tokens + n > self.config.sft.batch_tokens && !drawn.rows.is_empty() {
                    break;
                }
                n_tokens += n;
                n_misses = 0;
                drawn.rows.push(row);
                continue;
            }
            drawn.n_left_out += 1;
            n_misses += 1;
            if n_misses == MAX_MISSES && drawn.rows.is_empty() {
                return Err(SftError::NothingFits { n_tried: n_misses, context_len });
            }
            if n_misses == MAX_MISSES {
                break;
            }
        }
        Ok(drawn)
    }
}

struct Drawn {
    rows: Vec<Row>,
    n_left_out: usize,
}

/// A demonstration's segments: who wrote them, and their ids.
type Row = Vec<(Role, Vec<u32>)>;

/// Packs rows, in order, into batches of at most `max_batch_tokens`; a longer row has one to itself. Written tokens
/// are targets, except a row's very first, which nothing predicts.
fn pack_demos(rows: &[Row], max_batch_tokens: usize) -> Vec<TreeBatch> {
    let mut batches: Vec<TreeBatch> = Vec::new();
    for row in rows {
        let ids: Vec<u32> = row.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
        let fits = |b: &TreeBatch| b.tokens.len() + ids.len() <= max_batch_tokens;
        if !batches.last().is_some_and(fits) {
            batches.push(TreeBatch::default());
        }
        let Some(batch) = batches.last_mut() else { continue };
        if ids.is_empty() {
            continue;
        }
        let start = batch.tokens.len();
        batch.push_segment(None, &ids);
        let mut at = 0;
        for (role, ids) in row {
            if *role == Role::Written {
                let targets = (at.max(1)..at + ids.len())
                    .map(|i| Target { from_idx: (start + i - 1) as u32, token: batch.tokens[start + i] });
                batch.targets.extend(targets.collect::<Vec<_>>());
            }
            at += ids.len();
        }
    }
    batches
}

#[cfg(test)]
mod tests;
