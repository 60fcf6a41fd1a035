//! What do tests use for a model and a world? A bigram table with exact gradients, and tools that answer in any order.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::policy::{
    Completion, Learner, N_TOP, PathId, PolicyError, PolicyVersion, SampleRequest, SampleStop, SampledToken, Sampler,
    StepParams, StepReport, TokenStats,
};
use crate::prompt::{Action, Malformation, PromptError};
use crate::rollout::drive::Limits;
use crate::seed::Seed;
use crate::stop::Stop;
use crate::tool::{ToolCall, ToolName, ToolOutcome, ToolResult, ToolSpec, Toolset};
use crate::train::batch::TreeBatch;

/// What a path of a few turns may cost.
pub fn limits() -> Limits {
    Limits {
        n_calls: 3,
        n_equal_calls: 0,
        n_python: 0,
        n_search: 0,
        response_tokens: 90,
        turn_tokens: 20,
        result_tokens: 6,
    }
}

/// Logits of the next token given the last one, nothing else; trained by plain gradient descent.
#[derive(Clone)]
pub struct TablePolicy {
    /// `[vocab][vocab]`, row = last token.
    pub logits: Vec<Vec<f64>>,
    pub context_len: usize,
    pub version: u64,
    pub n_forward_tokens: usize,
    pub n_forwards: usize,
    pub n_steps: usize,
    /// Requests in flight at each `poll`.
    pub n_queued: Vec<usize>,
    grad: Vec<Vec<f64>>,
    kept: Option<TreeBatch>,
    kept_temperature: f64,
    paths: HashMap<PathId, Vec<u32>>,
    queue: Vec<(SampleRequest, Vec<SampledToken>)>,
    next: u64,
}

impl TablePolicy {
    pub fn new(vocab: usize, context_len: usize, seed: Seed) -> Self {
        let row = |r: usize| {
            (0..vocab).map(|c| 2.0 * seed.child(r as u64).uniform(c as u64) - 1.0).map(|u| 1.5 * u).collect()
        };
        TablePolicy {
            logits: (0..vocab).map(row).collect(),
            context_len,
            version: 0,
            n_forward_tokens: 0,
            n_forwards: 0,
            n_steps: 0,
            n_queued: Vec::new(),
            grad: vec![vec![0.0; vocab]; vocab],
            kept: None,
            kept_temperature: 1.0,
            paths: HashMap::new(),
            queue: Vec::new(),
            next: 0,
        }
    }

    pub fn n_open(&self) -> usize {
        self.paths.len()
    }

    /// Log-probabilities of every next token, and their entropy.
    pub fn distribution(&self, last: u32, temperature: f64) -> (Vec<f64>, f64) {
        let scaled: Vec<f64> = self.logits[last as usize].iter().map(|l| l / temperature).collect();
        let max = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = max + scaled.iter().map(|l| (l - max).exp()).sum::<f64>().ln();
        let logp: Vec<f64> = scaled.iter().map(|l| l - log_sum).collect();
        let entropy = -logp.iter().map(|l| l.exp() * l).sum::<f64>();
        (logp, entropy)
    }

    fn draw(&self, last: u32, request: &SampleRequest, index: u64) -> SampledToken {
        let (logp, entropy) = self.distribution(last, f64::from(request.params.temperature));
        let u = request.seed.uniform(index);
        let mut below = 0.0;
        let mut token = logp.len() - 1;
        for (t, l) in logp.iter().enumerate() {
            below += l.exp();
            if u < below {
                token = t;
                break;
            }
        }
        let mut top: Vec<f64> = logp.clone();
        top.sort_by(|a, b| b.total_cmp(a));
        let top_entropy = -top.iter().take(N_TOP).map(|l| l.exp() * l).sum::<f64>();
        SampledToken {
            token: token as u32,
            logprob: logp[token] as f32,
            entropy: entropy as f32,
            top_entropy: if request.params.top_entropy { top_entropy as f32 } else { 0.0 },
        }
    }

    fn open_path(&mut self, tokens: Vec<u32>) -> PathId {
        let id = PathId(self.next);
        self.next += 1;
        self.paths.insert(id, tokens);
        id
    }
}

impl Sampler for TablePolicy {
    fn vocab_size(&self) -> usize {
        self.logits.len()
    }
    fn context_len(&self) -> usize {
        self.context_len
    }
    fn version(&self) -> PolicyVersion {
        PolicyVersion(self.version)
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        Ok(self.open_path(tokens.to_vec()))
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        let limit = self.context_len;
        let held = self.paths.get_mut(&path).ok_or(PolicyError::UnknownPath(path))?;
        held.extend_from_slice(tokens);
        if held.len() > limit {
            return Err(PolicyError::ContextOverflow { n_tokens: held.len(), context_len: limit });
        }
        Ok(())
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        let held = self.paths.get(&path).ok_or(PolicyError::UnknownPath(path))?;
        let shared = held.get(..n_tokens).ok_or(PolicyError::Misuse("fork beyond the path".into()))?.to_vec();
        Ok(self.open_path(shared))
    }
    fn close(&mut self, path: PathId) {
        self.paths.remove(&path).expect("a path is closed once");
        self.queue.retain(|(r, _)| r.path != path);
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        if request.max_tokens == 0 || self.queue.iter().any(|(r, _)| r.path == request.path) {
            return Err(PolicyError::Misuse("nothing to sample, or a second request".into()));
        }
        self.queue.push((request, Vec::new()));
        Ok(())
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        let mut done = Vec::new();
        self.n_queued.push(self.queue.len());
        let (version, changes) = (self.version(), Vec::new);
        for (request, mut tokens) in std::mem::take(&mut self.queue) {
            let path = &self.paths[&request.path];
            if path.len() >= self.context_len {
                done.push(Completion {
                    path: request.path,
                    tokens,
                    stop: SampleStop::ContextFull,
                    version,
                    changes: changes(),
                });
                continue;
            }
            let drawn = self.draw(path[path.len() - 1], &request, tokens.len() as u64);
            self.paths.get_mut(&request.path).expect("open").push(drawn.token);
            tokens.push(drawn);
            let path = &self.paths[&request.path];
            let stop = if request.stop.ends(&path[path.len() - tokens.len() - request.n_turn..]) {
                SampleStop::StopToken
            } else if tokens.len() == request.max_tokens {
                SampleStop::MaxTokens
            } else {
                self.queue.push((request, tokens));
                continue;
            };
            done.push(Completion { path: request.path, tokens, stop, version, changes: changes() });
        }
        Ok(done)
    }
}

impl Learner for TablePolicy {
    fn forward(&mut self, batch: &TreeBatch, temperature: f32, keep: bool) -> Result<TokenStats, PolicyError> {
        self.n_forwards += 1;
        self.n_forward_tokens += batch.tokens.len();
        let mut stats = TokenStats::default();
        for target in &batch.targets {
            let (logp, entropy) = self.distribution(batch.tokens[target.from_idx as usize], f64::from(temperature));
            stats.logprobs.push(logp[target.token as usize] as f32);
            stats.entropies.push(entropy as f32);
        }
        self.kept = keep.then(|| batch.clone());
        self.kept_temperature = f64::from(temperature);
        Ok(stats)
    }
    fn backward(&mut self, batch: &TreeBatch, dlogp: &[f32], dentropy: &[f32]) -> Result<(), PolicyError> {
        if self.kept.take().as_ref() != Some(batch) {
            return Err(PolicyError::Misuse("backward without its forward".into()));
        }
        for (t, target) in batch.targets.iter().enumerate() {
            let last = batch.tokens[target.from_idx as usize];
            let (logp, entropy) = self.distribution(last, self.kept_temperature);
            let c = f64::from(dlogp[t]);
            let d = dentropy.get(t).copied().map_or(0.0, f64::from);
            for (v, l) in logp.iter().enumerate() {
                let hit = if v == target.token as usize { 1.0 } else { 0.0 };
                let slope = c * (hit - l.exp()) - d * l.exp() * (l + entropy);
                self.grad[last as usize][v] += slope / self.kept_temperature;
            }
        }
        Ok(())
    }
    fn step(&mut self, params: &StepParams) -> Result<StepReport, PolicyError> {
        if !self.paths.is_empty() {
            return Err(PolicyError::Misuse(format!("{} paths are open", self.paths.len())));
        }
        self.n_steps += 1;
        let vocab = self.logits.len();
        let grad = std::mem::replace(&mut self.grad, vec![vec![0.0; vocab]; vocab]);
        let norm = grad.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Ok(StepReport { grad_norm: norm as f32, applied: false });
        }
        for (row, g) in self.logits.iter_mut().zip(&grad) {
            for (l, g) in row.iter_mut().zip(g) {
                *l -= f64::from(params.learning_rate) * g;
            }
        }
        self.version += 1;
        Ok(StepReport { grad_norm: norm as f32, applied: true })
    }
    fn save(&mut self, _dir: &Path, _optimizer: bool) -> Result<(), PolicyError> {
        Ok(())
    }
}

/// Ids of the test language: 0 opens a prompt; these end a turn; all others are words.
pub const CALL_PYTHON: u32 = 1;
pub const CALL_SEARCH: u32 = 2;
pub const ANSWER: u32 = 3;
pub const BAD: u32 = 4;
pub const VOCAB: usize = 12;

pub fn stop() -> Arc<Stop> {
    Stop::at(&[CALL_PYTHON, CALL_SEARCH, ANSWER, BAD])
}

pub fn parse(turn: &[u32]) -> Action {
    let text = format!("{turn:?}");
    match turn.last() {
        Some(&CALL_PYTHON) => Action::Call { tool: ToolName::PYTHON, input: text },
        Some(&CALL_SEARCH) => Action::Call { tool: ToolName::SEARCH, input: text },
        Some(&ANSWER) => Action::Answer(text),
        _ => Action::Malformed(Malformation::NoAction),
    }
}

pub fn render_result(text: &str, max_tokens: usize) -> Result<Vec<u32>, PromptError> {
    Ok(text.bytes().map(|b| 5 + u32::from(b) % 7).take(max_tokens).collect())
}

/// What a call answers depends on the call alone; when it answers is drawn from `order`.
pub struct ShuffledTools {
    pub order: Seed,
    pub held: Vec<ToolCall>,
    pub n_polls: u64,
    pub outcome: fn(&ToolCall) -> ToolOutcome,
}

impl ShuffledTools {
    pub fn new(order: Seed) -> Self {
        ShuffledTools { order, held: Vec::new(), n_polls: 0, outcome: |_| ToolOutcome::Ok }
    }
}

pub fn answer_of(call: &ToolCall, outcome: ToolOutcome) -> ToolResult {
    let text = call.input.bytes().map(u64::from).fold(call.seed, Seed::child).0.to_string();
    ToolResult { id: call.id, outcome, text: text[..6].to_owned(), wall_secs: 0.5 }
}

impl Toolset for ShuffledTools {
    fn tools(&self) -> &[ToolSpec] {
        &[]
    }
    fn submit(&mut self, call: ToolCall) {
        self.held.push(call);
    }
    fn poll(&mut self, block: bool) -> Vec<ToolResult> {
        self.n_polls += 1;
        let seed = self.order.child(self.n_polls);
        let mut out = Vec::new();
        while !self.held.is_empty() && ((block && out.is_empty()) || seed.uniform(out.len() as u64) < 0.15) {
            let pick = (seed.child(9).uniform(out.len() as u64) * self.held.len() as f64) as usize;
            let call = self.held.swap_remove(pick);
            out.push(answer_of(&call, (self.outcome)(&call)));
        }
        out
    }
}
