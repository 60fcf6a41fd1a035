//! Which answers does a benchmark accept? Its tasks, by id and by question.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use aepo::data::benchmark::{self, Benchmark};
use aepo::data::files::Shape;
use aepo::data::task::Task;
use aepo_tools::rows::{is_readable_name, read_tasks};
use serde_json::Value;

use crate::error::usage;

/// Where the files of benchmarks lie unless a command says.
const FOLDER_ENV: &str = "AEPO_BENCHMARKS";
const FOLDER: &str = "benchmarks";

/// The tasks of a benchmark, where its file is to be had.
pub struct Key {
    benchmark: &'static Benchmark,
    tasks: Vec<Task>,
    by_id: HashMap<String, usize>,
    by_question: HashMap<String, usize>,
    /// Tasks that were looked up.
    seen: HashSet<usize>,
}

/// How much of a benchmark was answered.
#[derive(Clone, Copy, Debug)]
pub struct Coverage {
    /// Questions with a prediction.
    pub n_answered: usize,
    /// Questions of the file.
    pub n_tasks: usize,
}

impl Key {
    /// Reads the benchmark's file. Without one, and unless it was asked for, rows must have their answers themselves.
    pub fn of(benchmark: &'static Benchmark, data: Option<&Path>) -> anyhow::Result<Key> {
        let tasks = match file(benchmark, data)? {
            Some(path) => read_tasks(&path, Some(&Shape::Benchmark(benchmark)))?.tasks,
            None => Vec::new(),
        };
        let by = |of: &dyn Fn(&Task) -> String| tasks.iter().enumerate().map(|(i, task)| (of(task), i)).collect();
        let by_id = by(&|task| task.id.clone());
        let by_question = by(&|task| folded(&task.question));
        Ok(Key { benchmark, by_id, by_question, tasks, seen: HashSet::new() })
    }

    /// The task that a row names. A row that has its answer need not be known; any other must.
    pub fn look_up(
        &mut self,
        id: Option<&Value>,
        question: Option<&str>,
        has_answer: bool,
    ) -> Result<Option<&Task>, String> {
        if self.tasks.is_empty() {
            return match has_answer {
                true => Ok(None),
                false => Err(format!(
                    "`answer` is missing, and no file of {} was found; name it with --data",
                    self.benchmark.name
                )),
            };
        }
        let id = id.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
        let found = match (&id, question) {
            // Where both are given the question decides: a row's number is not always that of the file.
            (_, Some(question)) => self.by_question.get(&folded(question)),
            (Some(id), None) => self.by_id.get(id),
            (None, None) if has_answer => None,
            (None, None) => return Err("has neither `id` nor `question`, nor an `answer`".to_owned()),
        };
        let Some(&found) = found else {
            return match (has_answer, question, id) {
                (true, ..) => Ok(None),
                (false, Some(_), _) => Err(format!("`question`: {} has no such question", self.benchmark.name)),
                (false, None, id) => {
                    let id = id.unwrap_or_default();
                    Err(format!("`id`: {} has no question {id:?}", self.benchmark.name))
                }
            };
        };
        self.seen.insert(found);
        Ok(Some(&self.tasks[found]))
    }

    /// How much of the file was looked up.
    pub fn coverage(&self) -> Coverage {
        Coverage { n_answered: self.seen.len(), n_tasks: self.tasks.len() }
    }
}

/// A question but for white space.
fn folded(question: &str) -> String {
    question.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The benchmark's file: the one that was named, or the one of a folder that has its name. `None` where nobody named a
/// place and the usual ones have none.
fn file(benchmark: &Benchmark, data: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    let (folder, was_named) = match (data, std::env::var_os(FOLDER_ENV)) {
        (Some(path), _) if !path.is_dir() => return Ok(Some(path.to_owned())),
        (Some(path), _) => (path.to_owned(), true),
        (None, Some(folder)) => (PathBuf::from(folder), true),
        (None, None) => (PathBuf::from(FOLDER), false),
    };
    if !was_named && !folder.is_dir() {
        return Ok(None);
    }
    let found = file_of(benchmark, &folder)?;
    if found.is_none() && was_named {
        let hint = format!("a name such as {}.jsonl, or --data FILE", benchmark.name);
        return Err(usage(format!("{} holds no file of {}", folder.display(), benchmark.name), &hint));
    }
    Ok(found)
}

/// The benchmark's file in a folder; a file of first rows only (`NAME.sample.jsonl`) where there is no other.
pub fn file_of(benchmark: &Benchmark, folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let refused = |error| usage(format!("cannot read the folder {}: {error}", folder.display()), "");
    // Samples come behind whole sets.
    let mut found: Vec<(bool, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let is_its = benchmark::find_by_file(&name).is_some_and(|found| found.name == benchmark.name);
        if is_its && is_readable_name(&path) {
            found.push((name.contains(".sample."), path.clone()));
        }
    }
    found.sort();
    match &found[..] {
        [(false, first), (false, second), ..] => {
            let message = format!("{} and {} are both {}", first.display(), second.display(), benchmark.title);
            Err(usage(message, "name one of them: --data FILE"))
        }
        [(_, file), ..] => Ok(Some(file.clone())),
        [] => Ok(None),
    }
}
