//! Which turns of finished trees are to be expanded next, and how many?
//!
//! A tree whose paths have all ended grows on in rounds: some of its turns are chosen, from each of them one more path
//! is sampled to its end, and so on until there are k leaves. Only turns that led to a tool result are chosen; the
//! last turn of a path is a leaf.

use serde::{Deserialize, Serialize};

use crate::policy::SampledToken;
use crate::rollout::tree::PathKey;
use crate::seed::Seed;

/// Why a turn was expanded, as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expansion {
    /// The round, from 1; all its choices are made on the tree as it was before.
    pub round: u32,
    /// The path that sampled the turn.
    pub path: PathKey,
    /// Which of the path's turns, from 1: it had made one call less before it.
    pub turn: u32,
    /// [`turn_entropy`], nats per token.
    pub entropy: f64,
    /// Other turns that had been sampled from the state that this turn was sampled from.
    pub n_siblings: usize,
    /// [`expansion_score`], where turns are chosen by it; absent where they are drawn evenly.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub score: Option<f64>,
    /// How many turns could have been chosen in its place, itself included: of the same root sample where they are
    /// drawn evenly, of the whole task where they are ranked.
    pub n_candidates: usize,
    /// The path that was started.
    pub child: PathKey,
}

/// `H(turn) ≈ −(1/|turn|)·Σ_t log p(t)`: the Monte-Carlo estimate of a turn's entropy from its own tokens, nats per
/// token (arXiv 2601.04767, entropy-guided tree expansion; the released code does the same). 0 for no tokens.
#[must_use]
pub fn turn_entropy(tokens: &[SampledToken]) -> f64 {
    -tokens.iter().map(|t| f64::from(t.logprob)).sum::<f64>() / tokens.len().max(1) as f64
}

/// `score = H(turn) − penalty·n_siblings` (released code of arXiv 2601.04767, where the penalty is 0.05; the paper
/// names a penalty on nodes that were expanded already and leaves its form open).
#[must_use]
pub fn expansion_score(entropy: f64, penalty: f64, n_siblings: usize) -> f64 {
    entropy - penalty * n_siblings as f64
}

/// Positions of the `n` best scores, best first; of equal ones the first.
#[must_use]
pub fn best(scores: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // A stable sort keeps the order of equal scores.
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(n);
    order
}

/// `n` different positions out of `0..n_candidates`, each subset equally likely (arXiv 2509.21240, §3: N non-leaf
/// nodes of each tree are sampled at random), in the order in which they were drawn; all of them where there are fewer.
#[must_use]
pub fn draw_evenly(seed: Seed, n: usize, n_candidates: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..n_candidates).collect();
    let pick = |i: u64| {
        let at = (seed.uniform(i) * left.len() as f64) as usize;
        left.remove(at.min(left.len() - 1))
    };
    (0..n.min(n_candidates) as u64).map(pick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_values_of_the_score() {
        let turn =
            [-0.5, -1.5, -0.25].map(|logprob| SampledToken { token: 0, logprob, entropy: 9.0, top_entropy: 0.0 });
        assert_eq!(turn_entropy(&turn), 0.75);
        assert_eq!(turn_entropy(&[]), 0.0);
        assert!((expansion_score(0.75, 0.05, 3) - 0.6).abs() < 1e-12);
        assert_eq!(best(&[0.1, 0.6, 0.2, 0.6], 3), [1, 3, 2]);
        assert_eq!(best(&[0.1], 3), [0]);
    }

    #[test]
    fn every_subset_is_drawn_equally_often() {
        let n = 12_000;
        let mut counts = std::collections::BTreeMap::new();
        for i in 0..n {
            let drawn = draw_evenly(Seed(3).child(i), 2, 4);
            assert_eq!((drawn.len(), drawn[0] != drawn[1]), (2, true));
            *counts.entry(drawn).or_insert(0) += 1;
        }
        // 4·3 ordered pairs, 1000 of each, standard deviation 30.
        assert_eq!(counts.len(), 12);
        assert!(counts.values().all(|&c: &i32| (c - 1000).abs() < 150), "{counts:?}");
        assert_eq!(draw_evenly(Seed(1), 5, 1), [0]);
        assert!(draw_evenly(Seed(1), 5, 0).is_empty());
    }
}
