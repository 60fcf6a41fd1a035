//! What grew in a step? Whole trees, token by token.

use serde::{Deserialize, Serialize};

use crate::data::task::Task;
use crate::policy::{PolicyVersion, VersionChange};
use crate::prompt::Renderer;
use crate::rollout::branch::Decision;
use crate::rollout::budget::SamplingBudget;
use crate::rollout::expand::Expansion;
use crate::rollout::trajectory::head_entropy;
use crate::rollout::tree::{Leaf, Node, NodeKind, PathKey, StopReason};
use crate::score::Score;
use crate::tool::{ToolName, ToolOutcome};
use crate::train::group::ScoredTree;
use crate::train::pack::TrainGroup;

/// One line of `trees/step-*.jsonl`: a whole tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeRecord {
    /// Training step.
    pub step: u64,
    /// The task.
    pub task: Task,
    /// How k was divided.
    pub budget: SamplingBudget,
    /// H_root of the first trajectory, nats per token.
    pub root_entropy: f64,
    /// H̄_tool of the first trajectory, nats per token.
    pub tool_entropy: f64,
    /// Every decision on a fork.
    pub decisions: Vec<Decision>,
    /// Every expansion of the finished tree; absent without one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub expansions: Vec<Expansion>,
    /// Parents before children.
    pub nodes: Vec<NodeRecord>,
    /// One per trajectory.
    pub leaves: Vec<LeafRecord>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Index of the parent node.
    pub parent: Option<u32>,
    /// Whether the model sampled these tokens: the loss mask of all of them.
    pub mask: bool,
    /// The tokens as text.
    pub text: String,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Per sampled token, nats; empty for context.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub logprobs: Vec<f32>,
    /// Per sampled token, nats; empty for context.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub entropies: Vec<f32>,
    /// Mean entropy over the first `entropy_tokens` tokens of a turn, nats per token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub head_entropy: Option<f64>,
    /// The weights that sampled it, or its first token where `changes` names others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<PolicyVersion>,
    /// Where other weights took over within the turn; absent where none did.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub changes: Vec<VersionChange>,
    /// The call whose result this is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub call: Option<CallLine>,
}

/// A tool call, its time left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallLine {
    /// Which tool.
    pub tool: ToolName,
    /// Code or query.
    pub input: String,
    /// How it ended.
    pub outcome: ToolOutcome,
    /// Why the tool was unavailable, where it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// One trajectory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeafRecord {
    /// The path's name.
    pub key: PathKey,
    /// Its last node.
    pub node: u32,
    /// Why it ended.
    pub stop: String,
    /// The answer, if it gave one.
    pub answer: Option<String>,
    /// The verdict; absent where a failing tool spoilt the trajectory.
    pub score: Option<Score>,
    /// `[n_sampled]`, A_t of each sampled token from the root to here; empty where the trajectory does not count.
    pub advantages: Vec<f32>,
}

/// Writes a tree down. `group` holds the tree's counted trajectories.
#[must_use]
pub fn tree_record(
    step: u64,
    task: &Task,
    scored: &ScoredTree,
    group: &TrainGroup<'_>,
    renderer: &Renderer,
    entropy_tokens: usize,
) -> TreeRecord {
    let tree = &scored.tree;
    let mut samples = vec![None; tree.leaves.len()];
    for sample in &group.samples {
        samples[sample.leaf_idx] = Some(sample);
    }
    let node = |node: &Node| {
        let (parent, tokens) = (node.parent.map(|p| p.0), node.kind.ids());
        let text = renderer.decode(&tokens);
        let sampled = node.kind.sampled();
        let (mask, version, changes, call) = match &node.kind {
            NodeKind::Context { call, .. } => (false, None, &[][..], call.as_ref()),
            NodeKind::Sampled { version, changes, .. } => (true, Some(*version), &changes[..], None),
        };
        NodeRecord {
            parent,
            mask,
            text,
            tokens,
            logprobs: sampled.iter().map(|t| t.logprob).collect(),
            entropies: sampled.iter().map(|t| t.entropy).collect(),
            head_entropy: head_entropy(sampled, entropy_tokens),
            version,
            changes: changes.to_vec(),
            call: call.map(|c| CallLine {
                tool: c.tool.clone(),
                input: c.input.clone(),
                outcome: c.outcome,
                reason: c.reason.clone(),
            }),
        }
    };
    let leaf = |(idx, leaf): (usize, &Leaf)| {
        let sample = samples[idx];
        LeafRecord {
            key: leaf.key.clone(),
            node: leaf.node.0,
            stop: leaf.stop.name().to_owned(),
            answer: match &leaf.stop {
                StopReason::Answered(answer) => Some(answer.clone()),
                _ => None,
            },
            score: sample.map(|_| scored.scores[idx]),
            advantages: sample.map_or(Vec::new(), |s| s.advantages.iter().map(|&a| a as f32).collect()),
        }
    };
    TreeRecord {
        step,
        task: task.clone(),
        budget: tree.budget,
        root_entropy: tree.root_entropy,
        tool_entropy: tree.tool_entropy,
        decisions: tree.decisions.clone(),
        expansions: tree.expansions.clone(),
        nodes: tree.nodes.iter().map(node).collect(),
        leaves: tree.leaves.iter().enumerate().map(leaf).collect(),
    }
}
