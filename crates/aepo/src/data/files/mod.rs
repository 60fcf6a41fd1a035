//! How do rows of a file become tasks? By the shape that they have: our own, verl's, a benchmark's, or named fields.

pub mod fields;
pub mod lookup;
mod own;
pub mod repair;
pub mod task_file;
pub mod verl;

pub use fields::Fields;
pub use lookup::{Fault, Row};
pub use repair::Repairs;

use super::benchmark::{self, Benchmark};
use super::task::{Grader, Task};

/// How the rows of a file are laid out.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Our own: `{"id", "kind", "question", "answers", "grader"}`.
    Tasks,
    /// verl's: `{"data_source", "prompt", "ability", "reward_model"}`.
    Verl {
        /// How answers are compared; the rows say it unless set.
        grader: Option<Grader>,
    },
    /// A benchmark's.
    Benchmark(&'static Benchmark),
    /// Whatever fields somebody names.
    Fields(Fields),
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// A task.
    Task {
        /// The task.
        task: Task,
        /// What was put right in its texts, and for verl in its prompt.
        repairs: Repairs,
    },
    /// None, and for a reason that is no fault of the file.
    LeftOut(LeftOut),
}

/// Why a row is no task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// It needs a picture or a file, and text alone cannot answer it.
    Attachment {
        /// The field that names it.
        key: String,
    },
    /// A row for training that says what to answer nowhere: nothing could be learned from it.
    NoAnswer {
        /// The field where the answer should be.
        key: String,
    },
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LeftOut::Attachment { key } => write!(f, "{key} names what is no text"),
            LeftOut::NoAnswer { key } => write!(f, "{key} is blank"),
        }
    }
}

impl Shape {
    /// The shape of a file by its name and the fields of its first row.
    #[must_use]
    pub fn detect(file_name: &str, first_row: &Row) -> Option<Shape> {
        let has = |keys: &[&str]| keys.iter().all(|key| first_row.contains_key(*key));
        if has(&["question", "answers", "grader"]) {
            return Some(Shape::Tasks);
        }
        if has(&["prompt", "reward_model"]) {
            return Some(Shape::Verl { grader: None });
        }
        benchmark::find_by_file(file_name).map(Shape::Benchmark)
    }

    /// What a person calls it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Shape::Tasks => "tasks".to_owned(),
            Shape::Verl { .. } => "verl".to_owned(),
            Shape::Benchmark(benchmark) => benchmark.name.to_owned(),
            Shape::Fields(_) => "fields".to_owned(),
        }
    }

    /// Reads the `n`-th row of a file, counted from 1.
    pub fn read(&self, row: &Row, n: u64) -> Result<Taken, Fault> {
        match self {
            Shape::Tasks => Ok(Taken::Task { task: own::task(row)?, repairs: Repairs::default() }),
            Shape::Verl { grader } => verl::task(row, n, *grader),
            Shape::Benchmark(benchmark) => benchmark::task(benchmark, row, n),
            Shape::Fields(fields) => fields.task(row, n),
        }
    }
}

/// A text put right, which must not be blank then.
pub(super) fn mended(text: &str, key: &str, repairs: &mut Repairs) -> Result<String, Fault> {
    let (text, done) = repair::repair(text);
    *repairs += done;
    if text.trim().is_empty() { Err(Fault::new(key, "blank")) } else { Ok(text.trim().to_owned()) }
}
