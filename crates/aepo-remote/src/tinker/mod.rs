//! How is a model trained by a program that speaks the Tinker protocol? SkyRL's server, or a hosted service of that shape.
//!
//! From the outside in: `learner` is the pipeline's [`aepo::policy::Learner`], `probe` finds out what a server can do,
//! `model` is one model on it, `api` asks it, `wire` and `json` are the two ways in which batches are written. `unroll`
//! makes sequences of trees, `archive` reads the weights that come back.

pub mod api;
pub mod archive;
pub mod error;
pub mod json;
pub mod learner;
pub mod model;
pub mod probe;
pub mod unroll;
pub mod wire;

use std::time::Duration;

pub use aepo::config::remote::ALPHA;
pub use error::TinkerError;
pub use learner::{ServerState, TinkerLearner};
pub use probe::Capabilities;

/// Which server, and which model on it.
#[derive(Clone, Debug, PartialEq)]
pub struct TinkerSettings {
    /// `http://host:port`, or `https://host` with whatever stands before `/api/v1`.
    pub url: String,
    /// Variable of the environment that holds the key; `None` where the server wants none.
    pub key_env: Option<String>,
    /// The name under which the server knows the model; `None` takes the only one that it has.
    pub model: Option<String>,
    /// r.
    pub rank: usize,
    /// Draws LoRA's first matrices.
    pub seed: u32,
    /// Whether the matrices of attention get one.
    pub attention: bool,
    /// Whether the matrices of the MLP get one.
    pub mlp: bool,
    /// Longest time of one operation: a pass over a batch, a step, the weights' way here.
    pub patience: Duration,
    /// First pause before a request is sent again; it doubles.
    pub pause: Duration,
}

impl TinkerSettings {
    /// A server without a key that has one model.
    #[must_use]
    pub fn of(url: impl Into<String>, rank: usize) -> TinkerSettings {
        TinkerSettings {
            url: url.into(),
            key_env: None,
            model: None,
            rank,
            seed: 0,
            attention: true,
            mlp: true,
            patience: Duration::from_secs(600),
            pause: Duration::from_millis(500),
        }
    }
}
