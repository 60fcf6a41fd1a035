//! How do new weights get from the program that trains to the one that samples?

use std::path::PathBuf;

use aepo::policy::{PolicyError, PolicyVersion, Sampler};

/// Weights on a disk that both programs see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weights {
    /// A directory with LoRA's matrices as PEFT writes them; the model under them is the one that is served.
    Adapter(PathBuf),
    /// A directory with a whole model.
    Full(PathBuf),
}

/// A version of the weights, ready to be taken over. A directory is never written again once it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Which version.
    pub version: PolicyVersion,
    /// Where it lies.
    pub weights: Weights,
}

/// A sampler that takes over weights which another program trains.
pub trait Follower: Sampler {
    /// Takes the weights over. What is submitted from now on is sampled by them; what is in flight keeps the weights
    /// that it began with.
    ///
    /// # Errors
    /// When no replica has the weights in the end.
    fn follow(&mut self, published: &Published) -> Result<(), PolicyError>;
}
