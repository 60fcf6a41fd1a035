//! Do the loss rules have the values and gradients of their formulas?

use super::*;

const CLIP: Clip = Clip { low: 0.2, high: 0.28, dual: None };
const DUAL: Clip = Clip { low: 0.2, high: 0.2, dual: Some(3.0) };
const RATIOS: [f64; 9] = [0.1, 0.5, 0.79, 0.81, 1.0, 1.19, 1.35, 2.9, 3.5];
const ADVANTAGES: [f64; 5] = [-2.0, -0.3, 0.0, 0.4, 1.7];

/// PPO's surrogate as the paper writes it, without our case distinction.
fn ppo_value(clip: &Clip, r: f64, a: f64) -> f64 {
    let loss = -(r * a).min(r.clamp(1.0 - clip.low, 1.0 + clip.high) * a);
    match clip.dual {
        Some(c) if a < 0.0 => loss.min(-c * a),
        _ => loss,
    }
}

/// Clip balancing with its stop-gradient frozen at `r0`: the function whose derivative at r = r0 is the gradient.
fn balanced_surrogate(clip: &Clip, r: f64, r0: f64, a: f64) -> f64 {
    let upper = (1.0 + clip.high) / r0 * r;
    // The branch is chosen where the gradient is taken; the chosen branch is then differentiated.
    let clipped = if r0 > 1.0 + clip.high {
        upper
    } else if r0 < 1.0 - clip.low {
        1.0 - clip.low
    } else {
        r
    };
    let clipped_at_r0 = r0.clamp(1.0 - clip.low, 1.0 + clip.high);
    let loss = if r0 * a <= clipped_at_r0 * a { -r * a } else { -clipped * a };
    match clip.dual {
        Some(c) if a < 0.0 && r0 > c => -c * a,
        _ => loss,
    }
}

const NOTHING: TokenInputs<'static> = TokenInputs {
    logprobs: &[],
    old_logprobs: &[],
    ref_logprobs: &[],
    rollout_logprobs: &[],
    entropies: &[],
    rollout_entropies: &[],
    high_entropy: f64::INFINITY,
    advantages: &[],
    turn_lens: &[],
};

#[test]
fn cispo_weighs_the_log_probability_and_keeps_every_gradient() {
    let rule = ClipRule::Cispo(Clip { low: 1.0, high: 0.28, dual: None });
    for r in RATIOS {
        for a in ADVANTAGES {
            let term = token_term(&rule, r, a, -1.5);
            assert_eq!(term.dlogp, -r.min(1.28) * a);
            assert!((term.value - 1.5 * r.min(1.28) * a).abs() < 1e-12);
        }
    }
}

#[test]
fn gppo_differs_from_balancing_only_below_the_band() {
    for r in RATIOS {
        for a in ADVANTAGES {
            let terms = [ClipRule::Gppo(CLIP), ClipRule::Balanced(CLIP)].map(|rule| token_term(&rule, r, a, -1.0));
            let below = if r < 0.8 && a < 0.0 { (-a * 0.8, 0.0) } else { (terms[1].dlogp, terms[1].dlogp) };
            assert_eq!((terms[0].dlogp, terms[1].dlogp), below);
        }
    }
}

#[test]
fn a_token_without_advantage_has_no_term_whatever_its_ratio() {
    for clip in [ClipRule::Ppo(CLIP), ClipRule::Balanced(DUAL), ClipRule::Cispo(CLIP), ClipRule::Gppo(CLIP)] {
        let term = token_term(&clip, f64::INFINITY, 0.0, -1.0);
        assert_eq!((term.value, term.dlogp), (0.0, 0.0));
    }
}

#[test]
fn ratios_are_geometric_means_over_their_scope() {
    let (new, old) = ([-1.0, -2.0, -0.5], [-1.2, -1.8, -0.1]);
    let of = |scope| ratios(scope, &new, &old, &[2, 1]);
    let close = |a: Vec<f64>, b: [f64; 3]| assert!(a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-12), "{a:?}");
    close(of(RatioScope::Token), [0.2f64.exp(), (-0.2f64).exp(), (-0.4f64).exp()]);
    close(of(RatioScope::Sequence), [(-0.4f64 / 3.0).exp(); 3]);
    close(of(RatioScope::Turn), [1.0, 1.0, (-0.4f64).exp()]);
    assert!(ratios(RatioScope::Sequence, &[], &[], &[]).is_empty());
}

#[test]
fn a_sequence_ratio_has_the_gradient_of_the_whole_sequence() {
    let rules = LossRules {
        clip: ClipRule::Ppo(Clip { low: 0.3, high: 0.3, dual: None }),
        ratio: RatioScope::Sequence,
        aggregation: Aggregation::SeqMeanTokenMean,
        kl_coef: 0.0,
        entropy_coef: 0.0,
        is_cap: None,
    };
    let run = |first: f64| {
        let inputs = TokenInputs {
            logprobs: &[first, -2.0, -0.5],
            old_logprobs: &[-1.2, -1.8, -0.1],
            entropies: &[0.1; 3],
            advantages: &[0.7; 3],
            ..NOTHING
        };
        trajectory_loss(&rules, 1.0 / 3.0, &inputs)
    };
    let numeric = (run(-1.0 + 1e-6).value - run(-1.0 - 1e-6).value) / 2e-6;
    assert!((run(-1.0).dlogp[0] - numeric).abs() < 1e-8);
}

#[test]
fn the_importance_weight_is_cut_at_the_cap() {
    assert!((is_weight(-1.0, -1.5, 2.0) - 0.5f64.exp()).abs() < 1e-15);
    assert_eq!(is_weight(-1.0, -9.0, 2.0), 2.0);
}

#[test]
fn values_are_the_papers() {
    for clip in [CLIP, DUAL] {
        for r in RATIOS {
            for a in ADVANTAGES {
                for rule in [ClipRule::Ppo(clip), ClipRule::Balanced(clip), ClipRule::Gppo(clip)] {
                    let term = token_term(&rule, r, a, -1.0);
                    assert!((term.value - ppo_value(&clip, r, a)).abs() < 1e-12, "{rule:?} r={r} A={a}");
                }
            }
        }
    }
}

#[test]
fn gradients_match_finite_differences() {
    let h = 1e-6;
    for clip in [CLIP, DUAL] {
        for r0 in RATIOS {
            for a in ADVANTAGES {
                let logp = r0.ln();
                let slope = |f: &dyn Fn(f64) -> f64| (f((logp + h).exp()) - f((logp - h).exp())) / (2.0 * h);
                let ppo = slope(&|r| ppo_value(&clip, r, a));
                assert!((token_term(&ClipRule::Ppo(clip), r0, a, -1.0).dlogp - ppo).abs() < 1e-6, "ppo r={r0} A={a}");
                let balanced = slope(&|r| balanced_surrogate(&clip, r, r0, a));
                let got = token_term(&ClipRule::Balanced(clip), r0, a, -1.0).dlogp;
                assert!((got - balanced).abs() < 1e-6, "balanced r={r0} A={a}: {got} {balanced}");
            }
        }
    }
}

#[test]
fn balancing_differs_from_ppo_only_above_the_band() {
    for r in RATIOS {
        for a in ADVANTAGES {
            let (p, b) =
                (token_term(&ClipRule::Ppo(CLIP), r, a, -1.0), token_term(&ClipRule::Balanced(CLIP), r, a, -1.0));
            assert_eq!((p.value, p.side), (b.value, b.side));
            if r > 1.28 && a > 0.0 {
                assert_eq!((p.dlogp, b.dlogp), (0.0, -a * 1.28));
            } else {
                assert_eq!(p.dlogp, b.dlogp);
            }
        }
    }
}

#[test]
fn k3_is_never_negative_and_its_gradient_is_right() {
    for (logp, reference) in [(-1.0, -1.0), (-0.2, -3.0), (-3.0, -0.2), (-1.0, -1.001)] {
        let (value, slope) = kl_k3(logp, reference);
        assert!(value >= 0.0);
        let h = 1e-5;
        let numeric = (kl_k3(logp + h, reference).0 - kl_k3(logp - h, reference).0) / (2.0 * h);
        assert!((slope - numeric).abs() < 1e-6, "{slope} {numeric}");
    }
    // Python: exp(-0.5) + 0.5 - 1
    assert!((kl_k3(-1.0, -1.5).0 - 0.106_530_659_712_633_42).abs() < 1e-15);
}

#[test]
fn weights_of_the_two_means() {
    assert_eq!(Aggregation::TokenMean.weights(&[3, 1, 0]), [0.25; 3]);
    let w = Aggregation::SeqMeanTokenMean.weights(&[4, 1, 0]);
    // Two trajectories are present; the third has nothing that its weight could touch.
    assert_eq!(w[..2], [0.125, 0.5]);
    assert_eq!(Aggregation::TokenMean.weights(&[]), Vec::<f64>::new());
}

#[test]
fn the_whole_loss_of_a_trajectory() {
    let rules = LossRules {
        clip: ClipRule::Balanced(CLIP),
        aggregation: Aggregation::TokenMean,
        ratio: RatioScope::Token,
        kl_coef: 0.1,
        entropy_coef: 0.01,
        is_cap: None,
    };
    let (logprobs, old) = ([-1.0f64, -0.5, -2.0], [-1.1f64, -1.5, -2.0]);
    let (reference, entropies) = ([-1.0f64, -0.6, -2.5], [0.5f64, 0.25, 1.0]);
    let advantages = [1.0, 2.0, -1.0];
    let run = |logprobs: &[f64], entropies: &[f64]| {
        let inputs = TokenInputs {
            logprobs,
            old_logprobs: &old,
            ref_logprobs: &reference,
            entropies,
            advantages: &advantages,
            ..NOTHING
        };
        trajectory_loss(&rules, 0.25, &inputs)
    };
    let out = run(&logprobs, &entropies);
    assert_eq!((out.sums.n_tokens, out.sums.n_high, out.sums.n_low), (3, 1, 0));
    // Token 1 is above the band with A > 0: −A·(1+ε_h) plus the divergence's gradient 1 − e^{−0.1}.
    let want = 0.25 * (-2.0 * 1.28 + 0.1 * (1.0 - (-0.1f64).exp()));
    assert!((out.dlogp[1] - want).abs() < 1e-7, "{} {want}", out.dlogp[1]);
    assert_eq!(out.dentropy, [-0.0025; 3]);
    // The entropy's coefficient against a difference quotient (the loss is linear in H).
    let up = run(&logprobs, &[1.5, 0.25, 1.0]);
    assert!((up.value - out.value + 0.0025).abs() < 1e-9);
    // In the band the value's difference quotient is the gradient.
    let up = run(&[-1.0 + 1.0 / 128.0, -0.5, -2.0], &entropies);
    let down = run(&[-1.0 - 1.0 / 128.0, -0.5, -2.0], &entropies);
    assert!(((up.value - down.value) * 64.0 - out.dlogp[0]).abs() < 1e-4);
}

#[test]
fn without_a_coefficient_the_reference_is_not_read() {
    let rules = LossRules {
        clip: ClipRule::Ppo(CLIP),
        ratio: RatioScope::Token,
        aggregation: Aggregation::TokenMean,
        kl_coef: 0.0,
        entropy_coef: 0.0,
        is_cap: None,
    };
    let inputs = TokenInputs {
        logprobs: &[-1.0],
        old_logprobs: &[-1.0],
        ref_logprobs: &[],
        entropies: &[0.3],
        advantages: &[0.5],
        ..NOTHING
    };
    let out = trajectory_loss(&rules, 1.0, &inputs);
    assert_eq!((out.value, out.dlogp, out.dentropy.len()), (-0.5, vec![-0.5], 0));
}

#[test]
fn what_clipping_takes_from_high_entropy_tokens_is_measured() {
    let clip = Clip { low: 0.2, high: 0.2, dual: None };
    // Ratios 2, 0.5 and 1: with A > 0 the first lies above the band, with A < 0 the second below it.
    let logprobs = [2.0f64.ln() - 1.0, 0.5f64.ln() - 1.0, -1.0];
    let masses = |clip: ClipRule, advantage: f64| {
        let rules = LossRules {
            clip,
            ratio: RatioScope::Token,
            aggregation: Aggregation::TokenMean,
            kl_coef: 0.0,
            entropy_coef: 0.0,
            is_cap: None,
        };
        let inputs = TokenInputs {
            logprobs: &logprobs,
            old_logprobs: &[-1.0; 3],
            entropies: &[0.0; 3],
            rollout_entropies: &[0.9, 0.9, 0.1],
            high_entropy: 0.5,
            advantages: &[advantage; 3],
            ..NOTHING
        };
        let sums = trajectory_loss(&rules, 0.5, &inputs).sums;
        assert!((sums.rest.kept - 0.5).abs() < 1e-12 && sums.rest.lost == 0.0);
        (sums.high.kept, sums.high.lost)
    };
    let near = |got: (f64, f64), want: (f64, f64)| {
        assert!((got.0 - want.0).abs() < 1e-12 && (got.1 - want.1).abs() < 1e-12, "{got:?} {want:?}");
    };
    near(masses(ClipRule::Ppo(clip), 1.0), (0.25, 1.0));
    near(masses(ClipRule::Balanced(clip), 1.0), (0.25 + 0.6, 0.4));
    near(masses(ClipRule::Balanced(clip), -1.0), (1.0, 0.25));
    near(masses(ClipRule::Gppo(clip), -1.0), (1.0 + 0.4, 0.0));
    assert_eq!((share(0.0, 0.0), share(1.0, 3.0), share(f64::INFINITY, 1.0)), (0.0, 0.25, 1.0));
}
