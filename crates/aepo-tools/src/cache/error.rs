//! What can be wrong with a cache file? Nothing of it is ever overwritten because it could not be read.

use std::path::{Path, PathBuf};

/// Why a cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Only one process may record into a file, and none may replay it meanwhile.
    #[error("{} is in use by another process; wait for it, or record into a file of its own", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A replay needs what a run has recorded.
    #[error("there is no cache {}; record one with tools.cache.mode = \"record\" first", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Another kind of file lies there.
    #[error("{} is no cache of tool results: {found}; it was left as it is", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        found: String,
    },
    /// It was a cache, but its checksums or its structure do not hold.
    #[error("the cache {} is damaged: {reason}; restore it from a copy, or record into a new file", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        reason: String,
    },
    /// The file is only read here.
    #[error("the cache {} was opened to be replayed, not written", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The system or the store refused.
    #[error("{what} the cache {}: {reason}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The answer.
        reason: String,
    },
    /// A file to be imported does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place where that is known.
        reason: String,
    },
}

/// Says what a refusal of the store means for the one who uses it.
pub(crate) fn of_store(what: &'static str, path: &Path, error: redb::Error) -> CacheError {
    let (path, reason) = (path.to_path_buf(), error.to_string());
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => CacheError::InUse { path },
        redb::Error::Corrupted(_) | redb::Error::TableTypeMismatch { .. } => CacheError::Damaged { path, reason },
        redb::Error::Io(e) if e.kind() == std::io::ErrorKind::NotFound => CacheError::Missing { path },
        redb::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => CacheError::Damaged { path, reason },
        redb::Error::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => CacheError::Damaged { path, reason },
        _ => CacheError::Io { what, path, reason },
    }
}
