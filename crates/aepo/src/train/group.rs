//! How do scored trees become training samples?

use std::collections::HashMap;

use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::{NodeKind, RolloutTree};
use crate::score::Score;
use crate::train::advantage::{
    AdvantageRule, Baseline, EntropyStats, Member, SharedTokens, Turn, all_equal, token_advantages,
};
use crate::train::pack::{TrainGroup, TrainSample};

/// A tree with the verdict on each of its trajectories.
#[derive(Clone, Debug)]
pub struct ScoredTree {
    /// The tree.
    pub tree: RolloutTree,
    /// `[n_leaves]`. Of a trajectory that does not count (see [`Trajectory::counts`]) it means nothing.
    pub scores: Vec<Score>,
}

impl ScoredTree {
    /// Whether the trajectories that count differ in reward. Without a difference every group baseline is 0, so dynamic
    /// sampling (arXiv 2503.14476) draws another task instead.
    #[must_use]
    pub fn has_signal(&self) -> bool {
        let counted = self.tree.leaves.iter().zip(&self.scores).filter(|(leaf, _)| leaf.counts());
        !all_equal(&counted.map(|(_, score)| score.reward).collect::<Vec<_>>())
    }
}

/// The samples of a whole global batch, one group per tree, and the entropy statistics their advantages rest on. A
/// tree's group is those of its trajectories that count; the rest has no part in mean, deviation or loss.
#[must_use]
pub fn train_groups<'a>(trees: &'a [ScoredTree], rule: &AdvantageRule) -> (Vec<TrainGroup<'a>>, EntropyStats) {
    let counted: Vec<Vec<(usize, Trajectory<'a>)>> = trees
        .iter()
        .map(|t| Trajectory::all(&t.tree).into_iter().enumerate().filter(|(_, t)| t.counts()).collect())
        .collect();
    let members: Vec<Vec<Member>> =
        trees.iter().zip(&counted).map(|(scored, counted)| members(scored, counted, rule)).collect();
    let (advantages, stats) = token_advantages(rule, &members);
    let groups = trees
        .iter()
        .zip(&counted)
        .zip(advantages)
        .map(|((scored, counted), advantages)| {
            let sample = |((leaf_idx, trajectory), advantages): (&(usize, Trajectory<'a>), Vec<f64>)| {
                TrainSample::new(*leaf_idx, trajectory, scored.scores[*leaf_idx].reward, advantages)
            };
            TrainGroup { tree: &scored.tree, samples: counted.iter().zip(advantages).map(sample).collect() }
        })
        .collect();
    (groups, stats)
}

/// What the advantage rule needs to know of a tree's counted trajectories. A turn's state is what the model read last:
/// the prompt, or the tool result before the turn, token by token.
fn members(scored: &ScoredTree, counted: &[(usize, Trajectory<'_>)], rule: &AdvantageRule) -> Vec<Member> {
    let reads_surprisals = rule.baseline == Baseline::Turns;
    let reads_ids = reads_surprisals || rule.shared == SharedTokens::Mean;
    let tree = &scored.tree;
    let mut first_id = vec![0; tree.nodes.len()];
    let mut n_ids = 0;
    for (id, node) in first_id.iter_mut().zip(&tree.nodes) {
        *id = n_ids;
        n_ids += node.kind.sampled().len();
    }
    let mut anchors: HashMap<&[u32], usize> = HashMap::new();
    let mut of = |(leaf_idx, trajectory): &(usize, Trajectory<'_>)| {
        let root = tree.leaves[*leaf_idx].key.0.first().map_or(0, |&ordinal| ordinal as usize);
        let mut member = Member { reward: scored.scores[*leaf_idx].reward, root, ..Member::default() };
        member.entropies.reserve_exact(trajectory.n_sampled());
        let mut state: &[u32] = &[];
        for node in &trajectory.nodes {
            match &tree.nodes[node.0 as usize].kind {
                NodeKind::Context { tokens, .. } => state = tokens,
                NodeKind::Sampled { tokens, .. } => {
                    let n_anchors = anchors.len();
                    let anchor = *anchors.entry(state).or_insert(n_anchors);
                    member.turns.push(Turn { n_tokens: tokens.len(), anchor });
                    member.entropies.extend(tokens.iter().map(|t| f64::from(t.entropy)));
                    if reads_ids {
                        let first = first_id[node.0 as usize];
                        member.token_ids.extend(first..first + tokens.len());
                    }
                    if reads_surprisals {
                        member.surprisals.extend(tokens.iter().map(|t| -f64::from(t.logprob)));
                    }
                }
            }
        }
        member
    };
    counted.iter().map(&mut of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{PolicyVersion, SampledToken};
    use crate::rollout::budget::SamplingBudget;
    use crate::rollout::tree::{Leaf, Node, NodeId, PathKey, StopReason};

    #[test]
    fn turns_roots_and_shared_tokens_are_read_off_the_tree() {
        let context = |tokens: &[u32]| NodeKind::Context { tokens: tokens.to_vec(), call: None };
        let turn = |n: usize| {
            let token = SampledToken { token: 1, logprob: -1.0, entropy: 0.5, top_entropy: 0.0 };
            NodeKind::Sampled { tokens: vec![token; n], version: PolicyVersion(0), changes: Vec::new() }
        };
        let node = |parent: Option<u32>, kind| Node { parent: parent.map(NodeId), kind };
        // Root sample 0 calls, reads [7] and is forked there; root sample 1 reads [7] too, root sample 2 reads [8].
        let nodes = vec![
            node(None, context(&[5])),
            node(Some(0), turn(2)),
            node(Some(1), context(&[7])),
            node(Some(2), turn(3)),
            node(Some(2), turn(1)),
            node(Some(0), turn(1)),
            node(Some(5), context(&[7])),
            node(Some(6), turn(2)),
            node(Some(0), turn(1)),
            node(Some(8), context(&[8])),
            node(Some(9), turn(1)),
        ];
        let leaf = |node, key: &[u32], stop| Leaf { node: NodeId(node), key: PathKey(key.to_vec()), stop };
        let answered = || StopReason::Answered("x".into());
        let leaves = vec![
            leaf(3, &[0], answered()),
            leaf(4, &[0, 1, 0], answered()),
            leaf(7, &[1], answered()),
            leaf(10, &[2], StopReason::ToolUnavailable),
        ];
        let tree = RolloutTree {
            nodes,
            leaves,
            budget: SamplingBudget { total: 4, n_global: 3, n_branch: 1 },
            root_entropy: 0.0,
            tool_entropy: 0.0,
            decisions: Vec::new(),
            expansions: Vec::new(),
        };
        let score = |reward| Score { reward, accuracy: 0.0, format_ok: true };
        let scored = ScoredTree { tree, scores: [1.0, 1.0, 1.0, 9.0].map(score).to_vec() };
        assert!(!scored.has_signal(), "the trajectory that a tool spoilt does not count");
        let counted: Vec<_> = Trajectory::all(&scored.tree).into_iter().enumerate().take(3).collect();
        let rule = AdvantageRule { baseline: Baseline::Turns, shared: SharedTokens::Own, entropy_weight: 0.0 };
        let members = members(&scored, &counted, &rule);
        let turns = |m: &Member| m.turns.iter().map(|t| (t.n_tokens, t.anchor)).collect::<Vec<_>>();
        assert_eq!(
            members.iter().map(turns).collect::<Vec<_>>(),
            [[(2, 0), (3, 1)], [(2, 0), (1, 1)], [(1, 0), (2, 1)]]
        );
        assert_eq!(members.iter().map(|m| m.root).collect::<Vec<_>>(), [0, 0, 1]);
        let ids: Vec<&[usize]> = members.iter().map(|m| &m.token_ids[..]).collect();
        assert_eq!(ids[0][..2], ids[1][..2]);
        let mut own = [&ids[0][2..], &ids[1][2..], ids[2]].concat();
        own.extend(&ids[0][..2]);
        own.sort_unstable();
        own.dedup();
        assert_eq!(own.len(), 3 + 1 + 3 + 2, "no other token is shared");
    }
}
