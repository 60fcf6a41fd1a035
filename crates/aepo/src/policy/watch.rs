//! What must a sampler show to those who serve it? Tokens while they come, what else was likely, and what it makes of
//! tokens that were given.

use super::{PathId, PolicyError, SampleRequest, SampledToken, Sampler};

/// What is recorded of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Likeliest tokens recorded beside each token. With 0 nothing is looked for, and it costs nothing.
    pub n_likeliest: usize,
    /// Tokens at the path's end that were given and not sampled: they are recorded first, as if each had been drawn. The
    /// token before the first of them must not be cached yet: a path that was opened, and not forked, is like that.
    pub n_given: usize,
}

/// One recorded token.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The token, as in a [`super::Completion`].
    pub token: SampledToken,
    /// Its place among all tokens from the likeliest down, from 1, ties by id; 0 where no likeliest ones were asked for.
    pub rank: u32,
    /// The likeliest tokens with their natural log-probabilities at the sampling temperature, from the likeliest down,
    /// ties by id. Ids that are never drawn are left out.
    pub likeliest: Vec<(u32, f32)>,
}

/// A sampler that can be looked into while it works. What a path samples does not depend on whether somebody looks.
pub trait Watched: Sampler {
    /// Queues a continuation as [`Sampler::submit`] does, and keeps a record of its tokens.
    fn submit_watched(&mut self, request: SampleRequest, watch: Watch) -> Result<(), PolicyError>;
    /// Appends to `seen` what has been recorded of the path's latest request since this was last asked. After the
    /// request's completion the rest of it is there until the next request or the path's end.
    fn take_seen(&mut self, path: PathId, seen: &mut Vec<Seen>);
}
