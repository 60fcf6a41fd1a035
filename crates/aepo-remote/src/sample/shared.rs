//! What do all requests of a sampler share? Addresses, the router, the weights in force, and what is counted.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aepo::policy::PolicyVersion;
use tokio::sync::{Notify, oneshot};

use super::http::{Http, client};
use super::reading::Mode;
use super::route::{Router, Ticket};
use super::{SampleError, SampleSettings};
use crate::publish::Weights;

/// What is known of a replica that was greeted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// The name of the model under all adapters.
    pub model: String,
    /// Longest path there, tokens.
    pub context_len: Option<usize>,
    /// What its log-probabilities know of.
    pub mode: Mode,
}

/// The weights that requests are sampled by from now on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// Their version.
    pub version: PolicyVersion,
    /// Where they lie; `None` for what the replicas served at the beginning.
    pub weights: Option<Weights>,
}

/// What one replica did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaTally {
    /// Its address.
    pub url: String,
    /// Requests that it answered.
    pub n_answers: u64,
}

/// What was counted since the sampler was connected, or since it was last asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Continuations that came back.
    pub n_completions: u64,
    /// Tries that gave nothing.
    pub n_failed_tries: u64,
    /// Continuations that a server ended where the turn had not ended, and that were asked for in another part.
    pub n_continued: u64,
    /// Tokens that servers sampled behind the end of a turn, and that were dropped.
    pub n_surplus_tokens: u64,
    /// Tokens of prompts in the requests whose answers say what was cached.
    pub n_prompt_tokens: u64,
    /// Of these, tokens that were cached.
    pub n_cached_tokens: u64,
    /// The largest distance between the bounds of an entropy, nats.
    pub widest_gap: f64,
    /// Per replica, in the order of the settings.
    pub replicas: Vec<ReplicaTally>,
}

pub(crate) struct Shared {
    pub settings: SampleSettings,
    pub http: Vec<Http>,
    pub router: Mutex<Router>,
    /// Who waits in the router's line, to be told where there is room. Locked behind the router.
    waiting: Mutex<HashMap<Ticket, oneshot::Sender<usize>>>,
    /// Whenever a replica may have become well or unwell.
    pub changed: Notify,
    /// Whenever nothing is in flight at a replica any more.
    pub quiet: Notify,
    pub facts: Mutex<Vec<Option<Facts>>>,
    pub target: Mutex<Target>,
    /// Names of adapters that each replica has loaded, with the requests in flight for each.
    pub adapters: Mutex<HashMap<(usize, String), usize>>,
    pub tally: Mutex<Tally>,
    /// Tells what this sampler loads and asks from what others did.
    pub tag: String,
    n_requests: AtomicU64,
}

/// A poisoned lock guards numbers that are whole after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(settings: SampleSettings) -> Result<Shared, SampleError> {
        if settings.urls.is_empty() {
            return Err(SampleError::Settings("policy.sample.urls names no server".to_owned()));
        }
        let client = client().map_err(SampleError::Settings)?;
        let http = settings.urls.iter().map(|url| Http::new(&client, url, settings.key.as_ref()));
        let http = http.collect::<Result<_, _>>().map_err(SampleError::Settings)?;
        let router = Router::new(&settings.urls, settings.max_in_flight, Instant::now());
        let target = Target { version: settings.version, weights: None };
        Ok(Shared {
            http,
            router: Mutex::new(router),
            waiting: Mutex::default(),
            changed: Notify::new(),
            quiet: Notify::new(),
            facts: Mutex::new(vec![None; settings.urls.len()]),
            target: Mutex::new(target),
            adapters: Mutex::default(),
            tally: Mutex::default(),
            tag: format!("{:08x}", RandomState::new().hash_one(std::process::id()) as u32),
            n_requests: AtomicU64::new(0),
            settings,
        })
    }

    /// A name that no other request has.
    pub fn request_id(&self) -> String {
        format!("aepo-{}-{}", self.tag, self.n_requests.fetch_add(1, Ordering::Relaxed))
    }

    /// What replicas call a version that was published.
    pub fn label(&self, version: PolicyVersion) -> String {
        format!("aepo-{}-v{}", self.tag, version.0)
    }

    /// What was counted; counting begins anew.
    pub fn take_tally(&self) -> Tally {
        let mut tally = std::mem::take(&mut *lock(&self.tally));
        let mut router = lock(&self.router);
        tally.replicas = router
            .replicas
            .iter_mut()
            .map(|r| ReplicaTally { url: r.url.clone(), n_answers: std::mem::take(&mut r.n_answers) })
            .collect();
        tally
    }

    /// Room at a replica goes to those in the line, as long as there is any.
    pub fn grant(&self, router: &mut Router, idx: usize) {
        while let Some(ticket) = router.grant(idx) {
            let told = lock(&self.waiting).remove(&ticket).is_some_and(|waits| waits.send(idx).is_ok());
            if !told {
                router.landed(idx);
            }
        }
    }

    /// What a request does for which nobody has room; `router` is what just said so.
    pub fn wait(self: &Arc<Self>, router: &mut Router, key: u64, before: Option<Ticket>) -> Place {
        let ticket = router.join(key, before);
        let (tells, granted) = oneshot::channel();
        lock(&self.waiting).insert(ticket, tells);
        Place { shared: Arc::clone(self), ticket, granted }
    }

    pub fn storm(&self, since: Instant, n_tries: u32) -> SampleError {
        SampleError::Storm {
            engine: self.settings.engine.name(),
            secs: since.elapsed().as_secs_f64(),
            n_tries,
            causes: lock(&self.router).causes(),
        }
    }
}

/// A request in flight at a replica; not any more when it is dropped, whatever happened to it.
pub(crate) struct Lease {
    shared: Arc<Shared>,
    pub idx: usize,
    adapter: Option<String>,
}

impl Lease {
    /// The router has counted it already.
    pub fn new(shared: &Arc<Shared>, idx: usize, adapter: Option<String>) -> Lease {
        if let Some(name) = &adapter {
            *lock(&shared.adapters).entry((idx, name.clone())).or_insert(0) += 1;
        }
        Lease { shared: Arc::clone(shared), idx, adapter }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        {
            let mut router = lock(&self.shared.router);
            router.landed(self.idx);
            self.shared.grant(&mut router, self.idx);
            if router.replicas[self.idx].n_in_flight == 0 {
                self.shared.quiet.notify_waiters();
            }
        }
        if let Some(name) = self.adapter.take()
            && let Some(n) = lock(&self.shared.adapters).get_mut(&(self.idx, name))
        {
            *n = n.saturating_sub(1);
        }
    }
}

/// A place in the line; given up when it is dropped, and so is room that was granted and that nobody took.
pub(crate) struct Place {
    shared: Arc<Shared>,
    pub ticket: Ticket,
    granted: oneshot::Receiver<usize>,
}

impl Place {
    /// Waits until there is room; where. The router has counted it as in flight there, and who is told takes a lease.
    pub async fn granted(&mut self) -> usize {
        match (&mut self.granted).await {
            Ok(idx) => idx,
            // Nobody drops the other end without a word.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut router = lock(&self.shared.router);
        if router.leave(self.ticket) {
            lock(&self.shared.waiting).remove(&self.ticket);
        } else if let Ok(idx) = self.granted.try_recv() {
            router.landed(idx);
            self.shared.grant(&mut router, idx);
        }
    }
}
