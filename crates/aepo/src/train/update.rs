//! How does a batch of scored trees change the weights?
//!
//! The result is a function of the trees, not of how they are packed: denominators count the whole batch of an
//! optimiser step, coefficients of shared tokens are summed before the policy sees them.

use crate::policy::{Learner, PolicyError, StepParams, TokenStats};
use crate::seed::Seed;
use crate::train::advantage::batch_returns;
use crate::train::loss::{LossRules, LossSums, TokenInputs, trajectory_loss};
use crate::train::pack::{MicroBatch, TrainGroup, pack};

/// How to update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateSettings {
    /// The objective.
    pub loss: LossRules,
    /// Coefficient of the divergence folded into the reward (REINFORCE++): where it is not 0, the advantages are
    /// [`batch_returns`] of the samples' rewards and of what old and reference weights say of their tokens.
    pub reward_kl: f64,
    /// Softmax temperature of the sampler, at which log-probabilities are compared.
    pub temperature: f32,
    /// Optimiser steps per epoch, each on a share of the tasks.
    pub minibatches: usize,
    /// Passes over the tasks.
    pub epochs: usize,
    /// Tokens per forward pass.
    pub max_batch_tokens: usize,
    /// The optimiser's numbers.
    pub step: StepParams,
    /// Draws the order of tasks where an epoch has several minibatches.
    pub seed: Seed,
    /// Tokens sampled at more entropy than this are counted as high-entropy ones, nats; only the record depends on it.
    pub high_entropy: f64,
}

/// Sampler against trainer at the same weights, over the tokens that were scored (each once). All three would be 0
/// if both computed the same numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mismatch {
    /// Tokens compared.
    pub n_tokens: usize,
    /// Σ |Δlogp|, nats.
    pub sum_abs: f64,
    /// max |Δlogp|, nats.
    pub max_abs: f64,
    /// Tokens whose ratio, which should be 1, lies outside the clip band.
    pub n_outside: usize,
}

/// What an update did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdateReport {
    /// The objective, mean over the steps that were applied; 0 without one.
    pub loss: f64,
    /// The same of each epoch. It falls where the steps do what they should: every epoch sees the same tokens.
    pub loss_by_epoch: Vec<f64>,
    /// Sums over the steps that were applied, unrolled tokens.
    pub sums: LossSums,
    /// Norm of the gradient before clipping, mean over the steps that were applied.
    pub grad_norm: f64,
    /// The largest of them.
    pub grad_norm_max: f64,
    /// Optimiser steps that changed the weights.
    pub n_applied: usize,
    /// Optimiser steps refused because a loss or a gradient was not finite.
    pub n_not_finite: usize,
    /// Minibatches without any coefficient: no forward, no backward, no step.
    pub n_empty: usize,
    /// Sampler against trainer.
    pub mismatch: Mismatch,
    /// Tokens that went through one forward pass over all groups with a signal, each once.
    pub n_unique_tokens: usize,
    /// The same trajectories' tokens, unrolled.
    pub n_unrolled_tokens: usize,
}

/// A stage of the update, for whoever takes times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateStage {
    /// Scoring under the weights at the start of the step, when they do not come with the only optimiser step.
    OldLogprobs,
    /// Scoring under the reference policy.
    RefLogprobs,
    /// Forward, loss, backward, step.
    Optimise,
}

/// What can stop an update.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The policy failed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A divergence is asked for, but not from what.
    #[error("loss.kl_coef is {0} but there is no reference policy")]
    NoReference(f64),
    /// An entropy bonus is asked for, but nobody measures entropies.
    #[error("loss.entropy_coef is {0} but the policy measures no entropies: leave it at 0")]
    NoEntropies(f64),
    /// The policy answered for another number of tokens than it was asked about.
    #[error("the policy returned {n_got} log-probabilities for {n_targets} targets")]
    WrongLength {
        /// What came.
        n_got: usize,
        /// What was asked for.
        n_targets: usize,
    },
}

/// Updates the policy on the groups. `reference` is used, and needed, only where `loss.kl_coef` or
/// `reward_kl` is not 0.
///
/// Groups in which nothing has a coefficient (all advantages 0, no divergence, no entropy bonus) are not computed, but
/// their tokens and trajectories count in the denominators. With one optimiser step in all, its forward pass gives the
/// old log-probabilities too, and no scoring pass is paid (unless the advantages depend on them).
///
/// # Errors
/// When a policy fails or the reference is missing.
pub fn update(
    policy: &mut dyn Learner,
    reference: Option<&mut dyn Learner>,
    groups: &[TrainGroup<'_>],
    settings: &UpdateSettings,
    on: &mut dyn FnMut(UpdateStage),
) -> Result<UpdateReport, UpdateError> {
    let rules = &settings.loss;
    let folds_kl = settings.reward_kl != 0.0;
    let everywhere = rules.kl_coef != 0.0 || rules.entropy_coef != 0.0 || folds_kl;
    let has_signal =
        |g: &TrainGroup<'_>| everywhere || g.samples.iter().any(|s| s.advantages.iter().any(|&a| a != 0.0));
    let active: Vec<bool> = groups.iter().map(has_signal).collect();
    let all: Vec<usize> = (0..groups.len()).filter(|&g| active[g]).collect();
    let mut report = UpdateReport {
        n_unique_tokens: all.iter().map(|&g| groups[g].n_unique_tokens()).sum(),
        n_unrolled_tokens: all.iter().map(|&g| groups[g].n_unrolled_tokens()).sum(),
        ..UpdateReport::default()
    };
    if all.is_empty() {
        report.n_empty = settings.minibatches * settings.epochs;
        return Ok(report);
    }

    let once = settings.minibatches * settings.epochs == 1;
    let mut old: PerGroup = vec![None; groups.len()];
    let mut references: PerGroup = vec![None; groups.len()];
    if !once || folds_kl {
        on(UpdateStage::OldLogprobs);
        for micro in pack(groups, &all, settings.max_batch_tokens) {
            let stats = forward(policy, &micro, settings.temperature, false)?;
            report.mismatch.add(&micro.rollout_logprobs, &stats.logprobs, rules);
            keep(&mut old, &micro, &stats);
        }
    }
    if rules.kl_coef != 0.0 || folds_kl {
        let Some(reference) = reference else {
            return Err(UpdateError::NoReference(rules.kl_coef + settings.reward_kl));
        };
        on(UpdateStage::RefLogprobs);
        for micro in pack(groups, &all, settings.max_batch_tokens) {
            let stats = forward(reference, &micro, settings.temperature, false)?;
            keep(&mut references, &micro, &stats);
        }
    }

    let folded = folds_kl.then(|| fold_kl(groups, &all, &old, &references, settings));
    let groups = folded.as_deref().unwrap_or(groups);

    on(UpdateStage::Optimise);
    for epoch in 0..settings.epochs {
        let order = task_order(groups.len(), settings.minibatches, settings.seed.child(epoch as u64));
        let n_before = report.n_applied;
        let sum_before = std::mem::take(&mut report.loss);
        for part in 0..settings.minibatches {
            let bounds = |i: usize| i * order.len() / settings.minibatches;
            let minibatch = &order[bounds(part)..bounds(part + 1)];
            optimise(policy, groups, minibatch, &active, &mut old, &references, settings, &mut report)?;
        }
        report.loss_by_epoch.push(report.loss / (report.n_applied - n_before).max(1) as f64);
        report.loss += sum_before;
    }
    let n_applied = report.n_applied.max(1) as f64;
    report.loss /= n_applied;
    report.grad_norm /= n_applied;
    Ok(report)
}

/// Per group, one number per target in the group's own order; `None` before it is known.
type PerGroup = Vec<Option<Vec<f32>>>;

/// The groups with the divergence between old and reference weights folded into their advantages. Both log-probabilities
/// are known for every group that has tokens; `all` are all groups.
fn fold_kl<'a>(
    groups: &[TrainGroup<'a>],
    all: &[usize],
    old: &PerGroup,
    references: &PerGroup,
    settings: &UpdateSettings,
) -> Vec<TrainGroup<'a>> {
    let mut groups = groups.to_vec();
    let mut members = Vec::new();
    for micro in pack(&groups, all, settings.max_batch_tokens) {
        for packed in micro.groups {
            let (Some(old), Some(reference)) = (&old[packed.group_idx], &references[packed.group_idx]) else {
                continue;
            };
            for (s, targets) in packed.sample_targets.iter().enumerate() {
                let kl = |&t: &u32| f64::from(old[t as usize]) - f64::from(reference[t as usize]);
                let reward = groups[packed.group_idx].samples[s].reward;
                members.push(((packed.group_idx, s), reward, targets.iter().map(kl).collect::<Vec<f64>>()));
            }
        }
    }
    let facts: Vec<(f64, &[f64])> = members.iter().map(|(_, reward, kl)| (*reward, kl.as_slice())).collect();
    for (((group, sample), ..), advantages) in members.iter().zip(batch_returns(settings.reward_kl, &facts)) {
        groups[*group].samples[*sample].advantages = advantages;
    }
    groups
}

/// One optimiser step on the groups of a minibatch.
#[allow(clippy::too_many_arguments)] // The step's whole state, each part with a name.
fn optimise(
    policy: &mut dyn Learner,
    groups: &[TrainGroup<'_>],
    minibatch: &[usize],
    active: &[bool],
    old: &mut PerGroup,
    references: &PerGroup,
    settings: &UpdateSettings,
    report: &mut UpdateReport,
) -> Result<(), UpdateError> {
    let which: Vec<usize> = minibatch.iter().copied().filter(|&g| active[g]).collect();
    if which.is_empty() {
        report.n_empty += 1;
        return Ok(());
    }
    let weights = sample_weights(groups, minibatch, settings);
    let (mut loss, mut sums) = (0.0, LossSums::default());
    for micro in pack(groups, &which, settings.max_batch_tokens) {
        let stats = forward(policy, &micro, settings.temperature, true)?;
        if settings.loss.entropy_coef != 0.0 && stats.entropies.is_empty() {
            return Err(UpdateError::NoEntropies(settings.loss.entropy_coef));
        }
        if micro.groups.iter().any(|g| old[g.group_idx].is_none()) {
            // These are the weights at the start of the step, so what they say is the old log-probability.
            report.mismatch.add(&micro.rollout_logprobs, &stats.logprobs, &settings.loss);
            keep(old, &micro, &stats);
        }
        let part = micro_loss(&micro, &stats, groups, &weights, old, references, settings);
        loss += part.value;
        sums.add(&part.sums);
        // A coefficient that is not finite goes through the policy like any other: its gradient is then not finite
        // either, and `step` refuses it and clears what the other batches have added.
        policy.backward(&micro.batch, &part.dlogp, &part.dentropy)?;
    }
    let step = policy.step(&settings.step)?;
    if step.applied {
        report.n_applied += 1;
        report.loss += loss;
        report.sums.add(&sums);
        report.grad_norm += f64::from(step.grad_norm);
        report.grad_norm_max = report.grad_norm_max.max(f64::from(step.grad_norm));
    } else {
        report.n_not_finite += 1;
    }
    Ok(())
}

/// The loss of a micro-batch with the coefficients of its targets, shared tokens summed.
#[derive(Clone, Debug, PartialEq)]
pub struct MicroLoss {
    /// Its part of the loss.
    pub value: f64,
    /// `[n_targets]`.
    pub dlogp: Vec<f32>,
    /// `[n_targets]`; empty without an entropy bonus.
    pub dentropy: Vec<f32>,
    /// Sums over its unrolled tokens.
    pub sums: LossSums,
}

/// Adds up the losses of every trajectory in the batch. `weights` is indexed by group and sample.
fn micro_loss(
    micro: &MicroBatch,
    stats: &TokenStats,
    groups: &[TrainGroup<'_>],
    weights: &[Vec<f64>],
    old: &PerGroup,
    references: &PerGroup,
    settings: &UpdateSettings,
) -> MicroLoss {
    let rules = &settings.loss;
    let n_targets = micro.batch.targets.len();
    let mut dlogp = vec![0.0f64; n_targets];
    let mut dentropy = vec![0.0f64; if rules.entropy_coef == 0.0 { 0 } else { n_targets }];
    let (mut value, mut sums) = (0.0, LossSums::default());
    for packed in &micro.groups {
        let group = &groups[packed.group_idx];
        let range = packed.first_target..packed.first_target + packed.n_targets;
        let logprobs = &stats.logprobs[range.clone()];
        let entropies = if stats.entropies.is_empty() { &[][..] } else { &stats.entropies[range] };
        let old = old[packed.group_idx].as_deref().unwrap_or(logprobs);
        let reference = references[packed.group_idx].as_deref();
        for (s, (sample, targets)) in group.samples.iter().zip(&packed.sample_targets).enumerate() {
            let pick = |from: &[f32]| targets.iter().map(|&t| f64::from(from[t as usize])).collect::<Vec<f64>>();
            let inputs = TokenInputs {
                logprobs: &pick(logprobs),
                old_logprobs: &pick(old),
                ref_logprobs: &reference.map_or(Vec::new(), pick),
                rollout_logprobs: &pick(&micro.rollout_logprobs[packed.first_target..]),
                entropies: &if entropies.is_empty() { Vec::new() } else { pick(entropies) },
                rollout_entropies: &pick(&micro.rollout_entropies[packed.first_target..]),
                high_entropy: settings.high_entropy,
                advantages: &sample.advantages,
                turn_lens: &sample.turn_lens,
            };
            let part = trajectory_loss(rules, weights[packed.group_idx][s], &inputs);
            value += part.value;
            sums.add(&part.sums);
            for (i, &t) in targets.iter().enumerate() {
                let at = packed.first_target + t as usize;
                dlogp[at] += part.dlogp[i];
                if let Some(d) = part.dentropy.get(i) {
                    dentropy[at] += d;
                }
            }
        }
    }
    let narrow = |wide: Vec<f64>| wide.into_iter().map(|d| d as f32).collect();
    MicroLoss { value, dlogp: narrow(dlogp), dentropy: narrow(dentropy), sums }
}

/// Per group and sample, the weight of its tokens; groups outside the minibatch have none.
fn sample_weights(groups: &[TrainGroup<'_>], minibatch: &[usize], settings: &UpdateSettings) -> Vec<Vec<f64>> {
    let counts: Vec<usize> =
        minibatch.iter().flat_map(|&g| groups[g].samples.iter().map(|s| s.advantages.len())).collect();
    let mut flat = settings.loss.aggregation.weights(&counts).into_iter();
    let mut weights = vec![Vec::new(); groups.len()];
    for &g in minibatch {
        weights[g] = flat.by_ref().take(groups[g].samples.len()).collect();
    }
    weights
}

/// The order of tasks in an epoch: as they are when they make one minibatch, shuffled when they make several.
fn task_order(n: usize, minibatches: usize, seed: Seed) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    if minibatches > 1 {
        for i in (1..n).rev() {
            let j = (seed.uniform(i as u64) * (i + 1) as f64) as usize;
            order.swap(i, j.min(i));
        }
    }
    order
}

fn forward(
    policy: &mut dyn Learner,
    micro: &MicroBatch,
    temperature: f32,
    keep: bool,
) -> Result<TokenStats, UpdateError> {
    let stats = policy.forward(&micro.batch, temperature, keep)?;
    let n_targets = micro.batch.targets.len();
    let n_got = match stats.entropies.len() {
        // Not measured; whoever needs them says so.
        0 => stats.logprobs.len(),
        n => n.min(stats.logprobs.len()),
    };
    if n_got != n_targets {
        return Err(UpdateError::WrongLength { n_got, n_targets });
    }
    Ok(stats)
}

fn keep(per_group: &mut PerGroup, micro: &MicroBatch, stats: &TokenStats) {
    for g in &micro.groups {
        per_group[g.group_idx] = Some(stats.logprobs[g.first_target..g.first_target + g.n_targets].to_vec());
    }
}

impl Mismatch {
    fn add(&mut self, sampler: &[f32], trainer: &[f32], rules: &LossRules) {
        let clip = rules.clip.clip();
        for (s, t) in sampler.iter().zip(trainer) {
            let delta = f64::from(*t) - f64::from(*s);
            let ratio = delta.exp();
            self.n_tokens += 1;
            self.sum_abs += delta.abs();
            self.max_abs = self.max_abs.max(delta.abs());
            self.n_outside += usize::from(ratio < 1.0 - clip.low || ratio > 1.0 + clip.high);
        }
    }
}

#[cfg(test)]
mod tests;
