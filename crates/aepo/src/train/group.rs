//! How do scored trees become training samples?

use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::RolloutTree;
use crate::score::Score;
use crate::train::advantage::{AdvantageRule, EntropyStats, group_advantages};
use crate::train::pack::{TrainGroup, TrainSample};

/// A tree with the verdict on each of its trajectories.
#[derive(Clone, Debug)]
pub struct ScoredTree {
    /// The tree.
    pub tree: RolloutTree,
    /// `[n_leaves]`. Of a trajectory that does not count (see [`Trajectory::counts`]) it means nothing.
    pub scores: Vec<Score>,
}

/// The samples of a whole global batch, one group per tree, and the entropy statistics their advantages rest on. A
/// tree's group is those of its trajectories that count; the rest has no part in mean, deviation or loss.
#[must_use]
pub fn train_groups<'a>(trees: &'a [ScoredTree], rule: &AdvantageRule) -> (Vec<TrainGroup<'a>>, EntropyStats) {
    let counted: Vec<Vec<(usize, Trajectory<'a>)>> = trees
        .iter()
        .map(|t| Trajectory::all(&t.tree).into_iter().enumerate().filter(|(_, t)| t.counts()).collect())
        .collect();
    let entropies: Vec<f64> =
        counted.iter().flatten().flat_map(|(_, t)| t.sampled()).map(|s| f64::from(s.entropy)).collect();
    let stats = EntropyStats::over(entropies.iter().copied());
    let groups = trees
        .iter()
        .zip(&counted)
        .map(|(scored, counted)| {
            let rewards: Vec<f64> = counted.iter().map(|(leaf, _)| scored.scores[*leaf].reward).collect();
            let samples = counted
                .iter()
                .zip(group_advantages(&rewards))
                .map(|((leaf_idx, trajectory), advantage)| {
                    let of_token = |entropy: f32| rule.token_advantage(advantage, f64::from(entropy), &stats);
                    let advantages = trajectory.sampled().map(|s| of_token(s.entropy)).collect();
                    TrainSample::new(*leaf_idx, trajectory, advantages)
                })
                .collect();
            TrainGroup { tree: &scored.tree, samples }
        })
        .collect();
    (groups, stats)
}
