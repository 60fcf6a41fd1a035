//! Who runs a program? The best sandbox that works here, or the one that was asked for; proved at start, shared by all
//! threads.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;

use crate::error::ToolsError;
use crate::python::caged::{self, Caged};
use crate::python::execution::{Execution, Limits, Program};
use crate::python::interpreter::{self, Interpreter};
use crate::python::{Backend, Level, PythonSettings};

/// A sandbox that is ready. Cheap to clone; every clone runs programs in the same slots.
#[derive(Clone)]
pub struct Executor(Arc<Inner>);

struct Inner {
    level: Level,
    interpreter: Interpreter,
    limits: Limits,
    slots: Mutex<Vec<Slot>>,
    freed: Condvar,
    /// Readable once running programs are to be killed.
    cancel: Arc<OwnedFd>,
    /// Keeps `cancel` silent where nobody else will ever speak.
    _never: Option<std::io::PipeWriter>,
}

/// Where one program at a time runs.
enum Slot {
    Caged(Box<Caged>),
}

impl Executor {
    /// Prepares `n_slots` places for programs and proves in one of them that programs run and are held. Once `cancel` is
    /// readable, running programs are killed and later ones refused.
    pub fn start(
        settings: &PythonSettings,
        n_slots: usize,
        cancel: Option<Arc<OwnedFd>>,
    ) -> Result<Executor, ToolsError> {
        settings.limits.check()?;
        if n_slots == 0 {
            let rule = "must be at least 1";
            return Err(ToolsError::Setting { name: "python slots", value: "0".to_owned(), rule });
        }
        let interpreter = interpreter::find(settings.interpreter.as_deref())?;
        let (cancel, never) = match cancel {
            Some(cancel) => (cancel, None),
            None => {
                let (read, write) = std::io::pipe().map_err(crate::error::io("making a pipe"))?;
                (Arc::new(OwnedFd::from(read)), Some(write))
            }
        };
        let level = match settings.backend {
            Backend::Auto | Backend::Landlock => Level::Landlock,
            Backend::UnsafeLocal => Level::UnsafeLocal,
            Backend::Namespaces => {
                let reason = "this backend is not there yet".to_owned();
                return Err(ToolsError::Kernel { what: "namespaces", reason });
            }
        };
        if level < settings.min_level {
            return Err(ToolsError::Level { wanted: settings.min_level, level, reason: "it was asked for".to_owned() });
        }
        let slots = caged::prepare(&interpreter, n_slots, level == Level::Landlock)?;
        let slots = slots.into_iter().map(|slot| Slot::Caged(Box::new(slot))).collect();
        let executor = Executor(Arc::new(Inner {
            level,
            interpreter,
            limits: settings.limits.clone(),
            slots: Mutex::new(slots),
            freed: Condvar::new(),
            cancel,
            _never: never,
        }));
        executor.self_test()?;
        Ok(executor)
    }

    /// How well programs are held.
    #[must_use]
    pub fn level(&self) -> Level {
        self.0.level
    }

    /// The limits from the settings, for programs without their own.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The interpreter in use.
    #[must_use]
    pub fn interpreter(&self) -> &Interpreter {
        &self.0.interpreter
    }

    /// Runs one program; waits for a free slot first. Never panics, always answers.
    #[must_use]
    pub fn run(&self, program: &Program) -> Execution {
        if let Err(e) = program.limits.check() {
            return Execution::unavailable(e.to_string());
        }
        let mut slot = self.take();
        let ran = match &mut slot {
            Slot::Caged(caged) => caged.run(program, &self.0.cancel),
        };
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        self.0.freed.notify_one();
        ran.unwrap_or_else(Execution::unavailable)
    }

    fn take(&self) -> Slot {
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match slots.pop() {
                Some(slot) => return slot,
                None => slots = self.0.freed.wait(slots).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn self_test(&self) -> Result<(), ToolsError> {
        let code = match self.level() {
            Level::UnsafeLocal => "",
            _ => SELF_TEST_LANDLOCK,
        };
        let ran = self.run(&Program::new(code, Seed(0), self.limits()));
        if ran.outcome == ToolOutcome::Ok && ran.text().is_empty() {
            return Ok(());
        }
        let reason = format!("{:?}: {}", ran.outcome, ran.text());
        Err(ToolsError::SelfTest { interpreter: self.0.interpreter.exe.clone(), reason })
    }
}

/// Says nothing if every act is refused.
pub(crate) const SELF_TEST_LANDLOCK: &str = r#"
import os, _socket
def refused(act, *args):
    try: act(*args)
    except PermissionError: return
    print("not refused:", act.__name__, *args)
refused(_socket.socket)
refused(os.fork)
refused(os.listdir, "/")
refused(open, "/etc/passwd")
refused(open, "../outside", "w")
refused(os.kill, os.getppid(), 0)
refused(os.chmod, ".", 0o700)
open("own", "w").close()
"#;
