//! Do the rules of rollout and update give the numbers of the papers' formulas? The numbers come from
//! `golden/make_rules.py`, which shares no code with this crate and takes its gradients from autograd.

use std::collections::BTreeMap;

use aepo::algo::Algorithm;
use aepo::apply::{Batch, apply};
use aepo::rollout::branch::{aepo_reference_score, arpo_reference_score, entropy_verdict};
use aepo::rollout::budget::{entropy_split, reference_split};
use aepo::score::overlong_punishment;
use aepo::train::advantage::{EntropyStats, entropy_factor, group_advantages};
use aepo::train::loss::{Aggregation, Clip, ClipRule, LossRules, RatioScope, TokenInputs, trajectory_loss};
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
    budget_reference: Vec<BudgetReferenceCase>,
    branch_reference: Vec<BranchReferenceCase>,
    overlong: Vec<OverlongCase>,
    apply_batches: Vec<ApplyBatch>,
    apply: Vec<ApplyCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetReferenceCase {
    k: usize,
    root: f64,
    tool: f64,
    m: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BranchReferenceCase {
    uniform: f64,
    entropy_delta: f64,
    count: u32,
    aepo: f64,
    arpo: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverlongCase {
    n: usize,
    longest: usize,
    share: f64,
    punishment: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyBatch {
    name: String,
    input: serde_json::Value,
}

/// A whole algorithm on a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyCase {
    algo: String,
    sets: BTreeMap<String, String>,
    batch: String,
    loss: f64,
    metrics: ApplyMetrics,
    groups: Vec<Vec<ApplyRow>>,
}

/// What overflows is absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyMetrics {
    clip_frac_high: f64,
    clip_frac_low: f64,
    clip_frac_dual: f64,
    kl_k3: Option<f64>,
    old_kl_k3: Option<f64>,
    entropy: f64,
    is_frac_capped: Option<f64>,
    n_tokens: usize,
    n_groups_dropped: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyRow {
    advantage: Vec<f64>,
    dloss_dlogp: Vec<f64>,
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
    logp: Vec<f64>,
    old_logp: Vec<f64>,
    ref_logp: Vec<f64>,
    entropy: Vec<f64>,
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
        let entropies: Vec<Vec<f64>> = case.entropies.iter().zip(&case.masks).map(|(h, m)| sampled(h, m)).collect();
        let stats = EntropyStats::over(entropies.iter().flatten().copied());
        for (i, entropies) in entropies.iter().enumerate() {
            let got: Vec<f64> =
                entropies.iter().map(|&h| case.advantages[i] * entropy_factor(case.weight, stats.z(h))).collect();
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
            ratio: RatioScope::Token,
            aggregation: match case.aggregation {
                Mean::TokenMean => Aggregation::TokenMean,
                Mean::SeqMeanTokenMean => Aggregation::SeqMeanTokenMean,
            },
            kl_coef: case.kl_coef,
            entropy_coef: case.entropy_coef,
            is_cap: None,
        };
        let weights = rules.aggregation.weights(&n_sampled);
        let mut value = 0.0;
        for (i, row) in golden.batch.iter().enumerate() {
            let inputs = TokenInputs {
                logprobs: &sampled(&row.logp, &row.mask),
                old_logprobs: &sampled(&row.old_logp, &row.mask),
                ref_logprobs: &sampled(&row.ref_logp, &row.mask),
                rollout_logprobs: &[],
                turn_lens: &[],
                entropies: &sampled(&row.entropy, &row.mask),
                rollout_entropies: &[],
                high_entropy: f64::INFINITY,
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

#[test]
fn the_released_codes_rules_are_reproduced() {
    let golden = golden();
    for c in golden.budget_reference {
        assert_eq!(reference_split(c.k, c.root, c.tool), c.m, "k {} root {} tool {}", c.k, c.root, c.tool);
    }
    for c in golden.branch_reference {
        close("aepo", &[aepo_reference_score(c.uniform, c.entropy_delta, c.count)], &[c.aepo]);
        close("arpo", &[arpo_reference_score(c.uniform, c.entropy_delta)], &[c.arpo]);
    }
}

#[test]
fn overlong_trajectories_are_punished_as_the_paper_says() {
    for c in golden().overlong {
        close("punishment", &[overlong_punishment(c.n, c.longest, c.share)], &[c.punishment]);
    }
}

#[test]
fn every_algorithm_gives_the_independent_loss_advantages_and_gradients() {
    let golden = golden();
    for algorithm in Algorithm::ALL {
        let name = algorithm.bundle().name;
        for batch in &golden.apply_batches {
            let covered = golden.apply.iter().any(|c| c.algo == name && c.batch == batch.name && c.sets.is_empty());
            assert!(covered, "{name} has no golden values for {}", batch.name);
        }
    }
    for case in &golden.apply {
        let what = format!("{} {:?} on {}", case.algo, case.sets, case.batch);
        let batch = golden.apply_batches.iter().find(|b| b.name == case.batch).expect("a batch of that name");
        let batch = Batch::from_json(&batch.input.to_string()).expect("a batch of the layout");
        let sets: Vec<(String, String)> = case.sets.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let algorithm = Algorithm::named(&case.algo).expect("an algorithm of that name");
        let got = apply(algorithm, &sets, &batch).unwrap_or_else(|e| panic!("{what}: {e}"));
        close(&format!("{what}: loss"), &[got.loss], &[case.loss]);
        let (m, expected) = (&got.metrics, &case.metrics);
        close(
            &format!("{what}: clip fractions and entropy"),
            &[m.clip_frac_high, m.clip_frac_low, m.clip_frac_dual, m.entropy],
            &[expected.clip_frac_high, expected.clip_frac_low, expected.clip_frac_dual, expected.entropy],
        );
        for (kl, expected) in [(m.kl_k3, expected.kl_k3), (m.old_kl_k3, expected.old_kl_k3)] {
            match expected {
                Some(expected) => close(&format!("{what}: divergence"), &[kl], &[expected]),
                None => assert!(kl.is_infinite(), "{what}: divergence is {kl}"),
            }
        }
        assert_eq!(m.is_frac_capped, expected.is_frac_capped, "{what}");
        assert_eq!((m.n_tokens, m.n_groups_dropped), (expected.n_tokens, expected.n_groups_dropped), "{what}");
        assert_eq!(got.groups.len(), case.groups.len());
        for (g, (got, expected)) in got.groups.iter().zip(&case.groups).enumerate() {
            assert_eq!(got.trajectories.len(), expected.len());
            for (i, (got, expected)) in got.trajectories.iter().zip(expected).enumerate() {
                close(&format!("{what}: advantage of {g}.{i}"), &got.advantage, &expected.advantage);
                close(&format!("{what}: dL/dlogp of {g}.{i}"), &got.dloss_dlogp, &expected.dloss_dlogp);
            }
        }
    }
}
