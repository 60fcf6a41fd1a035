//! Should a path fork after this tool result?

use serde::{Deserialize, Serialize};

use crate::rollout::tree::PathKey;

/// When paths fork.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BranchRule {
    /// Never.
    None,
    /// Where the entropy after a tool result rises above the root's (AEPO; with `penalty_slope` 0, ARPO's paper rule).
    Entropy {
        /// α, the score at no change of entropy.
        alpha: f64,
        /// γ, per nat.
        gamma: f64,
        /// τ, the score that must be exceeded.
        tau: f64,
        /// P̂(l) = min(1, penalty_slope · l).
        penalty_slope: f64,
    },
    /// By a draw U, as in the released code of AEPO: [`aepo_reference_score`] ≥ 0.5.
    DrawnAepo,
    /// By a draw U, as in the released code of ARPO: [`arpo_reference_score`] ≤ 0.5.
    DrawnArpo,
    /// Not while they grow: turns of finished trees, drawn evenly, are expanded in rounds (Tree-GRPO, arXiv 2509.21240;
    /// a tree there is a root sample with what grew out of it). The new path starts behind the turn's tool result.
    ExpandEvenly {
        /// N: turns per round and root sample, ≥ 1.
        per_round: usize,
    },
    /// Not while they grow: the turns with the best [`crate::rollout::expand::expansion_score`] are expanded in rounds
    /// (AT²PO, arXiv 2601.04767). The new path samples the chosen turn anew, as in the released code: where the entropy
    /// was measured.
    ExpandBest {
        /// K: turns per round and task, ≥ 1.
        per_round: usize,
        /// Off the score per turn that was sampled from the same state before, nats per token.
        penalty: f64,
    },
}

impl BranchRule {
    /// Whether forks are drawn in rounds of a task, one round per tool call.
    #[must_use]
    pub fn is_drawn(&self) -> bool {
        matches!(self, BranchRule::DrawnAepo | BranchRule::DrawnArpo)
    }

    /// Whether finished trees are expanded.
    #[must_use]
    pub fn expands(&self) -> bool {
        matches!(self, BranchRule::ExpandEvenly { .. } | BranchRule::ExpandBest { .. })
    }
}

/// `clamp((U + 0.2·ΔH)·max(0, 1 − 0.05·c), 0, 1)`: the released code of arXiv 2510.14545, where U ~ [0, 1) is drawn for
/// each try and c counts the rounds in a row that added a branch to the task.
#[must_use]
pub fn aepo_reference_score(uniform: f64, entropy_delta: f64, n_consecutive: u32) -> f64 {
    let damping = (1.0 - 0.05 * f64::from(n_consecutive)).max(0.0);
    ((uniform + 0.2 * entropy_delta) * damping).clamp(0.0, 1.0)
}

/// `clamp(U − 0.2·ΔH, 0, 1)`: the released code of arXiv 2507.19849.
#[must_use]
pub fn arpo_reference_score(uniform: f64, entropy_delta: f64) -> f64 {
    (uniform - 0.2 * entropy_delta).clamp(0.0, 1.0)
}

/// Whether a path forks under a rule, or how likely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Chance {
    /// The rule decides by itself: P_t, and whether it exceeds τ.
    Decided(Verdict),
    /// The rule draws; this is the probability of a fork, over U.
    Drawn(f64),
}

/// What a rule makes of a change of entropy (nats) after `n_consecutive` forks in a row.
#[must_use]
pub fn chance(rule: &BranchRule, entropy_delta: f64, n_consecutive: u32) -> Chance {
    match *rule {
        BranchRule::None | BranchRule::ExpandEvenly { .. } | BranchRule::ExpandBest { .. } => {
            Chance::Decided(Verdict { probability: 0.0, high: false, fork: false })
        }
        BranchRule::Entropy { alpha, gamma, tau, penalty_slope } => {
            Chance::Decided(entropy_verdict(alpha, gamma, tau, penalty_slope, entropy_delta, n_consecutive))
        }
        BranchRule::DrawnAepo => {
            // (U + 0.2·ΔH)·d ≥ 0.5 where U ≥ 0.5/d − 0.2·ΔH; with d = 0 the score is 0 and never reaches 0.5.
            let damping = 1.0 - 0.05 * f64::from(n_consecutive);
            let probability =
                if damping > 0.0 { (1.0 - (0.5 / damping - 0.2 * entropy_delta)).clamp(0.0, 1.0) } else { 0.0 };
            Chance::Drawn(probability)
        }
        BranchRule::DrawnArpo => Chance::Drawn((0.5 + 0.2 * entropy_delta).clamp(0.0, 1.0)),
    }
}

/// What the rule says of one tool result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// P_t in [0, 1].
    pub probability: f64,
    /// Whether the score alone, without the penalty, exceeds τ: a high-entropy round.
    pub high: bool,
    /// Whether the penalised score does: fork.
    pub fork: bool,
}

/// `P_t = clamp((α + γ·ΔH_t) · (1 − P̂(l)), 0, 1)`, fork iff `P_t > τ` (arXiv 2510.14545, §3.2; ΔH_t is taken after
/// the tool result, against the root entropy of the same trajectory; the released code takes it before the call).
#[must_use]
pub fn entropy_verdict(
    alpha: f64,
    gamma: f64,
    tau: f64,
    penalty_slope: f64,
    entropy_delta: f64,
    n_consecutive: u32,
) -> Verdict {
    let score = alpha + gamma * entropy_delta;
    let penalty = (penalty_slope * f64::from(n_consecutive)).min(1.0);
    let probability = (score * (1.0 - penalty)).clamp(0.0, 1.0);
    Verdict { probability, high: score.clamp(0.0, 1.0) > tau, fork: probability > tau }
}

/// Why a decision came out as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The path forked.
    Forked,
    /// The score did not exceed the threshold.
    LowEntropy,
    /// It would have, without the penalty on consecutive forks.
    Penalised,
    /// The tree had all its leaves.
    NoBudget,
}

/// One decision on a fork, as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The path that was about to fork.
    pub path: PathKey,
    /// How many calls it had made, this one included.
    pub n_calls: u32,
    /// Tokens on the path when the decision became possible: the logical time at which it was taken. Where forks are
    /// drawn, the round, which is `n_calls`.
    pub time: usize,
    /// H_t, mean over the first `entropy_tokens` tokens after the result, nats per token; where forks are drawn,
    /// [`crate::rollout::trajectory::reference_entropy`] of the turn *before* the result.
    pub entropy: f64,
    /// ΔH_t = H_t − H_root, in the unit of `entropy`.
    pub entropy_delta: f64,
    /// l before this decision; where forks are drawn, c: rounds in a row that added a path to the task.
    pub n_consecutive: u32,
    /// P_t; where forks are drawn, the probability of each try.
    pub probability: f64,
    /// What came of it.
    pub outcome: Outcome,
    /// How many children were started.
    pub n_children: usize,
}

/// l after a decision: one more after a fork, 0 after a low-entropy round. A round that the penalty or the budget kept
/// from forking breaks no chain and lengthens none.
#[must_use]
pub fn next_chain(n_consecutive: u32, outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Forked => n_consecutive + 1,
        Outcome::LowEntropy => 0,
        Outcome::Penalised | Outcome::NoBudget => n_consecutive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_values_of_the_penalty() {
        let v = |delta, l| entropy_verdict(0.5, 0.2, 0.5, 0.05, delta, l);
        // (0.5 + 0.2·1)·(1 − 0.05·2) = 0.63.
        assert!((v(1.0, 2).probability - 0.63).abs() < 1e-12);
        assert!(v(1.0, 2).fork);
        // (0.7)·(1 − 0.3) = 0.49: high, held back by the penalty.
        assert_eq!((v(1.0, 6).high, v(1.0, 6).fork), (true, false));
        // No change of entropy is not a rise.
        assert_eq!((v(0.0, 0).high, v(0.0, 0).fork), (false, false));
        assert_eq!(v(-9.0, 0).probability, 0.0);
        assert_eq!(v(9.0, 0).probability, 1.0);
        assert_eq!(v(9.0, 30).probability, 0.0);
    }

    #[test]
    fn without_a_slope_the_chain_does_not_matter() {
        for l in 0..50 {
            assert!(entropy_verdict(0.5, 0.2, 0.5, 0.0, 0.1, l).fork);
        }
    }

    #[test]
    fn a_drawn_rule_forks_as_often_as_its_probability_says() {
        let n = 20_000;
        for delta in [-4.0, -0.7, 0.0, 0.4, 3.0] {
            for l in [0, 3, 12, 20, 25] {
                let share = |forks: &dyn Fn(f64) -> bool| {
                    (0..n).filter(|i| forks((f64::from(*i) + 0.5) / f64::from(n))).count() as f64 / f64::from(n)
                };
                let aepo = share(&|u| aepo_reference_score(u, delta, l) >= 0.5);
                let arpo = share(&|u| arpo_reference_score(u, delta) <= 0.5);
                for (rule, seen) in [(BranchRule::DrawnAepo, aepo), (BranchRule::DrawnArpo, arpo)] {
                    let Chance::Drawn(p) = chance(&rule, delta, l) else { panic!("{rule:?} draws") };
                    assert!((p - seen).abs() < 1e-3, "{rule:?} ΔH {delta} l {l}: {p} {seen}");
                }
            }
        }
    }

    #[test]
    fn chains_grow_by_forks_and_end_at_low_entropy() {
        assert_eq!(next_chain(2, Outcome::Forked), 3);
        assert_eq!(next_chain(2, Outcome::LowEntropy), 0);
        assert_eq!(next_chain(2, Outcome::Penalised), 2);
    }
}
