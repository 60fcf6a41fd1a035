//! Why can the rows of a file not be read, and what can be done about it?

use std::path::PathBuf;

use aepo::data::files::task_file::{At, TasksError};

/// An error of a whole file.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The operating system refused.
    #[error("{what} {path}: {cause}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The name says no form that is known here.
    #[error("{path}: the name of a file with rows ends in .jsonl, .json, .csv, .tsv or .parquet")]
    UnknownForm {
        /// The file.
        path: PathBuf,
    },
    /// It is no Parquet file, or a damaged one.
    #[error("{path}, row {row}: cannot be read as Parquet: {why}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The row that could not be read, counted from 1.
        row: u64,
        /// What the reader says.
        why: String,
    },
    /// Its first line names no fields, or cannot be read on from some line.
    #[error("{path}, {at}: {why}")]
    Table {
        /// The file.
        path: PathBuf,
        /// Where.
        at: At,
        /// What is wrong there.
        why: String,
    },
}

/// Why the tasks of a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its rows cannot.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A row is no task.
    #[error(transparent)]
    Tasks(#[from] TasksError),
}
