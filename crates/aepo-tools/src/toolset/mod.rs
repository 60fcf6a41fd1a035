//! Who runs the calls? Workers behind [`aepo::tool::Toolset`]: every submitted call comes back, whatever a provider does.
//!
//! One thread, the caller's, decides everything: what the cache answers, which calls are equal, what the budget and the
//! breaker hold back, what is late. Workers only ask their providers and tell what happened; so a call that is stuck, or
//! whose provider panics, costs its own answer and nothing else.

mod breaker;
pub mod builtin;
mod pool;
pub mod provider;
mod stats;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aepo::tool::{CallId, ToolCall, ToolName, ToolOutcome, ToolResult, ToolSpec, Toolset};
use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::cache::{Cache, CacheSettings, Entry, Key, Mode, Put, Writer, now_secs};
use crate::error::{ToolsError, io};
use crate::python::PythonSettings;
use crate::search::SearchIndex;

pub use breaker::BreakerSettings;
pub use provider::{Answer, Basis, Limits, Make, Offer, Provider};
pub use stats::ToolStats;

use pool::{Around, Pool};
use worker::{Event, Job};

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

/// One question on its way, and all calls that wait for its answer.
struct Flight {
    pool: usize,
    key: Key,
    call: Arc<ToolCall>,
    waiters: Vec<CallId>,
    abandoned: Arc<AtomicBool>,
    /// Its answer, while that is being written down.
    answered: Option<(Answer, f64)>,
    /// When a worker took it.
    began: Option<Instant>,
}

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

    /// Answers one call.
    fn give(&mut self, id: CallId, tool: &ToolName, answer: Answer, wall_secs: f64) {
        let stats = self.count(tool);
        *stats.outcomes.entry(answer.outcome).or_default() += 1;
        if answer.outcome == ToolOutcome::Unavailable {
            stats.last_trouble = Some(answer.text.clone());
        }
        self.ready.push(ToolResult { id, outcome: answer.outcome, text: answer.text, wall_secs });
    }

    fn refuse(&mut self, call: &ToolCall, reason: &str) {
        self.count(&call.tool).n_refused += 1;
        self.give(call.id, &call.tool, Answer::unavailable(reason), 0.0);
    }

    /// What the cache says to a call; an imported entry answers where nothing was recorded.
    fn cached(&self, key: &Key, pool: usize, call: &ToolCall) -> Result<Option<Entry>, String> {
        let Some(cache) = &self.cache else { return Ok(None) };
        let get = |key: &Key| cache.get(key).map_err(|e| e.to_string());
        match get(key)? {
            None if self.pools[pool].basis == Basis::Input => get(&Key::any(call.tool.as_str(), &call.input)),
            found => Ok(found),
        }
    }

    fn go(&mut self, call: ToolCall) {
        self.count(&call.tool).n_calls += 1;
        let Some(&idx) = self.routes.get(&call.tool) else {
            let reason = format!("{} is not offered here", call.tool);
            return self.refuse(&call, &reason);
        };
        let pool = &self.pools[idx];
        let is_own = |name: &str| self.routes.iter().any(|(tool, &pool)| pool == idx && tool.as_str() == name);
        let (key, basis) = (Key::of(&pool.identity, pool.basis, &call, is_own), pool.basis);
        let looked = Instant::now();
        match self.cached(&key, idx, &call) {
            Ok(None) if self.mode() == Some(Mode::Replay) => {
                self.count(&call.tool).n_missing += 1;
                let beginning: String = call.input.chars().take(80).collect();
                return self.refuse(&call, &format!("not in the cache: {} {beginning:?}", call.tool));
            }
            Ok(None) => {}
            Ok(Some(entry)) => {
                self.count(&call.tool).n_hits += 1;
                let answer = Answer { outcome: entry.outcome, text: entry.text };
                return self.give(call.id, &call.tool, answer, looked.elapsed().as_secs_f64());
            }
            Err(reason) => return self.refuse(&call, &reason),
        }
        if basis != Basis::World
            && let Some(flight) = self.by_key.get(&key).and_then(|id| self.flights.get_mut(id))
        {
            flight.waiters.push(call.id);
            self.count(&call.tool).n_joined += 1;
            return;
        }
        let pool = &mut self.pools[idx];
        let max_calls = pool.limits.max_calls;
        if max_calls > 0 && pool.n_made >= max_calls {
            self.count(&call.tool).n_over_budget += 1;
            return self.refuse(&call, &format!("the budget of {max_calls} calls is spent"));
        }
        if !pool.breaker.admits(Instant::now()) {
            return self.hold_back(&call);
        }
        let (flight, call, abandoned) = (self.n_flights, Arc::new(call), Arc::new(AtomicBool::new(false)));
        self.n_flights += 1;
        let job = Job { flight, call: Arc::clone(&call), abandoned: Arc::clone(&abandoned) };
        if let Err(reason) = pool.queue(job) {
            pool.breaker.ended(false, Instant::now());
            return self.refuse(&call, &reason);
        }
        pool.n_made += 1;
        self.count(&call.tool).n_made += 1;
        let waiters = vec![call.id];
        self.by_key.insert(key, flight);
        self.flights.insert(flight, Flight { pool: idx, key, call, waiters, abandoned, answered: None, began: None });
    }

    fn hold_back(&mut self, call: &ToolCall) {
        let trouble = self.count(&call.tool).last_trouble.clone().unwrap_or_default();
        self.count(&call.tool).n_held_back += 1;
        self.refuse(call, &format!("held back after failures in a row; the last: {trouble}"));
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Ready { pool, worker } => self.pools[pool].is_back(worker),
            Event::Began { flight, pool, worker, at } => {
                self.pools[pool].began(worker, flight, at);
                if let Some(flight) = self.flights.get_mut(&flight) {
                    flight.began = Some(at);
                }
            }
            Event::Done { flight, pool, worker, answer, wall_secs, n_retries } => {
                self.pools[pool].is_back(worker);
                // A call that was given up is not there any more: nobody hears the late answer.
                if let Some(tool) = self.flights.get(&flight).map(|flight| flight.call.tool.clone()) {
                    self.count(&tool).n_retries += n_retries;
                    self.finish(flight, answer, wall_secs);
                }
            }
            Event::Ended { pool, worker, trouble } => {
                self.pools[pool].ended(worker, trouble);
                self.free_if_unstaffed(pool);
            }
            Event::Stored { flights, result } => {
                for id in flights {
                    let Some((answer, wall_secs)) = self.flights.get_mut(&id).and_then(|f| f.answered.take()) else {
                        continue;
                    };
                    let answer = match &result {
                        Ok(()) => answer,
                        Err(reason) => Answer::unavailable(&format!("its answer could not be kept: {reason}")),
                    };
                    self.land(id, &answer, wall_secs);
                }
            }
        }
    }

    /// Takes the answer of a provider, or one in its place, and brings it on its way.
    fn finish(&mut self, id: u64, mut answer: Answer, wall_secs: f64) {
        let Some(flight) = self.flights.get(&id) else { return };
        let (idx, key, call) = (flight.pool, flight.key, Arc::clone(&flight.call));
        if cut(&mut answer.text, self.max_result_bytes) {
            self.count(&call.tool).n_cut += 1;
        }
        let pool = &mut self.pools[idx];
        let (available, basis) = (answer.outcome != ToolOutcome::Unavailable, pool.basis);
        if pool.breaker.ended(available, Instant::now()) {
            let stats = self.count(&call.tool);
            stats.n_trips += 1;
            stats.last_trouble = Some(answer.text.clone());
            self.abandon_queued(idx, id);
        }
        let Some(writer) = self.writer.as_ref().filter(|_| available) else {
            return self.land(id, &answer, wall_secs);
        };
        let entry = Entry {
            tool: call.tool.to_string(),
            input: call.input.clone(),
            outcome: answer.outcome,
            text: answer.text.clone(),
            negative: is_negative(basis, answer.outcome),
            wall_secs,
            created_secs: now_secs(),
        };
        if !writer.send(Put { ticket: id, key, entry }) {
            return self.land(id, &Answer::unavailable("its answer could not be kept: the writer ended"), wall_secs);
        }
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.answered = Some((answer, wall_secs));
        }
    }

    /// Gives the answer to all that wait for it.
    fn land(&mut self, id: u64, answer: &Answer, wall_secs: f64) {
        let Some(flight) = self.flights.remove(&id) else { return };
        if self.by_key.get(&flight.key) == Some(&id) {
            self.by_key.remove(&flight.key);
        }
        for waiter in flight.waiters {
            self.give(waiter, &flight.call.tool, answer.clone(), wall_secs);
        }
    }

    /// Answers the calls of a pool that no worker has taken, but for `except`: it will not be asked for a while.
    fn abandon_queued(&mut self, idx: usize, except: u64) {
        for id in self.queued(idx) {
            let Some(flight) = self.flights.get(&id).filter(|_| id != except) else { continue };
            flight.abandoned.store(true, Ordering::Release);
            let (call, n_waiters) = (Arc::clone(&flight.call), flight.waiters.len() as u64);
            self.pools[idx].n_made = self.pools[idx].n_made.saturating_sub(1);
            let stats = self.count(&call.tool);
            // The first of them had been counted as made, the others as joined to it.
            stats.n_made -= 1;
            stats.n_joined -= n_waiters - 1;
            stats.n_refused += n_waiters;
            stats.n_held_back += n_waiters;
            let trouble = stats.last_trouble.clone().unwrap_or_default();
            let reason = format!("held back after failures in a row; the last: {trouble}");
            self.land(id, &Answer::unavailable(&reason), 0.0);
        }
    }

    /// Answers what waits for workers that are not there.
    fn free_if_unstaffed(&mut self, idx: usize) {
        if self.pools[idx].is_staffed() {
            return;
        }
        let trouble = self.pools[idx].trouble.clone().unwrap_or_else(|| "its workers have ended".to_owned());
        for id in self.queued(idx) {
            if let Some(flight) = self.flights.get(&id) {
                flight.abandoned.store(true, Ordering::Release);
            }
            self.finish(id, Answer::unavailable(&trouble), 0.0);
        }
    }

    /// Flights of a pool that no worker has taken, oldest first.
    fn queued(&self, idx: usize) -> Vec<u64> {
        let waits = |flight: &Flight| flight.pool == idx && flight.began.is_none() && flight.answered.is_none();
        let mut ids: Vec<u64> = self.flights.iter().filter(|(_, flight)| waits(flight)).map(|(&id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    fn give_up_overdue(&mut self) {
        let now = Instant::now();
        for idx in 0..self.pools.len() {
            if self.pools[idx].next_due().is_none_or(|due| now < due) {
                continue;
            }
            let (late, n_replaced) = self.pools[idx].overdue(now);
            for (i, id) in late.into_iter().enumerate() {
                let Some(flight) = self.flights.get(&id) else { continue };
                let wall_secs = flight.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
                let (tool, secs) = (flight.call.tool.clone(), self.pools[idx].limits.deadline_secs);
                let stats = self.count(&tool);
                stats.n_overdue += 1;
                stats.n_replaced += if i == 0 { n_replaced } else { 0 };
                let reason = format!("{tool} did not answer within {secs} s");
                self.finish(id, Answer::unavailable(&reason), wall_secs);
            }
            self.free_if_unstaffed(idx);
        }
    }
}

/// Which answers hold for a short time only: failures of the world, and those of a program that may lie with the load of
/// this machine.
fn is_negative(basis: Basis, outcome: ToolOutcome) -> bool {
    match (basis, outcome) {
        (_, ToolOutcome::Ok) => false,
        (Basis::Seeded | Basis::Session, ToolOutcome::Timeout) => true,
        (Basis::Seeded | Basis::Session, _) => false,
        (Basis::Input | Basis::World, _) => true,
    }
}

/// Cuts a text that is too long, and says so at its end.
fn cut(text: &mut String, max_bytes: usize) -> bool {
    let n_bytes = text.len();
    if n_bytes <= max_bytes {
        return false;
    }
    text.truncate(text.floor_char_boundary(max_bytes));
    text.push_str(&format!("\n[cut: {} of {n_bytes} bytes]", text.len()));
    true
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
