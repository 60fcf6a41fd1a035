//! How is a program locked in? Starting, signalling and reaping one caged process: the only unsafe code of this crate.
//!
//! The child is made by `clone(CLONE_VM | CLONE_VFORK)` on a stack of its own, as the C library's `posix_spawn` does:
//! it borrows our memory until it executes the interpreter, so a start costs the same whether the trainer holds ten
//! megabytes or a hundred gigabytes. Until then it makes system calls only: no allocation, no lock, no panic.

use std::ffi::{CStr, CString};
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libc::{c_char, c_int, c_void};
use seccompiler::BpfProgram;

use crate::python::policy::OWN_PID;

/// Bytes of stack for the child's few system calls before it executes the interpreter.
const STACK_BYTES: usize = 64 * 1024;
/// Our own descriptors lie above this, so that placing 0..=4 in the child overwrites none of them.
const FIRST_OWN_FD: c_int = 10;

/// What a worker's programs run in; prepared before the first call.
pub(crate) struct Cage {
    /// What takes rights away; none where a person asked for an open door.
    pub locks: Option<Locks>,
    /// Working directory.
    pub scratch: CString,
    /// An empty standard input.
    pub null: OwnedFd,
}

/// What takes rights away.
pub(crate) struct Locks {
    /// Landlock rules.
    pub ruleset: OwnedFd,
    /// System call filters, in the order of their installation.
    pub filters: [BpfProgram; 2],
}

/// `setrlimit`'s first argument, whose type differs between C libraries.
pub(crate) type Resource = libc::__rlimit_resource_t;

/// What to execute, and the ends of the pipes it gets.
pub(crate) struct Start<'a> {
    /// Interpreter.
    pub exe: &'a CStr,
    /// Arguments, the program's name first.
    pub args: &'a [CString],
    /// The whole environment.
    pub env: &'a [CString],
    /// Resource and limit, soft and hard alike.
    pub limits: &'a [(Resource, u64)],
    /// Descriptor 0; none for an empty one.
    pub input: Option<&'a OwnedFd>,
    /// Descriptor 1.
    pub out: &'a OwnedFd,
    /// Descriptor 2.
    pub err: &'a OwnedFd,
    /// Descriptor 3: the source.
    pub code: &'a OwnedFd,
    /// Descriptor 4: how far the bootstrap came.
    pub status: &'a OwnedFd,
    /// Whether it is killed when the thread that starts it ends. The kernel counts the thread as the parent.
    pub dies_with_thread: bool,
}

/// A step of the start that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub(crate) struct StartError {
    /// Which one.
    pub step: &'static str,
    /// The kernel's answer.
    pub source: io::Error,
}

/// A running process. Dropped without [`Child::wait`] it is killed and reaped.
pub(crate) struct Child {
    /// Process id; belongs to it until it is reaped.
    pub pid: i32,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
    reaped: bool,
}

/// How a process ended, by the kernel's account.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exit {
    /// Exit code, or the signal that ended it.
    pub how: How,
    /// User and system time, seconds.
    pub cpu_secs: f64,
    /// The most memory it held at once, MiB.
    pub max_rss_mb: f64,
}

/// Exit code or signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum How {
    /// It called `exit`.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

/// Everything the child needs, laid out before it exists. Lives on the parent's stack, which outlives the child's use of
/// it: `CLONE_VFORK` holds the parent until the child executes or exits.
struct Plan {
    exe: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
    scratch: *const c_char,
    input: c_int,
    out: c_int,
    err: c_int,
    code: c_int,
    status: c_int,
    /// Negative for none.
    ruleset: c_int,
    limits: *const (Resource, u64),
    n_limits: usize,
    filters: [libc::sock_fprog; 2],
    n_filters: usize,
    parent: libc::pid_t,
    dies_with_thread: bool,
    failed: Option<&'static str>,
    errno: c_int,
}

/// Starts the interpreter in the cage.
pub(crate) fn start(cage: &mut Cage, start: &Start) -> Result<Child, StartError> {
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (argv, envp) = (pointers(start.args), pointers(start.env));
    // The child writes its own id into these copies; the cage's originals keep the placeholder.
    let mut filters = cage.locks.as_ref().map_or_else(Default::default, |locks| locks.filters.clone());
    let programs = filters
        .each_mut()
        .map(|filter| libc::sock_fprog { len: filter.len() as libc::c_ushort, filter: filter.as_mut_ptr().cast() });
    let mut plan = Plan {
        exe: start.exe.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        scratch: cage.scratch.as_ptr(),
        input: start.input.unwrap_or(&cage.null).as_raw_fd(),
        out: start.out.as_raw_fd(),
        err: start.err.as_raw_fd(),
        code: start.code.as_raw_fd(),
        status: start.status.as_raw_fd(),
        ruleset: cage.locks.as_ref().map_or(-1, |locks| locks.ruleset.as_raw_fd()),
        limits: start.limits.as_ptr(),
        n_limits: start.limits.len(),
        filters: programs,
        n_filters: if cage.locks.is_some() { programs.len() } else { 0 },
        parent: std::process::id() as libc::pid_t,
        dies_with_thread: start.dies_with_thread,
        failed: None,
        errno: 0,
    };
    let mut stack = vec![0u128; STACK_BYTES / size_of::<u128>()];
    let mut pidfd: c_int = -1;
    // SAFETY: the signal sets are initialised by the calls that take them. Every signal is blocked around `clone`, so no
    // handler of ours runs in the child on shared memory. `child` gets the exclusive address of `plan`, which with all it
    // points to (argv, envp, filters, the cage) lives past `clone`'s return, and CLONE_VFORK holds this thread until the
    // child no longer uses our memory. The stack top is 16-byte aligned and belongs to the child alone.
    let pid = unsafe {
        let (mut all, mut before) = (std::mem::zeroed::<libc::sigset_t>(), std::mem::zeroed::<libc::sigset_t>());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let pid = libc::clone(
            child,
            stack.as_mut_ptr_range().end.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            (&raw mut plan).cast(),
            &raw mut pidfd,
        );
        let error = *libc::__errno_location();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        *libc::__errno_location() = error;
        pid
    };
    if pid < 0 {
        return Err(StartError { step: "clone", source: io::Error::last_os_error() });
    }
    // SAFETY: CLONE_PIDFD stored a fresh descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let child = Child { pid, pidfd, reaped: false };
    match plan.failed {
        None => Ok(child),
        Some(step) => Err(StartError { step, source: io::Error::from_raw_os_error(plan.errno) }),
    }
}

/// Runs in the child until it becomes the interpreter. Returns only on failure, with the step named in the plan.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `start` passes the address of a live `Plan` that nobody else touches until we execute or exit.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    // SAFETY: only system calls on values that the plan keeps alive; see `lock_in`.
    if let Err(step) = unsafe { lock_in(plan) } {
        // SAFETY: errno's address is always valid; it is the suspended parent thread's.
        plan.errno = unsafe { *libc::__errno_location() };
        plan.failed = Some(step);
    }
    // SAFETY: ends this process without running any handler of the memory that it shares.
    unsafe { libc::_exit(127) }
}

/// The locks, each after those that need what it takes away.
///
/// # Safety
/// Must run in the child of `start`, on its plan: it changes this process's limits, rights and descriptors.
unsafe fn lock_in(plan: &mut Plan) -> Result<(), &'static str> {
    let ok = |result: c_int, step| if result < 0 { Err(step) } else { Ok(()) };
    // SAFETY: the caller's promise: plan pointers are live and null-terminated where they must be, structures passed by
    // address are local and initialised, and no call here allocates or takes a lock.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=64 {
            // Fails for the few that cannot be changed, which are at their default anyway.
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        ok(libc::setsid(), "setsid")?;
        if plan.dies_with_thread {
            ok(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")?;
        }
        if libc::syscall(libc::SYS_getppid) as libc::pid_t != plan.parent {
            return Err("getppid: the parent has died");
        }
        for (from, to) in [(plan.input, 0), (plan.out, 1), (plan.err, 2), (plan.code, 3), (plan.status, 4)] {
            ok(libc::dup2(from, to), "dup2")?;
        }
        let closed = libc::syscall(libc::SYS_close_range, 5, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        ok(closed as c_int, "close_range")?;
        ok(libc::chdir(plan.scratch), "chdir to the private directory")?;
        libc::umask(0o077);
        for i in 0..plan.n_limits {
            let (resource, limit) = *plan.limits.add(i);
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            ok(libc::setrlimit(resource, &limit), "setrlimit")?;
        }
        ok(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")?;
        if plan.ruleset >= 0 {
            let held = libc::syscall(libc::SYS_landlock_restrict_self, plan.ruleset, 0);
            ok(held as c_int, "landlock_restrict_self")?;
            // Root keeps its files but loses every capability; with no_new_privs, executing gives none back.
            let header = CapHeader { version: 0x2008_0522, pid: 0 };
            let none = [[0u32; 3]; 2];
            ok(libc::syscall(libc::SYS_capset, &raw const header, &raw const none) as c_int, "capset")?;
        }
        let own_pid = libc::syscall(libc::SYS_getpid) as u32;
        for program in &plan.filters[..plan.n_filters] {
            for i in 0..usize::from(program.len) {
                let instruction = &mut *program.filter.add(i);
                if instruction.k == OWN_PID {
                    instruction.k = own_pid;
                }
            }
        }
        for program in &plan.filters[..plan.n_filters] {
            let set = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const *program);
            ok(set as c_int, "seccomp(SECCOMP_SET_MODE_FILTER)")?;
        }
        let mut no_signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut no_signals);
        libc::sigprocmask(libc::SIG_SETMASK, &no_signals, std::ptr::null_mut());
        libc::execve(plan.exe, plan.argv, plan.envp);
        Err("execve of the interpreter")
    }
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: c_int,
}

impl Child {
    /// Kills it; nothing it started can outlive it. Harmless once it has ended.
    pub(crate) fn kill(&self) {
        kill(&self.pidfd);
    }

    /// Processor time of all its threads so far, seconds; `None` once it has ended.
    pub(crate) fn cpu_secs(&self) -> Option<f64> {
        cpu_secs(self.pid)
    }

    /// Reaps it; blocks until it has ended.
    pub(crate) fn wait(mut self) -> io::Result<Exit> {
        self.reap()
    }

    fn reap(&mut self) -> io::Result<Exit> {
        let mut status: c_int = 0;
        // SAFETY: an all-zero rusage is a valid value, and both addresses are of live locals. The pid is ours until reaped.
        let (got, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            let got = loop {
                let got = libc::wait4(self.pid, &raw mut status, 0, &raw mut usage);
                if got >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                    break got;
                }
            };
            (got, usage)
        };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        self.reaped = true;
        let secs = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
        let how = if libc::WIFSIGNALED(status) {
            How::Signal(libc::WTERMSIG(status))
        } else {
            How::Code(libc::WEXITSTATUS(status))
        };
        let cpu_secs = secs(usage.ru_utime) + secs(usage.ru_stime);
        Ok(Exit { how, cpu_secs, max_rss_mb: usage.ru_maxrss as f64 / 1024.0 })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            // Nothing is left to be told: an error means that it is no child of ours any more.
            let _ = self.reap();
        }
    }
}

/// Kills the process behind a descriptor. Harmless once it has ended.
pub(crate) fn kill(pidfd: &OwnedFd) {
    // SAFETY: plain system call on a descriptor we own.
    unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, std::ptr::null::<c_void>(), 0)
    };
}

/// Processor time of all threads of a process so far, seconds, by the scheduler's own count; `None` once it has ended.
pub(crate) fn cpu_secs(pid: i32) -> Option<f64> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both addresses are of live locals; an id that belongs to nobody is an error.
    let got = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) == 0 && libc::clock_gettime(clock, &raw mut time) == 0
    };
    got.then_some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
}

/// The id of the process behind a descriptor, as we see it; not positive once it has ended.
pub(crate) fn pid_of(pidfd: &OwnedFd) -> io::Result<i32> {
    let table = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = table.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|rest| rest.trim().parse().ok());
    pid.ok_or_else(|| io::Error::other("the descriptor of a process names none"))
}

/// Whether we are the super-user.
pub(crate) fn is_super() -> bool {
    // SAFETY: reads a number.
    unsafe { libc::geteuid() == 0 }
}

/// A descriptor above those the child's pipes are placed on.
pub(crate) fn out_of_the_way(fd: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: duplicates a descriptor we own; the result is fresh and owned by nobody else.
    let raw = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST_OWN_FD) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A pipe whose reading end never blocks: (read, write).
pub(crate) fn pipe() -> io::Result<(std::fs::File, OwnedFd)> {
    let (read, write) = io::pipe()?;
    // SAFETY: sets a flag on a descriptor we own.
    if unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((std::fs::File::from(OwnedFd::from(read)), out_of_the_way(write.into())?))
}

/// A file without a name that holds `bytes`, at its beginning.
pub(crate) fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the name is a null-terminated literal; the result is fresh and owned by nobody else.
    let raw = unsafe { libc::memfd_create(c"code".as_ptr(), libc::MFD_CLOEXEC) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    let mut file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(raw) });
    file.write_all(bytes)?;
    file.rewind()?;
    out_of_the_way(file.into())
}

/// Waits until one of `fds` has something to read or has ended; a negative one is passed over. A signal counts as a
/// time-out: the caller looks at the clock anyway.
pub(crate) fn wait_readable<const N: usize>(fds: [RawFd; N], timeout: Duration) -> io::Result<[bool; N]> {
    let mut polls = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let millis = timeout.as_millis().min(60_000) as c_int + 1;
    // SAFETY: `polls` is a live array of N entries.
    if unsafe { libc::poll(polls.as_mut_ptr(), N as libc::nfds_t, millis) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok([false; N]) } else { Err(error) };
    }
    Ok(polls.map(|poll| poll.revents != 0))
}

/// `wanted`, or less where our own hard limit is lower.
pub(crate) fn capped_limit(resource: Resource, wanted: u64) -> io::Result<(Resource, u64)> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the address is of a live local.
    if unsafe { libc::getrlimit(resource, &raw mut now) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((resource, wanted.min(now.rlim_max)))
}
