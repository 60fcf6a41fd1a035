//! Who works for one provider? Threads around one queue; one that is stuck is given up and replaced, up to a bound.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::toolset::breaker::Breaker;
use crate::toolset::provider::{Basis, Limits, Make, Provider, UNAVAILABLE};
use crate::toolset::worker::{Event, Job, Worker};

/// A worker is late when its deadline has passed by this much, so that a provider which ends on time is heard.
const GRACE: Duration = Duration::from_millis(250);

/// One worker, as the core sees it.
struct Staff {
    /// The call it works on and when that must have ended; no call while it makes its provider.
    busy: Option<(Option<u64>, Instant)>,
    /// It has passed a deadline and is not back.
    stuck: bool,
    /// Makes it end after its call.
    retired: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// One provider's workers and what is known of it.
pub(crate) struct Pool {
    pub idx: usize,
    pub identity: String,
    pub basis: Basis,
    pub limits: Limits,
    pub breaker: Breaker,
    /// Calls given to workers, against the budget.
    pub n_made: u64,
    /// The last answer that was `Unavailable`.
    pub last_failure: String,
    /// Why the last worker ended on its own.
    pub trouble: Option<String>,
    make: Make,
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    staff: BTreeMap<u64, Staff>,
    n_ever: u64,
    /// Dropping it ends the calls under way.
    until: Option<Box<dyn Send>>,
    events: Sender<Event>,
    stopping: Arc<AtomicBool>,
}

/// What [`Pool::new`] needs beside the offer itself.
pub(crate) struct Around {
    pub idx: usize,
    pub identity: String,
    pub basis: Basis,
    pub events: Sender<Event>,
    pub stopping: Arc<AtomicBool>,
}

impl Pool {
    pub(crate) fn new(make: Make, limits: Limits, until: Option<Box<dyn Send>>, around: Around) -> Pool {
        let (jobs, queue) = unbounded();
        let Around { idx, identity, basis, events, stopping } = around;
        Pool {
            idx,
            identity,
            basis,
            breaker: Breaker::new(limits.breaker.clone()),
            limits,
            n_made: 0,
            last_failure: String::new(),
            trouble: None,
            make,
            jobs,
            queue,
            staff: BTreeMap::new(),
            n_ever: 0,
            until,
            events,
            stopping,
        }
    }

    /// What a call is told that the breaker does not let through.
    pub(crate) fn held_back(&self) -> String {
        let failure = self.last_failure.strip_prefix(UNAVAILABLE).unwrap_or(&self.last_failure);
        format!("held back after failures in a row, the last of them: {failure}")
    }

    /// One more worker; without `first` it makes its provider in its own thread.
    pub(crate) fn hire(&mut self, first: Option<Box<dyn Provider>>) -> std::io::Result<()> {
        let (id, retired) = (self.n_ever, Arc::new(AtomicBool::new(false)));
        self.n_ever += 1;
        let deadline = Duration::from_secs_f64(self.limits.deadline_secs);
        let worker = Worker {
            pool: self.idx,
            id,
            make: Arc::clone(&self.make),
            deadline,
            queue: self.queue.clone(),
            events: self.events.clone(),
            stopping: Arc::clone(&self.stopping),
            retired: Arc::clone(&retired),
        };
        let thread = worker.start(first)?;
        let busy = Some((None, Instant::now() + deadline));
        self.staff.insert(id, Staff { busy, stuck: false, retired, thread });
        Ok(())
    }

    /// Gives a call to whichever worker is free first; hires one where none is able to work. `Err` says why nobody is.
    pub(crate) fn queue(&mut self, job: Job) -> Result<(), String> {
        if !self.is_staffed() {
            self.hire_instead()?;
        }
        // The pool itself holds the other end.
        self.jobs.send(job).map_err(|_| "its queue is closed".to_owned())
    }

    /// Whether a worker will look at the queue.
    pub(crate) fn is_staffed(&self) -> bool {
        self.staff.values().any(|staff| !staff.stuck)
    }

    /// Starts a worker for one that is stuck or has ended, unless as many are stuck as may work.
    fn hire_instead(&mut self) -> Result<(), String> {
        let n_stuck = self.staff.values().filter(|staff| staff.stuck).count();
        if n_stuck > self.limits.n_workers {
            return Err(format!("{n_stuck} of its workers are stuck"));
        }
        self.hire(None).map_err(|e| format!("no thread for a worker: {e}"))
    }

    /// Takes note of what a worker says of itself.
    pub(crate) fn began(&mut self, worker: u64, flight: u64, at: Instant) {
        let due = at + Duration::from_secs_f64(self.limits.deadline_secs);
        if let Some(staff) = self.staff.get_mut(&worker) {
            staff.busy = Some((Some(flight), due));
        }
    }

    /// It waits for calls, perhaps after all.
    pub(crate) fn is_back(&mut self, worker: u64) {
        if let Some(staff) = self.staff.get_mut(&worker) {
            staff.busy = None;
            // One that was replaced ends now, and is counted until it has.
            staff.stuck &= staff.retired.load(Ordering::Acquire);
        }
    }

    /// Its thread has ended.
    pub(crate) fn ended(&mut self, worker: u64, trouble: Option<String>) {
        if let Some(staff) = self.staff.remove(&worker) {
            // Its last word is the last thing it does; what a panic had to say was said.
            let _ = staff.thread.join();
        }
        self.trouble = trouble.or(self.trouble.take());
    }

    /// The calls whose workers are late now, and how many of these workers were replaced.
    pub(crate) fn overdue(&mut self, now: Instant) -> (Vec<u64>, u64) {
        let (mut late, mut n_replaced) = (Vec::new(), 0);
        let ids: Vec<u64> = self.staff.keys().copied().collect();
        for id in ids {
            let Some(staff) = self.staff.get_mut(&id) else { continue };
            let Some((flight, due)) = staff.busy.filter(|(_, due)| !staff.stuck && now >= *due + GRACE) else {
                continue;
            };
            let _ = due;
            staff.stuck = true;
            late.extend(flight);
            let retired = Arc::clone(&staff.retired);
            match self.hire_instead() {
                Ok(()) => {
                    retired.store(true, Ordering::Release);
                    n_replaced += 1;
                }
                // It stays, and works again when it is back.
                Err(reason) => self.trouble = Some(reason),
            }
        }
        (late, n_replaced)
    }

    /// When the next worker is late.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.staff
            .values()
            .filter(|staff| !staff.stuck)
            .filter_map(|staff| staff.busy)
            .map(|(_, due)| due + GRACE)
            .min()
    }

    /// Ends calls under way where the provider can, and lets workers that wait go home.
    pub(crate) fn close(&mut self) {
        self.until = None;
        let (jobs, queue) = unbounded();
        (self.jobs, self.queue) = (jobs, queue);
    }

    /// Workers whose threads have not ended.
    pub(crate) fn n_staff(&self) -> usize {
        self.staff.len()
    }
}
