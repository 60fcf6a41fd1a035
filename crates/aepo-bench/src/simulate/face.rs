//! How does the driver see a simulated world? As a policy and as tools, like any other; `poll` is when time passes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use aepo::policy::{Completion, PathId, PolicyError, PolicyVersion, SampleRequest, SampleStop, SampledToken, Sampler};
use aepo::seed::Seed;
use aepo::tool::{CallId, ToolCall, ToolOutcome, ToolResult, ToolSpec, Toolset};

use super::assumed::Work;
use super::prefix::{Chain, Span};
use super::server::BLOCK;
use super::world::World;

/// What both share.
pub type Shared = Rc<RefCell<World>>;

/// Stands for any block of a turn that does not end it.
pub const TEXT: u32 = 0;
/// Ends a turn that calls.
pub const CALL: u32 = 1;
/// Ends a turn that answers.
pub const ANSWER: u32 = 2;
/// The path to which the system prompt belongs.
const SYSTEM: u64 = 0;

/// A log-normal draw in whole blocks, at least one; `about` is median, spread and most, in tokens.
pub fn blocks(about: (f64, f64, f64), seed: Seed) -> u32 {
    (drawn(about, seed) / f64::from(BLOCK)).round().max(1.0) as u32
}

/// A log-normal draw: median, spread, most.
fn drawn((median, spread, most): (f64, f64, f64), seed: Seed) -> f64 {
    // Box and Muller; 1 − u is never 0.
    let radius = (-2.0 * (1.0 - seed.uniform(0)).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * seed.uniform(1)).cos();
    (median * (spread * normal).exp()).min(most)
}

/// A turn that is being written.
#[derive(Clone, Copy, Debug)]
struct Turn {
    end: u32,
    n_left: u32,
    entropy: f32,
}

#[derive(Debug)]
struct Path {
    /// What it shares with others.
    before: Chain,
    n_blocks: u32,
    tree: u64,
    turn: Option<Turn>,
    /// What was asked for, until it is there.
    asked: Option<(u32, SampleStop)>,
}

/// Samples on simulated replicas. Its tokens are blocks.
pub struct SimPolicy {
    world: Shared,
    work: Work,
    context_len: usize,
    paths: HashMap<PathId, Path>,
    /// Open paths of each tree.
    trees: HashMap<u64, usize>,
    n_paths: u64,
    /// Most paths that had a request or a call in flight, or waited for one, at once.
    pub n_open_max: usize,
}

impl SimPolicy {
    /// An agent that does this kind of work, on paths of so many blocks at most.
    pub fn new(world: Shared, work: Work, context_len: usize) -> SimPolicy {
        let (paths, trees) = (HashMap::new(), HashMap::new());
        // 0 is the system prompt.
        SimPolicy { world, work, context_len, paths, trees, n_paths: SYSTEM + 1, n_open_max: 0 }
    }

    fn start(&mut self, before: Chain, n_blocks: u32, tree: Option<u64>) -> PathId {
        let id = PathId(self.n_paths);
        self.n_paths += 1;
        let tree = tree.unwrap_or(id.0);
        *self.trees.entry(tree).or_insert(0) += 1;
        self.paths.insert(id, Path { before, n_blocks, tree, turn: None, asked: None });
        // A tree's prompt is an open path too, and nobody's trajectory.
        self.n_open_max = self.n_open_max.max(self.paths.len() - self.trees.len());
        id
    }

    fn path(&mut self, id: PathId) -> Result<&mut Path, PolicyError> {
        self.paths.get_mut(&id).ok_or(PolicyError::UnknownPath(id))
    }
}

/// A path's chain up to `end`.
fn chain(before: &[Span], own: u64, end: u32) -> Chain {
    let mut spans: Vec<Span> = Vec::with_capacity(before.len() + 1);
    for &span in before {
        if span.end >= end {
            spans.push(Span { end, ..span });
            return spans.into();
        }
        spans.push(span);
    }
    spans.push(Span { path: own, end });
    spans.into()
}

impl Sampler for SimPolicy {
    fn vocab_size(&self) -> usize {
        3
    }
    fn context_len(&self) -> usize {
        self.context_len
    }
    fn version(&self) -> PolicyVersion {
        self.world.borrow().version
    }
    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        let n_system = self.work.n_system / BLOCK;
        Ok(self.start([Span { path: SYSTEM, end: n_system }].into(), tokens.len() as u32, None))
    }
    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.path(path)?.n_blocks += tokens.len() as u32;
        Ok(())
    }
    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        let parent = self.path(path)?;
        let (before, tree) = (chain(&parent.before, path.0, n_tokens as u32), parent.tree);
        Ok(self.start(before, n_tokens as u32, Some(tree)))
    }
    fn close(&mut self, path: PathId) {
        let Some(Path { tree, .. }) = self.paths.remove(&path) else { return };
        if let Some(n) = self.trees.get_mut(&tree) {
            *n -= 1;
            if *n == 0 {
                self.trees.remove(&tree);
                self.world.borrow_mut().forget(tree);
            }
        }
    }
    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        let (work, context_len) = (self.work, self.context_len);
        let path = self.path(request.path)?;
        let turn = path.turn.get_or_insert_with(|| Turn {
            end: if request.seed.uniform(0) < work.calls { CALL } else { ANSWER },
            n_left: blocks(work.turn, request.seed.child(1)),
            entropy: (0.2 + 0.6 * request.seed.uniform(2)) as f32,
        });
        let room = (context_len as u32).saturating_sub(path.n_blocks);
        let n_new = turn.n_left.min(request.max_tokens as u32).min(room);
        let stop = match () {
            () if n_new == turn.n_left => SampleStop::StopToken,
            () if n_new == room => SampleStop::ContextFull,
            () => SampleStop::MaxTokens,
        };
        path.asked = Some((n_new, stop));
        let chain = chain(&path.before, request.path.0, path.n_blocks + n_new);
        let (tree, n_prompt) = (path.tree, path.n_blocks);
        self.world.borrow_mut().ask(request.path.0, tree, chain, n_prompt, n_new);
        Ok(())
    }
    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        let answered = {
            let mut world = self.world.borrow_mut();
            while world.answered.is_empty() && world.called.is_empty() && world.failed.is_none() && world.step() {}
            if let Some(why) = &world.failed {
                return Err(PolicyError::Remote(why.clone()));
            }
            if world.answered.is_empty() && world.called.is_empty() {
                return Err(PolicyError::Remote("requests are in flight, but nothing will happen".to_owned()));
            }
            std::mem::take(&mut world.answered)
        };
        let mut done = Vec::with_capacity(answered.len());
        for request in answered {
            let id = PathId(request.path);
            let path = self.path(id)?;
            let (Some((n_new, stop)), Some(turn)) = (path.asked.take(), path.turn) else {
                return Err(PolicyError::Misuse(format!("{id:?} was answered twice")));
            };
            path.n_blocks += n_new;
            let ends = stop == SampleStop::StopToken;
            path.turn = (!ends).then_some(Turn { n_left: turn.n_left - n_new, ..turn });
            let entropy = turn.entropy;
            let token = |token| SampledToken { token, logprob: -entropy, entropy, top_entropy: entropy };
            let mut tokens = vec![token(TEXT); n_new as usize];
            if let Some(last) = tokens.last_mut().filter(|_| ends) {
                *last = token(turn.end);
            }
            done.push(Completion { path: id, tokens, stop, version: request.version, changes: Vec::new() });
        }
        Ok(done)
    }
}

/// Tools that answer after a while.
pub struct SimTools {
    world: Shared,
    work: Work,
    specs: [ToolSpec; 1],
    /// Blocks and seconds of the calls in flight.
    calls: HashMap<u64, (u32, f64)>,
}

impl SimTools {
    /// Tools for this kind of work.
    pub fn new(world: Shared, work: Work) -> SimTools {
        SimTools { world, work, specs: [ToolSpec::python()], calls: HashMap::new() }
    }
}

impl Toolset for SimTools {
    fn tools(&self) -> &[ToolSpec] {
        &self.specs
    }
    fn submit(&mut self, call: ToolCall) {
        let secs = drawn(self.work.call_secs, call.seed.child(1));
        self.calls.insert(call.id.0, (blocks(self.work.result, call.seed.child(2)), secs));
        self.world.borrow_mut().call(call.id.0, secs);
    }
    fn poll(&mut self, block: bool) -> Vec<ToolResult> {
        let mut world = self.world.borrow_mut();
        while block && world.called.is_empty() && world.step() {}
        let called = std::mem::take(&mut world.called);
        let result = |id: u64| {
            let (n_blocks, wall_secs) = self.calls.remove(&id)?;
            // A byte is rendered as a block.
            let text = "b".repeat(n_blocks as usize);
            Some(ToolResult { id: CallId(id), outcome: ToolOutcome::Ok, text, wall_secs })
        };
        called.into_iter().filter_map(result).collect()
    }
}
