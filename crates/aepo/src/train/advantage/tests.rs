//! Do the advantage rules give the worked values of their formulas, and hold their promises at the edges?

use super::*;

fn close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() < 1e-6, "{a:?} {b:?}");
    }
}

fn member(reward: f64, entropies: &[f64]) -> Member {
    let turns = vec![Turn { n_tokens: entropies.len(), anchor: 0 }];
    Member { reward, turns, token_ids: vec![], entropies: entropies.to_vec(), ..Member::default() }
}

fn rule(baseline: Baseline) -> AdvantageRule {
    AdvantageRule { baseline, shared: SharedTokens::Own, entropy_weight: 0.0 }
}

#[test]
fn worked_values_of_the_group_advantage() {
    // Python: m = sum(r)/len(r); s = sqrt(sum((x-m)**2 for x in r)/(len(r)-1)); [(x-m)/(s+1e-6) for x in r]
    close(&group_advantages(&[1.0, 0.0, 0.0, 1.1]), &[0.78177478, -0.86406686, -0.86406686, 0.94635894]);
    close(&group_advantages(&[1.0, 0.0]), &[0.70710578, -0.70710578]);
}

#[test]
fn a_group_of_one_or_of_equals_has_no_advantage() {
    for f in [group_advantages, leave_one_out, |r: &[f64]| tree_advantages(r, &vec![0; r.len()])] {
        assert_eq!(f(&[1.0]), [0.0]);
        assert_eq!(f(&[0.1, 0.1, 0.1]), [0.0; 3]);
        assert!(f(&[]).is_empty());
    }
    let one = |baseline| token_advantages(&rule(baseline), &[vec![member(0.7, &[0.1, 0.2])]]).0;
    assert_eq!(one(Baseline::Group), [[[0.0, 0.0]]]);
    assert_eq!(one(Baseline::GroupOrRaw), [[[0.7, 0.7]]]);
    assert_eq!(one(Baseline::None), [[[0.7, 0.7]]]);
}

#[test]
fn worked_values_of_leave_one_out_and_of_trees() {
    // 1 − (0 + 0.5)/2, 0 − (1 + 0.5)/2, 0.5 − (1 + 0)/2.
    close(&leave_one_out(&[1.0, 0.0, 0.5]), &[0.75, -0.75, 0.0]);
    // Trees {1, 0} and {1}: ±0.70710578 within the first; among all mean 2/3, std 0.57735027.
    let (high, low) = (0.57734927, -1.15469854);
    close(&tree_advantages(&[1.0, 0.0, 1.0], &[4, 4, 9]), &[high + 0.70710578, low - 0.70710578, high]);
}

#[test]
fn worked_values_of_the_batch_return() {
    // Returns to go: 1 − 0.1·(2 + 1) = 0.7, 1 − 0.1·1 = 0.9; and −0.1·(−4) = 0.4. Mean 2/3, std 0.25166115.
    let out = batch_returns(0.1, &[(1.0, &[2.0, 1.0]), (0.0, &[-4.0])]);
    close(&out[0], &[0.13245324, 0.92717266]);
    close(&out[1], &[-1.05962590]);
    // Without a divergence every token of a trajectory has its reward; equal ones say nothing.
    assert_eq!(batch_returns(0.0, &[(0.1, &[5.0; 3]), (0.1, &[7.0])]), [vec![0.0; 3], vec![0.0]]);
    assert_eq!(batch_returns(0.5, &[(3.0, &[1.0])]), [[0.0]]);
}

#[test]
fn worked_values_of_gigpo() {
    // Two trajectories from state 0; the first goes through 1, the second through 2. γ = 0.5: the first turns have
    // returns 0.5 and 0, the others stand alone.
    let out = gigpo_turns(&[1.0, 0.0], &[vec![0, 1], vec![0, 2]], 2.0, 0.5);
    let (episode, step) = (0.5 / (0.5f64.sqrt() + 1e-6), 0.25 / (0.125f64.sqrt() + 1e-6));
    close(&out[0], &[episode + 2.0 * step, episode]);
    close(&out[1], &[-episode - 2.0 * step, -episode]);
}

#[test]
fn worked_values_of_a_turn_tree() {
    // Turn 0 (H = 1) is shared by the first two; from it go on turn 1 (H = 3) and turn 2 (H = 1). The third is alone.
    let path = |reward, turns: &[(usize, f64)]| Member {
        turns: turns.iter().map(|_| Turn { n_tokens: 2, anchor: 0 }).collect(),
        token_ids: turns.iter().flat_map(|t| [2 * t.0, 2 * t.0 + 1]).collect(),
        surprisals: turns.iter().flat_map(|t| [t.1 - 0.5, t.1 + 0.5]).collect(),
        ..member(reward, &vec![0.0; 2 * turns.len()])
    };
    let group = [path(1.0, &[(0, 1.0), (1, 3.0)]), path(0.0, &[(0, 1.0), (2, 1.0)]), path(0.5, &[(3, 2.0)])];
    let end = 0.5 / (0.5 + 1e-6);
    let values = turn_values(&group);
    close(&values[0], &[0.75 * end - 0.25 * end, end]);
    close(&values[1], &[0.75 * end - 0.25 * end, -end]);
    close(&values[2], &[0.0]);
    let (advantages, _) = token_advantages(&rule(Baseline::Turns), &[group.to_vec()]);
    close(&advantages[0][0], &[0.5 * end, 0.5 * end, end, end]);
    assert!(turn_values(&[]).is_empty() && turn_values(&[path(1.0, &[])]) == [[0.0; 0]]);
}

#[test]
fn shared_tokens_take_the_mean_of_their_trajectories() {
    let with = |reward, ids: &[usize]| Member { token_ids: ids.to_vec(), ..member(reward, &vec![0.0; ids.len()]) };
    let groups = [vec![with(1.0, &[0, 1, 2]), with(0.0, &[0, 1, 3]), with(0.5, &[0, 4])]];
    let rule = AdvantageRule { shared: SharedTokens::Mean, ..rule(Baseline::LeaveOneOut) };
    let (out, _) = token_advantages(&rule, &groups);
    // Own: 0.75, −0.75, 0.
    close(&out[0][0], &[0.0, 0.0, 0.75]);
    close(&out[0][1], &[0.0, 0.0, -0.75]);
    close(&out[0][2], &[0.0, 0.0]);
}

#[test]
fn the_entropy_statistic_is_always_computed_and_worked_values_hold() {
    // Python: with m and s of h as above, [0.5*(1 + 0.2*(x-m)/s) for x in h]
    let rule = AdvantageRule { entropy_weight: 0.2, ..rule(Baseline::None) };
    let (a, _) = token_advantages(&rule, &[vec![member(0.5, &[0.1, 0.5])], vec![member(0.5, &[2.0, 0.4])]]);
    close(&a.concat().concat(), &[0.42357347, 0.47060518, 0.64697409, 0.45884726]);
}

#[test]
fn no_variance_means_no_scaling() {
    let rule = AdvantageRule { entropy_weight: 0.2, ..rule(Baseline::None) };
    for h in [vec![0.7], vec![0.1; 3]] {
        let (a, stats) = token_advantages(&rule, &[vec![member(-1.5, &h)]]);
        assert_eq!((stats.std, a[0][0][0]), (0.0, -1.5));
    }
}

#[test]
fn a_fifth_of_the_tokens_are_high_entropy_ones() {
    for n in [5usize, 10, 101, 1000] {
        let entropies: Vec<f64> = (0..n).rev().map(|i| i as f64).collect();
        let high = EntropyStats::over(entropies.iter().copied()).high;
        let n_above = entropies.iter().filter(|&&h| h > high).count();
        assert_eq!(n_above, (n - 1).div_ceil(5), "of {n}");
    }
    assert_eq!(EntropyStats::over(std::iter::empty()).high, 0.0);
}
