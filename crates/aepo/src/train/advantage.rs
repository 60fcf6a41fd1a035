//! How much better than expected was each token?

/// How a trajectory's advantage is spread over its tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AdvantageRule {
    /// Every sampled token gets the trajectory's group advantage (GRPO).
    Group,
    /// The group advantage, scaled by how uncertain the model was at the token (AEPO).
    EntropyAware {
        /// a.
        entropy_weight: f64,
    },
}

/// GRPO's group advantage `(R − mean) / (std + 1e-6)` with the sample standard deviation (ddof = 1) over the task's
/// trajectories (arXiv 2402.03300, eq. 3). A group of one, or with equal rewards, has advantage 0; no trajectory is
/// ever repeated to make a group larger.
#[must_use]
pub fn group_advantages(rewards: &[f64]) -> Vec<f64> {
    let Some(&first) = rewards.first() else {
        return Vec::new();
    };
    // Equal rewards are told apart from nearly equal ones before any rounding can: the mean of three times 0.1 is not
    // 0.1, and the difference divided by 1e-6 would be a signal made of nothing.
    if rewards.len() < 2 || rewards.iter().all(|&r| r == first) {
        return vec![0.0; rewards.len()];
    }
    let (mean, std) = mean_std(rewards.iter().copied());
    rewards.iter().map(|r| (r - mean) / (std + 1e-6)).collect()
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
}

impl EntropyStats {
    /// Over these entropies, in nats.
    pub fn over(entropies: impl Iterator<Item = f64> + Clone) -> Self {
        let (mean, std) = mean_std(entropies);
        EntropyStats { mean, std }
    }

    /// z_t = (H_t − mean H) / std H; 0 where the standard deviation is 0.
    #[must_use]
    pub fn z(&self, entropy: f64) -> f64 {
        if self.std > 0.0 { (entropy - self.mean) / self.std } else { 0.0 }
    }
}

impl AdvantageRule {
    /// The token's advantage. `A_t = A · (1 + a · z_t)` for AEPO (arXiv 2510.14545, §3.3), where z_t comes from the
    /// sampler's own entropies and no gradient flows through it.
    #[must_use]
    pub fn token_advantage(&self, group_advantage: f64, entropy: f64, stats: &EntropyStats) -> f64 {
        match *self {
            AdvantageRule::Group => group_advantage,
            AdvantageRule::EntropyAware { entropy_weight } => {
                group_advantage * (1.0 + entropy_weight * stats.z(entropy))
            }
        }
    }
}

/// Mean and sample standard deviation (ddof = 1); (0, 0) for nothing, standard deviation 0 for one value.
pub fn mean_std(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (n, sum) = values.clone().fold((0usize, 0.0), |(n, sum), v| (n + 1, sum + v));
    if n == 0 {
        return (0.0, 0.0);
    }
    let mean = sum / n as f64;
    if n == 1 {
        return (mean, 0.0);
    }
    let sum_sq: f64 = values.map(|v| (v - mean) * (v - mean)).sum();
    (mean, (sum_sq / (n - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: &[f64], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        for (x, y) in a.iter().zip(b) {
            assert!((x - y).abs() < 1e-6, "{a:?} {b:?}");
        }
    }

    #[test]
    fn worked_values_of_the_group_advantage() {
        // Python: m = sum(r)/len(r); s = sqrt(sum((x-m)**2 for x in r)/(len(r)-1)); [(x-m)/(s+1e-6) for x in r]
        close(&group_advantages(&[1.0, 0.0, 0.0, 1.1]), &[0.78177478, -0.86406686, -0.86406686, 0.94635894]);
        close(&group_advantages(&[1.0, 0.0]), &[0.70710578, -0.70710578]);
    }

    #[test]
    fn a_group_of_one_or_of_equals_has_no_advantage() {
        assert_eq!(group_advantages(&[1.0]), [0.0]);
        assert_eq!(group_advantages(&[0.1, 0.1, 0.1]), [0.0; 3]);
        assert!(group_advantages(&[]).is_empty());
    }

    #[test]
    fn the_entropy_statistic_is_always_computed_and_worked_values_hold() {
        // Python: with m and s of h as above, [0.5*(1 + 0.2*(x-m)/s) for x in h]
        let h = [0.1, 0.5, 2.0, 0.4];
        let stats = EntropyStats::over(h.iter().copied());
        let rule = AdvantageRule::EntropyAware { entropy_weight: 0.2 };
        let a: Vec<f64> = h.iter().map(|&h| rule.token_advantage(0.5, h, &stats)).collect();
        close(&a, &[0.42357347, 0.47060518, 0.64697409, 0.45884726]);
    }

    #[test]
    fn no_variance_means_no_scaling() {
        let rule = AdvantageRule::EntropyAware { entropy_weight: 0.2 };
        for h in [vec![0.7], vec![0.7; 5]] {
            let stats = EntropyStats::over(h.iter().copied());
            assert_eq!(rule.token_advantage(-1.5, 0.7, &stats), -1.5);
        }
    }
}
