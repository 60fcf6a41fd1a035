//! Which questions are asked? Benchmarks by name or group, found in a folder by the names of their files.

use std::path::{Path, PathBuf};

use aepo::data::benchmark::{self, BENCHMARKS, Benchmark, Group, Metric, ToolKind};
use aepo::data::files::Shape;
use aepo::data::task::Task;
use aepo_tools::rows::read_tasks;

use crate::benchmarks::file_of;
use crate::error::usage;

/// A set of questions as it is asked.
pub struct Set {
    /// Its name: a benchmark's, or that of the file.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What is reported of it.
    pub metric: Metric,
    /// What it is answered with.
    pub tools: Vec<ToolKind>,
    /// Groups of benchmarks that it belongs to.
    pub groups: Vec<Group>,
    /// Where it was read from.
    pub file: PathBuf,
    /// Questions in the file.
    pub n_rows: usize,
    /// Those that are asked.
    pub tasks: Vec<Task>,
    /// What a reader must know of it.
    pub notes: Vec<String>,
}

/// The sets that `names` mean, from `data`, the first `limit` questions of each; and those of a group that are not there.
pub fn find(names: &[String], data: &Path, limit: Option<usize>) -> anyhow::Result<(Vec<Set>, Vec<&'static str>)> {
    if limit == Some(0) {
        return Err(usage("--limit 0 asks nothing", "leave --limit out to ask every question"));
    }
    if !data.exists() {
        let hint =
            "name the file of a benchmark, or the folder that holds such files; `aepo data list` says where they are";
        return Err(usage(format!("there is no {}", data.display()), hint));
    }
    if names.is_empty() {
        return Ok((vec![of_file(data, limit)?], Vec::new()));
    }
    let (mut wanted, mut missing): (Vec<(&Benchmark, bool)>, Vec<&str>) = (Vec::new(), Vec::new());
    for name in names {
        let group = Group::ALL.into_iter().find(|group| group.name() == name.to_ascii_lowercase());
        let found: Vec<(&Benchmark, bool)> = match (group, name.as_str()) {
            (Some(group), _) => group.benchmarks().map(|b| (b, false)).collect(),
            (None, "all") => BENCHMARKS.iter().map(|b| (b, false)).collect(),
            (None, name) => vec![(benchmark::find(name).ok_or_else(|| unknown(name))?, true)],
        };
        for (benchmark, by_name) in found {
            match wanted.iter_mut().find(|(other, _)| other.name == benchmark.name) {
                Some((_, named)) => *named |= by_name,
                None => wanted.push((benchmark, by_name)),
            }
        }
    }
    if data.is_file() && wanted.len() > 1 {
        let hint = "name the folder that holds the files of all of them";
        return Err(usage(
            format!("{} is one file, but {} benchmarks are asked for", data.display(), wanted.len()),
            hint,
        ));
    }
    let mut sets = Vec::new();
    for (benchmark, by_name) in wanted {
        let file = if data.is_file() { Some(data.to_owned()) } else { file_of(benchmark, data)? };
        match (file, by_name) {
            (Some(file), _) => sets.push(of_benchmark(benchmark, file, limit)?),
            (None, false) => missing.push(benchmark.title),
            (None, true) => {
                let message = format!("{} has no file of {}", data.display(), benchmark.title);
                let hint = format!("put {}.jsonl there; on the hub it is {}", benchmark.name, benchmark.hub);
                return Err(usage(message, &hint));
            }
        }
    }
    if sets.is_empty() {
        let message = format!("{} has no file of any of these benchmarks", data.display());
        return Err(usage(message, "`aepo data list` names them and says where they are"));
    }
    Ok((sets, missing))
}

fn unknown(name: &str) -> anyhow::Error {
    let all: Vec<&str> = BENCHMARKS.iter().map(|b| b.name).collect();
    let hint = format!("there are {}, and the groups math, knowledge, deepsearch and all", all.join(", "));
    usage(format!("there is no benchmark `{name}`"), &hint)
}

fn of_benchmark(benchmark: &'static Benchmark, file: PathBuf, limit: Option<usize>) -> anyhow::Result<Set> {
    let read = read_tasks(&file, Some(&Shape::Benchmark(benchmark)));
    let read = match read {
        Ok(read) => read,
        // The file may hold it as our own tasks, which `aepo data convert` writes.
        Err(first) => read_tasks(&file, Some(&Shape::Tasks)).map_err(|_| first)?,
    };
    let mut notes: Vec<String> = read.notes().iter().map(|note| format!("{}: {note}.", benchmark.title)).collect();
    let n_rows = read.tasks.len();
    let whole = [Some(benchmark.n_rows), benchmark.n_paper];
    if !whole.contains(&Some(n_rows)) {
        let paper = benchmark
            .n_paper
            .filter(|n| *n != benchmark.n_rows)
            .map_or_else(String::new, |n| format!(", the papers take {n}"));
        let (title, all) = (benchmark.title, benchmark.n_rows);
        notes.push(format!("{title}: the file holds {n_rows} questions, the whole set has {all}{paper}."));
    }
    Ok(Set {
        name: benchmark.name.to_owned(),
        title: benchmark.title.to_owned(),
        metric: benchmark.metric,
        tools: benchmark.tools.to_vec(),
        groups: benchmark.groups.to_vec(),
        file,
        n_rows,
        tasks: first(read.tasks, limit),
        notes,
    })
}

/// A file without a benchmark's name: its tasks, by their own graders.
fn of_file(file: &Path, limit: Option<usize>) -> anyhow::Result<Set> {
    if file.is_dir() {
        let hint = "name benchmarks with --benchmark, or one file with --data";
        return Err(usage(format!("{} is a folder, and no benchmark is named", file.display()), hint));
    }
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if let Some(benchmark) = benchmark::find_by_file(name) {
        return of_benchmark(benchmark, file.to_owned(), limit);
    }
    let read = read_tasks(file, None)?;
    let name = name.split('.').next().unwrap_or(name).to_owned();
    Ok(Set {
        title: name.clone(),
        notes: read.notes().iter().map(|note| format!("{name}: {note}.")).collect(),
        name,
        metric: Metric::Accuracy,
        tools: vec![ToolKind::Python, ToolKind::Search],
        groups: Vec::new(),
        file: file.to_owned(),
        n_rows: read.tasks.len(),
        tasks: first(read.tasks, limit),
    })
}

fn first(mut tasks: Vec<Task>, limit: Option<usize>) -> Vec<Task> {
    tasks.truncate(limit.unwrap_or(usize::MAX));
    tasks
}
