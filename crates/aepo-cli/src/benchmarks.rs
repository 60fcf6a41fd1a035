//! Where do the files of benchmarks lie? In a folder that is named, by names that say which they are.

use std::path::{Path, PathBuf};

use aepo::data::benchmark::{self, Benchmark};
use aepo_tools::rows::is_readable_name;

use crate::error::usage;

/// Where the files of benchmarks lie unless a command says.
const FOLDER_ENV: &str = "AEPO_BENCHMARKS";
const FOLDER: &str = "benchmarks";

/// Where to look, and whether somebody said so: the path that a command names, the folder of the environment, or
/// `./benchmarks`.
pub fn place(data: Option<&Path>) -> (PathBuf, bool) {
    match (data, std::env::var_os(FOLDER_ENV)) {
        (Some(path), _) => (path.to_owned(), true),
        (None, Some(folder)) => (PathBuf::from(folder), true),
        (None, None) => (PathBuf::from(FOLDER), false),
    }
}

/// The benchmark's file in a folder; one with first rows only (`NAME.sample.jsonl`) where there is no other. `None` where
/// the folder has none.
pub fn file_of(benchmark: &Benchmark, folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let unreadable = |error: std::io::Error| usage(format!("cannot read the folder {}: {error}", folder.display()), "");
    let mut files: Vec<(bool, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let is_its = benchmark::find_by_file(&name).is_some_and(|found| found.name == benchmark.name);
        if is_its && is_readable_name(&path) && path.is_file() {
            files.push((name.contains(".sample."), path.clone()));
        }
    }
    files.sort();
    match &files[..] {
        [(a, first), (b, second), ..] if a == b => {
            let message = format!("{} and {} are both {}", first.display(), second.display(), benchmark.title);
            Err(usage(message, "name one of them: --data FILE"))
        }
        [(_, file), ..] => Ok(Some(file.clone())),
        [] => Ok(None),
    }
}
