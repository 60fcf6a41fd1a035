//! How is each run a process of its own? It is `aepo train --json`, heard line by line until it ends.
//!
//! A process each, and not a thread: what fails takes nothing else with it, its memory and processor time are counted
//! for itself, and what is compared is what `aepo train` does.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;

use anyhow::Context as _;
use serde_json::Value;

use super::Run;
use crate::run_dir::{CONFIG, make};

/// Something that a run tells.
pub struct Message {
    /// Which run.
    pub run: usize,
    /// What.
    pub told: Told,
}

/// What a run can tell.
pub enum Told {
    /// One of its events.
    Event(Value),
    /// It is over: `None` where it went well, its last words where it did not.
    Ended(Option<String>),
}

/// Starts a run, or goes on with it. It stops at a safe point when the returned end of its standard input is dropped.
pub fn start(program: &Path, index: usize, run: &Run, to: Sender<Message>) -> anyhow::Result<ChildStdin> {
    if let Some(folder) = run.log.parent() {
        make(folder)?;
    }
    let log = File::create(&run.log).with_context(|| run.log.display().to_string())?;
    let resumes = run.dir.join(CONFIG).is_file();
    let mut child = Command::new(program)
        .args(&run.args)
        .args(resumes.then_some("--resume"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| program.display().to_string())?;
    let input = child.stdin.take().context("a child without a standard input")?;
    let log = run.log.clone();
    std::thread::spawn(move || {
        let told = |told: Told| to.send(Message { run: index, told });
        let ended = listen(&mut child, &mut |event| {
            // Nobody listens any more only when this program ends, and then the run stops by itself.
            let _ = told(Told::Event(event));
        });
        let last_words = match ended {
            Ok(status) if status.success() => {
                // It had nothing to say.
                let _ = std::fs::remove_file(&log);
                None
            }
            Ok(status) => Some(last_words(&log, status)),
            Err(error) => Some(format!("{error:#}")),
        };
        let _ = told(Told::Ended(last_words));
    });
    Ok(input)
}

/// Hands every event on until there are no more, and the process is gone.
fn listen(child: &mut Child, on: &mut dyn FnMut(Value)) -> std::io::Result<ExitStatus> {
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            // A line that was cut off by a crash is no event; the exit code tells.
            if let Ok(event) = serde_json::from_str(&line?) {
                on(event);
            }
        }
    }
    child.wait()
}

/// The error that a run ended with, and else how it ended.
fn last_words(log: &Path, status: ExitStatus) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let error = text.lines().rev().find_map(|line| line.strip_prefix("error: "));
    let last = error.or_else(|| text.lines().rev().find(|line| !line.trim().is_empty()));
    last.map_or_else(|| status.to_string(), str::to_owned)
}
