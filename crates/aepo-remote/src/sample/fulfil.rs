//! How is a request carried through? Tried until it is answered or its time is over, cut where the turn ends, and said
//! by which weights each token was sampled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aepo::policy::{PolicyVersion, SampleParams, SampleStop, SampledToken, VersionChange};
use aepo::seed::Seed;
use aepo::stop::Stop;

use super::reading::{Mode, reading, sampled};
use super::route::{Choice, Ticket};
use super::shared::{Lease, Shared, lock};
use super::tries::Tries;
use super::weights::look_after;
use super::wire::{Answer, Ask, Trouble};
use super::{SampleEngine, SampleError, sglang, vllm};
use crate::publish::Weights;

/// Label of the seeds of further parts of a continuation; the first part has the request's own.
const PART: u64 = 0x5061_7274;

/// What a request asks for.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The tree that it belongs to.
    pub key: u64,
    /// Everything on the path.
    pub prompt: Vec<u32>,
    /// Of these, the last so many belong to the turn.
    pub n_turn: usize,
    /// At most so many tokens.
    pub max_tokens: usize,
    /// The path is full at so many.
    pub context_len: usize,
    /// What ends it.
    pub stop: Arc<Stop>,
    /// How tokens are drawn.
    pub params: SampleParams,
    /// What they are drawn with.
    pub seed: Seed,
}

/// What a request got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// In order.
    pub tokens: Vec<SampledToken>,
    /// Why it ended.
    pub stop: SampleStop,
    /// The weights of the first token.
    pub version: PolicyVersion,
    /// Where others took over.
    pub changes: Vec<VersionChange>,
}

/// Carries a request through. A server that ends it where the turn does not end (by its own idea of a text, or because
/// somebody stopped it) is asked to go on from there; one that goes beyond the end is cut.
pub(crate) async fn fulfil(shared: Arc<Shared>, job: Job) -> Result<Got, SampleError> {
    let since = Instant::now();
    let mut tokens: Vec<SampledToken> = Vec::new();
    let mut prompt = job.prompt.clone();
    let n_before = prompt.len();
    let mut versions: Option<(PolicyVersion, Vec<VersionChange>)> = None;
    let mut n_parts = 0u64;
    loop {
        let ask = Part {
            prompt: &prompt,
            max_tokens: job.max_tokens - tokens.len(),
            // A text that ended a part for the server alone would end the next one too early as well.
            by_text: n_parts == 0,
            seed: if n_parts == 0 { job.seed } else { job.seed.child(PART).child(n_parts) },
        };
        let (answer, version, mode) = try_all(&shared, &job, &ask, since).await?;
        let vocab_size = shared.settings.vocab_size;
        let is_whole = shared.settings.n_top >= vocab_size;
        let read = reading(shared.settings.engine, mode, job.params, is_whole);
        let read = read.map_err(|why| SampleError::Logprobs { url: shared.settings.urls.join(", "), why })?;
        let from_idx = tokens.len() as u32;
        match &mut versions {
            None => versions = Some((version, Vec::new())),
            Some((first, changes)) => {
                if changes.last().map_or(*first, |change| change.version) != version {
                    changes.push(VersionChange { from_idx, version });
                }
            }
        }
        let n_sampled = answer.tokens.len();
        let (mut stop, mut widest_gap) = (None, 0.0f64);
        for token in &answer.tokens {
            let (token, gap) = sampled(token, read, vocab_size, job.params.top_entropy);
            prompt.push(token.token);
            tokens.push(token);
            widest_gap = widest_gap.max(gap);
            stop = match () {
                () if job.stop.ends(&prompt[n_before - job.n_turn..]) => Some(SampleStop::StopToken),
                () if prompt.len() >= job.context_len => Some(SampleStop::ContextFull),
                () if tokens.len() >= job.max_tokens => Some(SampleStop::MaxTokens),
                () => None,
            };
            if stop.is_some() {
                break;
            }
        }
        let n_used = tokens.len() - from_idx as usize;
        let mut tally = lock(&shared.tally);
        tally.n_surplus_tokens += (n_sampled - n_used) as u64;
        tally.widest_gap = tally.widest_gap.max(widest_gap);
        if let (Some(stop), Some((version, changes))) = (stop, versions.take_if(|_| stop.is_some())) {
            tally.n_completions += 1;
            return Ok(Got { tokens, stop, version, changes });
        }
        tally.n_continued += 1;
        n_parts += 1;
    }
}

/// A part of a continuation.
#[derive(Clone, Copy)]
struct Part<'a> {
    prompt: &'a [u32],
    max_tokens: usize,
    by_text: bool,
    seed: Seed,
}

/// Tries replicas until one answers. The seed is the same at each, so the sample is too, where they compute alike.
async fn try_all(
    shared: &Arc<Shared>,
    job: &Job,
    part: &Part<'_>,
    since: Instant,
) -> Result<(Answer, PolicyVersion, Mode), SampleError> {
    let mut tries = Tries::new(job.key, since + shared.settings.deadline);
    let mut place: Option<Ticket> = None;
    loop {
        let idx = next_replica(shared, &mut tries, &mut place, since).await?;
        place = None;
        let left = tries.left(Instant::now()).min(shared.settings.try_within);
        match try_one(shared, job, part, idx, left).await {
            Ok(answered) => {
                lock(&shared.router).answered(idx);
                return Ok(answered);
            }
            Err(Trouble::Refused(why)) => {
                return Err(SampleError::Refused { url: shared.settings.urls[idx].clone(), why });
            }
            Err(Trouble::Replica(why)) => lock(&shared.router).failed(idx, why, Instant::now()),
            Err(Trouble::Weights(why)) => {
                // What it had is not counted on any more.
                let label = shared.label(lock(&shared.target).version);
                lock(&shared.adapters).remove(&(idx, label));
                lock(&shared.router).outdated(idx, why, Instant::now());
            }
        }
        lock(&shared.tally).n_failed_tries += 1;
        shared.changed.notify_waiters();
        if let Some(pause) = tries.failed(idx, shared.http.len(), Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }
}

/// The replica that takes the request, which counts it as in flight; waits in the line where none does.
async fn next_replica(
    shared: &Arc<Shared>,
    tries: &mut Tries,
    place: &mut Option<Ticket>,
    since: Instant,
) -> Result<usize, SampleError> {
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        // From here on nothing that changes is missed.
        changed.as_mut().enable();
        let now = Instant::now();
        let (until, mut waits) = {
            let mut router = lock(&shared.router);
            match tries.next(&mut router, now) {
                None => {
                    drop(router);
                    return Err(shared.storm(since, tries.n_tries));
                }
                Some(Choice::Send(idx)) => return Ok(idx),
                Some(Choice::LookAfter(idx)) => {
                    // In a task of its own: it goes on when this request is given up.
                    tokio::spawn(look_after(Arc::clone(shared), idx));
                    continue;
                }
                Some(Choice::Wait(until)) => (until, shared.wait(&mut router, tries.key, *place)),
            }
        };
        *place = Some(waits.ticket);
        let left = tries.left(now);
        let within = until.map_or(left, |until| until.saturating_duration_since(now).min(left));
        let granted = tokio::select! {
            biased;
            idx = waits.granted() => Some(idx),
            // Either way the router is asked again.
            () = changed => None,
            () = tokio::time::sleep(within) => None,
        };
        tries.waited(&lock(&shared.router), now, Instant::now());
        if let Some(idx) = granted {
            tries.granted();
            return Ok(idx);
        }
    }
}

async fn try_one(
    shared: &Arc<Shared>,
    job: &Job,
    part: &Part<'_>,
    idx: usize,
    within: Duration,
) -> Result<(Answer, PolicyVersion, Mode), Trouble> {
    // The replica was looked after since these weights are in force, or it would not have been chosen.
    let (target, facts) = (lock(&shared.target).clone(), lock(&shared.facts)[idx].clone());
    let adapter = match &target.weights {
        Some(Weights::Adapter(_)) => Some(shared.label(target.version)),
        _ => None,
    };
    let _lease = Lease::new(shared, idx, adapter.clone());
    let Some(facts) = facts else { return Err(Trouble::Weights("it was never looked after".to_owned())) };
    let id = shared.request_id();
    let settings = &shared.settings;
    let ask = Ask {
        id: &id,
        model: adapter.as_deref().unwrap_or(&facts.model),
        is_adapter: adapter.is_some(),
        prompt: part.prompt,
        max_tokens: part.max_tokens,
        stop: &job.stop,
        by_text: part.by_text,
        params: job.params,
        seed: part.seed,
        n_top: settings.n_top.min(settings.vocab_size),
        vocab_size: settings.vocab_size,
    };
    let (path, body) = match settings.engine {
        SampleEngine::Vllm => ("/v1/completions", vllm::body(&ask)),
        SampleEngine::Sglang => ("/generate", sglang::body(&ask)),
    };
    let reply = shared.http[idx].post_for(path, &body, within, vllm::max_bytes(&ask)).await?;
    let answer = match settings.engine {
        SampleEngine::Vllm => vllm::read(&reply, &ask)?,
        SampleEngine::Sglang => sglang::read(&reply, &ask)?,
    };
    if let (Some(Weights::Full(_)), Some(label)) = (&target.weights, &answer.label) {
        let expected = shared.label(target.version);
        if *label != expected {
            return Err(Trouble::Weights(format!("it answers by the weights `{label}`, not by `{expected}`")));
        }
    }
    let answer = answer.checked(&ask)?;
    if let Some(n_cached) = answer.n_cached {
        let mut tally = lock(&shared.tally);
        tally.n_prompt_tokens += part.prompt.len() as u64;
        tally.n_cached_tokens += n_cached;
    }
    Ok((answer, target.version, facts.mode))
}
