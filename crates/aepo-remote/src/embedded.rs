//! How does the embedded engine stand on either side of a pair?

use std::path::Path;

use aepo::policy::{Learner, PolicyError, PolicyVersion, Sampler as _};
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;

use crate::publish::{Follower, Published, Publisher, Weights};

/// How far two learners' log-probabilities are apart on a few tokens that every vocabulary has: the mean of |Δlogp|,
/// nats. Two programs may have been given other frozen weights under one name.
pub fn apart(one: &mut dyn Learner, other: &mut dyn Learner) -> Result<f64, PolicyError> {
    let tokens = [1, 2, 3, 4, 5, 6, 7, 8];
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &tokens);
    batch.targets = (1..8).map(|i| Target { from_idx: i - 1, token: tokens[i as usize] }).collect();
    let (a, b) = (one.forward(&batch, 1.0, false)?.logprobs, other.forward(&batch, 1.0, false)?.logprobs);
    Ok(a.iter().zip(&b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / tokens.len() as f64)
}

impl Publisher for Engine {
    fn trained(&self) -> PolicyVersion {
        self.version()
    }

    fn publish(&mut self, dir: &Path) -> Result<Published, PolicyError> {
        self.save(dir, false)?;
        let weights = if self.has_lora() { Weights::Adapter(dir.to_owned()) } else { Weights::Full(dir.to_owned()) };
        Ok(Published { version: self.version(), weights })
    }
}

impl Follower for Engine {
    fn follow(&mut self, published: &Published) -> Result<(), PolicyError> {
        match &published.weights {
            Weights::Adapter(dir) => self.take_adapter(dir, published.version),
            Weights::Full(dir) => Err(PolicyError::Remote(format!(
                "{}: the embedded engine takes over LoRA's matrices only; set lora.rank",
                dir.display()
            ))),
        }
    }
}
