//! Which decision on a fork is due next, and what comes of it, where entropies decide (AEPO, ARPO)?
//!
//! Forks compete for the tree's budget, so they are decided in the tree's own logical time, not in the order in which
//! tools happen to answer. A path's clock is the number of tokens on it (a child's starts at its fork's decision).
//! A decision that becomes possible at time T waits until no live path's clock is below T; then those due are taken by
//! (T, key). Whatever a live path decides later lies after its clock, so nothing can still come before a decision
//! that is taken, and the tree is a function of seeds and answers alone. The deciding path itself never waits: its
//! children start at the tool result's end, wherever the path has got to by then.

use super::growth::{Growth, Pending};
use super::{Driver, RolloutError};
use crate::policy::SampleStop;
use crate::rollout::branch::{Decision, Outcome, Verdict, next_chain};
use crate::rollout::trajectory::head_entropy;

impl Growth {
    /// Takes the next decision off the queue if it is due (see the file's first lines). With `no_budget` every
    /// decision is due: nothing can come of it.
    pub fn next_due(&mut self, no_budget: bool) -> Option<Pending> {
        let least = self.books.least_clock();
        self.take_first(|time| no_budget || least.is_none_or(|clock| clock >= time))
    }
}

impl Driver<'_> {
    /// Queues the decision on a fork once the tokens it depends on are there.
    pub(super) fn note_decision(&mut self, tree: usize, idx: usize, stop: SampleStop) {
        let n_first = self.settings.entropy_tokens;
        let limits = self.settings.limits;
        let growth = &mut self.trees[tree];
        let path = &mut growth.paths[idx];
        let cut = path.turn.len() >= limits.turn_tokens
            || path.n_response >= limits.response_tokens
            || path.n_tokens >= self.context_len;
        if path.turn.len() < n_first && stop == SampleStop::MaxTokens && !cut {
            return;
        }
        let Some(at) = path.fork_point.take() else {
            return;
        };
        let Some(entropy) = head_entropy(&path.turn, n_first) else {
            return;
        };
        let time = path.clock;
        growth.put_off(Pending { time, path: idx, at, entropy });
    }

    /// Takes the next decision if it is due, forks if `rule` (of ΔH_t and l) says so, and records it; false when none
    /// is due.
    pub(super) fn fork_next(&mut self, tree: usize, rule: &dyn Fn(f64, u32) -> Verdict) -> Result<bool, RolloutError> {
        let n_free = self.n_free(tree);
        let growth = &mut self.trees[tree];
        let Some(fork) = growth.next_due(n_free == 0) else { return Ok(false) };
        let path = &mut growth.paths[fork.path];
        let n_consecutive = path.n_consecutive;
        // A path reaches a tool result only through a first turn, so its root entropy is known.
        let entropy_delta = fork.entropy - path.root_entropy.unwrap_or(fork.entropy);
        let verdict = rule(entropy_delta, n_consecutive);
        let outcome = match (verdict.fork, verdict.high) {
            (true, _) if n_free == 0 => Outcome::NoBudget,
            (true, _) => Outcome::Forked,
            (false, true) => Outcome::Penalised,
            (false, false) => Outcome::LowEntropy,
        };
        path.n_consecutive = next_chain(n_consecutive, outcome);
        let n_children = if outcome == Outcome::Forked { self.settings.branch_width.min(n_free) } else { 0 };
        growth.decisions.push(Decision {
            path: path.key.clone(),
            n_calls: fork.at.n_calls,
            time: fork.time,
            entropy: fork.entropy,
            entropy_delta,
            n_consecutive,
            probability: verdict.probability,
            outcome,
            n_children,
        });
        for _ in 0..n_children {
            self.start_child(tree, fork.path, fork.at, fork.time)?;
        }
        self.close_if_unneeded(tree, fork.path);
        Ok(true)
    }
}
