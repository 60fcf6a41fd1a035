//! How is a model taught by example? From random weights or another model, into a run directory with a model in it.

mod rows;
mod start;

use std::path::{Path, PathBuf};

use aepo::config::Config;
use aepo::policy::Sampler as _;
use aepo::sft::{HoldoutReport, SftError, SftRecord, SftRun};
use aepo_engine::Engine;
use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::Value;

use crate::args::{RunArgs, SftArgs};
use crate::checkpoint::{self, State};
use crate::commands::train::{resume_command, resumed_config};
use crate::error::Interrupted;
use crate::export;
use crate::interrupt;
use crate::machine::{Clock, peak_memory_mb};
use crate::progress::{Teller, print};
use crate::recipe;
use crate::run_dir::{METRICS, RunDir};
use crate::source::TokenizerFiles;
use crate::table::minutes;
use crate::toolbox;
use crate::world::{self, Model};
use rows::FileFacts;

/// Time between checkpoints, seconds. When one is written changes nothing in what is computed.
const CHECKPOINT_SECS: f64 = 300.0;

/// The result, in `summary.json`.
#[derive(Debug, Serialize)]
struct Summary {
    recipe: String,
    seed: u64,
    threads: usize,
    steps: u64,
    n_parameters: usize,
    /// Of the last step, nats per token.
    loss: f64,
    /// Loss on what is held out, by the number of steps before it; empty where nothing is.
    holdout: Vec<Measured>,
    /// What was learned, over all steps.
    learned: Learned,
    /// The file that was learned, and what became of its rows; null for demonstrations.
    data: Option<FileFacts>,
    seconds: f64,
    cpu_secs: f64,
    peak_memory_mb: f64,
    aepo_version: String,
}

/// A measurement on what is held out.
#[derive(Debug, Serialize)]
struct Measured {
    /// Steps done before it.
    step: u64,
    #[serde(flatten)]
    report: HoldoutReport,
}

/// Sums over all steps, each epoch counted.
#[derive(Debug, Default, Serialize)]
struct Learned {
    n_rows: u64,
    /// Demonstrations that were written and left out.
    n_left_out: u64,
    n_tokens: u64,
    n_trained: u64,
}

/// A row of `metrics.jsonl`.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    record: &'a SftRecord,
    secs_total: f64,
    tokens_per_sec: f64,
    peak_memory_mb: f64,
}

/// Teaches a model, or goes on with it.
pub fn sft(args: &SftArgs) -> anyhow::Result<()> {
    interrupt::install()?;
    let recipe = recipe::find(&args.run.recipe)?;
    let mut sets = recipe::parse_sets(&args.run.sets)?;
    sets.extend(args.seed.map(|n| ("sft.seed".to_owned(), n.to_string())));
    sets.extend(args.run.threads.map(|n| ("train.threads".to_owned(), n.to_string())));
    let config = recipe::resolve(&recipe, &sets)?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(format!("{}-sft-seed{}", recipe.name, config.sft.seed)));
    let mut teller = Teller::new(args.run.telling);
    config.left_out.iter().for_each(|line| teller.note(&line.to_string()));
    let mut start = ColdStart::open(config, &recipe.name, &out, &args.run, &mut teller)?;
    match start.run(&mut teller) {
        Ok(summary) => {
            teller.event("summary", &summary);
            if teller.for_people() {
                let (time, steps, out) = (minutes(summary.seconds), summary.steps, out.display());
                if let [before, .., after] = &summary.holdout[..] {
                    let (rows, before, after) = (after.report.n_rows, before.report.loss, after.report.loss);
                    print(&format!("loss on {rows} rows held out: {before:.4} before, {after:.4} after\n"))?;
                }
                print(&format!("{steps} steps in {time}. Train from it: --set model.init={out}/model\n"))?;
            }
            Ok(())
        }
        Err(_) if interrupt::asked() && start.whole => {
            teller.end();
            start.save(&mut teller)?;
            let (step, resume) = (start.state.step, resume_command());
            teller.event("interrupted", &serde_json::json!({ "step": step, "resume": resume }));
            let hint = format!("{step} steps are done; go on with\n  {resume}");
            Err(Interrupted { hint: teller.for_people().then_some(hint) }.into())
        }
        Err(error) => Err(error),
    }
}

struct ColdStart {
    run: SftRun,
    data: Option<FileFacts>,
    engine: Engine,
    tokenizer: TokenizerFiles,
    dir: RunDir,
    recipe: String,
    state: State,
    /// Step of the newest checkpoint on the disk.
    saved: Option<u64>,
    /// The weights, `state` and the rows on the disk are of one moment: a checkpoint may be written.
    whole: bool,
    /// Time of earlier processes of this run, seconds.
    earlier_secs: f64,
    /// Processor time of earlier processes of this run, seconds.
    earlier_cpu_secs: f64,
    clock: Clock,
}

impl ColdStart {
    /// Gets everything ready before the run directory is touched, so that what cannot start leaves nothing behind.
    fn open(
        mut config: Config,
        recipe: &str,
        out: &Path,
        args: &RunArgs,
        teller: &mut Teller,
    ) -> anyhow::Result<ColdStart> {
        let clock = Clock::start();
        let mut state = State { step: 0, elapsed_secs: 0.0, cpu_secs: 0.0, peak_memory_mb: 0.0 };
        let (mut from, mut dir) = (None, None);
        if args.resume {
            let opened = RunDir::resume(out)?;
            config = resumed_config(&opened, config)?;
            let checkpoint::Found { newest, damaged } = checkpoint::newest(&out.join("checkpoints"))?;
            for one in &damaged {
                teller.warn(&format!("checkpoint {} is damaged and passed over: {}", one.path.display(), one.why));
            }
            if let Some((path, at)) = newest {
                (from, state) = (Some(path), at);
            }
            dir = Some(opened);
        }
        let Model { engine, renderer, tokenizer } = match &from {
            Some(path) => world::load_checkpoint(path, &config, &toolbox::specs(&config)?)?,
            None => start::model(&mut config, args.net, teller)?,
        };
        let began = dir.as_ref().map(FileFacts::of).transpose()?.flatten();
        let (source, data) = rows::source(&config, &renderer, engine.context_len(), began.as_ref())?;
        let dir = match dir {
            Some(dir) => {
                dir.keep_rows(state.step)?;
                dir
            }
            None => RunDir::create(out, &config.to_toml())?,
        };
        if let (None, Some(data)) = (&began, &data) {
            data.keep(&dir)?;
        }
        let run = SftRun { config, source };
        let config = &run.config;
        let n_parameters = engine.n_parameters();
        teller.event(
            "run",
            &serde_json::json!({
                "recipe": recipe, "out": dir.root, "seed": config.sft.seed, "steps": run.n_steps(),
                "done": state.step, "threads": config.train.threads, "n_parameters": n_parameters, "data": data,
            }),
        );
        data.iter().flat_map(FileFacts::lines).for_each(|line| teller.note(&line));
        teller.note(&format!(
            "{recipe}: cold start of {:.1}M weights, {} steps from step {}, seed {}, {} threads, into {}",
            n_parameters as f64 / 1e6,
            run.n_steps(),
            state.step,
            config.sft.seed,
            config.train.threads,
            dir.root.display(),
        ));
        Ok(ColdStart {
            run,
            data,
            engine,
            tokenizer,
            dir,
            recipe: recipe.to_owned(),
            saved: from.map(|_| state.step),
            whole: true,
            earlier_secs: state.elapsed_secs,
            earlier_cpu_secs: state.cpu_secs,
            state,
            clock,
        })
    }

    /// The cold start from where it stands to its end.
    fn run(&mut self, teller: &mut Teller) -> anyhow::Result<Summary> {
        let n_steps = self.run.n_steps();
        let mut last_save = 0.0;
        teller.begin("cold start", n_steps, self.state.step);
        loop {
            if self.is_measured_after(self.state.step) {
                self.measure(teller)?;
            }
            if self.state.step == n_steps {
                break;
            }
            if interrupt::asked() {
                return Err(Interrupted { hint: None }.into());
            }
            self.step(teller)?;
            if self.clock.secs() - last_save > CHECKPOINT_SECS {
                self.save(teller)?;
                last_save = self.clock.secs();
            }
        }
        teller.end();
        self.save(teller)?;
        export::write(&self.dir.root, &self.engine, &self.tokenizer)?;
        let (learned, loss) = self.learned()?;
        let config = &self.run.config;
        let summary = Summary {
            recipe: self.recipe.clone(),
            seed: config.sft.seed,
            threads: config.train.threads,
            steps: n_steps,
            n_parameters: self.engine.n_parameters(),
            loss,
            holdout: self.measured()?,
            learned,
            data: self.data.clone(),
            seconds: self.earlier_secs + self.clock.secs(),
            cpu_secs: self.earlier_cpu_secs + self.clock.cpu_secs(),
            peak_memory_mb: self.state.peak_memory_mb.max(peak_memory_mb()),
            aepo_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.dir.write_json("summary.json", &summary)?;
        Ok(summary)
    }

    /// One optimiser step with its row.
    fn step(&mut self, teller: &mut Teller) -> anyhow::Result<()> {
        let clock = Clock::start();
        // What fails on the way has changed the gradient, and perhaps the weights.
        self.whole = false;
        let record = self.run.step(self.state.step, &mut self.engine)?;
        let secs_total = clock.secs();
        let tokens_per_sec = record.n_tokens as f64 / secs_total.max(1e-9);
        let row = Row { record: &record, secs_total, tokens_per_sec, peak_memory_mb: peak_memory_mb() };
        self.dir.append_row(&row)?;
        self.state.step += 1;
        self.whole = true;
        let (step, n_steps, loss) = (self.state.step, self.run.n_steps(), record.loss);
        teller.at(step);
        teller.inside(format!("loss {loss:.4}, {tokens_per_sec:.0} tokens/s"));
        if step.is_multiple_of(20) || step == n_steps {
            let epoch = record.epoch.map_or(String::new(), |epoch| format!("  epoch {epoch:.2}"));
            teller.note(&format!("step {step:>5}/{n_steps}{epoch}  loss {loss:.4}  {tokens_per_sec:.0} tokens/s"));
        }
        teller.event("step", &row);
        if !record.applied {
            teller.warn(&format!(
                "step {}: the gradient was not finite, the weights were left as they were",
                record.step
            ));
        }
        Ok(())
    }

    /// Whether the loss on what is held out is measured after `step` steps.
    fn is_measured_after(&self, step: u64) -> bool {
        let s = &self.run.config.sft;
        let ends = [0, self.run.n_steps()].contains(&step);
        s.holdout > 0 && (ends || (s.eval_every > 0 && step.is_multiple_of(s.eval_every)))
    }

    /// Measures the weights as they are now, unless that was done before.
    fn measure(&mut self, teller: &mut Teller) -> anyhow::Result<()> {
        let step = self.state.step;
        let file = eval_file(step);
        if self.dir.read_json::<HoldoutReport>(&file)?.is_some() {
            return Ok(());
        }
        teller.inside("measure what is held out");
        let report = match self.run.measure(&mut self.engine, &|| !interrupt::asked()) {
            Ok(Some(report)) => report,
            Ok(None) => return Ok(()),
            Err(SftError::Stopped) => return Err(Interrupted { hint: None }.into()),
            Err(error) => return Err(error.into()),
        };
        self.dir.write_json(&file, &report)?;
        teller.note(&format!("step {step:>5}  loss {:.4} on {} rows held out", report.loss, report.n_rows));
        teller.event("eval", &serde_json::json!({ "step": step, "report": report }));
        Ok(())
    }

    /// Everything that was measured, from the disk.
    fn measured(&self) -> anyhow::Result<Vec<Measured>> {
        let mut all = Vec::new();
        for step in (0..=self.run.n_steps()).filter(|&step| self.is_measured_after(step)) {
            let file = eval_file(step);
            match self.dir.read_json(&file)? {
                Some(report) => all.push(Measured { step, report }),
                None => bail!("{} is missing, and the run is further", self.dir.root.join(file).display()),
            }
        }
        Ok(all)
    }

    /// Sums over the rows of all steps, and the loss of the last.
    fn learned(&self) -> anyhow::Result<(Learned, f64)> {
        let path = self.dir.root.join(METRICS);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let (mut learned, mut loss) = (Learned::default(), f64::NAN);
        for (i, line) in text.lines().enumerate() {
            let row: Value =
                serde_json::from_str(line).with_context(|| format!("{}, row {}", path.display(), i + 1))?;
            let count = |key: &str| row[key].as_u64().unwrap_or(0);
            learned.n_rows += count("n_rows");
            learned.n_left_out += count("n_left_out");
            learned.n_tokens += count("n_tokens");
            learned.n_trained += count("n_trained");
            // JSON has no word for a loss that is not finite.
            loss = row["loss"].as_f64().unwrap_or(f64::NAN);
        }
        Ok((learned, loss))
    }

    /// Writes a checkpoint of where the run stands, unless there is one.
    fn save(&mut self, teller: &mut Teller) -> anyhow::Result<()> {
        if self.saved == Some(self.state.step) {
            return Ok(());
        }
        self.state.elapsed_secs = self.earlier_secs + self.clock.secs();
        self.state.cpu_secs = self.earlier_cpu_secs + self.clock.cpu_secs();
        self.state.peak_memory_mb = self.state.peak_memory_mb.max(peak_memory_mb());
        let checkpoints = self.dir.root.join("checkpoints");
        let path = checkpoint::write(&checkpoints, &mut self.engine, &self.tokenizer, &self.state)?;
        self.saved = Some(self.state.step);
        teller.event("checkpoint", &serde_json::json!({ "step": self.state.step, "path": path }));
        Ok(())
    }
}

fn eval_file(step: u64) -> String {
    format!("evals/{}.json", checkpoint::name(step))
}
