//! What does a run write down, step by step? Rows, trees and checkpoints, each whole or not at all.

use aepo::policy::Learner;
use aepo::record::Timings;
use aepo::run::{Event, Run, StepOutput};

use crate::checkpoint::{self, State};
use crate::machine::{Clock, peak_memory_mb};
use crate::progress::Teller;
use crate::row::{Row, left_out, stage_words, step_line};
use crate::run_dir::RunDir;
use crate::source::TokenizerFiles;

/// The books of a run.
pub struct Book {
    /// Where they lie.
    pub dir: RunDir,
    /// The name of the recipe.
    pub recipe: String,
    /// The files about text, kept beside the weights.
    pub tokenizer: TokenizerFiles,
    /// How far the run is.
    pub state: State,
    /// The weights, `state` and the rows on the disk are of one moment: a checkpoint may be written.
    pub whole: bool,
    /// Step of the newest checkpoint on the disk.
    saved: Option<u64>,
    /// Time of earlier processes of this run, seconds.
    earlier_secs: f64,
    /// Processor time of earlier processes of this run, seconds.
    earlier_cpu_secs: f64,
    clock: Clock,
}

impl Book {
    /// Goes on with what earlier processes of the run wrote; `saved` is the step of their newest checkpoint.
    pub fn open(
        dir: RunDir,
        recipe: &str,
        tokenizer: TokenizerFiles,
        state: State,
        saved: Option<u64>,
        clock: Clock,
    ) -> Book {
        let (earlier_secs, earlier_cpu_secs) = (state.elapsed_secs, state.cpu_secs);
        let recipe = recipe.to_owned();
        Book { dir, recipe, tokenizer, state, whole: true, saved, earlier_secs, earlier_cpu_secs, clock }
    }

    /// Wall time of the run so far, interruptions left out, seconds.
    pub fn secs(&self) -> f64 {
        self.earlier_secs + self.clock.secs()
    }

    /// Processor time of the run so far, seconds.
    pub fn cpu_secs(&self) -> f64 {
        self.earlier_cpu_secs + self.clock.cpu_secs()
    }

    /// Writes down what a step did.
    pub fn close(&mut self, run: &Run, done: &StepOutput, watch: Watch, teller: &mut Teller) -> anyhow::Result<()> {
        let Watch { step, clock, mut timings } = watch;
        timings.end(clock.secs());
        timings.tool_secs = done.tool_secs.clone();
        let row = Row::new(&done.record, &timings, clock.secs());
        let written = self.dir.write_lines(&format!("trees/{}.jsonl", checkpoint::name(step)), &done.trees);
        written.and_then(|()| self.dir.append_row(&row))?;
        self.state.step = step + 1;
        self.whole = true;
        teller.note(&step_line(&row, run.config.train.steps));
        if let Some(line) = left_out(&done.record) {
            teller.warn(&line);
        }
        teller.event("step", &row);
        if done.record.update.n_not_finite > 0 {
            teller.warn(&format!("step {step}: a gradient was not finite, the weights were left as they were"));
        }
        Ok(())
    }

    /// Writes a checkpoint of where the run stands, unless there is one.
    pub fn save(&mut self, learner: &mut dyn Learner, teller: &mut Teller) -> anyhow::Result<()> {
        if self.saved == Some(self.state.step) {
            return Ok(());
        }
        self.state.elapsed_secs = self.secs();
        self.state.cpu_secs = self.cpu_secs();
        self.state.peak_memory_mb = self.state.peak_memory_mb.max(peak_memory_mb());
        let path = checkpoint::write(&self.dir.root.join("checkpoints"), learner, &self.tokenizer, &self.state)?;
        self.saved = Some(self.state.step);
        teller.event("checkpoint", &serde_json::json!({ "step": self.state.step, "path": path }));
        Ok(())
    }
}

/// How long the stages of a step take. Where sampling runs ahead, its stage is what the step waited for it.
pub struct Watch {
    step: u64,
    clock: Clock,
    timings: Timings,
}

impl Watch {
    /// Begins with a step.
    pub fn of(step: u64) -> Watch {
        Watch { step, clock: Clock::start(), timings: Timings::default() }
    }

    /// Takes the time of what happens, and tells it.
    pub fn on(&mut self, event: Event, teller: &mut Teller) {
        match event {
            Event::Stage(stage) => {
                self.timings.begin(stage, self.clock.secs());
                teller.inside(stage_words(stage));
                teller.event("stage", &serde_json::json!({ "step": self.step, "stage": stage_words(stage) }));
            }
            Event::Progress(p) => teller.inside(format!("rollout {}/{}", p.n_ended, p.n_total)),
        }
    }
}
