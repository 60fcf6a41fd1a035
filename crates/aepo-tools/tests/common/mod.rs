//! What do the tests share? Tools with small limits, and one program run to its answer.
#![allow(dead_code)]

use std::sync::Arc;

use aepo::seed::Seed;
use aepo::tool::{CallId, ToolCall, ToolName, ToolOutcome, ToolResult, Toolset};
use aepo_tools::python::{Backend, Limits};
use aepo_tools::{PythonSettings, Tools};

/// Python alone. Fails where no interpreter or no sandbox is to be had, with the message a user would see.
pub fn python(n_workers: usize, settings: PythonSettings) -> Tools {
    Tools::start(n_workers, Some(settings), None).unwrap_or_else(|e| panic!("{e}"))
}

/// The usual settings, but for the limits.
pub fn limited(limits: Limits) -> PythonSettings {
    PythonSettings { limits, ..PythonSettings::default() }
}

/// The backends that hold programs, each of which this machine must offer.
pub const HELD: [Backend; 2] = [Backend::Namespaces, Backend::Landlock];

/// Python alone, in each of [`HELD`].
pub fn each(n_workers: usize, settings: &PythonSettings) -> impl Iterator<Item = Tools> {
    HELD.map(|backend| PythonSettings { backend, ..settings.clone() }).into_iter().map(move |s| python(n_workers, s))
}

/// Limits long enough for a busy machine.
pub fn patient() -> PythonSettings {
    limited(Limits { wall_secs: 30.0, cpu_secs: 20, ..Limits::default() })
}

/// Limits for programs that must run into them.
pub fn hasty() -> PythonSettings {
    limited(Limits { wall_secs: 2.0, cpu_secs: 10, ..Limits::default() })
}

pub fn call(id: u64, tool: ToolName, input: &str) -> ToolCall {
    ToolCall { id: CallId(id), tool, input: input.to_owned(), seed: Seed(7), earlier: Arc::default(), shared: false }
}

/// One call, from submission to result.
pub fn answer(tools: &mut Tools, call: ToolCall) -> ToolResult {
    let id = call.id;
    tools.submit(call);
    let mut results = tools.poll(true);
    assert_eq!(results.len(), 1);
    let result = results.remove(0);
    assert_eq!(result.id, id);
    result
}

pub fn run(tools: &mut Tools, code: &str) -> (ToolOutcome, String) {
    let result = answer(tools, call(0, ToolName::PYTHON, code));
    (result.outcome, result.text)
}
