//! Which tokens are computed next? What open paths have not cached yet, and one new token for each that asked.

use std::collections::BTreeMap;

use aepo::policy::{
    Completion, PathId, PolicyError, SampleParams, SampleRequest, SampleStop, SampledToken, Sampler as _,
};

use crate::cache::PathCache;
use crate::decode::Row;
use crate::engine::Engine;
use crate::sampler::{Scratch, sample};
use crate::watched::{Drawn, Watching, given, look};

/// Rows computed in one go while prompts and tool results are read; bounds the buffers.
pub(crate) const MAX_ROWS: usize = 1024;

/// Tokens of a request that room is made for when it comes; more than most turns have.
pub(crate) const ROOM: usize = 256;

/// An open path.
pub(crate) struct LivePath {
    pub(crate) tokens: Vec<u32>,
    pub(crate) cache: PathCache,
    pub(crate) request: Option<(SampleRequest, Vec<SampledToken>)>,
    /// The record of the latest request, where one is kept.
    pub(crate) watching: Option<Box<Watching>>,
}

impl LivePath {
    /// Tokens whose keys and values are not cached.
    pub(crate) fn n_uncached(&self) -> usize {
        self.tokens.len() - self.cache.n_tokens
    }
}

/// What is computed in one go; its buffers are reused from step to step.
#[derive(Default)]
pub(crate) struct Step {
    /// Paths that take part, in order of their numbers.
    paths: Vec<u64>,
    rows: Vec<Row>,
    /// Rows whose logits are read, and how each is drawn from.
    wanted: Vec<usize>,
    draws: Vec<Draw>,
    drawn: Vec<Option<Drawn>>,
}

struct Draw {
    path: u64,
    params: SampleParams,
    /// In [0, 1).
    u: f64,
    /// The token that stands there already.
    given: Option<u32>,
    /// Likeliest tokens to be looked for.
    n_likeliest: usize,
}

impl Step {
    fn clear(&mut self) {
        self.paths.clear();
        self.rows.clear();
        self.wanted.clear();
        self.draws.clear();
    }

    /// Adds the next `n` uncached tokens of a path, and a draw where it asked for one and these are all. Before that,
    /// given tokens that are to be recorded are looked at where they would have been drawn.
    fn add(&mut self, id: u64, path: &LivePath, n: usize) {
        let (start, index, first) = (path.cache.n_tokens, self.paths.len(), self.rows.len());
        self.paths.push(id);
        let tokens = path.tokens[start..start + n].iter().zip(start..);
        self.rows.extend(tokens.map(|(&token, position)| Row { path: index, token, position }));
        let Some((request, sampled)) = &path.request else { return };
        let (params, n_likeliest) = (request.params, path.watching.as_ref().map_or(0, |w| w.watch.n_likeliest));
        if let Some(watching) = &path.watching {
            for at in watching.given.start.max(start + 1)..watching.given.end.min(start + n + 1) {
                self.wanted.push(first + at - 1 - start);
                self.draws.push(Draw { path: id, params, u: 0.0, given: Some(path.tokens[at]), n_likeliest });
            }
        }
        if start + n == path.tokens.len() {
            self.wanted.push(self.rows.len() - 1);
            let u = request.seed.uniform(sampled.len() as u64);
            self.draws.push(Draw { path: id, params, u, given: None, n_likeliest });
        }
    }
}

/// The paths with these numbers; both in order.
fn those(
    paths: &mut BTreeMap<u64, LivePath>,
    numbers: impl Iterator<Item = u64>,
) -> impl Iterator<Item = &mut LivePath> {
    let mut paths = paths.iter_mut();
    numbers.filter_map(move |number| paths.find(|&(&id, _)| id == number).map(|(_, path)| path))
}

impl Engine {
    /// Caches every path's tokens but its last, so that forks can share them.
    pub(crate) fn prefill(&mut self) {
        loop {
            self.step.clear();
            let mut room = MAX_ROWS;
            for (&id, path) in &self.paths {
                let n = (path.n_uncached().max(1) - 1).min(room);
                if n > 0 {
                    self.step.add(id, path, n);
                    room -= n;
                }
            }
            if self.step.paths.is_empty() {
                return;
            }
            self.compute();
        }
    }

    /// One new token for each path that asked for one and is cached up to it, and a part of what is not cached yet of
    /// the others; returns the requests that ended.
    pub(crate) fn sample_all(&mut self) -> Result<Vec<Completion>, PolicyError> {
        self.step.clear();
        let mut room = MAX_ROWS;
        for (&id, path) in self.paths.iter().filter(|(_, p)| p.request.is_some()) {
            let n = path.n_uncached();
            if n == 1 {
                self.step.add(id, path, 1);
            } else if room > 0 {
                self.step.add(id, path, n.min(room));
                room -= n.min(room);
            }
        }
        if self.step.paths.is_empty() {
            return Ok(Vec::new());
        }
        self.compute();
        let drawn = self.step.draws.iter().zip(self.step.drawn.iter().flatten());
        if drawn.filter(|(d, _)| d.given.is_none()).any(|(_, drawn)| !drawn.is_finite()) {
            return Err(PolicyError::NotFinite("a sampled token's log-probability"));
        }
        let context_len = self.model.config.max_position_embeddings;
        let version = self.version();
        let mut completions = Vec::new();
        let Step { draws, drawn, .. } = &mut self.step;
        let is_new = |draw: &&Draw| draw.given.is_none();
        let numbers = draws.iter().filter(is_new).map(|d| d.path);
        let paths = those(&mut self.paths, numbers.clone()).zip(numbers);
        let drawn = draws.iter().zip(drawn.iter_mut().flatten()).filter(|(d, _)| is_new(d)).map(|(_, drawn)| drawn);
        for ((path, id), drawn) in paths.zip(drawn) {
            let Some((request, sampled)) = &mut path.request else { continue };
            path.tokens.push(drawn.token.token);
            sampled.push(drawn.token);
            if let Some(watching) = &mut path.watching {
                watching.seen.push(drawn.take_seen());
            }
            let turn = &path.tokens[path.tokens.len() - sampled.len() - request.n_turn..];
            let stop = match () {
                () if request.stop.ends(turn) => SampleStop::StopToken,
                () if path.tokens.len() >= context_len => SampleStop::ContextFull,
                () if sampled.len() >= request.max_tokens => SampleStop::MaxTokens,
                () => continue,
            };
            if let Some((_, tokens)) = path.request.take() {
                completions.push(Completion { path: PathId(id), tokens, stop, version, changes: Vec::new() });
            }
        }
        Ok(completions)
    }

    /// Computes the step's rows, caches them, draws, and records what was given.
    fn compute(&mut self) {
        self.model.pack();
        let Step { paths, rows, wanted, draws, drawn } = &mut self.step;
        let numbers = paths.iter().copied();
        let mut caches: Vec<&mut PathCache> = those(&mut self.paths, numbers).map(|path| &mut path.cache).collect();
        let (model, pool, buffers, n_drawn) = (&self.model, &mut self.pool, &mut self.buffers, self.n_drawn);
        let read = |i: usize, logits: &[f32], scratch: &mut Scratch| {
            let Draw { params, u, n_likeliest, .. } = draws[i];
            let token = match draws[i].given {
                Some(token) => given(logits, params, token),
                None => sample(logits, n_drawn, params, u, scratch),
            };
            look(token, logits, n_drawn, params, n_likeliest)
        };
        model.decode(rows, &mut caches, pool, wanted, buffers, drawn, read);
        let given = draws.iter().zip(drawn.iter_mut().flatten()).filter(|(draw, _)| draw.given.is_some());
        for (draw, drawn) in given {
            if let Some(watching) = self.paths.get_mut(&draw.path).and_then(|path| path.watching.as_mut()) {
                watching.seen.push(drawn.take_seen());
            }
        }
    }
}
