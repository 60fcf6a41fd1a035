//! What is a comparison about? `compare.json`, written before the first run: recipe, settings, algorithms, seeds.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use aepo_engine::checkpoint::write_whole;
use serde::{Deserialize, Serialize};

use super::plan::{Plan, conflict};
use crate::commands::train::Change;
use crate::error::usage;
use crate::run_dir::{check_empty, lock, make, read_json};

/// Name of the file.
const FILE: &str = "compare.json";

/// Settings by dotted key, as TOML.
type Values = BTreeMap<String, String>;

/// What a comparison was begun with.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// What the recipe is called.
    pub recipe: String,
    /// Seeds asked for so far: 1 to this.
    pub seeds: u64,
    /// Training steps of each run.
    pub steps: u64,
    /// Threads of each run.
    pub threads: usize,
    /// By algorithm, every setting that has an effect there.
    pub algorithms: BTreeMap<String, Values>,
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

    /// Fails where the settings are not those that the comparison began with.
    pub fn check(&self, out: &Path, plan: &Plan) -> anyhow::Result<()> {
        let label = out.join(FILE).display().to_string();
        for planned in &plan.algorithms {
            let Some(own) = self.algorithms.get(planned.name) else { continue };
            let asked = values(&planned.config);
            for key in own.keys().chain(asked.keys()) {
                let show = |values: &Values| values.get(key).cloned().unwrap_or_else(|| "not set".to_owned());
                let (was, is) = (show(own), show(&asked));
                if was != is {
                    return Err(conflict(&label, &Change { key: key.clone(), was, is }));
                }
            }
        }
        Ok(())
    }

    /// Takes the directory for this process and writes down what is compared now.
    pub fn open(out: &Path, plan: &Plan, seeds: u64, earlier: Option<Study>) -> anyhow::Result<File> {
        make(out)?;
        let lock = lock(out)?;
        let study = Study {
            recipe: plan.recipe.clone(),
            seeds: seeds.max(earlier.map_or(0, |study| study.seeds)),
            steps: plan.steps,
            threads: plan.threads,
            algorithms: plan.algorithms.iter().map(|p| (p.name.to_owned(), values(&p.config))).collect(),
        };
        write_whole(&out.join(FILE), (serde_json::to_string_pretty(&study)? + "\n").as_bytes())?;
        Ok(lock)
    }
}

/// What has an effect, but for the seed, of which there are several.
fn values(config: &aepo::config::Config) -> Values {
    let lines = config.explain().into_iter().filter(|line| line.no_effect.is_none() && line.key != "train.seed");
    lines.filter_map(|line| Some((line.key, line.value?))).collect()
}
