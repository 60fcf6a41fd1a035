//! How does a training run go? Measure, take steps, measure again, and leave everything in the run directory.

mod book;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aepo::config::{Config, Source};
use aepo::data::countries::Split;
use aepo::data::task::Task;
use aepo::eval::{EvalPlan, EvalReport, evaluate};
use aepo::policy::Learner;
use aepo::rollout::drive::RolloutError;
use aepo::run::{Event, Grown, Run, RunError};
use aepo::tool::{ToolName, Toolset as _};
use aepo::train::schedule::Schedule;
use aepo_engine::Engine;
use aepo_remote::ahead::{Plan, Steps};
use aepo_remote::publish::Publisher;
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
use crate::run_dir::{CONFIG, RunDir};
use crate::source::{self, Named, Place};
use crate::table::{minutes, percent};
use crate::toolbox;
use crate::trained::Trained;
use crate::world;
use book::{Book, Watch};

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
        Err(_) if interrupt::asked() && trainer.book.whole => {
            trainer.save(&mut teller)?;
            let hint = format!("{} steps are done; go on with\n  {}", trainer.book.state.step, resume_command());
            teller.event(
                "interrupted",
                &serde_json::json!({ "step": trainer.book.state.step, "resume": resume_command() }),
            );
            Err(Interrupted { hint: teller.for_people().then_some(hint) }.into())
        }
        Err(error) if trainer.book.whole && is_unavailable(&error) => {
            trainer.save(&mut teller)?;
            let (step, command) = (trainer.book.state.step, resume_command());
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
    /// The initial weights, where the loss asks for the divergence from them.
    reference: Option<Engine>,
    tools: Tools,
    book: Book,
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
        let run = Run { config, tasks, renderer: model.renderer };
        let book = Book::open(dir, recipe, model.tokenizer, state, saved, clock);
        Ok(Trainer { run, eval_tasks, policy, reference, tools, book })
    }

    /// The run from where it stands to its end.
    fn run(&mut self, teller: &mut Teller) -> anyhow::Result<Summary> {
        let (steps, every) = (self.run.config.train.steps, self.run.config.train.checkpoint_every);
        let eval_every = self.run.config.eval.every;
        // A run resumed behind step 0 has measured before it made its first checkpoint.
        let eval_before = self.measure(0, "before", teller)?;
        teller.begin("train", steps, self.book.state.step);
        if self.book.state.step < steps {
            // What is trained further is another model; until the new end, checkpoints alone say what it is.
            export::remove(&self.book.dir.root)?;
        }
        while self.book.state.step < steps {
            stop_if_asked()?;
            self.advance(teller)?;
            let done = self.book.state.step;
            teller.at(done);
            if is_due(every, done) && done < steps {
                self.save(teller)?;
            }
            if is_due(eval_every, done) && done < steps {
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
            let path = export::write(&self.book.dir.root, self.policy.engine()?, &self.book.tokenizer)?;
            teller.note(&format!("LoRA's matrices are merged into the model in {}", path.display()));
            teller.event("model", &serde_json::json!({ "step": self.book.state.step, "path": path }));
        }
        let summary = Summary {
            recipe: self.book.recipe.clone(),
            algorithm: config.algorithm.name.bundle().name.to_owned(),
            seed: config.train.seed,
            threads: config.train.threads,
            steps,
            n_parameters: self.policy.n_parameters(),
            gain_points: 100.0 * (eval_after.pass_at_1 - eval_before.pass_at_1),
            eval_before,
            eval_after,
            seconds: self.book.secs(),
            cpu_secs: self.book.cpu_secs(),
            peak_memory_mb: self.book.state.peak_memory_mb.max(peak_memory_mb()),
            tools: self.tools.stats().clone(),
            aepo_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.book.dir.write_json("summary.json", &summary)?;
        Ok(summary)
    }

    /// The next step; where sampling runs ahead of learning, all steps until something is due between two of them.
    fn advance(&mut self, teller: &mut Teller) -> anyhow::Result<()> {
        let first = self.book.state.step;
        let config = &self.run.config;
        let lag = config.policy_sample.staleness;
        if lag == 0 {
            self.step(first, teller)?;
        } else {
            let due = |done: &u64| is_due(config.train.checkpoint_every, *done) || is_due(config.eval.every, *done);
            let end = (first + 1..config.train.steps).find(due).unwrap_or(config.train.steps);
            let plan = Plan { run: &self.run, steps: first..end, lag, halt: interrupt::asked };
            let (run, book) = (&self.run, &mut self.book);
            let mut work = Ahead { run, reference: &mut self.reference, watch: Watch::of(first), book, teller };
            self.policy.ahead(plan, &mut self.tools, &mut work)?;
        }
        if let Some(told) = self.policy.told() {
            teller.note(&told);
        }
        Ok(())
    }

    /// One training step with its row and its trees.
    fn step(&mut self, step: u64, teller: &mut Teller) -> anyhow::Result<()> {
        let mut watch = Watch::of(step);
        let policy = &mut interruptible(self.policy.policy());
        let grown = self.run.sample(step, policy, &mut self.tools, &mut |event| watch.on(event, teller))?;
        let trained = self.policy.publisher().trained();
        let reference = self.reference.as_mut().map(|engine| engine as &mut dyn Learner);
        let on = &mut |event| watch.on(event, teller);
        let done = self.run.learn(grown, trained, self.policy.policy(), reference, on);
        // Where the weights have changed, they are of this step only once its row is there.
        self.book.whole = self.policy.publisher().trained() == trained;
        self.book.close(&self.run, &done?, watch, teller)
    }

    /// Measures after `step` steps, or reads what was measured then.
    fn measure(&mut self, step: u64, when: &str, teller: &mut Teller) -> anyhow::Result<EvalReport> {
        let file = format!("evals/{}.json", checkpoint::name(step));
        if let Some(report) = self.book.dir.read_json::<EvalReport>(&file)? {
            return Ok(report);
        }
        if step != self.book.state.step {
            let path = self.book.dir.root.join(&file);
            anyhow::bail!(
                "{} is missing, and the run is {} steps further",
                path.display(),
                self.book.state.step - step
            );
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
        self.book.dir.write_json(&file, &report)?;
        teller.note(&format!("{when}: {} ({})", eval_line(&report), minutes(secs)));
        if let Some(line) = answers_left_out(&report) {
            teller.warn(&line);
        }
        teller.event("eval", &serde_json::json!({ "step": step, "report": report }));
        Ok(report)
    }

    /// Writes a checkpoint of where the run stands, unless there is one.
    fn save(&mut self, teller: &mut Teller) -> anyhow::Result<()> {
        self.book.save(self.policy.publisher(), teller)
    }
}

/// The steps of a run that samples ahead.
struct Ahead<'a> {
    run: &'a Run,
    reference: &'a mut Option<Engine>,
    watch: Watch,
    book: &'a mut Book,
    teller: &'a mut Teller,
}

impl<'a> Steps<'a> for Ahead<'_> {
    type Error = anyhow::Error;

    fn on(&mut self, event: Event) {
        self.watch.on(event, self.teller);
    }

    fn learn(&mut self, grown: Grown<'a>, learner: &mut dyn Publisher) -> anyhow::Result<()> {
        stop_if_asked()?;
        let (step, trained) = (grown.step, learner.trained());
        let reference = self.reference.as_mut().map(|engine| engine as &mut dyn Learner);
        let (watch, teller) = (&mut self.watch, &mut *self.teller);
        let done = self.run.learn(grown, trained, learner, reference, &mut |event| watch.on(event, teller));
        self.book.whole = learner.trained() == trained;
        let watch = std::mem::replace(&mut self.watch, Watch::of(step + 1));
        self.book.close(self.run, &done?, watch, self.teller)?;
        self.teller.at(step + 1);
        Ok(())
    }
}

/// Whether something that is done every so many steps, or never, is due after `done` steps.
fn is_due(every: u64, done: u64) -> bool {
    every > 0 && done.is_multiple_of(every)
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
