//! What becomes of a call? The cache, an equal call, a worker or a reason answers it; everything is decided here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use aepo::tool::{CallId, ToolCall, ToolName, ToolOutcome, ToolResult};

use crate::cache::{Entry, Key, Mode, Put, now_secs};
use crate::toolset::Tools;
use crate::toolset::provider::{Answer, Basis};
use crate::toolset::worker::{Event, Job};

/// One question on its way, and all calls that wait for its answer.
pub(super) struct Flight {
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

impl Tools {
    /// Answers one call.
    fn give(&mut self, id: CallId, tool: &ToolName, answer: Answer, wall_secs: f64) {
        let stats = self.count(tool);
        *stats.outcomes.entry(answer.outcome).or_default() += 1;
        if answer.outcome == ToolOutcome::Unavailable {
            stats.last_trouble = Some(answer.text.clone());
        }
        self.ready.push(ToolResult { id, outcome: answer.outcome, text: answer.text, wall_secs });
    }

    /// Answers one call without asking anybody.
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

    /// Starts a call, or answers it at once.
    pub(super) fn go(&mut self, call: ToolCall) {
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
            let reason = pool.held_back();
            self.count(&call.tool).n_held_back += 1;
            return self.refuse(&call, &reason);
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

    /// Takes note of what a worker or the writer tells.
    pub(super) fn hear(&mut self, event: Event) {
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
        if !available {
            pool.last_failure.clone_from(&answer.text);
        }
        if pool.breaker.ended(available, Instant::now()) {
            self.count(&call.tool).n_trips += 1;
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
            let reason = self.pools[idx].held_back();
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

    /// Answers calls whose deadline has passed.
    pub(super) fn give_up_overdue(&mut self) {
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
