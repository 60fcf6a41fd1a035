//! Does a whole step repeat bit for bit, learn, leave out what does not count, and record what happened?

mod unavailable;

use std::sync::Arc;

use super::*;
use crate::algo::Algorithm;
use crate::data::task::Grader;
use crate::eval::{EvalPlan, evaluate};
use crate::prompt::Tokenizer;
use crate::prompt::tokenizer::train_tokenizer;
use crate::testing::{ShuffledTools, TablePolicy};
use crate::tool::{ToolName, ToolOutcome, ToolSpec};

fn renderer() -> Renderer {
    let json = train_tokenizer(["one two three four".to_owned()].into_iter(), 290).unwrap();
    Renderer::tags(Arc::new(Tokenizer::from_bytes(&json).unwrap()), &ToolSpec::python_and_search()).unwrap()
}

/// The protocol's turns as a bigram table can write them: search, Python, or an answer that is right
/// half of the time.
fn model(renderer: &Renderer) -> TablePolicy {
    let t = renderer.tokenizer();
    let vocab = t.vocab_size();
    let mut policy = TablePolicy::new(vocab, 400, Seed(5));
    let id = |name: &str| t.special(name).unwrap() as usize;
    let text = |s: &str| t.encode_text(s)[0] as usize;
    for row in &mut policy.logits {
        row.iter_mut().for_each(|l| *l -= 30.0);
    }
    let mut follow = |from: usize, to: &[(usize, f64)]| {
        for (token, logit) in to {
            policy.logits[from][*token] = *logit;
        }
    };
    for from in [id("<|assistant|>"), id("</result>")] {
        follow(from, &[(id("<think>"), 0.0)]);
    }
    let words = [text("m"), text("n")];
    follow(id("<think>"), &[(words[0], 0.3), (words[1], 0.0)]);
    for word in words {
        // Ending the turn inside a thought is the mistake that there is to unlearn.
        follow(word, &[(words[0], 0.0), (words[1], 0.2), (id("</think>"), 0.4), (id("</search>"), -1.0)]);
    }
    follow(id("</think>"), &[(id("<search>"), 0.5), (id("<python>"), 0.3), (id("<answer>"), 0.0)]);
    follow(id("<search>"), &[(text("p"), 0.0), (text("q"), 0.0)]);
    follow(text("p"), &[(id("</search>"), 0.0)]);
    follow(text("q"), &[(id("</search>"), 0.0)]);
    follow(id("<python>"), &[(text("z"), 0.0)]);
    follow(text("z"), &[(id("</python>"), 0.0)]);
    let answer = ["\\", "b", "o", "x", "e", "d", "{"].map(text);
    follow(id("<answer>"), &[(answer[0], 0.0)]);
    for pair in answer.windows(2) {
        follow(pair[0], &[(pair[1], 0.0)]);
    }
    follow(answer[6], &[(text("1"), 0.0), (text("2"), 0.0)]);
    for digit in [text("1"), text("2")] {
        follow(digit, &[(text("}"), 0.0)]);
    }
    follow(text("}"), &[(id("</answer>"), 0.0)]);
    follow(id("</answer>"), &[(id("<|end|>"), 0.0)]);
    policy
}

fn tasks() -> Vec<Task> {
    let answers = ["1", "2"];
    (0..12)
        .map(|i| Task {
            id: i.to_string(),
            kind: ["even", "odd"][i % 2].to_owned(),
            question: format!("What is it, {i}?"),
            answers: vec![answers[i % 2].to_owned()],
            grader: Grader::Math,
        })
        .collect()
}

const RECIPE: &str = "
[rollout]
k = 6
entropy_tokens = 3
max_response_tokens = 120
max_turn_tokens = 30
max_result_tokens = 10
call_limit = 3
[train]
steps = 10
tasks_per_step = 4
minibatches = 2
learning_rate = 0.5
warmup_steps = 0
max_grad_norm = 100.0
[tasks]
n_train = 12
[eval]
n_tasks = 12
samples = 3
";

fn run(sets: &[(&str, &str)]) -> Run {
    let sets: Vec<_> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Run { config: Config::resolve(RECIPE, "test", &sets).unwrap(), tasks: tasks(), renderer: renderer() }
}

fn steps(run: &Run, policy: &mut TablePolicy, which: std::ops::Range<u64>, order: u64) -> Vec<StepOutput> {
    which
        .map(|step| {
            let mut tools = ShuffledTools::new(Seed(order).child(step));
            run.step(step, policy, None, &mut tools, &mut |_| {}).unwrap()
        })
        .collect()
}

fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap()
}

#[test]
fn a_run_repeats_bit_for_bit_and_a_resumed_one_equals_it() {
    for algorithm in Algorithm::ALL.map(|a| a.bundle().name) {
        let run = run(&[("algorithm.name", algorithm)]);
        let mut straight = model(&run.renderer);
        let all = steps(&run, &mut straight, 0..4, 1);
        // Another order of tool answers, and a stop after step 1 with only the weights kept.
        let mut resumed = model(&run.renderer);
        let mut again = steps(&run, &mut resumed, 0..2, 2);
        let mut resumed = resumed.clone();
        again.extend(steps(&run, &mut resumed, 2..4, 3));
        for (a, b) in all.iter().zip(&again) {
            assert_eq!((text(&a.record), text(&a.trees)), (text(&b.record), text(&b.trees)), "{algorithm}");
        }
        assert_eq!(straight.logits, resumed.logits);
        assert!(all.iter().any(|s| s.record.update.n_applied > 0), "{algorithm}: the test must see updates");
    }
}

#[test]
fn another_seed_is_another_run() {
    let (a, b) = (run(&[]), run(&[("train.seed", "2")]));
    let first = |run: &Run| text(&steps(run, &mut model(&run.renderer), 0..1, 1)[0].trees);
    assert_ne!(first(&a), first(&b));
}

#[test]
fn learning_raises_the_reward() {
    // Format alone is worth a point, so a model that is often malformed has something to gain.
    let run = run(&[("algorithm.name", "grpo"), ("train.learning_rate", "4.0")]);
    let mut policy = model(&run.renderer);
    let out = steps(&run, &mut policy, 0..25, 1);
    let mean = |part: &[StepOutput]| part.iter().map(|s| s.record.reward).sum::<f64>() / part.len() as f64;
    let (before, after) = (mean(&out[..5]), mean(&out[20..]));
    assert!(after > before + 0.15, "{before} {after}");
}

#[test]
fn the_record_is_the_trees_counted() {
    let run = run(&[]);
    let out = &steps(&run, &mut model(&run.renderer), 0..1, 1)[0];
    let r = &out.record;
    let leaves: Vec<_> = out.trees.iter().flat_map(|t| &t.leaves).collect();
    assert_eq!((r.n_tasks, r.n_trajectories, leaves.len()), (4, 24, 24));
    let rewards: f64 = leaves.iter().map(|l| l.score.unwrap().reward).sum();
    assert!((r.reward - rewards / 24.0).abs() < 1e-12);
    assert_eq!(r.stops.values().sum::<usize>(), 24);
    let nodes = || out.trees.iter().flat_map(|t| &t.nodes);
    assert_eq!(r.n_unique_tokens, nodes().map(|n| n.tokens.len()).sum::<usize>());
    assert_eq!(r.n_sampled_tokens, nodes().filter(|n| n.mask).map(|n| n.tokens.len()).sum::<usize>());
    let unrolled: usize = out
        .trees
        .iter()
        .flat_map(|t| t.leaves.iter().map(move |l| path(t, l.node)))
        .flatten()
        .map(|n| n.tokens.len())
        .sum();
    assert_eq!(r.n_unrolled_tokens, unrolled);
    assert!(r.n_unique_tokens < r.n_unrolled_tokens);
    let calls: usize = r.tool_calls.values().flat_map(|o| o.values()).sum();
    assert_eq!(calls, nodes().filter(|n| n.call.is_some()).count());
    assert!((out.tool_secs.values().sum::<f64>() - 0.5 * calls as f64).abs() < 1e-9);
    let d = r.decisions;
    let n_decisions: usize = out.trees.iter().map(|t| t.decisions.len()).sum();
    assert_eq!(d.forked + d.low_entropy + d.penalised + d.no_budget, n_decisions);
    assert!(r.update.logp_diff_max < 1e-5);
    // The entropy statistic is that of the whole step, trees unrolled, and the advantages rest on it.
    let mut entropies = Vec::new();
    for tree in &out.trees {
        for leaf in &tree.leaves {
            entropies.extend(path(tree, leaf.node).iter().flat_map(|n| n.entropies.iter().map(|&h| f64::from(h))));
        }
    }
    let (mean, std) = crate::train::advantage::mean_std(entropies.iter().copied());
    assert!((r.entropy - mean).abs() < 1e-9 && (r.entropy_std - std).abs() < 1e-9);
    for tree in &out.trees {
        let rewards: Vec<f64> = tree.leaves.iter().map(|l| l.score.unwrap().reward).collect();
        let advantages = crate::train::advantage::group_advantages(&rewards);
        for (leaf, advantage) in tree.leaves.iter().zip(advantages) {
            let mut nodes = path(tree, leaf.node);
            nodes.reverse();
            let entropies = nodes.iter().flat_map(|n| &n.entropies);
            for (a, h) in leaf.advantages.iter().zip(entropies) {
                let want = advantage * (1.0 + 0.2 * (f64::from(*h) - mean) / std);
                assert!((f64::from(*a) - want).abs() < 1e-5, "{a} {want}");
            }
        }
    }
    // Every advantage in the files has its token: masks and lengths agree.
    for tree in &out.trees {
        for leaf in &tree.leaves {
            let n: usize = path(tree, leaf.node).iter().filter(|n| n.mask).map(|n| n.tokens.len()).sum();
            assert_eq!(leaf.advantages.len(), n);
        }
    }
    // Both records survive a round trip.
    assert_eq!(serde_json::from_str::<StepRecord>(&text(r)).unwrap(), *r);
    assert_eq!(serde_json::from_str::<Vec<TreeRecord>>(&text(&out.trees)).unwrap(), out.trees);
}

fn path(tree: &TreeRecord, mut node: u32) -> Vec<&crate::record::NodeRecord> {
    let mut nodes = vec![&tree.nodes[node as usize]];
    while let Some(parent) = tree.nodes[node as usize].parent {
        nodes.push(&tree.nodes[parent as usize]);
        node = parent;
    }
    nodes
}

#[test]
fn what_a_failing_tool_spoilt_counts_nowhere() {
    let run = run(&[]);
    let mut tools = ShuffledTools::new(Seed(1));
    tools.outcome = |call| if call.tool == ToolName::SEARCH { ToolOutcome::Unavailable } else { ToolOutcome::Ok };
    let out = run.step(0, &mut model(&run.renderer), None, &mut tools, &mut |_| {}).unwrap();
    let r = &out.record;
    assert!(r.n_unavailable > 0 && r.n_trajectories > 0);
    assert_eq!(r.n_unavailable + r.n_trajectories, 24);
    assert_eq!(r.stops["tool-unavailable"], r.n_unavailable);
    for leaf in out.trees.iter().flat_map(|t| &t.leaves) {
        let spoilt = leaf.stop == "tool-unavailable";
        assert_eq!((leaf.score.is_none(), leaf.advantages.is_empty()), (spoilt, spoilt));
    }
    let rewards: Vec<f64> =
        out.trees.iter().flat_map(|t| &t.leaves).filter_map(|l| l.score).map(|s| s.reward).collect();
    assert!((r.reward - rewards.iter().sum::<f64>() / rewards.len() as f64).abs() < 1e-12);
}

#[test]
fn the_entropy_baseline_is_of_the_step_itself() {
    // A first batch's entropies must not serve as anyone's baseline later: each tree's are its own first trajectory's.
    let run = run(&[]);
    for out in steps(&run, &mut model(&run.renderer), 0..3, 1) {
        for tree in &out.trees {
            let first = path(tree, tree.leaves[0].node);
            let turn = first.iter().rev().find(|n| n.mask).unwrap();
            assert_eq!(tree.root_entropy, turn.head_entropy.unwrap());
            for d in &tree.decisions {
                let leaf = tree.leaves.iter().find(|l| l.key == d.path).unwrap();
                let root = path(tree, leaf.node).iter().rev().find(|n| n.mask).unwrap().head_entropy.unwrap();
                assert!((d.entropy - root - d.entropy_delta).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn stages_are_told_in_order() {
    let run = run(&[]);
    let mut stages = Vec::new();
    let mut tools = ShuffledTools::new(Seed(1));
    run.step(0, &mut model(&run.renderer), None, &mut tools, &mut |event| {
        if let Event::Stage(stage) = event {
            stages.push(stage);
        }
    })
    .unwrap();
    assert_eq!(stages, [Stage::Rollout, Stage::Score, Stage::OldLogprobs, Stage::Optimise, Stage::Score]);
}

#[test]
fn tasks_of_a_step_do_not_depend_on_the_steps_before() {
    let run = run(&[]);
    let ids = |step| run.tasks_of(step).iter().map(|t| t.id.clone()).collect::<Vec<_>>();
    let epoch: std::collections::BTreeSet<String> = (0..3).flat_map(ids).collect();
    assert_eq!(epoch.len(), 12);
    assert_eq!(ids(7), ids(7));
}

#[test]
fn evaluation_uses_the_training_prompts_and_repeats() {
    let run = run(&[]);
    let plan = EvalPlan::of(&run.config);
    let mut policy = model(&run.renderer);
    let mut measure = |order| {
        let mut tools = ShuffledTools::new(Seed(order));
        evaluate(&mut policy, &mut tools, &run.renderer, &run.tasks, &plan, &mut |_| {}).unwrap()
    };
    let report = measure(1);
    assert_eq!(report, measure(2));
    assert_eq!((report.n_questions, report.samples, report.stops.values().sum::<usize>()), (12, 3, 36));
    assert_eq!(report.kinds.values().map(|k| k.n_questions).collect::<Vec<_>>(), [6, 6]);
    let [low, high] = report.pass_at_1_interval;
    assert!(low <= report.pass_at_1 && report.pass_at_1 <= high && report.pass_at_samples >= report.pass_at_1);
    let prompts: Vec<_> = run.tasks.iter().map(|t| run.renderer.first_prompt(t).unwrap()).collect();
    let explored =
        run.explore(&run.tasks_of(0), &mut policy, &mut ShuffledTools::new(Seed(1)), Seed(1), &mut |_| {}).unwrap();
    assert!(explored.iter().all(|t| prompts.contains(&t.nodes[0].tokens)));
}

#[test]
fn a_spoilt_answer_is_left_out_of_the_evaluation() {
    let run = run(&[]);
    let mut tools = ShuffledTools::new(Seed(1));
    tools.outcome = |_| ToolOutcome::Unavailable;
    let plan = EvalPlan::of(&run.config);
    let mut policy = model(&run.renderer);
    let report = evaluate(&mut policy, &mut tools, &run.renderer, &run.tasks, &plan, &mut |_| {}).unwrap();
    assert!(report.n_unavailable > 0);
    assert_eq!(report.calls_per_answer, 0.0, "every call failed, so no answer that counts made one");
}

#[test]
fn dynamic_sampling_draws_until_every_task_has_a_signal_or_the_refills_are_spent() {
    // Two answers per task: about half of the tasks have equal rewards.
    let sets = |refills| [("algorithm.name", "dapo"), ("rollout.k", "2"), ("train.max_refills", refills)];
    let step = |refills: &'static str| {
        let run = run(&sets(refills));
        steps(&run, &mut model(&run.renderer), 0..1, 1).remove(0)
    };
    let (none, many) = (step("0"), step("9"));
    assert_eq!(none.trees.len(), 4);
    assert!(none.record.n_groups_with_signal < 4, "the test needs a task without a signal");
    assert!(many.record.n_groups_with_signal == 4 && many.trees.len() > 4 && many.trees.len() % 4 == 0);
    let silent = |t: &TreeRecord| t.leaves.iter().flat_map(|l| &l.advantages).all(|&a| a == 0.0);
    assert!(many.trees[..4].iter().all(|t| !silent(t)) && many.trees[4..].iter().all(silent));
    // What is left out counts in no denominator: the update's tokens are those of the four tasks.
    let on_path = |t: &TreeRecord, mut at: usize| {
        let mut n = t.nodes[at].tokens.len();
        while let Some(parent) = t.nodes[at].parent {
            at = parent as usize;
            n += t.nodes[at].tokens.len();
        }
        n
    };
    let n_tokens = |t: &TreeRecord| t.leaves.iter().map(|l| on_path(t, l.node as usize)).sum::<usize>();
    assert_eq!(many.record.update.n_unrolled_tokens, many.trees[..4].iter().map(n_tokens).sum::<usize>());
    assert_eq!(many.record.n_tasks, many.trees.len());
    assert_eq!(text(&many.record), text(&step("9").record));
}

#[test]
fn an_overlong_trajectory_is_worth_less() {
    let reward = |share| {
        let run = run(&[("algorithm.name", "grpo"), ("reward.overlong_share", share)]);
        steps(&run, &mut model(&run.renderer), 0..1, 1).remove(0)
    };
    let (plain, punished) = (reward("0"), reward("1"));
    let scores = |o: &StepOutput| -> Vec<f64> {
        o.trees.iter().flat_map(|t| &t.leaves).filter_map(|l| l.score.map(|s| s.reward)).collect()
    };
    let lengths = plain.trees.iter().flat_map(|t| {
        t.leaves.iter().map(|l| {
            let mut at = l.node as usize;
            let mut n = 0;
            while let Some(parent) = t.nodes[at].parent {
                n += t.nodes[at].tokens.len();
                at = parent as usize;
            }
            n
        })
    });
    for ((a, b), n) in scores(&plain).iter().zip(scores(&punished)).zip(lengths) {
        assert!((a - n as f64 / 120.0 - b).abs() < 1e-9, "{a} {b} {n}");
    }
}
