//! Is an acknowledged answer there after the process was killed? `AEPO_KILLS` says how often it is; 3 times without it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use aepo::seed::Seed;
use aepo::tool::{CallId, ToolCall, ToolName, ToolOutcome, ToolSpec, Toolset as _};
use aepo_tools::cache::{Cache, Mode};
use aepo_tools::toolset::{Answer, Basis};
use aepo_tools::{Tools, ToolsSettings};

use crate::{Say, offer, settings, silent};

const SAY: Say = |call, _| Answer::ok(format!("answer to {} {}", call.input, "x".repeat(2000)));

fn call(n: u64) -> ToolCall {
    let (tool, earlier) = (ToolName::SEARCH, Arc::default());
    ToolCall { id: CallId(n), tool, input: n.to_string(), seed: Seed(0), earlier, shared: false }
}

fn tools(path: &std::path::Path, mode: Mode, say: Say) -> Tools {
    let (offer, _) = offer(&ToolSpec::search(), Basis::Input, say);
    Tools::of(vec![offer], &ToolsSettings { cache: Some(settings(path, mode)), ..ToolsSettings::default() }).unwrap()
}

/// Calls from a number on, 16 under way at once, and prints each that was answered, until it is killed.
#[test]
fn inner_recorder() {
    let Some(path) = std::env::var_os("AEPO_TEST_CACHE") else { return };
    let from: u64 = std::env::var("AEPO_TEST_FROM").unwrap().parse().unwrap();
    let mut tools = tools(path.as_ref(), Mode::Record, SAY);
    // The pipe to the test, whatever the test harness does to what is printed.
    let mut out = File::create("/proc/self/fd/1").unwrap();
    (from..from + 16).for_each(|n| tools.submit(call(n)));
    let mut next = from + 16;
    loop {
        for result in tools.poll(true) {
            assert_eq!(result.outcome, ToolOutcome::Ok, "{}", result.text);
            // One write: a line is there whole or not at all.
            out.write_all(format!("\nacknowledged {}\n", result.id.0).as_bytes()).unwrap();
            tools.submit(call(next));
            next += 1;
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    let n_kills: u64 = std::env::var("AEPO_KILLS").map_or(3, |n| n.parse().expect("AEPO_KILLS is a number"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.redb");
    let mut acknowledged = BTreeSet::new();
    for round in 0..n_kills {
        let from = acknowledged.last().map_or(0, |n| n + 1);
        let mut recorder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::inner_recorder", "--nocapture"])
            .env("AEPO_TEST_CACHE", &path)
            .env("AEPO_TEST_FROM", from.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(recorder.stdout.take().unwrap()).lines();
        // Killed at a random moment after a random number of answers, so in the middle of one transaction or another.
        let n_wanted = 1 + (Seed(9).child(round).uniform(0) * 150.0) as u64;
        let mut n_seen = 0;
        while n_seen < n_wanted {
            let line = lines.next().expect("it records until it is killed").unwrap();
            if let Some(n) = line.strip_prefix("acknowledged ") {
                acknowledged.insert(n.parse().unwrap());
                n_seen += 1;
            }
        }
        std::thread::sleep(std::time::Duration::from_micros((Seed(9).child(round).uniform(1) * 3000.0) as u64));
        recorder.kill().unwrap();
        recorder.wait().unwrap();
        // What it said before it was killed counts too; a line that is cut off does not.
        for line in lines.map_while(Result::ok) {
            acknowledged.extend(
                line.strip_prefix("acknowledged ").filter(|n| !n.is_empty()).map(|n| n.parse::<u64>().unwrap()),
            );
        }
        let mut tools = tools(&path, Mode::Replay, silent);
        for &n in &acknowledged {
            tools.submit(call(n));
            let results = tools.poll(true);
            assert_eq!(results[0].outcome, ToolOutcome::Ok, "call {n} is lost after kill {round}: {}", results[0].text);
            assert_eq!(results[0].text, SAY(&call(n), 0).text);
        }
    }
    let contents = Cache::open(&settings(&path, Mode::Record)).unwrap().contents().unwrap();
    let n_entries: u64 = contents.n_entries.values().sum();
    assert!(n_entries >= acknowledged.len() as u64);
}
