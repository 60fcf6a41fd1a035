//! How fast are calls recorded and replayed? `cargo run --release -p aepo-tools --example cache -- [CALLS] [UNDER_WAY]`
//!
//! Answers are 4 KB and cost nothing, so the times are those of the toolset and the cache alone. Every recorded answer
//! is on the disk before it counts.

use std::sync::Arc;
use std::time::Instant;

use aepo::seed::Seed;
use aepo::tool::{CallId, ToolCall, ToolName, ToolOutcome, ToolSpec, Toolset as _};
use aepo_tools::cache::{CacheSettings, Mode};
use aepo_tools::toolset::{Answer, Basis, Limits, Offer, Provider};
use aepo_tools::{Tools, ToolsError, ToolsSettings};

struct Instant4Kb([ToolSpec; 1]);

impl Provider for Instant4Kb {
    fn specs(&self) -> &[ToolSpec] {
        &self.0
    }

    fn identity(&self) -> String {
        "four kilobytes 1".to_owned()
    }

    fn basis(&self) -> Basis {
        Basis::Input
    }

    fn call(&mut self, call: &ToolCall, _deadline: Instant) -> Answer {
        Answer::ok(format!("{} {}", call.input, "x".repeat(4090)))
    }
}

fn main() -> Result<(), ToolsError> {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<u64>().ok());
    let (n_calls, n_under_way) = (numbers.next().unwrap_or(20_000), numbers.next().unwrap_or(64));
    // Beside the program, not in a temporary directory, which may be in memory.
    let here = std::env::current_dir().map_err(|source| ToolsError::Io { what: "asking where we are", source })?;
    let dir = tempfile::tempdir_in(here).map_err(|source| ToolsError::Io { what: "making a directory", source })?;
    let path = dir.path().join("cache.redb");
    let modes = [
        ("no cache", None),
        ("record", Some(Mode::Record)),
        ("recorded already", Some(Mode::Record)),
        ("replay", Some(Mode::Replay)),
    ];
    println!("{n_calls} calls with answers of 4 KB, {n_under_way} under way at once");
    for (name, mode) in modes {
        let cache = mode.map(|mode| CacheSettings { path: path.clone(), mode, negative_secs: 3600 });
        let make = || -> Result<Box<dyn Provider>, ToolsError> { Ok(Box::new(Instant4Kb([ToolSpec::search()]))) };
        let offer = Offer { make: Arc::new(make), limits: Limits { n_workers: 2, ..Limits::default() }, until: None };
        let began = Instant::now();
        let mut tools = Tools::of(vec![offer], &ToolsSettings { cache, ..ToolsSettings::default() })?;
        let opened = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let (mut next, mut n_back) = (0, 0);
        while n_back < n_calls {
            while next < n_calls && next - n_back < n_under_way {
                let (tool, earlier, input) = (ToolName::SEARCH, Arc::default(), format!("query {next}"));
                tools.submit(ToolCall { id: CallId(next), tool, input, seed: Seed(next), earlier, shared: false });
                next += 1;
            }
            for result in tools.poll(true) {
                assert_eq!(result.outcome, ToolOutcome::Ok, "{}", result.text);
                n_back += 1;
            }
        }
        let secs = began.elapsed().as_secs_f64();
        println!(
            "{name:>16}: opened in {:6.1} ms, {:8.0} calls/s, {:.3} ms each",
            opened * 1e3,
            n_calls as f64 / secs,
            secs * 1e3 / n_calls as f64
        );
    }
    let n_bytes = std::fs::metadata(&path).map_or(0, |about| about.len());
    println!("the file has {} MB", n_bytes >> 20);
    Ok(())
}
