//! Does every call carry the calls before it, and is it told when another path still needs what they left behind?

use std::collections::HashMap;

use super::*;
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
            let mut chain: Vec<_> = call.earlier.iter().map(|e| (e.tool.clone(), e.input.clone())).collect();
            chain.push((call.tool.clone(), call.input.clone()));
            submitted.entry(chain).or_insert_with(Vec::new).push(call);
        }
        let mut n_deep = 0;
        for t in trees.iter().flat_map(Trajectory::all) {
            let made: Vec<_> = t.calls().collect();
            for n in 1..=made.len() {
                let chain: Vec<_> = made[..n].iter().map(|c| (c.tool.clone(), c.input.clone())).collect();
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
            assert!(all.contains(&(input.as_str(), *seed)));
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
