//! How far is a comparison? One bar over all, one for each run that goes on; lines or JSON where there is no terminal.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::plan::Plan;
use super::{Run, RunState};
use crate::progress::Teller;
use crate::table::{minutes, percent};

/// Steps between two lines of a run, where there is no terminal.
const LINE_EVERY: u64 = 10;

/// What is shown.
pub struct View {
    /// Notes, warnings and events.
    pub teller: Teller,
    /// Steps of each run.
    pub steps: u64,
    /// Hidden where bars are not wanted.
    all: MultiProgress,
    overall: ProgressBar,
    /// One bar for each run that goes on.
    bars: BTreeMap<usize, ProgressBar>,
    /// Steps done, by run.
    done: Vec<u64>,
    n_ended: usize,
}

impl View {
    /// Says what is to be done.
    pub fn new(mut teller: Teller, plan: &Plan, runs: &[Run], out: &Path) -> View {
        let names: Vec<&str> = plan.algorithms.iter().filter(|p| p.asked_for).map(|p| p.name).collect();
        let n_done = runs.iter().filter(|run| matches!(run.state, RunState::Done(_))).count();
        teller.event(
            "compare",
            &serde_json::json!({
                "recipe": plan.recipe, "out": out, "algorithms": names, "runs": runs.len(), "done": n_done,
                "steps": plan.steps, "threads": plan.threads,
            }),
        );
        let already = if n_done > 0 { format!(", {n_done} of them done") } else { String::new() };
        teller.note(&format!(
            "{}: {} in {} runs of {} steps{already}, {} {} each, into {}",
            plan.recipe,
            names.join(", "),
            runs.len(),
            plan.steps,
            plan.threads,
            if plan.threads == 1 { "thread" } else { "threads" },
            out.display(),
        ));
        plan.notes.iter().for_each(|note| teller.note(note));
        let done: Vec<u64> =
            runs.iter().map(|run| if matches!(run.state, RunState::Done(_)) { plan.steps } else { 0 }).collect();
        let target = match teller.shows_bars() {
            true => ProgressDrawTarget::stderr_with_hz(8),
            false => ProgressDrawTarget::hidden(),
        };
        let all = MultiProgress::with_draw_target(target);
        let overall = all.add(ProgressBar::new(plan.steps * runs.len() as u64));
        overall.set_style(style("{prefix} [{bar:28}] {pos}/{len} steps  {elapsed} elapsed, {eta} to go"));
        overall.set_position(done.iter().sum());
        overall.reset_eta();
        if teller.shows_bars() {
            overall.enable_steady_tick(Duration::from_millis(250));
            teller.write_above(overall.clone());
        }
        let view = View { teller, steps: plan.steps, all, overall, bars: BTreeMap::new(), done, n_ended: n_done };
        view.count();
        view
    }

    /// A run goes on.
    pub fn started(&mut self, i: usize) {
        let bar = self.all.add(ProgressBar::new(self.steps));
        bar.set_style(style("  {prefix} [{bar:20}] {pos}/{len}  {msg}"));
        self.bars.insert(i, bar);
    }

    /// A run tells something.
    pub fn event(&mut self, i: usize, run: &Run, event: &Value) {
        let name = event["event"].as_str().unwrap_or("");
        self.relay(name, run, event);
        let bar = self.bars.get(&i).cloned().unwrap_or_else(ProgressBar::hidden);
        match name {
            "run" => {
                bar.set_prefix(run.name());
                self.at(i, event["done"].as_u64().unwrap_or(0), &bar);
            }
            "stage" => bar.set_message(event["stage"].as_str().unwrap_or("").to_owned()),
            "step" => {
                let done = event["step"].as_u64().unwrap_or(0) + 1;
                self.at(i, done, &bar);
                let accuracy = percent(event["accuracy"].as_f64().unwrap_or(f64::NAN));
                bar.set_prefix(format!("{}  accuracy {accuracy:>6}", run.name()));
                if self.teller.tells_lines() && done.is_multiple_of(LINE_EVERY) && done < self.steps {
                    self.teller.note(&format!("{}: step {done}/{}, accuracy {accuracy}", run.name(), self.steps));
                }
            }
            "note" => {
                if let Some(warning) = event["text"].as_str().and_then(|text| text.strip_prefix("warning: ")) {
                    self.teller.warn(&format!("{}: {warning}", run.name()));
                }
            }
            _ => {}
        }
    }

    /// Hands an event on, under its own name and with the run that it is of.
    fn relay(&mut self, name: &str, run: &Run, event: &Value) {
        let mut event = event.as_object().cloned().unwrap_or_default();
        event.remove("event");
        event.insert("algorithm".to_owned(), run.algorithm.into());
        event.insert("seed".to_owned(), run.seed.into());
        // Notes are for people, and its way to go on is not ours.
        if !["note", "interrupted"].contains(&name) {
            self.teller.event(name, &event);
        }
    }

    /// A run has ended.
    pub fn ended(&mut self, i: usize, run: &Run) {
        if let Some(bar) = self.bars.remove(&i) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        let (algorithm, seed) = (run.algorithm, run.seed);
        match &run.state {
            RunState::Done(s) => {
                self.n_ended += 1;
                let (before, after) = (percent(s.eval_before.pass_at_1), percent(s.eval_after.pass_at_1));
                let (n, of, time) = (self.n_ended, self.done.len(), minutes(s.seconds));
                self.teller.note(&format!("{}: pass@1 {before} to {after} in {time} ({n}/{of})", run.name()));
            }
            RunState::Failed(why) => {
                self.n_ended += 1;
                self.teller.warn(&format!("{} failed: {why}", run.name()));
                self.teller.event("failed", &serde_json::json!({ "algorithm": algorithm, "seed": seed, "why": why }));
            }
            RunState::Waiting | RunState::Going | RunState::Stopped => {}
        }
        self.count();
    }

    /// Nothing goes on any more.
    pub fn end(&mut self) {
        self.overall.finish_and_clear();
        self.teller.write_above(ProgressBar::hidden());
    }

    fn at(&mut self, i: usize, done: u64, bar: &ProgressBar) {
        bar.set_position(done);
        let before = std::mem::replace(&mut self.done[i], done);
        if before == 0 && done > 1 {
            // A run that goes on has not done its earlier steps just now.
            self.overall.set_position(self.done.iter().sum());
            self.overall.reset_eta();
        }
        self.overall.set_position(self.done.iter().sum());
    }

    fn count(&self) {
        self.overall.set_prefix(format!("{}/{} runs", self.n_ended, self.done.len()));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}
