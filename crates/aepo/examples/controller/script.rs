//! What stands in for a model and a world when only the program between them is measured? Turns that are ready.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use aepo::policy::{
    Completion, PathId, Policy, PolicyError, PolicyVersion, SampleRequest, SampleStop, SampledToken, StepParams,
    StepReport, TokenStats,
};
use aepo::seed::Seed;
use aepo::tool::{ToolCall, ToolOutcome, ToolResult, ToolSpec, Toolset};
use aepo::train::batch::TreeBatch;

/// The turns that a [`ScriptedPolicy`] writes, as ids that end a turn.
pub struct Lines {
    /// Turns that call a tool.
    pub calls: Vec<Vec<u32>>,
    /// Turns that end a path.
    pub answers: Vec<Vec<u32>>,
}

/// Share of the turns behind a tool result that call again; the first turn always calls.
const CALLS_AGAIN: f64 = 0.4;

/// A policy without arithmetic: every request is answered at once, entropies are drawn.
pub struct ScriptedPolicy<'a> {
    lines: &'a Lines,
    vocab_size: usize,
    context_len: usize,
    paths: HashMap<u64, Live>,
    queue: Vec<SampleRequest>,
    next: u64,
    n_steps: u64,
    /// Time inside, seconds: what is no part of the controller.
    pub secs: f64,
    /// The most paths that were open at once.
    pub n_open_max: usize,
}

#[derive(Clone, Debug, Default)]
struct Live {
    n_tokens: usize,
    /// The turn being written and how much of it is.
    turn: Option<(bool, usize, usize)>,
}

impl<'a> ScriptedPolicy<'a> {
    /// A policy of that many ids and that longest path.
    pub fn new(lines: &'a Lines, vocab_size: usize, context_len: usize) -> Self {
        let (paths, queue) = (HashMap::new(), Vec::new());
        ScriptedPolicy { lines, vocab_size, context_len, paths, queue, next: 0, n_steps: 0, secs: 0.0, n_open_max: 0 }
    }

    fn put(&mut self, live: Live) -> PathId {
        let id = self.next;
        self.next += 1;
        self.paths.insert(id, live);
        self.n_open_max = self.n_open_max.max(self.paths.len());
        PathId(id)
    }

    fn write(&mut self, request: &SampleRequest) -> Option<Completion> {
        let live = self.paths.get_mut(&request.path.0)?;
        // Prompts of the quickstart are short, so whoever stands further on has read a result.
        let has_called = live.n_tokens - request.n_turn > PROMPT_TOKENS;
        let (answers, which, from) = *live.turn.get_or_insert_with(|| {
            let u = |i| request.seed.uniform(i);
            let answers = has_called && u(1001) >= CALLS_AGAIN;
            let n = if answers { self.lines.answers.len() } else { self.lines.calls.len() };
            (answers, (u(1002) * n as f64) as usize, 0)
        });
        let line = if answers { &self.lines.answers[which] } else { &self.lines.calls[which] };
        let room = self.context_len - live.n_tokens;
        let n = (line.len() - from).min(request.max_tokens).min(room);
        let token = |(i, &token): (usize, &u32)| {
            let entropy = 0.4 * request.seed.uniform(i as u64) as f32;
            SampledToken { token, logprob: -0.5 * entropy, entropy, top_entropy: entropy }
        };
        let tokens = line[from..from + n].iter().enumerate().map(token).collect();
        live.n_tokens += n;
        let stop = match () {
            () if from + n == line.len() => SampleStop::StopToken,
            () if n == room => SampleStop::ContextFull,
            () => SampleStop::MaxTokens,
        };
        live.turn = (stop == SampleStop::MaxTokens).then_some((answers, which, from + n));
        Some(Completion { path: request.path, tokens, stop })
    }
}

/// No prompt of the case is longer, and every path behind a call is.
pub const PROMPT_TOKENS: usize = 64;

impl Policy for ScriptedPolicy<'_> {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
    fn context_len(&self) -> usize {
        self.context_len
    }
    fn version(&self) -> PolicyVersion {
        PolicyVersion(self.n_steps)
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        let start = Instant::now();
        let id = self.put(Live { n_tokens: tokens.len(), turn: None });
        self.secs += start.elapsed().as_secs_f64();
        Ok(id)
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        let start = Instant::now();
        self.paths.get_mut(&path.0).ok_or(PolicyError::UnknownPath(path))?.n_tokens += tokens.len();
        self.secs += start.elapsed().as_secs_f64();
        Ok(())
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        let start = Instant::now();
        if !self.paths.contains_key(&path.0) {
            return Err(PolicyError::UnknownPath(path));
        }
        let id = self.put(Live { n_tokens, turn: None });
        self.secs += start.elapsed().as_secs_f64();
        Ok(id)
    }
    fn close(&mut self, path: PathId) {
        let start = Instant::now();
        self.paths.remove(&path.0);
        self.secs += start.elapsed().as_secs_f64();
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        let start = Instant::now();
        self.queue.push(request);
        self.secs += start.elapsed().as_secs_f64();
        Ok(())
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        let start = Instant::now();
        let queue = std::mem::take(&mut self.queue);
        let done = queue.iter().filter_map(|request| self.write(request)).collect();
        self.secs += start.elapsed().as_secs_f64();
        Ok(done)
    }
    fn forward(&mut self, batch: &TreeBatch, _: f32, _: bool) -> Result<TokenStats, PolicyError> {
        let start = Instant::now();
        let of = |i: usize| -0.1 - 1e-4 * (i % 100) as f32;
        let logprobs: Vec<f32> = (0..batch.targets.len()).map(of).collect();
        let entropies = logprobs.iter().map(|l| -l).collect();
        self.secs += start.elapsed().as_secs_f64();
        Ok(TokenStats { logprobs, entropies })
    }
    fn backward(&mut self, _: &TreeBatch, _: &[f32], _: &[f32]) -> Result<(), PolicyError> {
        Ok(())
    }
    fn step(&mut self, _: &StepParams) -> Result<StepReport, PolicyError> {
        self.n_steps += 1;
        Ok(StepReport { grad_norm: 1.0, applied: true })
    }
    fn save(&mut self, _: &Path, _: bool) -> Result<(), PolicyError> {
        Ok(())
    }
}

/// Tools that answer at once with one of these texts.
pub struct ReadyTools {
    specs: Vec<ToolSpec>,
    texts: Vec<String>,
    ready: Vec<ToolResult>,
    /// Time inside, seconds.
    pub secs: f64,
}

impl ReadyTools {
    /// Python and search.
    pub fn new(texts: Vec<String>) -> Self {
        ReadyTools { specs: ToolSpec::python_and_search().to_vec(), texts, ready: Vec::new(), secs: 0.0 }
    }
}

impl Toolset for ReadyTools {
    fn tools(&self) -> &[ToolSpec] {
        &self.specs
    }
    fn submit(&mut self, call: ToolCall) {
        let start = Instant::now();
        let text = self.texts[(Seed(call.seed.0).uniform(7) * self.texts.len() as f64) as usize].clone();
        self.ready.push(ToolResult { id: call.id, outcome: ToolOutcome::Ok, text, wall_secs: 0.0 });
        drop(call);
        self.secs += start.elapsed().as_secs_f64();
    }
    fn poll(&mut self, _: bool) -> Vec<ToolResult> {
        std::mem::take(&mut self.ready)
    }
}
