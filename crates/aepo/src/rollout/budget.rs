//! How many trajectories start at the root, and how many are left for branches?

use serde::{Deserialize, Serialize};

/// A task's k trajectories, divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplingBudget {
    /// k: leaves of the tree.
    pub total: usize,
    /// m: trajectories that start at the root before any fork; at least 1.
    pub n_global: usize,
    /// k − m: at most so many forks. What is not used is filled with further root samples.
    pub n_branch: usize,
}

/// How the budget is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BudgetRule {
    /// AEPO's entropy pre-monitoring (arXiv 2510.14545, §3.1): one trajectory first, then [`entropy_split`].
    Entropy {
        /// β, per nat.
        beta: f64,
    },
    /// The same as AEPO's released code computes it: [`reference_split`].
    EntropyReference,
    /// A fixed number of root samples (ARPO, and AEPO without pre-monitoring).
    Fixed {
        /// m.
        initial_rollouts: usize,
    },
    /// Every trajectory starts at the root (GRPO).
    AllGlobal,
}

impl BudgetRule {
    /// How many trajectories start at once, before anything is known of the task. With pre-monitoring it is the one
    /// that is monitored.
    #[must_use]
    pub fn n_first(&self, total: usize) -> usize {
        match *self {
            BudgetRule::Entropy { .. } | BudgetRule::EntropyReference => 1,
            BudgetRule::Fixed { initial_rollouts } => initial_rollouts.min(total).max(1),
            BudgetRule::AllGlobal => total,
        }
    }

    /// The split, once the first trajectory's entropies (nats per token) are known. Only the entropy
    /// rules look at them.
    #[must_use]
    pub fn split(&self, total: usize, root_entropy: f64, tool_entropy: f64) -> SamplingBudget {
        let n_global = match *self {
            BudgetRule::Entropy { beta } => entropy_split(total, beta, root_entropy, tool_entropy),
            BudgetRule::EntropyReference => reference_split(total, root_entropy, tool_entropy),
            BudgetRule::Fixed { .. } | BudgetRule::AllGlobal => self.n_first(total),
        };
        SamplingBudget { total, n_global, n_branch: total.saturating_sub(n_global) }
    }
}

/// `m = clamp(round(k · σ(β · (H_root − H̄_tool))), 1, k)` (arXiv 2510.14545, eq. of §3.1, with the rounding written
/// out): a question that leaves the model more uncertain than its tools do is explored from the root, one whose tool
/// results are the uncertain part is explored by branching after them. Halves round up.
#[must_use]
pub fn entropy_split(total: usize, beta: f64, root_entropy: f64, tool_entropy: f64) -> usize {
    let share = 1.0 / (1.0 + (-beta * (root_entropy - tool_entropy)).exp());
    let n_global = (total as f64 * share).round();
    // A share that is not a number (entropies that are not) becomes 1: casting NaN gives 0.
    (n_global as usize).min(total).max(1)
}

/// `m = clamp(floor(k · σ(0.5 · (H_root − H̄_tool))) + 1, 1, k)`, as the released code of arXiv 2510.14545 has it, on
/// its own entropies: sums over the first 20 tokens of `−Σ p·ln p / ln V` over the ten likeliest tokens, the first
/// segment among those of H̄_tool.
#[must_use]
pub fn reference_split(total: usize, root_entropy: f64, tool_entropy: f64) -> usize {
    let share = 1.0 / (1.0 + (-0.5 * (root_entropy - tool_entropy)).exp());
    ((total as f64 * share).floor() as usize + 1).min(total).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_values_of_the_entropy_split() {
        // round(16·σ(0.5·Δ)): 6.04, 7.00, 8, 9.00, 9.96; the program: [round(16/(1+exp(-.5*d))) for d in ...].
        let m = |k, d: f64| entropy_split(k, 0.5, 1.0 + d, 1.0);
        assert_eq!([-1.0, -0.5, 0.0, 0.5, 1.0].map(|d| m(16, d)), [6, 7, 8, 9, 10]);
        assert_eq!([-1.0, -0.5, 0.0, 0.5, 1.0].map(|d| m(12, d)), [5, 5, 6, 7, 7]);
        assert_eq!(entropy_split(16, 50.0, 0.0, 10.0), 1);
        assert_eq!(entropy_split(16, 50.0, 10.0, 0.0), 16);
    }

    #[test]
    fn worked_values_of_the_released_code() {
        let m = |k, d: f64| reference_split(k, 1.0 + d, 1.0);
        assert_eq!([-1.0, -0.5, 0.0, 0.5, 1.0].map(|d| m(16, d)), [7, 8, 9, 9, 10]);
        assert_eq!([-1.0, -0.5, 0.0, 0.5, 1.0].map(|d| m(12, d)), [5, 6, 7, 7, 8]);
        assert_eq!((m(4, 90.0), m(4, -90.0), m(1, 0.0)), (4, 1, 1));
    }

    #[test]
    fn the_split_always_adds_up() {
        for rule in [
            BudgetRule::Entropy { beta: 3.0 },
            BudgetRule::EntropyReference,
            BudgetRule::Fixed { initial_rollouts: 9 },
            BudgetRule::AllGlobal,
        ] {
            for k in 2..20 {
                let b = rule.split(k, 0.7, 0.9);
                assert_eq!(b.n_global + b.n_branch, k);
                assert!(b.n_global >= 1 && b.n_global >= rule.n_first(k).min(1));
            }
        }
        assert_eq!(BudgetRule::AllGlobal.split(8, 0.0, 9.0).n_branch, 0);
    }
}
