//! What can be wrong with a GGUF file, and what can be done about it?

/// A fault of a GGUF file; [`crate::error::EngineError::Gguf`] adds which file.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file could not be read on.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// Another kind of file.
    #[error("not a GGUF file: it begins with the bytes {found:02x?} instead of `GGUF`")]
    Magic {
        /// Its first bytes.
        found: [u8; 4],
    },
    /// A version whose counts have another width, or that does not exist yet.
    #[error("GGUF version {found} is not supported (2 and 3 are): convert the model anew")]
    Version {
        /// The version the file states.
        found: u32,
    },
    /// All numbers are swapped.
    #[error("the file is big-endian, only little-endian ones are read: convert the model anew for this machine")]
    BigEndian,
    /// The file ends before what it announces.
    #[error("{what} needs {needed} bytes, but {left} are left: the file is truncated or damaged, fetch it again")]
    Truncated {
        /// Which part: a count, key or tensor.
        what: String,
        /// Bytes that the part takes at least.
        needed: u128,
        /// Bytes behind where it begins.
        left: u64,
    },
    /// A number of things that no language model has.
    #[error("{what} is {found}, more than the {limit} that are accepted: the file is damaged")]
    TooMany {
        /// What is counted or measured.
        what: String,
        /// What the file states.
        found: u64,
        /// The bound of this reader.
        limit: u64,
    },
    /// Text in no known encoding.
    #[error("{what} is not UTF-8: the file is damaged, fetch it again")]
    NotText {
        /// Which name or value.
        what: String,
    },
    /// A key that must be there is not.
    #[error("key `{key}` is missing: this is no complete language model")]
    MissingKey {
        /// Which key.
        key: String,
    },
    /// A key whose value makes no sense.
    #[error("key `{key}` {problem}")]
    Key {
        /// Which key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A key asks for mathematics or text processing that is not built.
    #[error("key `{key}` asks for {found}, which is not supported ({supported})")]
    Unsupported {
        /// Which key.
        key: String,
        /// What it asks for.
        found: String,
        /// What would be accepted.
        supported: String,
    },
    /// A tensor that the architecture has is not there.
    #[error("tensor `{name}` is missing: this is no complete language model")]
    MissingTensor {
        /// Its name in the file.
        name: String,
    },
    /// A tensor is described wrongly, holds wrong numbers, or has no place in the architecture.
    #[error("tensor `{name}` {problem}")]
    Tensor {
        /// Its name in the file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The numbers do not fit together; the message has the names of a `config.json`.
    #[error("the model's shape: {0}")]
    Shape(crate::config::ConfigError),
}

impl GgufError {
    pub(super) fn key(key: &str, problem: impl Into<String>) -> GgufError {
        GgufError::Key { key: key.to_owned(), problem: problem.into() }
    }

    pub(super) fn tensor(name: &str, problem: impl Into<String>) -> GgufError {
        GgufError::Tensor { name: name.to_owned(), problem: problem.into() }
    }
}
