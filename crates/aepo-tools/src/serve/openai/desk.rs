//! Who owns the model, and whose turn is it? One thread samples for all requests at once; they come and go by channels.
//!
//! A request is admitted while what it may grow to fits the cache, and waits its turn otherwise. What a finished one has
//! in the cache stays for those that begin the same way, until its room is needed: the one used longest ago goes first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aepo::policy::watch::{Seen, Watch, Watched};
use aepo::policy::{PathId, PolicyError, SampleParams, SampleRequest, SampleStop};
use aepo::seed::Seed;
use aepo::stop::Stop;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::mpsc::UnboundedSender;

use super::kept::{BLOCK, Kept, common};

/// How long requests under way go on when the server is stopped.
const GRACE: Duration = Duration::from_secs(3);
/// How often an idle thread looks whether it is to stop.
const IDLE: Duration = Duration::from_millis(50);
/// Beginnings that are shorter are computed again: looking them up would save nothing.
const MIN_SHARED: usize = 16;

/// How much is done and kept at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens in the cache, of live and kept paths together, each counted as if it shared none.
    pub cache_tokens: usize,
    /// Answers that are sampled at once.
    pub max_live: usize,
    /// Requests that wait for room.
    pub max_waiting: usize,
}

/// What is to be sampled.
pub struct Job {
    /// What is given; not empty, shorter than the model's context.
    pub prompt: Arc<[u32]>,
    /// Number of its first answer in the events.
    pub first: usize,
    /// Answers, each from the same prompt with a seed of its own.
    pub n: usize,
    /// At most so many tokens of each, > 0.
    pub max_tokens: usize,
    /// What ends an answer.
    pub stop: Arc<Stop>,
    /// How to draw.
    pub params: SampleParams,
    /// Answer i of the request draws from `seed.child(i)`.
    pub seed: Seed,
    /// Likeliest tokens to be told beside each.
    pub n_likeliest: usize,
    /// Whether the prompt's own tokens are told, too.
    pub judges_prompt: bool,
    /// Where the answers go. Its other end being closed ends the job.
    pub events: UnboundedSender<Event>,
}

/// What becomes of a job.
#[derive(Debug)]
pub enum Event {
    /// Sampling begins; so many tokens of the prompt were in the cache.
    Begun {
        /// Tokens.
        n_cached: usize,
    },
    /// The next token of the prompt, from the second on.
    Given {
        /// The job's first answer.
        first: usize,
        /// The token.
        seen: Seen,
    },
    /// A sampled token.
    Token {
        /// Whose.
        choice: usize,
        /// The token.
        seen: Seen,
    },
    /// An answer is complete.
    Ended {
        /// Which.
        choice: usize,
        /// Why.
        stop: SampleStop,
    },
    /// Nothing more will come of the job.
    Failed(Failure),
}

/// Why a job ends without its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server is being stopped.
    Stopping,
    /// The model failed; its words.
    Model(String),
}

/// Why a job is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many wait as may.
    Full,
    /// The server is being stopped.
    Stopping,
}

/// Where requests hand in their jobs.
#[derive(Clone)]
pub struct Desk {
    jobs: Sender<Job>,
    state: Arc<State>,
    /// Of the model, tokens.
    pub context_len: usize,
    /// Of the model.
    pub vocab_size: usize,
    /// What it was started with.
    pub limits: Limits,
}

#[derive(Default)]
struct State {
    n_waiting: AtomicUsize,
    stopping: AtomicBool,
    ended: AtomicBool,
}

/// The thread. Dropping it stops it; answers under way may go on for three seconds.
pub struct Worker {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Worker {
    /// Starts to sample for whoever comes to the desk.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(sampler: impl Watched + Send + 'static, limits: Limits) -> std::io::Result<(Desk, Worker)> {
        // Never full: the desk counts who waits.
        let (jobs, taken) = crossbeam_channel::unbounded();
        let state = Arc::new(State::default());
        let (context_len, vocab_size) = (sampler.context_len(), sampler.vocab_size());
        let desk = Desk { jobs, state: Arc::clone(&state), context_len, vocab_size, limits };
        let shared = Arc::clone(&state);
        let work = move || {
            let ended = Ended(Arc::clone(&shared));
            let (waiting, live, kept) = (VecDeque::new(), Vec::new(), Kept::default());
            Work { sampler, limits, state: shared, waiting, live, kept, seen: Vec::new() }.run(&taken);
            drop(ended);
        };
        let thread = std::thread::Builder::new().name("aepo-sample".to_owned()).spawn(work)?;
        Ok((desk, Worker { state, thread: Some(thread) }))
    }
}

/// Says that the thread has ended, however it did.
struct Ended(Arc<State>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
    }
}

impl Desk {
    /// Hands jobs in, all of them or none.
    pub fn submit(&self, jobs: Vec<Job>) -> Result<(), Refused> {
        if self.state.stopping.load(Ordering::SeqCst) || !self.is_open() {
            return Err(Refused::Stopping);
        }
        let n = jobs.len();
        if self.state.n_waiting.fetch_add(n, Ordering::SeqCst) + n > self.limits.max_waiting {
            self.state.n_waiting.fetch_sub(n, Ordering::SeqCst);
            return Err(Refused::Full);
        }
        jobs.into_iter().try_for_each(|job| self.jobs.send(job)).map_err(|_| Refused::Stopping)
    }

    /// Whether somebody samples.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.state.ended.load(Ordering::SeqCst)
    }

    /// Tokens that a job may come to hold; each answer may begin a block at both of its ends.
    #[must_use]
    pub fn cost(n_prompt: usize, n: usize, max_tokens: usize) -> usize {
        n_prompt.saturating_add(n.saturating_mul(max_tokens.saturating_add(2 * BLOCK)))
    }
}

/// A job that is sampled.
struct Live {
    job: Job,
    cost: usize,
    choices: Vec<Choice>,
    /// Tokens of the prompt that are still to be told.
    n_given: usize,
}

struct Choice {
    /// Until it has ended.
    path: Option<PathId>,
    sampled: Vec<u32>,
}

struct Work<S> {
    sampler: S,
    limits: Limits,
    state: Arc<State>,
    waiting: VecDeque<Job>,
    live: Vec<Live>,
    kept: Kept,
    /// A buffer.
    seen: Vec<Seen>,
}

impl<S: Watched> Work<S> {
    fn run(mut self, jobs: &Receiver<Job>) {
        let mut deadline: Option<Instant> = None;
        loop {
            if self.live.is_empty() && self.waiting.is_empty() && deadline.is_none() {
                match jobs.recv_timeout(IDLE) {
                    Ok(job) => self.waiting.push_back(job),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            self.waiting.extend(jobs.try_iter());
            if deadline.is_none() && self.state.stopping.load(Ordering::SeqCst) {
                deadline = Some(Instant::now() + GRACE);
            }
            match deadline {
                None => self.admit(),
                Some(deadline) => {
                    for job in self.waiting.drain(..) {
                        let _ = job.events.send(Event::Failed(Failure::Stopping));
                    }
                    if Instant::now() >= deadline {
                        self.fail_all(&Failure::Stopping);
                    }
                    if self.live.is_empty() {
                        return;
                    }
                }
            }
            self.advance();
        }
    }

    /// Begins with those jobs that fit, in the order in which they came.
    fn admit(&mut self) {
        let n_before = self.waiting.len();
        self.waiting.retain(|job| !job.events.is_closed());
        self.state.n_waiting.fetch_sub(n_before - self.waiting.len(), Ordering::SeqCst);
        while let Some(job) = self.waiting.front() {
            let cost = Desk::cost(job.prompt.len(), job.n, job.max_tokens);
            let n_live: usize = self.live.iter().map(|live| live.job.n).sum();
            let reserved: usize = self.live.iter().map(|live| live.cost).sum();
            let fits = n_live + job.n <= self.limits.max_live && reserved + cost <= self.limits.cache_tokens;
            // Nobody is let in who could never fit, so an empty house has room.
            if !fits && !self.live.is_empty() {
                return;
            }
            let Some(job) = self.waiting.pop_front() else { return };
            self.state.n_waiting.fetch_sub(1, Ordering::SeqCst);
            match self.begin(&job) {
                Ok(path) => {
                    let n_given = if job.judges_prompt { job.prompt.len() - 1 } else { 0 };
                    let choices = vec![Choice { path: Some(path), sampled: Vec::new() }];
                    self.live.push(Live { job, cost, choices, n_given });
                }
                Err(error) => drop(job.events.send(Event::Failed(Failure::Model(error.to_string())))),
            }
            let room = self.limits.cache_tokens.saturating_sub(reserved + cost);
            self.kept.shrink(room, |path| self.sampler.close(path));
        }
    }

    /// Opens the path of a job's first answer, from what is cached where that helps, and asks for its tokens.
    fn begin(&mut self, job: &Job) -> Result<PathId, PolicyError> {
        let (source, n_shared) = if job.judges_prompt { (None, 0) } else { self.longest_beginning(&job.prompt) };
        let (path, n_cached) = match source {
            Some(source) => {
                let path = self.sampler.fork(source, n_shared)?;
                if n_shared < job.prompt.len() {
                    self.sampler.append(path, &job.prompt[n_shared..]).inspect_err(|_| self.sampler.close(path))?;
                }
                // The last shared token is computed again, for its logits.
                (path, n_shared - 1)
            }
            None => (self.sampler.open(&job.prompt)?, 0),
        };
        let n_given = if job.judges_prompt { job.prompt.len() - 1 } else { 0 };
        let _ = job.events.send(Event::Begun { n_cached });
        self.submit(job, path, 0, n_given)?;
        Ok(path)
    }

    fn submit(&mut self, job: &Job, path: PathId, idx: usize, n_given: usize) -> Result<(), PolicyError> {
        let request = SampleRequest {
            path,
            max_tokens: job.max_tokens,
            stop: Arc::clone(&job.stop),
            n_turn: 0,
            params: job.params,
            seed: job.seed.child(idx as u64),
        };
        let watch = Watch { n_likeliest: job.n_likeliest, n_given };
        self.sampler.submit_watched(request, watch).inspect_err(|_| self.sampler.close(path))
    }

    /// The path that begins like `prompt` for longest, and for how many tokens; they are all cached but the last.
    fn longest_beginning(&mut self, prompt: &[u32]) -> (Option<PathId>, usize) {
        let (mut best, mut most) = self.kept.longest_beginning(prompt);
        for live in &self.live {
            let n_prompt = common(prompt, &live.job.prompt);
            for choice in &live.choices {
                // A first token says that the prompt before it is cached.
                let (Some(path), false) = (choice.path, choice.sampled.is_empty()) else { continue };
                let is_whole = n_prompt == live.job.prompt.len();
                let n = n_prompt + if is_whole { common(&prompt[n_prompt..], &choice.sampled) } else { 0 };
                if n > most {
                    (best, most) = (Some(path), n);
                }
            }
        }
        if most < MIN_SHARED { (None, 0) } else { (best, most) }
    }

    /// One more token for everybody, and its telling.
    fn advance(&mut self) {
        let done = match self.sampler.poll() {
            Ok(done) => done,
            Err(error) => return self.fail_all(&Failure::Model(error.to_string())),
        };
        let mut i = 0;
        while i < self.live.len() {
            let mut live = self.live.swap_remove(i);
            let mut is_heard = !live.job.events.is_closed();
            let mut n_ended = 0;
            for idx in 0..live.choices.len() {
                let Some(path) = live.choices[idx].path else {
                    n_ended += 1;
                    continue;
                };
                is_heard &= self.tell(&mut live, idx, path);
                if let Some(completion) = done.iter().find(|c| c.path == path) {
                    let choice = live.job.first + idx;
                    is_heard &= live.job.events.send(Event::Ended { choice, stop: completion.stop }).is_ok();
                    live.choices[idx].path = None;
                    n_ended += 1;
                    self.keep_or_close(&live, idx, path);
                }
            }
            if !is_heard || n_ended == live.job.n {
                // Swapped in here was the last of the list: it is looked at next.
                self.close(live);
                continue;
            }
            if let Err(error) = self.branch(&mut live) {
                let _ = live.job.events.send(Event::Failed(Failure::Model(error.to_string())));
                self.close(live);
                continue;
            }
            self.live.push(live);
            let last = self.live.len() - 1;
            self.live.swap(i, last);
            i += 1;
        }
    }

    /// Tells what was recorded; false where nobody listens.
    fn tell(&mut self, live: &mut Live, idx: usize, path: PathId) -> bool {
        self.sampler.take_seen(path, &mut self.seen);
        let first = live.job.first;
        let mut is_heard = true;
        for seen in self.seen.drain(..) {
            let event = if idx == 0 && live.n_given > 0 {
                live.n_given -= 1;
                Event::Given { first, seen }
            } else {
                live.choices[idx].sampled.push(seen.token.token);
                Event::Token { choice: first + idx, seen }
            };
            is_heard &= live.job.events.send(event).is_ok();
        }
        is_heard
    }

    /// Opens the paths of a job's other answers as soon as its prompt is cached.
    fn branch(&mut self, live: &mut Live) -> Result<(), PolicyError> {
        if live.choices.len() == live.job.n || live.choices[0].sampled.is_empty() {
            return Ok(());
        }
        for idx in 1..live.job.n {
            let path = match live.choices[0].path {
                Some(first) => self.sampler.fork(first, live.job.prompt.len())?,
                // The first answer ended with its first token.
                None => self.sampler.open(&live.job.prompt)?,
            };
            self.submit(&live.job, path, idx, 0)?;
            live.choices.push(Choice { path: Some(path), sampled: Vec::new() });
        }
        Ok(())
    }

    /// Keeps the path of a first answer for those that begin the same way.
    fn keep_or_close(&mut self, live: &Live, idx: usize, path: PathId) {
        if idx > 0 {
            return self.sampler.close(path);
        }
        let tokens: Vec<u32> = live.job.prompt.iter().chain(&live.choices[idx].sampled).copied().collect();
        self.kept.add(path, tokens, |path| self.sampler.close(path));
        let reserved: usize = self.live.iter().map(|live| live.cost).sum();
        let own = if live.job.n > 1 { live.cost } else { 0 };
        let room = self.limits.cache_tokens.saturating_sub(reserved + own);
        self.kept.shrink(room, |path| self.sampler.close(path));
    }

    fn close(&mut self, live: Live) {
        live.choices.iter().filter_map(|choice| choice.path).for_each(|path| self.sampler.close(path));
    }

    fn fail_all(&mut self, why: &Failure) {
        for live in std::mem::take(&mut self.live) {
            let _ = live.job.events.send(Event::Failed(why.clone()));
            self.close(live);
        }
    }
}
