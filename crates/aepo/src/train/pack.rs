//! How do trees become batches? Whole trees, as many as fit, each token once.

use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::{NodeId, NodeKind, RolloutTree};
use crate::train::batch::{Target, TreeBatch};

/// One trajectory with the advantage of each of its sampled tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainSample {
    /// Which leaf of the tree.
    pub leaf_idx: usize,
    /// The path to it, the prompt first.
    pub nodes: Vec<NodeId>,
    /// `[n_sampled]`, A_t.
    pub advantages: Vec<f64>,
    /// R, as the algorithm shaped it.
    pub reward: f64,
    /// `[n_turns]`, sampled tokens of each turn of the model.
    pub turn_lens: Vec<usize>,
}

/// One task's tree with the trajectories that count.
#[derive(Clone, Debug)]
pub struct TrainGroup<'a> {
    /// The tree.
    pub tree: &'a RolloutTree,
    /// Its trajectories, without those that a failing tool spoilt.
    pub samples: Vec<TrainSample>,
}

impl TrainSample {
    /// A trajectory with its reward and its tokens' advantages, in order.
    #[must_use]
    pub fn new(leaf_idx: usize, trajectory: &Trajectory<'_>, reward: f64, advantages: Vec<f64>) -> Self {
        let turn_lens = trajectory.kinds().map(|kind| kind.sampled().len()).filter(|&n| n > 0).collect();
        TrainSample { leaf_idx, nodes: trajectory.nodes.clone(), advantages, reward, turn_lens }
    }
}

impl TrainGroup<'_> {
    /// Tokens of the nodes on any counted trajectory, each once.
    #[must_use]
    pub fn n_unique_tokens(&self) -> usize {
        let needed = self.needed();
        self.tree.nodes.iter().zip(&needed).filter(|(_, needed)| **needed).map(|(node, _)| node.kind.n_tokens()).sum()
    }

    /// Tokens of the counted trajectories, each trajectory on its own.
    #[must_use]
    pub fn n_unrolled_tokens(&self) -> usize {
        let n_tokens = |id: &NodeId| self.tree.nodes[id.0 as usize].kind.n_tokens();
        self.samples.iter().flat_map(|s| &s.nodes).map(n_tokens).sum()
    }

    /// Per node, whether a counted trajectory runs through it.
    fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.tree.nodes.len()];
        for id in self.samples.iter().flat_map(|s| &s.nodes) {
            needed[id.0 as usize] = true;
        }
        needed
    }

    /// The same group with every trajectory in a tree of its own: what training would be without shared prefixes.
    #[must_use]
    pub fn unrolled(&self) -> Vec<RolloutTree> {
        self.samples
            .iter()
            .map(|sample| {
                let mut tree = RolloutTree { nodes: Vec::new(), leaves: Vec::new(), ..self.tree.clone() };
                for id in &sample.nodes {
                    let parent = tree.nodes.len().checked_sub(1).map(|p| NodeId(p as u32));
                    let kind = self.tree.nodes[id.0 as usize].kind.clone();
                    tree.nodes.push(crate::rollout::tree::Node { parent, kind });
                }
                let mut leaf = self.tree.leaves[sample.leaf_idx].clone();
                leaf.node = NodeId(tree.nodes.len() as u32 - 1);
                tree.leaves.push(leaf);
                tree
            })
            .collect()
    }
}

/// Where a group's tokens went.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedGroup {
    /// Index in the list of groups that was packed.
    pub group_idx: usize,
    /// Its first target in the batch.
    pub first_target: usize,
    /// How many targets it has: its sampled tokens, each once, in an order that depends on the tree alone.
    pub n_targets: usize,
    /// Per sample, for each of its sampled tokens, the target's position counted from `first_target`.
    pub sample_targets: Vec<Vec<u32>>,
}

/// What goes through the model at once.
#[derive(Clone, Debug, Default)]
pub struct MicroBatch {
    /// The tokens.
    pub batch: TreeBatch,
    /// Whose they are.
    pub groups: Vec<PackedGroup>,
    /// `[n_targets]`, what the sampler said of each target, nats.
    pub rollout_logprobs: Vec<f32>,
    /// `[n_targets]`, entropy of the distribution that each target was sampled from, nats.
    pub rollout_entropies: Vec<f32>,
}

/// Packs the groups at these positions, in order, into batches of at most `max_batch_tokens` tokens. A tree is never
/// divided: one that is larger has a batch to itself. Groups without sampled tokens appear in no batch.
#[must_use]
pub fn pack(groups: &[TrainGroup<'_>], which: &[usize], max_batch_tokens: usize) -> Vec<MicroBatch> {
    let mut batches: Vec<MicroBatch> = Vec::new();
    for &group_idx in which {
        let group = &groups[group_idx];
        let n_tokens = group.n_unique_tokens();
        let fits = |b: &MicroBatch| b.batch.tokens.len() + n_tokens <= max_batch_tokens;
        if !batches.last().is_some_and(fits) {
            batches.push(MicroBatch::default());
        }
        if let Some(last) = batches.last_mut() {
            push_group(last, group_idx, group);
        }
    }
    batches.retain(|b| !b.batch.targets.is_empty());
    batches
}

fn push_group(micro: &mut MicroBatch, group_idx: usize, group: &TrainGroup<'_>) {
    let first_target = micro.batch.targets.len();
    let needed = group.needed();
    let n_nodes = group.tree.nodes.len();
    // Per node: the last segment at or above it, and its first target.
    let mut segment: Vec<Option<u32>> = vec![None; n_nodes];
    let mut node_target: Vec<u32> = vec![0; n_nodes];
    for (idx, node) in group.tree.nodes.iter().enumerate() {
        if !needed[idx] {
            continue;
        }
        let parent = node.parent.and_then(|p| segment[p.0 as usize]);
        let ids = node.kind.ids();
        if ids.is_empty() {
            segment[idx] = parent;
            continue;
        }
        node_target[idx] = (micro.batch.targets.len() - first_target) as u32;
        let own = micro.batch.push_segment(parent, &ids);
        segment[idx] = Some(own);
        if let (NodeKind::Sampled { tokens, .. }, Some(parent)) = (&node.kind, parent) {
            let start = micro.batch.segments[own as usize].start_idx;
            for (i, t) in tokens.iter().enumerate() {
                let from_idx = if i == 0 { micro.batch.last_idx(parent) } else { start + i as u32 - 1 };
                micro.batch.targets.push(Target { from_idx, token: t.token });
                micro.rollout_logprobs.push(t.logprob);
                micro.rollout_entropies.push(t.entropy);
            }
        }
    }
    let sample_targets = group
        .samples
        .iter()
        .map(|sample| {
            let ranges = sample.nodes.iter().map(|id| {
                let first = node_target[id.0 as usize];
                first..first + group.tree.nodes[id.0 as usize].kind.sampled().len() as u32
            });
            ranges.flatten().collect()
        })
        .collect();
    let n_targets = micro.batch.targets.len() - first_target;
    micro.groups.push(PackedGroup { group_idx, first_target, n_targets, sample_targets });
}
