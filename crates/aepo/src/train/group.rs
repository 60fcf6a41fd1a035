//! How do scored trees become training samples?

use std::collections::HashMap;

use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::{NodeKind, RolloutTree};
use crate::score::Score;
use crate::train::advantage::{AdvantageRule, EntropyStats, Member, Turn, all_equal, token_advantages};
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
    /// sampling (arXiv 2503.14476, §3.2) draws another task instead.
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
        trees.iter().zip(&counted).map(|(scored, counted)| members(scored, counted)).collect();
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

/// What the advantage rules need to know of a tree's counted trajectories. A turn's state is what the model read last:
/// the prompt, or the tool result before the turn, token by token.
fn members(scored: &ScoredTree, counted: &[(usize, Trajectory<'_>)]) -> Vec<Member> {
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
        let mut state: &[u32] = &[];
        for node in &trajectory.nodes {
            match &tree.nodes[node.0 as usize].kind {
                NodeKind::Context { tokens, .. } => state = tokens,
                NodeKind::Sampled { tokens, .. } => {
                    let n_anchors = anchors.len();
                    let anchor = *anchors.entry(state).or_insert(n_anchors);
                    member.turns.push(Turn { n_tokens: tokens.len(), anchor });
                    let first = first_id[node.0 as usize];
                    member.token_ids.extend(first..first + tokens.len());
                    member.entropies.extend(tokens.iter().map(|t| f64::from(t.entropy)));
                }
            }
        }
        member
    };
    counted.iter().map(&mut of).collect()
}
