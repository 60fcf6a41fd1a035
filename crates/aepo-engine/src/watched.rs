//! What else was likely where a token was drawn, and what is a token worth that was given? Records for those who serve
//! a model.

use std::cmp::Ordering;
use std::ops::Range;

use aepo::policy::watch::{Seen, Watch, Watched};
use aepo::policy::{PathId, PolicyError, SampleParams, SampleRequest, SampledToken, Sampler as _};

use crate::engine::Engine;
use crate::kernels::stats::row_stats;
use crate::real::vectorize_op;

/// The record of a request.
pub(crate) struct Watching {
    pub(crate) watch: Watch,
    /// Places of the given tokens on the path.
    pub(crate) given: Range<usize>,
    /// What nobody has taken yet, in order.
    pub(crate) seen: Vec<Seen>,
}

/// A token on its way from the logits to its path.
pub(crate) struct Drawn {
    pub(crate) token: SampledToken,
    rank: u32,
    likeliest: Vec<(u32, f32)>,
}

impl Drawn {
    pub(crate) fn is_finite(&self) -> bool {
        self.token.logprob.is_finite() && self.token.entropy.is_finite()
    }

    /// The record; what else was likely is moved into it.
    pub(crate) fn take_seen(&mut self) -> Seen {
        Seen { token: self.token, rank: self.rank, likeliest: std::mem::take(&mut self.likeliest) }
    }
}

/// What sampling would have said of `token`, had it been drawn: the same bits.
pub(crate) fn given(logits: &[f32], params: SampleParams, token: u32) -> SampledToken {
    let stats = vectorize_op(Stats { logits, inverse: 1.0 / params.temperature });
    let logprob = logits.get(token as usize).map_or(f32::NAN, |x| logprob(*x, params, stats.lse));
    SampledToken { token, logprob, entropy: stats.entropy, top_entropy: 0.0 }
}

/// Finds the `n` likeliest of the first `n_drawn` ids, and the token's place among them; nothing where `n` is 0.
pub(crate) fn look(token: SampledToken, logits: &[f32], n_drawn: usize, params: SampleParams, n: usize) -> Drawn {
    let mut drawn = Drawn { token, rank: 0, likeliest: Vec::new() };
    if n == 0 {
        return drawn;
    }
    let lse = vectorize_op(Stats { logits, inverse: 1.0 / params.temperature }).lse;
    let logits = &logits[..n_drawn.clamp(1, logits.len().max(1)).min(logits.len())];
    let own = logits.get(token.token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let is_before = |(id, x): (usize, &f32)| *x > own || (*x == own && id < token.token as usize);
    drawn.rank = 1 + logits.iter().enumerate().filter(|&at| is_before(at)).count() as u32;
    let n = n.min(logits.len());
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(n + 1);
    for (id, &x) in logits.iter().enumerate() {
        if top.len() == n && top.last().is_some_and(|last| x.partial_cmp(&last.1) != Some(Ordering::Greater)) {
            continue;
        }
        top.insert(top.partition_point(|t| t.1 >= x), (id as u32, x));
        top.truncate(n);
    }
    drawn.likeliest = top;
    drawn.likeliest.iter_mut().for_each(|(_, x)| *x = logprob(*x, params, lse));
    drawn
}

/// As the sampler computes it.
fn logprob(x: f32, params: SampleParams, lse: f32) -> f32 {
    let x = x * (1.0 / params.temperature) - lse;
    if x > 0.0 { 0.0 } else { x }
}

struct Stats<'a> {
    logits: &'a [f32],
    inverse: f32,
}

impl pulp::NullaryFnOnce for Stats<'_> {
    type Output = crate::kernels::stats::RowStats<f32>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        row_stats(self.logits, self.inverse)
    }
}

impl Watched for Engine {
    fn submit_watched(&mut self, request: SampleRequest, watch: Watch) -> Result<(), PolicyError> {
        let path = request.path;
        if let Some(live) = self.paths.get(&path.0)
            && watch.n_given > 0
        {
            let (n_tokens, n_cached) = (live.tokens.len(), live.cache.n_tokens);
            if watch.n_given >= n_tokens || n_cached + watch.n_given >= n_tokens {
                return Err(PolicyError::Misuse(format!(
                    "{} given tokens of a path of {n_tokens}, {n_cached} of them cached: those and one before them must not be",
                    watch.n_given
                )));
            }
        }
        self.submit(request)?;
        if let Some(live) = self.paths.get_mut(&path.0) {
            let n = live.tokens.len();
            live.watching = Some(Box::new(Watching { watch, given: n - watch.n_given..n, seen: Vec::new() }));
        }
        Ok(())
    }

    fn take_seen(&mut self, path: PathId, seen: &mut Vec<Seen>) {
        if let Some(watching) = self.paths.get_mut(&path.0).and_then(|path| path.watching.as_mut()) {
            seen.append(&mut watching.seen);
        }
    }
}
