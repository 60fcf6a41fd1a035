//! Is the update the gradient of the unrolled loss, whatever the packing, and is nothing paid twice?

use super::*;
use crate::policy::SampleParams;
use crate::rollout::branch::BranchRule;
use crate::rollout::budget::BudgetRule;
use crate::rollout::drive::{DriveSettings, DriveTask, Protocol, drive};
use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::RolloutTree;
use crate::testing::{ShuffledTools, TablePolicy, VOCAB, limits, parse, render_result, stop};
use crate::train::loss::{Aggregation, Clip, ClipRule, RatioScope};
use crate::train::pack::TrainSample;

fn model() -> TablePolicy {
    TablePolicy::new(VOCAB, 200, Seed(11))
}

fn trees() -> Vec<RolloutTree> {
    let settings = DriveSettings {
        k: 6,
        budget: BudgetRule::Fixed { initial_rollouts: 2 },
        branch: BranchRule::Entropy { alpha: 0.6, gamma: 0.2, tau: 0.5, penalty_slope: 0.0 },
        entropy_tokens: 3,
        branch_width: 1,
        limits: limits(),
        params: SampleParams { temperature: 0.8, top_p: 1.0, top_k: 0, top_entropy: false },
        max_live_paths: 1000,
    };
    let tasks: Vec<DriveTask> =
        (0..5).map(|i| DriveTask { prompt: vec![0, 5 + i as u32], seed: Seed(2).child(i) }).collect();
    let protocol = Protocol { stop: stop(), parse: &parse, render_result: &render_result };
    drive(&mut model(), &mut ShuffledTools::new(Seed(1)), &protocol, &tasks, &settings, &mut |_| {}).unwrap()
}

/// Advantages that differ by trajectory and token; group `silent` has none.
fn groups(trees: &[RolloutTree], silent: Option<usize>) -> Vec<TrainGroup<'_>> {
    let group = |(g, tree)| {
        let samples = Trajectory::all(tree)
            .iter()
            .enumerate()
            .map(|(s, t)| {
                let size = if silent == Some(g) { 0.0 } else { 1.0 };
                let advantage = |i: usize| size * (Seed(g as u64).child(s as u64).uniform(i as u64) * 2.0 - 0.9);
                TrainSample::new(s, t, 0.0, (0..t.n_sampled()).map(advantage).collect())
            })
            .collect();
        TrainGroup { tree, samples }
    };
    trees.iter().enumerate().map(group).collect()
}

fn settings() -> UpdateSettings {
    UpdateSettings {
        loss: LossRules {
            clip: ClipRule::Balanced(Clip { low: 0.2, high: 0.2, dual: None }),
            ratio: RatioScope::Token,
            aggregation: Aggregation::TokenMean,
            kl_coef: 0.0,
            entropy_coef: 0.0,
            is_cap: None,
        },
        reward_kl: 0.0,
        temperature: 0.8,
        minibatches: 1,
        epochs: 1,
        max_batch_tokens: 100_000,
        step: StepParams {
            learning_rate: 1.0,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            max_grad_norm: f32::INFINITY,
        },
        seed: Seed(0),
        high_entropy: f64::INFINITY,
    }
}

/// The weights after an update with learning rate 1, less the weights before: the gradient, negated.
fn change(groups: &[TrainGroup<'_>], settings: &UpdateSettings) -> (Vec<f64>, UpdateReport) {
    let mut policy = model();
    let mut reference = TablePolicy::new(VOCAB, 200, Seed(12));
    let before = policy.logits.concat();
    let report = update(&mut policy, Some(&mut reference), groups, settings, &mut |_| {}).unwrap();
    (policy.logits.concat().iter().zip(before).map(|(a, b)| a - b).collect(), report)
}

fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    let scale = a.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    assert!(scale > 0.0);
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= tolerance * scale, "{x} {y}");
    }
}

/// Loss of the unrolled trajectories under any weights, written out from the formulas for r = 1 at `old`.
fn unrolled_loss(policy: &TablePolicy, old: &TablePolicy, groups: &[TrainGroup<'_>], s: &UpdateSettings) -> f64 {
    let counts: Vec<usize> = groups.iter().flat_map(|g| g.samples.iter().map(|x| x.advantages.len())).collect();
    let n_tokens: usize = counts.iter().sum();
    let n_present = counts.iter().filter(|&&n| n > 0).count();
    let reference = TablePolicy::new(VOCAB, 200, Seed(12));
    let mut loss = 0.0;
    for group in groups {
        for (sample, t) in group.samples.iter().zip(Trajectory::all(group.tree)) {
            let (ids, mask) = (t.ids(), t.mask());
            let sampled: Vec<usize> = (0..ids.len()).filter(|&i| mask[i]).collect();
            let weight = match s.loss.aggregation {
                Aggregation::TokenMean => 1.0 / n_tokens as f64,
                Aggregation::SeqMeanTokenMean => 1.0 / (n_present * sampled.len().max(1)) as f64,
            };
            for (i, a) in sampled.iter().zip(&sample.advantages) {
                let at = |p: &TablePolicy| p.distribution(ids[i - 1], f64::from(s.temperature));
                let (logp, entropy) = at(policy);
                let token = ids[*i] as usize;
                let r = (logp[token] - at(old).0[token]).exp();
                let kl = kl(logp[token], at(&reference).0[token]);
                loss += weight * (-r * a + s.loss.kl_coef * kl - s.loss.entropy_coef * entropy);
            }
        }
    }
    loss
}

fn kl(logp: f64, reference: f64) -> f64 {
    (reference - logp).exp() - (reference - logp) - 1.0
}

#[test]
fn the_update_is_the_gradient_of_the_unrolled_loss() {
    let trees = trees();
    assert!(trees.iter().any(|t| t.leaves.iter().any(|l| l.key.0.len() > 1)), "the test needs shared prefixes");
    let groups = groups(&trees, None);
    for aggregation in [Aggregation::TokenMean, Aggregation::SeqMeanTokenMean] {
        for (kl_coef, entropy_coef) in [(0.0, 0.0), (0.3, 0.05)] {
            let mut s = settings();
            s.loss = LossRules { aggregation, kl_coef, entropy_coef, ..s.loss };
            let (delta, report) = change(&groups, &s);
            let old = model();
            assert!((report.loss - unrolled_loss(&old, &old, &groups, &s)).abs() < 1e-6);
            let h = 1e-5;
            let mut numeric = Vec::new();
            for row in 0..VOCAB {
                for col in 0..VOCAB {
                    let moved = |by: f64| {
                        let mut p = model();
                        p.logits[row][col] += by;
                        unrolled_loss(&p, &old, &groups, &s)
                    };
                    numeric.push(-(moved(h) - moved(-h)) / (2.0 * h));
                }
            }
            assert_close(&numeric, &delta, 1e-5);
        }
    }
}

#[test]
fn packing_and_shared_prefixes_change_nothing() {
    let trees = trees();
    let groups = groups(&trees, Some(3));
    let (whole, report) = change(&groups, &settings());
    for ratio in [RatioScope::Sequence, RatioScope::Turn] {
        let of = |max_batch_tokens| {
            let mut s = UpdateSettings { max_batch_tokens, epochs: 3, ..settings() };
            (s.loss.ratio, s.step.learning_rate) = (ratio, 30.0);
            change(&groups, &s).0
        };
        assert_close(&of(100_000), &of(60), 1e-5);
    }
    for max_batch_tokens in [1, 60, 150, 400] {
        let (again, other) = change(&groups, &UpdateSettings { max_batch_tokens, ..settings() });
        assert_close(&whole, &again, 1e-6);
        assert_eq!(report.n_unique_tokens, other.n_unique_tokens);
        assert_eq!(report.sums.n_tokens, other.sums.n_tokens);
    }
    // Every trajectory a tree of its own.
    let mut linear_trees = Vec::new();
    let mut advantages = Vec::new();
    for group in &groups {
        advantages.extend(group.samples.iter().map(|s| s.advantages.clone()));
        linear_trees.extend(group.unrolled());
    }
    let linear: Vec<TrainGroup<'_>> = linear_trees
        .iter()
        .zip(advantages)
        .map(|(tree, a)| TrainGroup { tree, samples: vec![TrainSample::new(0, &Trajectory::all(tree)[0], 0.0, a)] })
        .collect();
    let (unrolled, other) = change(&linear, &settings());
    assert_close(&whole, &unrolled, 1e-6);
    assert!(report.n_unique_tokens < report.n_unrolled_tokens);
    assert_eq!(other.n_unique_tokens, report.n_unrolled_tokens);
}

#[test]
fn one_optimiser_step_pays_one_forward_pass_and_a_silent_group_none() {
    let trees = trees();
    let groups = groups(&trees, Some(1));
    let mut policy = model();
    let report = update(&mut policy, None, &groups, &settings(), &mut |stage| {
        assert_eq!(stage, UpdateStage::Optimise);
    })
    .unwrap();
    let active: usize = [0, 2, 3, 4].iter().map(|&g| groups[g].n_unique_tokens()).sum();
    assert_eq!((policy.n_forward_tokens, policy.n_steps), (active, 1));
    assert_eq!((report.n_unique_tokens, report.n_applied), (active, 1));
    // The silent group still counts in the denominator: without it the gradient is larger by the share of tokens.
    let n = |gs: &[&TrainGroup<'_>]| gs.iter().flat_map(|g| &g.samples).map(|s| s.advantages.len()).sum::<usize>();
    let with = n(&groups.iter().collect::<Vec<_>>()) as f64;
    let loud: Vec<TrainGroup<'_>> =
        groups.iter().enumerate().filter(|(g, _)| *g != 1).map(|(_, g)| g.clone()).collect();
    let without = n(&loud.iter().collect::<Vec<_>>()) as f64;
    let (a, b) = (change(&groups, &settings()).0, change(&loud, &settings()).0);
    assert_close(&a.iter().map(|x| x * with / without).collect::<Vec<_>>(), &b, 1e-6);
}

#[test]
fn several_steps_take_the_old_logprobs_from_the_start_of_the_step() {
    let trees = trees();
    let groups = groups(&trees, None);
    let mut s = UpdateSettings { minibatches: 2, epochs: 3, ..settings() };
    s.step.learning_rate = 30.0;
    let mut policy = model();
    let mut stages = Vec::new();
    let report = update(&mut policy, None, &groups, &s, &mut |stage| stages.push(stage)).unwrap();
    assert_eq!(stages, [UpdateStage::OldLogprobs, UpdateStage::Optimise]);
    assert_eq!((report.n_applied, policy.n_steps), (6, 6));
    let per_pass: usize = groups.iter().map(TrainGroup::n_unique_tokens).sum();
    assert_eq!(policy.n_forward_tokens, 4 * per_pass, "one scoring pass and one pass per epoch");
    // Later steps move away from the old weights, which a fresh `old` every step would hide.
    assert!(report.sums.kl_old > 0.0 && report.sums.n_high + report.sums.n_low > 0);
    assert!(report.mismatch.max_abs < 1e-6, "sampler and trainer are the same model here");
    let (first, _) = change(&groups, &s);
    assert_eq!(first, change(&groups, &s).0);
    assert_ne!(first, change(&groups, &UpdateSettings { seed: Seed(1), ..s }).0);
}

#[test]
fn without_a_divergence_no_reference_is_evaluated_and_with_one_it_is_needed() {
    let trees = trees();
    let groups = groups(&trees, None);
    let (mut policy, mut reference) = (model(), model());
    update(&mut policy, Some(&mut reference), &groups, &settings(), &mut |_| {}).unwrap();
    assert_eq!(reference.n_forwards, 0);
    let mut s = settings();
    s.loss.kl_coef = 0.1;
    let error = update(&mut policy, None, &groups, &s, &mut |_| {}).unwrap_err();
    assert!(matches!(error, UpdateError::NoReference(_)));
    update(&mut policy, Some(&mut reference), &groups, &s, &mut |_| {}).unwrap();
    assert_eq!(reference.n_forwards, 1);
}

#[test]
fn a_divergence_in_the_reward_moves_the_policy_towards_the_reference() {
    let trees = trees();
    let mut groups = groups(&trees, None);
    // Equal rewards: the divergence is all there is to learn.
    for sample in groups.iter_mut().flat_map(|g| &mut g.samples) {
        (sample.reward, sample.advantages) = (0.5, vec![0.0; sample.advantages.len()]);
    }
    let s = UpdateSettings { reward_kl: 0.1, ..settings() };
    let mut policy = model();
    assert!(matches!(update(&mut policy, None, &groups, &s, &mut |_| {}), Err(UpdateError::NoReference(_))));
    let (delta, report) = change(&groups, &s);
    assert!(report.n_applied == 1 && report.sums.kl_ref > 0.0, "what is evaluated is recorded too");

    // The same from the formula: returns to go of the log-ratios, standardised over the batch, times ∂logp.
    let reference = TablePolicy::new(VOCAB, 200, Seed(12));
    let at = |p: &TablePolicy, last: u32| p.distribution(last, f64::from(s.temperature)).0;
    let mut tokens: Vec<(u32, u32, f64)> = Vec::new();
    for t in trees.iter().flat_map(Trajectory::all) {
        let (ids, mask, mut to_go) = (t.ids(), t.mask(), 0.5);
        for i in (1..ids.len()).rev().filter(|&i| mask[i]) {
            let (last, token) = (ids[i - 1], ids[i]);
            to_go -= 0.1 * (at(&policy, last)[token as usize] - at(&reference, last)[token as usize]);
            tokens.push((last, token, to_go));
        }
    }
    let n = tokens.len() as f64;
    let mean = tokens.iter().map(|t| t.2).sum::<f64>() / n;
    let std = (tokens.iter().map(|t| (t.2 - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let mut expected = vec![vec![0.0; VOCAB]; VOCAB];
    for (last, token, to_go) in tokens {
        for (v, l) in at(&policy, last).iter().enumerate() {
            let hit = f64::from(u8::from(v == token as usize));
            expected[last as usize][v] += (to_go - mean) / std / n * (hit - l.exp()) / f64::from(s.temperature);
        }
    }
    assert_close(&expected.concat(), &delta, 1e-4);
}

#[test]
fn an_importance_weight_scales_the_surrogate_and_a_cap_bounds_it() {
    let trees = trees();
    let groups = groups(&trees, None);
    // Sampler and trainer agree, so every weight is 1 up to rounding.
    let capped = |is_cap, temperature| {
        let mut s = UpdateSettings { temperature, ..settings() };
        s.loss.is_cap = is_cap;
        change(&groups, &s)
    };
    assert_close(&capped(None, 0.8).0, &capped(Some(2.0), 0.8).0, 1e-5);
    // At another temperature they do not.
    let (free, loose, tight) = (capped(None, 1.2), capped(Some(1e9), 1.2), capped(Some(1.0), 1.2));
    assert!(free.0 != loose.0 && loose.0 != tight.0);
    assert_eq!((loose.1.sums.n_capped, free.1.sums.n_capped), (0, 0));
    assert!(tight.1.sums.n_capped > 0 && tight.1.sums.n_capped < tight.1.sums.n_tokens);
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing_and_is_counted() {
    let trees = trees();
    let mut groups = groups(&trees, None);
    groups[2].samples[0].advantages[0] = f64::NAN;
    let (delta, report) = change(&groups, &UpdateSettings { max_batch_tokens: 1, ..settings() });
    assert_eq!((report.n_not_finite, report.n_applied), (1, 0));
    assert_eq!(report.loss, 0.0, "what was refused is in no mean");
    assert!(delta.iter().all(|&d| d == 0.0));
}

#[test]
fn the_objective_falls_from_epoch_to_epoch_over_the_same_tokens() {
    let trees = trees();
    let (_, report) = change(&groups(&trees, None), &UpdateSettings { epochs: 3, ..settings() });
    let losses = &report.loss_by_epoch;
    assert_eq!((losses.len(), report.n_applied), (3, 3));
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
    assert!((report.loss - losses.iter().sum::<f64>() / 3.0).abs() < 1e-12);
}

#[test]
fn nothing_to_learn_is_no_step() {
    let trees = trees();
    let mut groups = groups(&trees, None);
    for sample in groups.iter_mut().flat_map(|g| &mut g.samples) {
        sample.advantages.fill(0.0);
    }
    let mut policy = model();
    let report = update(&mut policy, None, &groups, &settings(), &mut |_| {}).unwrap();
    assert_eq!((policy.n_forwards, policy.n_steps, report.n_empty), (0, 0, 1));
}

#[test]
fn a_mismatch_is_measured_at_the_same_weights() {
    let trees = trees();
    let groups = groups(&trees, None);
    // The trainer's temperature is not the sampler's, so the two disagree.
    let (_, report) = change(&groups, &UpdateSettings { temperature: 1.2, ..settings() });
    assert!(report.mismatch.sum_abs > 0.0 && report.mismatch.max_abs > 0.1 && report.mismatch.n_outside > 0);
    assert!(report.mismatch.n_outside < report.mismatch.n_tokens);
}
