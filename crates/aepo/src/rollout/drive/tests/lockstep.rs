//! Are forks drawn in rounds of a task, on the entropies and the counter that the released code uses?

use std::collections::BTreeMap;

use super::{aepo, drawn, grow, model, tasks, trees};
use crate::policy::SampleParams;
use crate::rollout::branch::{BranchRule, Decision, Outcome, aepo_reference_score, arpo_reference_score};
use crate::rollout::budget::{BudgetRule, reference_split};
use crate::rollout::drive::{DriveSettings, Limits};
use crate::rollout::trajectory::{Trajectory, reference_entropy};
use crate::rollout::tree::{PathKey, RolloutTree};
use crate::seed::Seed;
use crate::testing::{ANSWER, ShuffledTools, VOCAB};

fn drawn_arpo() -> DriveSettings {
    let params = SampleParams { top_entropy: true, ..aepo().params };
    let budget = BudgetRule::Fixed { initial_rollouts: 3 };
    DriveSettings { budget, branch: BranchRule::DrawnArpo, branch_width: 2, params, ..aepo() }
}

fn path<'a>(tree: &'a RolloutTree, d: &Decision) -> Trajectory<'a> {
    Trajectory::new(tree, tree.leaves.iter().find(|l| l.key == d.path).unwrap())
}

/// Entropies of a path's turns as the released code measures them.
fn turns(path: &Trajectory<'_>) -> Vec<f64> {
    path.kinds().filter(|k| !k.sampled().is_empty()).map(|k| reference_entropy(k.sampled(), 3, VOCAB)).collect()
}

#[test]
fn the_measure_is_a_sum_over_the_ten_likeliest_in_units_of_the_vocabulary() {
    let policy = model();
    for tree in trees(&drawn(), 2) {
        for t in Trajectory::all(&tree) {
            let (ids, mask) = (t.ids(), t.mask());
            let mut n = 0;
            for (i, token) in (0..ids.len()).filter(|&i| mask[i]).zip(t.sampled()) {
                let mut logp = policy.distribution(ids[i - 1], 1.0).0;
                logp.sort_by(|a, b| b.total_cmp(a));
                let expected = -logp[..10].iter().map(|l| l.exp() * l).sum::<f64>();
                assert!((f64::from(token.top_entropy) - expected).abs() < 1e-6);
                n += 1;
            }
            assert_eq!(n, t.n_sampled());
            let first: Vec<_> = t.sampled().take(3).copied().collect();
            let sum: f64 = first.iter().map(|t| f64::from(t.top_entropy)).sum();
            assert_eq!(reference_entropy(&first, 3, VOCAB), sum / (VOCAB as f64).ln());
        }
    }
}

#[test]
fn the_first_turn_counts_in_the_mean_that_divides_the_budget() {
    for tree in trees(&drawn(), 6) {
        let turns = turns(&Trajectory::new(&tree, &tree.leaves[0]));
        let mean = turns.iter().sum::<f64>() / turns.len() as f64;
        assert_eq!(tree.budget.n_global, reference_split(8, turns[0], mean));
    }
}

/// The seed of a path, from its name.
fn seed_of(task: Seed, key: &[u32]) -> Seed {
    let root = task.child(1).child(u64::from(key[0]));
    key[1..].chunks(2).fold(root, |s, pair| s.child(1).child(u64::from(pair[0])).child(u64::from(pair[1])))
}

/// Replays every round of a tree from its paths and seed alone, and counts how decisions came out.
fn check_rounds(task: Seed, tree: &RolloutTree, settings: &DriveSettings, seen: &mut BTreeMap<&str, usize>) {
    let mut rounds: BTreeMap<u32, Vec<&Decision>> = BTreeMap::new();
    for d in &tree.decisions {
        rounds.entry(d.n_calls).or_default().push(d);
    }
    let (mut c, mut n_paths) = (0, tree.budget.n_global);
    for (round, decisions) in rounds {
        // All paths that were there and went on behind their n-th result take part, in the order of their keys.
        let takes_part =
            |key: &[u32]| (key[0] as usize) < tree.budget.n_global && key[1..].chunks(2).all(|pair| pair[0] < round);
        let there: Vec<&PathKey> = tree
            .leaves
            .iter()
            .filter(|l| takes_part(&l.key.0) && turns(&Trajectory::new(tree, l)).len() > round as usize)
            .map(|l| &l.key)
            .collect();
        assert_eq!(decisions.iter().map(|d| &d.path).collect::<Vec<_>>(), there);
        let mut n_added = 0;
        for d in decisions {
            // The turn before the call against the path's own first turn, of this very step: 0 at the first call.
            let turns = turns(&path(tree, d));
            let delta = turns[round as usize - 1] - turns[0];
            assert_eq!((d.entropy, d.entropy_delta, d.time), (turns[round as usize - 1], delta, round as usize));
            let is_aepo = settings.branch == BranchRule::DrawnAepo;
            assert_eq!(d.n_consecutive, if is_aepo { c } else { 0 });
            let draws = seed_of(task, &d.path.0).child(4).child(u64::from(round));
            let forks = |i: usize, c: u32| match is_aepo {
                true => aepo_reference_score(draws.uniform(i as u64), delta, c) >= 0.5,
                false => arpo_reference_score(draws.uniform(i as u64), delta) <= 0.5,
            };
            let n_wanted = (0..settings.branch_width).filter(|&i| forks(i, d.n_consecutive)).count();
            assert_eq!(d.n_children, n_wanted.min(settings.k - n_paths));
            let (name, expected) = match d.outcome {
                Outcome::Forked => ("forked", d.n_children > 0),
                Outcome::NoBudget => ("no budget", n_wanted > 0 && n_paths == settings.k),
                Outcome::Penalised => ("penalised", n_wanted == 0 && (0..settings.branch_width).any(|i| forks(i, 0))),
                Outcome::LowEntropy => ("low", !(0..settings.branch_width).any(|i| forks(i, 0))),
            };
            assert!(expected, "{d:?}");
            *seen.entry(name).or_default() += 1;
            let of_round = |key: &[u32]| {
                key.len() == d.path.0.len() + 2 && key.starts_with(&d.path.0) && key[d.path.0.len()] == round
            };
            assert_eq!(tree.leaves.iter().filter(|l| of_round(&l.key.0)).count(), d.n_children);
            n_added += d.n_children;
            n_paths += d.n_children;
        }
        c = if n_added > 0 { c + 1 } else { 0 };
        if c > 1 {
            *seen.entry("in a chain").or_default() += 1;
        }
    }
    let n_filled = tree.leaves.iter().filter(|l| l.key.0[0] as usize >= tree.budget.n_global).count();
    assert_eq!(n_paths + n_filled, settings.k);
}

#[test]
fn rounds_follow_the_draws_the_entropies_before_the_call_and_the_counter_of_the_task() {
    let wide = DriveSettings { k: 24, branch_width: 2, ..drawn() };
    let chained = DriveSettings { limits: Limits { n_calls: 12, response_tokens: 400, ..aepo().limits }, ..wide };
    let mut seen = BTreeMap::new();
    for settings in [drawn(), wide, chained, drawn_arpo()] {
        for seed in 0..8 {
            for (task, tree) in tasks(5, seed).iter().zip(trees(&settings, seed)) {
                check_rounds(task.seed, &tree, &settings, &mut seen);
            }
        }
    }
    for name in ["forked", "no budget", "penalised", "low", "in a chain"] {
        assert!(seen.get(name).is_some_and(|&n| n > 3), "{seen:?}");
    }
}

#[test]
fn drawn_trees_do_not_depend_on_the_order_of_answers() {
    let settings = drawn_arpo();
    let first = trees(&settings, 3);
    for order in 2..12 {
        let again = grow(&mut model(), &mut ShuffledTools::new(Seed(order)), &tasks(5, 3), &settings, &mut |_| {});
        assert_eq!(first, again.unwrap(), "order {order}");
    }
}

#[test]
fn what_the_rounds_leave_is_filled_all_at_once() {
    let mut policy = model();
    for row in &mut policy.logits {
        row[ANSWER as usize] = 50.0;
    }
    let tree = grow(&mut policy, &mut ShuffledTools::new(Seed(1)), &tasks(1, 1), &drawn_arpo(), &mut |_| {}).unwrap();
    assert_eq!(policy.n_queued, [3, 5]);
    assert!(tree[0].decisions.is_empty());
}
