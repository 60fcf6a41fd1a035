//! What does one worker do? It takes a call, asks its provider and tells what happened. Panics end here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aepo::tool::ToolCall;
use crossbeam_channel::{Receiver, Sender};

use crate::error::ToolsError;
use crate::toolset::provider::{Answer, Make, Provider};

/// A call on its way to a worker.
pub(crate) struct Job {
    pub flight: u64,
    pub call: Arc<ToolCall>,
    /// Set when nobody waits for it any more.
    pub abandoned: Arc<AtomicBool>,
}

/// What the core learns.
pub(crate) enum Event {
    /// A worker has its provider and waits for calls.
    Ready { pool: usize, worker: u64 },
    /// A worker took a call.
    Began { flight: u64, pool: usize, worker: u64, at: Instant },
    /// A provider answered.
    Done { flight: u64, pool: usize, worker: u64, answer: Answer, wall_secs: f64, n_retries: u64 },
    /// A worker's thread ends, and why when that was not asked for.
    Ended { pool: usize, worker: u64, trouble: Option<String> },
    /// Answers are on the disk, or could not be brought there.
    Stored { flights: Vec<u64>, result: Result<(), String> },
}

/// What a worker is given.
pub(crate) struct Worker {
    pub pool: usize,
    pub id: u64,
    pub make: Make,
    pub deadline: Duration,
    pub queue: Receiver<Job>,
    pub events: Sender<Event>,
    /// The whole toolset ends.
    pub stopping: Arc<AtomicBool>,
    /// This worker was replaced and ends after its call.
    pub retired: Arc<AtomicBool>,
}

/// Says that the thread ends, however it does.
struct LastWord {
    pool: usize,
    worker: u64,
    events: Sender<Event>,
    trouble: Option<String>,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        // Fails only when the toolset is gone.
        let _ = self.events.send(Event::Ended { pool: self.pool, worker: self.worker, trouble: self.trouble.take() });
    }
}

/// An instance, or why there is none. Whatever makes instances may panic.
pub(crate) fn instance(make: &Make) -> Result<Box<dyn Provider>, String> {
    let made: Result<_, ToolsError> =
        catch_unwind(AssertUnwindSafe(|| make())).map_err(|_| "it panicked".to_owned())?;
    made.map_err(|e| e.to_string())
}

impl Worker {
    /// Starts the thread with `first` as its provider; without one it makes its own there.
    pub(crate) fn start(self, first: Option<Box<dyn Provider>>) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("aepo-tool".to_owned()).spawn(move || self.work(first))
    }

    fn work(self, first: Option<Box<dyn Provider>>) {
        let mut last = LastWord { pool: self.pool, worker: self.id, events: self.events.clone(), trouble: None };
        // Dropped before the last word is said.
        let mut provider = match first.map_or_else(|| instance(&self.make), Ok) {
            Ok(provider) => provider,
            Err(reason) => {
                last.trouble = Some(reason);
                return;
            }
        };
        let _ = self.events.send(Event::Ready { pool: self.pool, worker: self.id });
        let mut n_retries = 0;
        for job in &self.queue {
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            if job.abandoned.load(Ordering::Acquire) {
                continue;
            }
            let (at, flight) = (Instant::now(), job.flight);
            let _ = self.events.send(Event::Began { flight, pool: self.pool, worker: self.id, at });
            let answered = catch_unwind(AssertUnwindSafe(|| provider.call(&job.call, at + self.deadline)));
            let panicked = answered.is_err();
            let answer = answered.unwrap_or_else(|_| Answer::unavailable("its worker panicked"));
            let now_retries = catch_unwind(AssertUnwindSafe(|| provider.n_retries())).unwrap_or(n_retries);
            let done = Event::Done {
                flight,
                pool: self.pool,
                worker: self.id,
                answer,
                wall_secs: at.elapsed().as_secs_f64(),
                n_retries: now_retries.saturating_sub(n_retries),
            };
            n_retries = now_retries;
            let _ = self.events.send(done);
            if self.retired.load(Ordering::Acquire) {
                return;
            }
            if panicked {
                // Whatever state it was in, it is not to be trusted further.
                n_retries = 0;
                match instance(&self.make) {
                    Ok(fresh) => {
                        let stale = std::mem::replace(&mut provider, fresh);
                        let _ = catch_unwind(AssertUnwindSafe(move || drop(stale)));
                    }
                    Err(reason) => {
                        last.trouble = Some(reason);
                        return;
                    }
                }
            }
        }
    }
}
