//! Which rule does each stage use? Named algorithms as bundles of independent rules.
//!
//! | name | global samples | forks | advantage | per-token objective | aggregation |
//! |---|---|---|---|---|---|
//! | `aepo` (arXiv 2510.14545) | entropy pre-monitoring | entropy rise, penalty on chains | group × entropy | clip balancing | token-mean |
//! | `aepo-reference` (its released code) | the same, one more | drawn in rounds, penalty on chains | group × entropy | clip balancing, dual clip 3 | token-mean |
//! | `arpo` (arXiv 2507.19849) | fixed | entropy rise | group ("soft": over all leaves) | PPO clip | token-mean |
//! | `arpo-reference` (its released code) | fixed | drawn in rounds | group | PPO clip, dual clip 3 | token-mean |
//! | `grpo` (arXiv 2402.03300) | all | none | group | PPO clip | seq-mean-token-mean |
//! | `reinforce++` (arXiv 2501.03262) | all | none | returns over the batch, divergence in the reward | PPO clip | token-mean |
//! | `dapo` (arXiv 2503.14476) | all | none | group; dynamic sampling, soft overlong punishment | PPO clip, 0.2 / 0.28 | token-mean |
//! | `cispo` (arXiv 2506.13585) | all | none | group | detached clipped weight, [0, 1.2] | token-mean |
//! | `gppo` (arXiv 2508.07629) | all | none | group | both edges keep their gradient | token-mean |
//! | `gigpo` (arXiv 2505.10978) | all | none | group + anchor states | PPO clip | token-mean |
//! | `gspo` (arXiv 2507.18071) | all | none | group | PPO clip of the sequence's ratio, 3e-4 / 4e-4 | seq-mean-token-mean |
//! | `ppo` (arXiv 1707.06347) | all | none | the reward | PPO clip | token-mean |
//! | `rloo` (arXiv 2402.14740) | all | none | leave one out | PPO clip | token-mean |
//! | `tree-grpo` (arXiv 2509.21240) | fixed | turns of finished trees, drawn evenly, are expanded | group + same tree | PPO clip | seq-mean-token-mean |
//! | `at2po` (arXiv 2601.04767) | fixed | the most uncertain turns of finished trees are sampled anew | values of the tree's turns | PPO clip of each turn's ratio, 3e-3 / 4e-3 | seq-mean-token-mean |
//!
//! A bundle says which rules exist and what their settings default to; every rule can then be switched or set by one
//! line of a recipe, and a setting of a rule that the bundle lacks is an error. So each published ablation is one line:
//!
//! | ablation | line |
//! |---|---|
//! | AEPO without pre-monitoring | `rollout.pre_monitor = false` |
//! | AEPO without the branch penalty | `rollout.penalty_slope = 0` |
//! | AEPO without clip balancing | `loss.clip = "ppo"` |
//! | AEPO without the entropy-aware advantage | `advantage.entropy_weight = 0` |
//! | ARPO with the hard estimate | `advantage.shared = "mean"` |
//! | DAPO without dynamic sampling | `train.dynamic_sampling = false` |
//! | DAPO without the overlong punishment | `reward.overlong_share = 0` |
//! | DAPO with a symmetric band | `loss.clip_high = 0.2` |
//! | GRPO as released (sum over tokens) | `loss.aggregation = "token-mean"` |
//! | GiGPO without anchors | `gigpo.omega = 0` |

use serde::{Deserialize, Serialize};

use crate::rollout::branch::BranchRule;
use crate::rollout::budget::BudgetRule;
use crate::train::advantage::AdvantageRule;
use crate::train::loss::{Aggregation, LossRules, RatioScope};

/// A named algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Agentic Entropy-Balanced Policy Optimization.
    #[default]
    Aepo,
    /// What AEPO's released code computes where it differs from the paper.
    AepoReference,
    /// Agentic Reinforced Policy Optimization, in its paper's form.
    Arpo,
    /// What ARPO's released code computes where it differs from the paper.
    ArpoReference,
    /// Group Relative Policy Optimization.
    Grpo,
    /// REINFORCE++.
    ReinforcePlusPlus,
    /// Decoupled clip and dynamic sampling.
    Dapo,
    /// Clipped importance-sampling weights.
    Cispo,
    /// Gradient-preserving clipping.
    Gppo,
    /// Group-in-group policy optimization.
    Gigpo,
    /// Group sequence policy optimization.
    Gspo,
    /// PPO's clip, with neither group nor value function.
    Ppo,
    /// REINFORCE leave-one-out.
    Rloo,
    /// Tree-based group relative policy optimization.
    TreeGrpo,
    /// Agentic turn-based policy optimization via tree search.
    At2po,
}

/// Which per-token objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClipName {
    /// PPO's clipped surrogate.
    Ppo,
    /// AEPO's clip balancing.
    Balanced,
    /// CISPO's detached clipped weight.
    Cispo,
    /// GPPO's band with a gradient at both edges.
    Gppo,
}

/// How paths come to fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forks {
    /// They do not.
    None,
    /// Where the entropy rises after a tool result.
    Entropy,
    /// By a draw, as in AEPO's released code.
    DrawnAepo,
    /// By a draw, as in ARPO's released code.
    DrawnArpo,
    /// Turns of finished trees, drawn evenly, are expanded in rounds.
    Expansion,
    /// The most uncertain turns of finished trees are sampled anew, in rounds.
    EntropyExpansion,
}

/// What a trajectory's reward is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaselineName {
    /// The task's group; 0 for a group of one.
    Group,
    /// The task's group; the reward itself for a group of one.
    GroupOrRaw,
    /// Nothing.
    None,
    /// The task's other trajectories.
    LeaveOneOut,
    /// All sampled tokens of the batch.
    Batch,
    /// The task's group, and turns from an equal state.
    Anchors,
    /// The task's group, and trajectories of the same tree.
    Trees,
    /// The task's group, handed back from the tree's leaves to its turns.
    Turns,
}

/// Which rules an algorithm has. Settings that belong to none of them have no effect and are refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bundle {
    /// Its name in recipes.
    pub name: &'static str,
    /// Where its formulas stand.
    pub source: &'static str,
    /// How paths fork; where they do, the budget is divided into global samples and branches.
    pub forks: Forks,
    /// The division comes from the first trajectory's entropies (unless `rollout.pre_monitor` is switched off).
    pub pre_monitors: bool,
    /// Consecutive forks are penalised.
    pub penalises: bool,
    /// Default of `rollout.expand_per_round`; read where finished trees are expanded.
    pub expand_per_round: usize,
    /// What rewards are compared with.
    pub baseline: BaselineName,
    /// The advantage depends on the token's entropy.
    pub entropy_advantage: bool,
    /// Default of `loss.clip`.
    pub clip: ClipName,
    /// Default of `loss.ratio`.
    pub ratio: RatioScope,
    /// Default of `loss.clip_low`.
    pub clip_low: f64,
    /// Default of `loss.clip_high`.
    pub clip_high: f64,
    /// Default of `loss.dual_clip`.
    pub dual_clip: Option<f64>,
    /// Default of `loss.aggregation`.
    pub aggregation: Aggregation,
    /// Default of `train.dynamic_sampling`.
    pub dynamic_sampling: bool,
    /// Default of `reward.overlong_share`.
    pub overlong_share: f64,
}

/// Independent samples, PPO's clip, token-mean: what most bundles differ from in a line or two.
const PLAIN: Bundle = Bundle {
    name: "",
    source: "",
    forks: Forks::None,
    pre_monitors: false,
    penalises: false,
    expand_per_round: 2,
    baseline: BaselineName::Group,
    entropy_advantage: false,
    clip: ClipName::Ppo,
    ratio: RatioScope::Token,
    clip_low: 0.2,
    clip_high: 0.2,
    dual_clip: None,
    aggregation: Aggregation::TokenMean,
    dynamic_sampling: false,
    overlong_share: 0.0,
};

const AEPO: Bundle = Bundle {
    name: "aepo",
    source: "arXiv 2510.14545, §3.1–3.3",
    forks: Forks::Entropy,
    pre_monitors: true,
    penalises: true,
    entropy_advantage: true,
    clip: ClipName::Balanced,
    ..PLAIN
};
const ARPO: Bundle = Bundle { name: "arpo", source: "arXiv 2507.19849", forks: Forks::Entropy, ..PLAIN };

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 15] = [
        Algorithm::Aepo,
        Algorithm::AepoReference,
        Algorithm::Arpo,
        Algorithm::ArpoReference,
        Algorithm::Grpo,
        Algorithm::ReinforcePlusPlus,
        Algorithm::Dapo,
        Algorithm::Cispo,
        Algorithm::Gppo,
        Algorithm::Gigpo,
        Algorithm::Gspo,
        Algorithm::Ppo,
        Algorithm::Rloo,
        Algorithm::TreeGrpo,
        Algorithm::At2po,
    ];

    /// The algorithm of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Algorithm> {
        Self::ALL.into_iter().find(|a| a.bundle().name == name)
    }

    /// Its rules: the table at the top, as data.
    #[must_use]
    pub const fn bundle(self) -> Bundle {
        let (group, mean_of_means) = (PLAIN, Aggregation::SeqMeanTokenMean);
        match self {
            Algorithm::Aepo => AEPO,
            Algorithm::AepoReference => Bundle {
                name: "aepo-reference",
                source: "released code of arXiv 2510.14545",
                forks: Forks::DrawnAepo,
                baseline: BaselineName::GroupOrRaw,
                dual_clip: Some(3.0),
                ..AEPO
            },
            Algorithm::Arpo => ARPO,
            Algorithm::ArpoReference => Bundle {
                name: "arpo-reference",
                source: "released code of arXiv 2507.19849",
                forks: Forks::DrawnArpo,
                baseline: BaselineName::GroupOrRaw,
                dual_clip: Some(3.0),
                ..ARPO
            },
            Algorithm::Grpo => {
                Bundle { name: "grpo", source: "arXiv 2402.03300, eqs. 3–4", aggregation: mean_of_means, ..group }
            }
            Algorithm::ReinforcePlusPlus => {
                Bundle { name: "reinforce++", source: "arXiv 2501.03262", baseline: BaselineName::Batch, ..group }
            }
            Algorithm::Dapo => Bundle {
                name: "dapo",
                source: "arXiv 2503.14476",
                clip_high: 0.28,
                dynamic_sampling: true,
                overlong_share: 0.2,
                ..group
            },
            Algorithm::Cispo => Bundle {
                name: "cispo",
                source: "arXiv 2506.13585, eqs. 4–5",
                clip: ClipName::Cispo,
                clip_low: 1.0,
                ..group
            },
            Algorithm::Gppo => Bundle { name: "gppo", source: "arXiv 2508.07629", clip: ClipName::Gppo, ..group },
            Algorithm::Gigpo => {
                Bundle { name: "gigpo", source: "arXiv 2505.10978", baseline: BaselineName::Anchors, ..group }
            }
            Algorithm::Gspo => Bundle {
                name: "gspo",
                source: "arXiv 2507.18071, eq. 7",
                ratio: RatioScope::Sequence,
                clip_low: 3e-4,
                clip_high: 4e-4,
                aggregation: mean_of_means,
                ..group
            },
            Algorithm::Ppo => {
                Bundle { name: "ppo", source: "arXiv 1707.06347, eq. 7", baseline: BaselineName::None, ..group }
            }
            Algorithm::Rloo => {
                Bundle { name: "rloo", source: "arXiv 2402.14740", baseline: BaselineName::LeaveOneOut, ..group }
            }
            Algorithm::TreeGrpo => Bundle {
                name: "tree-grpo",
                source: "arXiv 2509.21240",
                forks: Forks::Expansion,
                baseline: BaselineName::Trees,
                aggregation: mean_of_means,
                ..group
            },
            Algorithm::At2po => Bundle {
                name: "at2po",
                source: "arXiv 2601.04767, eqs. 2–5",
                forks: Forks::EntropyExpansion,
                expand_per_round: 6,
                baseline: BaselineName::Turns,
                ratio: RatioScope::Turn,
                clip_low: 3e-3,
                clip_high: 4e-3,
                aggregation: mean_of_means,
                ..group
            },
        }
    }
}

impl Bundle {
    /// Whether the budget is divided into global samples and branches.
    #[must_use]
    pub fn branches(&self) -> bool {
        self.forks != Forks::None
    }

    /// Whether finished trees are expanded.
    #[must_use]
    pub fn expands(&self) -> bool {
        matches!(self.forks, Forks::Expansion | Forks::EntropyExpansion)
    }

    /// Every rule in words with its formula, in the order of the stages.
    #[must_use]
    pub fn describe(&self) -> Vec<Stage> {
        let budget = match (self.forks, self.pre_monitors) {
            (Forks::None, _) => ("every trajectory starts at the root", "m = k"),
            (Forks::DrawnAepo, _) => {
                ("entropy pre-monitoring, as released", "m = clamp(floor(k·σ(0.5·(H_root − H̄_tool))) + 1, 1, k)")
            }
            (_, true) => ("entropy pre-monitoring", "m = clamp(round(k·σ(β·(H_root − H̄_tool))), 1, k)"),
            (_, false) => ("a fixed number of root samples", "m = rollout.initial_rollouts"),
        };
        let branch = match self.forks {
            Forks::None => ("no path forks", "P_t = 0"),
            Forks::Entropy if self.penalises => (
                "fork after a tool result that raises the entropy, less and less in a chain",
                "fork iff clamp((α + γ·ΔH_t)·(1 − min(1, slope·l)), 0, 1) > τ",
            ),
            Forks::Entropy => {
                ("fork after a tool result that raises the entropy", "fork iff clamp(α + γ·ΔH_t, 0, 1) > τ")
            }
            Forks::DrawnAepo => (
                "fork by a draw U ~ [0, 1), less often in a chain",
                "fork iff clamp((U + 0.2·ΔH)·max(0, 1 − 0.05·c), 0, 1) ≥ 0.5",
            ),
            Forks::DrawnArpo => ("fork by a draw U ~ [0, 1)", "fork iff clamp(U − 0.2·ΔH, 0, 1) ≤ 0.5"),
            Forks::Expansion => (
                "expand turns of finished trees, drawn evenly, behind their tool results",
                "N = rollout.expand_per_round of each root sample per round, until there are k leaves",
            ),
            Forks::EntropyExpansion => (
                "sample the most uncertain turns of finished trees anew",
                "the K = rollout.expand_per_round best by H(turn) − penalty·n_siblings per round, until there are k leaves",
            ),
        };
        let advantage = match self.baseline {
            BaselineName::Group => ("the task's group", "A = (R − mean R)/(std R + 1e-6); 0 for a group of one"),
            BaselineName::GroupOrRaw => ("the task's group", "A = (R − mean R)/(std R + 1e-6); R for a group of one"),
            BaselineName::None => ("no baseline", "A_t = R"),
            BaselineName::LeaveOneOut => ("leave one out", "A_i = R_i − mean of the group's other R"),
            BaselineName::Batch => (
                "returns over the whole batch, divergence in the reward",
                "G_t = R − kl_coef·Σ_{u≥t}(old_logp_u − ref_logp_u); A_t = (G_t − mean G)/std G",
            ),
            BaselineName::Anchors => (
                "the task's group, and turns that start from an equal state",
                "A = A_group(R) + ω·A_anchor(γ^(T−1−t)·R), each (x − mean)/(std + 1e-6)",
            ),
            BaselineName::Trees => {
                ("the task's group, and the trajectories of the same tree", "A = A_group(R) + A_tree(R)")
            }
            BaselineName::Turns => (
                "the task's group, handed back from the tree's leaves to its turns",
                "A_t = V_n; V_n = A_group(R) at a leaf, else Σ_c V_c·H(c)/ΣH over the next turns c, H = mean −old_logp",
            ),
        };
        let loss = match self.clip {
            ClipName::Ppo => ("PPO's clip", "L = −min(r·A, clip(r, 1−ε_l, 1+ε_h)·A)"),
            ClipName::Balanced => ("clip balancing", "L = −min(r·A, clip(r, 1−ε_l, ((1+ε_h)/sg(r))·r)·A)"),
            ClipName::Cispo => ("a detached, clipped weight", "L = −sg(clip(r, 1−ε_l, 1+ε_h))·A·logp"),
            ClipName::Gppo => (
                "a band whose edges keep their gradient",
                "L = −min(r·A, clip(r, ((1−ε_l)/sg(r))·r, ((1+ε_h)/sg(r))·r)·A)",
            ),
        };
        let ratio = match self.ratio {
            RatioScope::Token => ("per token", "r_t = exp(logp_t − old_logp_t)"),
            RatioScope::Sequence => ("per trajectory", "r = exp(mean_t(logp_t − old_logp_t))"),
            RatioScope::Turn => ("per turn", "r = exp(mean over the turn of logp_t − old_logp_t)"),
        };
        let aggregation = match self.aggregation {
            Aggregation::TokenMean => ("mean over all sampled tokens", "Σ_t L_t / n_tokens"),
            Aggregation::SeqMeanTokenMean => {
                ("mean over trajectories of each one's token mean", "mean_i(Σ_t L_it / n_i)")
            }
        };
        let kl = match self.baseline {
            BaselineName::Batch => ("in the reward, off unless loss.kl_coef is set", "k1 = old_logp − ref_logp"),
            _ => ("in the loss, off unless loss.kl_coef is set", "k3 = exp(ref_logp − logp) − (ref_logp − logp) − 1"),
        };
        let mut stages = vec![("budget", budget), ("branch", branch), ("advantage", advantage)];
        if self.entropy_advantage {
            stages.push(("entropy", ("scaled by the token's entropy", "A_t = A·(1 + a·(H_t − mean H)/std H)")));
        }
        stages.extend([("objective", loss), ("ratio", ratio), ("aggregation", aggregation), ("divergence", kl)]);
        if self.dual_clip.is_some() {
            stages.push(("dual clip", ("the loss of a token with A < 0 is bounded", "L ≤ −c·A")));
        }
        if self.dynamic_sampling {
            stages.push(("sampling", ("tasks whose rewards are all equal are replaced", "drop if std R = 0")));
        }
        if self.overlong_share > 0.0 {
            let formula = "R += clamp(((1−s)·L_max − n)/(s·L_max), −1, 0)";
            stages.push(("overlong", ("the reward falls over the last tokens before the limit", formula)));
        }
        stages.into_iter().map(|(stage, (rule, formula))| Stage { stage, rule, formula }).collect()
    }
}

/// One stage of a [`Bundle`] in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Where in the data's path.
    pub stage: &'static str,
    /// What happens.
    pub rule: &'static str,
    /// How much.
    pub formula: &'static str,
}

/// The rules of a run, with their numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// How k is divided.
    pub budget: BudgetRule,
    /// When paths fork.
    pub branch: BranchRule,
    /// How rewards become token advantages.
    pub advantage: AdvantageRule,
    /// The objective.
    pub loss: LossRules,
    /// Coefficient of the divergence in the reward; see [`crate::train::update::UpdateSettings::reward_kl`].
    pub reward_kl: f64,
    /// Tasks whose rewards are all equal are left out, and replaced where tasks are drawn.
    pub dynamic_sampling: bool,
    /// See [`crate::score::reward::overlong_punishment`].
    pub overlong_share: f64,
}

impl Rules {
    /// Whether a divergence from the reference policy is asked for, in the loss or in the reward. Without one no
    /// reference model is loaded or evaluated.
    #[must_use]
    pub fn needs_reference(&self) -> bool {
        self.loss.kl_coef != 0.0 || self.reward_kl != 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_rule_has_a_formula() {
        for (i, a) in Algorithm::ALL.into_iter().enumerate() {
            assert_eq!(Algorithm::named(a.bundle().name), Some(a));
            assert!(Algorithm::ALL[..i].iter().all(|b| b.bundle().name != a.bundle().name));
            let stages = a.bundle().describe();
            assert!(stages.len() >= 7 && !a.bundle().source.is_empty());
            assert!(stages.iter().all(|s| !s.rule.is_empty() && !s.formula.is_empty()));
        }
    }
}
