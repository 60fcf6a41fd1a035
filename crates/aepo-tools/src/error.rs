//! What can keep the tools from starting? Trouble inside a call is a `ToolOutcome`, never one of these.

use std::path::PathBuf;

use crate::python::Level;

/// Why the tools did not start.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// A setting that cannot work.
    #[error("{name} = {value}: {rule}")]
    Setting {
        /// The field's name.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// No interpreter answered.
    #[error(
        "no Python: {program} did not run ({reason}); install python3 (for example: apt-get install python3) or set \
         tools.python.interpreter"
    )]
    NoPython {
        /// What was started.
        program: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The kernel lacks something the sandbox is built from. Nothing runs without it.
    #[error("the Python sandbox needs {what}, which this kernel refuses: {reason}")]
    Kernel {
        /// The missing part.
        what: &'static str,
        /// The kernel's answer.
        reason: String,
    },
    /// This machine cannot hold programs as well as was demanded.
    #[error(
        "python.min_level = {}, but the sandbox here has level {}: {reason}",
        wanted.name(), level.name()
    )]
    Level {
        /// What was demanded.
        wanted: Level,
        /// What is to be had.
        level: Level,
        /// What is missing for more.
        reason: String,
    },
    /// The interpreter was found, but a harmless program does not run in the sandbox, or a forbidden act succeeds there.
    #[error("the Python sandbox failed its self-test with {interpreter}: {reason}")]
    SelfTest {
        /// The interpreter in use.
        interpreter: PathBuf,
        /// What the test program said.
        reason: String,
    },
    /// Pages of the web cannot be read with these settings.
    #[error(transparent)]
    Pages(#[from] crate::pages::PageSettingsError),
    /// The operating system refused something ordinary.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The corpus is more than one index in memory can hold.
    #[error("the corpus holds {n_bytes} bytes of text; an index in memory holds at most {max_bytes}")]
    CorpusTooLarge {
        /// Bytes of titles and texts.
        n_bytes: usize,
        /// The bound.
        max_bytes: usize,
    },
    /// The file of earlier answers cannot be used.
    #[error(transparent)]
    Cache(#[from] crate::cache::CacheError),
    /// The index could not be built.
    #[error("building the search index: {0}")]
    Index(String),
}

/// Names what was being done when the system refused.
pub(crate) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> ToolsError {
    move |source| ToolsError::Io { what, source }
}
