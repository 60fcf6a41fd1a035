//! Does the driver grow the same trees whatever the tools' order, and the trees that the rules ask for?

mod earlier;
mod expand;
mod lockstep;
mod versions;

use std::cell::Cell;

use crate::policy::{SampleParams, Sampler};
use crate::rollout::branch::{BranchRule, Outcome, entropy_verdict, next_chain};
use crate::rollout::budget::BudgetRule;
use crate::rollout::drive::{DriveSettings, DriveTask, Limits, Progress, Protocol, RolloutError, drive};
use crate::rollout::trajectory::{Trajectory, head_entropy};
use crate::rollout::tree::{NodeKind, RolloutTree, StopReason};
use crate::seed::Seed;
use crate::testing::{
    ANSWER, BAD, CALL_PYTHON, CALL_SEARCH, ShuffledTools, TablePolicy, VOCAB, answer_of, limits, parse, render_result,
    stop,
};
use expand::{evenly, ranked};

use crate::tool::{CallId, ToolCall, ToolName, ToolOutcome, ToolResult, ToolSpec, Toolset};

pub fn aepo() -> DriveSettings {
    DriveSettings {
        k: 8,
        budget: BudgetRule::Entropy { beta: 0.5 },
        branch: BranchRule::Entropy { alpha: 0.5, gamma: 0.2, tau: 0.5, penalty_slope: 0.05 },
        entropy_tokens: 3,
        branch_width: 1,
        limits: limits(),
        params: SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false },
        max_live_paths: 1000,
    }
}

fn drawn() -> DriveSettings {
    let params = SampleParams { top_entropy: true, ..aepo().params };
    DriveSettings { budget: BudgetRule::EntropyReference, branch: BranchRule::DrawnAepo, params, ..aepo() }
}

fn grpo() -> DriveSettings {
    DriveSettings { budget: BudgetRule::AllGlobal, branch: BranchRule::None, ..aepo() }
}

fn tasks(n: u64, seed: u64) -> Vec<DriveTask> {
    (0..n).map(|i| DriveTask { prompt: vec![0, 5 + i as u32 % 7], seed: Seed(seed).child(i) }).collect()
}

/// A model that calls often, so that many forks compete for few leaves.
fn model() -> TablePolicy {
    let mut policy = TablePolicy::new(VOCAB, 120, Seed(11));
    for row in &mut policy.logits {
        for (token, shift) in [(CALL_PYTHON, 0.6), (CALL_SEARCH, 0.6), (ANSWER, -0.7), (BAD, -1.0)] {
            row[token as usize] += shift;
        }
    }
    policy
}

fn grow(
    policy: &mut TablePolicy,
    tools: &mut dyn Toolset,
    tasks: &[DriveTask],
    settings: &DriveSettings,
    on: &mut dyn FnMut(Progress),
) -> Result<Vec<RolloutTree>, RolloutError> {
    let protocol = Protocol { stop: stop(), parse: &parse, render_result: &render_result };
    let trees = drive(policy, tools, &protocol, tasks, settings, on);
    assert_eq!(policy.n_open(), 0, "every path is closed when the driver returns");
    trees
}

fn trees(settings: &DriveSettings, seed: u64) -> Vec<RolloutTree> {
    grow(&mut model(), &mut ShuffledTools::new(Seed(1)), &tasks(5, seed), settings, &mut |_| {}).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_trees_in_whatever_order_tools_answer() {
    let settings = [aepo(), grpo(), drawn(), DriveSettings { branch_width: 3, ..aepo() }, evenly(), ranked()];
    for settings in settings {
        let first = trees(&settings, 3);
        for order in 2..12 {
            let again = grow(&mut model(), &mut ShuffledTools::new(Seed(order)), &tasks(5, 3), &settings, &mut |_| {});
            assert_eq!(first, again.unwrap(), "order {order}");
        }
        assert_ne!(first, trees(&settings, 4));
    }
    let forks = trees(&aepo(), 3).iter().flat_map(|t| &t.decisions).filter(|d| d.n_children > 0).count();
    assert!(forks > 3, "the test must see forks compete, saw {forks}");
}

#[test]
fn a_tree_does_not_depend_on_the_other_tasks_of_the_batch() {
    for settings in [aepo(), drawn(), evenly(), ranked()] {
        let together = trees(&settings, 3);
        let alone = grow(&mut model(), &mut ShuffledTools::new(Seed(5)), &tasks(5, 3)[2..3], &settings, &mut |_| {});
        assert_eq!(together[2], alone.unwrap()[0]);
    }
}

#[test]
fn how_many_trees_grow_at_once_changes_nothing() {
    for settings in [aepo(), drawn(), evenly(), ranked()] {
        let together = trees(&settings, 3);
        for max_live_paths in [1, 8, 17] {
            assert_eq!(together, trees(&DriveSettings { max_live_paths, ..settings }, 3));
        }
    }
}

#[test]
fn every_tree_has_k_leaves_and_its_budget_adds_up() {
    for seed in 0..20 {
        for settings in [aepo(), grpo(), drawn(), DriveSettings { branch_width: 3, ..aepo() }] {
            for tree in trees(&settings, seed) {
                assert_eq!(tree.leaves.len(), settings.k);
                let n_children: usize = tree.decisions.iter().map(|d| d.n_children).sum();
                let n_roots = tree.leaves.iter().filter(|l| l.key.0.len() == 1).count();
                assert_eq!(n_roots + n_children, settings.k);
                assert!(n_roots >= tree.budget.n_global && n_children <= tree.budget.n_branch);
                let mut keys: Vec<_> = tree.leaves.iter().map(|l| &l.key).collect();
                keys.dedup();
                assert_eq!(keys.len(), settings.k, "no leaf is a copy of another");
            }
        }
    }
}

#[test]
fn what_the_budget_leaves_is_filled_all_at_once() {
    // Turns of one token that answer: no call, so no fork, and the fill has to make up for all of them.
    let mut policy = model();
    for row in &mut policy.logits {
        row[ANSWER as usize] = 50.0;
    }
    let settings = DriveSettings { budget: BudgetRule::Fixed { initial_rollouts: 2 }, ..aepo() };
    let tree = grow(&mut policy, &mut ShuffledTools::new(Seed(1)), &tasks(1, 1), &settings, &mut |_| {}).unwrap();
    assert_eq!(policy.n_queued, [2, 6], "two root samples, then the six that are missing together");
    assert_eq!(tree[0].leaves.len(), 8);
}

#[test]
fn the_split_follows_the_first_trajectory() {
    for tree in trees(&aepo(), 6) {
        let first = Trajectory::new(&tree, &tree.leaves[0]);
        let root = first.root_entropy(3).unwrap();
        let after = first.tool_entropies(3);
        let tool = if after.is_empty() { root } else { after.iter().sum::<f64>() / after.len() as f64 };
        assert_eq!((tree.root_entropy, tree.tool_entropy), (root, tool));
        assert_eq!(tree.budget, aepo().budget.split(8, root, tool));
    }
}

#[test]
fn decisions_follow_the_rule_on_the_entropy_after_the_call() {
    let mut n = 0;
    for tree in trees(&aepo(), 7) {
        for d in &tree.decisions {
            n += 1;
            // The path that decides, found by its key; its tool result number n_calls and the turn behind it.
            let leaf = tree.leaves.iter().find(|l| l.key == d.path).unwrap();
            let path = Trajectory::new(&tree, leaf);
            let kinds: Vec<&NodeKind> = path.kinds().collect();
            let result = kinds
                .iter()
                .enumerate()
                .filter(|(_, k)| matches!(k, NodeKind::Context { call: Some(_), .. }))
                .nth(d.n_calls as usize - 1)
                .unwrap()
                .0;
            assert_eq!(d.entropy, head_entropy(kinds[result + 1].sampled(), 3).unwrap());
            assert_eq!(d.entropy_delta, d.entropy - path.root_entropy(3).unwrap());
            let v = entropy_verdict(0.5, 0.2, 0.5, 0.05, d.entropy_delta, d.n_consecutive);
            assert_eq!(d.probability, v.probability);
            match d.outcome {
                Outcome::Forked => assert!(v.fork && d.n_children == 1),
                Outcome::LowEntropy => assert!(!v.high),
                Outcome::Penalised => assert!(v.high && !v.fork),
                Outcome::NoBudget => assert!(v.fork),
            }
            // l goes on from the path's last decision.
            let later = tree.decisions.iter().find(|e| e.path == d.path && e.n_calls == d.n_calls + 1);
            if let Some(e) = later {
                assert_eq!(e.n_consecutive, next_chain(d.n_consecutive, d.outcome));
            }
        }
    }
    assert!(n > 10, "saw {n} decisions");
}

#[test]
fn a_child_shares_everything_up_to_the_tool_result_and_samples_its_own_turn() {
    let mut n = 0;
    for seed in 0..5 {
        for tree in trees(&aepo(), seed) {
            for leaf in tree.leaves.iter().filter(|l| l.key.0.len() > 1) {
                let parent_key = &leaf.key.0[..leaf.key.0.len() - 2];
                let parent = tree.leaves.iter().find(|l| l.key.0 == parent_key).unwrap();
                let (child, parent) = (Trajectory::new(&tree, leaf), Trajectory::new(&tree, parent));
                let shared = child.nodes.iter().zip(&parent.nodes).take_while(|(a, b)| a == b).count();
                let last = &tree.nodes[child.nodes[shared - 1].0 as usize].kind;
                assert!(matches!(last, NodeKind::Context { call: Some(_), .. }), "forks lie at a result's end");
                assert_eq!(
                    child.calls().take(leaf.key.0[leaf.key.0.len() - 2] as usize).count() as u32,
                    leaf.key.0[leaf.key.0.len() - 2]
                );
                n += 1;
            }
        }
    }
    assert!(n > 5);
}

#[test]
fn a_paths_tokens_are_what_the_model_saw() {
    // The log-probability of every sampled token is recomputed from the ids before it: they agree only if the
    // concatenation of the nodes is what the policy had on its path.
    let policy = model();
    for tree in trees(&aepo(), 9) {
        for t in Trajectory::all(&tree) {
            let (ids, mask) = (t.ids(), t.mask());
            assert_eq!(ids.len(), t.n_tokens());
            let mut sampled = t.sampled();
            for i in 0..ids.len() {
                if mask[i] {
                    let s = sampled.next().unwrap();
                    let (logp, entropy) = policy.distribution(ids[i - 1], 1.0);
                    assert_eq!((s.token, s.logprob), (ids[i], logp[ids[i] as usize] as f32));
                    assert_eq!(s.entropy, entropy as f32);
                }
            }
            assert!(sampled.next().is_none());
        }
    }
}

#[test]
fn limits_end_a_path_without_a_forged_token() {
    let stops = stop();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..10 {
        for tree in trees(&aepo(), seed) {
            for t in Trajectory::all(&tree) {
                seen.insert(t.leaf.stop.name());
                let last_turn = t.kinds().last().unwrap();
                let ends_in_stop = last_turn.sampled().last().is_some_and(|s| stops.ids.contains(&s.token));
                match &t.leaf.stop {
                    StopReason::Answered(_) => {
                        assert_eq!(last_turn.sampled().last().unwrap().token, ANSWER)
                    }
                    StopReason::CallLimit => {
                        assert_eq!(t.calls().count(), 3);
                        assert!(ends_in_stop, "the last token is the model's own call");
                    }
                    StopReason::MaxTurnTokens => {
                        assert_eq!((last_turn.sampled().len(), ends_in_stop), (20, false))
                    }
                    StopReason::MaxResponseTokens => assert!(!ends_in_stop && t.n_tokens() <= 92),
                    _ => {}
                }
            }
        }
    }
    assert!(seen.is_superset(&["answered", "no-action", "call-limit"].into()), "{seen:?}");

    // A turn limit and a context that bind.
    let tight = DriveSettings { limits: Limits { turn_tokens: 2, ..aepo().limits }, ..aepo() };
    let cut = trees(&tight, 1);
    assert!(cut.iter().flat_map(|t| &t.leaves).any(|l| l.stop == StopReason::MaxTurnTokens));
    let mut small = TablePolicy::new(VOCAB, 14, Seed(11));
    let full = grow(&mut small, &mut ShuffledTools::new(Seed(1)), &tasks(5, 1), &aepo(), &mut |_| {}).unwrap();
    assert!(full.iter().flat_map(|t| &t.leaves).any(|l| l.stop == StopReason::ContextFull));
    assert!(
        full.iter()
            .flat_map(|t| Trajectory::all(t).into_iter().map(|t| t.n_tokens()).collect::<Vec<_>>())
            .all(|n| n <= 14)
    );
}

#[test]
fn a_prompt_without_room_is_one_clear_error() {
    let mut small = TablePolicy::new(VOCAB, 2, Seed(1));
    let error = grow(&mut small, &mut ShuffledTools::new(Seed(1)), &tasks(1, 1), &grpo(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, RolloutError::PromptTooLong { task_idx: 0, n_tokens: 2, context_len: 2 }));
}

#[test]
fn an_unavailable_tool_ends_and_flags_its_path_only() {
    let mut tools = ShuffledTools::new(Seed(1));
    tools.outcome = |call| {
        if call.tool == ToolName::SEARCH { ToolOutcome::Unavailable } else { ToolOutcome::Ok }
    };
    let trees = grow(&mut model(), &mut tools, &tasks(5, 3), &aepo(), &mut |_| {}).unwrap();
    let all: Vec<_> = trees.iter().flat_map(Trajectory::all).collect();
    assert!(all.iter().any(|t| !t.counts()) && all.iter().any(|t| t.counts()));
    for t in &all {
        let failed = t.calls().any(|c| c.outcome == ToolOutcome::Unavailable);
        assert_eq!(failed, !t.counts());
        if failed {
            assert_eq!(t.kinds().last().unwrap().n_tokens(), 0, "the model read nothing of a call that was not made");
        }
    }
}

/// Holds every search call back until nothing else is left to do.
struct StuckSearch<'a> {
    inner: ShuffledTools,
    stuck: Vec<ToolCall>,
    n_ended: &'a Cell<usize>,
    /// Ended paths and stuck calls at the first release.
    at_release: Option<(usize, usize)>,
}

impl Toolset for StuckSearch<'_> {
    fn tools(&self) -> &[ToolSpec] {
        &[]
    }
    fn submit(&mut self, call: ToolCall) {
        if call.tool == ToolName::SEARCH { self.stuck.push(call) } else { self.inner.submit(call) }
    }
    fn poll(&mut self, block: bool) -> Vec<ToolResult> {
        if block && self.inner.held.is_empty() {
            self.at_release.get_or_insert((self.n_ended.get(), self.stuck.len()));
            return self.stuck.drain(..).map(|c| answer_of(&c, ToolOutcome::Timeout)).collect();
        }
        self.inner.poll(block)
    }
}

#[test]
fn a_stuck_call_delays_no_other_path() {
    let n_ended = Cell::new(0);
    let mut tools =
        StuckSearch { inner: ShuffledTools::new(Seed(1)), stuck: Vec::new(), n_ended: &n_ended, at_release: None };
    let (tasks, settings) = (tasks(6, 3), grpo());
    grow(&mut model(), &mut tools, &tasks, &settings, &mut |p| n_ended.set(p.n_ended)).unwrap();
    let (ended, stuck) = tools.at_release.unwrap();
    assert!(stuck > 0);
    assert_eq!(ended + stuck, 6 * 8, "all paths but the stuck ones have ended before the stuck ones are waited for");
}

#[test]
fn a_stuck_tree_delays_no_other_tree() {
    let n_ended = Cell::new(0);
    let mut tools =
        StuckSearch { inner: ShuffledTools::new(Seed(1)), stuck: Vec::new(), n_ended: &n_ended, at_release: None };
    let (tasks, settings) = (tasks(6, 3), aepo());
    let stuck_trees = grow(&mut model(), &mut tools, &tasks, &settings, &mut |p| n_ended.set(p.n_ended)).unwrap();
    let searches = |t: &RolloutTree| Trajectory::all(t).iter().any(|p| p.calls().any(|c| c.tool == ToolName::SEARCH));
    let free = stuck_trees.iter().filter(|t| !searches(t)).count();
    assert!(tools.at_release.unwrap().0 >= free * 8);
}

/// Promises and does not deliver.
struct Silent;

impl Toolset for Silent {
    fn tools(&self) -> &[ToolSpec] {
        &[]
    }
    fn submit(&mut self, _: ToolCall) {}
    fn poll(&mut self, _: bool) -> Vec<ToolResult> {
        Vec::new()
    }
}

/// Answers what nobody asked.
struct Stray;

impl Toolset for Stray {
    fn tools(&self) -> &[ToolSpec] {
        &[]
    }
    fn submit(&mut self, _: ToolCall) {}
    fn poll(&mut self, _: bool) -> Vec<ToolResult> {
        vec![ToolResult { id: CallId(99_999), outcome: ToolOutcome::Ok, text: String::new(), wall_secs: 0.0 }]
    }
}

#[test]
fn a_toolset_that_breaks_its_promise_is_an_error_not_a_hang() {
    let error = grow(&mut model(), &mut Silent, &tasks(3, 3), &aepo(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, RolloutError::ToolsSilent { n_in_flight } if n_in_flight > 0), "{error}");
    let error = grow(&mut model(), &mut Stray, &tasks(3, 3), &aepo(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, RolloutError::StrayResult(CallId(99_999))), "{error}");
}

#[test]
fn progress_counts_every_token_and_path_once() {
    let mut last = Progress::default();
    let trees = grow(&mut model(), &mut ShuffledTools::new(Seed(1)), &tasks(5, 3), &aepo(), &mut |p| last = p).unwrap();
    let n_sampled: usize = trees.iter().flat_map(|t| &t.nodes).map(|n| n.kind.sampled().len()).sum();
    assert_eq!(last, Progress { n_sampled, n_ended: 40, n_total: 40, n_calling: 0 });
}

#[test]
fn the_version_of_the_weights_is_kept() {
    let mut policy = model();
    policy.version = 7;
    let trees = grow(&mut policy, &mut ShuffledTools::new(Seed(1)), &tasks(1, 3), &aepo(), &mut |_| {}).unwrap();
    for node in &trees[0].nodes {
        if let NodeKind::Sampled { version, .. } = &node.kind {
            assert_eq!(*version, policy.version());
        }
    }
}
