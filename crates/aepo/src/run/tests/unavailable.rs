//! What becomes of a step, and of an evaluation, when tools are not there?

use super::*;
use crate::tool::ToolCall;

/// Half of all searches are answered by nobody.
fn flaky(call: &ToolCall) -> ToolOutcome {
    match call.tool == ToolName::SEARCH && call.seed.uniform(3) < 0.5 {
        true => ToolOutcome::Unavailable,
        false => ToolOutcome::Ok,
    }
}

fn finite(value: &serde_json::Value) -> bool {
    match value {
        // What is not finite is written as null.
        serde_json::Value::Null => false,
        serde_json::Value::Array(items) => items.iter().all(finite),
        serde_json::Value::Object(fields) => fields.values().all(finite),
        _ => true,
    }
}

#[test]
fn every_algorithm_learns_from_what_is_left_of_its_groups() {
    for algorithm in Algorithm::ALL {
        // Groups of two often shrink to one trajectory or none.
        for k in ["2", "6"] {
            let name = algorithm.bundle().name;
            let run = run(&[("algorithm.name", name), ("rollout.k", k), ("train.max_unavailable", "1")]);
            let mut policy = model(&run.renderer);
            let mut n_lost = 0;
            for step in 0..3 {
                let mut tools = ShuffledTools::new(Seed(step));
                tools.outcome = flaky;
                let out = run.step(step, &mut policy, None, &mut tools, &mut |_| {}).unwrap();
                assert!(finite(&serde_json::to_value(&out.record).unwrap()), "{name}: {}", text(&out.record));
                n_lost += out.record.n_unavailable;
                assert_eq!(out.record.unavailable.is_empty(), out.record.n_unavailable == 0);
            }
            assert!(n_lost > 0 && policy.logits.iter().flatten().all(|l| l.is_finite()), "{name}");
        }
    }
}

#[test]
fn a_step_that_lost_too_many_trajectories_is_not_learned_from() {
    let mut tools = ShuffledTools::new(Seed(1));
    tools.outcome = |_| ToolOutcome::Unavailable;
    let run = run(&[]);
    let mut policy = model(&run.renderer);
    let before = (policy.version(), policy.logits.clone());
    let error = run.step(0, &mut policy, None, &mut tools, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("above train.max_unavailable = 0.5"), "{error}");
    assert!(error.contains("search: ") && error.contains("python: "), "{error}");
    assert_eq!((policy.version(), policy.logits.clone()), before);
    // As many as may be lost.
    let run = super::run(&[("train.max_unavailable", "1")]);
    assert!(run.step(0, &mut policy, None, &mut tools, &mut |_| {}).unwrap().record.n_unavailable > 0);
}

#[test]
fn an_evaluation_without_an_answer_is_no_measurement() {
    let run = run(&[]);
    let mut policy = model(&run.renderer);
    let special = |name: &str| run.renderer.tokenizer().special(name).unwrap() as usize;
    // Every answer begins with a search.
    policy.logits[special("<|assistant|>")][special("<search>")] = 60.0;
    let mut tools = ShuffledTools::new(Seed(1));
    tools.outcome = |_| ToolOutcome::Unavailable;
    let plan = EvalPlan::of(&run.config);
    let measured = evaluate(&mut policy, &mut tools, &run.renderer, &run.tasks, &plan, &mut |_| {});
    let error = measured.unwrap_err().to_string();
    assert!(error.contains("nothing was measured") && error.contains("search: "), "{error}");
}
