//! How do the parts make a [`aepo::policy::Policy`]? Paths and requests over the block cache, and training steps over tree batches.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aepo::policy::{
    Completion, Learner, PathId, PolicyError, PolicyVersion, SampleRequest, Sampler, StepParams, StepReport, TokenStats,
};
use aepo::train::batch::TreeBatch;

use crate::adamw::{self, Moments};
use crate::cache::{BlockPool, PathCache};
use crate::checkpoint::{self, Precision};
use crate::config::ModelConfig;
use crate::decode::DecodeBuffers;
use crate::error::EngineError;
use crate::live::{LivePath, ROOM, Step};
use crate::model::{Keep, Model, Workspace};
use crate::real::fit;

/// The embedded CPU engine.
pub struct Engine {
    pub(crate) model: Model<f32>,
    /// `[n_trained]`, or empty before the first backward pass.
    pub(crate) grads: Vec<f32>,
    pub(crate) moments: Moments,
    pub(crate) work: Workspace<f32>,
    pub(crate) kept: bool,
    /// What a pass keeps for a backward pass; nothing where nothing is trained.
    pub(crate) keep: Keep,
    pub(crate) pool: BlockPool,
    pub(crate) paths: BTreeMap<u64, LivePath>,
    pub(crate) next_path: u64,
    pub(crate) step: Step,
    pub(crate) buffers: DecodeBuffers,
    /// Ids that can be drawn are below this.
    pub(crate) n_drawn: usize,
    /// The source's `generation_config.json`, handed on when the model is saved.
    pub(crate) generation_config: Option<String>,
    /// What the files of LoRA's matrices say that they belong to: where the model was read from, unless it is renamed.
    pub base_name: String,
}

impl Engine {
    /// Leaves only the first `n` ids to be drawn: rows of the embedding behind a tokenizer's last id are padding.
    /// Like the cuts of top-p and top-k this changes what is drawn and nothing else: log-probabilities and entropies
    /// stay those of all rows, which is what training computes and what `transformers` gives.
    pub fn limit_vocab(&mut self, n: usize) {
        self.n_drawn = n.clamp(1, self.model.config.vocab_size);
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    /// Whether training goes through LoRA's matrices.
    #[must_use]
    pub fn has_lora(&self) -> bool {
        self.model.lora.is_some()
    }

    /// LoRA's matrices, in the order of their layout; `None` where all weights are trained.
    #[must_use]
    pub fn adapter(&self) -> Option<&[f32]> {
        self.model.lora.as_ref().map(|lora| &lora.params[..])
    }

    /// What backward passes have added since the last step, `[n_trained]`; empty before the first.
    #[must_use]
    pub fn gradient(&self) -> &[f32] {
        &self.grads
    }

    /// Whether LoRA's matrices add anything: they do not before they are trained, when every `B` is zero.
    #[must_use]
    pub fn adapter_changes_something(&self) -> bool {
        self.model.lora.as_ref().is_some_and(|lora| {
            let b = lora.layout.tensors.iter().skip(1).step_by(2);
            b.flat_map(|tensor| &lora.params[tensor.range.clone()]).any(|&x| x != 0.0)
        })
    }

    /// Number of weights.
    #[must_use]
    pub fn n_parameters(&self) -> usize {
        self.model.params.len()
    }

    /// Number of weights that training changes.
    #[must_use]
    pub fn n_trained(&self) -> usize {
        self.model.n_trained()
    }

    fn path(&self, path: PathId) -> Result<&LivePath, PolicyError> {
        self.paths.get(&path.0).ok_or(PolicyError::UnknownPath(path))
    }

    fn check_tokens(&self, tokens: &[u32], n_before: usize) -> Result<(), PolicyError> {
        let vocab_size = self.model.config.vocab_size;
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= vocab_size) {
            return Err(PolicyError::TokenOutOfRange { token, vocab_size });
        }
        let (n_tokens, context_len) = (n_before + tokens.len(), self.context_len());
        match n_tokens <= context_len {
            true => Ok(()),
            false => Err(PolicyError::ContextOverflow { n_tokens, context_len }),
        }
    }

    fn check_batch(&self, batch: &TreeBatch) -> Result<(), PolicyError> {
        self.check_tokens(&batch.tokens, 0).or_else(|e| match e {
            PolicyError::ContextOverflow { .. } => Ok(()),
            e => Err(e),
        })?;
        let mut next = 0;
        for (i, s) in batch.segments.iter().enumerate() {
            let depth = match s.parent {
                Some(p) if (p as usize) < i => batch.segments[p as usize].depth + batch.segments[p as usize].n_tokens,
                Some(p) => return Err(PolicyError::Misuse(format!("segment {i} stands before its parent {p}"))),
                None => 0,
            };
            if s.n_tokens == 0 || s.start_idx != next || s.depth != depth {
                return Err(PolicyError::Misuse(format!("segment {i} of the batch is inconsistent: {s:?}")));
            }
            next += s.n_tokens;
            let n_tokens = (s.depth + s.n_tokens) as usize;
            if n_tokens > self.context_len() {
                return Err(PolicyError::ContextOverflow { n_tokens, context_len: self.context_len() });
            }
        }
        let vocab_size = self.model.config.vocab_size;
        for (i, t) in batch.targets.iter().enumerate() {
            if t.token as usize >= vocab_size {
                return Err(PolicyError::TokenOutOfRange { token: t.token, vocab_size });
            }
            if t.from_idx as usize >= batch.tokens.len() {
                return Err(PolicyError::Misuse(format!(
                    "target {i} reads token {} of {}",
                    t.from_idx,
                    batch.tokens.len()
                )));
            }
        }
        match next as usize == batch.tokens.len() {
            true => Ok(()),
            false => Err(PolicyError::Misuse("segments do not tile the tokens of the batch".into())),
        }
    }
}

impl Sampler for Engine {
    fn vocab_size(&self) -> usize {
        self.model.config.vocab_size
    }

    fn context_len(&self) -> usize {
        self.model.config.max_position_embeddings
    }

    fn version(&self) -> PolicyVersion {
        PolicyVersion(self.moments.n_steps)
    }

    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        if tokens.is_empty() {
            return Err(PolicyError::Misuse("a path needs at least one token".into()));
        }
        self.check_tokens(tokens, 0)?;
        let id = self.next_path;
        self.next_path += 1;
        let path = LivePath { tokens: tokens.to_vec(), cache: PathCache::default(), request: None, watching: None };
        self.paths.insert(id, path);
        Ok(PathId(id))
    }

    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.check_tokens(tokens, self.path(path)?.tokens.len())?;
        match self.paths.get_mut(&path.0) {
            Some(live) if live.request.is_none() => live.tokens.extend_from_slice(tokens),
            _ => return Err(PolicyError::Misuse(format!("{path:?} has a request in flight: nothing can be appended"))),
        }
        Ok(())
    }

    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        let parent = self.path(path)?;
        if n_tokens == 0 || n_tokens > parent.tokens.len() {
            let message = format!("cannot fork {path:?} of {} tokens at {n_tokens}", parent.tokens.len());
            return Err(PolicyError::Misuse(message));
        }
        // The last shared token is computed again in the child, whose first logits it gives; all others are shared.
        if parent.cache.n_tokens < n_tokens - 1 {
            self.prefill();
        }
        let parent = &self.paths[&path.0];
        let child = LivePath {
            tokens: parent.tokens[..n_tokens].to_vec(),
            cache: self.pool.fork(&parent.cache, n_tokens - 1),
            request: None,
            watching: None,
        };
        let id = self.next_path;
        self.next_path += 1;
        self.paths.insert(id, child);
        Ok(PathId(id))
    }

    fn close(&mut self, path: PathId) {
        if let Some(live) = self.paths.remove(&path.0) {
            self.pool.release(live.cache);
        }
    }

    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        let context_len = self.context_len();
        let path = self.path(request.path)?;
        if path.request.is_some() {
            return Err(PolicyError::Misuse(format!("{:?} already has a request in flight", request.path)));
        }
        if request.max_tokens == 0 {
            return Err(PolicyError::Misuse("a request must ask for at least one token".into()));
        }
        if request.n_turn > path.tokens.len() {
            let message = format!("a turn of {} tokens on a path of {}", request.n_turn, path.tokens.len());
            return Err(PolicyError::Misuse(message));
        }
        if path.tokens.len() >= context_len {
            return Err(PolicyError::ContextOverflow { n_tokens: path.tokens.len() + 1, context_len });
        }
        if let Some(live) = self.paths.get_mut(&request.path.0) {
            // The cache must hold all but the last token, whose logits the first draw needs.
            debug_assert!(live.n_uncached() >= 1);
            let room = request.max_tokens.min(ROOM);
            live.tokens.reserve(room);
            live.request = Some((request, Vec::with_capacity(room)));
            live.watching = None;
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        self.sample_all()
    }
}

impl Learner for Engine {
    fn forward(&mut self, batch: &TreeBatch, temperature: f32, keep: bool) -> Result<TokenStats, PolicyError> {
        self.check_batch(batch)?;
        let (model, work) = (&self.model, &mut self.work);
        let keep = if keep { self.keep } else { Keep::Nothing };
        self.kept = keep != Keep::Nothing;
        let (logprobs, entropies) = model.forward(batch, f64::from(temperature), keep, work);
        if logprobs.iter().chain(&entropies).any(|x| !x.is_finite()) {
            return Err(PolicyError::NotFinite("a log-probability of the training batch"));
        }
        Ok(TokenStats { logprobs, entropies })
    }

    fn backward(&mut self, batch: &TreeBatch, dlogp: &[f32], dentropy: &[f32]) -> Result<(), PolicyError> {
        let n = batch.targets.len();
        if self.keep == Keep::Nothing {
            return Err(PolicyError::Misuse("this policy was made to learn nothing".into()));
        }
        if !std::mem::take(&mut self.kept) {
            return Err(PolicyError::Misuse("backward needs a forward pass of the same batch with `keep`".into()));
        }
        if dlogp.len() != n || !(dentropy.is_empty() || dentropy.len() == n) {
            let message = format!("{n} targets, but {} and {} coefficients", dlogp.len(), dentropy.len());
            return Err(PolicyError::Misuse(message));
        }
        let (model, work, grads) = (&self.model, &mut self.work, &mut self.grads);
        fit(grads, model.n_trained());
        model.backward(batch, dlogp, dentropy, work, grads);
        Ok(())
    }

    fn step(&mut self, params: &StepParams) -> Result<StepReport, PolicyError> {
        if !self.paths.is_empty() {
            return Err(PolicyError::Misuse(format!(
                "{} paths are open: their cache is of the old weights",
                self.paths.len()
            )));
        }
        let (model, grads, moments) = (&mut self.model, &mut self.grads, &mut self.moments);
        model.unpack();
        let team = Arc::clone(&model.team);
        fit(grads, model.n_trained());
        let Some((tensors, weights)) = model.trained_mut().filter(|_| self.keep != Keep::Nothing) else {
            return Err(PolicyError::Misuse("this policy was made to learn nothing".into()));
        };
        Ok(adamw::step(&team, tensors, weights, grads, moments, params))
    }

    fn save(&mut self, dir: &Path, optimizer: bool) -> Result<(), PolicyError> {
        match &self.model.lora {
            Some(lora) => checkpoint::save_adapter(dir, lora, &self.base_name).map_err(checkpoint_error)?,
            None => self.export(dir, Precision::F32)?,
        }
        match optimizer {
            true => checkpoint::save_moments(dir, &self.moments).map_err(checkpoint_error),
            false => Ok(()),
        }
    }
}

pub(crate) fn checkpoint_error(e: EngineError) -> PolicyError {
    PolicyError::Checkpoint(e.to_string())
}
