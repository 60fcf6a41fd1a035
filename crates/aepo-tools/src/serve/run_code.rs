//! How can other frameworks run programs in this sandbox? `POST /run_code`, as SandboxFusion answers it.
//!
//! Python is the one language. A script finds the files of its request and those that it was asked for come back, both
//! by code that runs inside the sandbox, so that a path leads nowhere that the program itself could not reach. The same
//! request gives the same answer: random numbers do not differ from call to call.

use std::collections::BTreeMap;

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::fusion::wire::{RunCode, RunCodeAnswer};
use crate::python::{Executor, Limits, Program};
use crate::serve::{self, Gate};

/// Output of a program, bytes; SandboxFusion keeps as much.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// Files of one answer, bytes.
const MAX_FETCHED_BYTES: usize = 8 << 20;
/// Names of one request.
const MAX_FILES: usize = 256;
/// The longest name of a file or directory, bytes (`NAME_MAX` of Linux), and of a path (`PATH_MAX`).
const MAX_NAME_BYTES: usize = 255;
const MAX_PATH_BYTES: usize = 4095;
/// The longest program, seconds.
const MAX_WALL_SECS: f64 = 3600.0;

const SCRIPT: &str = include_str!("script.py");

/// `POST /run_code`. Programs get the executor's limits, a request's own time, and its own memory where that is less.
pub fn route(executor: Executor, gate: Gate) -> Router {
    let run = move |request: Request| {
        let (executor, gate) = (executor.clone(), gate.clone());
        async move { gate.answer(request.into_body(), move |body| answer(&executor, &body)).await }
    };
    Router::new().route("/run_code", post(run))
}

fn answer(executor: &Executor, body: &[u8]) -> Response {
    let request: RunCode = match serde_json::from_slice(body) {
        Ok(request) => request,
        // FastAPI's status for a body of another form.
        Err(e) => return serve::complain(StatusCode::UNPROCESSABLE_ENTITY, &e.to_string()),
    };
    let answer = run(executor, &request).unwrap_or_else(RunCodeAnswer::error);
    let value =
        serde_json::to_value(answer).unwrap_or_else(|e| json!({ "status": "SandboxError", "message": e.to_string() }));
    serve::json(StatusCode::OK, &value)
}

/// Runs one request; an error says why it cannot be.
fn run(executor: &Executor, request: &RunCode) -> Result<RunCodeAnswer, String> {
    if request.language != "python" {
        return Err(format!("language {:?} is not offered: this server runs python", request.language));
    }
    let limits = limits(executor.limits(), request)?;
    let n_files = request.files.len() + request.fetch_files.len();
    if n_files > MAX_FILES {
        return Err(format!("{n_files} files; a request holds at most {MAX_FILES}"));
    }
    request.files.keys().chain(&request.fetch_files).try_for_each(|name| check_path(name))?;
    let mut files = Vec::new();
    for (name, content) in &request.files {
        let Some(content) = content else { continue };
        BASE64_STANDARD.decode(content).map_err(|e| format!("files[{name:?}] is not base64: {e}"))?;
        files.push(json!([name, content]));
    }
    // JSON lists of texts are Python expressions with the same value.
    let (source, files, wanted) = (json!(request.code), Value::from(files), json!(request.fetch_files));
    let code = format!("{SCRIPT}_script({source}, {files}, {wanted}, {MAX_FETCHED_BYTES})\n");
    let stdin = request.stdin.as_deref().unwrap_or("").as_bytes();
    let ran = executor.run(&Program { stdin, ..Program::new(&code, Seed(0), &limits) });
    let told = ran.value.as_deref().map_or((None, BTreeMap::new()), |text| told(text, &request.fetch_files));
    let (exit_code, files) = if ran.outcome == ToolOutcome::Ok { told } else { (None, told.1) };
    Ok(RunCodeAnswer::of(&ran, exit_code, files))
}

/// Exit code and files, as the script tells them; what it tells in another form is not believed.
fn told(text: &str, wanted: &[String]) -> (Option<i32>, BTreeMap<String, String>) {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return (None, BTreeMap::new()) };
    let code = value["code"].as_i64().filter(|code| (0..256).contains(code)).map(|code| code as i32);
    let contents = value["files"].as_array().map_or(&[][..], Vec::as_slice);
    let files = wanted.iter().zip(contents).filter_map(|(name, content)| {
        let content = content.as_str().filter(|content| BASE64_STANDARD.decode(content).is_ok())?;
        Some((name.clone(), content.to_owned()))
    });
    (code, files.collect())
}

fn limits(base: &Limits, request: &RunCode) -> Result<Limits, String> {
    let wall_secs = request.run_timeout;
    if !(wall_secs > 0.0 && wall_secs <= MAX_WALL_SECS) {
        return Err(format!("run_timeout = {wall_secs}: must be more than 0 and at most {MAX_WALL_SECS}"));
    }
    let memory_mb = match u64::try_from(request.memory_limit_mb) {
        Ok(mb) if mb > 0 => mb.min(base.memory_mb),
        _ => base.memory_mb,
    };
    // What comes back of files is base64, in the value.
    let for_files = if request.fetch_files.is_empty() { 1 << 12 } else { MAX_FETCHED_BYTES / 3 * 4 + (1 << 16) };
    let max_output_bytes = MAX_OUTPUT_BYTES + for_files;
    let limits = Limits { wall_secs, cpu_secs: wall_secs.ceil() as u64, memory_mb, max_output_bytes, ..base.clone() };
    limits.check().map_err(|e| e.to_string())?;
    Ok(limits)
}

/// Whether a path names something below the working directory. The sandbox would hold any other as well; this says so.
fn check_path(path: &str) -> Result<(), String> {
    let fine = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= MAX_NAME_BYTES;
    if path.len() > MAX_PATH_BYTES || path.contains('\0') || !path.split('/').all(fine) {
        let shown: String = path.chars().take(80).collect();
        return Err(format!("{shown:?} is no relative path below the working directory"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_working_directory_are_taken() {
        for good in ["a", "a/b.txt", ".hidden", "é/ü", "a b", "..."] {
            check_path(good).unwrap();
        }
        let long = "x".repeat(256);
        for bad in ["", "/", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/", "a\0b", &long, &"x/".repeat(3000)] {
            assert!(check_path(bad).unwrap_err().contains("no relative path"), "{bad:?}");
        }
    }

    #[test]
    fn what_a_script_tells_is_not_believed_in_another_form() {
        let wanted = ["a".to_owned(), "b".to_owned()];
        let (code, files) = told(r#"{"code":3,"files":["YQ==",null]}"#, &wanted);
        assert_eq!((code, files.len(), files["a"].as_str()), (Some(3), 1, "YQ=="));
        let (code, files) = told(r#"{"code":300,"files":["not base64","YQ==","YQ=="]}"#, &wanted);
        assert_eq!((code, files.keys().collect::<Vec<_>>()), (None, vec![&"b".to_owned()]));
        assert_eq!(told("'text'", &wanted), (None, BTreeMap::new()));
        assert_eq!(told(r#"{"files":{"a":1}}"#, &wanted), (None, BTreeMap::new()));
    }
}
