//! What runs model-written Python? A caged child process per call, prepared once at start.

mod interpreter;
mod policy;
mod sandbox;
mod scratch;
mod supervise;

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;

use crate::error::{ToolsError, io};
use crate::toolset::Answer;

/// Limits of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct PythonSettings {
    /// The interpreter; `python3` of the search path if none is named.
    pub interpreter: Option<PathBuf>,
    /// Wall time, seconds.
    pub wall_secs: f64,
    /// Processor time over all threads, seconds.
    pub cpu_secs: u64,
    /// Address space, MiB.
    pub memory_mb: u64,
    /// Output, bytes: at one more the program is killed. The model reads no more than this, plus one error line.
    pub max_output_bytes: usize,
    /// Threads alive at once.
    pub max_threads: u64,
    /// Files in the private directory, MiB. Looked at every 20 ms, so a fast writer may pass it for that long.
    pub scratch_mb: u64,
}

impl Default for PythonSettings {
    fn default() -> Self {
        PythonSettings {
            interpreter: None,
            wall_secs: 5.0,
            cpu_secs: 5,
            memory_mb: 512,
            max_output_bytes: 8192,
            max_threads: 16,
            scratch_mb: 64,
        }
    }
}

/// The program that turns an interpreter into a REPL of one cell.
const BOOTSTRAP: &CStr = match CStr::from_bytes_with_nul(concat!(include_str!("bootstrap.py"), "\0").as_bytes()) {
    Ok(text) => text,
    Err(_) => panic!("bootstrap.py holds a NUL"),
};

/// Open descriptors a program may have.
const MAX_FILES: u64 = 128;

/// What every worker's calls have in common.
struct Shared {
    settings: PythonSettings,
    exe: CString,
    args: Vec<CString>,
    site_dirs: Vec<CString>,
    /// Holds every worker's private directory; removed with the last worker.
    root: tempfile::TempDir,
}

/// One worker's interpreter: a cage and a private directory, used for one call at a time.
pub(crate) struct Python {
    shared: Arc<Shared>,
    cage: sandbox::Cage,
    scratch: PathBuf,
    /// Readable once the toolset is being dropped.
    cancel: Arc<OwnedFd>,
}

/// Finds the interpreter, prepares one cage per worker and proves in one of them that programs run and are held.
pub(crate) fn start(
    settings: PythonSettings,
    n_workers: usize,
    cancel: &Arc<OwnedFd>,
) -> Result<Vec<Python>, ToolsError> {
    check(&settings)?;
    let interpreter = interpreter::find(settings.interpreter.as_deref())?;
    let text = |path: &Path| {
        CString::new(path.as_os_str().as_bytes()).map_err(|_| ToolsError::NoPython {
            program: path.to_path_buf(),
            reason: "its path holds a NUL".to_owned(),
        })
    };
    // No site and no user packages by start-up code (-s -S: milliseconds), no byte code written (-B), every write at
    // once (-u: what was printed before a kill is kept), UTF-8 whatever the locale. -E is not among them: it would hide
    // the hash seed, and the environment is ours alone.
    let mut args: Vec<CString> =
        [c"python3", c"-s", c"-S", c"-B", c"-u", c"-X", c"utf8", c"-c"].map(CString::from).into();
    args.push(BOOTSTRAP.into());
    let shared = Arc::new(Shared {
        exe: text(&interpreter.exe)?,
        args,
        site_dirs: interpreter.site_dirs.iter().map(|dir| text(dir)).collect::<Result<_, _>>()?,
        root: tempfile::Builder::new().prefix("aepo-python-").tempdir().map_err(io("making a private directory"))?,
        settings,
    });
    let filters = policy::filters()?;
    let mut workers = Vec::with_capacity(n_workers);
    for i in 0..n_workers {
        let scratch = shared.root.path().join(format!("worker-{i}"));
        std::fs::create_dir(&scratch).map_err(io("making a private directory"))?;
        let null = std::fs::File::open("/dev/null").map_err(io("opening /dev/null"))?;
        let ruleset = policy::ruleset(&interpreter, &scratch, policy::NEWEST_ABI)?;
        let cage = sandbox::Cage {
            ruleset: sandbox::out_of_the_way(ruleset).map_err(io("moving a descriptor"))?,
            filters: filters.clone(),
            limits: limits(&shared.settings).map_err(io("reading our own limits"))?,
            scratch: text(&scratch)?,
            null: sandbox::out_of_the_way(null.into()).map_err(io("moving a descriptor"))?,
        };
        workers.push(Python { shared: Arc::clone(&shared), cage, scratch, cancel: Arc::clone(cancel) });
    }
    if let Some(worker) = workers.first_mut() {
        worker.self_test()?;
    }
    Ok(workers)
}

fn check(settings: &PythonSettings) -> Result<(), ToolsError> {
    let positive = |name, value: u64| match value {
        0 => Err(ToolsError::Setting { name, value: "0".to_owned(), rule: "must be at least 1" }),
        _ => Ok(()),
    };
    positive("python.cpu_secs", settings.cpu_secs)?;
    positive("python.max_output_bytes", settings.max_output_bytes as u64)?;
    positive("python.max_threads", settings.max_threads)?;
    positive("python.scratch_mb", settings.scratch_mb)?;
    if settings.memory_mb < 64 {
        let rule = "must be at least 64: the interpreter itself needs that much address space";
        return Err(ToolsError::Setting { name: "python.memory_mb", value: settings.memory_mb.to_string(), rule });
    }
    if !(settings.wall_secs > 0.0 && settings.wall_secs <= 86_400.0) {
        let rule = "must be more than 0 and at most 86400";
        return Err(ToolsError::Setting { name: "python.wall_secs", value: settings.wall_secs.to_string(), rule });
    }
    Ok(())
}

fn limits(settings: &PythonSettings) -> std::io::Result<Vec<(sandbox::Resource, u64)>> {
    let mb = |n: u64| n.saturating_mul(1 << 20);
    [
        // The supervisor ends a program at its limit; the kernel's own limit, which counts whole ticks, lies behind it.
        (libc::RLIMIT_CPU, settings.cpu_secs.saturating_add(2)),
        (libc::RLIMIT_AS, mb(settings.memory_mb)),
        (libc::RLIMIT_FSIZE, mb(settings.scratch_mb)),
        (libc::RLIMIT_NOFILE, MAX_FILES),
        (libc::RLIMIT_STACK, mb(8)),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_MEMLOCK, 0),
        (libc::RLIMIT_MSGQUEUE, 0),
    ]
    .map(|(resource, wanted)| sandbox::capped_limit(resource, wanted))
    .into_iter()
    .collect()
}

/// Says nothing if every act is refused.
const SELF_TEST: &str = r#"
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

impl Python {
    /// Runs one program; never panics, always answers.
    pub(crate) fn run(&mut self, code: &str, seed: Seed) -> Answer {
        match supervise::run(self, code, seed) {
            Ok(answer) => answer,
            Err(reason) => Answer::unavailable(&reason),
        }
    }

    fn self_test(&mut self) -> Result<(), ToolsError> {
        let answer = self.run(SELF_TEST, Seed(0));
        if answer.outcome == ToolOutcome::Ok && answer.text.is_empty() {
            return Ok(());
        }
        let interpreter = PathBuf::from(std::ffi::OsStr::from_bytes(self.shared.exe.as_bytes()));
        let reason = format!("{:?}: {}", answer.outcome, answer.text);
        Err(ToolsError::SelfTest { interpreter, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker_with_oldest_landlock() -> Python {
        let (cancel, _keep) = std::io::pipe().unwrap();
        std::mem::forget(_keep);
        let cancel = Arc::new(OwnedFd::from(cancel));
        let mut workers = start(PythonSettings::default(), 1, &cancel).unwrap();
        let mut worker = workers.remove(0);
        let interpreter = interpreter::find(None).unwrap();
        let ruleset = policy::ruleset(&interpreter, &worker.scratch, landlock::ABI::V1).unwrap();
        worker.cage.ruleset = sandbox::out_of_the_way(ruleset).unwrap();
        worker
    }

    /// The first Landlock sees neither truncation nor signals: the system call filter alone must hold them.
    #[test]
    fn the_oldest_landlock_holds_too() {
        let mut worker = worker_with_oldest_landlock();
        worker.self_test().unwrap();
        let canary = tempfile::Builder::new().tempfile().unwrap();
        std::fs::write(canary.path(), "canary").unwrap();
        let program = r#"
import os, signal
def refused(act, *args):
    try: act(*args)
    except OSError as e: return
    print("not refused:", act.__name__, *args)
readable = os.__file__
for path in (readable, PATH):
    refused(os.truncate, path, 0)
    refused(os.open, path, os.O_RDONLY | os.O_TRUNC)
    refused(os.open, path, os.O_WRONLY)
    refused(os.chmod, path, 0o777)
    refused(os.chown, path, 1, 1)
    refused(os.utime, path)
    refused(os.remove, path)
    refused(os.link, path, "mine")
    refused(os.rename, path, "mine")
refused(os.kill, os.getppid(), signal.SIGTERM)
import fcntl
r, w = os.pipe()
F_SETSIG = 10
refused(fcntl.fcntl, r, fcntl.F_SETOWN, os.getppid())
refused(fcntl.fcntl, r, F_SETSIG, 9)
with open("f", "w") as f: f.write("abc"); f.truncate(1)
"done"
"#;
        let answer = worker.run(&program.replace("PATH", &format!("{:?}", canary.path())), Seed(1));
        assert_eq!((answer.outcome, answer.text.as_str()), (ToolOutcome::Ok, "'done'"));
        assert_eq!(std::fs::read_to_string(canary.path()).unwrap(), "canary");
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let base = PythonSettings::default();
        for bad in [
            PythonSettings { wall_secs: 0.0, ..base.clone() },
            PythonSettings { wall_secs: f64::NAN, ..base.clone() },
            PythonSettings { cpu_secs: 0, ..base.clone() },
            PythonSettings { memory_mb: 1, ..base.clone() },
            PythonSettings { max_output_bytes: 0, ..base.clone() },
            PythonSettings { max_threads: 0, ..base.clone() },
            PythonSettings { scratch_mb: 0, ..base.clone() },
        ] {
            assert!(matches!(check(&bad), Err(ToolsError::Setting { .. })), "{bad:?}");
        }
        check(&base).unwrap();
    }
}
