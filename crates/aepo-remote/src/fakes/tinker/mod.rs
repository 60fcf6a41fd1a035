//! How would a Tinker server answer? One whose gradients come from the embedded engine, with faults on demand.
//!
//! It speaks either dialect, adds losses up in either way, knows numbers or not, and counts what it learned from. Of the
//! losses it has `importance_sampling`; others are accepted without gradient, so that a probe finds them.

mod learn;
mod routes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aepo::seed::Seed;
use aepo_tools::serve::{ServeError, Server};

pub use learn::FakeModel;

use crate::tinker::model::Dialect;
use crate::tinker::probe::Reduction;

/// What kind of server.
#[derive(Clone, Debug)]
pub struct FakeSettings {
    /// The model directory.
    pub model: PathBuf,
    /// In which way batches are read.
    pub dialect: Dialect,
    /// How losses add up.
    pub reduction: Reduction,
    /// Whether a repeated number gives the same future.
    pub numbered: bool,
    /// Whether `grad_clip_norm` has an effect.
    pub clips: bool,
    /// Models at once.
    pub slots: usize,
    /// Whether steps report a gradient norm.
    pub reports_norm: bool,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// How often a future is polled before it has ended; the later it was made, the fewer times.
    pub late: usize,
    /// A key that requests must carry.
    pub key: Option<String>,
}

impl FakeSettings {
    /// SkyRL 0.4.0 on JAX, with nothing going wrong.
    #[must_use]
    pub fn of(model: PathBuf) -> FakeSettings {
        FakeSettings {
            model,
            dialect: Dialect::Protobuf,
            reduction: Reduction::MeanOfMeans,
            numbered: true,
            clips: false,
            slots: 2,
            reports_norm: true,
            faults: Vec::new(),
            late: 0,
            key: None,
        }
    }
}

/// Something that goes wrong with every `every`-th request to a route.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The route, without `/api/v1/`.
    pub route: &'static str,
    /// How often.
    pub every: usize,
    /// What.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Status 503; nothing is done.
    Busy,
    /// Status 500; nothing is done.
    Broken,
    /// The request is acted upon, and the connection ends without an answer.
    Lost,
    /// The request is acted upon, and half of the answer comes.
    Half,
    /// Something in between sends the request twice.
    Twice,
}

/// What a server has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Models made.
    pub n_created: usize,
    /// Models unloaded.
    pub n_unloaded: usize,
    /// Passes with a gradient.
    pub n_passes: usize,
    /// Sequences that steps learned from.
    pub n_rows: usize,
    /// Steps.
    pub n_steps: usize,
    /// Requests of any kind.
    pub n_requests: usize,
    /// Requests that a fault hit.
    pub n_hit: usize,
}

pub(crate) struct State {
    pub settings: FakeSettings,
    pub models: BTreeMap<String, FakeModel>,
    pub futures: Vec<routes::Future>,
    /// By model and number: the request's fingerprint and its future.
    pub numbers: BTreeMap<(String, i64), (u64, usize)>,
    pub asked: BTreeMap<String, usize>,
    pub archives: BTreeMap<String, Vec<u8>>,
    pub states: BTreeMap<String, tempfile::TempDir>,
    pub counts: Counts,
}

/// A running server; dropping it stops it.
pub struct FakeTinker {
    /// Its address.
    pub url: String,
    state: Arc<Mutex<State>>,
    server: Server,
}

impl FakeTinker {
    /// Starts one on a port of this machine that is free.
    pub fn start(settings: FakeSettings) -> Result<FakeTinker, ServeError> {
        let state = State {
            settings,
            models: BTreeMap::new(),
            futures: Vec::new(),
            numbers: BTreeMap::new(),
            asked: BTreeMap::new(),
            archives: BTreeMap::new(),
            states: BTreeMap::new(),
            counts: Counts::default(),
        };
        let state = Arc::new(Mutex::new(state));
        let server = Server::start("127.0.0.1:0", routes::routes(Arc::clone(&state)))?;
        Ok(FakeTinker { url: format!("http://{}", server.address), state, server })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Models that are loaded.
    #[must_use]
    pub fn n_loaded(&self) -> usize {
        self.state().models.len()
    }

    /// States and archives that are kept.
    #[must_use]
    pub fn n_kept(&self) -> (usize, usize) {
        let state = self.state();
        (state.states.len(), state.archives.len())
    }

    /// From now on other things go wrong.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.state().settings.faults = faults;
    }

    /// From now on futures are polled this often before they have ended.
    pub fn set_late(&self, late: usize) {
        self.state().settings.late = late;
    }

    /// Makes the weights of every model others than they were, as a server does that has lost them.
    pub fn lose_weights(&self) {
        let state = &mut *self.state();
        for model in state.models.values_mut() {
            model.restart(&state.settings, Seed(999));
        }
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.server.has_ended()
    }
}
