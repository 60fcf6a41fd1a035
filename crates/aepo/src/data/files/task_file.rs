//! What does a file of tasks hold, read to its end? Tasks with their places, what was left out, what was put right.

use std::collections::{BTreeMap, HashMap};

use super::{Fault, LeftOut, Repairs, Row, Shape, Taken};
use crate::data::task::Task;

/// Where a row stands in its file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// A line of text; that of its beginning where a row has several.
    Line(u64),
    /// A row of a table, or an item of a list.
    Row(u64),
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            At::Line(n) => write!(f, "line {n}"),
            At::Row(n) => write!(f, "row {n}"),
        }
    }
}

impl At {
    /// The number alone.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            At::Line(n) | At::Row(n) => n,
        }
    }
}

/// What is wrong with a task file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TasksError {
    /// There is no task in it.
    #[error("{file} holds no task")]
    Empty {
        /// What the caller calls the file.
        file: String,
    },
    /// Nothing tells how its rows are laid out.
    #[error(
        "{file}: no known layout has the fields {fields}; name a benchmark whose layout it has, or the fields of question \
         and answer"
    )]
    UnknownLayout {
        /// What the caller calls the file.
        file: String,
        /// Those of the first row.
        fields: String,
    },
    /// A row is no JSON object, or no row of a table.
    #[error("{file}, {at}: {cause}")]
    NoRow {
        /// What the caller calls the file.
        file: String,
        /// Where.
        at: At,
        /// What the reader said.
        cause: String,
    },
    /// A value is missing, of the wrong type, or not allowed.
    #[error("{file}, {at}, {fault}")]
    BadRow {
        /// What the caller calls the file.
        file: String,
        /// Where.
        at: At,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// Everything that was read of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskFile {
    /// How it was read.
    pub shape: Shape,
    /// The tasks, in the file's order.
    pub tasks: Vec<Task>,
    /// Where each task stands.
    pub places: Vec<At>,
    /// Rows that are no tasks.
    pub left_out: Vec<(At, LeftOut)>,
    /// Rows in which something was put right.
    pub repaired: Vec<(At, Repairs)>,
    /// Rows in all.
    pub n_rows: usize,
}

impl TaskFile {
    /// What a person should know of how it was read, a line each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.repaired.is_empty() {
            let mut all = Repairs::default();
            self.repaired.iter().for_each(|(_, repairs)| all += *repairs);
            let said = [
                (
                    all.n_commands,
                    "commands that got their backslash back, where a control character stood as in \\x08oxed",
                ),
                (all.n_removed, "other control characters taken out"),
            ];
            let said = said.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what}: {n}"));
            let said: Vec<String> = said.collect();
            notes.push(format!("rows repaired: {} of {} ({})", self.repaired.len(), self.n_rows, said.join("; ")));
        }
        let mut why: BTreeMap<&LeftOut, Vec<u64>> = BTreeMap::new();
        for (at, left_out) in &self.left_out {
            why.entry(left_out).or_default().push(at.number());
        }
        for (left_out, rows) in why {
            let first: Vec<String> = rows.iter().take(5).map(u64::to_string).collect();
            let more = if rows.len() > 5 { ", …" } else { "" };
            let (n, all) = (rows.len(), self.n_rows);
            notes.push(format!("rows left out: {n} of {all}, because {left_out} ({}{more})", first.join(", ")));
        }
        notes
    }
}

/// A file that is being read, row by row.
#[derive(Debug)]
pub struct Reader {
    file: String,
    seen: HashMap<String, At>,
    found: TaskFile,
}

impl Reader {
    /// Begins a file that the caller calls `file`.
    #[must_use]
    pub fn new(file: &str, shape: Shape) -> Reader {
        let found = TaskFile {
            shape,
            tasks: Vec::new(),
            places: Vec::new(),
            left_out: Vec::new(),
            repaired: Vec::new(),
            n_rows: 0,
        };
        Reader { file: file.to_owned(), seen: HashMap::new(), found }
    }

    /// Takes a row. One that is wrong counts as a row and changes nothing else, so that reading can go on.
    pub fn push(&mut self, at: At, row: &Row) -> Result<(), TasksError> {
        self.found.n_rows += 1;
        let bad = |fault: Fault| TasksError::BadRow { file: self.file.clone(), at, fault };
        match self.found.shape.read(row, self.found.n_rows as u64).map_err(bad)? {
            Taken::LeftOut(why) => self.found.left_out.push((at, why)),
            Taken::Task { task, repairs } => {
                if let Some(first) = self.seen.get(&task.id) {
                    return Err(bad(Fault::new("id", format!("{:?} is already the id of {first}", task.id))));
                }
                self.seen.insert(task.id.clone(), at);
                if !repairs.is_none() {
                    self.found.repaired.push((at, repairs));
                }
                self.found.tasks.push(task);
                self.found.places.push(at);
            }
        }
        Ok(())
    }

    /// What was read, tasks or none.
    #[must_use]
    pub fn so_far(self) -> TaskFile {
        self.found
    }

    /// What was read, which must be a task at least.
    pub fn finish(self) -> Result<TaskFile, TasksError> {
        if self.found.tasks.is_empty() { Err(TasksError::Empty { file: self.file }) } else { Ok(self.found) }
    }
}
