//! Who runs the calls? Workers behind [`aepo::tool::Toolset`]: every submitted call comes back, whatever a provider does.
//!
//! One thread, the caller's, decides everything: what the cache answers, which calls are equal, what the budget and the
//! breaker hold back, what is late. Workers only ask their providers and tell what happened; so a call that is stuck, or
//! whose provider panics, costs its own answer and nothing else.

mod breaker;
pub mod builtin;
pub mod faults;
mod flight;
mod pool;
pub mod provider;
mod stats;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aepo::tool::{ToolCall, ToolName, ToolResult, ToolSpec, Toolset};
use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::cache::{Cache, CacheSettings, Key, Mode, Writer};
use crate::error::{ToolsError, io};
use crate::python::PythonSettings;
use crate::search::SearchIndex;

pub use breaker::BreakerSettings;
pub use provider::{Answer, Basis, Limits, Make, Offer, Provider};
pub use stats::ToolStats;

use flight::Flight;
use pool::{Around, Pool};
use worker::Event;

/// What all tools of a run have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolsSettings {
    /// Where answers are kept, if they are.
    pub cache: Option<CacheSettings>,
    /// Longer results are cut there, bytes. What the model reads is cut again, in tokens.
    pub max_result_bytes: usize,
}

impl Default for ToolsSettings {
    fn default() -> Self {
        ToolsSettings { cache: None, max_result_bytes: 256 << 10 }
    }
}

/// How long the end of the toolset waits for workers whose calls cannot be ended, seconds.
const DROP_SECS: f64 = 2.0;
/// Nothing is waited for longer without a look around.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Every provider of a run, each with workers of its own.
pub struct Tools {
    offered: Vec<ToolSpec>,
    routes: BTreeMap<ToolName, usize>,
    pools: Vec<Pool>,
    flights: HashMap<u64, Flight>,
    n_flights: u64,
    /// Flights that equal calls may join.
    by_key: HashMap<Key, u64>,
    ready: Vec<ToolResult>,
    events: (Sender<Event>, Receiver<Event>),
    cache: Option<Arc<Cache>>,
    writer: Option<Writer>,
    max_result_bytes: usize,
    stats: BTreeMap<ToolName, ToolStats>,
    stopping: Arc<AtomicBool>,
}

impl Tools {
    /// Starts Python and search with `n_workers` threads each. Fails if the sandbox is not complete here: nothing runs
    /// half caged.
    pub fn start(
        n_workers: usize,
        python: Option<PythonSettings>,
        search: Option<SearchIndex>,
    ) -> Result<Tools, ToolsError> {
        let mut offers = Vec::new();
        if let Some(settings) = python {
            offers.push(builtin::python(settings, n_workers)?);
        }
        offers.extend(search.map(|index| builtin::search(index, n_workers)));
        Tools::of(offers, &ToolsSettings::default())
    }

    /// Starts the workers of every offer. Where a cache is replayed nobody works: one instance of each provider says what
    /// it is, and is dropped.
    pub fn of(offers: Vec<Offer>, settings: &ToolsSettings) -> Result<Tools, ToolsError> {
        let events = unbounded();
        let cache = settings.cache.as_ref().map(Cache::open).transpose()?.map(Arc::new);
        let writer = match &cache {
            Some(cache) if cache.mode() == Mode::Record => {
                let events: Sender<Event> = events.0.clone();
                let done = move |flights, result| drop(events.send(Event::Stored { flights, result }));
                Some(Writer::start(Arc::clone(cache), done)?)
            }
            _ => None,
        };
        let mut tools = Tools {
            offered: Vec::new(),
            routes: BTreeMap::new(),
            pools: Vec::new(),
            flights: HashMap::new(),
            n_flights: 0,
            by_key: HashMap::new(),
            ready: Vec::new(),
            events,
            cache,
            writer,
            max_result_bytes: settings.max_result_bytes,
            stats: BTreeMap::new(),
            stopping: Arc::default(),
        };
        for offer in offers {
            tools.open(offer)?;
        }
        Ok(tools)
    }

    fn open(&mut self, offer: Offer) -> Result<(), ToolsError> {
        let Offer { make, limits, until } = offer;
        limits.check()?;
        let first = make()?;
        let idx = self.pools.len();
        for spec in first.specs() {
            if self.routes.insert(spec.name.clone(), idx).is_some() {
                let (value, rule) = (spec.name.to_string(), "must be offered only once");
                return Err(ToolsError::Setting { name: "a tool", value, rule });
            }
            self.stats.insert(spec.name.clone(), ToolStats::default());
            self.offered.push(spec.clone());
        }
        let (events, stopping) = (self.events.0.clone(), Arc::clone(&self.stopping));
        let around = Around { idx, identity: first.identity(), basis: first.basis(), events, stopping };
        let n_workers = if self.mode() == Some(Mode::Replay) { 0 } else { limits.n_workers };
        let mut pool = Pool::new(Arc::clone(&make), limits, until, around);
        let mut first = Some(first);
        for _ in 0..n_workers {
            let provider = first.take().map_or_else(|| make(), Ok)?;
            pool.hire(Some(provider)).map_err(io("starting a worker thread"))?;
        }
        self.pools.push(pool);
        Ok(())
    }

    /// Counts of every tool since the start.
    #[must_use]
    pub fn stats(&self) -> &BTreeMap<ToolName, ToolStats> {
        &self.stats
    }

    /// Whether calls of this tool are held back at the moment because too many in a row have failed.
    #[must_use]
    pub fn is_held_back(&self, tool: &ToolName) -> bool {
        self.routes.get(tool).is_some_and(|&pool| self.pools[pool].breaker.is_open(Instant::now()))
    }

    fn mode(&self) -> Option<Mode> {
        self.cache.as_ref().map(|cache| cache.mode())
    }

    fn count(&mut self, tool: &ToolName) -> &mut ToolStats {
        self.stats.entry(tool.clone()).or_default()
    }
}

impl Toolset for Tools {
    fn tools(&self) -> &[ToolSpec] {
        &self.offered
    }

    fn submit(&mut self, call: ToolCall) {
        self.go(call);
    }

    fn poll(&mut self, block: bool) -> Vec<ToolResult> {
        loop {
            while let Ok(event) = self.events.1.try_recv() {
                self.hear(event);
            }
            self.give_up_overdue();
            if !self.ready.is_empty() || !block || self.flights.is_empty() {
                return std::mem::take(&mut self.ready);
            }
            // Never waits in vain: a flight is with a worker, who has a deadline, or in a queue that workers look at, or
            // with the writer, who answers.
            let due = self.pools.iter().filter_map(Pool::next_due).min();
            let wait = due.map_or(LOOK_AROUND, |due| due.saturating_duration_since(Instant::now()).min(LOOK_AROUND));
            if let Ok(event) = self.events.1.recv_timeout(wait) {
                self.hear(event);
            }
        }
    }
}

impl Drop for Tools {
    /// Ends what can be ended. A call that cannot, because its provider waits for the world, is left to its thread.
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.pools.iter_mut().for_each(Pool::close);
        let until = Instant::now() + Duration::from_secs_f64(DROP_SECS);
        while self.pools.iter().any(|pool| pool.n_staff() > 0) {
            match self.events.1.recv_deadline(until) {
                Ok(Event::Ended { pool, worker, .. }) => self.pools[pool].ended(worker, None),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}
