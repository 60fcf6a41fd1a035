//! Who runs a program? The best sandbox that works here, or the one that was asked for; proved at start, shared by all
//! threads.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;

use crate::error::ToolsError;
use crate::python::caged::{self, Caged};
use crate::python::execution::{Execution, Limits, Program};
use crate::python::idle::Room;
use crate::python::interpreter::{self, Interpreter};
use crate::python::session::{SessionCounts, Sessions};
use crate::python::supervise::Ran;
use crate::python::zygote::{Flavour, Trouble, Zygote};
use crate::python::{Backend, Level, PythonSettings};

/// A sandbox that is ready. Cheap to clone; every clone runs programs in the same slots.
#[derive(Clone)]
pub struct Executor(Arc<Inner>);

struct Inner {
    level: Level,
    why_not_more: String,
    interpreter: Interpreter,
    limits: Limits,
    servers: Servers,
    /// Interpreters that wait for another cell; none where programs have no past.
    sessions: Option<Sessions>,
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
    /// The number of the user that runs it.
    Forked(u64),
}

/// The two servers, each while it lives.
#[derive(Default)]
struct Servers {
    light: Mutex<Option<Arc<Zygote>>>,
    heavy: Mutex<Option<Arc<Zygote>>>,
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
        let servers = Servers::default();
        let (level, reason) = match settings.backend {
            Backend::Auto | Backend::Namespaces => match servers.get(&interpreter, Flavour::Light) {
                Ok(_) => (Level::Namespaces, String::new()),
                Err(reason) if settings.backend == Backend::Namespaces => {
                    return Err(ToolsError::Kernel { what: "namespaces", reason });
                }
                Err(reason) => (Level::Landlock, reason),
            },
            Backend::Landlock => (Level::Landlock, "python.backend = landlock".to_owned()),
            Backend::UnsafeLocal => (Level::UnsafeLocal, "python.backend = unsafe-local".to_owned()),
        };
        if level < settings.min_level {
            return Err(ToolsError::Level { wanted: settings.min_level, level, reason });
        }
        let slots = match level {
            Level::Namespaces => (0..n_slots as u64).map(Slot::Forked).collect(),
            level => {
                let slots = caged::prepare(&interpreter, n_slots, level == Level::Landlock)?;
                slots.into_iter().map(|slot| Slot::Caged(Box::new(slot))).collect()
            }
        };
        // Idle interpreters may take as much again as those at work.
        let room = Room { max_live: 4 * n_slots, max_bytes: (n_slots as u64 * settings.limits.total_memory_mb) << 20 };
        let executor = Executor(Arc::new(Inner {
            level,
            why_not_more: reason,
            interpreter,
            limits: settings.limits.clone(),
            servers,
            sessions: settings.sessions.then(|| Sessions::new(room)),
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

    /// Why the level is not the best one; empty if it is.
    #[must_use]
    pub fn why_not_more(&self) -> &str {
        &self.0.why_not_more
    }

    /// The limits from the settings, for programs without their own.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// How sessions came to their states so far; zeros at levels that always build them anew.
    #[must_use]
    pub fn session_counts(&self) -> SessionCounts {
        self.0.sessions.as_ref().map(Sessions::counts).unwrap_or_default()
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
        let began = Instant::now();
        let mut slot = self.take();
        let mut earlier = program.earlier.to_vec();
        let ran = loop {
            let program = Program { earlier: &earlier, ..*program };
            let ran = match &mut slot {
                Slot::Caged(caged) => caged.run(&program, &self.0.cancel),
                Slot::Forked(slot) => self.fork(&program, *slot),
            };
            match ran {
                // A cell that ends its interpreter leaves the session as it was before it.
                Ok(Ran { ended_in: Some(i), .. }) if i < earlier.len() => drop(earlier.remove(i)),
                ran => break ran.map(|ran| ran.execution),
            }
        };
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        self.0.freed.notify_one();
        let mut execution = ran.unwrap_or_else(Execution::unavailable);
        execution.wall_secs = began.elapsed().as_secs_f64();
        execution
    }

    /// Runs a program in a fork of a server. A server that is lost is replaced; the program runs again only if nothing
    /// was heard of it.
    fn fork(&self, program: &Program, slot: u64) -> Result<Ran, String> {
        let flavour = Flavour::of(program);
        let mut is_second = false;
        loop {
            let server = self.0.servers.get(&self.0.interpreter, flavour)?;
            let ran = match &self.0.sessions {
                Some(sessions) => sessions.run(&server, program, slot, &self.0.cancel),
                None => server.run(program, slot, &self.0.cancel),
            };
            let reason = match ran {
                Ok(ran) => return Ok(ran),
                Err(Trouble::Refused(reason)) => return Err(reason),
                Err(Trouble::NotBegun(reason)) if is_second => reason,
                Err(Trouble::NotBegun(_)) => {
                    self.0.servers.forget(flavour, &server);
                    is_second = true;
                    continue;
                }
                Err(Trouble::Lost(reason)) => reason,
            };
            self.0.servers.forget(flavour, &server);
            return Err(reason);
        }
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
            Level::Landlock => SELF_TEST_LANDLOCK,
            Level::Namespaces => SELF_TEST_NAMESPACES,
        };
        let ran = self.run(&Program::new(code, Seed(0), self.limits()));
        if ran.outcome == ToolOutcome::Ok && ran.text().is_empty() {
            return Ok(());
        }
        let reason = format!("{:?}: {}", ran.outcome, ran.text());
        Err(ToolsError::SelfTest { interpreter: self.0.interpreter.exe.clone(), reason })
    }
}

impl Servers {
    fn place(&self, flavour: Flavour) -> std::sync::MutexGuard<'_, Option<Arc<Zygote>>> {
        let place = match flavour {
            Flavour::Light => &self.light,
            Flavour::Heavy => &self.heavy,
        };
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server, started if there is none.
    fn get(&self, interpreter: &Interpreter, flavour: Flavour) -> Result<Arc<Zygote>, String> {
        let mut place = self.place(flavour);
        if let Some(server) = &*place {
            return Ok(Arc::clone(server));
        }
        let server = Arc::new(Zygote::start(interpreter, flavour)?);
        *place = Some(Arc::clone(&server));
        Ok(server)
    }

    /// Takes a lost server out of use, unless somebody has replaced it already. It ends with its last call.
    fn forget(&self, flavour: Flavour, lost: &Arc<Zygote>) {
        let mut place = self.place(flavour);
        if place.as_ref().is_some_and(|server| Arc::ptr_eq(server, lost)) {
            *place = None;
        }
    }
}

/// Says nothing if every act is refused, and the program sees a world of its own.
const SELF_TEST_NAMESPACES: &str = r#"
import os, _socket, ctypes
def refused(act, *args):
    try: act(*args)
    except OSError: return
    print("not refused:", act.__name__, *args)
refused(_socket.socket)
refused(os.listdir, "/proc")
refused(os.mkdir, "/outside")
refused(os.mkdir, "/usr/outside")
refused(os.mkdir, "/dev/outside")
refused(open, os.__file__, "a")
try: os.kill(1, 9)
except OSError: pass
refused(os.setuid, 0)
libc = ctypes.CDLL(None, use_errno=True)
for flags in (0x10000000, 0x20000, 0x20000000):
    if libc.unshare(flags) == 0: print("not refused: unshare", flags)
if (os.getpid(), os.getppid(), os.getuid(), os.getcwd(), os.listdir(".")) != (2, 0, 1000, "/tmp", []):
    print(os.getpid(), os.getppid(), os.getuid(), os.getcwd(), os.listdir("."))
if sorted(os.listdir("/dev")) != ["null", "shm", "urandom", "zero"]: print(os.listdir("/dev"))
for path in ("/etc/passwd", "/var/log", "/sys", "/.old"):
    if os.path.exists(path): print(path, "is to be seen")
child = os.fork()
if child == 0: os._exit(3)
if os.waitpid(child, 0)[1] != 3 << 8: print("no child")
open("own", "w").close()
"#;

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
