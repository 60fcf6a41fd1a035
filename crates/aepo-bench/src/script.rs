//! What stands in for a model's mind and for a world, where only the program or the arithmetic is measured? Turns that are
//! ready, told out by draws, and tools that answer at once.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use aepo::policy::{
    Completion, Learner, PathId, PolicyError, PolicyVersion, SampleRequest, SampleStop, SampledToken, Sampler,
    StepParams, StepReport, TokenStats,
};
use aepo::stop::Stop;
use aepo::tool::{ToolCall, ToolOutcome, ToolResult, ToolSpec, Toolset};
use aepo::train::batch::TreeBatch;
use aepo_engine::Engine;

/// The turns that are written, as ids that end a turn.
pub struct Lines {
    /// Turns that call a tool.
    pub calls: Vec<Vec<u32>>,
    /// Turns that end a path.
    pub answers: Vec<Vec<u32>>,
    /// No prompt is longer, and every path behind a call is.
    pub max_prompt: usize,
}

/// Share of the turns behind a tool result that call again; the first turn always calls.
const CALLS_AGAIN: f64 = 0.4;

/// Seconds spent in the policy and in the tools, which are not the program's own. Shared with whoever measures.
pub type Meter = Rc<Cell<f64>>;

/// Adds the time of `work` to a meter.
fn metered<T>(meter: &Meter, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    meter.set(meter.get() + start.elapsed().as_secs_f64());
    done
}

/// Which turn each path writes, and how far it is.
struct Script<'a> {
    lines: &'a Lines,
    context_len: usize,
    paths: HashMap<PathId, Live>,
    n_open_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    n_tokens: usize,
    turn: Option<Turn>,
}

/// A turn that is being written.
#[derive(Clone, Copy, Debug)]
struct Turn {
    answers: bool,
    line: usize,
    n_written: usize,
}

impl<'a> Script<'a> {
    fn new(lines: &'a Lines, context_len: usize) -> Self {
        Script { lines, context_len, paths: HashMap::new(), n_open_max: 0 }
    }

    fn open(&mut self, path: PathId, n_tokens: usize) {
        self.paths.insert(path, Live { n_tokens, turn: None });
        self.n_open_max = self.n_open_max.max(self.paths.len());
    }

    fn append(&mut self, path: PathId, n_tokens: usize) -> Result<(), PolicyError> {
        self.paths.get_mut(&path).ok_or(PolicyError::UnknownPath(path))?.n_tokens += n_tokens;
        Ok(())
    }

    /// What a request gets: the next tokens of the path's turn, and why they end.
    fn next(&mut self, request: &SampleRequest) -> Result<(&'a [u32], SampleStop), PolicyError> {
        let live = self.paths.get_mut(&request.path).ok_or(PolicyError::UnknownPath(request.path))?;
        let turn = live.turn.unwrap_or_else(|| {
            let has_called = live.n_tokens - request.n_turn > self.lines.max_prompt;
            let answers = has_called && request.seed.uniform(1 << 32) >= CALLS_AGAIN;
            let n = if answers { self.lines.answers.len() } else { self.lines.calls.len() };
            Turn { answers, line: (request.seed.uniform(1 << 33) * n as f64) as usize, n_written: 0 }
        });
        let lines = if turn.answers { &self.lines.answers } else { &self.lines.calls };
        let rest = &lines[turn.line][turn.n_written..];
        let room = self.context_len - live.n_tokens;
        let n = rest.len().min(request.max_tokens).min(room);
        live.n_tokens += n;
        let stop = match () {
            () if n == rest.len() => SampleStop::StopToken,
            () if n == room => SampleStop::ContextFull,
            () => SampleStop::MaxTokens,
        };
        let goes_on = stop == SampleStop::MaxTokens;
        live.turn = goes_on.then_some(Turn { n_written: turn.n_written + n, ..turn });
        Ok((&rest[..n], stop))
    }
}

/// A policy without arithmetic: every request is answered at once, entropies are drawn.
pub struct Reciting<'a> {
    script: Script<'a>,
    vocab_size: usize,
    queue: Vec<SampleRequest>,
    n_opened: u64,
    n_steps: u64,
    meter: Meter,
}

impl<'a> Reciting<'a> {
    /// A policy of that many ids and that longest path; its own time goes into `meter`.
    pub fn new(lines: &'a Lines, vocab_size: usize, context_len: usize, meter: Meter) -> Self {
        let script = Script::new(lines, context_len);
        Reciting { script, vocab_size, queue: Vec::new(), n_opened: 0, n_steps: 0, meter }
    }

    /// The most paths that were open at once.
    pub fn n_open_max(&self) -> usize {
        self.script.n_open_max
    }

    fn put(&mut self, n_tokens: usize) -> PathId {
        let id = PathId(self.n_opened);
        self.n_opened += 1;
        metered(&self.meter, || self.script.open(id, n_tokens));
        id
    }
}

impl Sampler for Reciting<'_> {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
    fn context_len(&self) -> usize {
        self.script.context_len
    }
    fn version(&self) -> PolicyVersion {
        PolicyVersion(self.n_steps)
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        Ok(self.put(tokens.len()))
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        metered(&self.meter, || self.script.append(path, tokens.len()))
    }
    fn fork(&mut self, _path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        Ok(self.put(n_tokens))
    }
    fn close(&mut self, path: PathId) {
        metered(&self.meter, || self.script.paths.remove(&path));
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        metered(&self.meter, || self.queue.push(request));
        Ok(())
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        let (script, queue) = (&mut self.script, std::mem::take(&mut self.queue));
        metered(&self.meter, || {
            let answer = |request: SampleRequest| {
                let (line, stop) = script.next(&request)?;
                let token = |(i, &token): (usize, &u32)| {
                    let entropy = 0.4 * request.seed.uniform(i as u64) as f32;
                    SampledToken { token, logprob: -0.5 * entropy, entropy, top_entropy: entropy }
                };
                let tokens = line.iter().enumerate().map(token).collect();
                Ok(Completion { path: request.path, tokens, stop, version: PolicyVersion(0), changes: Vec::new() })
            };
            queue.into_iter().map(answer).collect()
        })
    }
}

impl Learner for Reciting<'_> {
    fn forward(&mut self, batch: &TreeBatch, _: f32, _: bool) -> Result<TokenStats, PolicyError> {
        metered(&self.meter, || {
            let logprobs: Vec<f32> = (0..batch.targets.len()).map(|i| -0.1 - 1e-4 * (i % 100) as f32).collect();
            let entropies = logprobs.iter().map(|l| -l).collect();
            Ok(TokenStats { logprobs, entropies })
        })
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

/// The engine with all its arithmetic, but what it writes is the script's: turns have the lengths of a trained agent's
/// whatever the weights are, and every run does the same work.
pub struct Steered<'a> {
    /// What computes.
    pub engine: Engine,
    script: Script<'a>,
    /// Of each request in flight, what it gets.
    promised: HashMap<PathId, (&'a [u32], SampleStop)>,
    never: std::sync::Arc<Stop>,
    meter: Meter,
}

impl<'a> Steered<'a> {
    /// Steers an engine; its time goes into `meter`.
    pub fn new(engine: Engine, lines: &'a Lines, meter: Meter) -> Self {
        let script = Script::new(lines, engine.context_len());
        Steered { engine, script, promised: HashMap::new(), never: Stop::at(&[]), meter }
    }
}

impl Sampler for Steered<'_> {
    fn vocab_size(&self) -> usize {
        self.engine.vocab_size()
    }
    fn context_len(&self) -> usize {
        self.engine.context_len()
    }
    fn version(&self) -> PolicyVersion {
        self.engine.version()
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        let id = metered(&self.meter, || self.engine.open(tokens))?;
        self.script.open(id, tokens.len());
        Ok(id)
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.script.append(path, tokens.len())?;
        metered(&self.meter, || self.engine.append(path, tokens))
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        let id = metered(&self.meter, || self.engine.fork(path, n_tokens))?;
        self.script.open(id, n_tokens);
        Ok(id)
    }
    fn close(&mut self, path: PathId) {
        self.script.paths.remove(&path);
        metered(&self.meter, || self.engine.close(path));
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        let (line, stop) = self.script.next(&request)?;
        self.promised.insert(request.path, (line, stop));
        let request = SampleRequest { max_tokens: line.len(), stop: self.never.clone(), ..request };
        metered(&self.meter, || self.engine.submit(request))
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        let mut done = metered(&self.meter, || self.engine.poll())?;
        for completion in &mut done {
            let Some((line, stop)) = self.promised.remove(&completion.path) else { continue };
            completion.tokens.iter_mut().zip(line).for_each(|(sampled, &token)| sampled.token = token);
            completion.stop = stop;
        }
        Ok(done)
    }
}

impl Learner for Steered<'_> {
    fn forward(&mut self, batch: &TreeBatch, temperature: f32, keep: bool) -> Result<TokenStats, PolicyError> {
        metered(&self.meter, || self.engine.forward(batch, temperature, keep))
    }
    fn backward(&mut self, batch: &TreeBatch, dlogp: &[f32], dentropy: &[f32]) -> Result<(), PolicyError> {
        metered(&self.meter, || self.engine.backward(batch, dlogp, dentropy))
    }
    fn step(&mut self, params: &StepParams) -> Result<StepReport, PolicyError> {
        metered(&self.meter, || self.engine.step(params))
    }
    fn save(&mut self, dir: &Path, optimizer: bool) -> Result<(), PolicyError> {
        self.engine.save(dir, optimizer)
    }
}

/// Tools that answer at once with one of these texts.
pub struct ReadyTools {
    specs: [ToolSpec; 2],
    texts: Vec<String>,
    ready: Vec<ToolResult>,
    meter: Meter,
}

impl ReadyTools {
    /// Python and search; their own time goes into `meter`.
    pub fn new(texts: Vec<String>, meter: Meter) -> Self {
        ReadyTools { specs: ToolSpec::python_and_search(), texts, ready: Vec::new(), meter }
    }
}

impl Toolset for ReadyTools {
    fn tools(&self) -> &[ToolSpec] {
        &self.specs
    }
    fn submit(&mut self, call: ToolCall) {
        metered(&self.meter, || {
            let text = self.texts[(call.seed.uniform(0) * self.texts.len() as f64) as usize].clone();
            self.ready.push(ToolResult { id: call.id, outcome: ToolOutcome::Ok, text, wall_secs: 0.0 });
        });
    }
    fn poll(&mut self, _: bool) -> Vec<ToolResult> {
        std::mem::take(&mut self.ready)
    }
}
