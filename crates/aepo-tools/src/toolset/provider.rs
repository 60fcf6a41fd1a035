//! What must one kind of tool be able to do? The seam between whatever answers calls and the workers that wait for it.

use std::sync::Arc;
use std::time::Instant;

use aepo::tool::{ToolCall, ToolOutcome, ToolSpec};

use crate::error::ToolsError;
use crate::toolset::breaker::BreakerSettings;

/// Before every reason why a tool was unavailable.
pub(crate) const UNAVAILABLE: &str = "tool unavailable: ";

/// What a tool says to one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// How it ended.
    pub outcome: ToolOutcome,
    /// What the model reads.
    pub text: String,
}

impl Answer {
    /// The tool's result.
    #[must_use]
    pub fn ok(text: impl Into<String>) -> Answer {
        Answer { outcome: ToolOutcome::Ok, text: text.into() }
    }

    /// The program or the tool said no: the model reads why, and may learn from it.
    #[must_use]
    pub fn raised(text: impl Into<String>) -> Answer {
        Answer { outcome: ToolOutcome::Raised, text: text.into() }
    }

    /// Our own fault; the reason is for the log, the model learns only that there is no result.
    #[must_use]
    pub fn unavailable(reason: &str) -> Answer {
        Answer { outcome: ToolOutcome::Unavailable, text: format!("{UNAVAILABLE}{reason}") }
    }
}

/// What an answer follows from, beside the provider's own [`Provider::identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The tool and its input alone: a search, a page. Equal calls are one call.
    Input,
    /// The seed too: a program that may ask for random numbers.
    Seeded,
    /// The seed, and the calls of this provider that the path made before: an interpreter that goes on from them.
    Session,
    /// Whatever the world is like at the moment, or the call changes it: nothing is known of such a tool. Every call is
    /// made, and only the same call of the same path is the same call again.
    World,
}

/// One kind of tool. One instance per worker thread, so it may hold connections and interpreters.
pub trait Provider: Send {
    /// What the model is told: name, description, arguments (several tools for one server of them).
    fn specs(&self) -> &[ToolSpec];

    /// What answers, for the cache: name, version, and every setting that changes an answer; no secrets.
    fn identity(&self) -> String;

    /// Answers one call by the deadline. Trouble is an outcome, never a panic.
    fn call(&mut self, call: &ToolCall, deadline: Instant) -> Answer;

    /// What an answer follows from; decides which calls are equal.
    fn basis(&self) -> Basis {
        Basis::World
    }

    /// Requests that this instance has sent again so far, for the statistics.
    fn n_retries(&self) -> u64 {
        0
    }
}

/// Makes one more instance of a provider.
pub type Make = Arc<dyn Fn() -> Result<Box<dyn Provider>, ToolsError> + Send + Sync>;

/// One provider as a run offers it.
pub struct Offer {
    /// Called once per worker at the start, and again for a worker that is stuck or has panicked.
    pub make: Make,
    /// How many calls run at once, and what each may take.
    pub limits: Limits,
    /// Dropped first when the toolset ends: whatever ends calls under way (the write end of a pipe that they wait on).
    pub until: Option<Box<dyn Send>>,
}

/// What the calls of one provider may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Calls that run at once: instances of the provider, each in a thread of its own.
    pub n_workers: usize,
    /// From the moment a worker takes a call until it must have answered, seconds. A provider's own limits should lie
    /// below it: what passes this one is our fault (`Unavailable`), not the program's.
    pub deadline_secs: f64,
    /// Calls that the provider may be asked in a run; 0 for no bound. What the cache answers is not counted.
    pub max_calls: u64,
    /// When it is left alone.
    pub breaker: BreakerSettings,
}

impl Limits {
    /// Whether they can work.
    pub(crate) fn check(&self) -> Result<(), ToolsError> {
        let fault = |name, value: String, rule| Err(ToolsError::Setting { name, value, rule });
        let secs = |value: f64| value > 0.0 && value <= 86_400.0;
        let rule = "must be more than 0 and at most 86400";
        if self.n_workers == 0 {
            return fault("tools.n_workers", "0".to_owned(), "must be at least 1");
        }
        if !secs(self.deadline_secs) {
            return fault("deadline_secs", self.deadline_secs.to_string(), rule);
        }
        for (name, value) in
            [("breaker.first_secs", self.breaker.first_secs), ("breaker.max_secs", self.breaker.max_secs)]
        {
            if !secs(value) {
                return fault(name, value.to_string(), rule);
            }
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits { n_workers: 1, deadline_secs: 60.0, max_calls: 0, breaker: BreakerSettings::default() }
    }
}
