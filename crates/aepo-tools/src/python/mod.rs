//! What runs model-written Python? A sandbox that is proved at start and answers every call.

mod caged;
mod execution;
mod executor;
mod idle;
mod interpreter;
mod message;
mod policy;
mod root;
mod sandbox;
mod scratch;
mod session;
mod supervise;
mod tally;
mod zygote;

use std::path::PathBuf;

pub use execution::{Cell, Execution, Limits, Program};
pub use executor::Executor;
pub use interpreter::{Interpreter, find as find_interpreter};
pub use session::SessionCounts;

/// How well programs are held, from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not at all: resource limits alone. A program can read, write and send what we can.
    UnsafeLocal,
    /// A process that sees the host but may touch its own directory only; no processes, no network.
    Landlock,
    /// Namespaces of its own: another root, no network, its own processes; with Landlock and a filter on top.
    Namespaces,
}

impl Level {
    /// Every level, from worst to best.
    pub const ALL: [Level; 3] = [Level::UnsafeLocal, Level::Landlock, Level::Namespaces];

    /// The name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::UnsafeLocal => "unsafe-local",
            Level::Landlock => "landlock",
            Level::Namespaces => "namespaces",
        }
    }
}

/// Which sandbox was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The best that works here, `UnsafeLocal` excepted.
    #[default]
    Auto,
    /// A server that forks itself for each call, in namespaces.
    Namespaces,
    /// An interpreter per call behind Landlock.
    Landlock,
    /// An interpreter per call behind resource limits alone.
    UnsafeLocal,
}

impl Backend {
    /// Every backend.
    pub const ALL: [Backend; 4] = [Backend::Auto, Backend::Namespaces, Backend::Landlock, Backend::UnsafeLocal];

    /// The name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Namespaces => "namespaces",
            Backend::Landlock => "landlock",
            Backend::UnsafeLocal => "unsafe-local",
        }
    }
}

/// Which interpreter runs in which sandbox, and what a program may take there.
#[derive(Clone, Debug, PartialEq)]
pub struct PythonSettings {
    /// The interpreter; `python3` of the search path if none is named.
    pub interpreter: Option<PathBuf>,
    /// The sandbox.
    pub backend: Backend,
    /// The worst level at which to start at all.
    pub min_level: Level,
    /// Whether programs may go on from earlier ones of their path.
    pub sessions: bool,
    /// What a program may take.
    pub limits: Limits,
}

impl Default for PythonSettings {
    fn default() -> Self {
        PythonSettings {
            interpreter: None,
            backend: Backend::Auto,
            min_level: Level::UnsafeLocal,
            sessions: false,
            limits: Limits::default(),
        }
    }
}
