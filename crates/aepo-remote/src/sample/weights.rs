//! Is a replica well, and does it have the weights that it should? Looked at before it is asked, and after each failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aepo::policy::SampleParams;
use aepo::seed::Seed;
use aepo::stop::Stop;

use super::SampleEngine;
use super::shared::{Facts, Shared, Target, lock};
use super::wire::{Ask, Trouble};
use super::{sglang, vllm};
use crate::publish::Weights;

/// A short question about a replica is answered in this time.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// Looks after a replica, and again while the weights that it should have change meanwhile; tells the router.
pub(crate) async fn look_after(shared: Arc<Shared>, idx: usize) {
    loop {
        let target = lock(&shared.target).clone();
        let outcome = make_right(&shared, idx, &target).await;
        let now = Instant::now();
        // Whoever changes the target sees this replica as looked after, so it is for this task to go on.
        let same = *lock(&shared.target) == target;
        if outcome.is_ok() && !same {
            continue;
        }
        match outcome {
            Ok(()) => {
                let mut router = lock(&shared.router);
                router.well(idx);
                shared.grant(&mut router, idx);
            }
            Err(Trouble::Replica(why) | Trouble::Weights(why) | Trouble::Refused(why)) => {
                lock(&shared.router).unwell(idx, why, now);
            }
        }
        shared.changed.notify_waiters();
        return;
    }
}

async fn make_right(shared: &Arc<Shared>, idx: usize, target: &Target) -> Result<(), Trouble> {
    let http = &shared.http[idx];
    let settings = &shared.settings;
    let known = lock(&shared.facts)[idx].clone();
    let (model, context_len) = match settings.engine {
        SampleEngine::Vllm => {
            let served = vllm::greet(http, settings.model.as_deref(), LOOK_WITHIN).await?;
            (served.model, served.context_len)
        }
        SampleEngine::Sglang => {
            sglang::greet(http, LOOK_WITHIN).await?;
            ("default".to_owned(), None)
        }
    };
    let mode = match &known {
        Some(facts) if facts.model == model => facts.mode,
        _ => {
            let id = shared.request_id();
            let ask = Ask {
                id: &id,
                model: &model,
                is_adapter: false,
                prompt: &[0],
                max_tokens: 1,
                stop: &Stop::default(),
                by_text: false,
                params: SampleParams { temperature: 1.0, top_p: 1.0, top_k: 0, top_entropy: false },
                seed: Seed(0),
                n_top: settings.n_top.min(settings.vocab_size),
                vocab_size: settings.vocab_size,
            };
            match settings.engine {
                SampleEngine::Vllm => vllm::mode(http, &ask, settings.try_within).await?,
                SampleEngine::Sglang => sglang::mode(http, &ask, settings.try_within).await?,
            }
        }
    };
    let facts = Facts { model, context_len, mode };
    agrees(shared, idx, &facts)?;
    lock(&shared.facts)[idx] = Some(facts);
    let within = settings.try_within;
    match &target.weights {
        None => Ok(()),
        Some(Weights::Adapter(dir)) => {
            let name = shared.label(target.version);
            let has = lock(&shared.adapters).contains_key(&(idx, name.clone()));
            match settings.engine {
                // A replica that was started anew has forgotten it, which vLLM's list of models tells.
                SampleEngine::Vllm => vllm::load_adapter(http, &name, dir, within).await?,
                SampleEngine::Sglang if has && !has_failed(shared, idx) => {}
                SampleEngine::Sglang => {
                    // One that it may still have is in the way of the same name.
                    let _ = sglang::unload_adapter(http, &name, within).await;
                    sglang::load_adapter(http, &name, dir, within).await?;
                }
            }
            lock(&shared.adapters).entry((idx, name.clone())).or_insert(0);
            unload_others(shared, idx, &name).await;
            Ok(())
        }
        Some(Weights::Full(dir)) => {
            idle(shared, idx).await?;
            let label = shared.label(target.version);
            match settings.engine {
                SampleEngine::Vllm => vllm::load_model(http, &label, dir, within).await,
                SampleEngine::Sglang => sglang::load_model(http, &label, dir, within).await,
            }
        }
    }
}

/// Whether the replica failed since it last answered.
fn has_failed(shared: &Shared, idx: usize) -> bool {
    lock(&shared.router).replicas[idx].n_failures > 0
}

/// Replicas that serve different things are no replicas.
fn agrees(shared: &Shared, idx: usize, facts: &Facts) -> Result<(), Trouble> {
    let all = lock(&shared.facts);
    let others = all.iter().enumerate().filter(|&(other, _)| other != idx);
    for (other, known) in others.filter_map(|(other, known)| known.as_ref().map(|known| (other, known))) {
        if (known.mode, known.context_len) != (facts.mode, facts.context_len) {
            return Err(Trouble::Replica(format!(
                "it serves another model than {}, or under other settings: a context of {:?} and not {:?} tokens, \
                 log-probabilities {:?} and not {:?}",
                shared.settings.urls[other], facts.context_len, known.context_len, facts.mode, known.mode
            )));
        }
    }
    Ok(())
}

/// Forgets adapters of earlier versions that no request is in flight for. One that cannot be unloaded takes room there
/// and does no other harm.
async fn unload_others(shared: &Shared, idx: usize, current: &str) {
    let old: Vec<String> = {
        let adapters = lock(&shared.adapters);
        let idle = adapters.iter().filter(|((at, name), n)| *at == idx && name != current && **n == 0);
        idle.map(|((_, name), _)| name.clone()).collect()
    };
    for name in old {
        let http = &shared.http[idx];
        let unloaded = match shared.settings.engine {
            SampleEngine::Vllm => vllm::unload_adapter(http, &name, LOOK_WITHIN).await,
            SampleEngine::Sglang => sglang::unload_adapter(http, &name, LOOK_WITHIN).await,
        };
        // Asked for again with the next version.
        if unloaded.is_ok() {
            lock(&shared.adapters).remove(&(idx, name));
        }
    }
}

/// Waits until nothing is in flight at a replica: a request that met new weights half-way, or that arrived behind them,
/// would be marked with the old ones.
async fn idle(shared: &Shared, idx: usize) -> Result<(), Trouble> {
    let quiet = async {
        loop {
            let landed = shared.quiet.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            if lock(&shared.router).replicas[idx].n_in_flight == 0 {
                return;
            }
            landed.await;
        }
    };
    let waited = tokio::time::timeout(shared.settings.deadline, quiet).await;
    waited.map_err(|_| Trouble::Replica("requests in flight did not end before an update of the weights".to_owned()))
}
