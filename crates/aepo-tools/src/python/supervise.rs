//! How did a program end? One call watched from its start to its end, and judged by what the kernel says and not what
//! the program says.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use aepo::tool::ToolOutcome;

use crate::python::execution::{Execution, Limits, cut};
use crate::python::sandbox::{self, Exit, How};

/// How often memory, processes and disk are looked at.
const TICK: Duration = Duration::from_millis(20);
/// What the status pipe may hold beside a value: an error line is at most 4000 bytes. More is the program's own flood.
const MAX_STATUS_BYTES: usize = 16 * 1024;

/// Why we killed it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Killed {
    /// The deadline.
    Wall,
    /// Processor time.
    Cpu,
    /// Too much output.
    Output,
    /// Too many processes or threads.
    Processes,
    /// Too much memory in total.
    Memory,
    /// Too much on the disk.
    Disk,
    /// The tools are shutting down.
    Cancelled,
}

/// Our ends of a program's pipes, none of which blocks.
pub(crate) struct Pipes {
    /// Its output.
    pub out: File,
    /// Its other output.
    pub err: File,
    /// How far it came; see `cell.py`.
    pub status: File,
}

/// What arrived on the pipes.
#[derive(Default)]
pub(crate) struct Heard {
    /// Output.
    pub out: Vec<u8>,
    /// Other output.
    pub err: Vec<u8>,
    /// Frames.
    pub status: Vec<u8>,
    closed: [bool; 3],
}

/// What an interpreter of a session tells of a cell that has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Done {
    /// Its exit code.
    pub code: i32,
    /// Whether a clone may be made: no file, no descriptor is open or left.
    pub is_clean: bool,
    /// The id in its own namespace.
    pub pid: i32,
    /// Processor time of the cell, seconds.
    pub cpu_secs: f64,
    /// The most memory so far, MiB.
    pub max_rss_mb: f64,
}

impl Heard {
    /// Whether nobody can tell anything any more.
    pub(crate) fn is_silent(&self) -> bool {
        self.closed[2]
    }

    fn is_too_much(&self, limits: &Limits) -> bool {
        let n_printed = self.out.len().saturating_add(self.err.len());
        let n_status = self.status.len().saturating_sub(MAX_STATUS_BYTES);
        n_printed.saturating_add(n_status) > limits.max_output_bytes
    }

    /// Reads what is there, a chunk of each pipe that `ready` names; whether anything was.
    fn read(&mut self, pipes: &mut Pipes, ready: [bool; 3]) -> io::Result<bool> {
        let mut any = false;
        let all =
            [(&mut pipes.out, &mut self.out), (&mut pipes.err, &mut self.err), (&mut pipes.status, &mut self.status)];
        for (i, (pipe, heard)) in all.into_iter().enumerate() {
            if !ready[i] || self.closed[i] {
                continue;
            }
            let before = heard.len();
            self.closed[i] = !read_some(pipe, heard)?;
            any |= heard.len() > before;
        }
        Ok(any)
    }

    /// Reads what an ended program left in its pipes, up to the limit.
    pub(crate) fn drain(&mut self, pipes: &mut Pipes, limits: &Limits) -> io::Result<()> {
        while !self.is_too_much(limits) && self.read(pipes, [true; 3])? {}
        Ok(())
    }
}

/// Listens until the program has ended, `is_done` is content with its frames, or it must be killed. `look` is asked every
/// 20 ms whether a limit has been passed.
pub(crate) fn watch(
    pipes: &mut Pipes,
    heard: &mut Heard,
    [process, cancel]: [RawFd; 2],
    limits: &Limits,
    deadline: Instant,
    is_done: impl Fn(&Heard) -> bool,
    mut look: impl FnMut() -> Option<Killed>,
) -> io::Result<Option<Killed>> {
    let mut next_look = Instant::now() + TICK;
    loop {
        let now = Instant::now();
        if now >= deadline {
            return Ok(Some(Killed::Wall));
        }
        if now >= next_look {
            if let Some(killed) = look() {
                return Ok(Some(killed));
            }
            next_look = Instant::now() + TICK;
        }
        let open = |i: usize, pipe: &File| if heard.closed[i] { -1 } else { pipe.as_raw_fd() };
        let fds = [open(0, &pipes.out), open(1, &pipes.err), open(2, &pipes.status), process, cancel];
        let wait = deadline.min(next_look).saturating_duration_since(now);
        let [out, err, status, has_ended, cancelled] = sandbox::wait_readable(fds, wait)?;
        heard.read(pipes, [out, err, status])?;
        if heard.is_too_much(limits) {
            return Ok(Some(Killed::Output));
        }
        if cancelled {
            return Ok(Some(Killed::Cancelled));
        }
        if has_ended || status && is_done(heard) {
            return Ok(None);
        }
    }
}

/// Reads what is there; false at the end of the stream.
pub(crate) fn read_some(pipe: &mut File, output: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 16 * 1024];
    match pipe.read(&mut chunk) {
        Ok(0) => Ok(false),
        Ok(n) => {
            output.extend_from_slice(&chunk[..n]);
            Ok(true)
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(true),
        Err(e) => Err(e),
    }
}

/// The frames of `cell.py`, read. In a fresh interpreter the first mark is ours for certain: it is written before the
/// program runs. After it, a program that failed can at most choose how its failure is worded and whether it counts as
/// lack of memory or of processes, all of which it can by raising, too.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// Earlier cells that have ended.
    pub n_earlier: usize,
    /// Whether the last cell began.
    pub began: bool,
    syntax: Option<String>,
    error: Option<String>,
    value: Option<Vec<u8>>,
    no_memory: bool,
    no_process: bool,
    /// The last cell has ended, and its interpreter waits.
    pub done: Option<Done>,
}

/// Reads frames as far as they make sense. A text that was cut off counts as far as it came.
pub(crate) fn parse(mut status: &[u8]) -> Said {
    let mut said = Said::default();
    while let Some((&mark, rest)) = status.split_first() {
        status = rest;
        match mark {
            b'E' if !said.began => said.n_earlier += 1,
            b'P' => said.began = true,
            b'M' => said.no_memory = true,
            b'N' => said.no_process = true,
            b'S' | b'R' | b'V' | b'D' => {
                let Some((length, rest)) = status.split_first_chunk::<4>() else { break };
                let (text, rest) = rest.split_at((u32::from_le_bytes(*length) as usize).min(rest.len()));
                status = rest;
                match mark {
                    b'S' if !said.began => said.syntax = Some(String::from_utf8_lossy(text).into_owned()),
                    b'R' => said.error = Some(cut(text, 4000)),
                    b'V' => said.value = Some(text.to_vec()),
                    b'D' => said.done = done(text),
                    _ => break,
                }
            }
            _ => break,
        }
    }
    said
}

fn done(text: &[u8]) -> Option<Done> {
    let (&[code, is_clean], rest) = text.split_first_chunk::<2>()?;
    let (pid, rest) = rest.split_first_chunk::<4>()?;
    let (cpu, rest) = rest.split_first_chunk::<8>()?;
    let (rss, _) = rest.split_first_chunk::<8>()?;
    Some(Done {
        code: i32::from(code),
        is_clean: is_clean == 1,
        pid: i32::from_le_bytes(*pid),
        cpu_secs: f64::from_le_bytes(*cpu),
        max_rss_mb: u64::from_le_bytes(*rss) as f64 / 1024.0,
    })
}

/// A program that ran, and how far.
#[derive(Debug)]
pub(crate) struct Ran {
    /// How, for whoever asked.
    pub execution: Execution,
    /// The earlier cell that ended the interpreter, so that the last one never began.
    pub ended_in: Option<usize>,
}

/// What happened to a program with `n_earlier` cells before its last. An error is our own fault.
pub(crate) fn ran(
    limits: &Limits,
    n_earlier: usize,
    killed: Option<Killed>,
    exit: Exit,
    heard: &Heard,
    began: Instant,
) -> Result<Ran, String> {
    let n_ended = parse(&heard.status).n_earlier;
    if n_ended >= n_earlier {
        return judge(limits, killed, exit, heard, began).map(|execution| Ran { execution, ended_in: None });
    }
    match (killed, exit.how) {
        (Some(Killed::Cancelled), _) => Err("the tools are shutting down".to_owned()),
        (None, How::Code(_)) => {
            let execution = Execution::unavailable(format!("cell {} of the session ended it", n_ended + 1));
            Ok(Ran { execution, ended_in: Some(n_ended) })
        }
        _ => Err(format!("the session's earlier cells could not be run again (cell {})", n_ended + 1)),
    }
}

/// What happened, for whoever asked. An error is our own fault.
fn judge(
    limits: &Limits,
    killed: Option<Killed>,
    exit: Exit,
    heard: &Heard,
    began: Instant,
) -> Result<Execution, String> {
    let said = parse(&heard.status);
    let max = limits.max_output_bytes;
    let n_value = said.value.as_ref().map_or(0, |value| value.len().saturating_add(1));
    let truncated = heard.is_too_much(limits) || heard.out.len() + heard.err.len() + n_value > max;
    let killed = killed.or(truncated.then_some(Killed::Output));
    let out_of_memory = || (ToolOutcome::Memory, format!("MemoryError: limit of {} MiB", limits.memory_mb));
    let timeout_of_cpu = || (ToolOutcome::Timeout, format!("killed: processor time limit of {} s", limits.cpu_secs));
    let (outcome, message) = match (killed, exit.how) {
        (Some(Killed::Wall), _) => (ToolOutcome::Timeout, format!("killed: time limit of {} s", limits.wall_secs)),
        (Some(Killed::Output), _) => (ToolOutcome::Output, format!("killed: output limit of {max} bytes")),
        (Some(Killed::Processes), _) => {
            (ToolOutcome::Pids, format!("killed: more than {} processes and threads", limits.max_processes))
        }
        (Some(Killed::Memory), _) => {
            (ToolOutcome::Memory, format!("killed: memory limit of {} MiB in total", limits.total_memory_mb))
        }
        (Some(Killed::Disk), _) => (ToolOutcome::Raised, format!("killed: disk limit of {} MiB", limits.scratch_mb)),
        (Some(Killed::Cancelled), _) => return Err("the tools are shutting down".to_owned()),
        (Some(Killed::Cpu), _) => timeout_of_cpu(),
        // The kernel's own limit lies behind ours, for a supervisor that did not get to look. Its sum decides, since a
        // program can send itself either signal.
        // What the kernel counts for its limit are ticks, which are more than the time that a process had.
        (None, How::Signal(libc::SIGKILL | libc::SIGXCPU)) if exit.cpu_secs >= 0.3 * limits.cpu_secs as f64 => {
            timeout_of_cpu()
        }
        (None, How::Signal(signal)) => (ToolOutcome::Signal, format!("killed by signal {signal}")),
        (None, How::Code(code)) => match said {
            Said { began: true, .. } if code == 0 => (ToolOutcome::Ok, String::new()),
            Said { no_memory: true, .. } => out_of_memory(),
            Said { began: true, no_process: true, error, .. } => (ToolOutcome::Pids, error.unwrap_or_default()),
            Said { began: true, ref error, .. } => {
                (ToolOutcome::Raised, error.clone().unwrap_or_else(|| format!("exit code {code}")))
            }
            Said { syntax: Some(ref why), .. } => (ToolOutcome::Syntax, why.clone()),
            _ => return Err(format!("the interpreter did not start (exit code {code})")),
        },
    };
    let stdout = cut(&heard.out, max);
    let stderr = cut(&heard.err, max - stdout.len());
    let n_left = max - stdout.len() - stderr.len();
    let value = said.value.filter(|_| n_left > 0).map(|value| cut(&value, n_left));
    Ok(Execution {
        outcome,
        value,
        stdout,
        stderr,
        exit_code: match (killed, exit.how) {
            (None, How::Code(code)) => Some(code),
            _ => None,
        },
        truncated,
        wall_secs: began.elapsed().as_secs_f64(),
        cpu_secs: exit.cpu_secs,
        max_rss_mb: exit.max_rss_mb,
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_far_as_they_make_sense() {
        let value = |bytes: &[u8]| Said { began: true, value: Some(bytes.to_vec()), ..Said::default() };
        assert_eq!(parse(b"PV\x02\0\0\0ab"), value(b"ab"));
        assert_eq!(parse(b"PV\xff\xff\xff\xffab"), value(b"ab"));
        assert_eq!(parse(b"PV\x01\0\0\0a?R\x01\0\0\0x"), value(b"a"));
        assert_eq!(parse(b"EEP"), Said { n_earlier: 2, began: true, ..Said::default() });
        assert_eq!(parse(b"PS\x01\0\0\0x"), Said { began: true, ..Said::default() });
        assert_eq!(parse(b"S\x01\0\0\0x").syntax.as_deref(), Some("x"));
        assert_eq!(parse(b"PV"), Said { began: true, ..Said::default() });
        assert_eq!(parse(b"garbage"), Said::default());
        assert_eq!(parse(b""), Said::default());
    }
}
