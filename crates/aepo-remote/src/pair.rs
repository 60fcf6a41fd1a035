//! How do two programs make one policy? One samples, one learns, and after each step the weights go from here to there.
//!
//! Both sides count versions. What samples and what learns must be of the same version whenever anything is sampled or
//! learned; a pair out of step is an error and never a path of other weights than its version says.

use std::path::Path;

use aepo::policy::{
    Completion, Learner, PathId, PolicyError, PolicyVersion, SampleRequest, Sampler, StepParams, StepReport, TokenStats,
};
use aepo::train::batch::TreeBatch;

use crate::publish::{Follower, Publisher};
use crate::room::{Room, out_of_step};

/// A sampler and a learner of the same weights.
pub struct Pair<S, L> {
    /// What samples.
    pub sampler: S,
    /// What learns.
    pub learner: L,
    /// Where weights are handed over.
    pub room: Room,
}

impl<S: Follower, L: Publisher> Pair<S, L> {
    /// Hands the learner's weights to the sampler first, whatever it had.
    pub fn new(sampler: S, learner: L, room: Room) -> Result<Pair<S, L>, PolicyError> {
        let mut pair = Pair { sampler, learner, room };
        pair.hand_over()?;
        Ok(pair)
    }

    fn hand_over(&mut self) -> Result<(), PolicyError> {
        let published = self.room.publish(&mut self.learner)?;
        self.sampler.follow(&published)?;
        self.room.forget_before(published.version)?;
        self.in_step()
    }

    fn in_step(&self) -> Result<(), PolicyError> {
        match (self.sampler.version(), self.learner.trained()) {
            (sampled, trained) if sampled == trained => Ok(()),
            (sampled, trained) => Err(out_of_step(sampled, trained)),
        }
    }
}

impl<S: Follower, L: Publisher> Sampler for Pair<S, L> {
    fn vocab_size(&self) -> usize {
        self.sampler.vocab_size()
    }
    fn context_len(&self) -> usize {
        self.sampler.context_len()
    }
    fn version(&self) -> PolicyVersion {
        self.sampler.version()
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        self.in_step()?;
        self.sampler.open(tokens)
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.sampler.append(path, tokens)
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        self.sampler.fork(path, n_tokens)
    }
    fn close(&mut self, path: PathId) {
        self.sampler.close(path);
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        self.sampler.submit(request)
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        self.sampler.poll()
    }
}

impl<S: Follower, L: Publisher> Learner for Pair<S, L> {
    fn forward(&mut self, batch: &TreeBatch, temperature: f32, keep: bool) -> Result<TokenStats, PolicyError> {
        self.in_step()?;
        self.learner.forward(batch, temperature, keep)
    }
    fn backward(&mut self, batch: &TreeBatch, dlogp: &[f32], dentropy: &[f32]) -> Result<(), PolicyError> {
        self.learner.backward(batch, dlogp, dentropy)
    }
    fn step(&mut self, params: &StepParams) -> Result<StepReport, PolicyError> {
        self.in_step()?;
        let report = self.learner.step(params)?;
        if report.applied {
            self.hand_over()?;
        }
        Ok(report)
    }
    fn save(&mut self, dir: &Path, optimizer: bool) -> Result<(), PolicyError> {
        self.in_step()?;
        self.learner.save(dir, optimizer)
    }
}
