//! What is known of one tree while it grows, and which fork decision is due next?
//!
//! Forks compete for the tree's budget, so they are decided in the tree's own logical time, not in the order in which
//! tools happen to answer. A path's clock is the number of tokens on it (a child's starts at its fork's decision).
//! A decision that becomes possible at time T waits until no live path's clock is below T; then those due are taken by
//! (T, key). Whatever a live path decides later lies after its clock, so nothing can still come before a decision
//! that is taken, and the tree is a function of seeds and answers alone. The deciding path itself never waits: its
//! children start at the tool result's end, wherever the path has got to by then.

use crate::policy::{PathId, PolicyVersion, SampledToken};
use crate::rollout::branch::Decision;
use crate::rollout::budget::SamplingBudget;
use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::{CallRecord, Leaf, Node, NodeId, NodeKind, PathKey, RolloutTree, StopReason};
use crate::seed::Seed;
use crate::tool::Tool;

/// What a path is doing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Sampling,
    Calling { tool: Tool, input: String },
    Ended(StopReason),
}

/// One path, live or ended.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub key: PathKey,
    pub seed: Seed,
    /// The path it was forked off, and how many of that path's own nodes it shares; `None` from the root.
    pub born: Option<(usize, usize)>,
    pub policy_path: PathId,
    /// What it added itself.
    pub nodes: Vec<NodeKind>,
    /// On the path, the prompt included.
    pub n_tokens: usize,
    /// On the path, the prompt excluded.
    pub n_response: usize,
    /// Logical time.
    pub clock: usize,
    /// The turn being sampled.
    pub turn: Vec<SampledToken>,
    pub n_calls: u32,
    /// Nats per token, once the first turn has ended.
    pub root_entropy: Option<f64>,
    /// l, as of the last decision taken.
    pub n_consecutive: u32,
    /// Where the path stood when the result came in whose fork is to be decided on the turn being sampled.
    pub fork_point: Option<ForkPoint>,
    /// Decisions that wait; the policy path stays open for them.
    pub n_pending: usize,
    pub state: State,
}

/// Where children of a fork start: the last token of a tool result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ForkPoint {
    pub n_tokens: usize,
    pub n_response: usize,
    pub n_nodes: usize,
    pub n_calls: u32,
}

/// A decision that is possible but not yet due.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub time: usize,
    pub path: usize,
    pub at: ForkPoint,
    pub entropy: f64,
}

/// One tree.
#[derive(Debug)]
pub(super) struct Growth {
    pub prompt: Vec<u32>,
    pub seed: Seed,
    /// The policy's path that holds the prompt.
    pub base: PathId,
    pub paths: Vec<Path>,
    pub pending: Vec<Pending>,
    pub decisions: Vec<Decision>,
    /// Known once the first trajectory is, when entropies divide it.
    pub budget: Option<SamplingBudget>,
    pub done: bool,
}

/// Labels of the sub-streams of a path's seed.
const CHILD: u64 = 1;
const TURN: u64 = 2;
const CALL: u64 = 3;
const FORK: u64 = 4;

impl Path {
    /// The seed of the part of the current turn that starts behind the tokens sampled so far.
    pub fn turn_seed(&self) -> Seed {
        self.seed.child(TURN).child(u64::from(self.n_calls)).child(self.turn.len() as u64)
    }

    /// The seed of the next tool call.
    pub fn call_seed(&self) -> Seed {
        self.seed.child(CALL).child(u64::from(self.n_calls))
    }

    /// The seed of the draw on a fork after that many calls.
    pub fn fork_seed(&self, n_calls: u32) -> Seed {
        self.seed.child(FORK).child(u64::from(n_calls))
    }

    pub fn is_live(&self) -> bool {
        !matches!(self.state, State::Ended(_))
    }

    /// Closes the turn being sampled, if it has tokens.
    pub fn end_turn(&mut self, version: PolicyVersion, entropy_tokens: usize) {
        if self.turn.is_empty() {
            return;
        }
        if self.root_entropy.is_none() {
            self.root_entropy = crate::rollout::trajectory::head_entropy(&self.turn, entropy_tokens);
        }
        self.nodes.push(NodeKind::Sampled { tokens: std::mem::take(&mut self.turn), version });
    }

    /// Takes note of a result that the model gets to read.
    pub fn add_result(&mut self, tokens: Vec<u32>, call: CallRecord) {
        self.n_tokens += tokens.len();
        self.n_response += tokens.len();
        self.clock += tokens.len();
        self.n_calls += 1;
        self.nodes.push(NodeKind::Context { tokens, call: Some(call) });
    }

    pub fn here(&self) -> ForkPoint {
        ForkPoint {
            n_tokens: self.n_tokens,
            n_response: self.n_response,
            n_nodes: self.nodes.len(),
            n_calls: self.n_calls,
        }
    }
}

impl Growth {
    /// A further path from the root.
    pub fn root_path(&self, ordinal: u32, policy_path: PathId) -> Path {
        Path {
            key: PathKey(vec![ordinal]),
            seed: self.seed.child(CHILD).child(u64::from(ordinal)),
            born: None,
            policy_path,
            nodes: Vec::new(),
            n_tokens: self.prompt.len(),
            n_response: 0,
            clock: self.prompt.len(),
            turn: Vec::new(),
            n_calls: 0,
            root_entropy: None,
            n_consecutive: 0,
            fork_point: None,
            n_pending: 0,
            state: State::Sampling,
        }
    }

    /// The `ordinal`-th child of a fork.
    pub fn child_path(&self, fork: &Pending, ordinal: u32, policy_path: PathId) -> Path {
        let parent = &self.paths[fork.path];
        let mut key = parent.key.clone();
        key.0.extend([fork.at.n_calls, ordinal]);
        Path {
            key,
            seed: parent.seed.child(CHILD).child(u64::from(fork.at.n_calls)).child(u64::from(ordinal)),
            born: Some((fork.path, fork.at.n_nodes)),
            policy_path,
            nodes: Vec::new(),
            n_tokens: fork.at.n_tokens,
            n_response: fork.at.n_response,
            clock: fork.time,
            turn: Vec::new(),
            n_calls: fork.at.n_calls,
            root_entropy: parent.root_entropy,
            n_consecutive: parent.n_consecutive,
            fork_point: None,
            n_pending: 0,
            state: State::Sampling,
        }
    }

    pub fn n_live(&self) -> usize {
        self.paths.iter().filter(|p| p.is_live()).count()
    }

    /// Takes the next decision off the queue if it is due (see the module's first lines). With `no_budget` every
    /// decision is due: nothing can come of it.
    pub fn next_due(&mut self, no_budget: bool) -> Option<Pending> {
        let (idx, next) = self
            .pending
            .iter()
            .enumerate()
            .min_by_key(|(_, d)| (d.time, &self.paths[d.path].key, d.at.n_calls))
            .map(|(idx, d)| (idx, d.time))?;
        let due = no_budget || self.paths.iter().all(|p| !p.is_live() || p.clock >= next);
        due.then(|| {
            let decision = self.pending.swap_remove(idx);
            self.paths[decision.path].n_pending -= 1;
            decision
        })
    }

    /// H_root and H̄_tool of the first trajectory, nats per token. `H̄_tool := H_root` without a call.
    pub fn first_entropies(&self, entropy_tokens: usize) -> (f64, f64) {
        entropies_of_first(&self.build_nodes(&[0]), entropy_tokens)
    }

    /// The finished tree, in an order that depends on keys only.
    pub fn finish(self, entropy_tokens: usize) -> RolloutTree {
        let mut order: Vec<usize> = (0..self.paths.len()).collect();
        order.sort_by(|&a, &b| self.paths[a].key.cmp(&self.paths[b].key));
        let mut tree = self.build_nodes(&order);
        (tree.root_entropy, tree.tool_entropy) = entropies_of_first(&tree, entropy_tokens);
        tree.decisions = self.decisions;
        tree.decisions.sort_by(|a, b| (a.time, &a.path, a.n_calls).cmp(&(b.time, &b.path, b.n_calls)));
        tree
    }

    /// Nodes and leaves of the paths in `order`, parents first.
    fn build_nodes(&self, order: &[usize]) -> RolloutTree {
        let mut nodes =
            vec![Node { parent: None, kind: NodeKind::Context { tokens: self.prompt.clone(), call: None } }];
        let mut leaves = Vec::new();
        // Per path, the tree's ids of its own nodes.
        let mut own: Vec<Vec<NodeId>> = vec![Vec::new(); self.paths.len()];
        for &idx in order {
            let path = &self.paths[idx];
            let mut at = match path.born {
                Some((parent, n_nodes)) => own[parent][n_nodes - 1],
                None => NodeId(0),
            };
            for kind in &path.nodes {
                nodes.push(Node { parent: Some(at), kind: kind.clone() });
                at = NodeId(nodes.len() as u32 - 1);
                own[idx].push(at);
            }
            if let State::Ended(stop) = &path.state {
                leaves.push(Leaf { node: at, key: path.key.clone(), stop: stop.clone() });
            }
        }
        let budget = self.budget.unwrap_or(SamplingBudget { total: 1, n_global: 1, n_branch: 0 });
        RolloutTree { nodes, leaves, budget, root_entropy: 0.0, tool_entropy: 0.0, decisions: Vec::new() }
    }
}

fn entropies_of_first(tree: &RolloutTree, entropy_tokens: usize) -> (f64, f64) {
    let Some(leaf) = tree.leaves.first() else {
        return (0.0, 0.0);
    };
    let first = Trajectory::new(tree, leaf);
    let root = first.root_entropy(entropy_tokens).unwrap_or(0.0);
    let after = first.tool_entropies(entropy_tokens);
    let tool = if after.is_empty() { root } else { after.iter().sum::<f64>() / after.len() as f64 };
    (root, tool)
}
