//! Who runs the calls? Worker threads behind [`aepo::tool::Toolset`]: every submitted call comes back.
//!
//! Each tool has threads of its own, so slow programs do not delay searches. A job answers even when it is dropped: a
//! worker that dies, or a queue that nobody reads any more, gives `Unavailable`, never silence.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use aepo::tool::{ToolCall, ToolOutcome, ToolResult, ToolSpec, Toolset};
use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::error::{ToolsError, io};
use crate::python::{Execution, Executor, Program, PythonSettings};
use crate::search::SearchIndex;

/// What a tool says to one call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// How it ended.
    pub outcome: ToolOutcome,
    /// What the model reads.
    pub text: String,
}

impl From<Execution> for Answer {
    fn from(execution: Execution) -> Answer {
        Answer { outcome: execution.outcome, text: execution.text() }
    }
}

impl Answer {
    /// Our own fault; the reason is for the log, the model learns only that there is no result.
    pub(crate) fn unavailable(reason: &str) -> Answer {
        Answer { outcome: ToolOutcome::Unavailable, text: format!("tool unavailable: {reason}") }
    }
}

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

/// Python and search, each where it was asked for.
pub struct Tools {
    offered: Vec<ToolSpec>,
    python: Option<Sender<Job>>,
    search: Option<Sender<Job>>,
    results: (Sender<ToolResult>, Receiver<ToolResult>),
    in_flight: usize,
    stopping: Arc<AtomicBool>,
    /// Closing it tells the supervisors to kill what runs.
    cancel: Option<PipeWriter>,
    workers: Vec<JoinHandle<()>>,
}

impl Tools {
    /// Starts `n_workers` threads per tool. Fails if the sandbox is not complete here: nothing runs half caged.
    pub fn start(
        n_workers: usize,
        python: Option<PythonSettings>,
        search: Option<SearchIndex>,
    ) -> Result<Tools, ToolsError> {
        if n_workers == 0 {
            let rule = "must be at least 1";
            return Err(ToolsError::Setting { name: "tools.n_workers", value: "0".to_owned(), rule });
        }
        let (cancelled, cancel): (PipeReader, PipeWriter) = std::io::pipe().map_err(io("making a pipe"))?;
        let cancelled = Arc::new(OwnedFd::from(cancelled));
        let executor = match python {
            Some(settings) => Some(Executor::start(&settings, n_workers, Some(cancelled))?),
            None => None,
        };
        let mut tools = Tools {
            offered: Vec::new(),
            python: None,
            search: None,
            results: unbounded(),
            in_flight: 0,
            stopping: Arc::new(AtomicBool::new(false)),
            cancel: Some(cancel),
            workers: Vec::new(),
        };
        if let Some(executor) = executor {
            let (jobs, queue) = unbounded();
            tools.offered.push(ToolSpec::python());
            tools.python = Some(jobs);
            for _ in 0..n_workers {
                let executor = executor.clone();
                let act = move |call: &ToolCall| {
                    executor.run(&Program::new(&call.input, call.seed, executor.limits())).into()
                };
                tools.spawn("python", &queue, act)?;
            }
        }
        if let Some(index) = search {
            let (jobs, queue) = unbounded();
            tools.offered.push(ToolSpec::search());
            tools.search = Some(jobs);
            let index = Arc::new(index);
            for _ in 0..n_workers {
                let index = Arc::clone(&index);
                tools.spawn("search", &queue, move |call| index.answer(&call.input))?;
            }
        }
        Ok(tools)
    }

    fn spawn(
        &mut self,
        name: &str,
        queue: &Receiver<Job>,
        act: impl FnMut(&ToolCall) -> Answer + Send + 'static,
    ) -> Result<(), ToolsError> {
        let (queue, stopping) = (queue.clone(), Arc::clone(&self.stopping));
        let thread = std::thread::Builder::new().name(format!("aepo-{name}"));
        let worker = thread.spawn(move || work(&queue, &stopping, act)).map_err(io("starting a worker thread"))?;
        self.workers.push(worker);
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
        let queue = match call.tool.as_str() {
            "python" => &self.python,
            "search" => &self.search,
            _ => &None,
        };
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
        self.cancel = None;
        (self.python, self.search) = (None, None);
        for worker in self.workers.drain(..) {
            // A worker's panic has been answered already.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use aepo::tool::{CallId, ToolName};

    use super::*;

    fn call(id: u64, tool: ToolName, input: &str) -> ToolCall {
        ToolCall {
            id: CallId(id),
            tool,
            input: input.to_owned(),
            seed: aepo::seed::Seed(0),
            earlier: Arc::default(),
            shared: false,
        }
    }

    fn empty() -> Tools {
        Tools {
            offered: Vec::new(),
            python: None,
            search: None,
            results: unbounded(),
            in_flight: 0,
            stopping: Arc::default(),
            cancel: None,
            workers: Vec::new(),
        }
    }

    #[test]
    fn a_panicking_worker_answers_and_goes_on() {
        let mut tools = empty();
        let (jobs, queue) = unbounded();
        tools.python = Some(jobs);
        let act = |call: &ToolCall| match call.input.as_str() {
            "panic" => panic!("on purpose"),
            _ => Answer { outcome: ToolOutcome::Ok, text: "fine".to_owned() },
        };
        tools.spawn("test", &queue, act).unwrap();
        tools.submit(call(1, ToolName::PYTHON, "panic"));
        tools.submit(call(2, ToolName::PYTHON, "work"));
        let mut results = Vec::new();
        while results.len() < 2 {
            results.extend(tools.poll(true));
        }
        assert_eq!(results[0].outcome, ToolOutcome::Unavailable);
        assert_eq!((results[1].id, results[1].outcome), (CallId(2), ToolOutcome::Ok));
        assert!(tools.poll(true).is_empty(), "nothing is in flight");
    }

    #[test]
    fn dead_workers_and_absent_tools_answer() {
        let mut tools = empty();
        let (jobs, queue) = unbounded();
        tools.python = Some(jobs);
        tools.submit(call(1, ToolName::PYTHON, "queued before its last worker died"));
        drop(queue);
        tools.submit(call(2, ToolName::PYTHON, "submitted after"));
        tools.submit(call(3, ToolName::SEARCH, "never offered"));
        let mut ids = Vec::new();
        while ids.len() < 3 {
            for result in tools.poll(true) {
                assert_eq!(result.outcome, ToolOutcome::Unavailable);
                ids.push(result.id.0);
            }
        }
        assert_eq!(ids, [1, 2, 3]);
        tools.python = None;
    }
}
