//! What is known of one tree while it grows? Its paths, the decisions that wait, and in the end the tree itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::books::{Books, Place, Standing};
use crate::policy::{Completion, PathId, PolicyVersion, SampledToken, VersionChange};
use crate::rollout::branch::Decision;
use crate::rollout::budget::SamplingBudget;
use crate::rollout::expand::Expansion;
use crate::rollout::trajectory::{first_entropies, head_entropy, reference_entropy};
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
    /// The weights that sampled the turn's first token; those of no turn yet while it has none.
    pub version: PolicyVersion,
    /// Where other weights took over within the turn.
    pub changes: Vec<VersionChange>,
    pub n_calls: u32,
    /// The calls themselves, those before a fork included.
    pub earlier: Arc<[EarlierCall]>,
    /// As the branch rule measures it, once the first turn has ended.
    pub root_entropy: Option<f64>,
    /// l, as of the last decision taken.
    pub n_consecutive: u32,
    /// Where the path stood when the result came in whose fork is to be decided on the turn being sampled.
    pub fork_point: Option<ForkPoint>,
    /// Decisions that wait, by the calls made before each; the policy path stays open for them.
    pub undecided: Vec<u32>,
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

/// The order in which decisions are taken: logical time, the path's name, the calls that it had made.
pub(super) type Turn = (usize, PathKey, u32);

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
    /// As the how-manyth its task was taken.
    pub task_idx: usize,
    pub prompt: Vec<u32>,
    pub seed: Seed,
    /// The policy's path that holds the prompt.
    pub base: PathId,
    pub paths: Vec<Path>,
    pub books: Books,
    pub pending: BTreeMap<Turn, Pending>,
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
    pub fn end_turn(&mut self, measure: Measure) {
        if self.turn.is_empty() {
            return;
        }
        if self.root_entropy.is_none() {
            self.root_entropy = measure.of(&self.turn);
        }
        let (tokens, changes) = (std::mem::take(&mut self.turn), std::mem::take(&mut self.changes));
        self.nodes.push(NodeKind::Sampled { tokens, version: self.version, changes });
    }

    /// Takes note of the weights that sampled more of the turn, whose tokens are still to be added.
    fn note_version(&mut self, first: PolicyVersion, changes: &[VersionChange]) {
        let n_before = self.turn.len() as u32;
        let newest = self.changes.last().map_or(self.version, |change| change.version);
        if n_before == 0 {
            self.version = first;
        } else if first != newest {
            self.changes.push(VersionChange { from_idx: n_before, version: first });
        }
        let later = |change: &VersionChange| VersionChange { from_idx: n_before + change.from_idx, ..*change };
        self.changes.extend(changes.iter().map(later));
    }

    /// Where the path stands.
    pub fn standing(&self) -> Standing {
        Standing { clock: self.clock, n_calls: self.n_calls }
    }

    /// The place behind the path's last call, which is on the path that it was forked off if it has made none itself.
    fn last_call(&self, idx: usize) -> Place {
        match self.born {
            Some((parent, at)) if at.n_calls == self.n_calls => (parent, at.n_calls),
            _ => (idx, self.n_calls),
        }
    }

    /// Takes note of a result that the model gets to read.
    fn add_result(&mut self, tokens: Vec<u32>, call: CallRecord) {
        self.n_tokens += tokens.len();
        self.n_response += tokens.len();
        self.clock += tokens.len();
        let earlier = EarlierCall {
            tool: call.tool.clone(),
            input: call.input.as_str().into(),
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
    pub fn new(task_idx: usize, prompt: Vec<u32>, seed: Seed, base: PathId) -> Self {
        Growth {
            task_idx,
            prompt,
            seed,
            base,
            paths: Vec::new(),
            books: Books::default(),
            pending: BTreeMap::new(),
            decisions: Vec::new(),
            expansions: Vec::new(),
            n_adding_rounds: 0,
            budget: None,
            done: false,
        }
    }

    /// What stands where a tree has been.
    pub fn empty() -> Self {
        Growth { done: true, ..Growth::new(0, Vec::new(), Seed(0), PathId(0)) }
    }

    /// Takes a path in; returns its place among [`Growth::paths`].
    pub fn start(&mut self, path: Path) -> usize {
        let idx = self.paths.len();
        self.books.start(idx, path.born.map(|(parent, at)| (parent, at.n_calls)), path.standing());
        self.paths.push(path);
        idx
    }

    /// The model has sampled more of a path's turn.
    pub fn add_sampled(&mut self, idx: usize, completion: Completion) {
        let Completion { tokens, version, changes, .. } = completion;
        let path = &mut self.paths[idx];
        let (n_new, before) = (tokens.len(), path.standing());
        if n_new > 0 {
            path.note_version(version, &changes);
        }
        match path.turn.is_empty() {
            true => path.turn = tokens,
            false => path.turn.extend(tokens),
        }
        path.n_tokens += n_new;
        path.n_response += n_new;
        path.clock += n_new;
        self.books.go_on(before, path.standing());
    }

    /// A path gets the result of its call to read.
    pub fn add_result(&mut self, idx: usize, tokens: Vec<u32>, call: CallRecord) {
        let path = &mut self.paths[idx];
        let before = path.standing();
        path.add_result(tokens, call);
        self.books.go_on(before, path.standing());
    }

    /// A live path ends.
    pub fn end(&mut self, idx: usize, stop: StopReason) {
        let path = &mut self.paths[idx];
        path.state = State::Ended(stop);
        self.books.end(path.standing());
    }

    /// Puts a decision in its place in the order.
    pub fn put_off(&mut self, decision: Pending) {
        let path = &mut self.paths[decision.path];
        path.undecided.push(decision.at.n_calls);
        self.pending.insert((decision.time, path.key.clone(), decision.at.n_calls), decision);
    }

    /// Takes the first decision in the order, if `is_due` says so of its time.
    pub fn take_first(&mut self, is_due: impl FnOnce(usize) -> bool) -> Option<Pending> {
        let first = self.pending.first_entry().filter(|entry| is_due(entry.key().0))?;
        let decision = first.remove();
        self.paths[decision.path].undecided.retain(|&n_calls| n_calls != decision.at.n_calls);
        Some(decision)
    }

    /// A further path from the root, numbered on from those there are.
    pub fn root_path(&self, policy_path: PathId) -> Path {
        let ordinal = self.books.n_from(None) as u32;
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
            version: PolicyVersion(0),
            changes: Vec::new(),
            n_calls: 0,
            earlier: Arc::default(),
            root_entropy: None,
            n_consecutive: 0,
            fork_point: None,
            undecided: Vec::new(),
            kept: false,
            state: State::Sampling,
        }
    }

    /// A further child of `parent` at a tool result's end, numbered on from those there are; `clock` is its logical
    /// time.
    pub fn child_path(&self, parent: usize, at: ForkPoint, clock: usize, policy_path: PathId) -> Path {
        let ordinal = self.books.n_from(Some((parent, at.n_calls))) as u32;
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
            version: PolicyVersion(0),
            changes: Vec::new(),
            n_calls: at.n_calls,
            earlier: from.earlier.iter().take(at.n_calls as usize).cloned().collect(),
            root_entropy: from.root_entropy,
            n_consecutive: from.n_consecutive,
            fork_point: None,
            undecided: Vec::new(),
            kept: false,
            state: State::Sampling,
        }
    }

    /// The seed of the draws of a round of expansions among the paths of a root sample.
    pub fn expand_seed(&self, round: u32, root: u32) -> Seed {
        self.seed.child(EXPAND).child(u64::from(round)).child(u64::from(root))
    }

    /// Whether another path may make a call behind the same earlier calls as the next one of `idx`: one that has made
    /// just those, or one that may still be forked off there. `n_free` paths may still be started, and with `expands`
    /// behind any call.
    pub fn is_shared(&self, idx: usize, n_free: usize, expands: bool) -> bool {
        let place @ (maker, n_calls) = self.paths[idx].last_call(idx);
        if n_calls == 0 {
            return false;
        }
        let beside = |&other: &usize| {
            let path = &self.paths[other];
            other != idx && path.n_calls == n_calls && matches!(path.state, State::Sampling)
        };
        beside(&maker)
            || self.books.children(place).iter().any(beside)
            || (n_free > 0 && (expands || self.paths[maker].undecided.contains(&n_calls)))
    }

    /// H_root and H̄_tool of the first trajectory, by which an entropy rule divides the budget. As means (nats per
    /// token) H̄_tool is over the turns after a tool result, and H_root where there is none; as the released code
    /// measures them H̄_tool is over all turns, the first one included.
    pub fn first_entropies(&self, measure: Measure) -> (f64, f64) {
        let Some(first) = self.paths.first() else { return (0.0, 0.0) };
        match measure {
            Measure::Mean { n_first } => first_entropies(first.nodes.iter(), n_first),
            Measure::Reference { .. } => {
                let turns: Vec<f64> = first.nodes.iter().filter_map(|kind| measure.of(kind.sampled())).collect();
                let mean = turns.iter().sum::<f64>() / turns.len().max(1) as f64;
                (turns.first().copied().unwrap_or(0.0), mean)
            }
        }
    }

    /// The finished tree, in an order that depends on keys only.
    pub fn finish(self, entropy_tokens: usize) -> RolloutTree {
        let Growth { prompt, mut paths, mut decisions, expansions, budget, .. } = self;
        let mut order: Vec<usize> = (0..paths.len()).collect();
        order.sort_by(|&a, &b| paths[a].key.cmp(&paths[b].key));
        let (root_entropy, tool_entropy) =
            order.first().map_or((0.0, 0.0), |&first| first_entropies(paths[first].nodes.iter(), entropy_tokens));
        let mut nodes = Vec::with_capacity(1 + paths.iter().map(|path| path.nodes.len()).sum::<usize>());
        nodes.push(Node { parent: None, kind: NodeKind::Context { tokens: prompt, call: None } });
        let mut leaves = Vec::with_capacity(paths.len());
        // Per path, the tree's id of its own first node; the others follow it. A path stands behind the one it was forked
        // off.
        let mut own = vec![0; paths.len()];
        for idx in order {
            let path = &mut paths[idx];
            own[idx] = nodes.len();
            let mut at = path.born.map_or(0, |(parent, at)| own[parent] + at.n_nodes - 1);
            for kind in std::mem::take(&mut path.nodes) {
                nodes.push(Node { parent: Some(NodeId(at as u32)), kind });
                at = nodes.len() - 1;
            }
            let key = std::mem::replace(&mut path.key, PathKey(Vec::new()));
            if let State::Ended(stop) = std::mem::replace(&mut path.state, State::Sampling) {
                leaves.push(Leaf { node: NodeId(at as u32), key, stop });
            }
        }
        decisions.sort_by(|a, b| (a.time, &a.path, a.n_calls).cmp(&(b.time, &b.path, b.n_calls)));
        let budget = budget.unwrap_or(SamplingBudget { total: 1, n_global: 1, n_branch: 0 });
        RolloutTree { nodes, leaves, budget, root_entropy, tool_entropy, decisions, expansions }
    }
}
