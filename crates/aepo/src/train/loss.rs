//! What is minimised, and what is its gradient? Plain numbers: `(value, dL/dlogp)`.
//!
//! Every objective depends on the model through the log-probabilities of the sampled tokens alone, so
//! `∂L/∂θ = Σ_t (∂L/∂logp_t) · ∂logp_t/∂θ`: this file computes the first factor, the policy back-propagates the second.
//! Throughout, `r = exp(logp − old_logp)`, A is the token's advantage, ε_l and ε_h the clip bounds.

use serde::{Deserialize, Serialize};

/// The per-token objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClipRule {
    /// PPO's clipped surrogate (arXiv 1707.06347, eq. 7): a token outside the band loses its gradient.
    Ppo(Clip),
    /// AEPO's clip balancing (arXiv 2510.14545, §3.3): the value is PPO's, but a token above the band with A > 0
    /// keeps the gradient it would have at the band's edge.
    Balanced(Clip),
    /// CISPO (arXiv 2506.13585, eqs. 4–5): the ratio is clipped and detached, and weighs the log-probability, so that no
    /// token loses its gradient. With ε_l = 1, the default, the lower side is open.
    Cispo(Clip),
    /// GPPO (arXiv 2508.07629): the value is PPO's, and both edges of the band keep their gradient. Code that has it
    /// beside a dual clip takes c = 3; here that is off unless set, as everywhere.
    Gppo(Clip),
}

/// Over which tokens the ratio `r` is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RatioScope {
    /// `r_t = exp(logp_t − old_logp_t)`.
    Token,
    /// GSPO (arXiv 2507.18071, eq. 7): the geometric mean over the trajectory's sampled tokens,
    /// `s = exp(mean_t(logp_t − old_logp_t))`. The gradient is that of GSPO-token,
    /// `s_t = sg(s)·π_t/sg(π_t)`, which is GSPO's own wherever the advantage is the same along the trajectory. Common
    /// code bounds the mean at 10, where exp of it is far outside any band.
    Sequence,
    /// AT²PO (arXiv 2601.04767, eq. 5): the same over each turn of the model. Its released code bounds the mean of the
    /// log-ratios at 10 likewise.
    Turn,
}

/// The bounds of the band and, optionally, the dual clip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// ε_l.
    pub low: f64,
    /// ε_h.
    pub high: f64,
    /// c > 1: for A < 0 the loss is at most `−c·A` (arXiv 1912.09729).
    pub dual: Option<f64>,
}

impl ClipRule {
    /// The bounds, whichever the rule.
    #[must_use]
    pub fn clip(&self) -> &Clip {
        match self {
            ClipRule::Ppo(clip) | ClipRule::Balanced(clip) | ClipRule::Cispo(clip) | ClipRule::Gppo(clip) => clip,
        }
    }
}

/// Where a token's ratio lay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In the band, or outside it where the objective does not clip.
    Free,
    /// Above 1 + ε_h with A > 0; for CISPO, which clips the weight of every token, with any A but 0.
    High,
    /// Below 1 − ε_l with A < 0; for CISPO with any A but 0.
    Low,
    /// Above the dual clip with A < 0.
    Dual,
}

/// One token's part of the objective, before it is weighted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenTerm {
    /// L.
    pub value: f64,
    /// ∂L/∂logp.
    pub dlogp: f64,
    /// Where r lay.
    pub side: Side,
}

/// `L = −min(r·A, clip(r, l, u)·A)` with `l = 1−ε_l`, `u = 1+ε_h` for PPO. Clip balancing has `u = ((1+ε_h)/sg(r))·r`,
/// which has the value 1+ε_h but the derivative of r scaled to the band's edge; GPPO has `l = ((1−ε_l)/sg(r))·r` too.
/// CISPO is `L = −sg(clip(r, 1−ε_l, 1+ε_h))·A·logp`. So ∂L/∂logp = −A·w with
///
/// | | r < 1−ε_l | in the band | r > 1+ε_h | r > c |
/// |---|---|---|---|---|
/// | A > 0, PPO | r | r | 0 | 0 |
/// | A > 0, balanced and GPPO | r | r | **1+ε_h** | **1+ε_h** |
/// | A < 0, PPO and balanced | 0 | r | r | 0 with a dual clip |
/// | A < 0, GPPO | **1−ε_l** | r | r | 0 with a dual clip |
/// | CISPO | 1−ε_l | r | 1+ε_h | 1+ε_h |
///
/// A token without advantage has no term, whatever its ratio (0 times an overflowing ratio would not be a number).
#[must_use]
pub fn token_term(rule: &ClipRule, ratio: f64, advantage: f64, logp: f64) -> TokenTerm {
    let clip = rule.clip();
    let (floor, ceiling) = (1.0 - clip.low, 1.0 + clip.high);
    if advantage == 0.0 {
        return TokenTerm { value: 0.0, dlogp: 0.0, side: Side::Free };
    }
    if let ClipRule::Cispo(_) = rule {
        let (weight, side) = match ratio {
            r if r > ceiling => (ceiling, Side::High),
            r if r < floor => (floor, Side::Low),
            r => (r, Side::Free),
        };
        return TokenTerm { value: -weight * advantage * logp, dlogp: -weight * advantage, side };
    }
    if advantage > 0.0 && ratio > ceiling {
        let weight = match rule {
            ClipRule::Ppo(_) => 0.0,
            _ => ceiling,
        };
        return TokenTerm { value: -ceiling * advantage, dlogp: -advantage * weight, side: Side::High };
    }
    if advantage < 0.0 && ratio < floor {
        let weight = match rule {
            ClipRule::Gppo(_) => floor,
            _ => 0.0,
        };
        return TokenTerm { value: -floor * advantage, dlogp: -advantage * weight, side: Side::Low };
    }
    if let Some(dual) = clip.dual
        && advantage < 0.0
        && ratio > dual
    {
        return TokenTerm { value: -dual * advantage, dlogp: 0.0, side: Side::Dual };
    }
    TokenTerm { value: -ratio * advantage, dlogp: -ratio * advantage, side: Side::Free }
}

/// Truncated importance sampling, per token (Yao et al. 2025, "Your efficient RL framework secretly brings you
/// off-policy RL training"): the surrogate is weighed by `min(exp(old_logp − rollout_logp), C)`, which corrects for a
/// sampler whose numbers are not the trainer's. No gradient flows through it.
#[must_use]
pub fn is_weight(old_logp: f64, rollout_logp: f64, cap: f64) -> f64 {
    (old_logp - rollout_logp).exp().min(cap)
}

/// `[n_sampled]`, r of each token. `turn_lens` are the numbers of sampled tokens of the trajectory's turns; only
/// [`RatioScope::Turn`] reads them, and their sum is `n_sampled`.
#[must_use]
pub fn ratios(scope: RatioScope, logprobs: &[f64], old_logprobs: &[f64], turn_lens: &[usize]) -> Vec<f64> {
    let log: Vec<f64> = logprobs.iter().zip(old_logprobs).map(|(new, old)| new - old).collect();
    let spans = match scope {
        RatioScope::Token => return log.into_iter().map(f64::exp).collect(),
        RatioScope::Sequence => &[log.len()][..],
        RatioScope::Turn => turn_lens,
    };
    let mut out = Vec::with_capacity(log.len());
    for &n in spans {
        let span = &log[out.len()..(out.len() + n).min(log.len())];
        let mean = span.iter().sum::<f64>() / span.len().max(1) as f64;
        out.extend(std::iter::repeat_n(mean.exp(), span.len()));
    }
    out
}

/// k3, the estimator of KL(π ‖ π_ref) at a token sampled from π that is never negative (Schulman 2020; GRPO eq. 4):
/// `k3 = exp(ref − logp) − (ref − logp) − 1` and `∂k3/∂logp = 1 − exp(ref − logp)`.
#[must_use]
pub fn kl_k3(logp: f64, ref_logp: f64) -> (f64, f64) {
    let log_ratio = ref_logp - logp;
    // exp_m1 keeps the digits where the two policies are close, which is where this is used.
    let excess = log_ratio.exp_m1();
    (excess - log_ratio, -excess)
}

/// How token terms become one number. Only sampled tokens count, here and everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// Sum over all sampled tokens of the batch of one optimiser step, divided by their number.
    TokenMean,
    /// Mean over trajectories of each one's token mean; a trajectory without sampled tokens counts as absent.
    SeqMeanTokenMean,
}

impl Aggregation {
    /// The weight of each trajectory's tokens, given every trajectory's number of sampled tokens. Weighted token
    /// terms are simply added. The numbers are those of the whole batch of an optimiser step, so the result does not
    /// depend on how that batch is packed.
    #[must_use]
    pub fn weights(self, n_sampled: &[usize]) -> Vec<f64> {
        match self {
            Aggregation::TokenMean => {
                let n_tokens: usize = n_sampled.iter().sum();
                vec![1.0 / n_tokens.max(1) as f64; n_sampled.len()]
            }
            Aggregation::SeqMeanTokenMean => {
                let n_present = n_sampled.iter().filter(|&&n| n > 0).count();
                n_sampled.iter().map(|&n| 1.0 / (n_present.max(1) * n.max(1)) as f64).collect()
            }
        }
    }
}

/// The whole objective: `Σ_t weight_t · (is_t · L_t + kl_coef · k3_t − entropy_coef · H_t)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossRules {
    /// The per-token surrogate.
    pub clip: ClipRule,
    /// Over which tokens its ratio is taken.
    pub ratio: RatioScope,
    /// How tokens are averaged.
    pub aggregation: Aggregation,
    /// Coefficient of the k3 divergence from the reference policy; 0 means that no reference is evaluated.
    pub kl_coef: f64,
    /// Coefficient of the entropy bonus, per nat.
    pub entropy_coef: f64,
    /// C of [`is_weight`]; `None` leaves `is_t` at 1.
    pub is_cap: Option<f64>,
}

/// What the loss needs of one trajectory: its sampled tokens, in order, each slice `[n_sampled]`.
#[derive(Clone, Copy, Debug)]
pub struct TokenInputs<'a> {
    /// Of the weights being trained, nats.
    pub logprobs: &'a [f64],
    /// Of the trainer's own weights at the start of the step, nats.
    pub old_logprobs: &'a [f64],
    /// Of the reference policy, nats; empty where it was not evaluated, which is possible only without `kl_coef`.
    pub ref_logprobs: &'a [f64],
    /// What the sampler said when it drew the tokens, nats; read only with `is_cap`, and may be empty otherwise.
    pub rollout_logprobs: &'a [f64],
    /// Of the weights being trained, nats; empty where they were not measured, which is possible only without
    /// `entropy_coef`.
    pub entropies: &'a [f64],
    /// Of the weights that sampled, nats; may be empty where nobody asks for the masses of [`LossSums::high`].
    pub rollout_entropies: &'a [f64],
    /// Tokens sampled at more entropy than this are counted as high-entropy ones, nats.
    pub high_entropy: f64,
    /// A_t.
    pub advantages: &'a [f64],
    /// `[n_turns]`, sampled tokens per turn; read only with [`RatioScope::Turn`].
    pub turn_lens: &'a [usize],
}

/// A trajectory's part of the loss, as if it were unrolled: where trajectories share tokens, the coefficients add up.
#[derive(Clone, Debug, Default)]
pub struct TrajectoryLoss {
    /// Its weighted part of the loss.
    pub value: f64,
    /// `[n_sampled]`, ∂loss/∂logp.
    pub dlogp: Vec<f64>,
    /// `[n_sampled]`, ∂loss/∂H; empty without an entropy bonus.
    pub dentropy: Vec<f64>,
    /// Sums for the step's record.
    pub sums: LossSums,
}

/// Sums over sampled tokens, unrolled; divide by `n_tokens` to report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    /// How many tokens.
    pub n_tokens: usize,
    /// Clipped above, A > 0.
    pub n_high: usize,
    /// Clipped below, A < 0.
    pub n_low: usize,
    /// Clipped by the dual clip.
    pub n_dual: usize,
    /// Whose importance weight was cut to the cap.
    pub n_capped: usize,
    /// Σ k3 against the weights at the start of the step, nats.
    pub kl_old: f64,
    /// Σ k3 against the reference policy, nats; 0 where it is not evaluated.
    pub kl_ref: f64,
    /// Σ H of the weights being trained, nats; not a number where they were not measured.
    pub entropy: f64,
    /// The surrogate's gradient on high-entropy tokens.
    pub high: GradientMass,
    /// The same on all other tokens.
    pub rest: GradientMass,
}

/// How much of the surrogate's gradient a clip rule let through: sums of |∂/∂logp| over tokens, weighted as in the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GradientMass {
    /// Σ |∂L/∂logp|.
    pub kept: f64,
    /// By how much that is less than Σ |r·A|, the gradient without any clipping.
    pub lost: f64,
}

impl GradientMass {
    fn add(&mut self, other: &GradientMass) {
        self.kept += other.kept;
        self.lost += other.lost;
    }

    /// The share that was lost, in [0, 1]; 0 where there was nothing to lose.
    #[must_use]
    pub fn share_lost(&self) -> f64 {
        share(self.lost, self.kept)
    }
}

/// `part / (part + rest)` of two sums ≥ 0; 0 of nothing, and 1 where the part alone is too large a number.
#[must_use]
pub fn share(part: f64, rest: f64) -> f64 {
    match part + rest {
        whole if whole > 0.0 && whole.is_finite() => part / whole,
        _ if part.is_infinite() => 1.0,
        _ => 0.0,
    }
}

impl LossSums {
    /// Adds another trajectory's sums.
    pub fn add(&mut self, other: &LossSums) {
        self.n_tokens += other.n_tokens;
        self.n_high += other.n_high;
        self.n_low += other.n_low;
        self.n_dual += other.n_dual;
        self.n_capped += other.n_capped;
        self.kl_old += other.kl_old;
        self.kl_ref += other.kl_ref;
        self.entropy += other.entropy;
        self.high.add(&other.high);
        self.rest.add(&other.rest);
    }
}

/// The loss of one trajectory whose tokens weigh `weight` each (see [`Aggregation::weights`]).
#[must_use]
pub fn trajectory_loss(rules: &LossRules, weight: f64, inputs: &TokenInputs<'_>) -> TrajectoryLoss {
    let n = inputs.logprobs.len();
    let mut out = TrajectoryLoss { dlogp: Vec::with_capacity(n), ..TrajectoryLoss::default() };
    out.sums.n_tokens = n;
    let ratios = ratios(rules.ratio, inputs.logprobs, inputs.old_logprobs, inputs.turn_lens);
    for (t, &ratio) in ratios.iter().enumerate() {
        let (logp, old) = (inputs.logprobs[t], inputs.old_logprobs[t]);
        let term = token_term(&rules.clip, ratio, inputs.advantages[t], logp);
        let (mut value, mut dlogp) = (term.value, term.dlogp);
        let free = (ratio * inputs.advantages[t]).abs();
        let mut importance = 1.0;
        if let Some(cap) = rules.is_cap {
            let weight = is_weight(old, inputs.rollout_logprobs[t], cap);
            value *= weight;
            dlogp *= weight;
            importance = weight;
            out.sums.n_capped += usize::from(weight == cap);
        }
        let (kept, free) = (weight * dlogp.abs(), weight * importance * free);
        let mass = GradientMass { kept, lost: (free - kept).max(0.0) };
        match inputs.rollout_entropies.get(t).is_some_and(|&h| h > inputs.high_entropy) {
            true => out.sums.high.add(&mass),
            false => out.sums.rest.add(&mass),
        }
        if rules.kl_coef != 0.0 || !inputs.ref_logprobs.is_empty() {
            let (kl, dkl) = kl_k3(logp, inputs.ref_logprobs[t]);
            out.sums.kl_ref += kl;
            // A divergence that is only measured may overflow, and 0 times that would not be a number.
            if rules.kl_coef != 0.0 {
                value += rules.kl_coef * kl;
                dlogp += rules.kl_coef * dkl;
            }
        }
        if rules.entropy_coef != 0.0 {
            value -= rules.entropy_coef * inputs.entropies[t];
            out.dentropy.push(-weight * rules.entropy_coef);
        }
        out.value += weight * value;
        out.dlogp.push(weight * dlogp);
        match term.side {
            Side::Free => {}
            Side::High => out.sums.n_high += 1,
            Side::Low => out.sums.n_low += 1,
            Side::Dual => out.sums.n_dual += 1,
        }
        // The tokens were sampled from the old weights, so this estimates KL(old ‖ new).
        out.sums.kl_old += kl_k3(old, logp).0;
        out.sums.entropy += inputs.entropies.get(t).unwrap_or(&f64::NAN);
    }
    out
}

#[cfg(test)]
mod tests;
