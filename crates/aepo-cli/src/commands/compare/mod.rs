//! How do algorithms compare? Each is trained by `aepo train` on the same tasks, budget and seeds, and all are reported.

mod children;
mod plan;
mod result;
mod study;
mod view;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::bail;

use crate::args::CompareArgs;
use crate::commands::train::Summary;
use crate::error::Interrupted;
use crate::interrupt;
use crate::progress::{Teller, print};
use crate::recipe;
use children::{Message, Told};
use plan::{Plan, Planned};
use study::Study;
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
    let recipe = recipe::find(&args.recipe)?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(format!("compare-{}", recipe.name)));
    // Everything that can be wrong is found before anything is written.
    let earlier = Study::read(&out)?;
    let plan = Plan::make(args, &recipe, earlier.as_ref())?;
    if let Some(earlier) = &earlier {
        earlier.check(&out, &plan)?;
    }
    let mut runs = Vec::new();
    for seed in 1..=args.seeds {
        // All algorithms of a seed first: what is there is balanced at every moment.
        for planned in plan.algorithms.iter().filter(|p| p.asked_for) {
            runs.push(Run::new(args, &plan, planned, seed, &out)?);
        }
    }
    let _lock = Study::open(&out, &plan, args.seeds, earlier)?;
    let mut view = View::new(Teller::new(args.telling), &plan, &runs, &out);
    let gone_on = go(&mut runs, args.jobs, &mut view);
    view.end();
    gone_on?;
    let results = result::read_all(&out, plan.steps)?;
    view.teller.event("comparison", &serde_json::json!({ "algorithms": results }));
    if view.teller.for_people() && !results.is_empty() {
        print(&result::table(&results))?;
    }
    if interrupt::asked() {
        let n_done = runs.iter().filter(|run| matches!(run.state, RunState::Done(_))).count();
        let command = std::env::args().collect::<Vec<_>>().join(" ");
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

impl Run {
    /// A run as it is on the disk; what is there must be of the same settings.
    fn new(args: &CompareArgs, plan: &Plan, planned: &Planned, seed: u64, out: &Path) -> anyhow::Result<Run> {
        let folder = out.join("runs").join(planned.name);
        let dir = folder.join(format!("seed{seed}"));
        plan::check_run(&dir, planned, seed)?;
        let state = match result::finished(&dir, plan.steps)? {
            Some(summary) => RunState::Done(Box::new(summary)),
            None => RunState::Waiting,
        };
        let mut words = vec!["train".to_owned(), args.recipe.clone()];
        for (key, value) in &planned.sets {
            words.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        words.extend(["--seed".to_owned(), seed.to_string()]);
        words.extend(["--threads".to_owned(), plan.threads.to_string()]);
        words.extend(["--out".to_owned(), dir.display().to_string()]);
        words.extend(["--json", "--stop-on-eof"].map(str::to_owned));
        let log = folder.join(format!("seed{seed}.log"));
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
    let mut n_going = 0;
    let (to_us, from_runs) = mpsc::channel::<Message>();
    loop {
        while n_going < n_jobs && !interrupt::asked() {
            let Some(i) = queue.pop_front() else { break };
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
        if n_going == 0 {
            return Ok(());
        }
        if interrupt::asked() {
            inputs.clear();
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
