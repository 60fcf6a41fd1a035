//! What runs a program where namespaces are refused? An interpreter of its own per call, locked in by Landlock, a system
//! call filter and resource limits; or, where a person asked for it by name, by resource limits alone.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{ToolsError, io};
use crate::python::execution::{Limits, Program};
use crate::python::interpreter::Interpreter;
use crate::python::sandbox::{self, Start};
use crate::python::supervise::{self, Heard, Killed, Pipes, Ran};
use crate::python::{policy, scratch};

/// The program that turns an interpreter into one that runs cells.
const BOOTSTRAP: &CStr = match CStr::from_bytes_with_nul(
    concat!(include_str!("cell.py"), "\n", include_str!("alone.py"), "\0").as_bytes(),
) {
    Ok(text) => text,
    Err(_) => panic!("a bootstrap holds a NUL"),
};

/// Open descriptors a program may have.
pub(crate) const MAX_FILES: u64 = 128;
/// A killed process that has not ended after this long hangs in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// What the calls of all slots have in common.
struct Common {
    exe: CString,
    args: Vec<CString>,
    /// Holds every slot's private directory; removed with the last slot.
    root: tempfile::TempDir,
}

/// A cage and a private directory, used for one call at a time.
pub(crate) struct Caged {
    common: Arc<Common>,
    cage: sandbox::Cage,
    scratch: PathBuf,
}

/// One cage per slot.
pub(crate) fn prepare(interpreter: &Interpreter, n_slots: usize, is_locked: bool) -> Result<Vec<Caged>, ToolsError> {
    let text = |path: &Path| {
        CString::new(path.as_os_str().as_bytes()).map_err(|_| ToolsError::NoPython {
            program: path.to_path_buf(),
            reason: "its path holds a NUL".to_owned(),
        })
    };
    let mut args =
        options(interpreter).map_err(|reason| ToolsError::NoPython { program: interpreter.exe.clone(), reason })?;
    args.push(BOOTSTRAP.into());
    for dir in &interpreter.site_dirs {
        args.push(text(dir)?);
    }
    let root = tempfile::Builder::new().prefix("aepo-python-").tempdir().map_err(io("making a private directory"))?;
    let common = Arc::new(Common { exe: text(&interpreter.exe)?, args, root });
    let filters = policy::filters()?;
    let mut slots = Vec::with_capacity(n_slots);
    for i in 0..n_slots {
        let scratch = common.root.path().join(format!("worker-{i}"));
        std::fs::create_dir(&scratch).map_err(io("making a private directory"))?;
        let null = std::fs::File::open("/dev/null").map_err(io("opening /dev/null"))?;
        let moved = io("moving a descriptor");
        let locks = if is_locked {
            let ruleset = policy::ruleset(interpreter, &scratch, policy::NEWEST_ABI)?;
            let ruleset = sandbox::out_of_the_way(ruleset).map_err(io("moving a descriptor"))?;
            Some(sandbox::Locks { ruleset, filters: filters.clone() })
        } else {
            None
        };
        let null = sandbox::out_of_the_way(null.into()).map_err(moved)?;
        let cage = sandbox::Cage { locks, scratch: text(&scratch)?, null };
        slots.push(Caged { common: Arc::clone(&common), cage, scratch });
    }
    Ok(slots)
}

fn limits(limits: &Limits, n_cells: u64) -> std::io::Result<Vec<(sandbox::Resource, u64)>> {
    let mb = |n: u64| n.saturating_mul(1 << 20);
    [
        // The supervisor ends a program at its limit; the kernel's own limit, which counts whole ticks, lies behind it.
        (libc::RLIMIT_CPU, limits.cpu_secs.saturating_mul(n_cells).saturating_add(2)),
        (libc::RLIMIT_AS, mb(limits.memory_mb.min(limits.total_memory_mb))),
        (libc::RLIMIT_FSIZE, mb(limits.scratch_mb)),
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

impl Caged {
    /// Runs a program in an interpreter of its own. An error is our own fault and says what it was.
    pub(crate) fn run(&mut self, program: &Program, cancel: &OwnedFd) -> Result<Ran, String> {
        // What the last call left was cleared after it; if that failed, this call must not see it.
        scratch::clear(&self.scratch).map_err(|e| format!("clearing the private directory: {e}"))?;
        let execution = self.run_in_empty(program, cancel);
        // Given back at once rather than kept until the next call, which checks the result again.
        let _ = scratch::clear(&self.scratch);
        execution
    }

    fn run_in_empty(&mut self, program: &Program, cancel: &OwnedFd) -> Result<Ran, String> {
        let began = Instant::now();
        let n_cells = 1 + program.earlier.len() as u32;
        let deadline = began + Duration::from_secs_f64(program.limits.wall_secs) * n_cells;
        let descriptor = |e: std::io::Error| format!("making a descriptor: {e}");
        let source = sandbox::memory_file(&cells(program)).map_err(descriptor)?;
        let input = match program.stdin {
            [] => None,
            bytes => Some(sandbox::memory_file(bytes).map_err(descriptor)?),
        };
        let (out, out_end) = sandbox::pipe().map_err(descriptor)?;
        let (err, err_end) = sandbox::pipe().map_err(descriptor)?;
        let (status, status_end) = sandbox::pipe().map_err(descriptor)?;
        let scratch = self.scratch.display();
        let env = environment(&[format!("HOME={scratch}"), format!("TMPDIR={scratch}")])?;
        let limits = limits(program.limits, u64::from(n_cells)).map_err(|e| format!("reading our own limits: {e}"))?;
        let start = Start {
            exe: &self.common.exe,
            args: &self.common.args,
            env: &env,
            limits: &limits,
            input: input.as_ref(),
            out: &out_end,
            err: &err_end,
            code: &source,
            status: &status_end,
            dies_with_thread: true,
        };
        let child = sandbox::start(&mut self.cage, &start).map_err(|e| format!("starting the sandbox: {e}"))?;
        drop((source, input, out_end, err_end, status_end));

        let (mut pipes, mut heard) = (Pipes { out, err, status }, Heard::default());
        let waiting = |e: std::io::Error| format!("waiting for the program: {e}");
        let fds = [child.pidfd.as_raw_fd(), cancel.as_raw_fd()];
        let look = || over_limits(&self.scratch, program.limits, u64::from(n_cells), &child);
        let killed = supervise::watch(&mut pipes, &mut heard, fds, program.limits, deadline, |_| false, look)
            .map_err(waiting)?;
        if killed.is_some() {
            child.kill();
            let [ended] = sandbox::wait_readable([child.pidfd.as_raw_fd()], KILL_PATIENCE).map_err(waiting)?;
            if !ended {
                // Reaping it would wait for as long as the kernel holds it, and this worker's other calls with it.
                std::mem::forget(child);
                return Err("a killed program does not end".to_owned());
            }
        }
        let exit = child.wait().map_err(waiting)?;
        // It has no descendants, so what it printed is all in the pipes now.
        heard.drain(&mut pipes, program.limits).map_err(waiting)?;
        supervise::ran(program.limits, program.earlier.len(), killed, exit, &heard, began)
    }
}

/// All cells of a program as the bootstrap reads them: seed, length, source.
pub(crate) fn cells(program: &Program) -> Vec<u8> {
    let earlier = program.earlier.iter().map(|cell| (cell.seed, cell.code.as_str()));
    let mut bytes = Vec::new();
    for (seed, code) in earlier.chain([(program.seed, program.code)]) {
        bytes.extend(seed.0.to_le_bytes());
        bytes.extend((code.len() as u64).to_le_bytes());
        bytes.extend(code.as_bytes());
    }
    bytes
}

/// How an interpreter is started, up to its program. By its whole path, from which it finds its library.
pub(crate) fn options(interpreter: &Interpreter) -> Result<Vec<CString>, String> {
    // No site and no user packages by start-up code (-s -S: milliseconds), no byte code written (-B), every write at
    // once (-u: what was printed before a kill is kept), UTF-8 whatever the locale. -E is not among them: it would hide
    // the hash seed, and the environment is ours alone.
    let exe = CString::new(interpreter.exe.as_os_str().as_bytes()).map_err(|_| "its path holds a NUL".to_owned())?;
    Ok([exe].into_iter().chain([c"-s", c"-S", c"-B", c"-u", c"-X", c"utf8", c"-c"].map(CString::from)).collect())
}

/// The whole environment of an interpreter.
pub(crate) fn environment(own: &[String]) -> Result<Vec<CString>, String> {
    let fixed = [
        // The same order of sets in every call and on every machine.
        "PYTHONHASHSEED=0",
        "PYTHONIOENCODING=utf-8:backslashreplace",
        "LANG=C.UTF-8",
        "TZ=UTC",
        // Numerical libraries would start a thread per core, in each of many programs at once.
        "OMP_NUM_THREADS=1",
        "OPENBLAS_NUM_THREADS=1",
    ];
    let all = fixed.into_iter().chain(own.iter().map(String::as_str));
    all.map(|s| CString::new(s).map_err(|e| format!("an argument holds a NUL: {e}"))).collect()
}

fn over_limits(scratch: &Path, limits: &Limits, n_cells: u64, child: &sandbox::Child) -> Option<Killed> {
    let pid = child.pid;
    if child.cpu_secs().is_some_and(|secs| secs >= limits.cpu_secs.saturating_mul(n_cells) as f64) {
        return Some(Killed::Cpu);
    }
    // A task directory has one link per thread beside its own two.
    let n_threads = std::fs::metadata(format!("/proc/{pid}/task")).map_or(0, |meta| meta.nlink().saturating_sub(2));
    if n_threads > limits.max_processes {
        return Some(Killed::Processes);
    }
    let is_over = scratch::is_over(scratch, pid, limits.scratch_mb << 20, limits.scratch_inodes);
    is_over.then_some(Killed::Disk)
}

#[cfg(test)]
mod tests {
    use aepo::seed::Seed;
    use aepo::tool::ToolOutcome;

    use super::*;
    use crate::python::{executor, interpreter};

    fn with_oldest_landlock() -> Caged {
        let interpreter = interpreter::find(None).unwrap();
        let mut caged = prepare(&interpreter, 1, true).unwrap().remove(0);
        let ruleset = policy::ruleset(&interpreter, &caged.scratch, landlock::ABI::V1).unwrap();
        let ruleset = sandbox::out_of_the_way(ruleset).unwrap();
        caged.cage.locks = Some(sandbox::Locks { ruleset, filters: policy::filters().unwrap() });
        caged
    }

    /// The first Landlock sees neither truncation nor signals: the system call filter alone must hold them.
    #[test]
    fn the_oldest_landlock_holds_too() {
        let mut caged = with_oldest_landlock();
        let (cancel, _keep) = std::io::pipe().unwrap();
        let cancel = OwnedFd::from(cancel);
        let limits = Limits { wall_secs: 30.0, ..Limits::default() };
        let mut run = |code: &str| caged.run(&Program::new(code, Seed(1), &limits), &cancel).unwrap().execution;
        let tested = run(executor::SELF_TEST_LANDLOCK);
        assert_eq!((tested.outcome, tested.text().as_str()), (ToolOutcome::Ok, ""));
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
        let ran = run(&program.replace("PATH", &format!("{:?}", canary.path())));
        assert_eq!((ran.outcome, ran.text().as_str()), (ToolOutcome::Ok, "'done'"));
        assert_eq!(std::fs::read_to_string(canary.path()).unwrap(), "canary");
    }
}
