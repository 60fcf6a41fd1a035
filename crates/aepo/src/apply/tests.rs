//! Is every malformed batch refused with the path of the bad field, and does a right one give what its sharing says?

use super::*;
use crate::rollout::branch::Verdict;

const GOOD: &str = r#"{"groups":[{"task":"q1","trajectories":[
    {"reward":1,"mask":[0,1,1],"logp":[-1,-1,-1],"old_logp":[-1,-1,-1.5],"entropy":[0,0.5,1]},
    {"reward":0,"mask":[0,1,1,1],"logp":[-1,-1,-2,-1],"old_logp":[-1,-1,-2,-1],"entropy":[0,0.5,2,1],
     "parent":0,"shared":2}]}]}"#;

fn sets(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn run(name: &str, pairs: &[(&str, &str)], json: &str) -> Result<Applied, ApplyError> {
    apply(Algorithm::named(name).unwrap(), &sets(pairs), &Batch::from_json(json)?)
}

#[track_caller]
fn refused(name: &str, pairs: &[(&str, &str)], json: &str, message: &str) {
    assert_eq!(run(name, pairs, json).expect_err(json).to_string(), message);
}

#[test]
fn worked_values_of_a_small_batch() {
    let out = run("grpo", &[], GOOD).unwrap();
    let a = 0.5 / (0.5f64.sqrt() + 1e-6);
    let first = &out.groups[0].trajectories[0];
    assert!(first.advantage.iter().zip([0.0, a, a]).all(|(x, y)| (x - y).abs() < 1e-12), "{first:?}");
    // The second token's ratio e^0.5 lies above the band: no gradient; the first weighs 1/(2 trajectories · 2 tokens).
    assert!(first.dloss_dlogp.iter().zip([0.0, -a / 4.0, 0.0]).all(|(x, y)| (x - y).abs() < 1e-12), "{first:?}");
    assert!((out.loss - (-(a + 1.2 * a) / 4.0 + a / 2.0)).abs() < 1e-12);
    assert_eq!((out.metrics.n_tokens, out.metrics.clip_frac_high, out.metrics.kl_k3), (5, 0.2, 0.0));
}

#[test]
fn shared_tokens_may_take_their_trajectories_mean() {
    let out = run("arpo", &[("advantage.shared", "mean")], GOOD).unwrap();
    let [a, b] = &out.groups[0].trajectories[..] else { panic!("two trajectories") };
    assert_eq!((a.advantage[1], b.advantage[1]), (0.0, 0.0));
    assert!(a.advantage[2] > 0.5 && b.advantage[2] < -0.5);
}

#[test]
fn a_bad_field_is_named_by_its_path() {
    let with = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replacen(from, to, 1)
    };
    for (from, to, message) in [
        ("\"groups\"", "\"group\"", "group: there is no such field; there are groups"),
        ("\"q1\"", "7", "groups[0].task: must be a text, not 7"),
        ("\"reward\":1,", "", "groups[0].trajectories[0].reward: is missing"),
        (
            "\"reward\":1,",
            "\"reward\":\"x\",",
            "groups[0].trajectories[0].reward: must be a number, not the text \"x\"",
        ),
        ("[0,1,1]", "[0,1,2]", "groups[0].trajectories[0].mask[2]: must be 0 or 1, not 2"),
        ("[-1,-1,-1]", "[-1,-1]", "groups[0].trajectories[0].logp: has 2 values, but `mask` has 3"),
        ("[-1,-1,-1]", "[-1,null,-1]", "groups[0].trajectories[0].logp[1]: must be a number, not null"),
        (
            "\"shared\":2",
            "\"shared\":4",
            "groups[0].trajectories[1].shared: must be at most 3, the length of the shorter of the two, not 4",
        ),
        (",\"shared\":2", "", "groups[0].trajectories[1].shared: is missing beside `parent`"),
        (
            "\"parent\":0",
            "\"parent\":1",
            "groups[0].trajectories[1].parent: must be the index of an earlier trajectory of the group, not 1",
        ),
        (
            "[0,1,1,1]",
            "[1,1,1,1]",
            "groups[0].trajectories[1].mask: differs from the parent's within the shared tokens",
        ),
        (
            "\"parent\":0",
            "\"turns\":[{\"start\":1,\"end\":9}],\"parent\":0",
            "groups[0].trajectories[1].turns[0].end: must be above `start` and at most 4, not 9",
        ),
    ] {
        refused("grpo", &[], &with(from, to), message);
    }
    refused("gigpo", &[], GOOD, "groups[0].trajectories[0].turns: is missing, and the algorithm compares turns");
    let late =
        with("\"entropy\":[0,0.5,1]", "\"entropy\":[0,0.5,1],\"turns\":[{\"start\":2,\"end\":3,\"anchor\":\"a\"}]");
    refused("gigpo", &[], &late, "groups[0].trajectories[0].turns: token 1 is sampled but in no turn");
    for (name, key, field) in [("grpo", "loss.kl_coef", "ref_logp"), ("aepo", "loss.is_cap", "rollout_logp")] {
        let message = format!("groups[0].trajectories[0].{field}: is missing, and these settings read it");
        refused(name, &[(key, "0.5")], GOOD, &message);
    }
    assert!(matches!(Batch::from_json("{"), Err(ApplyError::Syntax(_))));
    refused("grpo", &[], "[]", "(the input): must be an object");
    let huge = with("\"logp\":[-1,-1,-2,-1]", "\"logp\":[-1,-1,998,-1]");
    let message = run("grpo", &[], &huge).unwrap_err().to_string();
    assert_eq!(message, "groups[0].trajectories[1]: a ratio or divergence overflows: its gradient is inf");
    let spread = with("\"reward\":1,", "\"reward\":1e308,").replace("\"reward\":0", "\"reward\":9e307");
    let message = run("grpo", &[], &spread).unwrap_err().to_string();
    assert!(
        message.starts_with("groups[0].trajectories[0]: a reward, entropy or divergence is too large"),
        "{message}"
    );
}

#[test]
fn settings_that_the_computation_does_not_read_are_refused() {
    refused("grpo", &[("train.steps", "3")], GOOD, "--set: `train.steps` has no effect: `apply` does not read it");
    let wrong = budget(Algorithm::Aepo, &sets(&[("loss.kl_coef", "1")]), 8, 1.0, 1.0).unwrap_err().to_string();
    assert!(wrong.contains("the division of a budget does not read it"), "{wrong}");
    assert!(branch(Algorithm::Grpo, &sets(&[("rollout.tau", "0.3")]), 1.0, 0).is_err());
}

#[test]
fn no_tokens_and_no_groups_are_no_loss() {
    let empty = run("aepo", &[], r#"{"groups":[]}"#).unwrap();
    assert_eq!((empty.loss, empty.metrics.n_trajectories, empty.groups.len()), (0.0, 0, 0));
    let out = run("dapo", &[], &GOOD.replace("\"reward\":1,", "\"reward\":0,")).unwrap();
    assert_eq!((out.loss, out.metrics.n_groups_dropped, out.metrics.n_tokens), (0.0, 1, 0));
    assert_eq!(out.groups[0].trajectories[1].dloss_dlogp, [0.0; 4]);
}

#[test]
fn budgets_and_forks_of_every_algorithm() {
    for algorithm in Algorithm::ALL {
        for k in [1, 2, 16] {
            let b = budget(algorithm, &[], k, 1.0, 0.5).unwrap();
            assert!(b.n_global >= 1 && b.n_global + b.n_branch == k, "{algorithm:?} {b:?}");
        }
    }
    let n_global = |a| budget(a, &[], 16, 1.0, 0.5).unwrap().n_global;
    assert_eq!(
        [Algorithm::Aepo, Algorithm::AepoReference, Algorithm::Arpo, Algorithm::Grpo].map(n_global),
        [9, 9, 8, 16]
    );
    let aepo = branch(Algorithm::Aepo, &[], 1.0, 2).unwrap();
    let Chance::Decided(Verdict { probability, fork: true, .. }) = aepo else { panic!("{aepo:?}") };
    assert!((probability - 0.63).abs() < 1e-12);
    // U ≥ 0.5/0.9 − 0.2.
    let drawn = branch(Algorithm::AepoReference, &[], 1.0, 2).unwrap();
    assert!(matches!(drawn, Chance::Drawn(p) if (p - (1.2 - 0.5 / 0.9)).abs() < 1e-12), "{drawn:?}");
}
