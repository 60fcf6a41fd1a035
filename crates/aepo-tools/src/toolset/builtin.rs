//! How do the caged interpreter and the index in memory answer calls? Each as a [`Provider`].

use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aepo::tool::{Tool, ToolCall};

use crate::error::{ToolsError, io};
use crate::python::{self, Python, PythonSettings};
use crate::search::SearchIndex;
use crate::toolset::provider::{Answer, Basis, Limits, Offer, Provider, ToolInput, ToolSpec};

/// A program is ended at its own limit; the call is given up this much later, seconds.
const AFTER_THE_PROGRAM_SECS: f64 = 5.0;
/// A search takes milliseconds; one that takes this long is stuck, seconds.
const SEARCH_SECS: f64 = 60.0;

/// The caged interpreter, `n_workers` programs at once. Fails if the cage is not complete here.
pub fn python(settings: PythonSettings, n_workers: usize) -> Result<Offer, ToolsError> {
    let (cancelled, cancel): (PipeReader, PipeWriter) = std::io::pipe().map_err(io("making a pipe"))?;
    let cancelled = Arc::new(OwnedFd::from(cancelled));
    let limits = Limits { n_workers, deadline_secs: settings.wall_secs + AFTER_THE_PROGRAM_SECS };
    // All of the first instances share one private directory and one self-test.
    let ready = Mutex::new(python::start(settings.clone(), n_workers, &cancelled)?);
    let specs = Arc::new([spec(Tool::Python, "code", "the program")]);
    let make = move || -> Result<Box<dyn Provider>, ToolsError> {
        let one = ready.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let python = match one {
            Some(python) => python,
            None => python::start(settings.clone(), 1, &cancelled)?.remove(0),
        };
        let identity = format!("python 1 {settings:?}");
        Ok(Box::new(PythonTool { python, specs: Arc::clone(&specs), identity }))
    };
    Ok(Offer { make: Arc::new(make), limits, until: Some(Box::new(cancel)) })
}

/// The index in memory, `n_workers` searches at once.
#[must_use]
pub fn search(index: SearchIndex, n_workers: usize) -> Offer {
    let (index, specs) = (Arc::new(index), Arc::new([spec(Tool::Search, "query", "what to look for")]));
    let make = move || -> Result<Box<dyn Provider>, ToolsError> {
        Ok(Box::new(SearchTool { index: Arc::clone(&index), specs: Arc::clone(&specs) }))
    };
    Offer { make: Arc::new(make), limits: Limits { n_workers, deadline_secs: SEARCH_SECS }, until: None }
}

fn spec(tool: Tool, argument: &str, about: &str) -> ToolSpec {
    let input = ToolInput::Text { argument: argument.to_owned(), about: about.to_owned() };
    ToolSpec { name: tool.name().to_owned(), description: String::new(), input }
}

struct PythonTool {
    python: Python,
    specs: Arc<[ToolSpec; 1]>,
    identity: String,
}

impl Provider for PythonTool {
    fn specs(&self) -> &[ToolSpec] {
        &*self.specs
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn call(&mut self, call: &ToolCall, _deadline: Instant) -> Answer {
        // The supervisor has the program's own limit, which lies before the deadline.
        self.python.run(&call.input, call.seed)
    }

    fn basis(&self) -> Basis {
        Basis::Seeded
    }
}

struct SearchTool {
    index: Arc<SearchIndex>,
    specs: Arc<[ToolSpec; 1]>,
}

impl Provider for SearchTool {
    fn specs(&self) -> &[ToolSpec] {
        &*self.specs
    }

    fn identity(&self) -> String {
        "search in memory 1".to_owned()
    }

    fn call(&mut self, call: &ToolCall, _deadline: Instant) -> Answer {
        self.index.answer(&call.input)
    }

    fn basis(&self) -> Basis {
        Basis::Input
    }
}
