//! Why can an index not be built or opened, and what can be done about it?

use std::path::{Path, PathBuf};

/// An error of an index on disk.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
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
    /// The corpus is in no form that is known here.
    #[error("{path}: the name of a corpus ends in .jsonl or .parquet")]
    UnknownFormat {
        /// The corpus.
        path: PathBuf,
    },
    /// The corpus is no file of its kind.
    #[error("{path} cannot be read as Parquet: {why}")]
    Parquet {
        /// The corpus.
        path: PathBuf,
        /// What the reader says.
        why: String,
    },
    /// A row of the corpus is no document.
    #[error("{path}:{row}: {why} (--on-bad-row skip leaves such rows out and counts them)")]
    BadRow {
        /// The corpus.
        path: PathBuf,
        /// Its line, or its row in a Parquet file, from 1.
        row: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The corpus has no document at all.
    #[error("{path} holds no document")]
    Empty {
        /// The corpus.
        path: PathBuf,
    },
    /// Something is in the way.
    #[error("{path} is there already: remove it, or choose another --out")]
    Exists {
        /// Where the index should go.
        path: PathBuf,
    },
    /// A build was begun here from something else.
    #[error(
        "{path} holds a build that was begun from another corpus or with other settings ({what}): remove it, or choose \
         another --out"
    )]
    OtherBuild {
        /// Where the build was begun.
        path: PathBuf,
        /// What is different.
        what: &'static str,
    },
    /// Another process builds here now.
    #[error("another process is building in {path}")]
    Busy {
        /// Where the build goes on.
        path: PathBuf,
    },
    /// The build was stopped; what was committed is kept.
    #[error("stopped after {n_rows} documents; the same command goes on from there")]
    Stopped {
        /// Documents that are kept.
        n_rows: u64,
    },
    /// Not an index, or one that is not whole.
    #[error("{path} is no index, or not a whole one ({why}); `aepo index build` makes one")]
    NotAnIndex {
        /// What was opened.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// A file is not what it was when the index was built.
    #[error("{path} is damaged ({why}): build the index again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is different.
        why: String,
    },
    /// The search engine failed.
    #[error("search index {path}: {why}")]
    Engine {
        /// The index.
        path: PathBuf,
        /// What it says.
        why: String,
    },
}

/// Names what was being done, and to which file.
pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> IndexError {
    let path = path.to_owned();
    move |cause| IndexError::Io { what, path, cause }
}

/// Names the index whose engine failed.
pub(super) fn engine(path: &Path) -> impl Fn(tantivy::TantivyError) -> IndexError {
    let path = path.to_owned();
    move |error| match error {
        tantivy::TantivyError::LockFailure(..) => IndexError::Busy { path: path.clone() },
        error => IndexError::Engine { path: path.clone(), why: error.to_string() },
    }
}
