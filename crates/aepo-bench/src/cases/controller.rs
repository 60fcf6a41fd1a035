//! What does everything cost that is neither model nor tool? The driver, the records and the update around turns that are
//! ready, at several numbers of paths, and how it grows.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use aepo::config::Config;
use aepo::data::task::Task;
use aepo::record::tree_record;
use aepo::rollout::drive::{DriveTask, Protocol, drive};
use aepo::rollout::trajectory::Trajectory;
use aepo::score::score;
use aepo::seed::Seed;
use aepo::train::group::{ScoredTree, train_groups};
use aepo::train::update::update;
use serde::Serialize;

use crate::agent::{Agent, QUICKSTART, agent, recipe};
use crate::args::ControllerArgs;
use crate::memory;
use crate::rounds::print;
use crate::row::{COMMIT, machine, median};
use crate::script::{Meter, ReadyTools, Reciting};

/// Longest path, as in the quickstart's model.
const CONTEXT_LEN: usize = 1024;

/// What of a turn's cost goes where, microseconds per turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Parts {
    /// Rendering and encoding the first prompts.
    prompts: f64,
    /// The driver: budget, forks, tree bookkeeping.
    driver: f64,
    /// Reading turns as actions.
    parsing: f64,
    /// Encoding tool results.
    results: f64,
    /// Rewards.
    scoring: f64,
    /// Baselines and token advantages.
    advantages: f64,
    /// Batches, losses and their coefficients, for all minibatches.
    update: f64,
    /// Records of the trees.
    records: f64,
    /// Those as lines of JSON.
    json: f64,
    /// Giving the memory of the step back.
    freeing: f64,
}

impl Parts {
    const NAMES: [&str; 10] =
        ["prompts", "driver", "parsing", "results", "scoring", "advantages", "update", "records", "json", "freeing"];

    fn values(&self) -> [f64; 10] {
        let Parts { prompts, driver, parsing, results, scoring, advantages, update, records, json, freeing } = *self;
        [prompts, driver, parsing, results, scoring, advantages, update, records, json, freeing]
    }
}

/// One number of paths.
#[derive(Serialize)]
struct ControllerRow {
    case: String,
    engine: &'static str,
    /// Leaves of each tree.
    k: usize,
    /// Trajectories.
    n_paths: usize,
    /// The most paths that were open at once.
    n_open_max: usize,
    n_turns: usize,
    /// Tokens of the trees, and of their trajectories unrolled.
    n_unique_tokens: usize,
    n_unrolled_tokens: usize,
    /// Of the records, per trajectory.
    record_bytes: usize,
    /// All of it, per turn, median of the rounds.
    us_per_turn: f64,
    rounds: Vec<f64>,
    /// Each the median of the rounds.
    parts: serde_json::Map<String, serde_json::Value>,
    peak_rss_mib: Option<f64>,
    commit: &'static str,
    machine: String,
}

/// How the cost grows from the fewest paths to the most.
#[derive(Serialize)]
struct GrowthRow {
    case: &'static str,
    engine: &'static str,
    k: usize,
    n_paths: [usize; 2],
    /// e of: seconds of a step grow like (number of turns)^e; 1 is linear.
    exponent: f64,
    commit: &'static str,
    machine: String,
}

/// `aepo-bench controller`
pub fn controller(args: &ControllerArgs) -> anyhow::Result<()> {
    let agent = agent("")?;
    let mut totals = Vec::new();
    for &n_paths in &args.paths {
        let n_tasks = (n_paths / args.k).max(1);
        let sets = [
            ("rollout.k", args.k.to_string()),
            ("rollout.max_live_paths", n_paths.max(args.k).to_string()),
            ("tasks.n_train", n_tasks.max(2000).to_string()),
            ("train.tasks_per_step", n_tasks.to_string()),
            ("train.minibatches", n_tasks.min(8).to_string()),
        ];
        let config = recipe(QUICKSTART, &sets)?;
        let tasks: Vec<&Task> = (0..n_tasks).map(|i| &agent.tasks[i % agent.tasks.len()]).collect();
        memory::reset();
        round(&agent, &config, &tasks)?;
        let rounds =
            (0..args.median_of.max(1)).map(|_| round(&agent, &config, &tasks)).collect::<Result<Vec<_>, _>>()?;
        let (_, facts) = &rounds[0];
        let of_rounds = |f: &dyn Fn(&Parts) -> f64| rounds.iter().map(|(parts, _)| f(parts)).collect::<Vec<f64>>();
        let each = of_rounds(&|parts| parts.values().iter().sum());
        let part = |(i, name): (usize, &&str)| (name.to_string(), median(&of_rounds(&|p| p.values()[i])).into());
        let us_per_turn = median(&each);
        totals.push((n_paths, facts.n_turns as f64, us_per_turn * facts.n_turns as f64));
        print(&ControllerRow {
            case: format!("controller {n_paths}x{}", args.k),
            engine: "aepo",
            k: args.k,
            n_paths: n_tasks * args.k,
            n_open_max: facts.n_open_max,
            n_turns: facts.n_turns,
            n_unique_tokens: facts.n_unique_tokens,
            n_unrolled_tokens: facts.n_unrolled_tokens,
            record_bytes: facts.n_bytes / (n_tasks * args.k),
            us_per_turn,
            rounds: each,
            parts: Parts::NAMES.iter().enumerate().map(part).collect(),
            peak_rss_mib: memory::peak_mib(),
            commit: COMMIT,
            machine: machine(),
        })?;
    }
    if let [first, .., last] = &totals[..] {
        let exponent = (last.2 / first.2).ln() / (last.1 / first.1).ln();
        let n_paths = [first.0, last.0];
        let case = "controller growth";
        print(&GrowthRow { case, engine: "aepo", k: args.k, n_paths, exponent, commit: COMMIT, machine: machine() })?;
    }
    Ok(())
}

/// What a round was about.
struct Facts {
    n_turns: usize,
    n_open_max: usize,
    n_unique_tokens: usize,
    n_unrolled_tokens: usize,
    n_bytes: usize,
}

/// One step without model and tools: its parts in microseconds per turn.
fn round(agent: &Agent, config: &Config, tasks: &[&Task]) -> anyhow::Result<(Parts, Facts)> {
    let renderer = &agent.renderer;
    let outside = Meter::default();
    let vocab_size = renderer.tokenizer().vocab_size();
    let mut policy = Reciting::new(&agent.lines, vocab_size, CONTEXT_LEN, Rc::clone(&outside));
    let mut tools = ReadyTools::new(agent.results.clone(), Rc::clone(&outside));
    let (parsing, results, n_turns) = (Cell::new(0.0), Cell::new(0.0), Cell::new(0));
    let add = |to: &Cell<f64>, start: Instant| to.set(to.get() + start.elapsed().as_secs_f64());
    let protocol = Protocol {
        stop: renderer.stop(),
        parse: &|ids| {
            let start = Instant::now();
            let action = renderer.parse(ids);
            add(&parsing, start);
            n_turns.set(n_turns.get() + 1);
            action
        },
        render_result: &|text, max_tokens| {
            let start = Instant::now();
            let ids = renderer.tool_result(text, max_tokens);
            add(&results, start);
            ids
        },
    };
    let (mut parts, seed) = (Parts::default(), Seed(1));
    let mut at = Instant::now();
    // Seconds since the last call.
    let mut lap = || std::mem::replace(&mut at, Instant::now()).elapsed().as_secs_f64();

    let prompts = tasks
        .iter()
        .zip(0..)
        .map(|(task, i)| Ok(DriveTask { prompt: renderer.first_prompt(task)?, seed: seed.child(i) }))
        .collect::<anyhow::Result<Vec<_>>>()?;
    parts.prompts = lap();
    let trees = drive(&mut policy, &mut tools, &protocol, &prompts, &config.drive_settings(), &mut |_| ())?;
    (parts.parsing, parts.results) = (parsing.get(), results.get());
    parts.driver = lap() - parts.parsing - parts.results - outside.replace(0.0);
    let scored = |(task, tree): (&&Task, _)| {
        let scores = Trajectory::all(&tree).iter().map(|t| score(task, &t.transcript())).collect();
        ScoredTree { tree, scores }
    };
    let scored: Vec<ScoredTree> = tasks.iter().zip(trees).map(scored).collect();
    parts.scoring = lap();
    let (groups, entropy) = train_groups(&scored, &config.rules().advantage);
    parts.advantages = lap();
    update(&mut policy, None, &groups, &config.update_settings(0, seed, entropy.high), &mut |_| ())?;
    parts.update = lap() - outside.get();
    let n_first = config.rollout.entropy_tokens;
    let record = |((task, scored), group): ((&&Task, _), _)| tree_record(0, task, scored, group, renderer, n_first);
    let records: Vec<_> = tasks.iter().zip(&scored).zip(&groups).map(record).collect();
    parts.records = lap();
    let mut lines = Vec::new();
    for record in &records {
        serde_json::to_writer(&mut lines, record)?;
        lines.push(b'\n');
    }
    parts.json = lap();
    let facts = Facts {
        n_turns: n_turns.get(),
        n_open_max: policy.n_open_max(),
        n_unique_tokens: groups.iter().map(|g| g.n_unique_tokens()).sum(),
        n_unrolled_tokens: groups.iter().map(|g| g.n_unrolled_tokens()).sum(),
        n_bytes: lines.len(),
    };
    lap();
    drop((records, groups));
    drop((scored, prompts, lines));
    parts.freeing = lap();

    let us = |secs: &mut f64| *secs *= 1e6 / facts.n_turns.max(1) as f64;
    let Parts { prompts, driver, parsing, results, scoring, advantages, update, records, json, freeing } = &mut parts;
    [prompts, driver, parsing, results, scoring, advantages, update, records, json, freeing].into_iter().for_each(us);
    Ok((parts, facts))
}
