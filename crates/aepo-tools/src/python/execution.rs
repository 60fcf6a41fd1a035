//! What is asked of a sandbox, and what does it say? A program with its limits, and how it ran.

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;

use crate::error::ToolsError;

/// What one program may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Wall time, seconds.
    pub wall_secs: f64,
    /// Processor time of each process over all its threads, seconds.
    pub cpu_secs: u64,
    /// Address space of each process, MiB.
    pub memory_mb: u64,
    /// Memory of all processes together, MiB, looked at every 20 ms. At the Landlock level there is one process alone.
    pub total_memory_mb: u64,
    /// Output, value and error output together, bytes: at one more the program is killed. The model reads no more than
    /// this, plus one error line.
    pub max_output_bytes: usize,
    /// Processes and threads alive at once.
    pub max_processes: u64,
    /// Files in the private directory, MiB. At the Landlock level looked at every 20 ms, so a fast writer may pass it
    /// for that long.
    pub scratch_mb: u64,
    /// Files and directories in the private directory.
    pub scratch_inodes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            wall_secs: 5.0,
            cpu_secs: 5,
            memory_mb: 512,
            total_memory_mb: 1024,
            max_output_bytes: 8192,
            max_processes: 16,
            scratch_mb: 64,
            scratch_inodes: 4096,
        }
    }
}

impl Limits {
    /// Whether a program can run under them at all.
    pub fn check(&self) -> Result<(), ToolsError> {
        let at_least = |name, value: u64, least: u64, rule| {
            if value >= least { Ok(()) } else { Err(ToolsError::Setting { name, value: value.to_string(), rule }) }
        };
        let one = "must be at least 1";
        at_least("python.cpu_secs", self.cpu_secs, 1, one)?;
        at_least("python.max_output_bytes", self.max_output_bytes as u64, 1, one)?;
        at_least("python.max_processes", self.max_processes, 1, one)?;
        at_least("python.scratch_mb", self.scratch_mb, 1, one)?;
        at_least("python.scratch_inodes", self.scratch_inodes, 16, "must be at least 16")?;
        let memory = "must be at least 64: the interpreter itself needs that much";
        at_least("python.memory_mb", self.memory_mb, 64, memory)?;
        at_least("python.total_memory_mb", self.total_memory_mb, 64, memory)?;
        if !(self.wall_secs > 0.0 && self.wall_secs <= 86_400.0) {
            let rule = "must be more than 0 and at most 86400";
            return Err(ToolsError::Setting { name: "python.wall_secs", value: self.wall_secs.to_string(), rule });
        }
        Ok(())
    }
}

/// One program of a session, with the seed that it ran with.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Source text.
    pub code: String,
    /// What its random numbers follow from.
    pub seed: Seed,
}

/// One program to run.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Source text.
    pub code: &'a str,
    /// What it reads from its standard input.
    pub stdin: &'a [u8],
    /// What its random numbers follow from.
    pub seed: Seed,
    /// What it may take.
    pub limits: &'a Limits,
    /// The programs whose variables and files it goes on from, oldest first: those of its session that ended by
    /// themselves (`Ok` or `Raised`). Empty for a fresh interpreter.
    pub earlier: &'a [Cell],
    /// Whether another program may later go on from the same `earlier` ones.
    pub shared: bool,
}

impl<'a> Program<'a> {
    /// A program in a fresh interpreter, without input.
    #[must_use]
    pub fn new(code: &'a str, seed: Seed, limits: &'a Limits) -> Program<'a> {
        Program { code, stdin: &[], seed, limits, earlier: &[], shared: false }
    }
}

/// How a program ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// How it ended, by the supervisor's own knowledge.
    pub outcome: ToolOutcome,
    /// The value of the last expression, as an interpreter shows it.
    pub value: Option<String>,
    /// What it printed; kept whatever happened.
    pub stdout: String,
    /// What it printed on the other stream.
    pub stderr: String,
    /// The exit code, if it ended by itself.
    pub exit_code: Option<i32>,
    /// Whether there was more output than fits.
    pub truncated: bool,
    /// From the call to the answer, seconds.
    pub wall_secs: f64,
    /// Processor time, seconds.
    pub cpu_secs: f64,
    /// The most memory one of its processes held at once, MiB.
    pub max_rss_mb: f64,
    /// The last line for the model: the error, or the limit that was passed. Empty if all went well. With
    /// `Unavailable` the reason, for a person.
    pub message: String,
}

impl Execution {
    /// Our own fault, and why.
    #[must_use]
    pub fn unavailable(reason: String) -> Execution {
        Execution {
            outcome: ToolOutcome::Unavailable,
            value: None,
            stdout: String::new(),
            stderr: String::new(),
            exit_code: None,
            truncated: false,
            wall_secs: 0.0,
            cpu_secs: 0.0,
            max_rss_mb: 0.0,
            message: reason,
        }
    }

    /// What the model reads: the output, the value, the other stream, then the last line.
    #[must_use]
    pub fn text(&self) -> String {
        if self.outcome == ToolOutcome::Unavailable {
            return format!("tool unavailable: {}", self.message);
        }
        let mut text = self.stdout.clone();
        if let Some(value) = &self.value {
            text.push_str(value);
            text.push('\n');
        }
        if !self.stderr.is_empty() {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&self.stderr);
        }
        if text.ends_with('\n') {
            text.pop();
        }
        if !self.message.is_empty() {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&self.message);
        }
        text
    }
}

/// At most `max_bytes` of valid UTF-8. A character cut in two is dropped, not shown as a wrong byte.
pub(crate) fn cut(bytes: &[u8], max_bytes: usize) -> String {
    let mut kept = &bytes[..bytes.len().min(max_bytes)];
    if kept.len() < bytes.len()
        && let Some(chunk) = kept.utf8_chunks().last()
        && std::str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none())
    {
        kept = &kept[..kept.len() - chunk.invalid().len()];
    }
    let mut text = String::from_utf8_lossy(kept).into_owned();
    // Each wrong byte became three.
    let end = (0..=max_bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_characters_and_never_invalid() {
        assert_eq!(cut(b"abc\n", 10), "abc\n");
        assert_eq!(cut("aé".as_bytes(), 2), "a");
        assert_eq!(cut("€€€".as_bytes(), 8), "€€");
        assert_eq!(cut(&[b'a', 0xFF, b'b'], 10), "a\u{FFFD}b");
        assert_eq!(cut(&[0xFF; 10], 9), "\u{FFFD}".repeat(3));
    }

    #[test]
    fn the_model_reads_output_value_errors_and_the_last_line() {
        let mut execution = Execution { outcome: ToolOutcome::Ok, ..Execution::unavailable(String::new()) };
        assert_eq!(execution.text(), "");
        execution.stdout = "out".to_owned();
        execution.value = Some("1".to_owned());
        assert_eq!(execution.text(), "out1");
        execution.stdout.push('\n');
        execution.stderr = "warning\n".to_owned();
        assert_eq!(execution.text(), "out\n1\nwarning");
        execution.message = "ValueError".to_owned();
        assert_eq!(execution.text(), "out\n1\nwarning\nValueError");
        let ours = Execution::unavailable("no room".to_owned());
        assert_eq!(ours.text(), "tool unavailable: no room");
    }

    #[test]
    fn limits_that_cannot_work_are_named() {
        let base = Limits::default();
        for bad in [
            Limits { wall_secs: 0.0, ..base.clone() },
            Limits { wall_secs: f64::NAN, ..base.clone() },
            Limits { cpu_secs: 0, ..base.clone() },
            Limits { memory_mb: 1, ..base.clone() },
            Limits { total_memory_mb: 1, ..base.clone() },
            Limits { max_output_bytes: 0, ..base.clone() },
            Limits { max_processes: 0, ..base.clone() },
            Limits { scratch_mb: 0, ..base.clone() },
            Limits { scratch_inodes: 0, ..base.clone() },
        ] {
            assert!(matches!(bad.check(), Err(ToolsError::Setting { .. })), "{bad:?}");
        }
        base.check().unwrap();
    }
}
