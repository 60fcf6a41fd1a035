//! Which settings does a command run under? A recipe by name or path, `--set`, and where its relative paths point.

use std::path::{Path, PathBuf};

use aepo::config::{Config, Source};
use aepo_tools::search::source::SourceName;

use crate::args::Sets;
use crate::assets::{QUICKSTART, RANDOM, RECIPES};
use crate::error::usage;
use crate::machine::n_cores;
use crate::source::hub_name;

/// A recipe before it is read.
pub struct Recipe {
    /// What runs of it are called.
    pub name: String,
    /// What messages call it.
    pub label: String,
    /// TOML.
    pub text: String,
    /// Where relative paths in it start.
    pub dir: PathBuf,
}

/// Finds a recipe: one inside the program by name, any other by path.
pub fn find(name: &str) -> anyhow::Result<Recipe> {
    if let Some((name, text)) = RECIPES.iter().find(|(builtin, _)| *builtin == name) {
        return Ok(Recipe {
            name: (*name).to_owned(),
            label: format!("recipe {name}"),
            text: (*text).to_owned(),
            dir: PathBuf::new(),
        });
    }
    let path = Path::new(name);
    let text = std::fs::read_to_string(path).map_err(|e| {
        let builtin: Vec<&str> = RECIPES.iter().map(|(name, _)| *name).collect();
        let hint = format!("a recipe is a TOML file or one of those inside the program: {}", builtin.join(", "));
        usage(format!("cannot read recipe {name}: {e}"), &hint)
    })?;
    Ok(Recipe {
        name: path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned()),
        label: name.to_owned(),
        text,
        dir: path.parent().map(Path::to_owned).unwrap_or_default(),
    })
}

/// Splits `key=value`.
pub fn parse_sets(sets: &Sets) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(usage(format!("--set {text}: there is no `=`"), "write --set section.key=value")),
    };
    sets.sets.iter().map(pair).collect()
}

/// The settings of a recipe under `sets`, with everything in them that depends on this machine written out: paths
/// start at the root, and the number of threads is a number.
pub fn resolve(recipe: &Recipe, sets: &[(String, String)]) -> anyhow::Result<Config> {
    let mut config = Config::resolve(&recipe.text, &recipe.label, sets)?;
    let absolute = |config: &Config, key: &str, value: &str| -> anyhow::Result<String> {
        // Whoever types a path means the folder they are in, whoever writes it into a file the file's.
        let from_file = matches!(config.source(key), Source::Recipe { .. });
        let path = if from_file { recipe.dir.join(value) } else { PathBuf::from(value) };
        let path = std::path::absolute(&path)?;
        let text = path.to_str().ok_or_else(|| usage(format!("`{key}`: {} is not UTF-8", path.display()), ""))?;
        Ok(text.to_owned())
    };
    // A model of the hub has the same name everywhere.
    let is_hub = |config: &Config, key: &str, value: &str| {
        let from_file = matches!(config.source(key), Source::Recipe { .. });
        hub_name(value, if from_file { &recipe.dir } else { Path::new("") }).is_some()
    };
    if config.model.init != QUICKSTART && !is_hub(&config, "model.init", &config.model.init) {
        config.settings.model.init = absolute(&config, "model.init", &config.model.init)?;
    }
    if config.tasks.source != QUICKSTART {
        config.settings.tasks.source = absolute(&config, "tasks.source", &config.tasks.source)?;
    }
    if let Some(file) = &config.tasks.eval_file {
        config.settings.tasks.eval_file = Some(absolute(&config, "tasks.eval_file", file)?);
    }
    if config.sft.source != QUICKSTART {
        config.settings.sft.source = absolute(&config, "sft.source", &config.sft.source)?;
    }
    if ![QUICKSTART, RANDOM].contains(&config.sft.init.as_str()) && !is_hub(&config, "sft.init", &config.sft.init) {
        config.settings.sft.init = absolute(&config, "sft.init", &config.sft.init)?;
    }
    if let SourceName::Directory(index) = SourceName::parse(&config.search.source) {
        let index = absolute(&config, "tools.search.source", &index.to_string_lossy())?;
        config.settings.search.source = index;
    }
    if let Some(file) = &config.mcp.file {
        config.settings.mcp.file = Some(absolute(&config, "tools.mcp.file", file)?);
    }
    if let Some(file) = &config.cache.path {
        config.settings.cache.path = Some(absolute(&config, "tools.cache.path", file)?);
    }
    // A bare name is looked up on the search path, not in a folder.
    if let Some(program) = config.python.interpreter.clone().filter(|p| p.contains('/')) {
        config.settings.python.interpreter = Some(absolute(&config, "tools.python.interpreter", &program)?);
    }
    if config.train.threads == 0 {
        config.settings.train.threads = n_cores();
        config.sources.remove("train.threads");
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../recipes")
    }

    #[test]
    fn every_recipe_that_is_shipped_can_be_resolved() {
        let mut n = 0;
        for entry in std::fs::read_dir(shipped()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "toml") {
                let recipe = find(path.to_str().unwrap()).unwrap();
                resolve(&recipe, &[]).unwrap_or_else(|e| panic!("{}: {e:#}", path.display()));
                n += 1;
            }
        }
        assert!(n >= 7, "{n} recipes");
    }

    #[test]
    fn places_in_a_recipe_start_at_its_folder_and_typed_ones_where_they_are_typed() {
        let text = "[tasks]\nsource = \"q.jsonl\"\neval_file = \"e.jsonl\"\n[tools]\noffer = [\"search\", \"mcp\"]\n[prompt]\nprotocol = \"hermes\"\n\
                    [tools.search]\nsource = \"index\"\n[tools.mcp]\nfile = \"servers.json\"\n\
                    [tools.cache]\nmode = \"record\"\npath = \"cache.redb\"\n";
        let dir = PathBuf::from("/a/folder");
        let recipe = Recipe { name: "r".to_owned(), label: "r.toml".to_owned(), text: text.to_owned(), dir };
        let config = resolve(&recipe, &[]).unwrap();
        assert_eq!(config.tasks.source, "/a/folder/q.jsonl");
        assert_eq!(config.search.source, "/a/folder/index");
        assert_eq!(config.mcp.file.as_deref(), Some("/a/folder/servers.json"));
        assert_eq!(config.cache.path.as_deref(), Some("/a/folder/cache.redb"));

        let typed = |key: &str, value: &str| resolve(&recipe, &[(key.to_owned(), value.to_owned())]).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(typed("tools.search.source", "index").search.source, here.join("index").to_str().unwrap());
        assert_eq!(typed("tools.search.source", "serper").search.source, "serper");
        assert_eq!(typed("tools.search.source", "quickstart").search.source, "quickstart");
    }
}
