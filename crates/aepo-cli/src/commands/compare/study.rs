//! What is a comparison about? `compare.json`, written before the first run: recipe, settings, algorithms, seeds.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use aepo::config::Config;
use aepo_engine::checkpoint::write_whole;
use serde::{Deserialize, Serialize};

use super::plan::{Plan, conflict};
use crate::commands::train::Change;
use crate::error::usage;
use crate::machine;
use crate::run_dir::{check_empty, lock, make, read_json};

/// Name of the file.
const FILE: &str = "compare.json";

/// Settings by dotted key, as TOML.
type Values = BTreeMap<String, String>;

/// What a comparison was begun with, and what was added to it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// The recipe, as it was named.
    pub recipe: String,
    /// Seeds asked for so far: 1 to this.
    pub seeds: u64,
    /// Training steps of each run.
    pub steps: u64,
    /// Threads of each run.
    pub threads: usize,
    /// What was set besides the recipe, by hand or by the comparison.
    pub sets: Values,
    /// In the order of the report.
    pub algorithms: Vec<Settled>,
    /// Each version of the program that trained.
    pub versions: Vec<String>,
    /// Each commit of it, where it is known.
    pub commits: Vec<String>,
    /// Each machine that trained.
    pub machines: Vec<String>,
}

/// An algorithm with its settings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// Its name.
    pub name: String,
    /// Every setting that has an effect.
    pub settings: Values,
}

impl Study {
    /// The comparison in a directory; `None` where there is none yet. A directory with anything else is refused.
    pub fn read(out: &Path) -> anyhow::Result<Option<Study>> {
        let study = read_json(&out.join(FILE)).map_err(|e| usage(format!("{e:#}"), ""))?;
        if study.is_none() {
            check_empty(out, &["lock", "compare.tmp"], "--out DIR takes another directory")?;
        }
        Ok(study)
    }

    /// The comparison that a plan begins.
    pub fn new(recipe: &str, plan: &Plan, seeds: u64) -> Study {
        Study {
            recipe: recipe.to_owned(),
            seeds,
            steps: plan.steps,
            threads: plan.threads,
            sets: plan.sets.iter().cloned().collect(),
            algorithms: Vec::new(),
            versions: Vec::new(),
            commits: Vec::new(),
            machines: Vec::new(),
        }
        .with(plan, seeds)
    }

    /// Adds the algorithms and seeds of a plan; fails where its settings are not those that the comparison began with.
    pub fn add(self, out: &Path, plan: &Plan, seeds: u64) -> anyhow::Result<Study> {
        let label = out.join(FILE).display().to_string();
        for own in &self.algorithms {
            let Some(planned) = plan.algorithms.iter().find(|p| p.name == own.name) else { continue };
            let asked = values(&planned.config);
            for key in own.settings.keys().chain(asked.keys()) {
                let show = |values: &Values| values.get(key).cloned().unwrap_or_else(|| "not set".to_owned());
                let (was, is) = (show(&own.settings), show(&asked));
                if was != is {
                    return Err(conflict(&label, &Change { key: key.clone(), was, is }));
                }
            }
        }
        Ok(self.with(plan, seeds))
    }

    fn with(mut self, plan: &Plan, seeds: u64) -> Study {
        for planned in &plan.algorithms {
            if !self.algorithms.iter().any(|own| own.name == planned.name) {
                let settings = values(&planned.config);
                self.algorithms.push(Settled { name: planned.name.to_owned(), settings });
            }
        }
        self.seeds = self.seeds.max(seeds);
        self.sets.extend(plan.sets.iter().cloned());
        self
    }

    /// A text among the settings, the same for all algorithms.
    pub fn setting(&self, key: &str) -> Option<String> {
        let text = self.algorithms.first()?.settings.get(key)?;
        let table: toml::Table = toml::from_str(&format!("value = {text}")).ok()?;
        Some(table.get("value")?.as_str()?.to_owned())
    }

    /// Writes down which program on which machine trains now.
    pub fn sign(&mut self) {
        let remember = |list: &mut Vec<String>, text: String| {
            if !text.is_empty() && !list.contains(&text) {
                list.push(text);
            }
        };
        remember(&mut self.versions, env!("CARGO_PKG_VERSION").to_owned());
        remember(&mut self.commits, env!("AEPO_COMMIT").to_owned());
        remember(&mut self.machines, machine::describe());
    }

    /// Takes the directory for this process, until what is returned is dropped, and writes the file.
    pub fn open(&self, out: &Path) -> anyhow::Result<File> {
        make(out)?;
        let lock = lock(out)?;
        write_whole(&out.join(FILE), (serde_json::to_string_pretty(self)? + "\n").as_bytes())?;
        Ok(lock)
    }

    /// The command that makes this comparison.
    pub fn command(&self) -> String {
        let names: Vec<&str> = self.algorithms.iter().map(|own| own.name.as_str()).collect();
        let mut text =
            format!("aepo compare {} --algos {} --seeds {}", word(&self.recipe), names.join(","), self.seeds);
        for (key, value) in &self.sets {
            text += &format!(" --set {}", word(&format!("{key}={value}")));
        }
        text + &format!(" --threads {}", self.threads)
    }
}

/// What has an effect, but for the seed, of which there are several.
fn values(config: &Config) -> Values {
    let lines = config.explain().into_iter().filter(|line| line.no_effect.is_none() && line.key != "train.seed");
    lines.filter_map(|line| Some((line.key, line.value?))).collect()
}

/// A word as a shell reads it.
pub fn word(text: &str) -> String {
    match text.chars().all(|c| c.is_alphanumeric() || "-_./=,:+".contains(c)) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
