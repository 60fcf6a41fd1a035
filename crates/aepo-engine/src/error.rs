//! What can go wrong in the engine, with the facts needed to mend it.

use std::path::PathBuf;

use crate::checkpoint::WeightsError;
use crate::config::ConfigError;

/// An error of the engine. Every message names the file, key or tensor.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `config.json` does not parse or lacks a key.
    #[error("{path}: {source}")]
    Config {
        /// Which file.
        path: PathBuf,
        /// What is wrong, naming the key.
        source: ConfigError,
    },
    /// A weights file is damaged, or of another model.
    #[error("{path}: {source}")]
    Weights {
        /// Which file, or which directory where no file is there.
        path: PathBuf,
        /// What is wrong, naming the tensor.
        source: WeightsError,
    },
    /// A GGUF file is damaged, or asks for what is not built.
    #[error("{path}: {source}")]
    Gguf {
        /// Which file.
        path: PathBuf,
        /// What is wrong, naming the key or tensor.
        source: crate::gguf::GgufError,
    },
}
