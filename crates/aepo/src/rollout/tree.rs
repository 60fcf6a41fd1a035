//! What was sampled for one task? A tree of nodes, each holding only the tokens it adds.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::policy::{PolicyVersion, SampledToken, VersionChange};
use crate::prompt::Malformation;
use crate::rollout::branch::Decision;
use crate::rollout::budget::SamplingBudget;
use crate::rollout::expand::Expansion;
use crate::tool::{ToolName, ToolOutcome};

/// Index of a node in [`RolloutTree::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u32);

/// A tool call that was made, and how it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    /// Which tool.
    pub tool: ToolName,
    /// The text as the model wrote it, or the arguments as a canonical JSON object.
    pub input: String,
    /// How it ended, as the tool's supervisor saw it.
    pub outcome: ToolOutcome,
    /// Why the tool was unavailable, where it was.
    pub reason: Option<String>,
    /// Wall time, seconds. Not part of any record that must repeat bit for bit.
    pub wall_secs: f64,
}

/// The tokens a node adds, and where they came from. The loss mask is this distinction and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeKind {
    /// The first prompt, or the result of a call. Never trained, never counted in a statistic.
    Context {
        /// Token ids; empty when the result did not fit, or the tool was unavailable: the model saw nothing of it.
        tokens: Vec<u32>,
        /// The call whose result this is; `None` for the first prompt.
        call: Option<CallRecord>,
    },
    /// One turn of the model (its last token is the stop token, unless a limit cut it).
    Sampled {
        /// At least one token.
        tokens: Vec<SampledToken>,
        /// The weights that sampled its first token.
        version: PolicyVersion,
        /// Where other weights took over within the turn, in order; empty where all tokens are of one version.
        changes: Vec<VersionChange>,
    },
}

/// A node and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `None` for the prompt, node 0; otherwise smaller than the node's own index.
    pub parent: Option<NodeId>,
    /// Its tokens.
    pub kind: NodeKind,
}

/// Names a path by its descent, independent of the order of events: the number of the root sample, then for each
/// fork the number of calls made before it and the number of the child. Lexicographic order puts a path before the
/// paths forked off it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PathKey(pub Vec<u32>);

impl PathKey {
    /// Whether the path was forked off another one, and does not start at the root.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.0.len() > 1
    }
}

/// Why a path ended. Everything but an answer is a failure of the path, never an error of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model gave this final answer.
    Answered(String),
    /// The last turn was not in a form of the protocol.
    Malformed(Malformation),
    /// The model asked for one more call than it may make; the call was not run.
    CallLimit,
    /// The model asked for the same call more often than it may; the call was not run.
    RepeatedCall,
    /// The turn was cut at the turn's token limit.
    MaxTurnTokens,
    /// The trajectory was cut at its token limit (prompt excluded, tool results included).
    MaxResponseTokens,
    /// The model's context was full.
    ContextFull,
    /// A tool failed through no fault of the model; the trajectory is left out of training and evaluation figures.
    ToolUnavailable,
}

impl StopReason {
    /// Every name that [`StopReason::name`] gives, in the order of the enum.
    pub const NAMES: [&'static str; 12] = [
        "answered",
        "no-action",
        "bad-tags",
        "no-box",
        "bad-call",
        "many-calls",
        "call-limit",
        "repeated-call",
        "max-turn-tokens",
        "max-response-tokens",
        "context-full",
        "tool-unavailable",
    ];

    /// The name in records.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            StopReason::Answered(_) => "answered",
            StopReason::Malformed(Malformation::NoAction) => "no-action",
            StopReason::Malformed(Malformation::BadTags) => "bad-tags",
            StopReason::Malformed(Malformation::NoBox) => "no-box",
            StopReason::Malformed(Malformation::BadCall) => "bad-call",
            StopReason::Malformed(Malformation::ManyCalls) => "many-calls",
            StopReason::CallLimit => "call-limit",
            StopReason::RepeatedCall => "repeated-call",
            StopReason::MaxTurnTokens => "max-turn-tokens",
            StopReason::MaxResponseTokens => "max-response-tokens",
            StopReason::ContextFull => "context-full",
            StopReason::ToolUnavailable => "tool-unavailable",
        }
    }
}

/// Where a path ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// The last node of the path. Two leaves share one only when a path ended before it sampled a token.
    pub node: NodeId,
    /// The path's name.
    pub key: PathKey,
    /// Why it ended.
    pub stop: StopReason,
}

/// Everything that was sampled for one task, in an order that does not depend on the order of events.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutTree {
    /// Parents before children; node 0 is the first prompt.
    pub nodes: Vec<Node>,
    /// One per trajectory, sorted by key.
    pub leaves: Vec<Leaf>,
    /// What the budget rule decided.
    pub budget: SamplingBudget,
    /// H_root of the first trajectory (the pre-monitored one, where there is one): mean over its first
    /// `entropy_tokens` sampled tokens, nats per token; 0 when it sampled none.
    pub root_entropy: f64,
    /// H̄_tool of the first trajectory: mean over its tool calls of the mean over the first `entropy_tokens` tokens
    /// sampled after the result, nats per token; H_root when it made no call.
    pub tool_entropy: f64,
    /// Every decision on a fork, by logical time and key; empty when paths do not fork while they grow.
    pub decisions: Vec<Decision>,
    /// Every expansion of a finished tree, in order; empty when the branch rule does not expand.
    pub expansions: Vec<Expansion>,
}

impl Leaf {
    /// False when a tool failed through no fault of the model: such a trajectory counts in no reward, no advantage
    /// and no loss.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.stop != StopReason::ToolUnavailable
    }
}

impl RolloutTree {
    /// The nodes from the prompt to `node`, both included.
    #[must_use]
    pub fn path_to(&self, node: NodeId) -> Vec<NodeId> {
        let mut path = vec![node];
        let mut at = node;
        while let Some(parent) = self.nodes[at.0 as usize].parent {
            path.push(parent);
            at = parent;
        }
        path.reverse();
        path
    }

    /// Trajectories that do not start at the root: forked while the tree grew, or when it was expanded.
    #[must_use]
    pub fn n_branches(&self) -> usize {
        self.leaves.iter().filter(|leaf| leaf.key.is_forked()).count()
    }

    /// Trajectories that others were forked off.
    #[must_use]
    pub fn n_forking(&self) -> usize {
        let parents = self.forking_keys();
        self.leaves.iter().filter(|leaf| parents.contains(&leaf.key.0[..])).count()
    }

    /// Trajectories on a fork: forked off another, or with another forked off them.
    #[must_use]
    pub fn n_on_fork(&self) -> usize {
        let parents = self.forking_keys();
        self.leaves.iter().filter(|leaf| leaf.key.is_forked() || parents.contains(&leaf.key.0[..])).count()
    }

    /// Keys of the paths that others were forked off.
    fn forking_keys(&self) -> HashSet<&[u32]> {
        let forked = self.leaves.iter().filter(|leaf| leaf.key.is_forked());
        forked.filter_map(|leaf| leaf.key.0.split_last_chunk::<2>()).map(|(parent, _)| parent).collect()
    }

    /// Number of tokens in the tree, each counted once.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.nodes.iter().map(|node| node.kind.n_tokens()).sum()
    }
}

impl NodeKind {
    /// How many tokens the node adds.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        match self {
            NodeKind::Context { tokens, .. } => tokens.len(),
            NodeKind::Sampled { tokens, .. } => tokens.len(),
        }
    }

    /// The sampled tokens; none in a context node.
    #[must_use]
    pub fn sampled(&self) -> &[SampledToken] {
        match self {
            NodeKind::Context { .. } => &[],
            NodeKind::Sampled { tokens, .. } => tokens,
        }
    }

    /// The token ids, whoever wrote them.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        match self {
            NodeKind::Context { tokens, .. } => tokens.clone(),
            NodeKind::Sampled { tokens, .. } => tokens.iter().map(|t| t.token).collect(),
        }
    }
}
