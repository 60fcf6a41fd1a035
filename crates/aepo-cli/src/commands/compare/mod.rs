//! How do algorithms compare? Each is trained by `aepo train` on the same tasks, budget and seeds, and all are reported.

mod children;
mod plan;
mod report;
mod result;
mod study;
mod view;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::bail;

use crate::args::{CompareArgs, Net};
use crate::commands::train::Summary;
use crate::error::{Interrupted, usage};
use crate::interrupt;
use crate::progress::{Teller, print};
use crate::recipe;
use crate::run_dir;
use children::{Message, Told};
use plan::{Plan, Planned};
use study::{Study, word};
use view::View;

/// How often somebody who asks to stop is heard.
const LISTEN: Duration = Duration::from_millis(200);

/// One algorithm with one seed.
struct Run {
    algorithm: &'static str,
    seed: u64,
    dir: PathBuf,
    log: PathBuf,
    /// The arguments of its `aepo train`, without `--resume`.
    args: Vec<String>,
    state: RunState,
}

/// What has become of a run.
enum RunState {
    Waiting,
    Going,
    /// It asked to go on another time.
    Stopped,
    Done(Box<Summary>),
    /// With its last words.
    Failed(String),
}

/// Trains, and tells how the algorithms differ.
pub fn compare(args: &CompareArgs) -> anyhow::Result<()> {
    interrupt::install()?;
    let recipe = args.recipe.as_deref().map(recipe::find).transpose()?;
    let out = match (&args.out, &recipe) {
        (Some(out), _) => out.clone(),
        (None, Some(recipe)) => PathBuf::from("runs").join(format!("compare-{}", recipe.name)),
        (None, None) => return Err(usage("--report-only: of which comparison?", "name its directory with --out DIR")),
    };
    // Everything that can be wrong is found before anything is written.
    let earlier = Study::read(&out)?;
    let (study, plan) = match (recipe, earlier) {
        (_, None) if args.report_only => {
            return Err(usage(
                format!("there is no comparison in {}", out.display()),
                "name its directory with --out DIR",
            ));
        }
        (None, None) => return Err(usage("no recipe is named", "aepo compare RECIPE --algos A,B")),
        (None, Some(study)) => (study, None),
        (Some(recipe), earlier) => {
            let plan = Plan::make(args, &recipe, earlier.as_ref())?;
            let label = args.recipe.as_deref().unwrap_or(&recipe.name);
            let study = match earlier {
                Some(study) => study.add(&out, &plan, args.seeds)?,
                None => Study::new(label, &plan, args.seeds),
            };
            (study, Some(plan))
        }
    };
    if let Some(name) = args.baseline.as_ref().filter(|name| !study.algorithms.iter().any(|own| own.name == **name)) {
        let names: Vec<&str> = study.algorithms.iter().map(|own| own.name.as_str()).collect();
        return Err(usage(format!("--baseline: `{name}` is not compared"), &format!("one of {}", names.join(", "))));
    }
    match plan {
        Some(plan) if !args.report_only => train_all(args, &out, study, &plan),
        _ => {
            let _lock = run_dir::lock(&out)?;
            let mut teller = Teller::new(args.telling);
            let message = || usage(format!("no run of the baseline is finished in {}", out.display()), "");
            tell(&mut teller, &report::write(&out, &study, args.baseline.as_deref())?.ok_or_else(message)?)
        }
    }
}

/// Trains what is not trained yet, and reports all.
fn train_all(args: &CompareArgs, out: &Path, mut study: Study, plan: &Plan) -> anyhow::Result<()> {
    let recipe = args.recipe.as_deref().unwrap_or(&study.recipe);
    let mut runs = Vec::new();
    for seed in 1..=args.seeds {
        // All algorithms of a seed first: what is there is balanced at every moment.
        for planned in plan.algorithms.iter().filter(|p| p.asked_for) {
            runs.push(Run::new(recipe, plan, planned, seed, out, args.net)?);
        }
    }
    if runs.iter().any(|run| matches!(run.state, RunState::Waiting)) {
        study.sign();
    }
    let _lock = study.open(out)?;
    let mut view = View::new(Teller::new(args.telling), plan, &runs, out);
    let gone_on = go(&mut runs, args.jobs, &mut view);
    view.end();
    gone_on?;
    match report::write(out, &study, args.baseline.as_deref())? {
        Some(told) => tell(&mut view.teller, &told)?,
        None => view.teller.note("there is no report yet: no run of the baseline is finished"),
    }
    if interrupt::asked() {
        let n_done = runs.iter().filter(|run| matches!(run.state, RunState::Done(_))).count();
        let command = std::env::args().map(|text| word(&text)).collect::<Vec<_>>().join(" ");
        view.teller.event("interrupted", &serde_json::json!({ "done": n_done, "resume": command }));
        let hint = format!("{n_done} of {} runs are done; go on with\n  {command}", runs.len());
        return Err(Interrupted { hint: view.teller.for_people().then_some(hint) }.into());
    }
    let failed: Vec<String> = runs.iter().filter_map(Run::failure).collect();
    if !failed.is_empty() {
        let n = failed.len();
        bail!("{n} of {} runs failed; the same command tries them again\n  {}", runs.len(), failed.join("\n  "));
    }
    Ok(())
}

fn tell(teller: &mut Teller, told: &report::Told) -> anyhow::Result<()> {
    teller.event("report", &told.json);
    match teller.for_people() {
        true => print(&told.text),
        false => Ok(()),
    }
}

impl Run {
    /// A run as it is on the disk; what is there must be of the same settings.
    fn new(recipe: &str, plan: &Plan, planned: &Planned, seed: u64, out: &Path, net: Net) -> anyhow::Result<Run> {
        let dir = result::run_dir(out, planned.name, seed);
        plan::check_run(&dir, planned, seed)?;
        let state = match result::finished(&dir, plan.steps)? {
            Some(summary) => RunState::Done(Box::new(summary)),
            None => RunState::Waiting,
        };
        let mut words = vec!["train".to_owned(), recipe.to_owned()];
        for (key, value) in &planned.sets {
            words.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        words.extend(["--seed".to_owned(), seed.to_string()]);
        words.extend(["--threads".to_owned(), plan.threads.to_string()]);
        words.extend(["--out".to_owned(), dir.display().to_string()]);
        words.extend(["--json", "--stop-on-eof"].map(str::to_owned));
        words.extend(net.offline.then(|| "--offline".to_owned()));
        let log = dir.with_extension("log");
        Ok(Run { algorithm: planned.name, seed, dir, log, args: words, state })
    }

    /// What messages call it.
    fn name(&self) -> String {
        format!("{} seed {}", self.algorithm, self.seed)
    }

    fn failure(&self) -> Option<String> {
        match &self.state {
            RunState::Failed(why) => Some(format!("{}: {why} ({})", self.name(), self.log.display())),
            _ => None,
        }
    }
}

/// Lets `n_jobs` runs go on at once until all have ended, or somebody asks to stop.
fn go(runs: &mut [Run], n_jobs: usize, view: &mut View) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let waiting = |(_, run): &(usize, &Run)| matches!(run.state, RunState::Waiting);
    let mut queue: VecDeque<usize> = runs.iter().enumerate().filter(waiting).map(|(i, _)| i).collect();
    // Each run's standard input: it stops where this end of it is dropped, whatever ends this program.
    let mut inputs: Vec<(usize, ChildStdin)> = Vec::new();
    let (mut n_going, mut was_told) = (0, false);
    let (to_us, from_runs) = mpsc::channel::<Message>();
    loop {
        while n_going < n_jobs && !interrupt::asked() {
            // A run of a comparison that was killed a moment ago may still be on its way to its checkpoint.
            let Some(at) = queue.iter().position(|&i| !run_dir::is_taken(&runs[i].dir)) else {
                if n_going == 0 && !queue.is_empty() && !std::mem::replace(&mut was_told, true) {
                    view.teller.note(&format!("waiting for another aepo at work in {}", runs[queue[0]].dir.display()));
                }
                break;
            };
            let Some(i) = queue.remove(at) else { break };
            let run = &mut runs[i];
            match children::start(&program, i, run, to_us.clone()) {
                Ok(input) => {
                    run.state = RunState::Going;
                    inputs.push((i, input));
                    n_going += 1;
                    view.started(i);
                }
                Err(error) => {
                    run.state = RunState::Failed(format!("cannot start: {error:#}"));
                    view.ended(i, run);
                }
            }
        }
        if interrupt::asked() {
            queue.clear();
            inputs.clear();
        }
        if n_going == 0 && queue.is_empty() {
            return Ok(());
        }
        let message = match from_runs.recv_timeout(LISTEN) {
            Ok(message) => message,
            Err(_) => continue,
        };
        let (i, run) = (message.run, &mut runs[message.run]);
        match message.told {
            Told::Event(event) => view.event(i, run, &event),
            Told::Ended(last_words) => {
                n_going -= 1;
                inputs.retain(|(of, _)| *of != i);
                run.state = match (last_words, interrupt::asked()) {
                    (_, true) if result::finished(&run.dir, view.steps)?.is_none() => RunState::Stopped,
                    (Some(why), _) => RunState::Failed(why),
                    (None, _) => match result::finished(&run.dir, view.steps)? {
                        Some(summary) => RunState::Done(Box::new(summary)),
                        None => RunState::Failed("left no result".to_owned()),
                    },
                };
                view.ended(i, run);
            }
        }
    }
}
