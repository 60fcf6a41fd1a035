//! What did the model see and write on one path? A view of a tree from the prompt to a leaf.

use crate::policy::SampledToken;
use crate::rollout::tree::{CallRecord, Leaf, NodeId, NodeKind, RolloutTree, StopReason};
use crate::score::Transcript;
use crate::tool::{ToolName, ToolOutcome};

/// One path of a tree.
#[derive(Clone, Debug)]
pub struct Trajectory<'a> {
    /// The tree it runs through.
    pub tree: &'a RolloutTree,
    /// Where it ends.
    pub leaf: &'a Leaf,
    /// Its nodes, the prompt first.
    pub nodes: Vec<NodeId>,
}

impl<'a> Trajectory<'a> {
    /// The path to `leaf`.
    #[must_use]
    pub fn new(tree: &'a RolloutTree, leaf: &'a Leaf) -> Self {
        Trajectory { tree, leaf, nodes: tree.path_to(leaf.node) }
    }

    /// All trajectories of a tree, in the order of its leaves.
    #[must_use]
    pub fn all(tree: &'a RolloutTree) -> Vec<Self> {
        tree.leaves.iter().map(|leaf| Trajectory::new(tree, leaf)).collect()
    }

    /// The nodes' contents, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &'a NodeKind> + '_ {
        self.nodes.iter().map(|id| &self.tree.nodes[id.0 as usize].kind)
    }

    /// Exactly the token ids the model saw and wrote, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        self.kinds().flat_map(|kind| kind.ids()).collect()
    }

    /// `[n_tokens]`, true where the model sampled the token; derived from the node kinds.
    #[must_use]
    pub fn mask(&self) -> Vec<bool> {
        self.kinds()
            .flat_map(|kind| std::iter::repeat_n(matches!(kind, NodeKind::Sampled { .. }), kind.n_tokens()))
            .collect()
    }

    /// The sampled tokens, in order.
    pub fn sampled(&self) -> impl Iterator<Item = &'a SampledToken> + '_ {
        self.kinds().flat_map(|kind| kind.sampled())
    }

    /// How many tokens the model sampled.
    #[must_use]
    pub fn n_sampled(&self) -> usize {
        self.kinds().map(|kind| kind.sampled().len()).sum()
    }

    /// How many tokens it has in all, the prompt included.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.kinds().map(NodeKind::n_tokens).sum()
    }

    /// The tool calls, in order.
    pub fn calls(&self) -> impl Iterator<Item = &'a CallRecord> + '_ {
        self.kinds().filter_map(|kind| match kind {
            NodeKind::Context { call, .. } => call.as_ref(),
            NodeKind::Sampled { .. } => None,
        })
    }

    /// False when a tool failed through no fault of the model: such a trajectory counts in no reward, no advantage
    /// and no loss.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.leaf.counts()
    }

    /// What the scorers need to know. A path goes on only after a well-formed turn, so one that ended with an answer
    /// kept the protocol throughout; only a call that ran to its end counts as made.
    #[must_use]
    pub fn transcript(&self) -> Transcript {
        let ran = |tool: ToolName| self.calls().any(|c| c.tool == tool && c.outcome == ToolOutcome::Ok);
        let answer = match &self.leaf.stop {
            StopReason::Answered(answer) => Some(answer.clone()),
            _ => None,
        };
        Transcript {
            well_formed: answer.is_some(),
            answer,
            python_ran: ran(ToolName::PYTHON),
            search_ran: ran(ToolName::SEARCH),
        }
    }

    /// H_root: mean entropy of the first `entropy_tokens` tokens of the first turn, nats per token; `None` when
    /// nothing was sampled.
    #[must_use]
    pub fn root_entropy(&self, entropy_tokens: usize) -> Option<f64> {
        root_entropy(self.kinds(), entropy_tokens)
    }

    /// For each tool result after which something was sampled: the mean entropy of the first `entropy_tokens` tokens
    /// of the turn that follows, nats per token.
    #[must_use]
    pub fn tool_entropies(&self, entropy_tokens: usize) -> Vec<f64> {
        tool_entropies(self.kinds(), entropy_tokens)
    }
}

/// [`Trajectory::root_entropy`] of a path's nodes.
fn root_entropy<'a>(mut kinds: impl Iterator<Item = &'a NodeKind>, entropy_tokens: usize) -> Option<f64> {
    let first = kinds.find(|kind| !kind.sampled().is_empty())?;
    head_entropy(first.sampled(), entropy_tokens)
}

/// [`Trajectory::tool_entropies`] of a path's nodes.
fn tool_entropies<'a>(kinds: impl Iterator<Item = &'a NodeKind>, entropy_tokens: usize) -> Vec<f64> {
    let mut after_result = false;
    let mut entropies = Vec::new();
    for kind in kinds {
        match kind {
            NodeKind::Context { call, .. } => after_result = call.is_some(),
            NodeKind::Sampled { tokens, .. } if after_result => {
                entropies.extend(head_entropy(tokens, entropy_tokens));
            }
            NodeKind::Sampled { .. } => {}
        }
    }
    entropies
}

/// H_root and H̄_tool of a path by its nodes, nats per token: 0 where nothing was sampled, and H_root for H̄_tool where
/// nothing was sampled behind a result.
pub(super) fn first_entropies<'a>(
    kinds: impl Iterator<Item = &'a NodeKind> + Clone,
    entropy_tokens: usize,
) -> (f64, f64) {
    let root = root_entropy(kinds.clone(), entropy_tokens).unwrap_or(0.0);
    let after = tool_entropies(kinds, entropy_tokens);
    let tool = if after.is_empty() { root } else { after.iter().sum::<f64>() / after.len() as f64 };
    (root, tool)
}

/// Mean entropy of the first `n_first` tokens, nats per token; `None` for no tokens.
#[must_use]
pub fn head_entropy(tokens: &[SampledToken], n_first: usize) -> Option<f64> {
    let head = &tokens[..tokens.len().min(n_first)];
    (!head.is_empty()).then(|| head.iter().map(|t| f64::from(t.entropy)).sum::<f64>() / head.len() as f64)
}

/// `H = Σ_{first n_first tokens} top_entropy / ln V`, a sum and no mean, in units of ln V (the released code of
/// arXiv 2510.14545 and of arXiv 2507.19849): top_entropy is `−Σ p·ln p` over the ten likeliest tokens, V the number of
/// rows of the vocabulary. Needs [`crate::policy::SampleParams::top_entropy`].
#[must_use]
pub fn reference_entropy(tokens: &[SampledToken], n_first: usize, vocab_size: usize) -> f64 {
    let head = &tokens[..tokens.len().min(n_first)];
    let largest = (vocab_size as f64).ln();
    if largest > 0.0 { head.iter().map(|t| f64::from(t.top_entropy)).sum::<f64>() / largest } else { 0.0 }
}
