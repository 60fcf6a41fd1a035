//! How did a step go? One row of numbers that repeat bit for bit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::algo::Rules;
use crate::policy::PolicyVersion;
use crate::rollout::branch::{Decision, Outcome};
use crate::rollout::drive::Reasons;
use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::{CallRecord, NodeKind};
use crate::score::Score;
use crate::tool::{ToolName, ToolOutcome};
use crate::train::advantage::{EntropyStats, mean_std};
use crate::train::group::ScoredTree;
use crate::train::loss::share;
use crate::train::pack::TrainGroup;
use crate::train::update::UpdateReport;

/// One row of `metrics.jsonl`, times apart. Trajectories spoilt by a failing tool are counted in `n_unavailable` and
/// `stops` and nowhere else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Training step, from 0.
    pub step: u64,
    /// The weights that sampled.
    pub version: PolicyVersion,
    /// Optimiser steps between the weights that sampled and those that began to learn; 0 where they take turns.
    #[serde(default)]
    pub staleness: u64,
    /// Tasks of the step.
    pub n_tasks: usize,
    /// Trajectories that count.
    pub n_trajectories: usize,
    /// Trajectories that a failing tool spoilt.
    pub n_unavailable: usize,
    /// Mean reward.
    pub reward: f64,
    /// Sample standard deviation of the reward over all trajectories.
    pub reward_std: f64,
    /// Mean accuracy.
    pub accuracy: f64,
    /// Share of trajectories that kept the protocol.
    pub format_rate: f64,
    /// Tasks whose trajectories do not all have the same reward: those that teach something.
    pub n_groups_with_signal: usize,
    /// Mean token entropy over sampled tokens, unrolled, nats per token.
    pub entropy: f64,
    /// Its sample standard deviation.
    pub entropy_std: f64,
    /// H_root of each tree's first trajectory, mean over trees, nats per token.
    pub root_entropy: f64,
    /// H̄_tool of the same, mean over trees, nats per token.
    pub tool_entropy: f64,
    /// m, mean over trees.
    pub n_global: f64,
    /// Trajectories that do not start at the root, all trees.
    pub n_branches: usize,
    /// Trajectories of a tree that forked themselves at least once, mean over trees.
    pub forking: f64,
    /// Trajectories of a tree with a fork somewhere on their way from the root, mean over trees.
    pub on_fork: f64,
    /// Decisions on forks by outcome, all trees.
    pub decisions: DecisionCounts,
    /// Runs of consecutive high-entropy rounds on a trajectory (each trajectory read from the root): how many have
    /// length 1, 2, …
    pub chain_lengths: Vec<usize>,
    /// Share of rounds after a tool result that are high-entropy: entropy above the trajectory's root entropy.
    pub high_entropy_rate: f64,
    /// Calls per tool and outcome, each call of a tree once.
    pub tool_calls: BTreeMap<ToolName, BTreeMap<ToolOutcome, usize>>,
    /// Why tools were unavailable; absent where all were there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub unavailable: Reasons,
    /// Calls per trajectory, unrolled.
    pub calls_per_trajectory: f64,
    /// Sampled tokens per trajectory, unrolled.
    pub sampled_per_trajectory: f64,
    /// Trajectories by the way they ended.
    pub stops: BTreeMap<String, usize>,
    /// Tokens that were sampled, each once.
    pub n_sampled_tokens: usize,
    /// Tokens of the counted trajectories' trees, each once.
    pub n_unique_tokens: usize,
    /// Tokens of the counted trajectories, each on its own.
    pub n_unrolled_tokens: usize,
    /// What the update did.
    pub update: UpdateRecord,
}

/// How many decisions came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionCounts {
    /// Forked.
    pub forked: usize,
    /// Below the threshold.
    pub low_entropy: usize,
    /// Held back by the penalty.
    pub penalised: usize,
    /// Held back because the tree was full.
    pub no_budget: usize,
}

/// The update's part of a [`StepRecord`]. Fractions are over trained tokens, unrolled, of all optimiser steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateRecord {
    /// The objective, mean over the optimiser steps that were applied.
    pub loss: f64,
    /// The same of each epoch; absent where there is only one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub loss_by_epoch: Vec<f64>,
    /// Learning rate.
    pub learning_rate: f64,
    /// Gradient norm before clipping, mean over optimiser steps.
    pub grad_norm: f64,
    /// The largest of them.
    pub grad_norm_max: f64,
    /// Optimiser steps that changed the weights.
    pub n_applied: usize,
    /// Optimiser steps refused because something was not finite.
    pub n_not_finite: usize,
    /// Minibatches in which nothing had a coefficient.
    pub n_empty: usize,
    /// Share of tokens clipped above (A > 0).
    pub clip_frac_high: f64,
    /// Share of tokens clipped below (A < 0).
    pub clip_frac_low: f64,
    /// Share of tokens clipped by the dual clip.
    pub clip_frac_dual: f64,
    /// Share of the surrogate's gradient, Σ |∂L/∂logp|, that lies on high-entropy tokens: those sampled at more entropy
    /// than four fifths of the batch's tokens.
    pub grad_share_high: f64,
    /// Share of the gradient of high-entropy tokens that clipping took away: 1 − Σ |∂L/∂logp| / Σ |r·A|.
    pub grad_lost_high: f64,
    /// The same of all other tokens.
    pub grad_lost_rest: f64,
    /// Share of tokens whose importance weight was cut to `loss.is_cap`; absent without a cap.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub is_frac_capped: Option<f64>,
    /// k3 divergence from the reference policy, nats per token; absent where none is evaluated.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kl_k3: Option<f64>,
    /// k3 divergence of the trained weights from those at the start of the step, nats per token.
    pub old_kl_k3: f64,
    /// Sampler against trainer at the same weights: mean |Δlogp|, nats.
    pub logp_diff_mean: f64,
    /// The same: max |Δlogp|, nats.
    pub logp_diff_max: f64,
    /// The same: share of tokens whose ratio, which should be 1, lies outside the clip band.
    pub logp_diff_outside: f64,
    /// Tokens of one pass over the trained trees, each once.
    pub n_unique_tokens: usize,
    /// The same trajectories' tokens, each on its own.
    pub n_unrolled_tokens: usize,
}

/// What a step record is made from.
pub struct StepFacts<'a> {
    /// Training step.
    pub step: u64,
    /// The weights that sampled.
    pub version: PolicyVersion,
    /// Optimiser steps between these and the weights that learned.
    pub staleness: u64,
    /// All trees of the step.
    pub trees: &'a [ScoredTree],
    /// Their counted trajectories.
    pub groups: &'a [TrainGroup<'a>],
    /// Over the sampled tokens.
    pub entropy: &'a EntropyStats,
    /// Tokens over which an entropy is averaged.
    pub entropy_tokens: usize,
    /// What the update did, and at which learning rate.
    pub update: UpdateRecord,
}

/// Counts and averages a step.
#[must_use]
pub fn step_record(facts: StepFacts<'_>) -> StepRecord {
    let trees = facts.trees;
    let all: Vec<(Trajectory<'_>, &Score)> =
        trees.iter().flat_map(|t| Trajectory::all(&t.tree).into_iter().zip(&t.scores)).collect();
    let counted: Vec<_> = all.iter().filter(|(t, _)| t.counts()).collect();
    let over_trees = |f: &dyn Fn(&ScoredTree) -> f64| mean_std(trees.iter().map(f)).0;
    let over_paths = |f: &dyn Fn(&Trajectory<'_>) -> f64| mean_std(counted.iter().map(|(t, _)| f(t))).0;
    let (reward, reward_std) = mean_std(counted.iter().map(|(_, s)| s.reward));
    let mut stops = BTreeMap::new();
    for (t, _) in &all {
        *stops.entry(t.leaf.stop.name().to_owned()).or_insert(0) += 1;
    }
    let rounds: Vec<Vec<bool>> = counted.iter().map(|(t, _)| high_entropy_rounds(t, facts.entropy_tokens)).collect();
    let n_rounds: usize = rounds.iter().map(Vec::len).sum();
    let n_high = rounds.iter().flatten().filter(|&&high| high).count();
    let signal = |g: &&TrainGroup<'_>| g.samples.iter().any(|s| s.advantages.iter().any(|&a| a != 0.0));
    let n_sampled = |t: &ScoredTree| t.tree.nodes.iter().map(|n| n.kind.sampled().len()).sum::<usize>();
    StepRecord {
        step: facts.step,
        version: facts.version,
        staleness: facts.staleness,
        n_tasks: trees.len(),
        n_trajectories: counted.len(),
        n_unavailable: all.len() - counted.len(),
        reward,
        reward_std,
        accuracy: mean_std(counted.iter().map(|(_, s)| s.accuracy)).0,
        format_rate: mean_std(counted.iter().map(|(_, s)| f64::from(u8::from(s.format_ok)))).0,
        n_groups_with_signal: facts.groups.iter().filter(signal).count(),
        entropy: facts.entropy.mean,
        entropy_std: facts.entropy.std,
        root_entropy: over_trees(&|t| t.tree.root_entropy),
        tool_entropy: over_trees(&|t| t.tree.tool_entropy),
        n_global: over_trees(&|t| t.tree.budget.n_global as f64),
        n_branches: trees.iter().map(|t| t.tree.n_branches()).sum(),
        forking: over_trees(&|t| t.tree.n_forking() as f64),
        on_fork: over_trees(&|t| t.tree.n_on_fork() as f64),
        decisions: count_decisions(trees.iter().flat_map(|t| &t.tree.decisions)),
        chain_lengths: chain_lengths(&rounds),
        high_entropy_rate: n_high as f64 / n_rounds.max(1) as f64,
        tool_calls: count_calls(trees),
        unavailable: reasons(trees),
        calls_per_trajectory: over_paths(&|t| t.calls().count() as f64),
        sampled_per_trajectory: over_paths(&|t| t.n_sampled() as f64),
        stops,
        n_sampled_tokens: trees.iter().map(n_sampled).sum(),
        n_unique_tokens: facts.groups.iter().map(TrainGroup::n_unique_tokens).sum(),
        n_unrolled_tokens: facts.groups.iter().map(TrainGroup::n_unrolled_tokens).sum(),
        update: facts.update,
    }
}

/// Turns the sums of an update into the numbers that are reported.
#[must_use]
pub fn update_record(report: &UpdateReport, learning_rate: f64, rules: &Rules) -> UpdateRecord {
    let n = report.sums.n_tokens.max(1) as f64;
    let n_compared = report.mismatch.n_tokens.max(1) as f64;
    UpdateRecord {
        loss: report.loss,
        loss_by_epoch: if report.loss_by_epoch.len() > 1 { report.loss_by_epoch.clone() } else { Vec::new() },
        learning_rate,
        grad_norm: report.grad_norm,
        grad_norm_max: report.grad_norm_max,
        n_applied: report.n_applied,
        n_not_finite: report.n_not_finite,
        n_empty: report.n_empty,
        clip_frac_high: report.sums.n_high as f64 / n,
        clip_frac_low: report.sums.n_low as f64 / n,
        clip_frac_dual: report.sums.n_dual as f64 / n,
        grad_share_high: share(report.sums.high.kept, report.sums.rest.kept),
        grad_lost_high: report.sums.high.share_lost(),
        grad_lost_rest: report.sums.rest.share_lost(),
        is_frac_capped: rules.loss.is_cap.map(|_| report.sums.n_capped as f64 / n),
        kl_k3: rules.needs_reference().then_some(report.sums.kl_ref / n),
        old_kl_k3: report.sums.kl_old / n,
        logp_diff_mean: report.mismatch.sum_abs / n_compared,
        logp_diff_max: report.mismatch.max_abs,
        logp_diff_outside: report.mismatch.n_outside as f64 / n_compared,
        n_unique_tokens: report.n_unique_tokens,
        n_unrolled_tokens: report.n_unrolled_tokens,
    }
}

/// For each round after a tool result, whether its entropy is high: above the trajectory's own root entropy (ΔH > 0).
/// The same for every algorithm, whether and however it forks, so that their rows can be compared.
fn high_entropy_rounds(t: &Trajectory<'_>, entropy_tokens: usize) -> Vec<bool> {
    let Some(root) = t.root_entropy(entropy_tokens) else { return Vec::new() };
    t.tool_entropies(entropy_tokens).into_iter().map(|entropy| entropy > root).collect()
}

/// Histogram of the lengths of runs of `true`; index 0 counts those of length 1.
fn chain_lengths(rounds: &[Vec<bool>]) -> Vec<usize> {
    let mut histogram = Vec::new();
    for run in rounds.iter().flat_map(|r| r.split(|&high| !high)).filter(|run| !run.is_empty()) {
        histogram.resize(histogram.len().max(run.len()), 0);
        histogram[run.len() - 1] += 1;
    }
    histogram
}

fn count_decisions<'a>(decisions: impl Iterator<Item = &'a Decision>) -> DecisionCounts {
    let mut counts = DecisionCounts::default();
    for decision in decisions {
        match decision.outcome {
            Outcome::Forked => counts.forked += 1,
            Outcome::LowEntropy => counts.low_entropy += 1,
            Outcome::Penalised => counts.penalised += 1,
            Outcome::NoBudget => counts.no_budget += 1,
        }
    }
    counts
}

fn calls(trees: &[ScoredTree]) -> impl Iterator<Item = &CallRecord> {
    trees.iter().flat_map(|t| &t.tree.nodes).filter_map(|node| match &node.kind {
        NodeKind::Context { call, .. } => call.as_ref(),
        NodeKind::Sampled { .. } => None,
    })
}

fn count_calls(trees: &[ScoredTree]) -> BTreeMap<ToolName, BTreeMap<ToolOutcome, usize>> {
    let mut counts: BTreeMap<ToolName, BTreeMap<ToolOutcome, usize>> = BTreeMap::new();
    for call in calls(trees) {
        *counts.entry(call.tool.clone()).or_default().entry(call.outcome).or_default() += 1;
    }
    counts
}

/// Up to three different reasons of each tool that was unavailable, in the order of the trees.
#[must_use]
pub fn reasons(trees: &[ScoredTree]) -> Reasons {
    const N_REASONS: usize = 3;
    let mut reasons = Reasons::new();
    for call in calls(trees) {
        let Some(reason) = &call.reason else { continue };
        let of_tool = reasons.entry(call.tool.clone()).or_default();
        if of_tool.len() < N_REASONS && !of_tool.contains(reason) {
            of_tool.push(reason.clone());
        }
    }
    reasons
}

/// Seconds spent waiting inside each tool, each call of a tree once. Not part of a record that must repeat.
#[must_use]
pub fn tool_secs(trees: &[ScoredTree]) -> BTreeMap<ToolName, f64> {
    let mut secs = BTreeMap::new();
    for call in calls(trees) {
        *secs.entry(call.tool.clone()).or_insert(0.0) += call.wall_secs;
    }
    secs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_maximal_runs() {
        let rounds = [vec![true, true, false, true], vec![], vec![false], vec![true, true, true]];
        assert_eq!(chain_lengths(&rounds), [1, 1, 1]);
        assert!(chain_lengths(&[vec![false, false]]).is_empty());
    }
}
