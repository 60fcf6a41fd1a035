//! How do two programs make one policy? One samples, one learns, and after each step the weights go from here to there.
//!
//! Both sides count versions. What samples and what learns must be of the same version whenever anything is sampled or
//! learned; a pair out of step is an error and never a path of other weights than its version says.

use std::path::{Path, PathBuf};

use aepo::policy::{
    Completion, Learner, PathId, PolicyError, PolicyVersion, SampleRequest, Sampler, StepParams, StepReport, TokenStats,
};
use aepo::train::batch::TreeBatch;
use tempfile::TempDir;

use crate::publish::{Follower, Publisher};

/// A sampler and a learner of the same weights.
pub struct Pair<S, L> {
    /// What samples.
    pub sampler: S,
    /// What learns.
    pub learner: L,
    room: TempDir,
    /// Where the weights that are sampled from lie: a server that starts anew asks for them again.
    held: Option<PathBuf>,
}

impl<S: Follower, L: Publisher> Pair<S, L> {
    /// Hands the learner's weights to the sampler first, whatever it had.
    pub fn new(sampler: S, learner: L) -> Result<Pair<S, L>, PolicyError> {
        let room = tempfile::Builder::new().prefix("aepo-weights-").tempdir();
        let room = room.map_err(|e| PolicyError::Checkpoint(format!("cannot make a directory for weights: {e}")))?;
        let mut pair = Pair { sampler, learner, room, held: None };
        pair.hand_over()?;
        Ok(pair)
    }

    fn hand_over(&mut self) -> Result<(), PolicyError> {
        // A name is used once: whoever keeps something under a directory's name must not find other weights there.
        let dir = self.room.path().join(format!("v{}", self.learner.trained().0));
        let failed = |e: std::io::Error| PolicyError::Checkpoint(format!("{}: {e}", dir.display()));
        std::fs::create_dir(&dir).map_err(failed)?;
        let published = self.learner.publish(&dir)?;
        if published.version != self.learner.trained() {
            return Err(out_of_step(published.version, self.learner.trained()));
        }
        self.sampler.follow(&published)?;
        if let Some(old) = self.held.replace(dir.clone()) {
            std::fs::remove_dir_all(old).map_err(failed)?;
        }
        self.in_step()
    }

    fn in_step(&self) -> Result<(), PolicyError> {
        match (self.sampler.version(), self.learner.trained()) {
            (sampled, trained) if sampled == trained => Ok(()),
            (sampled, trained) => Err(out_of_step(sampled, trained)),
        }
    }
}

fn out_of_step(sampled: PolicyVersion, trained: PolicyVersion) -> PolicyError {
    PolicyError::Remote(format!(
        "the sampler has the weights of step {} and the learner those of step {}; go on from the last checkpoint with \
         --resume",
        sampled.0, trained.0
    ))
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
