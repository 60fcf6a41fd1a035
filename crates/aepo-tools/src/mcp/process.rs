//! How is a server's program started, and how does everything it started end? In a session of its own, with an
//! environment that holds only what it was given.
//!
//! A server is killed together with its process group, and with whatever left the group but kept the mark that every
//! descendant inherits in its environment. When we are killed ourselves, the kernel kills the server, and a shell that
//! waits for the end of a pipe from us kills the rest.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Bytes of standard error that are kept for reasons: the last ones.
const KEPT_STDERR_BYTES: usize = 600;
/// What a killed process may take to disappear.
const REAP_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at a process that is ending.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Bytes of another process's environment that are searched for the mark.
const MAX_ENVIRON_BYTES: u64 = 1 << 20;
/// The variable that marks a server's descendants.
const MARK: &str = "AEPO_MCP_SERVER";
/// Waits until its standard input ends, which the system sees to when this process dies, kills a process group and all
/// who carry the mark, and removes the server's home.
const WATCH: &str = "read -r _; kill -s KILL -- \"-$1\"; \
    for e in $(grep -ls \"$2\" /proc/[0-9]*/environ); do p=${e%/environ}; kill -s KILL \"${p#/proc/}\"; done; \
    rm -rf -- \"$3\"";

/// What is started.
pub(super) struct Program<'a> {
    /// A path, or a name that is looked up in `PATH`.
    pub command: &'a str,
    /// Its arguments.
    pub args: &'a [String],
    /// Variables beside `PATH`, `LANG` and `HOME`; they win over these.
    pub env: &'a std::collections::BTreeMap<String, String>,
    /// Working directory, or its `HOME`.
    pub cwd: Option<&'a PathBuf>,
}

/// A server's process. Dropped, it is killed with all it started.
pub(super) struct Process {
    child: Child,
    watcher: Option<Child>,
    mark: String,
    stderr: Arc<Mutex<Vec<u8>>>,
    has_ended: bool,
    /// Its home, removed with it.
    home: TempDir,
}

/// Our ends of the pipes to a new process.
pub(super) struct Pipes {
    /// What it reads.
    pub stdin: OwnedFd,
    /// What it writes.
    pub stdout: OwnedFd,
    /// Its complaints.
    pub stderr: OwnedFd,
}

impl Process {
    /// Starts it. Must be called by a thread that lives as long as the server should: the kernel kills the server when
    /// that thread ends.
    pub fn start(program: &Program) -> io::Result<(Process, Pipes)> {
        let home = tempfile::Builder::new().prefix("aepo-mcp-").tempdir()?;
        // The directory's name is random and nobody else's.
        let mark = home.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new(program.command);
        command.args(program.args).env_clear();
        for name in ["PATH", "LANG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", home.path()).envs(program.env).env(MARK, &mark);
        command.current_dir(program.cwd.map_or(home.path(), PathBuf::as_path));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        die_with_us(&mut command);
        let mut child = command.spawn()?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("a pipe of the new process is missing"));
        };
        let mut process = Process { child, watcher: None, mark, stderr: Arc::default(), has_ended: false, home };
        // From here on, dropping `process` ends what has been started.
        process.watcher = Some(process.watch()?);
        Ok((process, Pipes { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() }))
    }

    /// A shell that outlives us for a moment.
    fn watch(&self) -> io::Result<Child> {
        let group = self.child.id().to_string();
        let mark = format!("{MARK}={}", self.mark);
        let mut watch = Command::new("/bin/sh");
        watch.args(["-c", WATCH, "aepo-mcp-watch", &group, &mark]).arg(self.home.path()).env_clear();
        watch.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin")));
        // A group of its own: what ends ours from a terminal should not end this.
        watch.process_group(0).current_dir("/");
        watch.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        watch.spawn()
    }

    /// Where its complaints are collected.
    pub fn stderr_ring(&self) -> Arc<Mutex<Vec<u8>>> {
        Arc::clone(&self.stderr)
    }

    /// Its last complaints, as text in one line.
    pub fn last_words(&self) -> String {
        let kept = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
    }

    /// Whether it has ended by itself. It is not reaped by this, so that its number stays its own.
    pub fn has_left(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // `PID (NAME) STATE …`, where a name may hold anything.
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
    }

    /// Kills it with all it started, and gives the status of a process that had ended before.
    pub fn end(&mut self) -> Option<ExitStatus> {
        self.has_ended = true;
        // The group before its leader is reaped: until then nobody else can have its number.
        kill(-i64::from(self.child.id()));
        for pid in marked(&self.mark) {
            kill(i64::from(pid));
        }
        let status = reap(&mut self.child);
        if let Some(mut watcher) = self.watcher.take() {
            // It has children only when it acts, which it does not while we hold its input.
            kill(i64::from(watcher.id()));
            reap(&mut watcher);
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end();
        }
    }
}

/// Adds `new` to what is kept of a stream: the last bytes.
pub(super) fn keep_last(kept: &Mutex<Vec<u8>>, new: &[u8]) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let new = &new[new.len().saturating_sub(KEPT_STDERR_BYTES)..];
    let n_over = (kept.len() + new.len()).saturating_sub(KEPT_STDERR_BYTES);
    kept.drain(..n_over);
    kept.extend_from_slice(new);
}

/// Those who inherited the mark of a server.
fn marked(mark: &str) -> Vec<u32> {
    let needle = format!("{MARK}={mark}").into_bytes();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let carries = |pid: &u32| {
        let mut environ = Vec::new();
        let read = std::fs::File::open(format!("/proc/{pid}/environ"))
            .and_then(|file| file.take(MAX_ENVIRON_BYTES).read_to_end(&mut environ));
        read.is_ok() && environ.split(|byte| *byte == 0).any(|variable| variable == needle)
    };
    pids.filter(carries).collect()
}

/// Waits for a process that has been killed, as long as that may take.
fn reap(child: &mut Child) -> Option<ExitStatus> {
    let until = Instant::now() + REAP_WITHIN;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            _ => return None,
        }
    }
}

/// Kills a process, or a group by its negative number.
fn kill(target: i64) {
    // Numbers of processes fit `pid_t`; 1 and below would mean others than those meant here.
    let Ok(target) = libc::pid_t::try_from(target) else { return };
    if target.unsigned_abs() > 1 {
        // SAFETY: a system call on a number. The process is our child and not reaped yet, or carries our mark.
        unsafe { libc::kill(target, libc::SIGKILL) };
    }
}

/// Puts the new process into a session of its own, and ties its life to ours.
fn die_with_us(command: &mut Command) {
    let us = std::process::id();
    let act = move || {
        // SAFETY: system calls on numbers, as is allowed between `fork` and `exec`: nothing is allocated or locked.
        unsafe {
            if libc::setsid() < 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(io::Error::last_os_error());
            }
            // We may have died before the call above.
            if u32::try_from(libc::getppid()) != Ok(us) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        Ok(())
    };
    // SAFETY: `act` makes system calls only.
    unsafe { command.pre_exec(act) };
}
