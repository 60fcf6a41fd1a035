//! How do many replicas behave? Five questions, each a table; all simulated.

use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

use crate::args::SimulateArgs;
use crate::memory;
use crate::rounds::print;
use crate::row::COMMIT;
use crate::simulate::assumed;
use crate::simulate::picture::{Curve, Picture, Scale, draw};
use crate::simulate::world::{Fleet, Routing, TICK_SECS, Update, load_secs};
use crate::simulate::{Outcome, Rule, Scenario, simulate as run};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// What does it matter who chooses the replica?
    Routing,
    /// 8 to 512 replicas, 10,000 to 1,000,000 trajectories at once.
    Fleet,
    /// How fast must answers be read?
    Reading,
    /// What does it cost to bring other weights to all replicas?
    Weights,
    /// What does it cost when replicas die?
    Deaths,
}

/// Leaves of a tree.
const K: usize = 16;
/// Replicas where their number is not the question.
const REPLICAS: usize = 64;

/// Replicas as they are assumed, and the settings that a recipe has unless it says otherwise.
pub fn fleet(n_replicas: usize) -> Fleet {
    Fleet {
        routing: Routing::Home,
        n_replicas,
        speed: assumed::GPU,
        max_in_flight: 256,
        deadline_secs: 600.0,
        try_secs: 300.0,
        read_secs_per_token: 0.0,
        n_readers: 1,
        deaths: Vec::new(),
        updates: Vec::new(),
    }
}

fn scenario(n_replicas: usize, n_paths: usize, rule: Rule, seed: u64) -> Scenario {
    let n_trees = n_paths.div_ceil(K);
    Scenario { fleet: fleet(n_replicas), work: assumed::AGENT, rule, k: K, n_trees, seed }
}

/// One simulated step.
#[derive(Serialize)]
struct SimulatedRow<'a> {
    case: String,
    /// Nothing here was measured on replicas.
    simulated: bool,
    n_replicas: usize,
    routing: &'static str,
    rule: &'static str,
    seed: u64,
    #[serde(flatten)]
    outcome: &'a Outcome,
    commit: &'static str,
}

/// Simulates, prints the line, and says on standard error what it took here.
fn row(case: &str, scenario: &Scenario) -> anyhow::Result<Outcome> {
    memory::reset();
    let start = std::time::Instant::now();
    let outcome = run(scenario).with_context(|| case.to_owned())?;
    let mib = memory::peak_mib().unwrap_or(0.0);
    eprintln!("{case}: simulated in {:.1} s, {mib:.0} MiB at most", start.elapsed().as_secs_f64());
    let rule = match scenario.rule {
        Rule::Aepo => "aepo",
        Rule::Grpo => "grpo",
    };
    let Scenario { fleet, seed, .. } = scenario;
    let (n_replicas, routing) = (fleet.n_replicas, fleet.routing.name());
    let case = format!("simulate {case}");
    print(&SimulatedRow {
        case,
        simulated: true,
        n_replicas,
        routing,
        rule,
        seed: *seed,
        outcome: &outcome,
        commit: COMMIT,
    })?;
    Ok(outcome)
}

/// `aepo-bench simulate`
pub fn simulate(args: &SimulateArgs) -> anyhow::Result<()> {
    let figure = args.figure.as_deref();
    match args.table {
        Table::Routing => routing(args.seed, figure),
        Table::Fleet => fleets(args.seed, figure),
        Table::Reading => reading(args.seed, figure),
        Table::Weights => weights(args.seed, figure),
        Table::Deaths => deaths(args.seed, figure),
    }
}

fn save(figure: Option<&Path>, picture: &Picture<'_>) -> anyhow::Result<()> {
    let Some(path) = figure else { return Ok(()) };
    std::fs::write(path, draw(picture).standalone()).with_context(|| format!("{} cannot be written", path.display()))
}

/// Replicas where their number is the question.
const SIZES: [usize; 4] = [8, 32, 128, 512];

/// What is found at each of these places across.
fn curve(name: &str, across: &[usize], mut up: impl FnMut(usize) -> anyhow::Result<f64>) -> anyhow::Result<Curve> {
    let points = across.iter().enumerate().map(|(i, &place)| Ok((i as f64, up(place)?)));
    Ok(Curve { name: name.to_owned(), points: points.collect::<anyhow::Result<_>>()? })
}

fn names(places: &[usize]) -> Vec<String> {
    places.iter().map(usize::to_string).collect()
}

fn routing(seed: u64, figure: Option<&Path>) -> anyhow::Result<()> {
    const LOADS: [usize; 4] = [64, 256, 512, 1024];
    let all = [Routing::Random, Routing::RoundRobin, Routing::LeastBusy, Routing::Fifo, Routing::Home];
    let mut curves = Vec::new();
    for routing in all {
        curves.push(curve(routing.name(), &LOADS, |load| {
            let mut scenario = scenario(REPLICAS, REPLICAS * load, Rule::Aepo, seed);
            scenario.fleet.routing = routing;
            Ok(row(&format!("routing {load} per replica"), &scenario)?.hit)
        })?);
    }
    let places = names(&LOADS);
    let (across, up) = ("trajectories of the step per replica", "share of the prompts' tokens that was cached, %");
    save(figure, &Picture { title: "Who chooses the replica", across, up, scale: Scale::Share, places, curves })
}

fn fleets(seed: u64, figure: Option<&Path>) -> anyhow::Result<()> {
    let mut curves = Vec::new();
    for (n_paths, name) in [(10_000, "10,000"), (100_000, "100,000"), (1_000_000, "1,000,000")] {
        curves.push(curve(name, &SIZES, |n_replicas| {
            let scenario = scenario(n_replicas, n_paths, Rule::Grpo, seed);
            Ok(row(&format!("fleet {n_replicas}x{n_paths}"), &scenario)?.tokens_per_replica_sec)
        })?);
    }
    let places = names(&SIZES);
    let (across, up) = ("replicas", "sampled tokens per second and replica");
    save(figure, &Picture { title: "Trajectories at once", across, up, scale: Scale::Count, places, curves })
}

fn reading(seed: u64, figure: Option<&Path>) -> anyhow::Result<()> {
    let mut curves = Vec::new();
    for (micros, n_readers) in [(4.0, 1), (4.0, 4), (1.0, 1), (0.0, 1)] {
        let readers = if n_readers == 1 { "one reader".to_owned() } else { format!("{n_readers} readers") };
        let name = if micros == 0.0 { "no time".to_owned() } else { format!("{micros} µs, {readers}") };
        curves.push(curve(&name, &SIZES, |n_replicas| {
            let mut scenario = scenario(n_replicas, n_replicas * 256, Rule::Aepo, seed);
            (scenario.fleet.read_secs_per_token, scenario.fleet.n_readers) = (micros * 1e-6, n_readers);
            Ok(row(&format!("reading {micros} µs by {n_readers}"), &scenario)?.tokens_per_replica_sec)
        })?);
    }
    let places = names(&SIZES);
    let (across, up) = ("replicas", "sampled tokens per second and replica");
    save(figure, &Picture { title: "Time to read a token's answer", across, up, scale: Scale::Count, places, curves })
}

/// How bytes get to replicas, reckoned and not simulated.
#[derive(Serialize)]
struct BytesRow {
    case: String,
    simulated: bool,
    n_replicas: usize,
    /// Of the weights, and those that the store gives in all.
    bytes: f64,
    bytes_from_store: f64,
    /// All read the store, which is what is built.
    secs_from_store: f64,
    /// Whoever has them gives them on, one after the other; not built.
    secs_doubling: f64,
    /// Each gives on what it gets while it gets it; not built.
    secs_chain: f64,
    commit: &'static str,
}

fn weights(seed: u64, figure: Option<&Path>) -> anyhow::Result<()> {
    let kinds =
        [("LoRA 16", assumed::lora_bytes(16)), ("LoRA 64", assumed::lora_bytes(64)), ("whole", assumed::FULL_BYTES)];
    let mut curves = Vec::new();
    for (name, bytes) in kinds {
        curves.push(curve(name, &SIZES, |n_replicas| {
            let (link, apply) = (bytes / assumed::NIC_BYTES_PER_SEC, bytes / assumed::APPLY_BYTES_PER_SEC);
            let secs_from_store = load_secs(bytes, n_replicas);
            print(&BytesRow {
                case: format!("simulate bytes {name}"),
                simulated: true,
                n_replicas,
                bytes,
                bytes_from_store: bytes * n_replicas as f64,
                secs_from_store,
                secs_doubling: link * (n_replicas as f64 + 1.0).log2().ceil() + apply,
                secs_chain: link + assumed::ROUND_TRIP_SECS * n_replicas as f64 + apply,
                commit: COMMIT,
            })?;
            Ok(secs_from_store.log10())
        })?);
    }
    for n_replicas in [8, REPLICAS] {
        let mut scenario = scenario(n_replicas, n_replicas * 256, Rule::Aepo, seed);
        row("weights none", &scenario)?;
        for (name, bytes) in kinds {
            scenario.fleet.updates = vec![Update { at_secs: 60.0, bytes, whole: name == "whole" }];
            row(&format!("weights {name}"), &scenario)?;
        }
    }
    let places = names(&SIZES);
    let (across, up) = ("replicas", "seconds until all have read them from one store");
    save(figure, &Picture { title: "Other weights for all", across, up, scale: Scale::PowerOfTen, places, curves })
}

fn deaths(seed: u64, figure: Option<&Path>) -> anyhow::Result<()> {
    let mut curves = Vec::new();
    let mut calm = None;
    // Which die at 60 s, and when they are back.
    let cases = [("none", 0, 0.0), ("1, for 60 s", 1, 120.0), ("16, for 60 s", 16, 120.0), ("16, for good", 16, 1e9)];
    for (name, n_dead, is_back) in cases {
        let mut scenario = scenario(REPLICAS, REPLICAS * 256, Rule::Aepo, seed);
        scenario.fleet.deaths = (0..n_dead).map(|i| (i * REPLICAS / n_dead, 60.0, is_back)).collect();
        let outcome = row(&format!("deaths {name}"), &scenario)?;
        let trees = calm.get_or_insert_with(|| outcome.trees.clone());
        anyhow::ensure!(*trees == outcome.trees, "a death changed the trees: {trees} and {}", outcome.trees);
        let points = outcome.rates.iter().enumerate();
        let points = points.map(|(i, rate)| ((i as f64 + 0.5) * TICK_SECS, rate / 1000.0)).collect();
        curves.push(Curve { name: name.to_owned(), points });
    }
    curves.rotate_left(1);
    let (across, up) = ("seconds since the beginning", "thousand tokens in answers per second");
    save(figure, &Picture { title: "Replicas that die", across, up, scale: Scale::Count, places: Vec::new(), curves })
}
