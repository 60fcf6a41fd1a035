//! Under which settings is each algorithm trained? Those of the recipe and of `--set`, as far as they mean anything to
//! it.

use std::path::Path;

use aepo::algo::Algorithm;
use aepo::config::{Config, ConfigError, Source};
use aepo::data::countries::Split;
use aepo_tools::hub::What;
use anyhow::Context as _;

use super::study::Study;
use crate::args::CompareArgs;
use crate::commands::train::{Change, changes};
use crate::error::usage;
use crate::machine::n_cores;
use crate::progress::Teller;
use crate::recipe::{self, Recipe};
use crate::run_dir::CONFIG;
use crate::source;
use crate::world;

/// Answers per question that Pass@5 needs.
const N_SAMPLES: usize = 5;
/// Stretches of training between measurements, where the recipe measures only before and after.
const N_STRETCHES: u64 = 4;

/// Settings that belong to the command, with its argument for them.
const NOT_SET: [(&str, &str); 2] = [("algorithm.name", "--algos"), ("train.seed", "--seeds")];

/// What is compared.
pub struct Plan {
    /// What the recipe is called.
    pub recipe: String,
    /// Those asked for, in that order, and then those that are in the comparison already.
    pub algorithms: Vec<Planned>,
    /// Training steps of each run.
    pub steps: u64,
    /// Threads of each run.
    pub threads: usize,
    /// What is set besides the recipe, by hand and here.
    pub sets: Vec<(String, String)>,
    /// What somebody should know about the settings.
    pub notes: Vec<String>,
}

/// One algorithm.
pub struct Planned {
    /// Its name.
    pub name: &'static str,
    /// Whether this command asks for it.
    pub asked_for: bool,
    /// What its runs are told by `--set`.
    pub sets: Vec<(String, String)>,
    /// What its runs train under; the seed is none of theirs.
    pub config: Config,
}

/// A `--set` that one algorithm has no use for.
struct Ignored {
    key: String,
    why: ConfigError,
}

impl Plan {
    /// Resolves the settings of every algorithm that is asked for or in the comparison already.
    pub fn make(args: &CompareArgs, recipe: &Recipe, earlier: Option<&Study>) -> anyhow::Result<Plan> {
        let mut names = asked_for(args)?;
        let n_asked_for = names.len();
        for own in earlier.iter().flat_map(|study| &study.algorithms) {
            let name = algorithm(&own.name)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut sets = recipe::parse_sets(&args.sets)?;
        if let Some((key, flag)) = NOT_SET.iter().find(|(key, _)| sets.iter().any(|(set, _)| set == key)) {
            return Err(usage(format!("--set {key}: a comparison takes it from {flag}"), ""));
        }
        let is_set = |sets: &[(String, String)], key: &str| sets.iter().any(|(set, _)| set == key);
        sets.extend(args.steps.map(|n| ("train.steps".to_owned(), n.to_string())));
        sets.extend(args.threads.map(|n| ("train.threads".to_owned(), n.to_string())));
        let mut notes = Vec::new();
        let first = resolve(recipe, names[0], &sets)?.config;
        if first.eval.every == 0 && !is_set(&sets, "eval.every") {
            let every = (first.train.steps / N_STRETCHES).max(1);
            sets.push(("eval.every".to_owned(), every.to_string()));
            notes.push(format!("eval.every is {every}: learning curves need measurements on the way"));
        }
        if first.eval.samples < N_SAMPLES && !is_set(&sets, "eval.samples") {
            sets.push(("eval.samples".to_owned(), N_SAMPLES.to_string()));
            notes.push(format!("eval.samples is {N_SAMPLES}: Pass@{N_SAMPLES} needs as many answers per question"));
        }
        let mut resolved = Vec::new();
        for name in &names {
            resolved.push(resolve(recipe, name, &sets)?);
        }
        notes.extend(ignored(&names, &mut resolved)?);
        let threads = threads(args, &first, earlier);
        let planned = |(i, (name, mut one)): (usize, (&'static str, Resolved))| {
            one.config.settings.train.threads = threads;
            let left_out: Vec<&str> = one.config.left_out.iter().map(|line| line.key.as_str()).collect();
            if !left_out.is_empty() {
                notes.push(format!("{name} leaves out lines of the recipe: {}", left_out.join(", ")));
            }
            Planned { name, asked_for: i < n_asked_for, sets: one.sets, config: one.config }
        };
        let mut algorithms: Vec<Planned> = names.into_iter().zip(resolved).enumerate().map(planned).collect();
        // What no run could start with is said once.
        let config = &algorithms[0].config;
        world::tasks(config, Split::Train, &mut |note| notes.push(note.to_owned()))?;
        world::tasks(config, Split::HeldOut, &mut |note| notes.push(note.to_owned()))?;
        let name = config.model.init.clone();
        // All runs begin with the same commit of a hub's model, those of later commands too.
        let before = earlier.and_then(|study| study.setting("model.init")).filter(|own| source::is_pinned(own, &name));
        let named = source::named(before.as_deref().unwrap_or(&name))?;
        let (_, pinned) = source::bring(&named, What::Everything, args.net.offline, &mut Teller::new(args.telling))?;
        if let Some(pinned) = pinned.map(|pinned| pinned.to_string()).filter(|pinned| *pinned != name) {
            for planned in &mut algorithms {
                planned.config.settings.model.init.clone_from(&pinned);
                planned.sets.retain(|(key, _)| key != "model.init");
                planned.sets.push(("model.init".to_owned(), pinned.clone()));
            }
        }
        let steps = algorithms[0].config.train.steps;
        sets.retain(|(key, _)| key != "train.threads");
        Ok(Plan { recipe: recipe.name.clone(), algorithms, steps, threads, sets, notes })
    }
}

/// The algorithms of the command line.
fn asked_for(args: &CompareArgs) -> anyhow::Result<Vec<&'static str>> {
    if args.seeds == 0 {
        return Err(usage("--seeds 0: there is nothing to train", "--seeds N takes the seeds 1 to N"));
    }
    if args.jobs == 0 {
        return Err(usage("--jobs 0: no run could ever start", ""));
    }
    let mut names = Vec::new();
    for name in &args.algos {
        let name = algorithm(name.trim())?;
        if names.contains(&name) {
            return Err(usage(format!("--algos: `{name}` is named twice"), ""));
        }
        names.push(name);
    }
    Ok(names)
}

/// The algorithm of that name, as its bundle writes it.
fn algorithm(name: &str) -> anyhow::Result<&'static str> {
    let names = Algorithm::ALL.map(|a| a.bundle().name);
    names.into_iter().find(|known| *known == name).ok_or_else(|| {
        usage(format!("--algos: there is no algorithm `{name}`"), &format!("one of {}", names.join(", ")))
    })
}

/// Threads of each run: what is set, else what the comparison began with, else an equal part of the machine.
fn threads(args: &CompareArgs, config: &Config, earlier: Option<&Study>) -> usize {
    match (config.source("train.threads"), earlier) {
        (Source::Default, Some(study)) => study.threads,
        (Source::Default, None) => (n_cores() / args.jobs).max(1),
        _ => config.train.threads,
    }
}

struct Resolved {
    config: Config,
    sets: Vec<(String, String)>,
    ignored: Vec<Ignored>,
}

/// The settings of one algorithm, without those of `sets` that mean nothing to it.
fn resolve(recipe: &Recipe, name: &str, sets: &[(String, String)]) -> anyhow::Result<Resolved> {
    let (mut sets, mut ignored) = (sets.to_vec(), Vec::new());
    loop {
        let mut all = vec![("algorithm.name".to_owned(), name.to_owned())];
        all.extend_from_slice(&sets);
        let error = match recipe::resolve(recipe, &all) {
            Ok(config) => return Ok(Resolved { config, sets: all, ignored }),
            Err(error) => error,
        };
        match error.downcast_ref::<ConfigError>() {
            Some(why @ ConfigError::Ineffective { place: Source::Set, key, .. }) => {
                let n_before = sets.len();
                sets.retain(|(set, _)| set != key);
                if sets.len() == n_before {
                    return Err(error);
                }
                ignored.push(Ignored { key: key.clone(), why: why.clone() });
            }
            _ => return Err(error).context(format!("algorithm {name}")),
        }
    }
}

/// What is to be said about settings that mean nothing to some algorithms; those that mean nothing to all are an error.
fn ignored(names: &[&'static str], resolved: &mut [Resolved]) -> anyhow::Result<Vec<String>> {
    let mut keys: Vec<String> = resolved.iter().flat_map(|one| one.ignored.iter().map(|i| i.key.clone())).collect();
    keys.sort();
    keys.dedup();
    let mut notes = Vec::new();
    for key in keys {
        let ignores = |one: &Resolved| one.ignored.iter().any(|i| i.key == key);
        if resolved.iter().all(ignores) {
            let why = resolved[0].ignored.iter().find(|i| i.key == key).map(|i| i.why.clone());
            return Err(why.map_or_else(|| usage(format!("--set {key} has no effect"), ""), Into::into));
        }
        let without: Vec<&str> =
            names.iter().zip(&*resolved).filter(|(_, one)| ignores(one)).map(|(n, _)| *n).collect();
        notes.push(format!("--set {key} means nothing to {}", without.join(", ")));
    }
    Ok(notes)
}

/// Fails where a run on the disk was trained under other settings.
pub fn check_run(dir: &Path, planned: &Planned, seed: u64) -> anyhow::Result<()> {
    let path = dir.join(CONFIG);
    if !path.is_file() {
        return Ok(());
    }
    let label = path.display().to_string();
    let text = std::fs::read_to_string(&path).with_context(|| label.clone())?;
    let own = Config::resolve(&text, &label, &[])?;
    let mut asked = planned.config.clone();
    asked.settings.train.seed = seed;
    match changes(&own, &asked).next() {
        None => Ok(()),
        Some(change) => Err(conflict(&label, &change)),
    }
}

/// Says which setting is no longer the comparison's.
pub fn conflict(label: &str, change: &Change) -> anyhow::Error {
    let Change { key, was, is } = change;
    let message = format!("{label}: `{key}` is {was} in this comparison, and now {is} is asked for");
    usage(message, "a comparison keeps its settings; start another with another --out")
}
