//! What does an algorithm make of a batch? Its advantages, loss and gradient, its budget and its forks, on plain numbers.
//!
//! This is the training step's own mathematics behind a JSON layout, for other languages and for teaching; a training
//! step reaches the same functions with trees instead.

pub mod input;

use serde::Serialize;

use crate::algo::{Algorithm, BaselineName};
use crate::config::{Config, ConfigError, Explained, KEYS, RolloutSettings, Source};
use crate::rollout::branch::{Chance, chance};
use crate::rollout::budget::SamplingBudget;
use crate::score::overlong_punishment;
use crate::train::advantage::{AdvantageRule, Baseline, Member, all_equal, token_advantages};
use crate::train::loss::{LossSums, RatioScope, TokenInputs, trajectory_loss};

pub use input::{Batch, Group, Trajectory, TurnSpan};

/// What cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Not JSON.
    #[error("the input is not JSON: {0}")]
    Syntax(String),
    /// A field of the input is missing, has another form, or does not fit the others.
    #[error("{path}: {what}")]
    Field {
        /// For example `groups[0].trajectories[2].logp[5]`.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl ApplyError {
    /// An error at a field.
    pub fn field(path: impl Into<String>, what: impl Into<String>) -> Self {
        ApplyError::Field { path: path.into(), what: what.into() }
    }
}

/// What the algorithm made of a batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Applied {
    /// The objective that is minimised.
    pub loss: f64,
    /// What a training step would record of it.
    pub metrics: Metrics,
    /// As in the input.
    pub groups: Vec<AppliedGroup>,
}

/// Means and shares are over the sampled tokens of the groups that count, unrolled; 0 where there are none. JSON has no
/// infinity: a mean that overflows is null there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// Share of tokens clipped above.
    pub clip_frac_high: f64,
    /// Share of tokens clipped below.
    pub clip_frac_low: f64,
    /// Share of tokens clipped by the dual clip.
    pub clip_frac_dual: f64,
    /// Mean k3 divergence from the reference policy, `exp(ref − logp) − (ref − logp) − 1`, nats, over the tokens that
    /// have a `ref_logp`.
    pub kl_k3: f64,
    /// Mean k3 divergence from the old weights, `exp(logp − old) − (logp − old) − 1`, nats.
    pub old_kl_k3: f64,
    /// Mean entropy, nats.
    pub entropy: f64,
    /// Its sample standard deviation, nats.
    pub entropy_std: f64,
    /// Share of tokens whose importance weight was cut to `loss.is_cap`; absent without a cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_frac_capped: Option<f64>,
    /// Sampled tokens.
    pub n_tokens: usize,
    /// Trajectories.
    pub n_trajectories: usize,
    /// Groups that dynamic sampling left out.
    pub n_groups_dropped: usize,
}

/// One task of the output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AppliedGroup {
    /// As in the input.
    pub task: String,
    /// In the input's order.
    pub trajectories: Vec<AppliedTrajectory>,
}

/// One trajectory of the output, as if it were unrolled: where trajectories share tokens, their gradients add up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AppliedTrajectory {
    /// `[n_tokens]`, A_t; 0 where the mask is 0.
    pub advantage: Vec<f64>,
    /// `[n_tokens]`, ∂loss/∂logp; 0 where the mask is 0.
    pub dloss_dlogp: Vec<f64>,
    /// `[n_tokens]`, ∂loss/∂H; absent without an entropy bonus.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dloss_dentropy: Vec<f64>,
}

/// The sections of a recipe that each computation reads.
const APPLY_READS: &[&str] =
    &["advantage.", "loss.", "gigpo.", "reward.", "train.dynamic_sampling", "rollout.max_response_tokens"];
const BUDGET_READS: &[&str] = &["rollout.pre_monitor", "rollout.beta", "rollout.initial_rollouts"];
const BRANCH_READS: &[&str] = &["rollout.alpha", "rollout.gamma", "rollout.tau", "rollout.penalty_slope"];
const EXPAND_READS: &[&str] = &["rollout.expand_per_round", "rollout.expand_penalty"];

/// Whether a key is among those that a computation reads: by name, or by its section.
fn is_read(key: &str, reads: &[&str]) -> bool {
    reads.iter().any(|r| key == *r || r.ends_with('.') && key.starts_with(r))
}

/// The settings of an algorithm under `sets`, of which every one must be read by the computation asked for.
fn resolve(algorithm: Algorithm, sets: &[(String, String)], reads: &[&str], by: &str) -> Result<Config, ApplyError> {
    let is_known = |key: &str| KEYS.iter().any(|k| k.path() == key);
    if let Some((key, _)) = sets.iter().find(|(key, _)| is_known(key) && !is_read(key, reads)) {
        let why = format!("{by} does not read it");
        return Err(ConfigError::Ineffective { place: Source::Set, key: key.clone(), why }.into());
    }
    let mut all = vec![("algorithm.name".to_owned(), algorithm.bundle().name.to_owned())];
    if let Some(limit) =
        sets.iter().find(|(key, _)| key == "rollout.max_response_tokens").and_then(|s| s.1.parse().ok())
    {
        // A short trajectory has no longer turn, which no formula reads but a recipe would have to say.
        let parts = RolloutSettings::default();
        for (key, n) in [("max_turn_tokens", parts.max_turn_tokens), ("entropy_tokens", parts.entropy_tokens)] {
            all.push((format!("rollout.{key}"), n.min(limit).max(1).to_string()));
        }
    }
    all.extend_from_slice(sets);
    Ok(Config::resolve("", "", &all)?)
}

/// The constants that an algorithm's formulas read, with their values and meanings.
///
/// # Errors
/// When the bundle's own defaults contradict each other.
pub fn constants(algorithm: Algorithm) -> Result<Vec<Explained>, ApplyError> {
    let config = resolve(algorithm, &[], &[], "")?;
    let reads: Vec<&str> = [APPLY_READS, BUDGET_READS, BRANCH_READS, EXPAND_READS].concat();
    Ok(config.explain().into_iter().filter(|line| line.no_effect.is_none() && is_read(&line.key, &reads)).collect())
}

/// Divides a budget of `total` trajectories; entropies in nats per token.
///
/// # Errors
/// When a setting is wrong or not read by the algorithm's division.
pub fn budget(
    algorithm: Algorithm,
    sets: &[(String, String)],
    total: usize,
    root_entropy: f64,
    tool_entropy: f64,
) -> Result<SamplingBudget, ApplyError> {
    let mut config = resolve(algorithm, sets, BUDGET_READS, "the division of a budget")?;
    if !sets.iter().any(|(key, _)| key == "rollout.initial_rollouts") {
        // Half of the budget, as in a recipe that sets k alone.
        config.settings.rollout.initial_rollouts = (total / 2).max(1);
    }
    Ok(config.rules().budget.split(total, root_entropy, tool_entropy))
}

/// What the branch rule makes of a change of entropy (nats) after `n_consecutive` forks in a row. An
/// algorithm that expands finished trees never forks by entropy.
///
/// # Errors
/// When a setting is wrong or not read by the algorithm's branch rule.
pub fn branch(
    algorithm: Algorithm,
    sets: &[(String, String)],
    entropy_delta: f64,
    n_consecutive: u32,
) -> Result<Chance, ApplyError> {
    let config = resolve(algorithm, sets, BRANCH_READS, "the branch rule")?;
    Ok(chance(&config.rules().branch, entropy_delta, n_consecutive))
}

/// The algorithm's advantages, loss and gradient for a whole batch of one optimiser step.
///
/// # Errors
/// When a setting is wrong, or the batch lacks what the algorithm reads.
pub fn apply(algorithm: Algorithm, sets: &[(String, String)], batch: &Batch) -> Result<Applied, ApplyError> {
    let config = resolve(algorithm, sets, APPLY_READS, "`apply`")?;
    let (bundle, rules) = (algorithm.bundle(), config.rules());
    let loss = &rules.loss;
    let needs = input::Needs {
        anchors: bundle.baseline == BaselineName::Anchors,
        turns: loss.ratio == RatioScope::Turn || bundle.baseline == BaselineName::Turns,
        ref_logp: rules.needs_reference(),
        rollout_logp: loss.is_cap.is_some(),
    };
    let mut members = Vec::new();
    for (g, group) in batch.groups.iter().enumerate() {
        members.push(input::members(group, &format!("groups[{g}]"), &needs)?);
    }
    let max_tokens = config.rollout.max_response_tokens;
    for (group, members) in batch.groups.iter().zip(&mut members) {
        for (t, m) in group.trajectories.iter().zip(members) {
            m.reward += overlong_punishment(t.n_response(), max_tokens, rules.overlong_share);
        }
    }
    let rewards = |members: &[Member]| members.iter().map(|m| m.reward).collect::<Vec<_>>();
    let kept: Vec<bool> = members.iter().map(|m| !rules.dynamic_sampling || !all_equal(&rewards(m))).collect();
    let counted: Vec<Vec<Member>> = members.iter().zip(&kept).filter(|(_, k)| **k).map(|(m, _)| m.clone()).collect();
    let advantage = match rules.advantage.baseline {
        Baseline::Batch { .. } => {
            AdvantageRule { baseline: Baseline::Batch { kl_coef: rules.reward_kl }, ..rules.advantage }
        }
        _ => rules.advantage,
    };
    let (advantages, entropy) = token_advantages(&advantage, &counted);
    let counts: Vec<usize> = counted.iter().flatten().map(|m| m.entropies.len()).collect();
    let mut weights = loss.aggregation.weights(&counts).into_iter();
    let mut advantages = advantages.into_iter();

    let (mut value, mut sums, mut n_reference) = (0.0, LossSums::default(), 0);
    let mut groups = Vec::new();
    for (g, (group, members)) in batch.groups.iter().zip(&members).enumerate() {
        let advantages = if kept[g] { advantages.next() } else { None };
        let mut trajectories = Vec::new();
        for (i, (t, member)) in group.trajectories.iter().zip(members).enumerate() {
            let Some(advantages) = &advantages else {
                trajectories.push(t.unrolled(&[], &[], &[]));
                continue;
            };
            let turn_lens: Vec<usize> = member.turns.iter().map(|t| t.n_tokens).collect();
            let inputs = TokenInputs {
                logprobs: &t.sampled(&t.logp),
                old_logprobs: &t.sampled(&t.old_logp),
                ref_logprobs: &t.ref_logp.as_deref().map_or(Vec::new(), |l| t.sampled(l)),
                rollout_logprobs: &t.rollout_logp.as_deref().map_or(Vec::new(), |l| t.sampled(l)),
                entropies: &member.entropies,
                rollout_entropies: &[],
                high_entropy: f64::INFINITY,
                advantages: &advantages[i],
                turn_lens: &turn_lens,
            };
            let part = trajectory_loss(loss, weights.next().unwrap_or(0.0), &inputs);
            let overflow = |numbers: &[f64], what: &str| match numbers.iter().find(|x| !x.is_finite()) {
                Some(bad) => {
                    Err(ApplyError::field(format!("groups[{g}].trajectories[{i}]"), format!("{what} is {bad}")))
                }
                None => Ok(()),
            };
            overflow(&advantages[i], "a reward, entropy or divergence is too large: its advantage")?;
            overflow(&part.dlogp, "a ratio or divergence overflows: its gradient")?;
            value += part.value;
            overflow(&[value], "a ratio or divergence overflows: the loss")?;
            sums.add(&part.sums);
            n_reference += inputs.ref_logprobs.len();
            trajectories.push(t.unrolled(&advantages[i], &part.dlogp, &part.dentropy));
        }
        groups.push(AppliedGroup { task: group.task.clone(), trajectories });
    }
    let n = sums.n_tokens.max(1) as f64;
    let metrics = Metrics {
        clip_frac_high: sums.n_high as f64 / n,
        clip_frac_low: sums.n_low as f64 / n,
        clip_frac_dual: sums.n_dual as f64 / n,
        kl_k3: sums.kl_ref / n_reference.max(1) as f64,
        old_kl_k3: sums.kl_old / n,
        entropy: entropy.mean,
        entropy_std: entropy.std,
        is_frac_capped: loss.is_cap.map(|_| sums.n_capped as f64 / n),
        n_tokens: sums.n_tokens,
        n_trajectories: counts.len(),
        n_groups_dropped: kept.iter().filter(|k| !**k).count(),
    };
    Ok(Applied { loss: value, metrics, groups })
}

#[cfg(test)]
mod tests;
