//! How did a program end? One call from its start to its answer, by what the kernel says and not what the program says.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;

use crate::python::sandbox::{self, Exit, How, Start};
use crate::python::{Python, scratch};
use crate::toolset::Answer;

/// How often threads and disk are looked at.
const TICK: Duration = Duration::from_millis(20);
/// A killed process that has not ended after this long hangs in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// The bootstrap's error line is at most 4000 bytes; what a program adds beyond is not read.
const MAX_STATUS_BYTES: u64 = 4096;

/// Why we killed it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Killed {
    Wall,
    Cpu,
    Output,
    Threads,
    Disk,
    Cancelled,
}

/// Runs `code`. An error is our own fault and says what it was.
pub(crate) fn run(python: &mut Python, code: &str, seed: Seed) -> Result<Answer, String> {
    // What the last call left was cleared after it; if that failed, this call must not see it.
    scratch::clear(&python.scratch).map_err(|e| format!("clearing the private directory: {e}"))?;
    let answer = run_in_empty(python, code, seed);
    // Given back at once rather than kept until the next call, which checks the result again.
    let _ = scratch::clear(&python.scratch);
    answer
}

fn run_in_empty(python: &mut Python, code: &str, seed: Seed) -> Result<Answer, String> {
    let began = Instant::now();
    let settings = &python.shared.settings;
    let deadline = began + Duration::from_secs_f64(settings.wall_secs);
    let descriptor = |e: std::io::Error| format!("making a descriptor: {e}");
    let source = sandbox::memory_file(code.as_bytes()).map_err(descriptor)?;
    let (mut out, out_end) = sandbox::pipe().map_err(descriptor)?;
    let (mut status, status_end) = sandbox::pipe().map_err(descriptor)?;
    let text = |s: String| CString::new(s).map_err(|e| format!("an argument holds a NUL: {e}"));
    let mut args = python.shared.args.clone();
    args.push(text(seed.0.to_string())?);
    args.extend(python.shared.site_dirs.iter().cloned());
    let scratch_name = python.scratch.display();
    let env = [
        format!("PYTHONHASHSEED={}", seed.0 as u32),
        "PYTHONIOENCODING=utf-8:backslashreplace".to_owned(),
        format!("HOME={scratch_name}"),
        format!("TMPDIR={scratch_name}"),
        "LANG=C.UTF-8".to_owned(),
        "TZ=UTC".to_owned(),
        // Numerical libraries would start a thread per core, in each of many programs at once.
        "OMP_NUM_THREADS=1".to_owned(),
        "OPENBLAS_NUM_THREADS=1".to_owned(),
    ];
    let env = env.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let start =
        Start { exe: &python.shared.exe, args: &args, env: &env, code: &source, out: &out_end, status: &status_end };
    let child = sandbox::start(&mut python.cage, &start).map_err(|e| format!("starting the sandbox: {e}"))?;
    drop((source, out_end, status_end));

    let mut output = Vec::new();
    let mut killed = None;
    let mut next_look = began + TICK;
    let mut out_open = true;
    let waiting = |e: std::io::Error| format!("waiting for the program: {e}");
    while killed.is_none() {
        let now = Instant::now();
        if now >= deadline {
            killed = Some(Killed::Wall);
            break;
        }
        if now >= next_look {
            killed = over_limits(python, &child);
            next_look = now + TICK;
            continue;
        }
        let out_fd = if out_open { out.as_raw_fd() } else { -1 };
        let wait = deadline.min(next_look).saturating_duration_since(now);
        let [has_output, has_ended, cancelled] =
            sandbox::wait_readable([out_fd, child.pidfd.as_raw_fd(), python.cancel.as_raw_fd()], wait)
                .map_err(waiting)?;
        if has_output {
            out_open = read_some(&mut out, &mut output).map_err(waiting)?;
            if output.len() > settings.max_output_bytes {
                killed = Some(Killed::Output);
            }
        } else if has_ended {
            break;
        } else if cancelled {
            killed = Some(Killed::Cancelled);
        }
    }
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
    // It has no descendants, so what it printed is all in the pipe now; a kill may have left more than the limit there.
    while out_open && output.len() <= settings.max_output_bytes && !matches!(killed, Some(Killed::Output)) {
        let before = output.len();
        out_open = read_some(&mut out, &mut output).map_err(waiting)? && output.len() > before;
    }
    if killed.is_none() && output.len() > settings.max_output_bytes {
        killed = Some(Killed::Output);
    }
    let mut said = Vec::new();
    match status.by_ref().take(MAX_STATUS_BYTES).read_to_end(&mut said) {
        Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return Err(waiting(e)),
        _ => {}
    }
    let (outcome, last_line) = judge(python, killed, exit, &said)?;
    Ok(Answer { outcome, text: compose(output, settings.max_output_bytes, &last_line) })
}

/// Reads what is there; false at the end of the stream.
fn read_some(pipe: &mut std::fs::File, output: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut chunk = [0; 16 * 1024];
    match pipe.read(&mut chunk) {
        Ok(0) => Ok(false),
        Ok(n) => {
            output.extend_from_slice(&chunk[..n]);
            Ok(true)
        }
        Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => Ok(true),
        Err(e) => Err(e),
    }
}

fn over_limits(python: &Python, child: &sandbox::Child) -> Option<Killed> {
    let pid = child.pid;
    if child.cpu_secs().is_some_and(|secs| secs >= python.shared.settings.cpu_secs as f64) {
        return Some(Killed::Cpu);
    }
    // A task directory has one link per thread beside its own two.
    let n_threads = std::fs::metadata(format!("/proc/{pid}/task")).map_or(0, |meta| meta.nlink().saturating_sub(2));
    if n_threads > python.shared.settings.max_threads {
        return Some(Killed::Threads);
    }
    scratch::is_over(&python.scratch, pid, python.shared.settings.scratch_mb << 20).then_some(Killed::Disk)
}

/// The outcome, and the line that tells the model what happened. Of what arrived on the status pipe only the first byte
/// is the bootstrap's for certain: it is written before the program runs. After it, a program that failed can at most
/// choose how its failure is worded and whether it counts as lack of memory, both of which it can by raising, too.
fn judge(python: &Python, killed: Option<Killed>, exit: Exit, said: &[u8]) -> Result<(ToolOutcome, String), String> {
    let settings = &python.shared.settings;
    let after = |mark: u8| {
        let line =
            said.get(1..).filter(|rest| rest.first() == Some(&mark)).map(|rest| String::from_utf8_lossy(&rest[1..]));
        line.map(|line| line.into_owned())
    };
    let out_of_memory = || (ToolOutcome::Memory, format!("MemoryError: limit of {} MiB", settings.memory_mb));
    let timeout_of_cpu = || (ToolOutcome::Timeout, format!("killed: processor time limit of {} s", settings.cpu_secs));
    Ok(match (killed, exit.how) {
        (Some(Killed::Wall), _) => (ToolOutcome::Timeout, format!("killed: time limit of {} s", settings.wall_secs)),
        (Some(Killed::Output), _) => {
            (ToolOutcome::Output, format!("killed: output limit of {} bytes", settings.max_output_bytes))
        }
        (Some(Killed::Threads), _) => {
            (ToolOutcome::Raised, format!("killed: more than {} threads", settings.max_threads))
        }
        (Some(Killed::Disk), _) => (ToolOutcome::Raised, format!("killed: disk limit of {} MiB", settings.scratch_mb)),
        (Some(Killed::Cancelled), _) => return Err("the tools are shutting down".to_owned()),
        (Some(Killed::Cpu), _) => timeout_of_cpu(),
        // The kernel's own limit lies behind ours, for a supervisor that did not get to look. Its sum decides, since a
        // program can send itself either signal.
        (None, How::Signal(libc::SIGKILL | libc::SIGXCPU)) if exit.cpu_secs >= settings.cpu_secs as f64 => {
            timeout_of_cpu()
        }
        (None, How::Signal(signal)) => (ToolOutcome::Signal, format!("killed by signal {signal}")),
        (None, How::Code(code)) => match said.first() {
            Some(b'P') if code == 0 => (ToolOutcome::Ok, String::new()),
            Some(b'P') if said.get(1) == Some(&b'M') => out_of_memory(),
            Some(b'P') => (ToolOutcome::Raised, after(b'R').unwrap_or_else(|| format!("exit code {code}"))),
            Some(b'S') => (ToolOutcome::Syntax, String::from_utf8_lossy(&said[1..]).into_owned()),
            Some(b'M') => out_of_memory(),
            _ => return Err(format!("the interpreter did not start (exit code {code})")),
        },
    })
}

/// What the model reads: the output, valid UTF-8 and at most `max_bytes` of it, then the last line.
fn compose(mut output: Vec<u8>, max_bytes: usize, last_line: &str) -> String {
    if output.len() > max_bytes {
        output.truncate(max_bytes);
        // A character cut in two is dropped, not shown as a wrong byte.
        if let Some(chunk) = output.utf8_chunks().last()
            && let n_cut = chunk.invalid().len()
            && std::str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none())
        {
            output.truncate(output.len() - n_cut);
        }
    }
    let mut text = String::from_utf8_lossy(&output).into_owned();
    // Each wrong byte became three.
    let end = (0..=max_bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text.truncate(end.unwrap_or(0));
    if text.ends_with('\n') {
        text.pop();
    }
    if !last_line.is_empty() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(last_line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::compose;

    #[test]
    fn text_is_cut_at_characters_and_never_invalid() {
        assert_eq!(compose(b"abc\n".to_vec(), 10, ""), "abc");
        assert_eq!(compose(b"abc".to_vec(), 10, "Error"), "abc\nError");
        assert_eq!(compose(Vec::new(), 10, "Error"), "Error");
        assert_eq!(compose("aé".as_bytes().to_vec(), 2, ""), "a");
        assert_eq!(compose("€€€".as_bytes().to_vec(), 8, ""), "€€");
        assert_eq!(compose(vec![b'a', 0xFF, b'b'], 10, ""), "a\u{FFFD}b");
        assert_eq!(compose(vec![0xFF; 10], 9, ""), "\u{FFFD}".repeat(3));
    }
}
