//! Who runs the calls? Worker threads behind [`aepo::tool::Toolset`]: every submitted call comes back.
//!
//! Each tool has threads of its own, so slow programs do not delay searches. A job answers even when it is dropped: a
//! worker that dies, or a queue that nobody reads any more, gives `Unavailable`, never silence.

pub mod builtin;
pub mod provider;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aepo::tool::{ToolCall, ToolName, ToolResult, ToolSpec, Toolset};
use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::error::{ToolsError, io};
use crate::python::PythonSettings;
use crate::search::SearchIndex;

pub use provider::{Answer, Basis, Limits, Make, Offer, Provider};

/// A call on its way, and the door its answer leaves by.
struct Job {
    call: ToolCall,
    results: Sender<ToolResult>,
    /// When a worker took it.
    began: Option<Instant>,
    answered: bool,
}

impl Job {
    fn answer(mut self, answer: Answer) {
        self.send(answer);
    }

    fn send(&mut self, answer: Answer) {
        let wall_secs = self.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        self.answered = true;
        let result = ToolResult { id: self.call.id, outcome: answer.outcome, text: answer.text, wall_secs };
        // Fails only when the toolset is gone, and with it whoever asked.
        let _ = self.results.send(result);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.answered {
            self.send(Answer::unavailable("its worker ended"));
        }
    }
}

/// Every provider of a run, each with workers of its own.
pub struct Tools {
    offered: Vec<ToolSpec>,
    queues: BTreeMap<ToolName, Sender<Job>>,
    results: (Sender<ToolResult>, Receiver<ToolResult>),
    in_flight: usize,
    stopping: Arc<AtomicBool>,
    /// Dropping them ends the calls under way.
    until: Vec<Box<dyn Send>>,
    workers: Vec<JoinHandle<()>>,
}

impl Tools {
    /// Starts `n_workers` threads per tool. Fails if the sandbox is not complete here: nothing runs half caged.
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
        Tools::of(offers)
    }

    /// Starts the workers of every offer.
    pub fn of(offers: Vec<Offer>) -> Result<Tools, ToolsError> {
        let mut tools = Tools {
            offered: Vec::new(),
            queues: BTreeMap::new(),
            results: unbounded(),
            in_flight: 0,
            stopping: Arc::default(),
            until: Vec::new(),
            workers: Vec::new(),
        };
        for offer in offers {
            tools.open(offer)?;
        }
        Ok(tools)
    }

    fn open(&mut self, offer: Offer) -> Result<(), ToolsError> {
        let Offer { make, limits, until } = offer;
        if limits.n_workers == 0 {
            let rule = "must be at least 1";
            return Err(ToolsError::Setting { name: "tools.n_workers", value: "0".to_owned(), rule });
        }
        self.until.extend(until);
        let (jobs, queue) = unbounded();
        for i in 0..limits.n_workers {
            let mut provider = make()?;
            if i == 0 {
                for spec in provider.specs() {
                    self.offered.push(spec.clone());
                    self.queues.insert(spec.name.clone(), jobs.clone());
                }
            }
            let deadline = Duration::from_secs_f64(limits.deadline_secs);
            let (queue, stopping) = (queue.clone(), Arc::clone(&self.stopping));
            let act = move |call: &ToolCall| provider.call(call, Instant::now() + deadline);
            let thread = std::thread::Builder::new().name("aepo-tool".to_owned());
            let worker = thread.spawn(move || work(&queue, &stopping, act)).map_err(io("starting a worker thread"))?;
            self.workers.push(worker);
        }
        Ok(())
    }
}

/// Takes jobs until the queue closes. A panic in `act` costs its own call only.
fn work(queue: &Receiver<Job>, stopping: &AtomicBool, mut act: impl FnMut(&ToolCall) -> Answer) {
    for mut job in queue {
        if stopping.load(Ordering::Acquire) {
            continue;
        }
        job.began = Some(Instant::now());
        let answer = catch_unwind(AssertUnwindSafe(|| act(&job.call)))
            .unwrap_or_else(|_| Answer::unavailable("its worker panicked"));
        job.answer(answer);
    }
}

impl Toolset for Tools {
    fn tools(&self) -> &[ToolSpec] {
        &self.offered
    }

    fn submit(&mut self, call: ToolCall) {
        self.in_flight += 1;
        let queue = self.queues.get(&call.tool);
        let job = Job { call, results: self.results.0.clone(), began: None, answered: false };
        match queue {
            // A job that cannot be queued comes back in the error, is dropped there and so answers.
            Some(queue) => drop(queue.send(job)),
            None => {
                let reason = format!("{} is not offered here", job.call.tool);
                job.answer(Answer::unavailable(&reason));
            }
        }
    }

    fn poll(&mut self, block: bool) -> Vec<ToolResult> {
        let mut arrived: Vec<ToolResult> = self.results.1.try_iter().collect();
        if block && arrived.is_empty() && self.in_flight > 0 {
            // Never waits in vain: every call in flight is a job somewhere, and a job answers or is dropped.
            arrived.extend(self.results.1.recv());
            arrived.extend(self.results.1.try_iter());
        }
        self.in_flight -= arrived.len();
        arrived
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.until.clear();
        self.queues.clear();
        for worker in self.workers.drain(..) {
            // A worker's panic has been answered already.
            let _ = worker.join();
        }
    }
}
