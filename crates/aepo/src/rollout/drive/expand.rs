//! How is a finished tree expanded (Tree-GRPO, AT²PO)?
//!
//! A round begins when every path of the task has ended, and waits for no other task. It reads nothing but the tree
//! and the tree's seed, so it does not depend on the order of events. Policy paths that have ended stay open until the
//! tree has all its leaves, if there is a tool result on them that a new path could start from.

use super::growth::{ForkPoint, Growth, Path};
use super::{Driver, RolloutError};
use crate::rollout::branch::BranchRule;
use crate::rollout::expand::{Expansion, best, draw_evenly, expansion_score, turn_entropy};
use crate::rollout::tree::NodeKind;

/// A turn that led to a tool result which the model went on from.
struct Turn {
    path: usize,
    /// From 1.
    number: u32,
    /// Nats per token.
    entropy: f64,
    /// Where the turn was sampled from: a path and a place on it, `None` for the prompt.
    from: Option<(usize, ForkPoint)>,
    /// The end of its tool result.
    after: ForkPoint,
}

/// A turn that was chosen; see [`Expansion`].
struct Choice<'a> {
    turn: &'a Turn,
    score: Option<f64>,
    n_candidates: usize,
}

impl Path {
    /// The path's own turns that can be expanded, `n_prompt` tokens behind the first prompt's start.
    fn turns(&self, idx: usize, n_prompt: usize) -> Vec<Turn> {
        let start = ForkPoint { n_tokens: n_prompt, n_response: 0, n_nodes: 0, n_calls: 0 };
        let mut here = self.born.map_or(start, |(_, at)| ForkPoint { n_nodes: 0, ..at });
        let mut turns = Vec::new();
        for (i, kind) in self.nodes.iter().enumerate() {
            let before = here;
            here.n_tokens += kind.n_tokens();
            here.n_response += kind.n_tokens();
            here.n_nodes += 1;
            here.n_calls += u32::from(matches!(kind, NodeKind::Context { .. }));
            if let [
                NodeKind::Sampled { tokens, .. },
                NodeKind::Context { tokens: result, .. },
                NodeKind::Sampled { .. },
            ] = self.nodes.get(i..i + 3).unwrap_or(&[])
            {
                turns.push(Turn {
                    path: idx,
                    number: before.n_calls + 1,
                    entropy: turn_entropy(tokens),
                    from: if i == 0 { self.born } else { Some((idx, before)) },
                    after: ForkPoint {
                        n_tokens: here.n_tokens + result.len(),
                        n_response: here.n_response + result.len(),
                        n_nodes: here.n_nodes + 1,
                        n_calls: here.n_calls + 1,
                    },
                });
            }
        }
        turns
    }
}

impl Growth {
    /// Every turn that can be expanded, by the key of its path and its number.
    fn turns(&self) -> Vec<Turn> {
        let mut turns: Vec<Turn> =
            self.paths.iter().enumerate().flat_map(|(idx, path)| path.turns(idx, self.prompt.len())).collect();
        turns.sort_by(|a, b| (&self.paths[a.path].key, a.number).cmp(&(&self.paths[b.path].key, b.number)));
        turns
    }

    /// Other turns that were sampled from where this one was. A state on a path is the end of a tool result from which
    /// that path sampled a turn of its own; nobody's own turn follows the prompt.
    fn n_siblings(&self, turn: &Turn) -> usize {
        let from = turn.from.map(|(path, at)| (path, at.n_calls));
        self.books.n_from(from) - usize::from(from.is_none())
    }

    /// `per_round` turns below each root sample, drawn evenly; the first draw of every root sample before the second
    /// of any, in case the tree has not room for all.
    fn choose_evenly<'a>(&self, round: u32, turns: &'a [Turn], per_round: usize) -> Vec<Choice<'a>> {
        let mut chosen = Vec::new();
        for root in 0..self.books.n_from(None) as u32 {
            let below: Vec<&Turn> = turns.iter().filter(|t| self.paths[t.path].key.0[0] == root).collect();
            let drawn = draw_evenly(self.expand_seed(round, root), per_round, below.len());
            for (order, i) in drawn.into_iter().enumerate() {
                chosen.push((order, Choice { turn: below[i], score: None, n_candidates: below.len() }));
            }
        }
        // Stable: root samples keep their order.
        chosen.sort_by_key(|(order, _)| *order);
        chosen.into_iter().map(|(_, choice)| choice).collect()
    }

    /// The `per_round` turns of the task with the best scores.
    fn choose_best<'a>(&self, turns: &'a [Turn], per_round: usize, penalty: f64) -> Vec<Choice<'a>> {
        let score = |t: &Turn| expansion_score(t.entropy, penalty, self.n_siblings(t));
        let scores: Vec<f64> = turns.iter().map(score).collect();
        let choice = |i: usize| Choice { turn: &turns[i], score: Some(scores[i]), n_candidates: turns.len() };
        best(&scores, per_round).into_iter().map(choice).collect()
    }
}

impl Driver<'_> {
    /// Whether a path of a tree that is not yet full must stay open when it ends.
    pub(super) fn is_expandable(&self, tree: usize, idx: usize) -> bool {
        let growth = &self.trees[tree];
        let path = &growth.paths[idx];
        self.settings.branch.expands()
            && growth.paths.len() < self.settings.k
            && !path.turns(idx, growth.prompt.len()).is_empty()
    }

    /// One round of expansions; false when the rule has none, or no turn can be expanded.
    pub(super) fn expand(&mut self, tree: usize) -> Result<bool, RolloutError> {
        let growth = &self.trees[tree];
        let round = growth.expansions.last().map_or(1, |e| e.round + 1);
        let turns = growth.turns();
        // Where a new path starts: behind the turn's result, or in the turn's own place.
        let (mut chosen, anew) = match self.settings.branch {
            BranchRule::ExpandEvenly { per_round } => (growth.choose_evenly(round, &turns, per_round), false),
            BranchRule::ExpandBest { per_round, penalty } => (growth.choose_best(&turns, per_round, penalty), true),
            BranchRule::None | BranchRule::Entropy { .. } | BranchRule::DrawnAepo | BranchRule::DrawnArpo => {
                return Ok(false);
            }
        };
        chosen.truncate(self.n_free(tree));
        let n_siblings: Vec<usize> = chosen.iter().map(|c| growth.n_siblings(c.turn)).collect();
        for (choice, n_siblings) in chosen.iter().zip(n_siblings) {
            let turn = choice.turn;
            match if anew { turn.from } else { Some((turn.path, turn.after)) } {
                Some((parent, at)) => self.start_child(tree, parent, at, at.n_tokens)?,
                None => self.start_roots(tree, 1)?,
            }
            let growth = &mut self.trees[tree];
            let Some(child) = growth.paths.last().map(|p| p.key.clone()) else { continue };
            growth.expansions.push(Expansion {
                round,
                path: growth.paths[turn.path].key.clone(),
                turn: turn.number,
                entropy: turn.entropy,
                n_siblings,
                score: choice.score,
                n_candidates: choice.n_candidates,
                child,
            });
        }
        if self.n_free(tree) == 0 {
            self.release(tree);
        }
        Ok(!chosen.is_empty())
    }

    /// Closes the ended paths of a tree that is full.
    fn release(&mut self, tree: usize) {
        for path in self.trees[tree].paths.iter_mut().filter(|p| p.kept) {
            path.kept = false;
            self.policy.close(path.policy_path);
        }
    }
}
