//! What do these tests call? A provider whose input says what it does, and which counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use aepo::seed::Seed;
use aepo::tool::{CallId, ToolCall, ToolName, ToolOutcome, ToolResult, ToolSpec, Toolset as _};
use aepo_tools::toolset::{Answer, Basis, BreakerSettings, Limits, Offer, Provider};
use aepo_tools::{Tools, ToolsError, ToolsSettings};

/// What the test and all instances share.
#[derive(Default)]
pub struct World {
    /// Calls that instances have begun.
    pub n_calls: AtomicU64,
    /// Instances made.
    pub n_made: AtomicU64,
    /// Instances dropped.
    pub n_dropped: AtomicU64,
    /// No further instance can be made.
    pub is_broken: AtomicBool,
    /// Every call fails.
    pub is_down: AtomicBool,
    gate: Mutex<bool>,
    opened: Condvar,
}

impl World {
    /// Lets calls of `wait` go on, now and later.
    pub fn open_gate(&self) {
        *self.gate.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub fn calls(&self) -> u64 {
        self.n_calls.load(Ordering::SeqCst)
    }
}

struct Fake {
    world: Arc<World>,
    basis: Basis,
    specs: [ToolSpec; 1],
    n_retries: u64,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.world.n_dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Provider for Fake {
    fn specs(&self) -> &[ToolSpec] {
        &self.specs
    }

    fn identity(&self) -> String {
        "fake 1".to_owned()
    }

    fn basis(&self) -> Basis {
        self.basis
    }

    fn n_retries(&self) -> u64 {
        self.n_retries
    }

    fn call(&mut self, call: &ToolCall, _deadline: Instant) -> Answer {
        let n = self.world.n_calls.fetch_add(1, Ordering::SeqCst);
        self.n_retries += 2;
        if self.world.is_down.load(Ordering::SeqCst) {
            return Answer::unavailable("it is down");
        }
        match call.input.as_str() {
            "panic" => panic!("on purpose"),
            "no" => Answer::raised("no"),
            "count" => Answer::ok(n.to_string()),
            "long" => Answer::ok("é".repeat(1000)),
            "down" => Answer::unavailable("it is down"),
            input if input.starts_with("wait") => {
                let mut gate = self.world.gate.lock().unwrap();
                while !*gate {
                    gate = self.world.opened.wait(gate).unwrap();
                }
                Answer::ok("waited")
            }
            input => Answer::ok(format!("{input} {n}")),
        }
    }
}

/// Limits that no test runs into by chance.
pub fn limits(n_workers: usize) -> Limits {
    let breaker = BreakerSettings { n_failures: 0, ..BreakerSettings::default() };
    Limits { n_workers, deadline_secs: 600.0, max_calls: 0, breaker }
}

pub fn offer(world: &Arc<World>, basis: Basis, limits: Limits) -> Offer {
    let world = Arc::clone(world);
    let make = move || -> Result<Box<dyn Provider>, ToolsError> {
        if world.is_broken.load(Ordering::SeqCst) {
            return Err(ToolsError::Index("no more instances".to_owned()));
        }
        world.n_made.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Fake { world: Arc::clone(&world), basis, specs: [ToolSpec::search()], n_retries: 0 }))
    };
    Offer { make: Arc::new(make), limits, until: None }
}

pub fn tools(world: &Arc<World>, basis: Basis, limits: Limits) -> Tools {
    Tools::of(vec![offer(world, basis, limits)], &ToolsSettings::default()).unwrap()
}

pub fn call(id: u64, input: &str) -> ToolCall {
    let (tool, earlier) = (ToolName::SEARCH, Arc::default());
    ToolCall { id: CallId(id), tool, input: input.to_owned(), seed: Seed(7), earlier, shared: false }
}

/// So many results, by the ids of their calls; fails when they do not come for minutes.
pub fn collect(tools: &mut Tools, n: usize) -> Vec<ToolResult> {
    let (mut results, until) = (Vec::new(), Instant::now() + Duration::from_secs(300));
    while results.len() < n {
        assert!(Instant::now() < until, "only {} of {n} calls came back", results.len());
        results.extend(tools.poll(true));
    }
    assert!(tools.poll(false).is_empty(), "more came back than were asked for");
    results.sort_by_key(|result| result.id);
    results
}

pub fn outcomes(results: &[ToolResult]) -> Vec<ToolOutcome> {
    results.iter().map(|result| result.outcome).collect()
}
