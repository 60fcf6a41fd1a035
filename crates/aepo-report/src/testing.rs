//! Which made-up runs do the tests share? Whole ones, whose numbers follow from algorithm, seed and step.

use std::collections::BTreeMap;

use crate::{Context, Rollout, Row, RunData};

/// A run that has not begun.
pub fn empty_run(algorithm: &str, seed: u64) -> RunData {
    let algorithm = algorithm.to_owned();
    let (rows, evals, rollouts) = (Vec::new(), Vec::new(), Vec::new());
    RunData { algorithm, seed, rows, evals, rollouts, seconds: 90.0, cpu_secs: 170.0, peak_memory_mb: 700.0 }
}

/// A run of `n_steps` with an evaluation before the first and after every fourth step.
pub fn run(algorithm: &str, seed: u64, n_steps: u64) -> RunData {
    let quality = 0.01 * (algorithm.len() % 5) as f64 + 0.004 * (seed % 3) as f64;
    let rows = (0..n_steps).map(|step| row(step, quality)).collect();
    let evals = (0..=n_steps).filter(|step| step % 4 == 0);
    let evals = evals.map(|step| (step, eval(0.4 + quality * step as f64))).collect();
    let rollout = |i: usize| Rollout {
        step: 0,
        task: i / 4,
        tokens: (0..12).map(|t| (100 * (i / 4) + t + (i % 4) * usize::from(t > 7)) as u32).collect(),
    };
    RunData { rows, evals, rollouts: (0..12).map(rollout).collect(), ..empty_run(algorithm, seed) }
}

/// A row as a run writes it.
pub fn row(step: u64, quality: f64) -> Row {
    let later = step as f64;
    // 6 chains of length 1, 2 of length 2 and 1 of length 3: 7 of 13 rounds are consecutive.
    let same = r#"{
        "n_tasks": 4, "n_trajectories": 16, "n_unavailable": 0,
        "reward": 0.3, "reward_std": 0.5, "format_rate": 0.9,
        "n_groups_with_signal": 4, "entropy_std": 0.4, "root_entropy": 0.1,
        "tool_entropy": 0.05, "n_global": 3.0, "n_branches": 6, "forking": 1.5, "on_fork": 2.5,
        "decisions": {"forked": 6, "low_entropy": 8, "penalised": 1, "no_budget": 0},
        "chain_lengths": [6, 2, 1], "high_entropy_rate": 0.3,
        "tool_calls": {"python": {"ok": 8, "raised": 2}, "search": {"ok": 10}}, "calls_per_trajectory": 1.25,
        "sampled_per_trajectory": 40.0, "stops": {"answered": 16}, "n_sampled_tokens": 600,
        "n_unique_tokens": 1500, "n_unrolled_tokens": 2000,
        "update": {
            "loss": 0.1, "learning_rate": 1e-4, "grad_norm": 0.2, "grad_norm_max": 0.3, "n_applied": 2,
            "n_not_finite": 0, "n_empty": 0, "clip_frac_high": 0.01, "clip_frac_low": 0.02, "clip_frac_dual": 0.0,
            "grad_share_high": 0.6, "grad_lost_high": 0.05, "grad_lost_rest": 0.01, "old_kl_k3": 1e-4,
            "logp_diff_mean": 1e-7, "logp_diff_max": 1e-5, "logp_diff_outside": 0.0, "n_unique_tokens": 1500,
            "n_unrolled_tokens": 2000
        },
        "secs_total": 3.5, "secs_rollout": 1.5, "peak_memory_mb": 700.0
    }"#;
    let mut row: serde_json::Value = serde_json::from_str(same).unwrap();
    for (key, value) in [("accuracy", 0.4 + quality * later), ("entropy", 0.2 - 0.01 * later)] {
        row[key] = value.into();
    }
    row["step"] = step.into();
    row["version"] = step.into();
    serde_json::from_value(row).unwrap()
}

fn eval(pass: f64) -> aepo::eval::EvalReport {
    aepo::eval::EvalReport {
        version: aepo::policy::PolicyVersion(0),
        n_questions: 40,
        samples: 5,
        n_unavailable: 0,
        unavailable: BTreeMap::new(),
        pass_at_1: pass,
        pass_at_1_interval: [pass - 0.1, pass + 0.1],
        pass_at_samples: pass + 0.3,
        accuracy: pass,
        reward: pass,
        format_rate: 0.9,
        calls_per_answer: 1.2,
        tokens_per_answer: 40.0,
        kinds: BTreeMap::new(),
        stops: BTreeMap::new(),
    }
}

/// A context with the baseline `grpo`.
pub fn context() -> Context {
    Context {
        recipe: "quickstart".to_owned(),
        command: "aepo compare quickstart --algos grpo,aepo --seeds 3 --out out".to_owned(),
        version: "0.1.0".to_owned(),
        commit: Some("0123abc".to_owned()),
        machine: "4 cores".to_owned(),
        settings: vec![("train.steps".to_owned(), "8".to_owned())],
        baseline: "grpo".to_owned(),
    }
}
