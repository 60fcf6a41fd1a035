//! How does an agent call Python on a SandboxFusion server? The same tool as in the sandbox here, run elsewhere.

use std::sync::Arc;
use std::time::Instant;

use aepo::tool::{EarlierCall, ToolCall, ToolOutcome, ToolSpec};

use crate::fusion::{Fusion, SERVER_PATIENCE};
use crate::http::HttpError;
use crate::python::{Cell, Limits, Program};
use crate::toolset::{self, Answer, Basis, Offer, Provider};

/// Python at `endpoint`, `n_workers` programs at once. With `sessions` a program goes on from its path's earlier ones,
/// which are sent and run again with it.
pub fn offer(endpoint: &str, limits: Limits, sessions: bool, n_workers: usize) -> Result<Offer, HttpError> {
    let deadline_secs = limits.wall_secs + SERVER_PATIENCE.as_secs_f64() + 5.0;
    let calls = toolset::Limits { n_workers, deadline_secs, ..toolset::Limits::default() };
    let tool = FusionTool {
        fusion: Fusion::new(endpoint, limits.max_output_bytes)?,
        limits,
        sessions,
        specs: Arc::new([ToolSpec::python()]),
    };
    let make = Arc::new(move || Ok(Box::new(tool.clone()) as Box<dyn Provider>));
    Ok(Offer { make, limits: calls, until: None })
}

#[derive(Clone)]
struct FusionTool {
    fusion: Fusion,
    limits: Limits,
    sessions: bool,
    specs: Arc<[ToolSpec; 1]>,
}

impl FusionTool {
    fn earlier(&self, call: &ToolCall) -> Vec<Cell> {
        let ran = |c: &&EarlierCall| {
            self.sessions && c.tool == call.tool && matches!(c.outcome, ToolOutcome::Ok | ToolOutcome::Raised)
        };
        call.earlier.iter().filter(ran).map(|c| Cell { code: c.input.as_ref().to_owned(), seed: c.seed }).collect()
    }
}

impl Provider for FusionTool {
    fn specs(&self) -> &[ToolSpec] {
        &*self.specs
    }

    fn identity(&self) -> String {
        format!("{} 1 sessions {} {:?}", self.fusion.identity(), self.sessions, self.limits)
    }

    fn call(&mut self, call: &ToolCall, _deadline: Instant) -> Answer {
        // The client has a deadline of its own, which lies before the call's.
        let earlier = self.earlier(call);
        let program = Program { earlier: &earlier, ..Program::new(&call.input, call.seed, &self.limits) };
        let ran = self.fusion.run(&program);
        Answer { outcome: ran.outcome, text: ran.text() }
    }

    fn basis(&self) -> Basis {
        if self.sessions { Basis::Session } else { Basis::Seeded }
    }
}
