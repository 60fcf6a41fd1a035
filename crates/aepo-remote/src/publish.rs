//! How do new weights get from the program that trains to the one that samples?

use std::path::{Path, PathBuf};

use aepo::policy::{Learner, PolicyError, PolicyVersion, Sampler};

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

/// A learner that hands its weights out.
pub trait Publisher: Learner {
    /// Which weights it has.
    fn trained(&self) -> PolicyVersion;
    /// Puts its weights into `dir`, which exists and is empty.
    ///
    /// # Errors
    /// When the weights cannot be had or written.
    fn publish(&mut self, dir: &Path) -> Result<Published, PolicyError>;
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
