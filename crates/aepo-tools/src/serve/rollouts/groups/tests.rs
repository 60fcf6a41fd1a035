//! Does every caller get its own trajectory, once, of the tree that it asked for, in bounded room?

use aepo::data::task::Grader;
use aepo::record::LeafRecord;
use aepo::rollout::budget::SamplingBudget;
use aepo::rollout::tree::PathKey;

use super::*;

fn order(name: &str) -> Order {
    let task = Task {
        id: name.to_owned(),
        kind: "rollout".to_owned(),
        question: "?".to_owned(),
        answers: Vec::new(),
        grader: Grader::Qa,
    };
    Order { task, prompt: vec![1], seed: vec![1, 2], servers: Vec::new() }
}

fn tree(order: Order, k: u32) -> TreeRecord {
    let leaf = |i| LeafRecord {
        key: PathKey(vec![i]),
        node: 0,
        stop: "answered".to_owned(),
        answer: None,
        score: None,
        advantages: Vec::new(),
    };
    TreeRecord {
        step: 0,
        task: order.task,
        budget: SamplingBudget { total: k as usize, n_global: k as usize, n_branch: 0 },
        root_entropy: 0.0,
        tool_entropy: 0.0,
        decisions: Vec::new(),
        expansions: Vec::new(),
        nodes: Vec::new(),
        leaves: (0..k).map(leaf).collect(),
    }
}

const SHORT: Duration = Duration::from_millis(1);

fn groups(max_groups: usize, keep: Duration) -> Groups {
    Groups::new(Limits { max_groups, keep })
}

#[test]
fn a_group_is_taken_once_and_told_to_all_who_joined() {
    let groups = groups(4, Duration::from_secs(60));
    let told = [groups.join(order("a")).unwrap(), groups.join(order("a")).unwrap()];
    assert_eq!(groups.wait(SHORT), Some(order("a")));
    assert_eq!(groups.take(&["http://other".to_owned()]), None, "it is not for these servers");
    assert_eq!(groups.take(&[]), Some(order("a")));
    assert_eq!((groups.wait(SHORT), groups.take(&[])), (None, None), "it is taken once");
    groups.done(tree(order("a"), 2));
    let late = groups.join(order("a")).unwrap();
    for told in told.iter().chain([&late]) {
        assert_eq!(told.borrow().clone().unwrap().unwrap().leaves.len(), 2);
    }
    assert_eq!(groups.wait(SHORT), None, "who comes late has nothing grown anew");
    let other = Order { prompt: vec![2], ..order("a") };
    assert_eq!(groups.join(other).unwrap_err(), Unwelcome::Differs);
}

#[test]
fn room_is_made_by_what_was_fetched_whole_and_by_what_is_old() {
    let kept = groups(2, Duration::from_secs(60));
    for name in ["a", "b"] {
        kept.join(order(name)).unwrap();
        kept.done(tree(kept.take(&[]).unwrap(), 2));
    }
    kept.note_fetched("a", 0..1);
    assert_eq!(kept.join(order("c")).unwrap_err(), Unwelcome::Full);
    kept.note_fetched("a", 1..2);
    kept.join(order("c")).unwrap();
    assert!(kept.join(order("b")).unwrap().borrow().is_some(), "what is not fetched is kept");
    assert!(matches!(kept.join(order("d")), Err(Unwelcome::Full)), "c is not done, b not fetched");

    let old = groups(1, Duration::ZERO);
    old.join(order("a")).unwrap();
    old.done(tree(old.take(&[]).unwrap(), 2));
    old.join(order("b")).unwrap();
}

#[test]
fn what_fails_is_told_and_may_be_asked_for_again() {
    let groups = groups(2, Duration::from_secs(60));
    let told = groups.join(order("a")).unwrap();
    groups.fail("a", "no server");
    assert_eq!(told.borrow().clone().unwrap().unwrap_err().as_ref(), "no server");
    assert_eq!(groups.wait(SHORT), None);
    let again = groups.join(order("a")).unwrap();
    assert!(again.borrow().is_none());
    assert_eq!(groups.take(&[]), Some(order("a")));
    groups.close("stopped");
    assert_eq!(again.borrow().clone().unwrap().unwrap_err().as_ref(), "stopped");
    assert_eq!(groups.join(order("b")).unwrap_err(), Unwelcome::Closed);
}
