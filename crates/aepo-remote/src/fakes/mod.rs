//! What do servers say that speak vLLM's and SGLang's protocols word for word, and fail where a test wants them to?
//!
//! Tokens and log-probabilities are the embedded engine's, drawn with the seed of the request, so that what comes over
//! the wire can be held against what the engine gives in the same process.

pub mod fault;
mod model;
mod sglang;
pub mod tinker;
mod vllm;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::watch;

pub use fault::Fault;
pub use model::{MakeEngine, Mode};

use fault::{Plan, status};
use model::{ModelThread, Said, Work};

/// Which program is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plays {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
}

/// How a fake is set up.
#[derive(Clone)]
pub struct FakeSettings {
    /// Which program.
    pub plays: Plays,
    /// Makes the engine, from a directory where one is given.
    pub make: MakeEngine,
    /// The bytes of each id, as the server's own tokenizer knows them.
    pub pieces: Arc<[Box<[u8]>]>,
    /// Of which distribution log-probabilities are.
    pub mode: Mode,
}

/// What a fake did, whatever was answered.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests to sample that came in.
    pub n_asked: AtomicU64,
    /// Continuations that were sent whole.
    pub n_answered: AtomicU64,
    /// Requests whose asker hung up while they were sampled.
    pub n_aborted: AtomicU64,
    /// Requests that met a fault.
    pub n_faults: AtomicU64,
    /// Tokens of prompts.
    pub n_prompt_tokens: AtomicU64,
    /// Of these, tokens that were cached.
    pub n_cached_tokens: AtomicU64,
    /// Calls about weights, in order.
    pub calls: Mutex<Vec<String>>,
}

/// What the routes of a fake share.
pub(crate) struct State {
    pub settings: FakeSettings,
    pub counts: Counts,
    pub plan: Mutex<Plan>,
    pub model: ModelThread,
}

impl State {
    fn note(&self, call: String) {
        held(&self.counts.calls).push(call);
    }

    /// A request to sample came in: the fault that it meets, or the answer where that is all.
    fn begin(&self) -> Result<Option<Fault>, Refusal> {
        count(&self.counts.n_asked, 1);
        let fault = held(&self.plan).take();
        if fault.is_some() {
            count(&self.counts.n_faults, 1);
        }
        match fault {
            Some(Fault::Status(code)) => Err(Refusal(code, "a fault on purpose".to_owned())),
            fault => Ok(fault),
        }
    }

    /// Samples, after a while where the fault says so, and counts.
    async fn sampled(&self, work: Work, fault: Option<Fault>) -> Result<Said, Refusal> {
        let n_prompt = work.prompt.len();
        let aborted = Aborted(Some(&self.counts.n_aborted));
        if let Some(Fault::Slow(ms)) = fault {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        let said = self.model.sample(work).await;
        aborted.did_not_happen();
        let said = said.map_err(|why| Refusal(500, why))?;
        count(&self.counts.n_prompt_tokens, n_prompt as u64);
        count(&self.counts.n_cached_tokens, said.n_cached as u64);
        Ok(said)
    }
}

/// A status with its words.
struct Refusal(u16, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        status(self.0, &self.1)
    }
}

/// Counts an asker that hangs up before there is anything to answer: what it waits for is dropped then.
struct Aborted<'a>(Option<&'a AtomicU64>);

impl Aborted<'_> {
    fn did_not_happen(mut self) {
        self.0 = None;
    }
}

impl Drop for Aborted<'_> {
    fn drop(&mut self) {
        if let Some(counter) = self.0 {
            count(counter, 1);
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A list of ids.
fn ids(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
}

/// A list of texts.
fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// That nothing bends what the model says. What is left out is the model's own default, which may be anything.
fn unpenalised(sampling: &Value) -> Result<(), &'static str> {
    let neutral = [("min_p", 0.0), ("repetition_penalty", 1.0), ("presence_penalty", 0.0), ("frequency_penalty", 0.0)];
    match neutral.iter().all(|&(key, value)| sampling[key].as_f64() == Some(value)) {
        true => Ok(()),
        false => Err("a penalty is not switched off"),
    }
}

fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// A running fake. Dropping it hangs up on everybody.
pub struct Fake {
    /// Its address, `http://127.0.0.1:port`.
    pub url: String,
    address: SocketAddr,
    state: Arc<State>,
    running: Option<(watch::Sender<()>, JoinHandle<()>)>,
}

impl Fake {
    /// Starts it on a port of its own.
    ///
    /// # Errors
    /// When the system gives no port or no thread, or the engine cannot be made.
    pub fn start(settings: FakeSettings) -> std::io::Result<Fake> {
        let model = ModelThread::start(&settings)?;
        let state = Arc::new(State { settings, counts: Counts::default(), plan: Mutex::default(), model });
        let mut fake = Fake { url: String::new(), address: ([127, 0, 0, 1], 0).into(), state, running: None };
        fake.serve()?;
        fake.url = format!("http://{}", fake.address);
        Ok(fake)
    }

    fn serve(&mut self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The port that it had before is its own again at once.
        let listener = runtime.block_on(tokio::net::TcpListener::bind(self.address))?;
        self.address = listener.local_addr()?;
        let routes: Router = match self.state.settings.plays {
            Plays::Vllm => vllm::routes(Arc::clone(&self.state)),
            Plays::Sglang => sglang::routes(Arc::clone(&self.state)),
        };
        let (stop, mut stopped) = watch::channel(());
        let thread = std::thread::Builder::new().name("fake".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    _ = axum::serve(listener, routes) => {}
                    // Nothing is ever sent: this ends when the sender is gone.
                    _ = stopped.changed() => {}
                }
            });
            runtime.shutdown_background();
        })?;
        self.running = Some((stop, thread));
        Ok(())
    }

    /// Ends it as a kill does: connections break, and nobody listens any more.
    pub fn kill(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // A thread of a test that panicked has said so.
            let _ = thread.join();
        }
    }

    /// Starts it again where it was, with the weights that it had at the very beginning and nothing else.
    ///
    /// # Errors
    /// When the port is gone or the engine cannot be made.
    pub fn restart(&mut self) -> std::io::Result<()> {
        self.kill();
        self.state.model.forget_all();
        self.serve()
    }

    /// Requests from now on meet these faults, one each, in order.
    pub fn fail(&self, faults: &[Fault]) {
        self.plan().next.extend(faults.iter().copied());
    }

    /// Every request from now on meets this fault, or none.
    pub fn always(&self, fault: Option<Fault>) {
        self.plan().always = fault;
    }

    /// What it did.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.state.counts
    }

    /// Calls about weights so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        held(&self.state.counts.calls).clone()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        held(&self.state.plan)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
    }
}
