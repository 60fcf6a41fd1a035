//! Why can a model of the hub not be had, and what can be done about it?

use std::path::PathBuf;

/// An error of the hub. No message holds the token.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The name is not one that the hub gives.
    #[error("`{name}` is no name of a model on the hub: {why}")]
    Name {
        /// What was written.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A variable of the environment cannot be followed.
    #[error("environment variable {variable}: {why}")]
    Environment {
        /// Which one.
        variable: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The network is not to be used, and the cache does not have everything.
    #[error(
        "{name} is not in the cache ({missing} is missing below {folder}), and no network is to be used: fetch it once \
         without --offline and HF_HUB_OFFLINE"
    )]
    Offline {
        /// Which model.
        name: String,
        /// The first file that is not there.
        missing: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// No answer, and the cache does not have everything.
    #[error(
        "{host} cannot be reached ({cause}), and {name} is not in the cache: check the network, HF_ENDPOINT and \
         HTTPS_PROXY, or name a local directory"
    )]
    Unreachable {
        /// Which server.
        host: String,
        /// What happened.
        cause: String,
        /// Which model.
        name: String,
    },
    /// The hub shows this model only to some.
    #[error("{host} denies access to {name} ({status}{message}): {advice}")]
    Denied {
        /// Which server.
        host: String,
        /// Which model.
        name: String,
        /// HTTP status, 401 or 403.
        status: u16,
        /// What the server says, behind a colon, or nothing.
        message: String,
        /// What to do.
        advice: &'static str,
    },
    /// There is no such model, revision or file.
    #[error("there is no {what} on {host}: check the spelling at {host}/{repo}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// Which server.
        host: String,
        /// Which repository.
        repo: String,
    },
    /// The repository has files, but not those that a model needs.
    #[error("{name} has no {missing}{hint}")]
    NoModel {
        /// Which model.
        name: String,
        /// Which file.
        missing: String,
        /// What may help, behind a colon.
        hint: String,
    },
    /// The server answers with an error of its own, again and again.
    #[error("{host} answers {status} for {what}, {tries} times: try again later; what was fetched is kept")]
    Server {
        /// Which server.
        host: String,
        /// The last HTTP status.
        status: u16,
        /// What was asked for.
        what: String,
        /// How often.
        tries: u32,
    },
    /// The server does not speak the hub's language.
    #[error("{host} answers {what} with {found}: is HF_ENDPOINT a hub?")]
    Protocol {
        /// Which server.
        host: String,
        /// What was asked for.
        what: String,
        /// What is wrong with the answer.
        found: String,
    },
    /// The connection broke again and again.
    #[error(
        "{file} of {name}: the connection broke {tries} times, last after {n_bytes} bytes ({cause}): the same command \
         goes on from there"
    )]
    Cut {
        /// Which file.
        file: String,
        /// Which model.
        name: String,
        /// How often.
        tries: u32,
        /// Bytes that are on the disk.
        n_bytes: u64,
        /// What happened last.
        cause: String,
    },
    /// More or fewer bytes than announced.
    #[error("{file} of {name}: {found} bytes were sent, {expected} announced: nothing of it is kept, try again")]
    Size {
        /// Which file.
        file: String,
        /// Which model.
        name: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes sent, at least.
        found: u64,
    },
    /// Other bytes than announced.
    #[error(
        "{file} of {name}: its {algorithm} is {found}, announced was {expected}: nothing of it is kept; if this happens \
         again, the server or something before it changes files"
    )]
    Checksum {
        /// Which file.
        file: String,
        /// Which model.
        name: String,
        /// Which sum.
        algorithm: &'static str,
        /// What the hub says.
        expected: String,
        /// What arrived.
        found: String,
    },
    /// No room for a file.
    #[error("{path}: the disk is full with {n_left} bytes to come: make room, or set HF_HOME to another disk")]
    DiskFull {
        /// Which file.
        path: PathBuf,
        /// Bytes that did not find room.
        n_left: u64,
    },
    /// The cache cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Whoever is told of the progress has asked to stop.
    #[error("stopped while {file} was fetched; what was fetched is kept")]
    Stopped {
        /// Which file.
        file: String,
    },
}

impl HubError {
    pub(super) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> HubError + '_ {
        |source| HubError::Io { path: path.to_owned(), source }
    }
}
