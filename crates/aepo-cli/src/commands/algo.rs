//! What does each algorithm compute? Its rules in words, and its mathematics on numbers from standard input.

use std::io::{Read as _, Write as _};

use aepo::algo::Algorithm;
use aepo::apply::{Applied, ApplyError, Batch, apply, branch, budget};
use aepo::rollout::branch::Chance;
use anyhow::Context as _;
use serde::Serialize;

use crate::args::{AlgoApplyArgs, AlgoBranchArgs, AlgoBudgetArgs, AlgoCommand, AlgoShowArgs};
use crate::error::{Usage, usage};
use crate::recipe::parse_sets;

/// `aepo algo …`
pub fn algo(command: &AlgoCommand) -> anyhow::Result<()> {
    match command {
        AlgoCommand::List => print(&list()),
        AlgoCommand::Show(args) => print(&show(args)?),
        AlgoCommand::Apply(args) => print(&json(&applied(args)?)?),
        AlgoCommand::Budget(args) => print(&json(&divided(args)?)?),
        AlgoCommand::Branch(args) => print(&json(&decided(args)?)?),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

fn json<T: Serialize>(value: &T) -> anyhow::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

fn named(name: &str) -> anyhow::Result<Algorithm> {
    let known = || Algorithm::ALL.map(|a| a.bundle().name).join(", ");
    Algorithm::named(name)
        .ok_or_else(|| usage(format!("there is no algorithm `{name}`"), &format!("one of {}", known())))
}

/// Whatever is wrong with settings or input is wrong use.
fn refuse(error: ApplyError) -> anyhow::Error {
    Usage { message: error.to_string(), hint: None }.into()
}

fn list() -> String {
    let bundles = Algorithm::ALL.map(Algorithm::bundle);
    let width = bundles.iter().map(|b| b.name.len()).max().unwrap_or(0);
    let line = |b: &aepo::algo::Bundle| {
        let rules: Vec<&str> = b.describe().iter().filter(|s| KEY_STAGES.contains(&s.stage)).map(|s| s.rule).collect();
        format!("{:width$}  {} ({})\n", b.name, rules.join("; "), b.source)
    };
    bundles.iter().map(line).collect()
}

/// The stages that tell algorithms apart at a glance.
const KEY_STAGES: [&str; 3] = ["branch", "advantage", "objective"];

fn show(args: &AlgoShowArgs) -> anyhow::Result<String> {
    let bundle = named(&args.name)?.bundle();
    let mut text = format!("{} ({})\n", bundle.name, bundle.source);
    for stage in bundle.describe() {
        text += &format!("\n{:12} {}\n{:12} {}\n", stage.stage, stage.rule, "", stage.formula);
    }
    text += "\nConstants, each changed by --set or a line of a recipe:\n";
    // What nothing reads under this algorithm is no constant of it.
    for line in aepo::apply::constants(named(&args.name)?).map_err(refuse)? {
        let value = line.value.unwrap_or_else(|| "off".to_owned());
        text += &format!("  {} = {value}  # {}\n", line.key, line.doc);
    }
    Ok(text)
}

fn applied(args: &AlgoApplyArgs) -> anyhow::Result<Applied> {
    let algorithm = named(&args.algo)?;
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).context("cannot read the batch from standard input")?;
    let batch = Batch::from_json(&text).map_err(refuse)?;
    apply(algorithm, &parse_sets(&args.sets)?, &batch).map_err(refuse)
}

/// What `budget` prints.
#[derive(Serialize)]
struct Division {
    n_global: usize,
    n_branch: usize,
}

fn divided(args: &AlgoBudgetArgs) -> anyhow::Result<Division> {
    if args.k == 0 {
        return Err(usage("--k 0: there is nothing to divide", "a task has one trajectory at least"));
    }
    let (root, tool) = (finite("--root-entropy", args.root_entropy)?, finite("--tool-entropy", args.tool_entropy)?);
    let split = budget(named(&args.algo)?, &parse_sets(&args.sets)?, args.k, root, tool).map_err(refuse)?;
    Ok(Division { n_global: split.n_global, n_branch: split.n_branch })
}

/// What `branch` prints. A rule that draws has no decision, only its probability.
#[derive(Serialize)]
struct Fork {
    probability: f64,
    branch: Option<bool>,
}

fn decided(args: &AlgoBranchArgs) -> anyhow::Result<Fork> {
    let delta = finite("--entropy-delta", args.entropy_delta)?;
    let chance = branch(named(&args.algo)?, &parse_sets(&args.sets)?, delta, args.consecutive).map_err(refuse)?;
    Ok(match chance {
        Chance::Decided(verdict) => Fork { probability: verdict.probability, branch: Some(verdict.fork) },
        Chance::Drawn(probability) => Fork { probability, branch: None },
    })
}

fn finite(flag: &str, value: f64) -> anyhow::Result<f64> {
    match value.is_finite() {
        true => Ok(value),
        false => Err(usage(format!("{flag} {value}: must be a number"), "entropies are in nats per token")),
    }
}
