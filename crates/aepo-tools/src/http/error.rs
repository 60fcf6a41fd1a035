//! Why did an API give nothing, and what can be done about it? No message holds a key or more of an address than its host.

use std::path::PathBuf;

/// An error of [`super::Client`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HttpError {
    /// Not an address that can be asked.
    #[error("not an address of the form http://host:port/path or https://host/path")]
    Address,
    /// The environment has no usable key.
    #[error("environment variable {variable}: {why}")]
    Key {
        /// Which one.
        variable: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The certificates to trust cannot be had.
    #[error("certificates {path}: {why}")]
    Certificates {
        /// Their file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The time was over.
    #[error("{host} did not answer in time ({during})")]
    Deadline {
        /// Scheme, host and port.
        host: String,
        /// What was going on then.
        during: &'static str,
    },
    /// No connection, or one that broke.
    #[error("{host} cannot be reached ({cause}; {tries} tries)")]
    Network {
        /// Scheme, host and port.
        host: String,
        /// What happened last.
        cause: String,
        /// How often it was asked.
        tries: u32,
    },
    /// The server refused.
    #[error("{host} answers with HTTP status {status}{message} ({tries} tries)")]
    Status {
        /// Scheme, host and port.
        host: String,
        /// HTTP status.
        status: u16,
        /// What the server says, behind a colon, or nothing.
        message: String,
        /// How often it was asked.
        tries: u32,
    },
    /// The answer is longer than allowed.
    #[error("the answer of {host} is longer than {max_bytes} bytes")]
    TooLarge {
        /// Scheme, host and port.
        host: String,
        /// The bound, sent or decompressed.
        max_bytes: usize,
    },
    /// The answer is no JSON.
    #[error("the answer of {host} is no JSON ({why})")]
    NotJson {
        /// Scheme, host and port.
        host: String,
        /// What the parser says.
        why: String,
    },
    /// The answer is JSON of another form.
    #[error("the answer of {host} has no {missing}")]
    Form {
        /// Scheme, host and port.
        host: String,
        /// What should have been there.
        missing: &'static str,
    },
    /// The run has sent as many requests as it may.
    #[error("the budget of {max_calls} requests to {host} is spent; the setting calls_per_run raises it")]
    Budget {
        /// Scheme, host and port.
        host: String,
        /// The bound.
        max_calls: u64,
    },
}
