//! How does somebody else have a hand in a policy's polls? To end a rollout, to count answers, to mark versions.

use std::path::Path;

use super::{
    Completion, Learner, PathId, PolicyError, PolicyVersion, SampleRequest, Sampler, StepParams, StepReport, TokenStats,
};
use crate::train::batch::TreeBatch;

/// A policy whose polls `poll` makes, with the policy at hand; everything else goes straight to the policy.
pub struct Polled<'a, P: ?Sized, F> {
    /// What samples, and learns if it can.
    pub policy: &'a mut P,
    /// Makes a poll.
    pub poll: F,
}

impl<P: Sampler + ?Sized, F: FnMut(&mut P) -> Result<Vec<Completion>, PolicyError>> Sampler for Polled<'_, P, F> {
    fn vocab_size(&self) -> usize {
        self.policy.vocab_size()
    }
    fn context_len(&self) -> usize {
        self.policy.context_len()
    }
    fn version(&self) -> PolicyVersion {
        self.policy.version()
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        self.policy.open(tokens)
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.policy.append(path, tokens)
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        self.policy.fork(path, n_tokens)
    }
    fn close(&mut self, path: PathId) {
        self.policy.close(path);
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        self.policy.submit(request)
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        (self.poll)(self.policy)
    }
}

impl<P: Learner + ?Sized, F> Learner for Polled<'_, P, F> {
    fn forward(&mut self, batch: &TreeBatch, temperature: f32, keep: bool) -> Result<TokenStats, PolicyError> {
        self.policy.forward(batch, temperature, keep)
    }
    fn backward(&mut self, batch: &TreeBatch, dlogp: &[f32], dentropy: &[f32]) -> Result<(), PolicyError> {
        self.policy.backward(batch, dlogp, dentropy)
    }
    fn step(&mut self, params: &StepParams) -> Result<StepReport, PolicyError> {
        self.policy.step(params)
    }
    fn save(&mut self, dir: &Path, optimizer: bool) -> Result<(), PolicyError> {
        self.policy.save(dir, optimizer)
    }
}
