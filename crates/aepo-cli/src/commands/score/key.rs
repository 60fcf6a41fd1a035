//! Which answers does a benchmark accept? Its tasks, by id and by question.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use aepo::data::benchmark::Benchmark;
use aepo::data::files::Shape;
use aepo::data::task::Task;
use aepo_tools::rows::read_tasks;
use serde_json::Value;

use crate::benchmarks;
use crate::error::usage;

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
pub fn file(benchmark: &Benchmark, data: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    let (place, was_named) = benchmarks::place(data);
    if data.is_some() && !place.is_dir() {
        return Ok(Some(place));
    }
    if !was_named && !place.is_dir() {
        return Ok(None);
    }
    match benchmarks::file_of(benchmark, &place)? {
        None if was_named => Err(usage(
            format!("{} holds no file of {}", place.display(), benchmark.name),
            &format!("a name such as {}.jsonl, or --data FILE", benchmark.name),
        )),
        file => Ok(file),
    }
}
