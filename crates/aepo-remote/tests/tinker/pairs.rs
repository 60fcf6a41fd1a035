//! Does a pair sample from what it has learned, and never from anything else?

use std::path::Path;
use std::sync::Arc;

use aepo::policy::{
    Learner, Policy, PolicyError, PolicyVersion, SampleParams, SampleRequest, SampledToken, Sampler, StepParams,
    StepReport, TokenStats,
};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::train::batch::{Target, TreeBatch};
use aepo_engine::Engine;
use aepo_remote::pair::Pair;
use aepo_remote::publish::{Published, Publisher};
use aepo_remote::room::Room;

use crate::support::{Disk, adam, learn, learner};

const FREE: f32 = f32::INFINITY;

fn sampled(policy: &mut dyn Policy) -> Vec<SampledToken> {
    let path = policy.open(&[1, 2, 3]).unwrap();
    let params = SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false };
    let stop = Arc::new(Stop::default());
    policy.submit(SampleRequest { path, max_tokens: 12, stop, n_turn: 0, params, seed: Seed(9) }).unwrap();
    let mut done = Vec::new();
    while done.is_empty() {
        done = policy.poll().unwrap();
    }
    policy.close(path);
    done.remove(0).tokens
}

/// What the learner says of what was sampled.
fn scored(policy: &mut dyn Policy, tokens: &[SampledToken]) -> Vec<f32> {
    let ids: Vec<u32> = [1, 2, 3].into_iter().chain(tokens.iter().map(|t| t.token)).collect();
    let mut batch = TreeBatch::default();
    batch.push_segment(None, &ids);
    batch.targets = (3..ids.len()).map(|i| Target { from_idx: i as u32 - 1, token: ids[i] }).collect();
    policy.forward(&batch, 1.0, false).unwrap().logprobs
}

#[test]
fn what_was_learned_there_is_sampled_here() {
    let disk = Disk::new();
    let server = disk.server(|_| {});
    let mut pair = Pair::new(disk.engine(), learner(&server), Room::new(None).unwrap()).unwrap();
    let mut alone = disk.engine();
    for step in 0..3 {
        assert_eq!((pair.version(), alone.version()), (PolicyVersion(2 * step), PolicyVersion(2 * step)));
        let tokens = sampled(&mut pair);
        for (token, logprob) in tokens.iter().zip(scored(&mut pair, &tokens)) {
            assert!((token.logprob - logprob).abs() < 1e-5, "step {step}: {} {logprob}", token.logprob);
        }
        let same = sampled(&mut alone);
        assert!(tokens.iter().zip(&same).all(|(a, b)| (a.logprob - b.logprob).abs() < 1e-4), "step {step}");
        learn(&mut pair, step, adam(FREE)).unwrap();
        learn(&mut alone, step, adam(FREE)).unwrap();
    }
    assert_ne!(sampled(&mut pair), sampled(&mut disk.engine()), "it has learned something");
}

/// Weights are those of the last step, and a path that lives on would be of others.
#[test]
fn a_step_with_open_paths_is_an_error() {
    let disk = Disk::new();
    let mut pair = Pair::new(disk.engine(), disk.engine(), Room::new(None).unwrap()).unwrap();
    pair.open(&[1, 2]).unwrap();
    let error = learn(&mut pair, 0, adam(FREE)).unwrap_err().to_string();
    assert!(error.contains("paths are open"), "{error}");
    // The learner is a step further than the sampler now, and that is said from here on.
    let error = pair.open(&[1]).unwrap_err().to_string();
    assert!(error.contains("step 0") && error.contains("step 1") && error.contains("--resume"), "{error}");
    assert!(pair.forward(&TreeBatch::default(), 1.0, false).is_err());
}

#[test]
fn two_engines_are_as_good_as_one() {
    let disk = Disk::new();
    let (mut pair, mut alone) =
        (Pair::new(disk.engine(), disk.engine(), Room::new(None).unwrap()).unwrap(), disk.engine());
    for step in 0..2 {
        assert_eq!(sampled(&mut pair), sampled(&mut alone), "bit for bit");
        learn(&mut pair, step, adam(1.0)).unwrap();
        learn(&mut alone, step, adam(1.0)).unwrap();
    }
}

/// A learner that says another version than it hands out.
struct Liar(Engine, u64);

impl Learner for Liar {
    fn forward(&mut self, batch: &TreeBatch, temperature: f32, keep: bool) -> Result<TokenStats, PolicyError> {
        self.0.forward(batch, temperature, keep)
    }
    fn backward(&mut self, batch: &TreeBatch, dlogp: &[f32], dentropy: &[f32]) -> Result<(), PolicyError> {
        self.0.backward(batch, dlogp, dentropy)
    }
    fn step(&mut self, params: &StepParams) -> Result<StepReport, PolicyError> {
        self.0.step(params)
    }
    fn save(&mut self, dir: &Path, optimizer: bool) -> Result<(), PolicyError> {
        self.0.save(dir, optimizer)
    }
}

impl Publisher for Liar {
    fn trained(&self) -> PolicyVersion {
        PolicyVersion(self.0.version().0 + self.1)
    }
    fn publish(&mut self, dir: &Path) -> Result<Published, PolicyError> {
        self.0.publish(dir)
    }
}

#[test]
fn versions_are_held_against_each_other() {
    let disk = Disk::new();
    assert!(Pair::new(disk.engine(), Liar(disk.engine(), 0), Room::new(None).unwrap()).is_ok());
    let error = Pair::new(disk.engine(), Liar(disk.engine(), 1), Room::new(None).unwrap()).err().unwrap().to_string();
    assert!(error.contains("step 0") && error.contains("step 1"), "{error}");
}
