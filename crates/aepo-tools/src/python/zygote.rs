//! Who starts the programs of a run? The supervisor's side of the fork server: one process that has done its imports, in
//! namespaces of its own, and a conversation with it per call.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::python::caged::{self, MAX_FILES};
use crate::python::execution::{Limits, Program};
use crate::python::interpreter::Interpreter;
use crate::python::sandbox::{self, Exit, How, Start};
use crate::python::supervise::{self, Heard, Killed, Pipes, Ran};
use crate::python::{message, policy, root, tally};

/// The server's own program.
const SERVER: &str = concat!(include_str!("cell.py"), "\n", include_str!("zygote.py"));

/// How long the server may take to be ready, its imports included.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// A killed program whose end is not told after this long is held by the kernel, or the server is at fault.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a server that was told to end may take.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// Modules that programs often import and that cost a start more than a fork.
const COMMON: &[&str] = &[
    "bisect",
    "cmath",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "random",
    "re",
    "statistics",
    "string",
    "threading",
    "time",
    "typing",
];
/// Packages whose import takes longer than most programs. A server that holds them forks more slowly.
const HEAVY: &[&str] = &["numpy", "sympy"];

/// What a server has imported before its first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Small modules of the standard library.
    Light,
    /// numpy and sympy, too.
    Heavy,
}

impl Flavour {
    /// The one whose start suits a program best; what the program can do is the same in both.
    pub(crate) fn of(program: &Program) -> Flavour {
        let mut sources = program.earlier.iter().map(|cell| cell.code.as_str()).chain([program.code]);
        let is_heavy = sources.any(|code| HEAVY.iter().chain(&["mpmath"]).any(|name| code.contains(name)));
        if is_heavy { Flavour::Heavy } else { Flavour::Light }
    }
}

/// A running server. Dropped, it ends with everything below it.
pub(crate) struct Zygote {
    control: Option<OwnedFd>,
    process: Option<sandbox::Child>,
    /// What it told of itself when it was ready.
    pub ready: serde_json::Value,
}

/// Why a call has no answer.
pub(crate) enum Trouble {
    /// The server is lost before anything was heard of the program, and with it whatever the program did: another server
    /// may run it.
    NotBegun(String),
    /// The server is lost, and whether the program has run is unknown.
    Lost(String),
    /// The server is well; the call could not be run.
    Refused(String),
}

impl Zygote {
    /// Starts a server and waits until it is ready. The error says which step was refused.
    pub(crate) fn start(interpreter: &Interpreter, flavour: Flavour) -> Result<Zygote, String> {
        let trouble = |e: std::io::Error| format!("preparing the server: {e}");
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|e| e.to_string());
        let settings = settings(interpreter, flavour)?;
        let settings = sandbox::memory_file(settings.to_string().as_bytes()).map_err(trouble)?;
        let (control, theirs) = message::pair().map_err(trouble)?;
        let theirs = sandbox::out_of_the_way(theirs).map_err(trouble)?;
        let (mut said, said_end) = sandbox::pipe().map_err(trouble)?;
        let null = File::options().read(true).write(true).open("/dev/null").map_err(trouble)?;
        let null = sandbox::out_of_the_way(null.into()).map_err(trouble)?;
        let out = null.try_clone().map_err(trouble)?;
        let out = sandbox::out_of_the_way(out).map_err(trouble)?;
        let mut args = caged::options(interpreter)?;
        args.push(CString::new(SERVER).map_err(|e| e.to_string())?);
        // Large values lie in huge pages where the kernel has them: a clone copies one entry for 2 MiB, not 512.
        let own = ["HOME=/tmp", "TMPDIR=/tmp", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"];
        let env = caged::environment(&own.map(str::to_owned))?;
        let mut cage = sandbox::Cage { locks: None, scratch: text(Path::new("/"))?, null };
        let start = Start {
            exe: &text(&interpreter.exe)?,
            args: &args,
            env: &env,
            limits: &[],
            input: None,
            out: &out,
            err: &said_end,
            code: &settings,
            status: &theirs,
            dies_with_thread: false,
        };
        let process = sandbox::start(&mut cage, &start).map_err(|e| format!("starting the server: {e}"))?;
        drop((theirs, said_end, out, settings));
        let mut zygote = Zygote { control: Some(control), process: Some(process), ready: serde_json::Value::Null };
        let greeting = zygote.control.as_ref().map_or(Ok(Vec::new()), |control| {
            match sandbox::wait_readable([control.as_raw_fd()], START_PATIENCE).map_err(trouble)? {
                [true] => message::receive(control).map(|(bytes, _)| bytes).map_err(trouble),
                [false] => Err(format!("the server was not ready after {} s", START_PATIENCE.as_secs())),
            }
        })?;
        match serde_json::from_slice(&greeting) {
            Ok(ready) => zygote.ready = ready,
            Err(_) => {
                drop(zygote);
                let mut reason = String::new();
                // Whatever of it is text helps; the pipe does not block.
                let _ = said.by_ref().take(4096).read_to_string(&mut reason);
                let reason = reason.trim();
                return Err(if reason.is_empty() { "the server ended at once".to_owned() } else { reason.to_owned() });
            }
        }
        Ok(zygote)
    }

    /// Runs one program as the `slot`-th user.
    pub(crate) fn run(&self, program: &Program, slot: u64, cancel: &OwnedFd) -> Result<Ran, Trouble> {
        let began = Instant::now();
        let limits = program.limits;
        let n_cells = 1 + program.earlier.len() as u32;
        let deadline = began + Duration::from_secs_f64(limits.wall_secs) * n_cells;
        let mut running = self.begin(program, slot, deadline, &[])?;
        let mut heard = Heard::default();
        let cpu_secs = limits.cpu_secs as f64 * f64::from(n_cells);
        let killed = running.watch(&mut heard, limits, deadline, cancel, cpu_secs, |_| false)?;
        if killed.is_some() {
            running.kill();
        }
        let exit = running.ended()?;
        // The namespace is gone, and with it every process that could write.
        heard.drain(&mut running.pipes, limits).map_err(waiting)?;
        if let Some((b'X', reason)) = heard.status.split_first() {
            return Err(Trouble::Refused(String::from_utf8_lossy(reason).into_owned()));
        }
        supervise::ran(limits, program.earlier.len(), killed, exit, &heard, began).map_err(Trouble::Refused)
    }

    /// Starts one program as the `slot`-th user. The time of all its cells ends at `deadline`; `session` are the
    /// descriptors that make it go on after its last one.
    pub(crate) fn begin(
        &self,
        program: &Program,
        slot: u64,
        deadline: Instant,
        session: &[&OwnedFd],
    ) -> Result<Running, Trouble> {
        let limits = program.limits;
        let ours = |e: std::io::Error| Trouble::Refused(format!("making a descriptor: {e}"));
        let source = sandbox::memory_file(&caged::cells(program)).map_err(ours)?;
        let input = match program.stdin {
            [] => OwnedFd::from(File::open("/dev/null").map_err(ours)?),
            bytes => sandbox::memory_file(bytes).map_err(ours)?,
        };
        let (pipes, [out_end, err_end, status_end]) = pipes().map_err(ours)?;
        let (reply, reply_end) = message::pair().map_err(ours)?;
        let fds = [&source, &input, &out_end, &err_end, &status_end, &reply_end];
        let fds: Vec<i32> = fds.iter().chain(session).map(|fd| fd.as_raw_fd()).collect();
        let control = self.control.as_ref().ok_or_else(|| Trouble::NotBegun("the server has ended".to_owned()))?;
        let gone = |e: std::io::Error| Trouble::NotBegun(format!("the server does not listen: {e}"));
        let request = request(limits, slot, 1 + program.earlier.len() as u64);
        message::send(control, &request, &fds).map_err(gone)?;
        drop((source, input, out_end, err_end, status_end, reply_end));

        // A server that does not even start a program in its whole time is stuck.
        let patience = deadline.saturating_duration_since(Instant::now()) + KILL_PATIENCE;
        let (bytes, fds) = match sandbox::wait_readable([reply.as_raw_fd()], patience).map_err(waiting)? {
            [true] => message::receive(&reply).map_err(waiting)?,
            [false] => return Err(Trouble::NotBegun("the server does not answer".to_owned())),
        };
        match (bytes.split_first(), <[OwnedFd; 2]>::try_from(fds)) {
            (Some((b'S', [])), Ok([program, init])) => {
                let pids = [sandbox::pid_of(&program).map_err(waiting)?, sandbox::pid_of(&init).map_err(waiting)?];
                Ok(Running { pipes, reply, init, pids })
            }
            (Some((b'X', reason)), _) => Err(Trouble::NotBegun(String::from_utf8_lossy(reason).into_owned())),
            (None, _) => Err(Trouble::NotBegun("the server has died".to_owned())),
            _ => Err(Trouble::Lost("the server speaks in riddles".to_owned())),
        }
    }
}

fn waiting(e: std::io::Error) -> Trouble {
    Trouble::Lost(format!("waiting for the program: {e}"))
}

/// Pipes for a program: our ends, and its.
pub(crate) fn pipes() -> std::io::Result<(Pipes, [OwnedFd; 3])> {
    let (out, out_end) = sandbox::pipe()?;
    let (err, err_end) = sandbox::pipe()?;
    let (status, status_end) = sandbox::pipe()?;
    Ok((Pipes { out, err, status }, [out_end, err_end, status_end]))
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // The end of the conversation is the order to end; what does not obey is killed by dropping it.
        self.control = None;
        if let Some(process) = &self.process
            && matches!(sandbox::wait_readable([process.pidfd.as_raw_fd()], END_PATIENCE), Ok([true]))
        {
            let ended = self.process.take().map(sandbox::Child::wait);
            // How it ended does not matter any more.
            drop(ended);
        }
    }
}

/// What the server is told at its start.
fn settings(interpreter: &Interpreter, flavour: Flavour) -> Result<serde_json::Value, String> {
    let root = root::root(interpreter);
    let filters = policy::namespace_filters().map_err(|e| e.to_string())?;
    let sleeper_filters = policy::sleeper_filters().map_err(|e| e.to_string())?;
    let session_filters = policy::session_filters().map_err(|e| e.to_string())?;
    let bytes = |filter: &seccompiler::BpfProgram| -> String {
        let one = |i: &seccompiler::sock_filter| {
            let [c0, c1] = i.code.to_ne_bytes();
            let [k0, k1, k2, k3] = i.k.to_ne_bytes();
            [c0, c1, i.jt, i.jf, k0, k1, k2, k3].map(|byte| format!("{byte:02x}")).concat()
        };
        filter.iter().map(one).collect()
    };
    let preload: Vec<&str> = match flavour {
        Flavour::Light => COMMON.to_vec(),
        Flavour::Heavy => [COMMON, HEAVY].concat(),
    };
    // A super-user's programs get ids that belong to nobody: 256 for each process of ours that may live at once.
    let first_id = if sandbox::is_super() { 0x3000_0000 + u64::from(std::process::id()) * 256 } else { 0 };
    Ok(serde_json::json!({
        "binds": root.binds,
        "links": root.links,
        "moved": root.moved,
        "site": interpreter.site_dirs,
        "preload": preload,
        "filters": filters.iter().map(bytes).collect::<Vec<_>>(),
        "sleeper_filters": sleeper_filters.iter().map(bytes).collect::<Vec<_>>(),
        "session_filters": session_filters.iter().map(bytes).collect::<Vec<_>>(),
        "ids": [first_id, 256],
        "pivot_root": libc::SYS_pivot_root,
        "max_files": MAX_FILES,
    }))
}

/// The numbers of a call, as the server unpacks them.
fn request(limits: &Limits, slot: u64, n_cells: u64) -> Vec<u8> {
    let mb = |n: u64| n.saturating_mul(1 << 20).min(i64::MAX as u64);
    // Id 0 is the server's own.
    let id = 1 + slot % 255;
    let cpu = limits.cpu_secs.saturating_mul(n_cells).min(u64::from(u32::MAX));
    let numbers = [id, mb(limits.memory_mb), cpu, limits.max_processes, mb(limits.scratch_mb), limits.scratch_inodes];
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// An end as the server tells it: wait status, processor seconds, most memory in KiB.
pub(crate) fn exit(told: &[u8]) -> Option<Exit> {
    let (status, rest) = told.split_first_chunk::<4>()?;
    let (cpu, rest) = rest.split_first_chunk::<8>()?;
    let (rss, _) = rest.split_first_chunk::<8>()?;
    let status = i32::from_le_bytes(*status);
    let how = if libc::WIFSIGNALED(status) {
        How::Signal(libc::WTERMSIG(status))
    } else {
        How::Code(libc::WEXITSTATUS(status))
    };
    Some(Exit { how, cpu_secs: f64::from_le_bytes(*cpu), max_rss_mb: u64::from_le_bytes(*rss) as f64 / 1024.0 })
}

/// Which limit of a program, one process of a namespace, has been passed. The kernel's own limit on processor time lies
/// behind ours: it counts whole ticks, which on a busy machine are far from what a process got.
pub(crate) fn over_limits(pids: [i32; 2], program: i32, cpu_secs: f64, max_bytes: u64) -> Option<Killed> {
    if program > 0 && sandbox::cpu_secs(program).is_some_and(|secs| secs >= cpu_secs) {
        return Some(Killed::Cpu);
    }
    tally::is_over(pids, max_bytes).then_some(Killed::Memory)
}

/// A program in its namespace.
pub(crate) struct Running {
    /// What it says.
    pub pipes: Pipes,
    /// What the server says of it.
    pub reply: OwnedFd,
    init: OwnedFd,
    /// The program and its namespace's first process, as we see them.
    pub pids: [i32; 2],
}

impl Running {
    /// Kills every process of the namespace.
    pub(crate) fn kill(&self) {
        sandbox::kill(&self.init);
    }

    /// Listens until the program has ended, `is_done` is content, or it must be killed, when its processor time passes
    /// `cpu_secs` for one thing.
    pub(crate) fn watch(
        &mut self,
        heard: &mut Heard,
        limits: &Limits,
        deadline: Instant,
        cancel: &OwnedFd,
        cpu_secs: f64,
        is_done: impl Fn(&Heard) -> bool,
    ) -> Result<Option<Killed>, Trouble> {
        let fds = [self.reply.as_raw_fd(), cancel.as_raw_fd()];
        let pids = self.pids;
        let look = || over_limits(pids, pids[0], cpu_secs, limits.total_memory_mb << 20);
        supervise::watch(&mut self.pipes, heard, fds, limits, deadline, is_done, look).map_err(waiting)
    }

    /// How it ended, once its namespace is gone.
    pub(crate) fn ended(&self) -> Result<Exit, Trouble> {
        let last = match sandbox::wait_readable([self.reply.as_raw_fd()], KILL_PATIENCE).map_err(waiting)? {
            [true] => message::receive(&self.reply).map_err(waiting)?.0,
            [false] => return Err(Trouble::Lost("a killed program does not end".to_owned())),
        };
        let exit = last.strip_prefix(b"E").and_then(exit);
        exit.ok_or_else(|| Trouble::Lost("the server died while the program ran".to_owned()))
    }
}
