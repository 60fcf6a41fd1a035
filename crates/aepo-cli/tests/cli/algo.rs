//! Does `aepo algo` explain and compute what the pipeline does, and name the field of a bad batch?

use std::io::Write as _;
use std::process::{Command, Stdio};

use expect_test::{Expect, expect};
use serde_json::{Value, json};

/// Runs `aepo algo …` on an input; what it printed and its exit code.
fn run(args: &str, input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aepo"))
        .arg("algo")
        .args(args.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    format!("{}[{}]\n", String::from_utf8(text).unwrap(), output.status.code().unwrap())
}

/// Writes down a session: each command line with what it gave.
#[track_caller]
fn check(commands: &[&str], expected: Expect) {
    let session = commands.iter().map(|args| format!("$ aepo algo {args}\n{}", run(args, "")));
    expected.assert_eq(&session.collect::<String>());
}

const BATCH: &str = r#"{"groups":[{"task":"q","trajectories":[
    {"reward":1,"mask":[0,1],"logp":[-1,-1],"old_logp":[-1,-1.5],"entropy":[0,1]},
    {"reward":0,"mask":[0,1],"logp":[-1,-2],"old_logp":[-1,-2],"entropy":[0,3],"parent":0,"shared":1}]}]}"#;

#[test]
fn a_batch_is_computed() {
    let applied = |args: &str| {
        let text = run(args, BATCH);
        serde_json::from_str::<Value>(text.strip_suffix("[0]\n").unwrap()).unwrap()
    };
    let plain = applied("apply --algo rloo");
    expect![[r#"
        {
          "loss": -0.09999999999999998,
          "metrics": {
            "clip_frac_high": 0.5,
            "clip_frac_low": 0.0,
            "clip_frac_dual": 0.0,
            "kl_k3": 0.0,
            "old_kl_k3": 0.0743606353500641,
            "entropy": 2.0,
            "entropy_std": 1.4142135623730951,
            "n_tokens": 2,
            "n_trajectories": 2,
            "n_groups_dropped": 0
          },
          "groups": [
            {
              "task": "q",
              "trajectories": [
                {
                  "advantage": [
                    0.0,
                    1.0
                  ],
                  "dloss_dlogp": [
                    0.0,
                    0.0
                  ]
                },
                {
                  "advantage": [
                    0.0,
                    -1.0
                  ],
                  "dloss_dlogp": [
                    0.0,
                    0.5
                  ]
                }
              ]
            }
          ]
        }
    "#]]
    .assert_eq(&format!("{plain:#}\n"));
    // Nothing is clipped at a wider bound: the other tokens stay as they are, the clipped one has its gradient again.
    let mut wide = applied("apply --algo rloo --set loss.clip_high=1");
    let gradient = &mut wide["groups"][0]["trajectories"][0]["dloss_dlogp"];
    assert_eq!(std::mem::replace(gradient, json!([0.0, 0.0])), json!([0.0, -0.5f64.exp() / 2.0]));
    assert_eq!(wide["groups"], plain["groups"]);
    assert_eq!((&wide["metrics"]["clip_frac_high"], &plain["metrics"]["clip_frac_high"]), (&json!(0.0), &json!(0.5)));
}

#[test]
fn a_bad_batch_is_refused_with_the_path_of_its_field() {
    for (args, input, expected) in [
        (
            "apply --algo rloo",
            BATCH.replace("[0,3]", "[0]").as_str(),
            "error: groups[0].trajectories[1].entropy: has 1 values, but `mask` has 2\n",
        ),
        (
            "apply --algo gigpo",
            BATCH,
            "error: groups[0].trajectories[0].turns: is missing, and the algorithm compares turns\n",
        ),
        ("apply --algo rloo", "{", "error: the input is not JSON: EOF while parsing an object at line 1 column 1\n"),
        (
            "apply --algo rloo --set train.steps=9",
            BATCH,
            "error: --set: `train.steps` has no effect: `apply` does not read it\n",
        ),
    ] {
        assert_eq!(run(args, input), format!("{expected}[2]\n"));
    }
    check(
        &["apply --algo rlo"],
        expect![[r#"
            $ aepo algo apply --algo rlo
            error: there is no algorithm `rlo`
            hint: one of aepo, aepo-reference, arpo, arpo-reference, grpo, reinforce++, dapo, cispo, gppo, gigpo, gspo, ppo, rloo, tree-grpo, at2po
            [2]
        "#]],
    );
}

#[test]
fn budgets_and_forks_are_computed() {
    check(
        &[
            "budget --k 16 --root-entropy 0.5 --tool-entropy 1.5 --algo aepo",
            "budget --k 16 --root-entropy 0.5 --tool-entropy 1.5 --algo aepo-reference",
            "budget --k 16 --root-entropy 0.5 --tool-entropy 1.5 --algo arpo --set rollout.initial_rollouts=3",
            "budget --k 16 --root-entropy 0.5 --tool-entropy 1.5 --algo grpo --set rollout.beta=3",
            "branch --entropy-delta -0.5 --consecutive 2 --algo aepo",
            "branch --entropy-delta -0.5 --consecutive 2 --algo aepo --set rollout.tau=0.3",
            "branch --entropy-delta -0.5 --consecutive 2 --algo aepo-reference",
            "branch --entropy-delta -0.5 --consecutive 2 --algo grpo",
            "branch --entropy-delta nan --algo aepo",
        ],
        expect![[r#"
            $ aepo algo budget --k 16 --root-entropy 0.5 --tool-entropy 1.5 --algo aepo
            {"n_global":6,"n_branch":10}
            [0]
            $ aepo algo budget --k 16 --root-entropy 0.5 --tool-entropy 1.5 --algo aepo-reference
            {"n_global":7,"n_branch":9}
            [0]
            $ aepo algo budget --k 16 --root-entropy 0.5 --tool-entropy 1.5 --algo arpo --set rollout.initial_rollouts=3
            {"n_global":3,"n_branch":13}
            [0]
            $ aepo algo budget --k 16 --root-entropy 0.5 --tool-entropy 1.5 --algo grpo --set rollout.beta=3
            error: --set: `rollout.beta` has no effect: grpo starts every trajectory at the root and never forks
            [2]
            $ aepo algo branch --entropy-delta -0.5 --consecutive 2 --algo aepo
            {"probability":0.36000000000000004,"branch":false}
            [0]
            $ aepo algo branch --entropy-delta -0.5 --consecutive 2 --algo aepo --set rollout.tau=0.3
            {"probability":0.36000000000000004,"branch":true}
            [0]
            $ aepo algo branch --entropy-delta -0.5 --consecutive 2 --algo aepo-reference
            {"probability":0.34444444444444444,"branch":null}
            [0]
            $ aepo algo branch --entropy-delta -0.5 --consecutive 2 --algo grpo
            {"probability":0.0,"branch":false}
            [0]
            $ aepo algo branch --entropy-delta nan --algo aepo
            error: --entropy-delta NaN: must be a number
            hint: entropies are in nats per token
            [2]
        "#]],
    );
}

#[test]
fn algorithms_are_listed_and_explained() {
    check(
        &["list", "show gigpo"],
        expect![[r#"
            $ aepo algo list
            aepo            fork after a tool result that raises the entropy, less and less in a chain; the task's group; clip balancing (arXiv 2510.14545, §3.1–3.3)
            aepo-reference  fork by a draw U ~ [0, 1), less often in a chain; the task's group; clip balancing (released code of arXiv 2510.14545)
            arpo            fork after a tool result that raises the entropy; the task's group; PPO's clip (arXiv 2507.19849)
            arpo-reference  fork by a draw U ~ [0, 1); the task's group; PPO's clip (released code of arXiv 2507.19849)
            grpo            no path forks; the task's group; PPO's clip (arXiv 2402.03300, eqs. 3–4)
            reinforce++     no path forks; returns over the whole batch, divergence in the reward; PPO's clip (arXiv 2501.03262)
            dapo            no path forks; the task's group; PPO's clip (arXiv 2503.14476)
            cispo           no path forks; the task's group; a detached, clipped weight (arXiv 2506.13585, eqs. 4–5)
            gppo            no path forks; the task's group; a band whose edges keep their gradient (arXiv 2508.07629)
            gigpo           no path forks; the task's group, and turns that start from an equal state; PPO's clip (arXiv 2505.10978)
            gspo            no path forks; the task's group; PPO's clip (arXiv 2507.18071, eq. 7)
            ppo             no path forks; no baseline; PPO's clip (arXiv 1707.06347, eq. 7)
            rloo            no path forks; leave one out; PPO's clip (arXiv 2402.14740)
            tree-grpo       expand turns of finished trees, drawn evenly, behind their tool results; the task's group, and the trajectories of the same tree; PPO's clip (arXiv 2509.21240)
            at2po           sample the most uncertain turns of finished trees anew; the task's group, handed back from the tree's leaves to its turns; PPO's clip (arXiv 2601.04767, eqs. 2–5)
            [0]
            $ aepo algo show gigpo
            gigpo (arXiv 2505.10978)

            budget       every trajectory starts at the root
                         m = k

            branch       no path forks
                         P_t = 0

            advantage    the task's group, and turns that start from an equal state
                         A = A_group(R) + ω·A_anchor(γ^(T−1−t)·R), each (x − mean)/(std + 1e-6)

            objective    PPO's clip
                         L = −min(r·A, clip(r, 1−ε_l, 1+ε_h)·A)

            ratio        per token
                         r_t = exp(logp_t − old_logp_t)

            aggregation  mean over all sampled tokens
                         Σ_t L_t / n_tokens

            divergence   in the loss, off unless loss.kl_coef is set
                         k3 = exp(ref_logp − logp) − (ref_logp − logp) − 1

            Constants, each changed by --set or a line of a recipe:
              rollout.max_response_tokens = 640  # Tokens per trajectory, the prompt excluded, tool results included.
              gigpo.omega = 1.0  # Weight of the turn's advantage beside the trajectory's (ω).
              gigpo.gamma = 0.95  # Discount of the final reward per turn (γ), in [0, 1].
              reward.overlong_share = 0.0  # Last share of rollout.max_response_tokens over which the reward falls by 1, in [0, 1]; 0 switches it off.
              loss.clip = "ppo"  # Per-token objective; the algorithm's own unless set.
              loss.ratio = "token"  # Over which tokens the ratio is taken; the algorithm's own unless set.
              loss.clip_low = 0.2  # Lower clip bound (ε_l), in [0, 1]; 1 leaves the lower side open. The algorithm's own unless set.
              loss.clip_high = 0.2  # Upper clip bound (ε_h); the algorithm's own unless set.
              loss.dual_clip = off  # Bound on the ratio of tokens with negative advantage (c > 1); the algorithm's own unless set.
              loss.aggregation = "token-mean"  # How token terms are averaged; the algorithm's own unless set.
              loss.kl_coef = 0.0  # Coefficient of the divergence from the initial policy, which is evaluated only where this is not 0: k3 in the loss, or k1 in the reward where the algorithm has it there.
              loss.entropy_coef = 0.0  # Coefficient of the entropy bonus, per nat.
              loss.is_cap = off  # Cap (C) of token-level truncated importance sampling from sampler to trainer; off unless set.
              train.dynamic_sampling = false  # Replace tasks whose trajectories all have the same reward; the algorithm's own unless set.
            [0]
        "#]],
    );
    // Of another algorithm, what tells it apart.
    let gigpo = run("show gigpo", "");
    let tree_grpo = run("show tree-grpo", "");
    let own = tree_grpo.lines().filter(|line| !gigpo.lines().any(|other| other == *line));
    expect![[r#"
        tree-grpo (arXiv 2509.21240)
        budget       a fixed number of root samples
                     m = rollout.initial_rollouts
        branch       expand turns of finished trees, drawn evenly, behind their tool results
                     N = rollout.expand_per_round of each root sample per round, until there are k leaves
        advantage    the task's group, and the trajectories of the same tree
                     A = A_group(R) + A_tree(R)
        aggregation  mean over trajectories of each one's token mean
                     mean_i(Σ_t L_it / n_i)
          rollout.initial_rollouts = 8  # Root samples before any fork, when not pre-monitored (m); below k, and half of it unless set.
          rollout.expand_per_round = 2  # Turns of a finished tree that are expanded per round: of each root sample (N), or of the task where they are ranked (K); the algorithm's own unless set.
          advantage.shared = "own"  # What a token on several trajectories gets: "own" on each that one's advantage, "mean" their mean.
          loss.aggregation = "seq-mean-token-mean"  # How token terms are averaged; the algorithm's own unless set.
    "#]].assert_eq(&own.map(|line| format!("{line}\n")).collect::<String>());
}
