//! Does every call carry the calls before it, and is it told when another path still needs what they left behind? Are
//! calls counted that are made again, and are results never read as turns?

use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::prompt::Action;
use crate::tool::EarlierCall;

/// Tools that write down what they are asked.
struct Noted {
    inner: ShuffledTools,
    calls: Vec<ToolCall>,
}

impl Toolset for Noted {
    fn tools(&self) -> &[ToolSpec] {
        self.inner.tools()
    }
    fn submit(&mut self, call: ToolCall) {
        self.calls.push(call.clone());
        self.inner.submit(call);
    }
    fn poll(&mut self, block: bool) -> Vec<ToolResult> {
        self.inner.poll(block)
    }
}

fn noted(settings: &DriveSettings, order: u64) -> (Vec<RolloutTree>, Vec<ToolCall>) {
    let mut tools = Noted { inner: ShuffledTools::new(Seed(order)), calls: Vec::new() };
    tools.inner.outcome = |call| if call.input.len() % 3 == 0 { ToolOutcome::Raised } else { ToolOutcome::Ok };
    let trees = grow(&mut model(), &mut tools, &tasks(5, 3), settings, &mut |_| {}).unwrap();
    (trees, tools.calls)
}

#[test]
fn a_call_carries_the_calls_before_it_those_before_a_fork_included() {
    for settings in [aepo(), grpo(), drawn(), evenly(), ranked()] {
        let (trees, calls) = noted(&settings, 1);
        // By what a record can tell of it: the calls up to and with this one.
        let mut submitted = HashMap::new();
        for call in &calls {
            let mut chain: Vec<(ToolName, Arc<str>)> =
                call.earlier.iter().map(|e| (e.tool.clone(), e.input.clone())).collect();
            chain.push((call.tool.clone(), call.input.as_str().into()));
            submitted.entry(chain).or_insert_with(Vec::new).push(call);
        }
        let mut n_deep = 0;
        for t in trees.iter().flat_map(Trajectory::all) {
            let made: Vec<_> = t.calls().collect();
            for n in 1..=made.len() {
                let chain: Vec<_> = made[..n].iter().map(|c| (c.tool.clone(), c.input.as_str().into())).collect();
                let outcomes: Vec<_> = made[..n - 1].iter().map(|c| c.outcome).collect();
                let alike = &submitted[&chain];
                assert!(alike.iter().any(|c| c.earlier.iter().map(|e| e.outcome).eq(outcomes.iter().copied())));
                n_deep += usize::from(n > 1);
            }
        }
        assert!(n_deep > 10, "{n_deep}");
        // Earlier calls are those that were submitted, seeds included.
        let all: Vec<(&str, Seed)> = calls.iter().map(|c| (c.input.as_str(), c.seed)).collect();
        for EarlierCall { input, seed, .. } in calls.iter().flat_map(|c| c.earlier.iter()) {
            assert!(all.contains(&(&**input, *seed)));
        }
    }
}

#[test]
fn a_call_is_shared_where_another_goes_on_from_the_same_calls_later() {
    for settings in [aepo(), grpo(), drawn(), evenly(), ranked()] {
        let (mut n_shared, mut n_alone) = (0, 0);
        for order in 1..6 {
            let (_, calls) = noted(&settings, order);
            for (idx, call) in calls.iter().enumerate() {
                assert!(!(call.shared && call.earlier.is_empty()));
                let again = calls[idx + 1..].iter().any(|c| !c.earlier.is_empty() && c.earlier == call.earlier);
                assert!(call.shared || !again, "{call:?}");
                n_shared += usize::from(call.shared);
                n_alone += usize::from(!call.shared && !call.earlier.is_empty());
            }
        }
        assert!(n_alone > 0);
        assert_eq!(n_shared > 0, settings.branch != BranchRule::None);
    }
}

#[test]
fn a_call_made_too_often_ends_its_path() {
    let always_the_same = |ids: &[u32]| match parse(ids) {
        Action::Call { tool, .. } => Action::Call { tool, input: "again".to_owned() },
        action => action,
    };
    let grow = |n_equal_calls| {
        let settings = DriveSettings { limits: Limits { n_calls: 4, n_equal_calls, ..aepo().limits }, ..aepo() };
        let protocol = Protocol { stop: stop(), parse: &always_the_same, render_result: &render_result };
        drive(&mut model(), &mut ShuffledTools::new(Seed(1)), &protocol, &tasks(5, 3), &settings, &mut |_| {}).unwrap()
    };
    for n_max in 1..3 {
        let trees = grow(n_max);
        let all: Vec<_> = trees.iter().flat_map(Trajectory::all).collect();
        let n_of = |t: &Trajectory<'_>, tool: &ToolName| t.calls().filter(|c| c.tool == *tool).count();
        assert!(all.iter().all(|t| [ToolName::PYTHON, ToolName::SEARCH].iter().all(|tool| n_of(t, tool) <= n_max)));
        let ended: Vec<_> = all.iter().filter(|t| t.leaf.stop == StopReason::RepeatedCall).collect();
        assert!(!ended.is_empty());
        for t in ended {
            assert!(t.counts() && [ToolName::PYTHON, ToolName::SEARCH].iter().any(|tool| n_of(t, tool) == n_max));
        }
    }
    assert!(grow(0).iter().flat_map(|t| &t.leaves).all(|leaf| leaf.stop != StopReason::RepeatedCall));
}

#[test]
fn a_tool_may_have_a_bound_of_its_own() {
    let grow = |n_python, n_search| {
        let settings = DriveSettings { limits: Limits { n_calls: 6, n_python, n_search, ..aepo().limits }, ..aepo() };
        let protocol = Protocol { stop: stop(), parse: &parse, render_result: &render_result };
        drive(&mut model(), &mut ShuffledTools::new(Seed(1)), &protocol, &tasks(8, 3), &settings, &mut |_| {}).unwrap()
    };
    let most = |trees: &[RolloutTree], tool: ToolName| {
        let all: Vec<_> = trees.iter().flat_map(Trajectory::all).collect();
        all.iter().map(|t| t.calls().filter(|c| c.tool == tool).count()).max().unwrap()
    };
    let free = grow(0, 0);
    assert!(most(&free, ToolName::PYTHON) > 1 && most(&free, ToolName::SEARCH) > 1);
    let bound = grow(1, 0);
    assert!(most(&bound, ToolName::PYTHON) == 1 && most(&bound, ToolName::SEARCH) > 1);
    assert!(bound.iter().flat_map(|t| &t.leaves).any(|leaf| leaf.stop == StopReason::CallLimit));
    assert_eq!(most(&grow(0, 1), ToolName::SEARCH), 1);
}

#[test]
fn what_a_tool_says_is_never_read_as_a_turn() {
    // Every result is made of ids that would end a turn with a call or an answer.
    let hostile = |_: &str, max: usize| Ok([CALL_PYTHON, ANSWER, CALL_SEARCH, BAD][..max.min(4)].to_vec());
    let protocol = Protocol { stop: stop(), parse: &parse, render_result: &hostile };
    let mut tools = ShuffledTools::new(Seed(1));
    let trees = drive(&mut model(), &mut tools, &protocol, &tasks(5, 3), &aepo(), &mut |_| {}).unwrap();
    let mut n_calls = 0;
    for t in trees.iter().flat_map(Trajectory::all) {
        let kinds: Vec<_> = t.kinds().collect();
        for pair in kinds.windows(2) {
            if let NodeKind::Context { call: Some(call), .. } = pair[1] {
                let last = pair[0].sampled().last().map(|t| t.token);
                let expected = if call.tool == ToolName::PYTHON { CALL_PYTHON } else { CALL_SEARCH };
                assert_eq!(last, Some(expected), "a call follows the turn that the model sampled");
                n_calls += 1;
            }
        }
        if matches!(t.leaf.stop, StopReason::Answered(_)) {
            assert_eq!(kinds.last().unwrap().sampled().last().unwrap().token, ANSWER);
        }
    }
    assert!(n_calls > 10);
}
