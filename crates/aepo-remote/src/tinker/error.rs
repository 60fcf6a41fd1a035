//! Why does training on a Tinker server not go on, and what can be done about it?

use std::path::PathBuf;

use aepo::policy::PolicyError;
use aepo_tools::http::HttpError;

/// An error of training on a server. No message holds a key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TinkerError {
    /// The server could not be asked.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server refuses or has failed.
    #[error("{host}: {what} failed with HTTP status {status}{message}")]
    Refused {
        /// Scheme, host and port.
        host: String,
        /// What was asked for.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// What the server says, behind a colon, or nothing.
        message: String,
    },
    /// All of its slots for LoRA are taken.
    #[error(
        "{host} has no room for another model{message}; end another run, or start the server with more slots \
         (SkyRL: max_lora_adapters, of which it keeps one for itself)"
    )]
    NoSlot {
        /// Scheme, host and port.
        host: String,
        /// What the server says, behind a colon, or nothing.
        message: String,
    },
    /// A result that never came.
    #[error("{host}: {what} has not ended within {secs} s; policy.train.patience_secs raises the bound")]
    TooLate {
        /// Scheme, host and port.
        host: String,
        /// What was waited for.
        what: &'static str,
        /// The bound.
        secs: u64,
    },
    /// A request whose answer was lost, on a server that may act on it twice.
    #[error(
        "{host}: the answer to {what} was lost ({why}), and this server does not tell a repeated request from a new one; \
         go on from the last checkpoint with --resume"
    )]
    Lost {
        /// Scheme, host and port.
        host: String,
        /// What was asked for.
        what: &'static str,
        /// What happened.
        why: String,
    },
    /// An answer of another form.
    #[error("{host}: the answer to {what} has no {missing}: the server speaks another version of the protocol")]
    Form {
        /// Scheme, host and port.
        host: String,
        /// What was asked for.
        what: &'static str,
        /// What should have been there.
        missing: &'static str,
    },
    /// Neither way of sending a batch is understood.
    #[error("{host} takes batches neither as protobuf (status {protobuf}) nor as JSON (status {json})")]
    Dialect {
        /// Scheme, host and port.
        host: String,
        /// Status that protobuf got.
        protobuf: u16,
        /// Status that JSON got.
        json: u16,
    },
    /// Gradients are added up in a way that is not known here.
    #[error(
        "{host} adds up losses in an unknown way: doubling a batch makes its gradient {doubled:.4} times as long, and \
         padding a sequence {padded:.4} times; 2 and 1 (sums) or 1 and {mean:.4} (means) are known"
    )]
    Reduction {
        /// Scheme, host and port.
        host: String,
        /// Ratio of gradient norms.
        doubled: f64,
        /// Ratio of gradient norms.
        padded: f64,
        /// What the second would be if each sequence were averaged.
        mean: f64,
    },
    /// Something that a run asks for and this server, or the protocol, does not have.
    #[error("{host} cannot do what `{key}` asks for: {why}")]
    Unable {
        /// Scheme, host and port.
        host: String,
        /// The setting to change.
        key: &'static str,
        /// What is missing, and what to set.
        why: String,
    },
    /// The weights of the backward pass are not those of the forward pass.
    #[error(
        "{host}: log-probabilities moved by {mean:.3} nats a token between scoring and training: somebody else trains this \
         model, or the server has lost its weights; go on from the last checkpoint with --resume"
    )]
    Moved {
        /// Scheme, host and port.
        host: String,
        /// Mean of |Δlogp| over the tokens that were trained, nats.
        mean: f64,
    },
    /// An earlier error has left a part of a batch on the server.
    #[error("{host} holds a part of a batch since an earlier error; go on from the last checkpoint with --resume")]
    Partial {
        /// Scheme, host and port.
        host: String,
    },
    /// The archive of weights is not what it should be.
    #[error("{host}: the archive of weights {why}")]
    Archive {
        /// Scheme, host and port.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file here cannot be written or read.
    #[error("{path}: {why}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The caller broke the protocol of the trait, or a batch is no forest of tokens.
    #[error("{0}")]
    Misuse(String),
    /// A number that the server sent is not finite.
    #[error("{host}: {what} is not finite: lower the learning rate, and go on from the last checkpoint with --resume")]
    NotFinite {
        /// Scheme, host and port.
        host: String,
        /// Which number.
        what: &'static str,
    },
}

impl From<TinkerError> for PolicyError {
    fn from(error: TinkerError) -> PolicyError {
        match error {
            TinkerError::Misuse(why) => PolicyError::Misuse(why),
            TinkerError::File { .. } => PolicyError::Checkpoint(error.to_string()),
            error => PolicyError::Remote(error.to_string()),
        }
    }
}
