//! How is somebody told what happens? Bars on a terminal, lines elsewhere, JSON for programs, or nothing.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use aepo::rollout::drive;
use aepo_tools::hub::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::Telling;
use crate::machine::Clock;
use crate::table::bytes;

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Bars on stderr, lines above them.
    Bars,
    /// Lines on stderr.
    Lines,
    /// Nothing.
    Quiet,
    /// One JSON object per line on stdout.
    Json,
}

/// Tells what happens.
pub struct Teller {
    form: Form,
    bar: ProgressBar,
    /// Nobody reads stdout any more.
    deaf: bool,
    clock: Clock,
}

impl Teller {
    /// In the form that was asked for; bars only where stderr is a terminal.
    pub fn new(telling: Telling) -> Teller {
        let form = match telling {
            Telling { json: true, .. } => Form::Json,
            Telling { quiet: true, .. } => Form::Quiet,
            _ if std::io::stderr().is_terminal() => Form::Bars,
            _ => Form::Lines,
        };
        Teller { form, bar: ProgressBar::hidden(), deaf: false, clock: Clock::start() }
    }

    /// Whether the result is to be printed for people.
    pub fn for_people(&self) -> bool {
        self.form != Form::Json
    }

    /// A fact in one line.
    pub fn note(&mut self, text: &str) {
        match self.form {
            Form::Bars => self.bar.suspend(|| eprintln!("{text}")),
            Form::Lines => eprintln!("{text}"),
            Form::Quiet => {}
            Form::Json => self.event("note", &serde_json::json!({ "text": text })),
        }
    }

    /// A trouble that does not stop the work: said even when quiet.
    pub fn warn(&mut self, text: &str) {
        match self.form {
            Form::Quiet => eprintln!("warning: {text}"),
            _ => self.note(&format!("warning: {text}")),
        }
    }

    /// Something that happened, for programs: an object with the key `event`.
    pub fn event(&mut self, name: &str, value: &impl Serialize) {
        #[derive(Serialize)]
        struct Line<'a, T> {
            event: &'a str,
            #[serde(flatten)]
            value: &'a T,
        }
        if self.form != Form::Json || self.deaf {
            return;
        }
        let line = serde_json::to_string(&Line { event: name, value }).unwrap_or_default();
        let mut out = std::io::stdout().lock();
        // Training is not ended by a reader who has seen enough.
        self.deaf = writeln!(out, "{line}").and_then(|()| out.flush()).is_err();
    }

    /// A stretch of work of `n` parts begins.
    pub fn begin(&mut self, what: &str, n: u64, done: u64) {
        self.clock = Clock::start();
        match self.form {
            Form::Bars => {
                self.bar = ProgressBar::with_draw_target(Some(n), ProgressDrawTarget::stderr_with_hz(8));
                let template = "{prefix} [{bar:28}] {pos}/{len}  {elapsed} elapsed, {eta} to go, {per_sec}  {msg}";
                let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                self.bar.set_style(style.progress_chars("=> "));
                self.bar.set_prefix(what.to_owned());
                self.bar.set_position(done);
                self.bar.reset_eta();
                self.bar.enable_steady_tick(Duration::from_millis(250));
            }
            Form::Lines => eprintln!("{what}: {n}"),
            Form::Quiet | Form::Json => {}
        }
    }

    /// Whether progress is shown as bars.
    pub fn shows_bars(&self) -> bool {
        self.form == Form::Bars
    }

    /// Whether progress is told in lines.
    pub fn tells_lines(&self) -> bool {
        self.form == Form::Lines
    }

    /// Writes notes above somebody else's bar from now on.
    pub fn write_above(&mut self, bar: ProgressBar) {
        self.bar = bar;
    }

    /// So many parts are done.
    pub fn at(&mut self, done: u64) {
        self.bar.set_position(done);
    }

    /// What is going on inside a part.
    pub fn inside(&mut self, text: impl Into<std::borrow::Cow<'static, str>>) {
        if self.form == Form::Bars {
            self.bar.set_message(text);
        }
    }

    /// How far an evaluation has come.
    pub fn sampling(&mut self, progress: drive::Progress) {
        if self.form == Form::Bars {
            self.bar.set_position(progress.n_ended as u64);
            let rate = progress.n_sampled as f64 / self.clock.secs().max(1e-3);
            self.bar.set_message(format!("{rate:.0} tokens/s, {} calls running", progress.n_calling));
        }
    }

    /// A model is being fetched.
    pub fn fetching(&mut self, event: &Event<'_>) {
        match *event {
            Event::Begin { file, n_have, n_bytes } => {
                self.event("fetch", &serde_json::json!({ "file": file, "n_have": n_have, "n_bytes": n_bytes }));
                match self.form {
                    Form::Bars => {
                        self.bar = ProgressBar::with_draw_target(n_bytes, ProgressDrawTarget::stderr_with_hz(8));
                        let template = "{msg} [{bar:28}] {bytes}/{total_bytes}  {binary_bytes_per_sec}, {eta} to go";
                        let style = ProgressStyle::with_template(template);
                        self.bar
                            .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
                        self.bar.set_message(format!("fetch {file}"));
                        self.bar.set_position(n_have);
                        self.bar.reset_eta();
                    }
                    Form::Lines => {
                        let size = n_bytes.map_or_else(String::new, |n| format!(", {}", bytes(n)));
                        let have = if n_have > 0 { format!(" ({} are here)", bytes(n_have)) } else { String::new() };
                        eprintln!("fetch {file}{size}{have}");
                    }
                    Form::Quiet | Form::Json => {}
                }
            }
            Event::At { n_done, .. } => self.bar.set_position(n_done),
            Event::End { .. } => {
                self.bar.finish_and_clear();
                self.bar = ProgressBar::hidden();
            }
            Event::Waiting { file } => self.note(&format!("{file}: another program is fetching it, waiting for that")),
            Event::Again { file, why, wait } => {
                self.warn(&format!("{file}: {why}; trying again in {:.1} s", wait.as_secs_f64()));
            }
            Event::FromCache { why, commit } => {
                self.warn(&format!("the hub cannot be reached ({why}); taking commit {commit} from the cache"));
            }
        }
    }

    /// The stretch has ended; returns how long it took, seconds.
    pub fn end(&mut self) -> f64 {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
        self.clock.secs()
    }
}

/// Prints a result for people; a reader who has gone (`| head`) ends the program quietly.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
