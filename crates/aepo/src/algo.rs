//! Which rule does each stage use? Named algorithms as bundles of independent rules.
//!
//! | name | global samples | forks | advantage | per-token objective | aggregation |
//! |---|---|---|---|---|---|
//! | `aepo` (arXiv 2510.14545) | entropy pre-monitoring | entropy rise, penalty on chains | group × entropy-aware | clip balancing | token-mean |
//! | `arpo` (arXiv 2507.19849) | fixed | entropy rise | group ("soft": over all leaves) | PPO clip | token-mean |
//! | `grpo` (arXiv 2402.03300) | all | none | group | PPO clip | seq-mean-token-mean |
//!
//! A bundle says which rules exist and what their settings default to; every rule can then be switched or set by one
//! line of a recipe, and a setting of a rule that the bundle lacks is an error.

use serde::{Deserialize, Serialize};

use crate::rollout::branch::BranchRule;
use crate::rollout::budget::BudgetRule;
use crate::train::advantage::AdvantageRule;
use crate::train::loss::{Aggregation, LossRules};

/// A named algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Agentic Entropy-Balanced Policy Optimization.
    #[default]
    Aepo,
    /// Agentic Reinforced Policy Optimization, in its paper's form.
    Arpo,
    /// Group Relative Policy Optimization.
    Grpo,
}

/// Which per-token objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClipName {
    /// PPO's clipped surrogate.
    Ppo,
    /// AEPO's clip balancing.
    Balanced,
}

/// Which rules an algorithm has. Settings that belong to none of them have no effect and are refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bundle {
    /// Its name in recipes.
    pub name: &'static str,
    /// Paths fork, so the budget is divided into global samples and branches.
    pub branches: bool,
    /// The division comes from the first trajectory's entropies (unless `rollout.pre_monitor` is switched off).
    pub pre_monitors: bool,
    /// Consecutive forks are penalised.
    pub penalises: bool,
    /// The advantage depends on the token's entropy.
    pub entropy_advantage: bool,
    /// Default of `loss.clip`.
    pub clip: ClipName,
    /// Default of `loss.aggregation`.
    pub aggregation: Aggregation,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 3] = [Algorithm::Aepo, Algorithm::Arpo, Algorithm::Grpo];

    /// Its rules: the table at the top, as data.
    #[must_use]
    pub const fn bundle(self) -> Bundle {
        match self {
            Algorithm::Aepo => Bundle {
                name: "aepo",
                branches: true,
                pre_monitors: true,
                penalises: true,
                entropy_advantage: true,
                clip: ClipName::Balanced,
                aggregation: Aggregation::TokenMean,
            },
            Algorithm::Arpo => Bundle {
                name: "arpo",
                branches: true,
                pre_monitors: false,
                penalises: false,
                entropy_advantage: false,
                clip: ClipName::Ppo,
                aggregation: Aggregation::TokenMean,
            },
            Algorithm::Grpo => Bundle {
                name: "grpo",
                branches: false,
                pre_monitors: false,
                penalises: false,
                entropy_advantage: false,
                clip: ClipName::Ppo,
                aggregation: Aggregation::SeqMeanTokenMean,
            },
        }
    }
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
}
