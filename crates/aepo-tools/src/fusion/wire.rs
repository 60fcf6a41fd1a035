//! What do SandboxFusion's requests and answers look like, and what do they mean here?
//!
//! Names, defaults and nullable fields are those of its `sandbox_api.py` and `runners/types.py`. Fields that it may add
//! are passed over.

use std::collections::BTreeMap;

use aepo::tool::ToolOutcome;
use serde::{Deserialize, Serialize};

use crate::python::Execution;

/// `POST /run_code`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunCode {
    /// For compiled languages, seconds. Python is not compiled.
    #[serde(default = "ten_secs")]
    pub compile_timeout: f64,
    /// Wall time of the program, seconds.
    #[serde(default = "ten_secs")]
    pub run_timeout: f64,
    /// Address space, MiB; the server's own limit where it is not positive.
    #[serde(default = "no_limit", rename = "memory_limit_MB")]
    pub memory_limit_mb: i64,
    /// The program.
    pub code: String,
    /// What it reads from standard input.
    #[serde(default)]
    pub stdin: Option<String>,
    /// `python`, and others that this server does not run.
    pub language: String,
    /// Files that the program finds: contents in base64 by path.
    #[serde(default)]
    pub files: BTreeMap<String, Option<String>>,
    /// Paths of files to send back.
    #[serde(default)]
    pub fetch_files: Vec<String>,
}

fn ten_secs() -> f64 {
    10.0
}

fn no_limit() -> i64 {
    -1
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Every command ended with 0.
    Success,
    /// A command ended with another code or was killed.
    Failed,
    /// The server's fault.
    SandboxError,
}

/// How one command went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandStatus {
    /// It ended.
    Finished,
    /// It could not be run.
    Error,
    /// It was killed at its deadline.
    TimeLimitExceeded,
}

/// One command's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandResult {
    /// How it went.
    pub status: CommandStatus,
    /// Wall time, seconds.
    #[serde(default)]
    pub execution_time: Option<f64>,
    /// Exit code, or a signal's number with a minus; none if it was killed at its deadline.
    #[serde(default)]
    pub return_code: Option<i32>,
    /// What it printed.
    #[serde(default)]
    pub stdout: Option<String>,
    /// What it printed on the other stream.
    #[serde(default)]
    pub stderr: Option<String>,
}

/// The answer of `/run_code`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunCodeAnswer {
    /// How the request went.
    pub status: Status,
    /// Why, if it was the server's fault.
    #[serde(default)]
    pub message: String,
    /// Of a language that is compiled.
    #[serde(default)]
    pub compile_result: Option<CommandResult>,
    /// Of the program.
    #[serde(default)]
    pub run_result: Option<CommandResult>,
    /// Which of several servers it was.
    #[serde(default)]
    pub executor_pod_name: Option<String>,
    /// Files that were asked for: contents in base64 by path. Those that are not there are left out.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

impl RunCodeAnswer {
    /// The server's fault.
    #[must_use]
    pub fn error(message: String) -> RunCodeAnswer {
        let (compile_result, run_result, executor_pod_name) = (None, None, None);
        let (status, files) = (Status::SandboxError, BTreeMap::new());
        RunCodeAnswer { status, message, compile_result, run_result, executor_pod_name, files }
    }

    /// A program's end. `exit_code` is that of the script inside where it got so far as to tell.
    #[must_use]
    pub fn of(ran: &Execution, exit_code: Option<i32>, files: BTreeMap<String, String>) -> RunCodeAnswer {
        if ran.outcome == ToolOutcome::Unavailable {
            return RunCodeAnswer::error(ran.message.clone());
        }
        let (status, return_code) = match ran.outcome {
            ToolOutcome::Timeout => (CommandStatus::TimeLimitExceeded, None),
            _ => (CommandStatus::Finished, Some(exit_code.or(ran.exit_code).unwrap_or_else(|| -signal(&ran.message)))),
        };
        let mut stderr = ran.stderr.clone();
        if !ran.message.is_empty() {
            if !stderr.is_empty() && !stderr.ends_with('\n') {
                stderr.push('\n');
            }
            stderr.push_str(&ran.message);
            stderr.push('\n');
        }
        let run = CommandResult {
            status,
            execution_time: Some(ran.wall_secs),
            return_code,
            stdout: Some(ran.stdout.clone()),
            stderr: Some(stderr),
        };
        let status = if return_code == Some(0) { Status::Success } else { Status::Failed };
        let (message, compile_result, executor_pod_name) = (String::new(), None, None);
        RunCodeAnswer { status, message, compile_result, run_result: Some(run), executor_pod_name, files }
    }
}

/// The signal that a message names; without one it was a kill.
fn signal(message: &str) -> i32 {
    let named = message.strip_prefix("killed by signal ").and_then(|number| number.parse().ok());
    named.unwrap_or(libc::SIGKILL)
}

/// What an answer means for us. What the server does not tell, which is everything but success, failure and time, is
/// read from the last line of the error output, as a person would.
#[must_use]
pub fn execution(answer: RunCodeAnswer, wall_secs: f64) -> Execution {
    let unavailable = |reason: String| Execution { wall_secs, ..Execution::unavailable(reason) };
    let Some(run) = answer.run_result else {
        let reason = if answer.message.is_empty() { "it gave no result".to_owned() } else { short(&answer.message) };
        return unavailable(format!("sandbox server: {reason}"));
    };
    let (stdout, stderr) = (run.stdout.unwrap_or_default(), run.stderr.unwrap_or_default());
    if answer.status == Status::SandboxError || run.status == CommandStatus::Error {
        let reason = if answer.message.is_empty() { &stderr } else { &answer.message };
        return unavailable(format!("sandbox server: {}", short(reason)));
    }
    let mut ran = Execution { stdout, exit_code: run.return_code, wall_secs, ..Execution::unavailable(String::new()) };
    (ran.outcome, ran.stderr, ran.message) = match (run.status, run.return_code) {
        (CommandStatus::TimeLimitExceeded, _) => ended(ToolOutcome::Timeout, &stderr, TIME_LIMIT.to_owned()),
        (_, Some(0)) => (ToolOutcome::Ok, stderr, String::new()),
        (_, Some(code)) if code < 0 => {
            (ran.exit_code, ran.truncated) = (None, false);
            ended(ToolOutcome::Signal, &stderr, format!("killed by signal {}", -code))
        }
        (_, code) => {
            let (before, last) = last_line(&stderr);
            let kind = last.split([':', ' ']).next().unwrap_or("");
            let outcome = match kind {
                "MemoryError" => ToolOutcome::Memory,
                "SyntaxError" | "IndentationError" | "TabError" if !stderr.contains("Traceback") => ToolOutcome::Syntax,
                _ => ToolOutcome::Raised,
            };
            let code = code.map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
            (outcome, before.to_owned(), if last.is_empty() { code } else { last.to_owned() })
        }
    };
    ran
}

/// The last line for a program that was killed at a deadline, where the server does not say which.
pub(crate) const TIME_LIMIT: &str = "killed: time limit";

/// The last line of a program that was killed: as a server of ours says it, else in our own words.
fn ended(outcome: ToolOutcome, stderr: &str, words: String) -> (ToolOutcome, String, String) {
    match last_line(stderr) {
        (before, last) if last.starts_with("killed") => (outcome, before.to_owned(), last.to_owned()),
        _ => (outcome, stderr.to_owned(), words),
    }
}

/// The text before the last line, and that line.
fn last_line(text: &str) -> (&str, &str) {
    let text = text.trim_end();
    match text.rfind('\n') {
        Some(at) => (&text[..=at], &text[at + 1..]),
        None => ("", text),
    }
}

/// A server's words for a message of ours.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RunCodeAnswer {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_least_request_has_the_servers_defaults() {
        let request: RunCode = serde_json::from_str(r#"{"code":"print(1)","language":"python"}"#).unwrap();
        assert_eq!((request.compile_timeout, request.run_timeout, request.memory_limit_mb), (10.0, 10.0, -1));
        assert!(request.stdin.is_none() && request.files.is_empty() && request.fetch_files.is_empty());
        let written = serde_json::to_value(&request).unwrap();
        assert_eq!(written["memory_limit_MB"], -1);
        assert!(serde_json::from_str::<RunCode>(r#"{"language":"python"}"#).is_err());
    }

    #[test]
    fn answers_are_outcomes() {
        let of = |answer: &str| {
            let ran = execution(read(answer), 1.5);
            (ran.outcome, ran.text())
        };
        let ran = |status: &str, run: &str| {
            format!(r#"{{"status":"{status}","message":"","run_result":{run},"files":{{}}}}"#)
        };
        let fine = r#"{"status":"Finished","execution_time":0.02,"return_code":0,"stdout":"45\n","stderr":""}"#;
        assert_eq!(of(&ran("Success", fine)), (ToolOutcome::Ok, "45".to_owned()));
        let raised = r#"{"status":"Finished","return_code":1,"stdout":"a\n","stderr":"Traceback (most recent call last):\nZeroDivisionError: division by zero\n"}"#;
        assert_eq!(
            of(&ran("Failed", raised)),
            (
                ToolOutcome::Raised,
                "a\nTraceback (most recent call last):\nZeroDivisionError: division by zero".to_owned()
            )
        );
        let syntax = r#"{"status":"Finished","return_code":1,"stdout":"","stderr":"  File \"t.py\", line 1\nSyntaxError: invalid syntax\n"}"#;
        assert_eq!(of(&ran("Failed", syntax)).0, ToolOutcome::Syntax);
        let memory = r#"{"status":"Finished","return_code":1,"stdout":null,"stderr":"Traceback\nMemoryError\n"}"#;
        assert_eq!(of(&ran("Failed", memory)).0, ToolOutcome::Memory);
        let signal = r#"{"status":"Finished","return_code":-11,"stdout":"","stderr":""}"#;
        assert_eq!(of(&ran("Failed", signal)), (ToolOutcome::Signal, "killed by signal 11".to_owned()));
        let silent = r#"{"status":"Finished","return_code":3,"stdout":"","stderr":""}"#;
        assert_eq!(of(&ran("Failed", silent)), (ToolOutcome::Raised, "exit code 3".to_owned()));
        let late =
            r#"{"status":"TimeLimitExceeded","execution_time":10.0,"return_code":null,"stdout":"a","stderr":""}"#;
        assert_eq!(of(&ran("Failed", late)), (ToolOutcome::Timeout, "a\nkilled: time limit".to_owned()));
        let ours = r#"{"status":"TimeLimitExceeded","stdout":"a","stderr":"e\nkilled: time limit of 2 s\n"}"#;
        assert_eq!(of(&ran("Failed", ours)), (ToolOutcome::Timeout, "a\ne\nkilled: time limit of 2 s".to_owned()));
        let error = r#"{"status":"Error","stderr":"exception on running command"}"#;
        assert_eq!(of(&ran("SandboxError", error)).0, ToolOutcome::Unavailable);
        let nothing = r#"{"status":"SandboxError","message":"no such language","run_result":null}"#;
        assert_eq!(
            of(nothing),
            (ToolOutcome::Unavailable, "tool unavailable: sandbox server: no such language".to_owned())
        );
    }

    #[test]
    fn outcomes_are_answers() {
        let base = Execution { outcome: ToolOutcome::Ok, ..Execution::unavailable(String::new()) };
        let answer = |outcome, exit_code, message: &str| {
            let ran = Execution { outcome, exit_code, message: message.to_owned(), ..base.clone() };
            let answer = RunCodeAnswer::of(&ran, None, BTreeMap::new());
            (answer.status, answer.run_result.map(|run| (run.status, run.return_code)))
        };
        use CommandStatus::{Finished, TimeLimitExceeded};
        assert_eq!(answer(ToolOutcome::Ok, Some(0), ""), (Status::Success, Some((Finished, Some(0)))));
        assert_eq!(answer(ToolOutcome::Raised, Some(7), "x"), (Status::Failed, Some((Finished, Some(7)))));
        assert_eq!(answer(ToolOutcome::Timeout, None, "x"), (Status::Failed, Some((TimeLimitExceeded, None))));
        assert_eq!(
            answer(ToolOutcome::Signal, None, "killed by signal 11"),
            (Status::Failed, Some((Finished, Some(-11))))
        );
        assert_eq!(answer(ToolOutcome::Memory, None, "killed"), (Status::Failed, Some((Finished, Some(-9)))));
        assert_eq!(answer(ToolOutcome::Unavailable, None, "x"), (Status::SandboxError, None));
    }
}
