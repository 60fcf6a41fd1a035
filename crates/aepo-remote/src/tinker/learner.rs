//! How does a server learn what this program computes? By the exact route of two passes.
//!
//! A forward pass gives the current log-probabilities; the loss, which lives here, gives each target its coefficient
//! `c_t = ∂L/∂logp_t`; and a pass over [`LOSS`] with those log-probabilities as old ones and `−c_t` as advantages has
//! the gradient `Σ c_t·∂logp_t`, because every ratio is 1. Coefficients wait here until the step, for three reasons: a
//! server that averages divides by the number of sequences of the whole step; a batch with a coefficient that is no
//! number is dropped before anything of it is on the server; and an error before the step leaves nothing there.

use std::path::Path;

use aepo::policy::{Learner, PolicyError, PolicyVersion, StepParams, StepReport, TokenStats};
use aepo::train::batch::TreeBatch;
use aepo_tools::http::Secret;
use serde::{Deserialize, Serialize};

use super::api::Api;
use super::error::TinkerError;
use super::model::{Adam, Model, Sequence};
use super::probe::{Capabilities, LOSS, probe};
use super::unroll::{Row, unroll};
use super::{TinkerSettings, archive};
use crate::pair::{Published, Publisher, Weights};

/// Where a checkpoint says what is kept on the server.
pub const STATE: &str = "server.json";
/// States that are kept on the server: as many as there are checkpoints here.
const N_KEPT: usize = 2;
/// Log-probabilities of the two passes of a step may differ by this much on average, nats: far more than rounding in
/// bf16 does, far less than another model.
const MAX_MOVED: f64 = 0.1;
/// Bounds above this one count as none: a server that cannot clip need not.
const NO_CLIP: f32 = 1e6;

/// What a checkpoint keeps of a model on a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerState {
    /// Which server.
    pub url: String,
    /// Its name for weights and optimiser.
    pub path: String,
    /// Optimiser steps that made them.
    pub version: u64,
}

impl ServerState {
    /// Reads that of a checkpoint.
    pub fn read(dir: &Path) -> Result<ServerState, TinkerError> {
        let path = dir.join(STATE);
        let read = || serde_json::from_slice(&std::fs::read(&path)?).map_err(std::io::Error::from);
        read().map_err(|e| TinkerError::File { path: path.clone(), why: e.to_string() })
    }
}

/// What is sent for one sequence at the step.
struct Lesson {
    read: Vec<u32>,
    next: Vec<u32>,
    /// `[n]`, of the weights being trained, nats.
    logprobs: Vec<f32>,
    /// `[n]`, −∂L/∂logp where the sequence carries a target, 0 elsewhere.
    advantages: Vec<f64>,
}

/// A learner whose model is on a Tinker server.
pub struct TinkerLearner {
    api: Api,
    model: Model,
    /// What the server can do.
    pub can: Capabilities,
    url: String,
    base_name: String,
    version: u64,
    /// The last kept forward pass.
    kept: Option<(Vec<Row>, Vec<Vec<f32>>)>,
    lessons: Vec<Lesson>,
    /// A coefficient was not finite: the step is refused.
    spoilt: bool,
    /// An error has left something on the server that no step must be made of.
    partial: bool,
    /// Names of states on the server, the oldest first.
    states: Vec<String>,
    n_saved: u64,
}

impl TinkerLearner {
    /// Finds out what the server can do and makes a model on it, or goes on from a state. `base_name` is where the
    /// frozen weights are here, for the description of the matrices.
    pub fn connect(
        settings: &TinkerSettings,
        base_name: &str,
        from: Option<&ServerState>,
    ) -> Result<TinkerLearner, TinkerError> {
        TinkerLearner::over(Api::new(settings)?, settings, base_name, from)
    }

    /// The same with this key.
    pub fn connect_with_key(
        settings: &TinkerSettings,
        key: Option<Secret>,
        base_name: &str,
        from: Option<&ServerState>,
    ) -> Result<TinkerLearner, TinkerError> {
        TinkerLearner::over(Api::with_key(settings, key)?, settings, base_name, from)
    }

    fn over(
        api: Api,
        settings: &TinkerSettings,
        base_name: &str,
        from: Option<&ServerState>,
    ) -> Result<TinkerLearner, TinkerError> {
        if let Some(from) = from.filter(|from| from.url != settings.url) {
            let why = format!("this run is kept by {}, and no other server can go on with it", from.url);
            return Err(TinkerError::Unable { host: api.host.clone(), key: "policy.train.url", why });
        }
        let can = probe(&api, settings)?;
        if !can.losses.contains(&LOSS) {
            let why = format!("it has no loss `{LOSS}`, the one that every other can be sent as");
            return Err(TinkerError::Unable { host: api.host.clone(), key: "policy.train.url", why });
        }
        let mut model = Model::create(&api, &can.model, settings, can.manners)?;
        if let Some(from) = from {
            model.load_state(&from.path)?;
        }
        Ok(TinkerLearner {
            api,
            model,
            can,
            url: settings.url.clone(),
            base_name: base_name.to_owned(),
            version: from.map_or(0, |from| from.version),
            kept: None,
            lessons: Vec::new(),
            spoilt: false,
            partial: false,
            states: Vec::new(),
            n_saved: 0,
        })
    }

    /// Refuses what the server cannot do for any step, before the first.
    pub fn check(&self, max_grad_norm: f64) -> Result<(), TinkerError> {
        if self.can.clips || max_grad_norm >= f64::from(NO_CLIP) {
            return Ok(());
        }
        let why = format!("it does not clip gradients; set it to {NO_CLIP:e} or more, which is no bound");
        Err(TinkerError::Unable { host: self.api.host.clone(), key: "train.max_grad_norm", why })
    }

    /// Gives the model's slot back, and says whether that went well.
    pub fn close(mut self) -> Result<(), TinkerError> {
        self.model.unload()
    }

    fn is_whole(&self) -> Result<(), TinkerError> {
        match self.partial {
            false => Ok(()),
            true => Err(TinkerError::Partial { host: self.api.host.clone() }),
        }
    }

    fn score(&mut self, batch: &TreeBatch, keep: bool) -> Result<TokenStats, TinkerError> {
        self.is_whole()?;
        let rows = unroll(batch)?;
        let longest = rows.iter().map(|row| row.read.len()).max().unwrap_or(0);
        let zeros = vec![0.0; longest];
        let sent: Vec<Sequence<'_>> = rows
            .iter()
            .map(|row| {
                let n = row.read.len();
                Sequence { read: &row.read, next: &row.next, logprobs: &zeros[..n], advantages: &zeros[..n] }
            })
            .collect();
        let found = self.model.pass(&sent, LOSS, true)?;
        let mut logprobs = vec![0.0; batch.targets.len()];
        for (row, found) in rows.iter().zip(&found) {
            if !found.iter().all(|x| x.is_finite()) {
                return Err(TinkerError::NotFinite { host: self.api.host.clone(), what: "a log-probability" });
            }
            row.carries.iter().for_each(|&(at, target)| logprobs[target] = found[at]);
        }
        self.kept = keep.then_some((rows, found));
        Ok(TokenStats { logprobs, entropies: Vec::new() })
    }

    fn learn(&mut self, dlogp: &[f32], dentropy: &[f32]) -> Result<(), TinkerError> {
        self.is_whole()?;
        let Some((rows, found)) = self.kept.take() else {
            let why = "backward needs a forward pass of the same batch with `keep`";
            return Err(TinkerError::Misuse(why.to_owned()));
        };
        let n_targets: usize = rows.iter().map(|row| row.carries.len()).sum();
        if dlogp.len() != n_targets {
            return Err(TinkerError::Misuse(format!("{n_targets} targets, but {} coefficients", dlogp.len())));
        }
        if dentropy.iter().any(|&d| d != 0.0) {
            let why = "a server has no gradient of entropies; leave it at 0".to_owned();
            return Err(TinkerError::Unable { host: self.api.host.clone(), key: "loss.entropy_coef", why });
        }
        if dlogp.iter().any(|d| !d.is_finite()) {
            self.spoilt = true;
            return Ok(());
        }
        for (mut row, mut logprobs) in rows.into_iter().zip(found) {
            let weighted = || row.carries.iter().filter(|&&(_, target)| dlogp[target] != 0.0);
            let Some(&(last, _)) = weighted().next_back() else { continue };
            let mut advantages = vec![0.0; last + 1];
            weighted().for_each(|&(at, target)| advantages[at] = -f64::from(dlogp[target]));
            // Nothing is learned of what stands behind the last coefficient.
            row.read.truncate(last + 1);
            row.next.truncate(last + 1);
            logprobs.truncate(last + 1);
            self.lessons.push(Lesson { read: row.read, next: row.next, logprobs, advantages });
        }
        Ok(())
    }

    fn apply(&mut self, params: &StepParams) -> Result<StepReport, TinkerError> {
        self.is_whole()?;
        self.check(f64::from(params.max_grad_norm))?;
        let lessons = std::mem::take(&mut self.lessons);
        self.kept = None;
        if std::mem::take(&mut self.spoilt) {
            return Ok(StepReport { grad_norm: f32::NAN, applied: false });
        }
        // From here on an error leaves the server with a part of a batch.
        self.partial = true;
        let scaled: Vec<Vec<f32>> = lessons
            .iter()
            .map(|lesson| {
                let factor = self.can.reduction.factor(lesson.read.len(), lessons.len());
                lesson.advantages.iter().map(|a| (a * factor) as f32).collect()
            })
            .collect();
        let sent: Vec<Sequence<'_>> = lessons
            .iter()
            .zip(&scaled)
            .map(|(l, advantages)| Sequence { read: &l.read, next: &l.next, logprobs: &l.logprobs, advantages })
            .collect();
        let found = self.model.pass(&sent, LOSS, false)?;
        self.same_weights(&lessons, &found)?;
        let clip = self.can.clips && params.max_grad_norm < NO_CLIP;
        let adam = Adam {
            learning_rate: params.learning_rate.into(),
            beta1: params.beta1.into(),
            beta2: params.beta2.into(),
            eps: params.eps.into(),
            weight_decay: params.weight_decay.into(),
            clip_norm: clip.then_some(params.max_grad_norm.into()),
        };
        let norm = self.model.step(&adam)?.ok_or_else(|| self.api.form("an optimiser step", "gradient norm"))?;
        if !norm.is_finite() {
            // The server has made its step all the same.
            return Err(TinkerError::NotFinite { host: self.api.host.clone(), what: "the norm of a gradient" });
        }
        self.partial = false;
        self.version += 1;
        Ok(StepReport { grad_norm: norm as f32, applied: true })
    }

    /// The log-probabilities of the backward pass are those that coefficients were computed from.
    fn same_weights(&self, lessons: &[Lesson], found: &[Vec<f32>]) -> Result<(), TinkerError> {
        let (mut sum, mut n) = (0.0f64, 0usize);
        for (lesson, found) in lessons.iter().zip(found) {
            let pairs = lesson.logprobs.iter().zip(found).zip(&lesson.advantages);
            for ((before, now), _) in pairs.filter(|(_, advantage)| **advantage != 0.0) {
                sum += f64::from((before - now).abs());
                n += 1;
            }
        }
        let mean = sum / n.max(1) as f64;
        match mean <= MAX_MOVED {
            true => Ok(()),
            // What is not a number comes here too.
            false => Err(TinkerError::Moved { host: self.api.host.clone(), mean }),
        }
    }

    fn fetch(&mut self, dir: &Path) -> Result<(), TinkerError> {
        self.is_whole()?;
        self.n_saved += 1;
        let path = self.model.save_weights(&format!("aepo-v{}-{}", self.version, self.n_saved))?;
        let (id, name) = place(&path).ok_or_else(|| self.api.form("saving weights", "path like tinker://…/…"))?;
        let archive =
            self.api.archive(&format!("training_runs/{id}/checkpoints/{name}/archive"), self.api.deadline())?;
        archive::extract(&self.api.host, &archive, dir, &self.base_name)?;
        // The next step has other weights, and nobody else knows the name.
        self.api.delete(&format!("training_runs/{id}/checkpoints/sampler_weights/{name}"));
        Ok(())
    }

    /// Weights as files, and with `optimizer` the name of the state that stays on the server.
    fn keep(&mut self, dir: &Path, optimizer: bool) -> Result<(), TinkerError> {
        self.fetch(dir)?;
        if !optimizer {
            return Ok(());
        }
        self.n_saved += 1;
        let path = self.model.save_state(&format!("aepo-step{}-{}", self.version, self.n_saved))?;
        let state = ServerState { url: self.url.clone(), path: path.clone(), version: self.version };
        let file = dir.join(STATE);
        let written = serde_json::to_vec_pretty(&state).map_err(std::io::Error::from);
        let written = written.and_then(|bytes| std::fs::write(&file, bytes));
        written.map_err(|e| TinkerError::File { path: file, why: e.to_string() })?;
        self.states.push(path);
        while self.states.len() > N_KEPT {
            if let Some((id, name)) = place(&self.states.remove(0)) {
                self.api.delete(&format!("training_runs/{id}/checkpoints/weights/{name}"));
            }
        }
        Ok(())
    }
}

/// The model and the name in `tinker://model/kind/name`; `None` where that is no such path, or its parts could mean
/// something else in an address.
fn place(path: &str) -> Option<(String, String)> {
    let mut parts = path.strip_prefix("tinker://")?.split('/');
    let (id, name) = (parts.next()?, parts.next_back()?);
    let plain = |s: &str| {
        !s.is_empty()
            && s.len() < 256
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':'))
    };
    (plain(id) && plain(name)).then(|| (id.to_owned(), name.to_owned()))
}

impl Learner for TinkerLearner {
    fn forward(&mut self, batch: &TreeBatch, temperature: f32, keep: bool) -> Result<TokenStats, PolicyError> {
        if temperature != 1.0 {
            let why = format!("a server knows log-probabilities at temperature 1 only, and {temperature} is asked for");
            let error = TinkerError::Unable { host: self.api.host.clone(), key: "rollout.temperature", why };
            return Err(error.into());
        }
        Ok(self.score(batch, keep)?)
    }

    fn backward(&mut self, _: &TreeBatch, dlogp: &[f32], dentropy: &[f32]) -> Result<(), PolicyError> {
        Ok(self.learn(dlogp, dentropy)?)
    }

    fn step(&mut self, params: &StepParams) -> Result<StepReport, PolicyError> {
        Ok(self.apply(params)?)
    }

    fn save(&mut self, dir: &Path, optimizer: bool) -> Result<(), PolicyError> {
        Ok(self.keep(dir, optimizer)?)
    }
}

impl Publisher for TinkerLearner {
    fn trained(&self) -> PolicyVersion {
        PolicyVersion(self.version)
    }

    fn publish(&mut self, dir: &Path) -> Result<Published, PolicyError> {
        self.fetch(dir)?;
        Ok(Published { version: self.trained(), weights: Weights::Adapter(dir.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_on_a_server_has_a_model_and_a_name() {
        let parts = |path| place(path).map(|(id, name)| format!("{id} {name}"));
        assert_eq!(parts("tinker://model_1/weights/a-b").as_deref(), Some("model_1 a-b"));
        assert_eq!(parts("tinker://m:train:0/sampler_weights/x").as_deref(), Some("m:train:0 x"));
        for bad in
            ["tinker://m", "file://m/weights/x", "tinker://m/weights/../x y", "tinker:///weights/x", "tinker://m/"]
        {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }
}
