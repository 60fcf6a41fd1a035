//! How do the caged interpreter and the index in memory answer calls? Each as a [`Provider`].

use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use aepo::tool::{EarlierCall, ToolCall, ToolOutcome, ToolSpec};

use crate::error::{ToolsError, io};
use crate::python::{Cell, Executor, Program, PythonSettings};
use crate::search::SearchIndex;
use crate::toolset::provider::{Answer, Basis, Limits, Offer, Provider};

/// A program is ended at its own limit; the call is given up this much later, seconds.
const AFTER_THE_PROGRAM_SECS: f64 = 5.0;
/// Programs in a row, each as slow as allowed, that a session may run again to come back to a state.
const REBUILT_PROGRAMS: f64 = 8.0;
/// A search takes milliseconds; one that takes this long is stuck, seconds.
const SEARCH_SECS: f64 = 60.0;

/// The caged interpreter, `n_workers` programs at once. Fails if the cage is not complete here.
pub fn python(settings: PythonSettings, n_workers: usize) -> Result<Offer, ToolsError> {
    let (cancelled, cancel): (PipeReader, PipeWriter) = std::io::pipe().map_err(io("making a pipe"))?;
    let cancelled = Arc::new(OwnedFd::from(cancelled));
    let sessions = settings.sessions;
    // A state that is built anew may take as long as all the programs that led to it; more than this many are given up.
    let n_programs = if sessions { REBUILT_PROGRAMS } else { 1.0 };
    let deadline_secs = n_programs * settings.limits.wall_secs + AFTER_THE_PROGRAM_SECS;
    let limits = Limits { n_workers, deadline_secs, ..Limits::default() };
    let specs = Arc::new([ToolSpec::python()]);
    let executor = Executor::start(&settings, n_workers, Some(cancelled))?;
    // The interpreter that was found and not only the one that was named: an update may leave the name as it is.
    let (level, interpreter) = (executor.level().name(), executor.interpreter().identity());
    let identity: Arc<str> = format!("python 3 {level} {interpreter} {settings:?}").into();
    let make = move || -> Result<Box<dyn Provider>, ToolsError> {
        let (executor, specs, identity) = (executor.clone(), Arc::clone(&specs), Arc::clone(&identity));
        Ok(Box::new(PythonTool { executor, specs, identity, sessions }))
    };
    Ok(Offer { make: Arc::new(make), limits, until: Some(Box::new(cancel)) })
}

/// The index in memory, `n_workers` searches at once.
#[must_use]
pub fn search(index: SearchIndex, n_workers: usize) -> Offer {
    let identity = index.identity();
    let (index, specs) = (Arc::new(index), Arc::new([ToolSpec::search()]));
    let make = move || -> Result<Box<dyn Provider>, ToolsError> {
        let identity = identity.clone();
        Ok(Box::new(SearchTool { index: Arc::clone(&index), specs: Arc::clone(&specs), identity }))
    };
    Offer {
        make: Arc::new(make),
        limits: Limits { n_workers, deadline_secs: SEARCH_SECS, ..Limits::default() },
        until: None,
    }
}

struct PythonTool {
    executor: Executor,
    specs: Arc<[ToolSpec; 1]>,
    identity: Arc<str>,
    sessions: bool,
}

impl Provider for PythonTool {
    fn specs(&self) -> &[ToolSpec] {
        &*self.specs
    }

    fn identity(&self) -> String {
        self.identity.to_string()
    }

    fn call(&mut self, call: &ToolCall, _deadline: Instant) -> Answer {
        // The supervisor has the program's own limit, which lies before the deadline.
        let earlier = if self.sessions { cells(call) } else { Vec::new() };
        let program = Program::new(&call.input, call.seed, self.executor.limits());
        let execution = self.executor.run(&Program { earlier: &earlier, shared: call.shared, ..program });
        Answer { outcome: execution.outcome, text: execution.text() }
    }

    fn basis(&self) -> Basis {
        if self.sessions { Basis::Session } else { Basis::Seeded }
    }
}

/// The programs of a path that ran to their end, whose state a session goes on from.
fn cells(call: &ToolCall) -> Vec<Cell> {
    let ran = |earlier: &&EarlierCall| {
        earlier.tool == call.tool && matches!(earlier.outcome, ToolOutcome::Ok | ToolOutcome::Raised)
    };
    let cell = |earlier: &EarlierCall| Cell { code: earlier.input.as_ref().to_owned(), seed: earlier.seed };
    call.earlier.iter().filter(ran).map(cell).collect()
}

struct SearchTool {
    index: Arc<SearchIndex>,
    specs: Arc<[ToolSpec; 1]>,
    identity: String,
}

impl Provider for SearchTool {
    fn specs(&self) -> &[ToolSpec] {
        &*self.specs
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn call(&mut self, call: &ToolCall, _deadline: Instant) -> Answer {
        self.index.answer(&call.input)
    }

    fn basis(&self) -> Basis {
        Basis::Input
    }
}
