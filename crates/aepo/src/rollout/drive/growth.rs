//! What is known of one tree while it grows? Its paths, the decisions that wait, and in the end the tree itself.

use std::sync::Arc;

use crate::policy::{PathId, PolicyVersion, SampledToken};
use crate::rollout::branch::Decision;
use crate::rollout::budget::SamplingBudget;
use crate::rollout::expand::Expansion;
use crate::rollout::trajectory::{Trajectory, head_entropy, reference_entropy};
use crate::rollout::tree::{CallRecord, Leaf, Node, NodeId, NodeKind, PathKey, RolloutTree, StopReason};
use crate::seed::Seed;
use crate::tool::{EarlierCall, ToolName};

/// What a path is doing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Sampling,
    Calling { tool: ToolName, input: String },
    Ended(StopReason),
}

/// One path, live or ended.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub key: PathKey,
    pub seed: Seed,
    /// The path it was forked off, and where; `None` from the root.
    pub born: Option<(usize, ForkPoint)>,
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
    /// The calls themselves, those before a fork included.
    pub earlier: Arc<[EarlierCall]>,
    /// As the branch rule measures it, once the first turn has ended.
    pub root_entropy: Option<f64>,
    /// l, as of the last decision taken.
    pub n_consecutive: u32,
    /// Where the path stood when the result came in whose fork is to be decided on the turn being sampled.
    pub fork_point: Option<ForkPoint>,
    /// Decisions that wait; the policy path stays open for them.
    pub n_pending: usize,
    /// Ended, but turns of it may still be expanded; the policy path stays open for that.
    pub kept: bool,
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

/// How a branch rule measures the entropy of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measure {
    /// Mean over the first `n_first` tokens, nats per token.
    Mean { n_first: usize },
    /// [`reference_entropy`].
    Reference { n_first: usize, vocab_size: usize },
}

impl Measure {
    /// `None` for no tokens.
    pub fn of(self, turn: &[SampledToken]) -> Option<f64> {
        match self {
            Measure::Mean { n_first } => head_entropy(turn, n_first),
            Measure::Reference { .. } if turn.is_empty() => None,
            Measure::Reference { n_first, vocab_size } => Some(reference_entropy(turn, n_first, vocab_size)),
        }
    }
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
    pub expansions: Vec<Expansion>,
    /// c: rounds of drawn forks in a row that added a path.
    pub n_adding_rounds: u32,
    /// Known once the first trajectory is, when entropies divide it.
    pub budget: Option<SamplingBudget>,
    pub done: bool,
}

/// Labels of the sub-streams of a path's seed.
const CHILD: u64 = 1;
const TURN: u64 = 2;
const CALL: u64 = 3;
const FORK: u64 = 4;
const EXPAND: u64 = 5;

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
    pub fn end_turn(&mut self, version: PolicyVersion, measure: Measure) {
        if self.turn.is_empty() {
            return;
        }
        if self.root_entropy.is_none() {
            self.root_entropy = measure.of(&self.turn);
        }
        self.nodes.push(NodeKind::Sampled { tokens: std::mem::take(&mut self.turn), version });
    }

    /// Takes note of a result that the model gets to read.
    pub fn add_result(&mut self, tokens: Vec<u32>, call: CallRecord) {
        self.n_tokens += tokens.len();
        self.n_response += tokens.len();
        self.clock += tokens.len();
        let earlier = EarlierCall {
            tool: call.tool.clone(),
            input: call.input.clone(),
            seed: self.call_seed(),
            outcome: call.outcome,
        };
        self.earlier = self.earlier.iter().cloned().chain([earlier]).collect();
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
    /// A tree of which nothing has been sampled.
    pub fn new(prompt: Vec<u32>, seed: Seed, base: PathId) -> Self {
        Growth {
            prompt,
            seed,
            base,
            paths: Vec::new(),
            pending: Vec::new(),
            decisions: Vec::new(),
            expansions: Vec::new(),
            n_adding_rounds: 0,
            budget: None,
            done: false,
        }
    }

    /// A further path from the root, numbered on from those there are.
    pub fn root_path(&self, policy_path: PathId) -> Path {
        let ordinal = self.n_from(None) as u32;
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
            earlier: Arc::default(),
            root_entropy: None,
            n_consecutive: 0,
            fork_point: None,
            n_pending: 0,
            kept: false,
            state: State::Sampling,
        }
    }

    /// A further child of `parent` at a tool result's end, numbered on from those there are; `clock` is its logical
    /// time.
    pub fn child_path(&self, parent: usize, at: ForkPoint, clock: usize, policy_path: PathId) -> Path {
        let ordinal = self.n_from(Some((parent, at))) as u32;
        let from = &self.paths[parent];
        let mut key = from.key.clone();
        key.0.extend([at.n_calls, ordinal]);
        Path {
            key,
            seed: from.seed.child(CHILD).child(u64::from(at.n_calls)).child(u64::from(ordinal)),
            born: Some((parent, at)),
            policy_path,
            nodes: Vec::new(),
            n_tokens: at.n_tokens,
            n_response: at.n_response,
            clock,
            turn: Vec::new(),
            n_calls: at.n_calls,
            earlier: from.earlier.iter().take(at.n_calls as usize).cloned().collect(),
            root_entropy: from.root_entropy,
            n_consecutive: from.n_consecutive,
            fork_point: None,
            n_pending: 0,
            kept: false,
            state: State::Sampling,
        }
    }

    /// How many paths were started at that place.
    pub fn n_from(&self, born: Option<(usize, ForkPoint)>) -> usize {
        self.paths.iter().filter(|p| p.born == born).count()
    }

    /// The seed of the draws of a round of expansions among the paths of a root sample.
    pub fn expand_seed(&self, round: u32, root: u32) -> Seed {
        self.seed.child(EXPAND).child(u64::from(round)).child(u64::from(root))
    }

    /// Whether another path may make a call behind the same earlier calls as the next one of `idx`: one that has made
    /// just those, or one that may still be forked off there. `n_free` paths may still be started, and with `expands`
    /// behind any call.
    pub fn is_shared(&self, idx: usize, n_free: usize, expands: bool) -> bool {
        let path = &self.paths[idx];
        let same = |other: &Path| other.earlier.get(..path.earlier.len()) == Some(&*path.earlier);
        let beside = |(i, other): (usize, &Path)| {
            i != idx && other.state == State::Sampling && other.n_calls == path.n_calls && same(other)
        };
        let undecided = || self.pending.iter().any(|d| d.at.n_calls == path.n_calls && same(&self.paths[d.path]));
        path.n_calls > 0 && (self.paths.iter().enumerate().any(beside) || (n_free > 0 && (expands || undecided())))
    }

    pub fn n_live(&self) -> usize {
        self.paths.iter().filter(|p| p.is_live()).count()
    }

    /// H_root and H̄_tool of the first trajectory, by which an entropy rule divides the budget. As means (nats per
    /// token) H̄_tool is over the turns after a tool result, and H_root where there is none; as the released code
    /// measures them H̄_tool is over all turns, the first one included.
    pub fn first_entropies(&self, measure: Measure) -> (f64, f64) {
        let tree = self.build_nodes(&[0]);
        match measure {
            Measure::Mean { n_first } => entropies_of_first(&tree, n_first),
            Measure::Reference { .. } => {
                let turns: Vec<f64> = tree.nodes.iter().filter_map(|node| measure.of(node.kind.sampled())).collect();
                let mean = turns.iter().sum::<f64>() / turns.len().max(1) as f64;
                (turns.first().copied().unwrap_or(0.0), mean)
            }
        }
    }

    /// The finished tree, in an order that depends on keys only.
    pub fn finish(self, entropy_tokens: usize) -> RolloutTree {
        let mut order: Vec<usize> = (0..self.paths.len()).collect();
        order.sort_by(|&a, &b| self.paths[a].key.cmp(&self.paths[b].key));
        let mut tree = self.build_nodes(&order);
        (tree.root_entropy, tree.tool_entropy) = entropies_of_first(&tree, entropy_tokens);
        tree.decisions = self.decisions;
        tree.expansions = self.expansions;
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
                Some((parent, at)) => own[parent][at.n_nodes - 1],
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
        RolloutTree {
            nodes,
            leaves,
            budget,
            root_entropy: 0.0,
            tool_entropy: 0.0,
            decisions: Vec::new(),
            expansions: Vec::new(),
        }
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
