//! How long is a whole step of reinforcement learning, and where does the time go? A recipe's step with all its
//! arithmetic, turns of known lengths and tools that answer at once.

use std::io::BufRead as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use aepo::record::Stage;
use aepo::run::{Event, Run};
use aepo_engine::Engine;
use aepo_engine::setup::Setup;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use crate::agent::{QUICKSTART, SMOLLM2, agent, recipe};
use crate::args::{Precision, StepArgs};
use crate::memory;
use crate::rounds::print;
use crate::row::{COMMIT, machine, median};
use crate::script::{Meter, ReadyTools, Steered};
use crate::shapes::Shape;

/// Whose step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Recipe {
    /// The quickstart: 3 million weights, 16 questions of 8 trajectories, 8 minibatches.
    Quickstart,
    /// SmolLM2 with tools: 135 million weights, 12 questions of 8 trajectories, 6 minibatches.
    Smollm2,
}

/// Seconds of a step's parts.
#[derive(Clone, Debug, Default, Serialize)]
struct Phases {
    /// The engine while trees grow.
    rollout: f64,
    /// The engine while old log-probabilities are found, and while it learns.
    update: f64,
    /// What stands around it: prompts, driver, parsing, results.
    controller_rollout: f64,
    /// Scoring, advantages, records and their JSON.
    controller_score: f64,
    /// Batches and losses.
    controller_update: f64,
}

#[derive(Serialize)]
struct StepRow {
    case: String,
    engine: &'static str,
    model: &'static str,
    threads: usize,
    precision: &'static str,
    /// Tokens of all trajectories, unrolled.
    tokens: usize,
    secs: f64,
    rounds: Vec<f64>,
    tokens_per_sec: f64,
    /// Of the median round.
    phases: Phases,
    /// Of the median round, of the whole.
    controller_share: f64,
    peak_rss_mib: Option<f64>,
    detail: serde_json::Value,
    commit: &'static str,
    machine: String,
}

/// What a round was about; the same in all.
struct Facts {
    n_unique_tokens: usize,
    n_unrolled_tokens: usize,
    n_sampled_unrolled: f64,
    n_sampled: usize,
    n_prompt_tokens: usize,
    n_groups_with_signal: usize,
    n_branches: usize,
}

/// `aepo-bench step`
pub fn step(args: &StepArgs) -> anyhow::Result<()> {
    let common = &args.common;
    let text = match args.recipe {
        Recipe::Quickstart => QUICKSTART,
        Recipe::Smollm2 => SMOLLM2,
    };
    let arithmetic = match common.precision {
        Precision::F32 => "\"f32\"",
        Precision::Bf16 => "\"bf16\"",
    };
    // Weights that hardly change: every round does the same work.
    let mut sets = vec![("train.learning_rate", "1e-12".to_owned()), ("model.arithmetic", arithmetic.to_owned())];
    sets.extend(args.tasks.map(|n| ("train.tasks_per_step", n.to_string())));
    sets.extend(args.minibatches.map(|n| ("train.minibatches", n.to_string())));
    let config = recipe(text, &sets)?;
    let system = config.prompt.system.as_ref().map_or(String::new(), |system| format!("{system} "));
    let agent = agent(&system)?;
    let setup = Setup::of(&config, common.threads);
    let (model, engine) = match (args.recipe, &common.weights) {
        (Recipe::Quickstart, Some(dir)) => ("quickstart", Engine::load_as(dir, &setup)?),
        (Recipe::Quickstart, None) => {
            let config = include_bytes!("../../../../recipes/quickstart/model/config.json");
            let weights = include_bytes!("../../../../recipes/quickstart/model/model.safetensors");
            ("quickstart", Engine::from_bytes(Path::new("quickstart"), config, weights, &setup)?)
        }
        (Recipe::Smollm2, Some(dir)) => (Shape::M135.name(), Engine::load_as(dir, &setup)?),
        (Recipe::Smollm2, None) => {
            (Shape::M135.name(), Engine::random_as(Shape::M135.config(), aepo::seed::Seed(1), &setup)?)
        }
    };
    memory::reset();
    let meter = Meter::default();
    let mut policy = Steered::new(engine, &agent.lines, Rc::clone(&meter));
    let mut tools = ReadyTools::new(agent.results.clone(), Rc::clone(&meter));
    let run = Run { config, tasks: agent.tasks.clone(), renderer: agent.renderer.clone() };
    let mut round = || round(&run, &mut policy, &mut tools, &meter);
    let row = |rounds: &[Phases], facts: &Facts| {
        let secs: Vec<f64> = rounds.iter().map(Phases::total).collect();
        let middle = median(&secs);
        let distance = |phases: &&Phases| (phases.total() - middle).abs();
        let phases = rounds.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).cloned().unwrap_or_default();
        let (n_tasks, k) = (run.config.train.tasks_per_step, run.config.rollout.k);
        print(&StepRow {
            case: format!("step {}", args.recipe.name()),
            engine: "aepo",
            model,
            threads: common.threads,
            precision: common.precision.name(),
            tokens: facts.n_unrolled_tokens,
            secs: middle,
            tokens_per_sec: facts.n_unrolled_tokens as f64 / middle.max(1e-12),
            controller_share: 1.0 - (phases.rollout + phases.update) / phases.total().max(1e-12),
            phases,
            rounds: secs,
            peak_rss_mib: memory::peak_mib(),
            detail: json!({
                "tasks": n_tasks,
                "k": k,
                "minibatches": run.config.train.minibatches,
                "prompt_tokens": facts.n_prompt_tokens,
                "tokens_per_trajectory": facts.n_unrolled_tokens as f64 / (n_tasks * k) as f64,
                "sampled_per_trajectory": facts.n_sampled_unrolled,
                "sampled_tokens": facts.n_sampled,
                "unique_tokens": facts.n_unique_tokens,
                "groups_with_signal": facts.n_groups_with_signal,
                "branches": facts.n_branches,
            }),
            commit: COMMIT,
            machine: machine(),
        })
    };
    for _ in 0..common.warm_up {
        round()?;
    }
    if !common.on_request {
        let mut done = Vec::new();
        let mut about = None;
        for _ in 0..common.median_of.max(1) {
            let (phases, facts) = round()?;
            done.push(phases);
            about = Some(facts);
        }
        return about.map_or(Ok(()), |facts| row(&done, &facts));
    }
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        match line?.trim() {
            "go" => {
                let (phases, facts) = round()?;
                row(&[phases], &facts)?;
            }
            "" => (),
            other => anyhow::bail!("a driver says `go` for a round, not `{other}`"),
        }
    }
    Ok(())
}

impl Recipe {
    fn name(self) -> &'static str {
        match self {
            Recipe::Quickstart => "quickstart",
            Recipe::Smollm2 => "smollm2",
        }
    }
}

impl Phases {
    fn total(&self) -> f64 {
        self.rollout + self.update + self.controller_rollout + self.controller_score + self.controller_update
    }
}

/// A step, timed where its stages begin; `meter` tells what of each was spent in the engine and in the tools.
fn round(
    run: &Run,
    policy: &mut Steered<'_>,
    tools: &mut ReadyTools,
    meter: &Meter,
) -> anyhow::Result<(Phases, Facts)> {
    meter.set(0.0);
    let mut phases = Phases::default();
    let (mut stage, mut since) = (Stage::Rollout, Instant::now());
    let mut end = |stage: Stage| {
        let (all, inside) = (std::mem::replace(&mut since, Instant::now()).elapsed().as_secs_f64(), meter.replace(0.0));
        match stage {
            Stage::Rollout => {
                phases.rollout += inside;
                phases.controller_rollout += all - inside;
            }
            Stage::Score => phases.controller_score += all,
            Stage::OldLogprobs | Stage::RefLogprobs | Stage::Optimise => {
                phases.update += inside;
                phases.controller_update += all - inside;
            }
        }
    };
    let mut on = |event: Event| {
        if let Event::Stage(next) = event {
            end(std::mem::replace(&mut stage, next));
        }
    };
    let done = run.step(0, policy, None, tools, &mut on)?;
    let lines = done.trees.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>()?;
    drop(lines);
    end(Stage::Score);
    let record = &done.record;
    let prompts: usize = done.trees.iter().map(|tree| tree.nodes[0].tokens.len()).sum();
    let facts = Facts {
        n_unique_tokens: record.n_unique_tokens,
        n_unrolled_tokens: record.n_unrolled_tokens,
        n_sampled_unrolled: record.sampled_per_trajectory,
        n_sampled: record.n_sampled_tokens,
        n_prompt_tokens: prompts / done.trees.len().max(1),
        n_groups_with_signal: record.n_groups_with_signal,
        n_branches: record.n_branches,
    };
    Ok((phases, facts))
}
