//! What is a run told? A typed, closed recipe: defaults, then the algorithm's, then the recipe, then `--set`.

mod check;
mod derive;
#[macro_use]
mod keys;
pub mod lora;
pub mod remote;
mod sections;
pub mod served;
pub mod tasks;
pub mod tools;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

pub use keys::Key;
pub use sections::{
    AdvantageSettings, AlgorithmSettings, CacheSettings, EvalSettings, ExpectSettings, FaultSettings, GigpoSettings,
    KEYS, LoraSettings, LossSettings, McpToolSettings, ModelSettings, PolicySampleSettings, PolicyTrainSettings,
    PromptSettings, PythonToolSettings, RewardSettings, RolloutSettings, SearchToolSettings, Settings, SftSettings,
    Shape, TaskFieldSettings, TaskSettings, ToolSettings, TrainSettings, VisitToolSettings,
};
pub use value::{Arithmetic, Setting, Stored, TrainEngine};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table of defaults.
    Default,
    /// The algorithm's bundle.
    Algorithm,
    /// A recipe.
    Recipe {
        /// The recipe's name, as it was given.
        label: String,
        /// Line, from 1.
        line: usize,
    },
    /// `--set` or a flag that stands for one.
    Set,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Algorithm => f.write_str("default of the algorithm"),
            Source::Recipe { label, line } => write!(f, "{label}, line {line}"),
            Source::Set => f.write_str("--set"),
        }
    }
}

/// What is wrong with a recipe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML.
    #[error("{label}, line {line}: {message}")]
    Syntax {
        /// The recipe.
        label: String,
        /// Line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// No such key.
    #[error("{place}: there is no key `{key}`{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey {
        /// Where it was set.
        place: Source,
        /// What was written.
        key: String,
        /// The valid key most like it, if one is.
        nearest: Option<String>,
    },
    /// Another type or an unknown choice.
    #[error("{place}: `{key}` must be {expected}, not {found}")]
    WrongType {
        /// Where it was set.
        place: Source,
        /// The key.
        key: String,
        /// What belongs there.
        expected: String,
        /// What was written.
        found: String,
    },
    /// Right type, impossible value.
    #[error("{place}: `{key}` is {found} but must be {wanted}")]
    OutOfRange {
        /// Where it was set.
        place: Source,
        /// The key.
        key: String,
        /// The value.
        found: String,
        /// What is possible.
        wanted: String,
    },
    /// Set, but nothing would read it.
    #[error("{place}: `{key}` has no effect: {why}")]
    Ineffective {
        /// Where it was set.
        place: Source,
        /// The key.
        key: String,
        /// Why nothing reads it.
        why: String,
    },
}

/// Every setting of a run, and where each comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The values, by section.
    pub settings: Settings,
    /// By dotted key; keys that are at their defaults are absent.
    pub sources: BTreeMap<String, Source>,
    /// Lines of the recipe that gave way to a set.
    pub left_out: Vec<LeftOut>,
}

/// A line of a recipe that gave way: it means something in the recipe by itself, and nothing under what was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it stands.
    pub place: Source,
    /// Dotted key.
    pub key: String,
    /// Why nothing would read it.
    pub why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}` is left out: {}", self.place, self.key, self.why)
    }
}

impl std::ops::Deref for Config {
    type Target = Settings;
    fn deref(&self) -> &Settings {
        &self.settings
    }
}

/// One line of the listing that `check` prints.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// Dotted key.
    pub key: String,
    /// Its value as TOML; `None` for an option that is off.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// What it means.
    pub doc: &'static str,
    /// Why nothing reads it under the other settings; `None` when something does.
    pub no_effect: Option<String>,
}

/// Decides the defaults of [`BY_BUNDLE`].
const ALGORITHM: &str = "algorithm.name";

/// Keys whose defaults are the algorithm's.
const BY_BUNDLE: [&str; 10] = [
    "rollout.pre_monitor",
    "rollout.expand_per_round",
    "loss.clip",
    "loss.ratio",
    "loss.clip_low",
    "loss.clip_high",
    "loss.dual_clip",
    "loss.aggregation",
    "train.dynamic_sampling",
    "reward.overlong_share",
];

impl Config {
    /// Reads a recipe, called `label` in messages, and then `sets` in order. Lines of the recipe from which a set takes
    /// the effect give way; where a set puts another algorithm in the place of the recipe's, so do the recipe's lines
    /// about its own algorithm's rules. A line that has no effect in the recipe by itself stays an error.
    ///
    /// # Errors
    /// On the first thing that is wrong: syntax, unknown keys, wrong types, impossible values, settings without effect.
    pub fn resolve(recipe: &str, label: &str, sets: &[(String, String)]) -> Result<Config, ConfigError> {
        let mut given = read_recipe(recipe, label)?;
        // The algorithm comes first because it decides other keys' defaults.
        let own = given.remove(ALGORITHM);
        let mut base = Config { settings: Settings::default(), sources: BTreeMap::new(), left_out: Vec::new() };
        if let Some((value, source)) = own {
            base.set(ALGORITHM, &value, source)?;
        }
        let of_recipe = base.algorithm.name;
        let mut alone = base.clone();
        alone.apply_bundle();
        // A recipe that is mended by a set need not be readable by itself; none of its lines gives way.
        let alone = alone.with(&given).ok();
        for (key, text) in sets {
            given.insert(key.clone(), (parse_set(text), Source::Set));
        }
        if let Some((value, source)) = given.remove(ALGORITHM) {
            base.set(ALGORITHM, &value, source)?;
        }
        base.apply_bundle();
        if base.algorithm.name != of_recipe {
            // A line that is about to go is still read, so that what is wrong with it is said.
            base.with(&given)?;
            // Lines written for the recipe's own algorithm say nothing about the one that `--set` puts in its place.
            let name = base.algorithm.name.bundle().name;
            let own = |key: &Key| BY_BUNDLE.contains(&key.path().as_str()).then(|| format!("{name} has its own"));
            while base.give_way(&mut given, &own) {}
        }
        let mut config = base.with(&given)?;
        // One line at a time: without it, another may have an effect again.
        while base.give_way(&mut given, &|key| {
            let meant = alone.as_ref().is_some_and(|alone| check::no_effect(alone, key).is_none());
            check::no_effect(&config, key).filter(|_| meant)
        }) {
            config = base.with(&given)?;
        }
        if !config.sources.contains_key("rollout.initial_rollouts") {
            config.settings.rollout.initial_rollouts = (config.settings.rollout.k / 2).max(1);
        }
        check::check(&config)?;
        Ok(config)
    }

    /// The recipe that resolves to exactly this configuration. Keys without effect are left out, options that are off
    /// too.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in KEYS.iter().filter(|key| check::no_effect(self, key).is_none()) {
            let Some(value) = self.settings.get(key) else { continue };
            if key.section != section {
                let gap = if text.is_empty() { "" } else { "\n" };
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{gap}[{}]", key.section);
                section = key.section;
            }
            let _ = writeln!(text, "{} = {value}", key.name);
        }
        text
    }

    /// Every key with its value, source and meaning, in the order of recipes.
    #[must_use]
    pub fn explain(&self) -> Vec<Explained> {
        let line = |key: &Key| Explained {
            key: key.path(),
            value: self.settings.get(key).map(|v| v.to_string()),
            source: self.source(&key.path()),
            doc: key.doc.trim(),
            no_effect: check::no_effect(self, key),
        };
        KEYS.iter().map(line).collect()
    }

    /// Where the value of a key comes from.
    #[must_use]
    pub fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }

    fn apply_bundle(&mut self) {
        let bundle = self.settings.algorithm.name.bundle();
        let settings = &mut self.settings;
        settings.rollout.pre_monitor = bundle.pre_monitors;
        settings.rollout.expand_per_round = bundle.expand_per_round;
        settings.loss.clip = bundle.clip;
        settings.loss.ratio = bundle.ratio;
        settings.loss.clip_low = bundle.clip_low;
        settings.loss.clip_high = bundle.clip_high;
        settings.loss.dual_clip = bundle.dual_clip;
        settings.loss.aggregation = bundle.aggregation;
        settings.train.dynamic_sampling = bundle.dynamic_sampling;
        settings.reward.overlong_share = bundle.overlong_share;
        if !bundle.penalises {
            settings.rollout.penalty_slope = 0.0;
        }
        if !bundle.entropy_advantage {
            settings.advantage.entropy_weight = 0.0;
        }
        self.sources.extend(BY_BUNDLE.map(|key| (key.to_owned(), Source::Algorithm)));
    }

    /// Takes out the first of the recipe's lines for which `why` has a reason, and notes it; whether there was one.
    fn give_way(&mut self, given: &mut Given, why: &dyn Fn(&Key) -> Option<String>) -> bool {
        for key in KEYS {
            let path = key.path();
            let Some((_, Source::Recipe { .. })) = given.get(&path) else { continue };
            if let Some(why) = why(key)
                && let Some((_, place)) = given.remove(&path)
            {
                self.left_out.push(LeftOut { place, key: path, why });
                return true;
            }
        }
        false
    }

    /// These settings with the given ones on top.
    fn with(&self, given: &Given) -> Result<Config, ConfigError> {
        let mut config = self.clone();
        for (key, (value, source)) in given {
            config.set(key, value, source.clone())?;
        }
        Ok(config)
    }

    fn set(&mut self, path: &str, value: &toml::Value, place: Source) -> Result<(), ConfigError> {
        let Some(key) = KEYS.iter().find(|key| key.path() == path) else {
            return Err(ConfigError::UnknownKey { place, key: path.to_owned(), nearest: nearest(path) });
        };
        if !self.settings.set(key, value) {
            let (expected, found) = (key.expected.to_owned(), describe(value));
            return Err(ConfigError::WrongType { place, key: path.to_owned(), expected, found });
        }
        self.sources.insert(path.to_owned(), place);
        Ok(())
    }
}

type Given = BTreeMap<String, (toml::Value, Source)>;

/// Every leaf of a recipe under its dotted key, with its line.
fn read_recipe(recipe: &str, label: &str) -> Result<Given, ConfigError> {
    let line_of = |at: usize| 1 + recipe.as_bytes()[..at.min(recipe.len())].iter().filter(|&&b| b == b'\n').count();
    let syntax = |error: &toml::de::Error| ConfigError::Syntax {
        label: label.to_owned(),
        line: error.span().map_or(1, |span| line_of(span.start)),
        message: error.message().to_owned(),
    };
    let values: toml::Table = toml::from_str(recipe).map_err(|e| syntax(&e))?;
    let spans = toml::de::DeTable::parse(recipe).map_err(|e| syntax(&e))?;
    let mut given = Given::new();
    flatten("", &values, spans.get_ref(), &mut |key, value, at| {
        let source = Source::Recipe { label: label.to_owned(), line: line_of(at) };
        given.insert(key, (value.clone(), source));
    });
    Ok(given)
}

/// Visits every leaf with its dotted key and the position of its name. A table that no key can stand in counts as a
/// leaf, so that its name is reported and not those of its contents.
fn flatten(
    prefix: &str,
    values: &toml::Table,
    spans: &toml::de::DeTable<'_>,
    visit: &mut dyn FnMut(String, &toml::Value, usize),
) {
    for (name, spanned) in spans {
        let key = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        let Some(value) = values.get(name.get_ref().as_ref()) else { continue };
        let is_section = KEYS.iter().any(|k| k.section == key || k.section.starts_with(&format!("{key}.")));
        match (value, spanned.get_ref()) {
            (toml::Value::Table(inner), toml::de::DeValue::Table(inner_spans)) if is_section => {
                flatten(&key, inner, inner_spans, visit);
            }
            _ => visit(key, value, name.span().start),
        }
    }
}

/// The value of `--set key=value`: TOML if it is TOML, a bare word otherwise.
fn parse_set(text: &str) -> toml::Value {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}"));
    match parsed {
        Ok(mut table) if table.len() == 1 => table.remove("value").unwrap_or(toml::Value::String(text.to_owned())),
        _ => toml::Value::String(text.to_owned()),
    }
}

fn describe(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(_) => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// The valid key (or table) most like `path`: one with the same last part, or the fewest letters away; the first of
/// equals. `None` when nothing is near.
fn nearest(path: &str) -> Option<String> {
    let last = path.rsplit('.').next().unwrap_or(path);
    let keys = KEYS.iter().map(|key| {
        let full = key.path();
        let distance = edit_distance(path, &full);
        // A right name in a wrong table is nearer than any misspelling.
        (distance.min(edit_distance(last, key.name) + 1), full)
    });
    let tables = KEYS.iter().map(|key| (edit_distance(path, key.section), key.section.to_owned()));
    let (distance, key) = tables.chain(keys).min_by_key(|(distance, ..)| *distance)?;
    (distance <= 1 + last.chars().count() / 2).then_some(key)
}

/// Levenshtein's distance between two texts, in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
