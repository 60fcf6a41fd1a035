//! How much better than expected was each token?

use std::collections::HashMap;

pub use turns::turn_values;

/// How rewards become token advantages: a baseline, then who owns shared tokens, then a scaling by entropy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdvantageRule {
    /// What a trajectory's reward is compared with.
    pub baseline: Baseline,
    /// What a token gets that lies on several trajectories.
    pub shared: SharedTokens,
    /// a of [`entropy_factor`]; 0 switches the scaling off.
    pub entropy_weight: f64,
}

/// What a trajectory's reward is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Baseline {
    /// The task's other trajectories: [`group_advantages`].
    Group,
    /// The same, but a group of one keeps its reward, as in the released code of AEPO.
    GroupOrRaw,
    /// Nothing: A_t = R. This is generalised advantage estimation with λ = γ = 1 (arXiv 1506.02438) where no value
    /// function is learnt.
    None,
    /// The mean of the task's other trajectories: [`leave_one_out`].
    LeaveOneOut,
    /// Every sampled token of the batch: [`batch_returns`].
    Batch {
        /// Coefficient of the divergence from the reference policy, folded into the reward.
        kl_coef: f64,
    },
    /// The group, and the turns that start from an equal state: [`gigpo_turns`].
    Anchors {
        /// ω.
        omega: f64,
        /// γ.
        gamma: f64,
    },
    /// The group, and the trajectories that start with the same root sample: [`tree_advantages`].
    Trees,
    /// The group, handed back from the leaves of the tree to its turns: [`turn_values`].
    Turns,
}

/// What a token gets that lies on several trajectories (arXiv 2507.19849).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharedTokens {
    /// On each trajectory that trajectory's advantage (ARPO's "soft" estimate).
    Own,
    /// The mean of the advantages that the trajectories through it have there (ARPO's "hard" estimate).
    Mean,
}

/// What the rules need to know of one trajectory. Only sampled tokens are in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    /// R.
    pub reward: f64,
    /// Equal for trajectories of a group that start with the same root sample.
    pub root: usize,
    /// The model's turns, in order.
    pub turns: Vec<Turn>,
    /// `[n_sampled]`, equal within the group exactly where trajectories share the token; read only by
    /// [`SharedTokens::Mean`] and [`Baseline::Turns`].
    pub token_ids: Vec<usize>,
    /// `[n_sampled]`, H_t when the token was sampled, nats.
    pub entropies: Vec<f64>,
    /// `[n_sampled]`, −log-probability of the token under the weights that sampled it, nats; read only by
    /// [`Baseline::Turns`].
    pub surprisals: Vec<f64>,
    /// `[n_sampled]`, `old_logp − ref_logp`, nats; read only by [`Baseline::Batch`] with a coefficient.
    pub kl: Vec<f64>,
}

/// One turn of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How many tokens it sampled.
    pub n_tokens: usize,
    /// Equal within the group for turns that start from an equal state: the observation before the turn.
    pub anchor: usize,
}

/// Entropy statistics of the whole global batch: mean and sample standard deviation over the sampled tokens of every
/// counted trajectory, as if the trees were unrolled (a token on three trajectories counts three times, as it does in
/// the loss). Nats per token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EntropyStats {
    /// mean H.
    pub mean: f64,
    /// std H, ddof = 1; 0 for fewer than two tokens.
    pub std: f64,
    /// The entropy that a fifth of the tokens exceed (arXiv 2506.01939 finds that learning happens in them); 0 without
    /// tokens.
    pub high: f64,
}

impl EntropyStats {
    /// Over these entropies, in nats. Equal entropies have standard deviation 0 exactly, whatever rounding does to
    /// their mean.
    pub fn over(entropies: impl Iterator<Item = f64>) -> Self {
        let mut entropies: Vec<f64> = entropies.collect();
        let (mean, std) = mean_std(entropies.iter().copied());
        let rank = entropies.len().checked_sub(1).map(|last| last * 4 / 5);
        let high = rank.map_or(0.0, |rank| *entropies.select_nth_unstable_by(rank, f64::total_cmp).1);
        EntropyStats { mean, std, high }
    }

    /// z_t = (H_t − mean H) / std H; 0 where the standard deviation is 0.
    #[must_use]
    pub fn z(&self, entropy: f64) -> f64 {
        standardised(entropy, self.mean, self.std)
    }
}

/// `(x − mean) / std`; 0 where the standard deviation is 0.
fn standardised(x: f64, mean: f64, std: f64) -> f64 {
    if std > 0.0 { (x - mean) / std } else { 0.0 }
}

/// The advantage of every sampled token, `[group][trajectory][n_sampled]`, and the entropy statistics of the batch.
#[must_use]
pub fn token_advantages(rule: &AdvantageRule, groups: &[Vec<Member>]) -> (Vec<Vec<Vec<f64>>>, EntropyStats) {
    let stats = EntropyStats::over(groups.iter().flatten().flat_map(|m| m.entropies.iter().copied()));
    let mut batch = match rule.baseline {
        Baseline::Batch { kl_coef } => {
            let zeros = vec![0.0; groups.iter().flatten().map(|m| m.entropies.len()).max().unwrap_or(0)];
            let of = |m| -> (f64, &[f64]) {
                let m: &Member = m;
                (m.reward, if kl_coef == 0.0 { &zeros[..m.entropies.len()] } else { &m.kl })
            };
            let facts: Vec<(f64, &[f64])> = groups.iter().flatten().map(of).collect();
            batch_returns(kl_coef, &facts).into_iter()
        }
        _ => Vec::new().into_iter(),
    };
    let of_group = |group: &Vec<Member>| {
        let mut advantages: Vec<Vec<f64>> = match rule.baseline {
            Baseline::Batch { .. } => batch.by_ref().take(group.len()).collect(),
            _ => group_baseline(&rule.baseline, group),
        };
        if rule.shared == SharedTokens::Mean {
            share(group, &mut advantages);
        }
        for (member, advantages) in group.iter().zip(&mut advantages) {
            for (a, h) in advantages.iter_mut().zip(&member.entropies) {
                *a *= entropy_factor(rule.entropy_weight, stats.z(*h));
            }
        }
        advantages
    };
    (groups.iter().map(of_group).collect(), stats)
}

/// The rules that look at one group alone.
fn group_baseline(baseline: &Baseline, group: &[Member]) -> Vec<Vec<f64>> {
    let rewards: Vec<f64> = group.iter().map(|m| m.reward).collect();
    let constant = |advantages: Vec<f64>| {
        advantages.iter().zip(group).map(|(&a, m)| vec![a; m.entropies.len()]).collect::<Vec<_>>()
    };
    let per_turn = |turns: Vec<Vec<f64>>| {
        let spread = |(m, turns): (&Member, Vec<f64>)| {
            m.turns.iter().zip(turns).flat_map(|(t, a)| std::iter::repeat_n(a, t.n_tokens)).collect()
        };
        group.iter().zip(turns).map(spread).collect::<Vec<Vec<f64>>>()
    };
    match *baseline {
        Baseline::GroupOrRaw if rewards.len() == 1 => constant(rewards),
        Baseline::Group | Baseline::GroupOrRaw => constant(group_advantages(&rewards)),
        // The batch's returns need the other groups too; without them this is A = R.
        Baseline::None | Baseline::Batch { .. } => constant(rewards),
        Baseline::LeaveOneOut => constant(leave_one_out(&rewards)),
        Baseline::Trees => {
            let roots: Vec<usize> = group.iter().map(|m| m.root).collect();
            constant(tree_advantages(&rewards, &roots))
        }
        Baseline::Anchors { omega, gamma } => {
            let anchors: Vec<Vec<usize>> = group.iter().map(|m| m.turns.iter().map(|t| t.anchor).collect()).collect();
            per_turn(gigpo_turns(&rewards, &anchors, omega, gamma))
        }
        Baseline::Turns => per_turn(turn_values(group)),
    }
}

/// GRPO's group advantage `(R − mean) / (std + 1e-6)` with the sample standard deviation (ddof = 1) over the task's
/// trajectories (arXiv 2402.03300, eq. 3). A group of one, or with equal rewards, has advantage 0; no trajectory is
/// ever repeated to make a group larger.
#[must_use]
pub fn group_advantages(rewards: &[f64]) -> Vec<f64> {
    if all_equal(rewards) {
        return vec![0.0; rewards.len()];
    }
    let (mean, std) = mean_std(rewards.iter().copied());
    rewards.iter().map(|r| (r - mean) / (std + 1e-6)).collect()
}

/// RLOO (arXiv 2402.14740): `A_i = R_i − mean of the others' rewards`. A group of one, whose reward common code keeps
/// as it is, has advantage 0.
#[must_use]
pub fn leave_one_out(rewards: &[f64]) -> Vec<f64> {
    if all_equal(rewards) {
        return vec![0.0; rewards.len()];
    }
    let sum: f64 = rewards.iter().sum();
    rewards.iter().map(|r| r - (sum - r) / (rewards.len() - 1) as f64).collect()
}

/// REINFORCE++ (arXiv 2501.03262): the reward at the last token, less `kl_coef · (old_logp − ref_logp)` at every
/// token; the undiscounted sum from each token on; and that standardised over all sampled tokens of the batch
/// (ddof = 1). `members` are reward and per-token log-ratio, nats, of every trajectory. Equal returns have
/// advantage 0. The sum runs over the sampled tokens of all turns; common code begins anew behind each tool result, so
/// that only the last turn ever hears of the reward.
#[must_use]
pub fn batch_returns(kl_coef: f64, members: &[(f64, &[f64])]) -> Vec<Vec<f64>> {
    let returns = |(reward, kl): &(f64, &[f64])| {
        let mut to_go = *reward;
        let mut out = vec![0.0; kl.len()];
        for (g, kl) in out.iter_mut().zip(*kl).rev() {
            to_go -= kl_coef * kl;
            *g = to_go;
        }
        out
    };
    let mut all: Vec<Vec<f64>> = members.iter().map(returns).collect();
    let (mean, std) = mean_std(all.iter().flatten().copied());
    all.iter_mut().flatten().for_each(|g| *g = standardised(*g, mean, std));
    all
}

/// GiGPO (arXiv 2505.10978) for one group, `[trajectory][turn]`: the group advantage of the trajectory
/// plus ω times that of the turn. With one reward at the end, turn t of T has the return γ^(T−1−t)·R; it is
/// compared with the returns of the group's turns that start from an equal state, `anchors[trajectory][turn]`. A state
/// seen once adds nothing. Both comparisons divide by the standard deviation; the released code has that as an option,
/// and counts a trajectory once per turn in the group's mean and deviation.
#[must_use]
pub fn gigpo_turns(rewards: &[f64], anchors: &[Vec<usize>], omega: f64, gamma: f64) -> Vec<Vec<f64>> {
    let mut by_anchor: HashMap<usize, Vec<(usize, usize, f64)>> = HashMap::new();
    for (i, (states, reward)) in anchors.iter().zip(rewards).enumerate() {
        for (t, state) in states.iter().enumerate() {
            let discount = gamma.powi((states.len() - 1 - t) as i32);
            by_anchor.entry(*state).or_default().push((i, t, discount * reward));
        }
    }
    let episode = group_advantages(rewards);
    let mut out: Vec<Vec<f64>> = anchors.iter().zip(&episode).map(|(states, &a)| vec![a; states.len()]).collect();
    for turns in by_anchor.values() {
        let returns: Vec<f64> = turns.iter().map(|turn| turn.2).collect();
        for ((i, t, _), step) in turns.iter().zip(group_advantages(&returns)) {
            out[*i][*t] += omega * step;
        }
    }
    out
}

/// Tree-GRPO (arXiv 2509.21240, §3): the group advantage among the trajectories of the same tree (`roots` equal) plus
/// the group advantage among all of the task's trees. A tree of one trajectory adds nothing.
#[must_use]
pub fn tree_advantages(rewards: &[f64], roots: &[usize]) -> Vec<f64> {
    let mut out = group_advantages(rewards);
    let mut by_root: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, root) in roots.iter().enumerate() {
        by_root.entry(*root).or_default().push(i);
    }
    for members in by_root.values() {
        let own: Vec<f64> = members.iter().map(|&i| rewards[i]).collect();
        for (&i, a) in members.iter().zip(group_advantages(&own)) {
            out[i] += a;
        }
    }
    out
}

/// `1 + a·z_t`, by which AEPO scales the advantage of a token (arXiv 2510.14545, §3.3). z_t comes from the sampler's own
/// entropies and no gradient flows through it.
#[must_use]
pub fn entropy_factor(weight: f64, z: f64) -> f64 {
    1.0 + weight * z
}

/// [`SharedTokens::Mean`].
fn share(group: &[Member], advantages: &mut [Vec<f64>]) {
    let mut sums: HashMap<usize, (f64, usize)> = HashMap::new();
    for (id, a) in group.iter().zip(&*advantages).flat_map(|(m, a)| m.token_ids.iter().zip(a)) {
        let (sum, n) = sums.entry(*id).or_default();
        *sum += a;
        *n += 1;
    }
    for (id, a) in group.iter().zip(advantages).flat_map(|(m, a)| m.token_ids.iter().zip(a)) {
        if let Some((sum, n)) = sums.get(id) {
            *a = sum / *n as f64;
        }
    }
}

/// Fewer than two values, or all the same. Equal values are told apart from nearly equal ones before any rounding can:
/// the mean of three times 0.1 is not 0.1, and the difference divided by 1e-6 would be a signal made of nothing.
#[must_use]
pub fn all_equal(values: &[f64]) -> bool {
    values.iter().all(|&v| v == values[0])
}

/// Mean and sample standard deviation (ddof = 1); (0, 0) for nothing, standard deviation 0 for one value and for equal
/// ones.
pub fn mean_std(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let Some(first) = values.clone().next() else {
        return (0.0, 0.0);
    };
    if values.clone().all(|v| v == first) {
        return (first, 0.0);
    }
    let (n, sum) = values.clone().fold((0usize, 0.0), |(n, sum), v| (n + 1, sum + v));
    let mean = sum / n as f64;
    let sum_sq: f64 = values.map(|v| (v - mean) * (v - mean)).sum();
    (mean, (sum_sq / (n - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests;
mod turns;
