//! How does one program run in the sandbox? Its source on standard input, one JSON object on standard output.

use std::io::Read as _;
use std::path::PathBuf;

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;
use aepo_tools::fusion::Fusion;
use aepo_tools::python::{Backend, Cell, Execution, Limits, Program};
use aepo_tools::{Executor, PythonSettings, ToolsError};
use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::json;

use crate::commands::tool::session::Session;
use crate::error::usage;
use crate::progress::print;

/// Which sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// The best that works here
    Auto,
    /// Namespaces, with Landlock and a filter inside
    Namespaces,
    /// Landlock and a filter
    Landlock,
    /// A SandboxFusion server
    Sandboxfusion,
    /// Nothing but resource limits: a program can do whatever you can
    UnsafeLocal,
}

#[derive(Debug, clap::Args)]
pub struct ToolPythonArgs {
    /// Wall and processor time, seconds
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub timeout_secs: f64,
    /// Address space of a process, MiB
    #[arg(long, value_name = "M", default_value_t = 512)]
    pub memory_mb: u64,
    /// Output at which the program is killed, bytes
    #[arg(long, value_name = "N", default_value_t = 65536)]
    pub max_output_bytes: usize,
    /// Go on from the variables of the programs in this file, and add this one to it
    #[arg(long, value_name = "FILE")]
    pub session: Option<PathBuf>,
    /// Which sandbox
    #[arg(long, value_enum, default_value = "auto")]
    pub backend: BackendArg,
    /// Address of the SandboxFusion server
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// The interpreter [default: python3 of the search path]
    #[arg(long, value_name = "FILE")]
    pub interpreter: Option<PathBuf>,
}

/// Runs the program; fails only where it could not be run.
pub fn python(args: &ToolPythonArgs) -> anyhow::Result<()> {
    let limits = Limits {
        wall_secs: args.timeout_secs,
        cpu_secs: args.timeout_secs.clamp(0.0, 1e6).ceil().max(1.0) as u64,
        memory_mb: args.memory_mb,
        total_memory_mb: args.memory_mb.max(Limits::default().total_memory_mb),
        max_output_bytes: args.max_output_bytes,
        ..Limits::default()
    };
    limits.check().map_err(misuse)?;
    let mut source = Vec::new();
    std::io::stdin().lock().read_to_end(&mut source).context("reading the program from standard input")?;
    let mut session = args.session.as_deref().map(Session::open).transpose()?;
    let ran = match std::str::from_utf8(&source) {
        Ok(code) => run(args, &limits, code, session.as_mut())?,
        // What the interpreter says of such a file.
        Err(e) => Execution {
            outcome: ToolOutcome::Syntax,
            message: format!("SyntaxError: the source is not UTF-8 (byte {})", e.valid_up_to()),
            ..Execution::unavailable(String::new())
        },
    };
    print(&format!("{}\n", object(&ran)))?;
    if ran.outcome == ToolOutcome::Unavailable {
        anyhow::bail!("the program was not run: {}", ran.message);
    }
    Ok(())
}

fn run(args: &ToolPythonArgs, limits: &Limits, code: &str, session: Option<&mut Session>) -> anyhow::Result<Execution> {
    let (seed, earlier) = session.as_ref().map_or((Seed(0).child(0), &[][..]), |s| (s.next_seed(), &s.cells[..]));
    let program = Program { earlier, ..Program::new(code, seed, limits) };
    let ran = match (args.backend, &args.endpoint) {
        (BackendArg::Sandboxfusion, Some(endpoint)) => {
            let fusion =
                Fusion::new(endpoint, limits.max_output_bytes).map_err(|e| usage(format!("--endpoint: {e}"), ""))?;
            fusion.run(&program)
        }
        (BackendArg::Sandboxfusion, None) => {
            return Err(usage("--backend sandboxfusion: where is the server?", "name it: --endpoint http://HOST:PORT"));
        }
        (_, Some(_)) => return Err(usage("--endpoint has no effect without --backend sandboxfusion", "")),
        (backend, None) => match Executor::start(&settings(args, backend, limits), 1, None) {
            Ok(executor) => executor.run(&program),
            Err(e @ ToolsError::Setting { .. }) => return Err(misuse(e)),
            Err(e) => Execution::unavailable(e.to_string()),
        },
    };
    // A program that was killed leaves the session as it was before.
    if let (Some(session), ToolOutcome::Ok | ToolOutcome::Raised) = (session, ran.outcome) {
        session.add(Cell { code: code.to_owned(), seed })?;
    }
    Ok(ran)
}

/// Names the argument that a setting came from.
fn misuse(error: ToolsError) -> anyhow::Error {
    let ToolsError::Setting { name, value, rule } = &error else { return error.into() };
    let argument = match *name {
        "python.wall_secs" => "--timeout-secs",
        "python.memory_mb" => "--memory-mb",
        "python.max_output_bytes" => "--max-output-bytes",
        other => other,
    };
    usage(format!("{argument} {value}: {rule}"), "")
}

fn settings(args: &ToolPythonArgs, backend: BackendArg, limits: &Limits) -> PythonSettings {
    PythonSettings {
        interpreter: args.interpreter.clone(),
        backend: match backend {
            BackendArg::Namespaces => Backend::Namespaces,
            BackendArg::Landlock => Backend::Landlock,
            BackendArg::UnsafeLocal => Backend::UnsafeLocal,
            BackendArg::Auto | BackendArg::Sandboxfusion => Backend::Auto,
        },
        sessions: args.session.is_some(),
        limits: limits.clone(),
        ..PythonSettings::default()
    }
}

/// The printed form. What ended the program stands at the end of its error output, where an interpreter puts it.
fn object(ran: &Execution) -> serde_json::Value {
    let mut stderr = ran.stderr.clone();
    if !ran.message.is_empty() {
        if !stderr.is_empty() && !stderr.ends_with('\n') {
            stderr.push('\n');
        }
        stderr += &ran.message;
        stderr.push('\n');
    }
    json!({
        "outcome": ran.outcome, "value": ran.value, "stdout": ran.stdout, "stderr": stderr, "exit_code": ran.exit_code,
        "truncated": ran.truncated, "wall_secs": ran.wall_secs, "cpu_secs": ran.cpu_secs, "max_rss_mb": ran.max_rss_mb,
    })
}
