//! Why is a `config.json` not a model of ours? Every message names the key.

/// What is wrong with a `config.json`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is no JSON object.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// A key that has no default.
    #[error("key `{0}` is missing")]
    Missing(String),
    /// A value of the wrong type or range.
    #[error("key `{key}` must be {expected}, found {found}")]
    Wrong {
        /// The key, with those above it.
        key: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A size that no model has.
    #[error("key `{key}` must lie between 1 and {most}, found {found}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The largest size.
        most: usize,
        /// What it is.
        found: usize,
    },
    /// The engine would compute something else than the file describes.
    #[error("{key} {found} is not supported ({supported})")]
    Unsupported {
        /// The key, with those above it.
        key: String,
        /// What it asks for.
        found: String,
        /// What can be done instead.
        supported: &'static str,
    },
    /// Two keys say different things.
    #[error("{one} and {other} contradict each other: remove the wrong one")]
    Contradiction {
        /// One key.
        one: String,
        /// Another.
        other: String,
    },
    /// All sizes together.
    #[error("the configuration asks for about {0} parameters")]
    TooManyParameters(u128),
}
