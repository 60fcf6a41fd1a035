//! How are programs run by a SandboxFusion server, our own or another?
//!
//! Such a server runs scripts and knows no seeds, values or sessions, so each program is sent inside a small one of ours
//! that adds them. How well it holds programs is its own affair: there is no level of ours for it.

mod provider;
pub mod wire;

use std::time::{Duration, Instant};

use aepo::tool::ToolOutcome;

use crate::http::{self, Client, HttpError, Request};
use crate::python::{Execution, Limits, Program};

pub use provider::offer;

/// What a server may take beyond the program's own time: starting it, and sending the answer.
pub(crate) const SERVER_PATIENCE: Duration = Duration::from_secs(30);
/// JSON may write a byte as six.
const ESCAPED: usize = 6;

/// A server that runs programs.
#[derive(Clone, Debug)]
pub struct Fusion {
    client: Client,
    url: String,
}

/// Turns programs into one script. Its text is ours; what stands in for the programs is a JSON list, which is Python.
const CELLS: &str = include_str!("cells.py");

impl Fusion {
    /// The server at `endpoint`, such as `http://127.0.0.1:8080`; its answers hold at most `max_output_bytes` of output.
    pub fn new(endpoint: &str, max_output_bytes: usize) -> Result<Fusion, HttpError> {
        let limits = http::Limits {
            max_bytes: max_output_bytes.saturating_mul(ESCAPED).saturating_add(1 << 20),
            tries: 2,
            ..http::Limits::default()
        };
        let url = endpoint.trim_end_matches('/');
        let url = if url.ends_with("/run_code") { url.to_owned() } else { format!("{url}/run_code") };
        Ok(Fusion { client: Client::new(limits)?, url })
    }

    /// What answers, for a cache.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("sandboxfusion {}", self.url)
    }

    /// Runs one program; never panics, always answers. A server that is away, busy or broken is `Unavailable`.
    #[must_use]
    pub fn run(&self, program: &Program) -> Execution {
        let began = Instant::now();
        let limits = program.limits;
        let request = wire::RunCode {
            compile_timeout: limits.wall_secs,
            run_timeout: limits.wall_secs,
            memory_limit_mb: i64::try_from(limits.memory_mb).unwrap_or(i64::MAX),
            code: script(program),
            // Standard input may hold any bytes, a JSON text may not.
            stdin: Some(String::from_utf8_lossy(program.stdin).into_owned()),
            language: "python".to_owned(),
            files: Default::default(),
            fetch_files: Vec::new(),
        };
        let unavailable =
            |reason: String| Execution { wall_secs: began.elapsed().as_secs_f64(), ..Execution::unavailable(reason) };
        let body = match serde_json::to_value(&request) {
            Ok(body) => body,
            Err(e) => return unavailable(format!("writing the request: {e}")),
        };
        let deadline = began + Duration::from_secs_f64(limits.wall_secs) + SERVER_PATIENCE;
        let asked = Request { url: &self.url, query: &[], key: None, body: Some(&body) };
        let answer = match self.client.json(asked, deadline) {
            Ok(answer) => answer,
            Err(e) => return unavailable(e.to_string()),
        };
        match serde_json::from_value(answer) {
            Ok(answer) => finish(wire::execution(answer, began.elapsed().as_secs_f64()), limits),
            Err(e) => unavailable(format!("the sandbox server's answer has another form: {e}")),
        }
    }
}

/// The script that runs a program as a cell, after its earlier ones.
fn script(program: &Program) -> String {
    let cells = program.earlier.iter().map(|cell| (cell.seed.0, cell.code.as_str()));
    let cells: Vec<(u64, &str)> = cells.chain([(program.seed.0, program.code)]).collect();
    // A JSON list of numbers and strings is a Python expression with the same value.
    let cells = serde_json::Value::from(cells.iter().map(|cell| serde_json::json!(cell)).collect::<Vec<_>>());
    format!("{CELLS}_run({cells})\n")
}

/// Says which limit was passed, and cuts what is too long; the server killed nothing for it.
fn finish(mut ran: Execution, limits: &Limits) -> Execution {
    if ran.outcome == ToolOutcome::Timeout && ran.message == wire::TIME_LIMIT {
        ran.message = format!("killed: time limit of {} s", limits.wall_secs);
    }
    let mut left = limits.max_output_bytes;
    for text in [&mut ran.stdout, &mut ran.stderr] {
        if text.len() > left {
            let end = (0..=left).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            (ran.truncated, left) = (true, 0);
        }
        left -= text.len().min(left);
    }
    if ran.truncated && ran.outcome != ToolOutcome::Unavailable {
        ran.outcome = ToolOutcome::Output;
        ran.message = format!("output limit of {} bytes", limits.max_output_bytes);
    }
    ran
}

#[cfg(test)]
mod tests {
    use super::*;
    use aepo::seed::Seed;

    #[test]
    fn a_server_that_is_away_is_our_fault() {
        // A port that was free a moment ago, and that nobody listens on now.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let fusion = Fusion::new(&format!("http://127.0.0.1:{port}/"), 8192).unwrap();
        let ran = fusion.run(&Program::new("1", Seed(1), &Limits::default()));
        assert_eq!(ran.outcome, ToolOutcome::Unavailable);
        assert!(ran.message.contains(&format!("127.0.0.1:{port}")), "{}", ran.message);
    }

    #[test]
    fn output_is_cut_at_characters() {
        let ran =
            Execution { stdout: "aé".to_owned(), stderr: "b".to_owned(), ..Execution::unavailable(String::new()) };
        let ran = Execution { outcome: ToolOutcome::Ok, ..ran };
        let cut_at = |max_output_bytes| {
            let ran = finish(ran.clone(), &Limits { max_output_bytes, ..Limits::default() });
            (ran.outcome, ran.stdout, ran.stderr)
        };
        assert_eq!(cut_at(4), (ToolOutcome::Ok, "aé".to_owned(), "b".to_owned()));
        assert_eq!(cut_at(3), (ToolOutcome::Output, "aé".to_owned(), String::new()));
        assert_eq!(cut_at(2), (ToolOutcome::Output, "a".to_owned(), String::new()));
    }
}
