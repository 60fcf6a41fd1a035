//! How does a training run go? Measure, take steps, measure again, and leave everything in the run directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aepo::config::{Config, Source};
use aepo::data::countries::Split;
use aepo::data::task::Task;
use aepo::eval::{EvalPlan, EvalReport, evaluate};
use aepo::policy::{Learner, Sampler};
use aepo::record::Timings;
use aepo::rollout::drive::RolloutError;
use aepo::run::{Event, Run, RunError};
use aepo::tool::{ToolName, Toolset as _};
use aepo::train::schedule::Schedule;
use aepo_engine::Engine;
use aepo_tools::Tools;
use aepo_tools::hub::What;
use aepo_tools::toolset::ToolStats;
use serde::{Deserialize, Serialize};

use crate::args::{RunArgs, TrainArgs};
use crate::checkpoint::{self, State};
use crate::commands::eval::{answers_left_out, before_after};
use crate::error::{Interrupted, usage};
use crate::export;
use crate::interrupt::{self, interruptible};
use crate::machine::{Clock, peak_memory_mb};
use crate::progress::{Teller, print};
use crate::recipe;
use crate::room::{self, Job};
use crate::row::{Row, left_out, stage_words, step_line};
use crate::run_dir::{CONFIG, RunDir};
use crate::source::{self, Named, Place, TokenizerFiles};
use crate::table::{minutes, percent};
use crate::toolbox;
use crate::trained::Trained;
use crate::world;

/// The result of a run, in `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Which recipe.
    pub recipe: String,
    /// Which algorithm.
    pub algorithm: String,
    /// Seed of the run.
    pub seed: u64,
    /// Threads of the engine.
    pub threads: usize,
    /// Training steps.
    pub steps: u64,
    /// Weights of the model.
    pub n_parameters: usize,
    /// Before the first step.
    pub eval_before: EvalReport,
    /// After the last.
    pub eval_after: EvalReport,
    /// What was gained in pass@1, percentage points.
    pub gain_points: f64,
    /// Wall time of the whole run, seconds, interruptions left out.
    pub seconds: f64,
    /// Processor time of the whole run, that of its tools included, seconds.
    pub cpu_secs: f64,
    /// The most memory that any process of the run held, MiB.
    pub peak_memory_mb: f64,
    /// What became of the calls of each tool since the run was started or resumed last. What a cache answered, and what
    /// had to be tried again, does not repeat.
    #[serde(default)]
    pub tools: BTreeMap<ToolName, ToolStats>,
    /// Version of this program.
    pub aepo_version: String,
}

/// Runs, or goes on with a run.
pub fn train(args: &TrainArgs) -> anyhow::Result<()> {
    interrupt::install()?;
    if args.stop_on_eof {
        interrupt::watch_input();
    }
    let recipe = recipe::find(&args.run.recipe)?;
    let mut sets = recipe::parse_sets(&args.run.sets)?;
    sets.extend(args.seed.map(|n| ("train.seed".to_owned(), n.to_string())));
    sets.extend(args.steps.map(|n| ("train.steps".to_owned(), n.to_string())));
    sets.extend(args.run.threads.map(|n| ("train.threads".to_owned(), n.to_string())));
    let config = recipe::resolve(&recipe, &sets)?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(format!("{}-seed{}", recipe.name, config.train.seed)));
    let mut teller = Teller::new(args.run.telling);
    config.left_out.iter().for_each(|line| teller.note(&line.to_string()));
    let mut trainer = Trainer::open(config, &recipe.name, &out, &args.run, &mut teller)?;
    match trainer.run(&mut teller) {
        Ok(summary) => {
            teller.event("summary", &summary);
            if teller.for_people() {
                print(&before_after(&summary.eval_before, &summary.eval_after))?;
                let (time, cpu) = (minutes(summary.seconds), minutes(summary.cpu_secs));
                let (steps, memory, out) = (summary.steps, summary.peak_memory_mb, out.display());
                print(&format!(
                    "\n{steps} steps in {time} ({cpu} of processors), at most {memory:.0} MiB. For more: aepo show {out}\n"
                ))?;
            }
            Ok(())
        }
        Err(_) if interrupt::asked() && trainer.whole => {
            trainer.save(&mut teller)?;
            let hint = format!("{} steps are done; go on with\n  {}", trainer.state.step, resume_command());
            teller.event("interrupted", &serde_json::json!({ "step": trainer.state.step, "resume": resume_command() }));
            Err(Interrupted { hint: teller.for_people().then_some(hint) }.into())
        }
        Err(error) if trainer.whole && is_unavailable(&error) => {
            trainer.save(&mut teller)?;
            let (step, command) = (trainer.state.step, resume_command());
            teller
                .warn(&format!("{step} steps are done and kept; when the tools answer again, go on with\n  {command}"));
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Whether the run stopped because tools were unavailable; what was trained before is as good as ever.
fn is_unavailable(error: &anyhow::Error) -> bool {
    let rollout = match error.downcast_ref::<RunError>() {
        Some(RunError::Rollout(error)) => Some(error),
        Some(RunError::Update(_)) => None,
        None => error.downcast_ref::<RolloutError>(),
    };
    matches!(rollout, Some(RolloutError::Unavailable { .. } | RolloutError::NothingMeasured { .. }))
}

/// The command line that goes on with what this one began.
pub fn resume_command() -> String {
    let mut words: Vec<String> = std::env::args().filter(|word| word != "--resume").collect();
    words.push("--resume".to_owned());
    words.join(" ")
}

struct Trainer {
    run: Run,
    eval_tasks: Vec<Task>,
    policy: Trained,
    tokenizer: TokenizerFiles,
    /// The initial weights, where the loss asks for the divergence from them.
    reference: Option<Engine>,
    tools: Tools,
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

impl Trainer {
    /// Gets everything ready before the run directory is touched, so that what cannot start leaves nothing behind.
    fn open(config: Config, recipe: &str, out: &Path, args: &RunArgs, teller: &mut Teller) -> anyhow::Result<Trainer> {
        let clock = Clock::start();
        let (mut config, dir) = match args.resume {
            true => {
                let dir = RunDir::resume(out)?;
                let config = resumed_config(&dir, config)?;
                (config, Some(dir))
            }
            false => (config, None),
        };
        let tasks = world::tasks(&config, Split::Train, &mut |note| teller.note(note))?;
        let eval_tasks = world::tasks(&config, Split::HeldOut, &mut |note| teller.note(note))?;
        let named = source::named(&config.model.init)?;
        let n_threads = config.train.threads;
        let tools = toolbox::start(&config, teller)?;
        let mut state = State { step: 0, elapsed_secs: 0.0, cpu_secs: 0.0, peak_memory_mb: 0.0 };
        let mut saved = None;
        let mut from = None;
        if let Some(dir) = &dir {
            let checkpoint::Found { newest, damaged } = checkpoint::newest(&dir.root.join("checkpoints"))?;
            for one in &damaged {
                teller.warn(&format!("checkpoint {} is damaged and passed over: {}", one.path.display(), one.why));
            }
            if let Some((path, at)) = newest {
                (state, saved, from) = (at, Some(at.step), Some(path));
            }
        }
        let first = from.clone().map_or_else(|| named.clone(), |path| Named::Here(Place::Directory(path)));
        room::before_weights(&config, &first, Job::Train, args.net.offline, teller)?;
        // A run that goes on from a checkpoint may not need what it began with any more.
        let needs_reference = config.rules().needs_reference();
        let init = match from.is_none() || needs_reference {
            true => {
                let (init, pinned) = source::bring(&named, What::Everything, args.net.offline, teller)?;
                // The branch of a hub's model may move on; this run does not.
                config.settings.model.init = pinned.map_or(config.settings.model.init, |name| name.to_string());
                Some(init)
            }
            false => None,
        };
        let model = match (&from, &init) {
            (Some(path), _) => world::load_checkpoint(path, &config, tools.tools())?,
            (None, Some(init)) => world::load(init, &config, tools.tools())?,
            (None, None) => anyhow::bail!("neither a checkpoint nor a model to begin with"),
        };
        let reference = match init.filter(|_| needs_reference) {
            Some(init) => Some(world::reference(&init, &model.engine, &config)?),
            None => None,
        };
        let n_parameters = model.engine.n_parameters();
        let policy = Trained::new(model.engine, &config, from.as_deref(), teller)?;
        let dir = match dir {
            Some(dir) => {
                dir.keep_rows(state.step)?;
                dir.write(CONFIG, config.to_toml().as_bytes())?;
                teller.note(&format!("resuming {} after step {}", dir.root.display(), state.step));
                dir
            }
            None => RunDir::create(out, &config.to_toml())?,
        };
        teller.event(
            "run",
            &serde_json::json!({
                "recipe": recipe, "out": dir.root, "seed": config.train.seed, "steps": config.train.steps,
                "done": state.step, "threads": n_threads, "n_parameters": n_parameters,
            }),
        );
        teller.note(&format!(
            "{recipe}: {} on {:.1}M weights, seed {}, {n_threads} threads, into {}",
            config.algorithm.name.bundle().name,
            n_parameters as f64 / 1e6,
            config.train.seed,
            dir.root.display(),
        ));
        Ok(Trainer {
            run: Run { config, tasks, renderer: model.renderer },
            eval_tasks,
            policy,
            tokenizer: model.tokenizer,
            reference,
            tools,
            dir,
            recipe: recipe.to_owned(),
            earlier_secs: state.elapsed_secs,
            earlier_cpu_secs: state.cpu_secs,
            state,
            saved,
            whole: true,
            clock,
        })
    }

    /// The run from where it stands to its end.
    fn run(&mut self, teller: &mut Teller) -> anyhow::Result<Summary> {
        let (steps, every) = (self.run.config.train.steps, self.run.config.train.checkpoint_every);
        let eval_every = self.run.config.eval.every;
        // A run resumed behind step 0 has measured before it made its first checkpoint.
        let eval_before = self.measure(0, "before", teller)?;
        teller.begin("train", steps, self.state.step);
        if self.state.step < steps {
            // What is trained further is another model; until the new end, checkpoints alone say what it is.
            export::remove(&self.dir.root)?;
        }
        while self.state.step < steps {
            stop_if_asked()?;
            self.step(teller)?;
            let done = self.state.step;
            teller.at(done);
            if every > 0 && done.is_multiple_of(every) && done < steps {
                self.save(teller)?;
            }
            if eval_every > 0 && done.is_multiple_of(eval_every) && done < steps {
                // Whoever measures wants the weights that were measured.
                self.save(teller)?;
                teller.end();
                self.measure(done, &format!("after {done} steps"), teller)?;
                teller.begin("train", steps, done);
            }
        }
        teller.end();
        self.save(teller)?;
        let eval_after = self.measure(steps, "after", teller)?;
        let config = &self.run.config;
        if config.lora.rank > 0 {
            // A checkpoint holds LoRA's matrices alone; this is what programs load that know nothing of them.
            let path = export::write(&self.dir.root, self.policy.engine(), &self.tokenizer)?;
            teller.note(&format!("LoRA's matrices are merged into the model in {}", path.display()));
            teller.event("model", &serde_json::json!({ "step": self.state.step, "path": path }));
        }
        let summary = Summary {
            recipe: self.recipe.clone(),
            algorithm: config.algorithm.name.bundle().name.to_owned(),
            seed: config.train.seed,
            threads: config.train.threads,
            steps,
            n_parameters: self.policy.engine().n_parameters(),
            gain_points: 100.0 * (eval_after.pass_at_1 - eval_before.pass_at_1),
            eval_before,
            eval_after,
            seconds: self.earlier_secs + self.clock.secs(),
            cpu_secs: self.earlier_cpu_secs + self.clock.cpu_secs(),
            peak_memory_mb: self.state.peak_memory_mb.max(peak_memory_mb()),
            tools: self.tools.stats().clone(),
            aepo_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.dir.write_json("summary.json", &summary)?;
        Ok(summary)
    }

    /// One training step with its row and its trees.
    fn step(&mut self, teller: &mut Teller) -> anyhow::Result<()> {
        let step = self.state.step;
        let (clock, mut timings) = (Clock::start(), Timings::default());
        let mut on = |event: Event| match event {
            Event::Stage(stage) => {
                timings.begin(stage, clock.secs());
                teller.inside(stage_words(stage));
                teller.event("stage", &serde_json::json!({ "step": step, "stage": stage_words(stage) }));
            }
            Event::Progress(p) => teller.inside(format!("rollout {}/{}", p.n_ended, p.n_total)),
        };
        let reference = self.reference.as_mut().map(|engine| engine as &mut dyn Learner);
        let version = self.policy.engine().version();
        let policy = &mut interruptible(self.policy.policy());
        let done = self.run.step(step, policy, reference, &mut self.tools, &mut on);
        // An interrupted rollout has changed nothing; anything later is of this step only once its row is there.
        self.whole = done.is_err() && self.policy.engine().version() == version;
        let done = done?;
        timings.end(clock.secs());
        timings.tool_secs = done.tool_secs;
        let row = Row::new(&done.record, &timings, clock.secs());
        let written = self.dir.write_lines(&format!("trees/{}.jsonl", checkpoint::name(step)), &done.trees);
        written.and_then(|()| self.dir.append_row(&row))?;
        self.state.step = step + 1;
        self.whole = true;
        teller.note(&step_line(&row, self.run.config.train.steps));
        if let Some(line) = left_out(&done.record) {
            teller.warn(&line);
        }
        teller.event("step", &row);
        if done.record.update.n_not_finite > 0 {
            teller.warn(&format!("step {step}: a gradient was not finite, the weights were left as they were"));
        }
        Ok(())
    }

    /// Measures after `step` steps, or reads what was measured then.
    fn measure(&mut self, step: u64, when: &str, teller: &mut Teller) -> anyhow::Result<EvalReport> {
        let file = format!("evals/{}.json", checkpoint::name(step));
        if let Some(report) = self.dir.read_json::<EvalReport>(&file)? {
            return Ok(report);
        }
        if step != self.state.step {
            let path = self.dir.root.join(&file);
            anyhow::bail!("{} is missing, and the run is {} steps further", path.display(), self.state.step - step);
        }
        let plan = EvalPlan::of(&self.run.config);
        teller.event("stage", &serde_json::json!({ "step": step, "stage": format!("measure {when}") }));
        teller.begin(&format!("measure {when}"), (self.eval_tasks.len() * plan.drive.k) as u64, 0);
        let mut on = |event: Event| {
            if let Event::Progress(p) = event {
                teller.sampling(p);
            }
        };
        let policy = &mut interruptible(self.policy.policy());
        let report = evaluate(policy, &mut self.tools, &self.run.renderer, &self.eval_tasks, &plan, &mut on);
        let secs = teller.end();
        let report = report?;
        self.dir.write_json(&file, &report)?;
        teller.note(&format!("{when}: {} ({})", eval_line(&report), minutes(secs)));
        if let Some(line) = answers_left_out(&report) {
            teller.warn(&line);
        }
        teller.event("eval", &serde_json::json!({ "step": step, "report": report }));
        Ok(report)
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
        let path = checkpoint::write(&checkpoints, self.policy.learner(), &self.tokenizer, &self.state)?;
        self.saved = Some(self.state.step);
        teller.event("checkpoint", &serde_json::json!({ "step": self.state.step, "path": path }));
        Ok(())
    }
}

fn stop_if_asked() -> anyhow::Result<()> {
    match interrupt::asked() {
        true => Err(Interrupted { hint: None }.into()),
        false => Ok(()),
    }
}

/// The settings of a run that is resumed: its own. What the command line says must be the same, or the resumed run
/// would not be the run that was begun; only the number of steps may change where nothing else depends on it.
pub fn resumed_config(dir: &RunDir, asked: Config) -> anyhow::Result<Config> {
    let path = dir.root.join(CONFIG);
    let label = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|e| usage(format!("cannot read {label}: {e}"), ""))?;
    let own = Config::resolve(&text, &label, &[])?;
    // Threads follow from the machine unless somebody sets them.
    let by_machine = asked.source("train.threads") == Source::Default;
    let may_change = |key: &str| match key {
        // A run writes down which commit of a hub's model it began with.
        "model.init" => source::is_pinned(&own.model.init, &asked.model.init),
        "sft.init" => source::is_pinned(&own.sft.init, &asked.sft.init),
        "train.threads" => by_machine,
        "train.steps" => own.train.schedule == Schedule::Constant,
        _ => false,
    };
    if let Some(change) = changes(&own, &asked).find(|change| !may_change(&change.key)) {
        let Change { key, was, is } = change;
        let message = format!("{label}: `{key}` is {was} in this run, and now {is} is asked for");
        return Err(usage(message, "a resumed run keeps its settings; start another with another --out"));
    }
    let mut config = own;
    config.settings.train.steps = asked.train.steps;
    Ok(config)
}

/// A setting that two configurations give other values.
pub struct Change {
    /// Dotted key.
    pub key: String,
    /// Its value in the first, as TOML.
    pub was: String,
    /// In the second.
    pub is: String,
}

/// What has an effect in one configuration at least, and differs.
pub fn changes(own: &Config, asked: &Config) -> impl Iterator<Item = Change> {
    let show = |value: Option<String>| value.unwrap_or_else(|| "not set".to_owned());
    let pairs = own.explain().into_iter().zip(asked.explain());
    let differs = |(own, asked): &(aepo::config::Explained, aepo::config::Explained)| {
        (own.no_effect.is_none() || asked.no_effect.is_none()) && own.value != asked.value
    };
    pairs.filter(differs).map(move |(own, asked)| Change { key: own.key, was: show(own.value), is: show(asked.value) })
}

fn eval_line(report: &EvalReport) -> String {
    let [low, high] = report.pass_at_1_interval.map(percent);
    format!(
        "pass@1 {} ({low} to {high}) on {} questions, format {}",
        percent(report.pass_at_1),
        report.n_questions,
        percent(report.format_rate),
    )
}
