//! Do the rules of rollout and update give the numbers of the papers' formulas? The numbers come from
//! `golden/make_rules.py`, which shares no code with this crate and takes its gradients from autograd.

use aepo::rollout::branch::entropy_verdict;
use aepo::rollout::budget::entropy_split;
use aepo::train::advantage::{AdvantageRule, EntropyStats, group_advantages};
use aepo::train::loss::{Aggregation, Clip, ClipRule, LossRules, TokenInputs, trajectory_loss};
use serde::Deserialize;

/// Both sides compute in f64, on inputs that f32 holds exactly.
const TOLERANCE: f64 = 1e-10;

/// The whole file: a section that nothing reads is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    group_advantage: Vec<GroupCase>,
    entropy_advantage: Vec<EntropyCase>,
    budget: Vec<BudgetCase>,
    branch: Vec<BranchCase>,
    batch: Vec<Row>,
    loss: Vec<LossCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupCase {
    rewards: Vec<f64>,
    advantages: Vec<f64>,
}

/// Ragged lists: `[n_trajectories][n_tokens]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntropyCase {
    weight: f64,
    advantages: Vec<f64>,
    entropies: Vec<Vec<f64>>,
    masks: Vec<Vec<u8>>,
    token_advantages: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetCase {
    k: usize,
    beta: f64,
    root: f64,
    tool: f64,
    m: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BranchCase {
    alpha: f64,
    gamma: f64,
    penalty_slope: f64,
    entropy_delta: f64,
    consecutive: u32,
    probability: f64,
}

/// One trajectory, tokens that the model did not sample included.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    logp: Vec<f32>,
    old_logp: Vec<f32>,
    ref_logp: Vec<f32>,
    entropy: Vec<f32>,
    advantage: Vec<f64>,
    mask: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Objective {
    Ppo,
    ClipBalanced,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mean {
    TokenMean,
    SeqMeanTokenMean,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LossCase {
    name: String,
    objective: Objective,
    aggregation: Mean,
    clip_low: f64,
    clip_high: f64,
    dual_clip: Option<f64>,
    kl_coef: f64,
    entropy_coef: f64,
    value: f64,
    dloss_dlogp: Vec<Vec<f64>>,
    dloss_dentropy: Vec<Vec<f64>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/rules.json"))
        .expect("rules.json has the layout that make_rules.py writes")
}

#[track_caller]
fn close(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}: another number of values");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= TOLERANCE * e.abs().max(1.0), "{what}[{i}]: {g}, expected {e}");
    }
}

/// The values at sampled tokens.
fn sampled<T: Copy>(values: &[T], mask: &[u8]) -> Vec<T> {
    values.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(v, _)| *v).collect()
}

#[test]
fn group_advantages_are_the_papers() {
    for case in golden().group_advantage {
        close(&format!("{:?}", case.rewards), &group_advantages(&case.rewards), &case.advantages);
    }
}

#[test]
fn entropy_aware_advantages_are_the_papers() {
    for case in golden().entropy_advantage {
        let rule = AdvantageRule::EntropyAware { entropy_weight: case.weight };
        let entropies: Vec<Vec<f64>> = case.entropies.iter().zip(&case.masks).map(|(h, m)| sampled(h, m)).collect();
        let stats = EntropyStats::over(entropies.iter().flatten().copied());
        for (i, entropies) in entropies.iter().enumerate() {
            let got: Vec<f64> =
                entropies.iter().map(|&h| rule.token_advantage(case.advantages[i], h, &stats)).collect();
            close("token advantages", &got, &sampled(&case.token_advantages[i], &case.masks[i]));
        }
    }
}

#[test]
fn budgets_are_the_papers() {
    for c in golden().budget {
        let m = entropy_split(c.k, c.beta, c.root, c.tool);
        assert_eq!(m, c.m, "k {} beta {} root {} tool {}", c.k, c.beta, c.root, c.tool);
    }
}

#[test]
fn branch_probabilities_are_the_papers() {
    const TAU: f64 = 0.5;
    for c in golden().branch {
        let got = entropy_verdict(c.alpha, c.gamma, TAU, c.penalty_slope, c.entropy_delta, c.consecutive);
        close("probability", &[got.probability], &[c.probability]);
        assert_eq!(got.fork, got.probability > TAU);
    }
}

#[test]
fn losses_and_their_gradients_are_the_papers() {
    let golden = golden();
    let n_sampled: Vec<usize> = golden.batch.iter().map(|row| row.mask.iter().filter(|m| **m == 1).count()).collect();
    assert!(n_sampled.contains(&0), "the batch has a trajectory without sampled tokens");
    for case in &golden.loss {
        let clip = Clip { low: case.clip_low, high: case.clip_high, dual: case.dual_clip };
        let rules = LossRules {
            clip: match case.objective {
                Objective::Ppo => ClipRule::Ppo(clip),
                Objective::ClipBalanced => ClipRule::Balanced(clip),
            },
            aggregation: match case.aggregation {
                Mean::TokenMean => Aggregation::TokenMean,
                Mean::SeqMeanTokenMean => Aggregation::SeqMeanTokenMean,
            },
            kl_coef: case.kl_coef,
            entropy_coef: case.entropy_coef,
        };
        let weights = rules.aggregation.weights(&n_sampled);
        let mut value = 0.0;
        for (i, row) in golden.batch.iter().enumerate() {
            let inputs = TokenInputs {
                logprobs: &sampled(&row.logp, &row.mask),
                old_logprobs: &sampled(&row.old_logp, &row.mask),
                ref_logprobs: &sampled(&row.ref_logp, &row.mask),
                entropies: &sampled(&row.entropy, &row.mask),
                advantages: &sampled(&row.advantage, &row.mask),
            };
            let got = trajectory_loss(&rules, weights[i], &inputs);
            value += got.value;
            let what = |of: &str| format!("{}: {of} of trajectory {i}", case.name);
            close(&what("dL/dlogp"), &got.dlogp, &sampled(&case.dloss_dlogp[i], &row.mask));
            if case.entropy_coef != 0.0 {
                close(&what("dL/dH"), &got.dentropy, &sampled(&case.dloss_dentropy[i], &row.mask));
            }
        }
        close(&format!("{}: value", case.name), &[value], &[case.value]);
    }
}
