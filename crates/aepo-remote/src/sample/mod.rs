//! How is a path sampled by servers on other machines? vLLM or SGLang over HTTP, several replicas of them.
//!
//! From the inside out: `wire` is what any of them is asked and answers, `vllm` and `sglang` say it in their protocols
//! over `http`; `reading` and `entropy` make the pipeline's numbers of theirs; `route` decides who is asked, `line` who
//! is next and `tries` how often; `weights` sees to it that a replica is well and has the right weights; `fulfil` carries
//! a request through until it is answered; and `live` puts it all behind [`aepo::policy::Sampler`].

pub mod entropy;
mod fulfil;
mod http;
mod line;
mod live;
pub mod reading;
pub mod route;
mod sglang;
mod shared;
pub mod tries;
mod vllm;
mod weights;
mod wire;

use std::fmt;
use std::time::Duration;

use aepo::policy::{PolicyError, PolicyVersion};

pub use live::RemoteSampler;
pub use shared::{ReplicaTally, Tally};

/// Which program serves the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleEngine {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
}

impl SampleEngine {
    /// As it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SampleEngine::Vllm => "vLLM",
            SampleEngine::Sglang => "SGLang",
        }
    }
}

/// A key of servers; shown nowhere.
#[derive(Clone)]
pub struct Key(pub String);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Where and how paths are sampled.
#[derive(Clone, Debug)]
pub struct SampleSettings {
    /// Which program.
    pub engine: SampleEngine,
    /// Its replicas, `http://host:port` each; at least one.
    pub urls: Vec<String>,
    /// The name under which the model is served; the first that a replica names unless given. vLLM alone has names.
    pub model: Option<String>,
    /// A key to send.
    pub key: Option<Key>,
    /// Log-probabilities per token that are asked for, ≥ 10; entropies are known to the bounds that these leave.
    pub n_top: usize,
    /// Ids of the model.
    pub vocab_size: usize,
    /// Longest path of the model, tokens; that of the replicas holds where it is shorter.
    pub context_len: usize,
    /// A request takes no longer, with all its tries.
    pub deadline: Duration,
    /// A try takes no longer.
    pub try_within: Duration,
    /// Requests in flight at one replica.
    pub max_in_flight: usize,
    /// The weights that the replicas serve now.
    pub version: PolicyVersion,
}

/// Why nothing is sampled.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// What was set cannot be.
    #[error("{0}")]
    Settings(String),
    /// No replica did it in time.
    #[error(
        "{engine}: no replica answered within {secs:.1} s ({n_tries} tries). {causes}. Look at the servers; \
         policy.sample.deadline_secs allows more time"
    )]
    Storm {
        /// The program's name.
        engine: &'static str,
        /// How long it was tried.
        secs: f64,
        /// How often.
        n_tries: u32,
        /// What happened to each replica last.
        causes: String,
    },
    /// A replica says that it will never do this.
    #[error("{url} refuses: {why}")]
    Refused {
        /// Its address.
        url: String,
        /// Its words.
        why: String,
    },
    /// The server's log-probabilities are not those that are needed, and what would make them so.
    #[error("{url}: {why}")]
    Logprobs {
        /// Its address.
        url: String,
        /// What and how.
        why: String,
    },
    /// The thread that speaks to the replicas cannot be started, or is gone.
    #[error("the thread that speaks to {engine}: {why}")]
    Thread {
        /// The program's name.
        engine: &'static str,
        /// What happened.
        why: String,
    },
}

impl From<SampleError> for PolicyError {
    fn from(error: SampleError) -> PolicyError {
        PolicyError::Remote(error.to_string())
    }
}
