//! How does a model learn from what others wrote? Next-token training on the agent's part of demonstrations or
//! conversations.

pub mod dataset;
pub mod rows;

#[cfg(test)]
mod masks;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use self::dataset::{Dataset, row_limit};
use self::rows::{Fit, Row, fit, n_tokens, pack_rows};
use crate::config::Config;
use crate::data::demonstrator::Carelessness;
use crate::data::demos::{DemoSettings, Demonstrator};
use crate::policy::{Learner, Policy, PolicyError, StepParams, TokenStats};
use crate::prompt::demo::encode_demo;
use crate::prompt::{PromptError, Renderer};
use crate::seed::Seed;
use crate::train::batch::TreeBatch;
use crate::train::schedule::learning_rate;

/// Labels of the seed's streams: demonstrations that are learned, by step, and those that are held out. The command
/// that makes random weights takes 2, a data set 3 and 4.
const DEMOS: u64 = 1;
const HELD_OUT_DEMOS: u64 = 5;

/// A cold start. As in training, a step is a function of this, its number and the weights.
#[derive(Clone)]
pub struct SftRun {
    /// Every setting; `[sft]` is the part that is read.
    pub config: Config,
    /// Where rows come from.
    pub source: RowSource,
}

/// Where rows come from.
#[derive(Clone)]
pub enum RowSource {
    /// Demonstrations, written anew in every step.
    Generated {
        /// Writes them.
        demonstrator: Box<Demonstrator>,
        /// Makes ids of them.
        renderer: Renderer,
    },
    /// A file, read from beginning to end in every epoch.
    File(Dataset),
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
    /// Demonstrations or conversations.
    pub n_rows: usize,
    /// Demonstrations that were written and left out because they are too long or hold nothing to train. What of a file
    /// is left out is decided before the first step.
    pub n_left_out: usize,
    /// Tokens, context included.
    pub n_tokens: usize,
    /// Tokens that were trained.
    pub n_trained: usize,
    /// Generated demonstrations: weights of repeating, looking up and solving in this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<[f64; 3]>,
    /// A file: epochs done after this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<f64>,
}

/// What was measured on rows that are never learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldoutReport {
    /// Mean negative log-likelihood of the tokens that training would train, nats per token.
    pub loss: f64,
    /// Rows.
    pub n_rows: usize,
    /// Tokens, context included.
    pub n_tokens: usize,
    /// Tokens over which the loss is the mean.
    pub n_trained: usize,
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
    /// There is nothing to learn.
    #[error("none of {n_tried} rows holds something to learn within {max_row_tokens} tokens")]
    NothingFits {
        /// How many were tried.
        n_tried: usize,
        /// The model's limit, or that of the settings.
        max_row_tokens: usize,
    },
    /// Everything would be held out.
    #[error("`sft.holdout` is {holdout}, but only {n_rows} rows can be learned, and one at least must be")]
    HoldoutTooLarge {
        /// Rows to hold out.
        holdout: usize,
        /// Rows there are.
        n_rows: usize,
    },
    /// A step that does not exist was asked for.
    #[error("there is no step {step}: there are {n_steps}")]
    NoSuchStep {
        /// The step.
        step: u64,
        /// How many there are.
        n_steps: u64,
    },
    /// Whoever asked for a measurement did not want to wait for it.
    #[error("the measurement was stopped")]
    Stopped,
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
        match &self.source {
            RowSource::Generated { .. } => self.config.sft.tokens.div_ceil(self.config.sft.batch_tokens as u64),
            RowSource::File(data) => data.n_steps(),
        }
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

    /// One optimiser step: the loss is the mean of −logp over the trained tokens of the step, so each has the
    /// coefficient −1/n whatever the packing.
    ///
    /// # Errors
    /// When the policy fails or no demonstration fits its context.
    pub fn step(&self, step: u64, policy: &mut dyn Policy) -> Result<SftRecord, SftError> {
        let s = &self.config.sft;
        let drawn = self.rows_of(step, policy.context_len())?;
        let batches = pack_rows(&drawn.rows, s.max_batch_tokens);
        let n_trained: usize = batches.iter().map(|b| b.targets.len()).sum();

        let mut sum_logp = 0.0;
        for batch in &batches {
            let stats = forward(policy, batch, true)?;
            sum_logp += stats.logprobs.iter().map(|&l| f64::from(l)).sum::<f64>();
            policy.backward(batch, &vec![-1.0 / n_trained as f32; batch.targets.len()], &[])?;
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
            n_rows: drawn.rows.len(),
            n_left_out: drawn.n_left_out,
            n_tokens: batches.iter().map(|b| b.tokens.len()).sum(),
            n_trained,
            shares: drawn.shares,
            epoch: match &self.source {
                RowSource::Generated { .. } => None,
                RowSource::File(data) => Some(data.epochs_after(step + 1)),
            },
        })
    }

    /// The loss on rows that are held out; `None` where none are. Demonstrations are held out by drawing them from a
    /// stream of their own, as at the end of the curriculum. Nothing is changed, so `go_on` may say between two batches
    /// that it is enough.
    ///
    /// # Errors
    /// When the policy fails, no demonstration fits its context, or `go_on` says no.
    pub fn measure(
        &self,
        policy: &mut dyn Policy,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<HoldoutReport>, SftError> {
        let s = &self.config.sft;
        if s.holdout == 0 {
            return Ok(None);
        }
        let drawn;
        let rows = match &self.source {
            RowSource::File(data) => &data.holdout,
            RowSource::Generated { demonstrator, renderer } => {
                let seed = Seed(s.seed).child(HELD_OUT_DEMOS);
                let settings = self.demo_settings(self.n_steps());
                let enough = |rows: &[Row], _: usize| rows.len() == s.holdout;
                drawn = self.draw(demonstrator, renderer, seed, &settings, policy.context_len(), &enough)?;
                &drawn.rows
            }
        };
        let batches = pack_rows(rows, s.max_batch_tokens);
        let n_trained: usize = batches.iter().map(|b| b.targets.len()).sum();
        let mut sum_logp = 0.0;
        for batch in &batches {
            if !go_on() {
                return Err(SftError::Stopped);
            }
            let stats = forward(policy, batch, false)?;
            sum_logp += stats.logprobs.iter().map(|&l| f64::from(l)).sum::<f64>();
        }
        Ok(Some(HoldoutReport {
            loss: -sum_logp / n_trained as f64,
            n_rows: rows.len(),
            n_tokens: batches.iter().map(|b| b.tokens.len()).sum(),
            n_trained,
        }))
    }

    fn rows_of(&self, step: u64, context_len: usize) -> Result<Drawn, SftError> {
        let s = &self.config.sft;
        match &self.source {
            RowSource::File(data) => match data.rows_of(step) {
                rows if rows.is_empty() => Err(SftError::NoSuchStep { step, n_steps: data.n_steps() }),
                rows => Ok(Drawn { rows, n_left_out: 0, shares: None }),
            },
            RowSource::Generated { demonstrator, renderer } => {
                let settings = self.demo_settings(step);
                let seed = Seed(s.seed).child(DEMOS).child(step);
                let full = |rows: &[Row], n_next: usize| {
                    !rows.is_empty() && rows.iter().map(n_tokens).sum::<usize>() + n_next > s.batch_tokens
                };
                let drawn = self.draw(demonstrator, renderer, seed, &settings, context_len, &full)?;
                let shares = Some([settings.copy_share, settings.lookup_share, settings.task_share]);
                Ok(Drawn { shares, ..drawn })
            }
        }
    }

    /// Demonstrations that fit, until there are enough; `enough` is asked with those there are and the number of tokens
    /// of the next.
    fn draw(
        &self,
        demonstrator: &Demonstrator,
        renderer: &Renderer,
        seed: Seed,
        settings: &DemoSettings,
        context_len: usize,
        enough: &dyn Fn(&[Row], usize) -> bool,
    ) -> Result<Drawn, SftError> {
        const MAX_MISSES: usize = 1000;
        let limit = row_limit(&self.config.sft, context_len);
        let mut drawn = Drawn { rows: Vec::new(), n_left_out: 0, shares: None };
        let mut n_misses = 0;
        for i in 0.. {
            let mut row = encode_demo(renderer, &demonstrator.demo(seed.child(i), settings))?;
            match fit(&mut row, limit, self.config.sft.long_rows) {
                Fit::Whole | Fit::Cut => {
                    if enough(&drawn.rows, n_tokens(&row)) {
                        break;
                    }
                    n_misses = 0;
                    drawn.rows.push(row);
                }
                Fit::TooLong | Fit::NothingToTrain => {
                    drawn.n_left_out += 1;
                    n_misses += 1;
                    if n_misses == MAX_MISSES && drawn.rows.is_empty() {
                        return Err(SftError::NothingFits { n_tried: n_misses, max_row_tokens: limit });
                    }
                    if n_misses == MAX_MISSES {
                        break;
                    }
                }
            }
        }
        Ok(drawn)
    }
}

struct Drawn {
    rows: Vec<Row>,
    n_left_out: usize,
    shares: Option<[f64; 3]>,
}

/// Log-probabilities of the targets of `batch`, as many as there are targets.
fn forward(policy: &mut dyn Learner, batch: &TreeBatch, keep: bool) -> Result<TokenStats, SftError> {
    let stats = policy.forward(batch, 1.0, keep)?;
    let (n_got, n_targets) = (stats.logprobs.len(), batch.targets.len());
    if n_got != n_targets {
        return Err(SftError::WrongLength { n_got, n_targets });
    }
    Ok(stats)
}
