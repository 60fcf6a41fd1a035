//! What must a model be able to do? The first of the two traits where the world begins.
//!
//! A policy samples along *paths* (forkable token prefixes with a live cache) and trains on *tree batches*. The
//! pipeline never sees a tensor: it hands over token ids and gets log-probabilities and entropies; it hands over
//! `dL/dlogp` and the policy back-propagates `Σ c_t · logp_t` (architecture: RL mathematics without tensors).

pub mod polled;
pub mod watch;

use std::path::Path;
use std::sync::Arc;

use crate::stop::Stop;
use crate::train::batch::TreeBatch;

/// How many optimiser steps made these weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct PolicyVersion(pub u64);

/// Where the weights changed within a run of sampled tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VersionChange {
    /// Position of the first token, in the run, that these weights sampled; > 0.
    pub from_idx: u32,
    /// The weights.
    pub version: PolicyVersion,
}

/// A live sampling path inside a policy: a token prefix whose cache is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub u64);

/// How tokens are drawn from the model's distribution. Log-probabilities and entropies are always those of the whole
/// vocabulary at `temperature`, before `top_p` and `top_k` cut it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleParams {
    /// Softmax temperature, > 0.
    pub temperature: f32,
    /// Nucleus mass in (0, 1]; 1 keeps the whole vocabulary.
    pub top_p: f32,
    /// Number of candidates kept; 0 keeps the whole vocabulary.
    pub top_k: usize,
    /// Whether [`SampledToken::top_entropy`] is wanted; it costs a pass over the vocabulary per token.
    pub top_entropy: bool,
}

/// Asks for a continuation of `path`.
#[derive(Clone, Debug)]
pub struct SampleRequest {
    /// The path to continue. It must not have another request in flight.
    pub path: PathId,
    /// At most this many tokens, > 0.
    pub max_tokens: usize,
    /// Ends the continuation; the token that ends it is part of the result and of the path.
    pub stop: Arc<Stop>,
    /// Tokens at the path's end that belong to the same turn: a text that ends it may begin in them.
    pub n_turn: usize,
    /// How to draw.
    pub params: SampleParams,
    /// Token `i` of this request is drawn with `seed.uniform(i)`.
    pub seed: crate::seed::Seed,
}

/// One sampled token with what the sampler knew when it drew it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledToken {
    /// Vocabulary id.
    pub token: u32,
    /// Natural log-probability under the sampling temperature.
    pub logprob: f32,
    /// Entropy of the next-token distribution it was drawn from, nats, full vocabulary, at the sampling temperature.
    pub entropy: f32,
    /// `−Σ p·ln p` over the [`N_TOP`] likeliest tokens of the same distribution (p as it is, not normalised over them),
    /// nats; 0 unless [`SampleParams::top_entropy`] asked for it.
    pub top_entropy: f32,
}

/// Tokens that [`SampledToken::top_entropy`] is summed over: as many log-probabilities as the released code of
/// arXiv 2510.14545 asks its sampler for.
pub const N_TOP: usize = 10;

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleStop {
    /// The last token returned is what [`SampleRequest::stop`] says ends it.
    StopToken,
    /// `max_tokens` were sampled.
    MaxTokens,
    /// The model's context is full.
    ContextFull,
}

/// The answer to a [`SampleRequest`].
#[derive(Clone, Debug)]
pub struct Completion {
    /// The path that was continued.
    pub path: PathId,
    /// The sampled tokens, in order.
    pub tokens: Vec<SampledToken>,
    /// Why it ended.
    pub stop: SampleStop,
    /// The weights that sampled the first token.
    pub version: PolicyVersion,
    /// Where other weights took over, in order; empty where all tokens are of one version.
    pub changes: Vec<VersionChange>,
}

/// Log-probability and entropy of each target of a [`TreeBatch`], in the batch's target order.
#[derive(Clone, Debug, Default)]
pub struct TokenStats {
    /// `[n_targets]`, nats.
    pub logprobs: Vec<f32>,
    /// `[n_targets]`, nats, full vocabulary; empty from a learner that cannot measure them.
    pub entropies: Vec<f32>,
}

/// What one optimiser step needs to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepParams {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decoupled weight decay (AdamW), applied to matrices only.
    pub weight_decay: f32,
    /// Adam's β₁.
    pub beta1: f32,
    /// Adam's β₂.
    pub beta2: f32,
    /// Adam's ε.
    pub eps: f32,
    /// The global gradient norm is clipped to this; infinity leaves it alone.
    pub max_grad_norm: f32,
}

/// What one optimiser step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f32,
    /// False when the gradient was not finite: the weights were left as they were.
    pub applied: bool,
}

/// What can go wrong inside a policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The path does not exist (never opened, or already closed).
    #[error("path {0:?} is not open")]
    UnknownPath(PathId),
    /// A token id lies outside the vocabulary.
    #[error("token id {token} is outside the vocabulary of {vocab_size}")]
    TokenOutOfRange {
        /// The offending id.
        token: u32,
        /// Number of rows of the embedding.
        vocab_size: usize,
    },
    /// A sequence is longer than the model's context.
    #[error("{n_tokens} tokens do not fit the model's context of {context_len}")]
    ContextOverflow {
        /// Tokens asked for.
        n_tokens: usize,
        /// The model's limit.
        context_len: usize,
    },
    /// The caller broke the protocol of the trait.
    #[error("{0}")]
    Misuse(String),
    /// A log-probability, a gradient or a weight stopped being finite.
    #[error("{0} is not finite: lower the learning rate or look at the last batch")]
    NotFinite(&'static str),
    /// A program elsewhere that samples or learns failed; the message names it and says what to do.
    #[error("{0}")]
    Remote(String),
    /// Reading or writing a checkpoint failed; the message names the file.
    #[error("{0}")]
    Checkpoint(String),
}

/// A model that samples.
///
/// Sampling is a small event loop: `submit` any number of requests, then `poll` until each has come back. Paths are
/// independent: what a path samples never depends on which other paths are live (the embedded engine promises this
/// bit for bit).
pub trait Sampler {
    /// Number of token ids.
    fn vocab_size(&self) -> usize;
    /// Longest path, in tokens.
    fn context_len(&self) -> usize;
    /// Which weights are live.
    fn version(&self) -> PolicyVersion;

    /// Opens a path that begins with these context tokens (at least one).
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError>;
    /// Appends context tokens (a tool result) to a path without a request in flight.
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError>;
    /// Opens a path that shares the first `n_tokens` (≥ 1) of `path`; no keys or values are copied. The parent may
    /// have a request in flight.
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError>;
    /// Forgets a path. Cache shared with other paths lives on.
    fn close(&mut self, path: PathId);
    /// Queues a continuation.
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError>;
    /// Makes progress on every queued request (the embedded engine: one token each) and returns those that ended.
    /// Returns an empty list at once when nothing is queued.
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError>;
}

/// A model that learns.
pub trait Learner {
    /// Log-probabilities (at `temperature`) of the batch's targets, and their entropies where it can measure them. With `keep`, the activations stay
    /// for one `backward`.
    fn forward(&mut self, batch: &TreeBatch, temperature: f32, keep: bool) -> Result<TokenStats, PolicyError>;
    /// Adds the gradient of `Σ_t dlogp[t] · logp_t + Σ_t dentropy[t] · H_t` over the batch of the last kept
    /// `forward`. `dlogp` is `[n_targets]`; `dentropy` is `[n_targets]` or empty (all zero).
    fn backward(&mut self, batch: &TreeBatch, dlogp: &[f32], dentropy: &[f32]) -> Result<(), PolicyError>;
    /// One optimiser step on the accumulated gradient, which is cleared. All paths must be closed: their cache
    /// belongs to the old weights.
    fn step(&mut self, params: &StepParams) -> Result<StepReport, PolicyError>;

    /// Writes weights (and, with `optimizer`, everything needed to go on exactly) into `dir`, which exists.
    fn save(&mut self, dir: &Path, optimizer: bool) -> Result<(), PolicyError>;
}

/// A model that samples and learns: one program, or two that share their weights.
pub trait Policy: Sampler + Learner {}

impl<T: Sampler + Learner> Policy for T {}
