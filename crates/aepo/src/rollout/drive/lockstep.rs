//! Which paths fork after their n-th tool call, where a draw decides (the released code of AEPO and ARPO)?
//!
//! That code works in rounds: every active path of a task samples up to its next tool call, the results come in, and
//! then each path in turn tries to fork; so the n-th round is about the n-th calls. What a round decides depends only
//! on what came before these calls and on the rounds before. Nothing therefore has to wait for a round but the round
//! itself: paths go on behind their results, round n is taken once no live path has made fewer than n calls, and its
//! children start at the results' ends. A first trajectory that was sampled alone, to divide the budget, takes part in
//! the rounds of its calls like all others.
//!
//! Two things differ from that code on purpose: initial entropies are those of the paths themselves and not of the
//! first batch of the run, and what is left of k is filled by fresh root samples all at once, not one at a time.

use super::growth::{Growth, Pending};
use super::{Driver, RolloutError};
use crate::rollout::branch::{
    BranchRule, Chance, Decision, Outcome, aepo_reference_score, arpo_reference_score, chance,
};

impl Growth {
    /// Takes the decisions of the next round off the queue, by key, once no live path can add to them.
    fn next_round(&mut self) -> Option<Vec<Pending>> {
        // A round is the time of its decisions.
        let (round, ..) = *self.pending.first_key_value()?.0;
        if self.books.fewest_calls().is_some_and(|n_calls| (n_calls as usize) < round) {
            return None;
        }
        Some(std::iter::from_fn(|| self.take_first(|time| time == round)).collect())
    }
}

impl Driver<'_> {
    /// Queues the tries of a path that has just read a tool result.
    pub(super) fn note_round(&mut self, tree: usize, idx: usize) {
        let measure = self.measure;
        let growth = &mut self.trees[tree];
        let path = &growth.paths[idx];
        if growth.budget.is_some_and(|b| path.key.0[0] as usize >= b.n_global) {
            // It fills up a tree whose rounds are over; there is no room for forks.
            return;
        }
        // The turn that made the call lies before the result.
        let called = path.nodes.iter().rev().find_map(|kind| measure.of(kind.sampled()));
        if let Some(entropy) = called {
            let (time, at) = (path.n_calls as usize, path.here());
            growth.put_off(Pending { time, path: idx, at, entropy });
        }
    }

    /// Takes the next round if it is due; false when it is not.
    pub(super) fn draw_round(&mut self, tree: usize) -> Result<bool, RolloutError> {
        let Some(round) = self.trees[tree].next_round() else { return Ok(false) };
        let mut n_added = 0;
        for fork in &round {
            n_added += self.draw(tree, fork)?;
            self.close_if_unneeded(tree, fork.path);
        }
        let growth = &mut self.trees[tree];
        growth.n_adding_rounds = if n_added > 0 { growth.n_adding_rounds + 1 } else { 0 };
        Ok(true)
    }

    /// The tries of one path, [`super::DriveSettings::branch_width`] of them while the tree is not full, each with a U
    /// of its own; returns how many paths they added.
    fn draw(&mut self, tree: usize, fork: &Pending) -> Result<usize, RolloutError> {
        let (rule, width) = (self.settings.branch, self.settings.branch_width);
        let n_free = self.n_free(tree);
        let growth = &mut self.trees[tree];
        let path = &growth.paths[fork.path];
        let n_consecutive = if rule == BranchRule::DrawnAepo { growth.n_adding_rounds } else { 0 };
        let entropy_delta = fork.entropy - path.root_entropy.unwrap_or(fork.entropy);
        let seed = path.fork_seed(fork.at.n_calls);
        let forks = |attempt: usize, n_consecutive: u32| {
            let u = seed.uniform(attempt as u64);
            match rule {
                BranchRule::DrawnAepo => aepo_reference_score(u, entropy_delta, n_consecutive) >= 0.5,
                _ => arpo_reference_score(u, entropy_delta) <= 0.5,
            }
        };
        let n_wanted = (0..width).filter(|&i| forks(i, n_consecutive)).count();
        let n_children = n_wanted.min(n_free);
        let outcome = match (n_children, n_wanted) {
            (1.., _) => Outcome::Forked,
            (0, 1..) => Outcome::NoBudget,
            (0, 0) if (0..width).any(|i| forks(i, 0)) => Outcome::Penalised,
            (0, 0) => Outcome::LowEntropy,
        };
        let probability = match chance(&rule, entropy_delta, n_consecutive) {
            Chance::Drawn(probability) => probability,
            Chance::Decided(verdict) => verdict.probability,
        };
        growth.decisions.push(Decision {
            path: path.key.clone(),
            n_calls: fork.at.n_calls,
            time: fork.time,
            entropy: fork.entropy,
            entropy_delta,
            n_consecutive,
            probability,
            outcome,
            n_children,
        });
        for _ in 0..n_children {
            self.start_child(tree, fork.path, fork.at, fork.time)?;
        }
        Ok(n_children)
    }
}
