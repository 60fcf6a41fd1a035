//! Does every call come back, whatever a provider does?

mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aepo::seed::Seed;
use aepo::tool::{CallId, EarlierCall, ToolCall, ToolName, ToolOutcome, Toolset as _};
use aepo_tools::toolset::{Basis, BreakerSettings, Limits};
use aepo_tools::{Tools, ToolsError, ToolsSettings};
use fake::{World, call, collect, limits, offer, outcomes, tools};

use ToolOutcome::{Ok as Fine, Raised, Unavailable};

#[test]
fn a_panic_costs_its_own_call_and_the_instance() {
    let world = Arc::new(World::default());
    let mut tools = tools(&world, Basis::World, limits(1));
    for (id, input) in [(1, "panic"), (2, "work"), (3, "no")] {
        tools.submit(call(id, input));
    }
    tools.submit(ToolCall { tool: ToolName::PYTHON, ..call(4, "never offered") });
    let results = collect(&mut tools, 4);
    assert_eq!(outcomes(&results), [Unavailable, Fine, Raised, Unavailable]);
    assert!(results[0].text.contains("panicked") && results[3].text.contains("python is not offered"));
    assert!(tools.poll(true).is_empty(), "nothing is in flight");
    assert_eq!(world.n_made.load(Ordering::SeqCst), 2);
    let stats = &tools.stats()[&ToolName::SEARCH];
    assert_eq!((stats.n_calls, stats.n_made, stats.n_retries, stats.outcomes[&Fine]), (3, 3, 6, 1));
    assert_eq!(tools.stats()[&ToolName::PYTHON].n_refused, 1);
}

#[test]
fn a_provider_that_cannot_be_made_again_answers_nothing_and_hangs_nothing() {
    let world = Arc::new(World::default());
    let mut tools = tools(&world, Basis::World, limits(1));
    world.is_broken.store(true, Ordering::SeqCst);
    for id in 0..5 {
        tools.submit(call(id, if id == 0 { "panic" } else { "work" }));
    }
    let results = collect(&mut tools, 5);
    assert_eq!(outcomes(&results), [Unavailable; 5]);
    assert!(results[4].text.contains("no more instances"), "{}", results[4].text);
    // Whole again, it is tried anew.
    world.is_broken.store(false, Ordering::SeqCst);
    tools.submit(call(6, "work"));
    assert_eq!(outcomes(&collect(&mut tools, 1)), [Fine]);
}

#[test]
fn a_late_call_is_given_up_and_its_worker_replaced() {
    let world = Arc::new(World::default());
    let mut tools = tools(&world, Basis::World, Limits { deadline_secs: 0.2, ..limits(1) });
    tools.submit(call(1, "wait"));
    tools.submit(call(2, "work"));
    let results = collect(&mut tools, 2);
    assert_eq!(outcomes(&results), [Unavailable, Fine]);
    assert!(results[0].text.contains("did not answer within 0.2 s"), "{}", results[0].text);
    assert!(results[0].wall_secs >= 0.2);
    let stats = tools.stats()[&ToolName::SEARCH].clone();
    assert_eq!((stats.n_overdue, stats.n_replaced), (1, 1));
    // The late answer is heard by nobody, and its worker goes home.
    world.open_gate();
    let until = Instant::now() + Duration::from_secs(300);
    while world.n_dropped.load(Ordering::SeqCst) < 1 {
        assert!(tools.poll(false).is_empty() && Instant::now() < until);
        std::thread::yield_now();
    }
    tools.submit(call(3, "wait"));
    assert_eq!(outcomes(&collect(&mut tools, 1)), [Fine]);
}

#[test]
fn when_all_are_stuck_calls_still_come_back_and_threads_stay_few() {
    let world = Arc::new(World::default());
    let mut tools = tools(&world, Basis::World, Limits { deadline_secs: 0.05, ..limits(2) });
    for id in 0..40 {
        tools.submit(call(id, "wait"));
    }
    assert_eq!(outcomes(&collect(&mut tools, 40)), [Unavailable; 40]);
    assert!(world.n_made.load(Ordering::SeqCst) <= 5, "at most n_workers + 1 are given up, n_workers stand in");
    tools.submit(call(41, "work"));
    assert_eq!(outcomes(&collect(&mut tools, 1)), [Unavailable]);
    world.open_gate();
    let until = Instant::now() + Duration::from_secs(300);
    loop {
        tools.submit(call(42, "work"));
        if outcomes(&collect(&mut tools, 1)) == [Fine] {
            break;
        }
        assert!(Instant::now() < until, "it did not recover");
        std::thread::yield_now();
    }
}

#[test]
fn the_end_waits_for_nobody_who_is_stuck() {
    let world = Arc::new(World::default());
    let mut tools = tools(&world, Basis::World, limits(2));
    (0..5).for_each(|id| tools.submit(call(id, "wait")));
    while world.calls() < 2 {
        std::thread::yield_now();
    }
    let began = Instant::now();
    drop(tools);
    assert!(began.elapsed() < Duration::from_secs(30), "the calls would last for ever");
    world.open_gate();
}

#[test]
fn equal_calls_under_way_are_one() {
    let path = |seed: u64, earlier: &[&str]| ToolCall {
        seed: Seed(seed),
        earlier: earlier
            .iter()
            .map(|input| EarlierCall {
                tool: ToolName::SEARCH,
                input: (*input).into(),
                seed: Seed(0),
                outcome: ToolOutcome::Ok,
            })
            .collect(),
        ..call(0, "wait")
    };
    let calls = [path(1, &[]), path(1, &[]), path(1, &["a"]), path(1, &["a"]), path(2, &["a"]), path(2, &["b"])];
    for (basis, n_made) in [(Basis::Input, 1), (Basis::Seeded, 2), (Basis::Session, 4), (Basis::World, 6)] {
        let world = Arc::new(World::default());
        let mut tools = tools(&world, basis, limits(6));
        for (id, call) in calls.iter().enumerate() {
            tools.submit(ToolCall { id: CallId(id as u64), ..call.clone() });
        }
        world.open_gate();
        assert_eq!(outcomes(&collect(&mut tools, 6)), [Fine; 6]);
        assert_eq!(world.calls(), n_made, "{basis:?}");
        let stats = &tools.stats()[&ToolName::SEARCH];
        assert_eq!((stats.n_made, stats.n_joined, stats.n_calls), (n_made, 6 - n_made, 6));
        // What has ended is asked again where nothing is kept.
        tools.submit(call(9, "wait"));
        collect(&mut tools, 1);
        assert_eq!(world.calls(), n_made + 1);
    }
}

#[test]
fn a_budget_is_for_calls_that_are_made() {
    let world = Arc::new(World::default());
    let mut tools = tools(&world, Basis::Input, Limits { max_calls: 3, ..limits(1) });
    for (id, input) in ["wait", "wait", "b", "c", "d", "wait"].into_iter().enumerate() {
        tools.submit(call(id as u64, input));
    }
    world.open_gate();
    let results = collect(&mut tools, 6);
    assert_eq!(outcomes(&results), [Fine, Fine, Fine, Fine, Unavailable, Fine]);
    assert!(results[4].text.contains("the budget of 3 calls is spent"));
    let stats = &tools.stats()[&ToolName::SEARCH];
    assert_eq!((stats.n_made, stats.n_joined, stats.n_over_budget), (3, 2, 1));
}

#[test]
fn after_failures_in_a_row_a_provider_is_left_alone_and_tried_again() {
    let world = Arc::new(World::default());
    world.is_down.store(true, Ordering::SeqCst);
    let breaker = BreakerSettings { n_failures: 3, first_secs: 0.05, max_secs: 0.05 };
    let mut tools = tools(&world, Basis::World, Limits { breaker, ..limits(1) });
    (0..50).for_each(|id| tools.submit(call(id, "work")));
    let results = collect(&mut tools, 50);
    assert_eq!(outcomes(&results), [Unavailable; 50]);
    // One worker may have taken the next call when the third answer was heard.
    let stats = tools.stats()[&ToolName::SEARCH].clone();
    assert!(stats.n_held_back > 0 && stats.n_trips >= 1, "{stats:?}");
    assert_eq!(stats.n_made + stats.n_refused, 50);
    let held_back = "tool unavailable: held back after failures in a row, the last of them: it is down";
    assert_eq!(results[49].text, held_back);
    world.is_down.store(false, Ordering::SeqCst);
    let until = Instant::now() + Duration::from_secs(300);
    loop {
        tools.submit(call(99, "work"));
        if outcomes(&collect(&mut tools, 1)) == [Fine] {
            break;
        }
        assert!(Instant::now() < until, "it is never tried again");
        std::thread::yield_now();
    }
    assert!(!tools.is_held_back(&ToolName::SEARCH));
}

#[test]
fn long_results_are_cut_between_characters() {
    let world = Arc::new(World::default());
    let settings = ToolsSettings { max_result_bytes: 101, ..ToolsSettings::default() };
    let mut tools = Tools::of(vec![offer(&world, Basis::World, limits(1))], &settings).unwrap();
    tools.submit(call(1, "long"));
    let text = collect(&mut tools, 1).remove(0).text;
    assert_eq!(text, format!("{}\n[cut: 100 of 2000 bytes]", "é".repeat(50)));
    assert_eq!(tools.stats()[&ToolName::SEARCH].n_cut, 1);
}

#[test]
fn offers_that_cannot_work_are_refused() {
    let world = Arc::new(World::default());
    let start = |limits: Vec<Limits>| {
        let offers = limits.into_iter().map(|limits| offer(&world, Basis::World, limits)).collect();
        Tools::of(offers, &ToolsSettings::default()).err().map(|e| e.to_string())
    };
    assert_eq!(start(vec![limits(1)]), None);
    let twice = start(vec![limits(1), limits(1)]).unwrap();
    assert!(twice.contains("search") && twice.contains("only once"), "{twice}");
    for bad in [
        limits(0),
        Limits { deadline_secs: f64::NAN, ..limits(1) },
        Limits { deadline_secs: 0.0, ..limits(1) },
        Limits { breaker: BreakerSettings { first_secs: -1.0, ..BreakerSettings::default() }, ..limits(1) },
    ] {
        assert!(start(vec![bad]).is_some());
    }
    world.is_broken.store(true, Ordering::SeqCst);
    let error = Tools::of(vec![offer(&world, Basis::World, limits(1))], &ToolsSettings::default()).err();
    assert!(matches!(error, Some(ToolsError::Index(_))));
}
