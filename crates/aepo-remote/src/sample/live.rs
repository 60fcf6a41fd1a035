//! How is a served model a [`Sampler`]? Paths are lists of ids here; a request is one exchange with one replica.
//!
//! One thread speaks to all replicas. The sampler hands it requests and takes answers from it, and never waits longer
//! than a few milliseconds for them, because whoever polls it looks at the tools in between.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aepo::policy::{Completion, PathId, PolicyError, PolicyVersion, SampleRequest, Sampler};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use super::fulfil::{Got, Job, fulfil};
use super::route::Health;
use super::shared::{Shared, Tally, Target, lock};
use super::weights::look_after;
use super::{SampleError, SampleSettings};
use crate::publish::{Follower, Published};

/// `poll` waits so long for an answer when there is none.
const POLL_WAIT: Duration = Duration::from_millis(4);

/// Samples by servers on other machines.
pub struct RemoteSampler {
    shared: Arc<Shared>,
    orders: UnboundedSender<Order>,
    answers: Receiver<(u64, Result<Got, SampleError>)>,
    thread: Option<JoinHandle<()>>,
    paths: HashMap<PathId, Path>,
    /// Paths with a request in flight, by its number.
    in_flight: HashMap<u64, PathId>,
    /// Open paths of each tree.
    trees: HashMap<u64, usize>,
    n_paths: u64,
    n_requests: u64,
    context_len: usize,
}

/// An open path.
struct Path {
    tokens: Vec<u32>,
    /// The tree that it belongs to: that of the path that was opened and not forked.
    key: u64,
    request: Option<u64>,
}

/// What the thread is told.
enum Order {
    Sample(u64, Job),
    Abort(u64),
    Forget(u64),
    Follow(Target, Sender<Result<(), SampleError>>),
}

impl RemoteSampler {
    /// Looks at every replica and returns when at least one takes requests; the others are looked after meanwhile.
    ///
    /// # Errors
    /// When the settings cannot be, or no replica is well.
    pub fn connect(settings: SampleSettings) -> Result<RemoteSampler, SampleError> {
        let shared = Arc::new(Shared::new(settings)?);
        let engine = shared.settings.engine.name();
        let failed = |e: std::io::Error| SampleError::Thread { engine, why: e.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (orders, taken) = unbounded_channel();
        let (done, answers) = channel();
        let (told, greeted) = channel();
        let speak = {
            let shared = Arc::clone(&shared);
            move || {
                runtime.block_on(async move {
                    let _ = told.send(greet(&shared).await);
                    speak(shared, taken, done).await;
                });
                runtime.shutdown_background();
            }
        };
        let thread = std::thread::Builder::new().name("aepo-sample".to_owned()).spawn(speak).map_err(failed)?;
        let gone = || SampleError::Thread { engine, why: "it ended".to_owned() };
        greeted.recv().map_err(|_| gone())??;
        let lengths = lock(&shared.facts).iter().flatten().filter_map(|facts| facts.context_len).min();
        let context_len = lengths.map_or(shared.settings.context_len, |n| n.min(shared.settings.context_len));
        Ok(RemoteSampler {
            shared,
            orders,
            answers,
            thread: Some(thread),
            paths: HashMap::new(),
            in_flight: HashMap::new(),
            trees: HashMap::new(),
            n_paths: 0,
            n_requests: 0,
            context_len,
        })
    }

    /// What was counted since it was connected or last asked; counting begins anew.
    pub fn take_tally(&mut self) -> Tally {
        self.shared.take_tally()
    }

    /// Open paths.
    #[must_use]
    pub fn n_open(&self) -> usize {
        self.paths.len()
    }

    fn order(&self, order: Order) -> Result<(), PolicyError> {
        let engine = self.shared.settings.engine.name();
        let gone = |_| SampleError::Thread { engine, why: "it ended".to_owned() };
        Ok(self.orders.send(order).map_err(gone)?)
    }

    fn path(&self, path: PathId) -> Result<&Path, PolicyError> {
        self.paths.get(&path).ok_or(PolicyError::UnknownPath(path))
    }

    fn check(&self, tokens: &[u32], n_before: usize) -> Result<(), PolicyError> {
        let vocab_size = self.vocab_size();
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(PolicyError::TokenOutOfRange { token, vocab_size });
        }
        let (n_tokens, context_len) = (n_before + tokens.len(), self.context_len);
        match n_tokens <= context_len {
            true => Ok(()),
            false => Err(PolicyError::ContextOverflow { n_tokens, context_len }),
        }
    }

    fn start(&mut self, tokens: Vec<u32>, key: Option<u64>) -> PathId {
        let id = PathId(self.n_paths);
        self.n_paths += 1;
        let key = key.unwrap_or(id.0);
        *self.trees.entry(key).or_insert(0) += 1;
        self.paths.insert(id, Path { tokens, key, request: None });
        id
    }

    /// What came back, if its path is still open.
    fn take(&mut self, number: u64, got: Result<Got, SampleError>) -> Result<Option<Completion>, PolicyError> {
        let Some(id) = self.in_flight.remove(&number) else { return Ok(None) };
        let Some(path) = self.paths.get_mut(&id) else { return Ok(None) };
        path.request = None;
        let Got { tokens, stop, version, changes } = got?;
        path.tokens.extend(tokens.iter().map(|token| token.token));
        Ok(Some(Completion { path: id, tokens, stop, version, changes }))
    }
}

impl Sampler for RemoteSampler {
    fn vocab_size(&self) -> usize {
        self.shared.settings.vocab_size
    }

    fn context_len(&self) -> usize {
        self.context_len
    }

    fn version(&self) -> PolicyVersion {
        lock(&self.shared.target).version
    }

    fn open(&mut self, tokens: &[u32]) -> Result<PathId, PolicyError> {
        if tokens.is_empty() {
            return Err(PolicyError::Misuse("a path needs at least one token".to_owned()));
        }
        self.check(tokens, 0)?;
        Ok(self.start(tokens.to_vec(), None))
    }

    fn append(&mut self, path: PathId, tokens: &[u32]) -> Result<(), PolicyError> {
        self.check(tokens, self.path(path)?.tokens.len())?;
        match self.paths.get_mut(&path) {
            Some(open) if open.request.is_none() => open.tokens.extend_from_slice(tokens),
            _ => return Err(PolicyError::Misuse(format!("{path:?} has a request in flight: nothing can be appended"))),
        }
        Ok(())
    }

    fn fork(&mut self, path: PathId, n_tokens: usize) -> Result<PathId, PolicyError> {
        let parent = self.path(path)?;
        let Some(shared) = parent.tokens.get(..n_tokens).filter(|shared| !shared.is_empty()) else {
            let message = format!("cannot fork {path:?} of {} tokens at {n_tokens}", parent.tokens.len());
            return Err(PolicyError::Misuse(message));
        };
        let (shared, key) = (shared.to_vec(), parent.key);
        Ok(self.start(shared, Some(key)))
    }

    fn close(&mut self, path: PathId) {
        let Some(Path { key, request, .. }) = self.paths.remove(&path) else { return };
        if let Some(number) = request {
            self.in_flight.remove(&number);
            // A thread that is gone has nothing in flight.
            let _ = self.order(Order::Abort(number));
        }
        let n_left = self.trees.get_mut(&key).map_or(0, |n| {
            *n -= 1;
            *n
        });
        if n_left == 0 {
            self.trees.remove(&key);
            let _ = self.order(Order::Forget(key));
        }
    }

    fn submit(&mut self, request: SampleRequest) -> Result<(), PolicyError> {
        let SampleRequest { path, max_tokens, stop, n_turn, params, seed } = request;
        let context_len = self.context_len;
        let open = self.path(path)?;
        let n_tokens = open.tokens.len();
        if open.request.is_some() {
            return Err(PolicyError::Misuse(format!("{path:?} already has a request in flight")));
        }
        if max_tokens == 0 || n_turn > n_tokens {
            let message = format!("{max_tokens} tokens asked for, behind a turn of {n_turn} on a path of {n_tokens}");
            return Err(PolicyError::Misuse(message));
        }
        if n_tokens >= context_len {
            return Err(PolicyError::ContextOverflow { n_tokens: n_tokens + 1, context_len });
        }
        let (prompt, key) = (open.tokens.clone(), open.key);
        let max_tokens = max_tokens.min(context_len - n_tokens);
        let number = self.n_requests;
        self.n_requests += 1;
        let job = Job { key, prompt, n_turn, max_tokens, context_len, stop, params, seed };
        self.order(Order::Sample(number, job))?;
        self.in_flight.insert(number, path);
        if let Some(open) = self.paths.get_mut(&path) {
            open.request = Some(number);
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<Vec<Completion>, PolicyError> {
        let mut done = Vec::new();
        while let Ok((number, got)) = self.answers.try_recv() {
            done.extend(self.take(number, got)?);
        }
        let until = Instant::now() + POLL_WAIT;
        while done.is_empty() && !self.in_flight.is_empty() {
            match self.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((number, got)) => done.extend(self.take(number, got)?),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    let engine = self.shared.settings.engine.name();
                    return Err(SampleError::Thread { engine, why: "it ended".to_owned() }.into());
                }
            }
        }
        Ok(done)
    }
}

impl Follower for RemoteSampler {
    fn follow(&mut self, published: &Published) -> Result<(), PolicyError> {
        let target = Target { version: published.version, weights: Some(published.weights.clone()) };
        let (told, followed) = channel();
        self.order(Order::Follow(target, told))?;
        let engine = self.shared.settings.engine.name();
        let gone = |_| SampleError::Thread { engine, why: "it ended".to_owned() };
        Ok(followed.recv().map_err(gone)??)
    }
}

impl Drop for RemoteSampler {
    fn drop(&mut self) {
        let (orders, _) = unbounded_channel();
        drop(std::mem::replace(&mut self.orders, orders));
        if let Some(thread) = self.thread.take() {
            // It ends because nobody can order anything any more.
            let _ = thread.join();
        }
    }
}

/// Looks after every replica that is due, and waits until one is ready.
async fn greet(shared: &Arc<Shared>) -> Result<(), SampleError> {
    let since = Instant::now();
    let first: Vec<usize> = (0..shared.http.len()).collect();
    lock(&shared.router).replicas.iter_mut().for_each(|r| r.health = Health::Looking);
    look_at(shared, &first, since).await
}

/// Looks after these replicas at once; an error where none takes requests then. Those that failed are looked after again
/// when they come due.
async fn look_at(shared: &Arc<Shared>, first: &[usize], since: Instant) -> Result<(), SampleError> {
    let looks: Vec<_> = first.iter().map(|&idx| tokio::spawn(look_after(Arc::clone(shared), idx))).collect();
    for look in looks {
        // What it found is in the router.
        let _ = look.await;
    }
    let takes_requests = lock(&shared.router).takes_requests();
    match takes_requests {
        true => Ok(()),
        false => Err(shared.storm(since, 0)),
    }
}

/// Works until nobody can order anything any more; what is in flight then is given up.
async fn speak(
    shared: Arc<Shared>,
    mut orders: UnboundedReceiver<Order>,
    done: Sender<(u64, Result<Got, SampleError>)>,
) {
    let mut running: HashMap<u64, AbortHandle> = HashMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Sample(number, job) => {
                let (shared, done) = (Arc::clone(&shared), done.clone());
                let task = tokio::spawn(async move {
                    let got = fulfil(shared, job).await;
                    // A sampler that is gone waits for nothing.
                    let _ = done.send((number, got));
                });
                running.insert(number, task.abort_handle());
                if running.len() > 64 && running.len().is_power_of_two() {
                    running.retain(|_, task| !task.is_finished());
                }
            }
            // Hanging up is how both servers are told that nobody waits any more.
            Order::Abort(number) => {
                if let Some(task) = running.remove(&number) {
                    task.abort();
                }
            }
            Order::Forget(key) => lock(&shared.router).forget(key),
            Order::Follow(target, told) => {
                let _ = told.send(follow(&shared, target).await);
            }
        }
    }
    running.into_values().for_each(|task| task.abort());
}

/// Puts other weights in force: no replica takes requests before it has them.
async fn follow(shared: &Arc<Shared>, target: Target) -> Result<(), SampleError> {
    let since = Instant::now();
    let first = {
        *lock(&shared.target) = target;
        lock(&shared.router).look_at_all()
    };
    look_at(shared, &first, since).await
}
