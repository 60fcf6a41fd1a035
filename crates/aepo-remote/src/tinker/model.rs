//! What can be asked of one model on a server? Passes over sequences, steps, and its weights.
//!
//! Requests that change the model are numbered from 1 (`seq_id`). A server that knows numbers gives the same future for
//! the same number, so that a request whose answer was lost is sent again and counts once (SkyRL 0.4.0; its 0.3.0 and
//! whatever `probe` finds to be like it gets such a request once). While the model is there its session is kept alive by
//! a thread, because a server frees what nobody asks for (SkyRL after 300 s). Dropping the model unloads it.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use prost::Message as _;
use serde_json::{Value, json};

use super::api::{Again, Api, Body, MAX_CUT, Outcome};
use super::error::TinkerError;
use super::wire::{Chunk, Datum, ForwardBackwardOutput, ForwardBackwardRequest, Tensor};
use super::{TinkerSettings, json as as_json};

/// Sequences and tokens of one request at most; more are sent in several.
const MAX_ROWS: usize = 256;
const MAX_TOKENS: usize = 1 << 16;
/// Between two signs of life, as the published client gives them.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_secs(10);
/// How often a model is asked for where answers get lost.
const CREATIONS: u32 = 3;

/// In which way batches are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Messages of `tinker_public`; passes without gradient are a flag.
    Protobuf,
    /// JSON; passes without gradient have a route of their own.
    Json,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    /// In which way batches are written.
    pub dialect: Dialect,
    /// Whether a repeated request is known by its number.
    pub numbered: bool,
}

/// One sequence of a pass, each slice `[n]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sequence<'a> {
    /// What the model reads.
    pub read: &'a [u32],
    /// What follows each.
    pub next: &'a [u32],
    /// Of what follows, nats: the denominators of ratios.
    pub logprobs: &'a [f32],
    /// Factors of the ratios.
    pub advantages: &'a [f32],
}

/// Numbers of one optimiser step (AdamW).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub learning_rate: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Global gradient norm above which the gradient is scaled down; `None` says nothing of it to the server.
    pub clip_norm: Option<f64>,
}

/// A model with LoRA on a server.
pub struct Model {
    api: Api,
    /// Its name on the server.
    pub id: String,
    seq_id: i32,
    /// How the server is spoken to.
    pub manners: Manners,
    is_loaded: bool,
    /// The thread that keeps the session alive ends when this is dropped.
    _alive: Sender<()>,
}

impl Model {
    /// Makes a new one, with matrices that add nothing yet.
    pub fn create(
        api: &Api,
        base_model: &str,
        settings: &TinkerSettings,
        manners: Manners,
    ) -> Result<Model, TinkerError> {
        let mut n_tries = 0;
        loop {
            n_tries += 1;
            match Model::create_once(api, base_model, settings, manners) {
                // What was made under the old session is freed when that falls silent.
                Err(TinkerError::Lost { .. }) if n_tries < CREATIONS => {}
                other => return other,
            }
        }
    }

    fn create_once(
        api: &Api,
        base_model: &str,
        settings: &TinkerSettings,
        manners: Manners,
    ) -> Result<Model, TinkerError> {
        let (what, deadline) = ("making a model", api.deadline());
        let version = concat!("aepo/", env!("CARGO_PKG_VERSION"));
        let body = json!({ "tags": ["aepo"], "sdk_version": version, "type": "create_session" });
        let session = api.call("opening a session", "create_session", Some(Body::Json(&body)), Again::Yes, deadline)?;
        let session_id = api.text(&session, "opening a session", "session_id")?;
        let lora = json!({
            "rank": settings.rank, "seed": settings.seed, "train_attn": settings.attention, "train_mlp": settings.mlp,
            "train_unembed": false,
        });
        let body = json!({
            "session_id": session_id, "model_seq_id": 0, "base_model": base_model, "lora_config": lora,
            "type": "create_model",
        });
        let answer = api.call(what, "create_model", Some(Body::Json(&body)), Again::No, deadline)?;
        let request_id = api.text(&answer, what, "request_id")?;
        // A hosted server names the model in the future only.
        let early = answer.get("model_id").and_then(Value::as_str).map(str::to_owned);
        let alive = keep_alive(api.clone(), session_id);
        let mut model = Model {
            api: api.clone(),
            is_loaded: early.is_some(),
            id: early.unwrap_or_default(),
            seq_id: 0,
            manners,
            _alive: alive,
        };
        let made = model.api.wait_json(what, &request_id, deadline).inspect_err(|error| {
            // There is nothing to unload where the server has said so.
            model.is_loaded &= !matches!(error, TinkerError::NoSlot { .. } | TinkerError::Refused { .. });
        })?;
        if model.id.is_empty() {
            model.id = api.text(&made, what, "model_id")?;
            model.is_loaded = true;
        }
        Ok(model)
    }

    fn again(&self) -> Again {
        if self.manners.numbered { Again::Yes } else { Again::No }
    }

    fn number(&mut self) -> i32 {
        self.seq_id += 1;
        self.seq_id
    }

    /// The body of a pass, and its route.
    #[must_use]
    pub fn write(&self, rows: &[Sequence<'_>], loss: &str, forward_only: bool, seq_id: i32) -> (Vec<u8>, &'static str) {
        match self.manners.dialect {
            Dialect::Protobuf => (protobuf(&self.id, rows, loss, forward_only, seq_id), "forward_backward"),
            Dialect::Json => {
                let (name, route) = match forward_only {
                    true => ("forward_input", "forward"),
                    false => ("forward_backward_input", "forward_backward"),
                };
                let body = json!({ "model_id": self.id, "seq_id": seq_id, name: as_json::input(rows, loss) });
                (body.to_string().into_bytes(), route)
            }
        }
    }

    /// A pass over sequences: log-probabilities of what follows, nats, sequence by sequence. Without `forward_only` the
    /// gradient of the loss is added to what the server holds.
    pub fn pass(
        &mut self,
        rows: &[Sequence<'_>],
        loss: &str,
        forward_only: bool,
    ) -> Result<Vec<Vec<f32>>, TinkerError> {
        let what = if forward_only { "scoring a batch" } else { "training on a batch" };
        let deadline = self.api.deadline();
        let again = if forward_only { Again::Yes } else { self.again() };
        // All requests first: a server that gathers requests works on them together.
        let mut futures = Vec::new();
        for part in parts(rows) {
            let seq_id = self.number();
            let (bytes, route) = self.write(part, loss, forward_only, seq_id);
            let request_id = match self.manners.dialect {
                Dialect::Protobuf => self.api.submit(what, route, Body::Protobuf(&bytes), again, deadline)?,
                Dialect::Json => {
                    let value: Value =
                        serde_json::from_slice(&bytes).map_err(|e| TinkerError::Misuse(e.to_string()))?;
                    self.api.submit(what, route, Body::Json(&value), again, deadline)?
                }
            };
            futures.push((request_id, part));
        }
        let mut all = Vec::with_capacity(rows.len());
        for (request_id, part) in futures {
            let mut found = None;
            for _ in 0..MAX_CUT {
                found = match self.api.wait(what, &request_id, deadline)? {
                    Outcome::Protobuf(bytes) => {
                        ForwardBackwardOutput::decode(&bytes[..]).ok().and_then(|output| output.field("logprobs"))
                    }
                    Outcome::Json(value) => as_json::field(&value, "logprobs"),
                };
                if found.is_some() {
                    break;
                }
            }
            let found = found.ok_or_else(|| self.api.form(what, "`logprobs`"))?;
            let fits = found.len() == part.len() && found.iter().zip(part).all(|(f, row)| f.len() == row.next.len());
            if !fits {
                return Err(self.api.form(what, "log-probability for each token that was sent"));
            }
            all.extend(found);
        }
        Ok(all)
    }

    /// One optimiser step on what was added up: the norm of the gradient before clipping, where the server says it.
    pub fn step(&mut self, adam: &Adam) -> Result<Option<f64>, TinkerError> {
        let (what, deadline) = ("an optimiser step", self.api.deadline());
        let mut params = json!({
            "learning_rate": adam.learning_rate, "beta1": adam.beta1, "beta2": adam.beta2, "eps": adam.eps,
            "weight_decay": adam.weight_decay,
        });
        if let Some(norm) = adam.clip_norm {
            params["grad_clip_norm"] = json!(norm);
        }
        let seq_id = self.number();
        let body = json!({ "model_id": self.id, "adam_params": params, "seq_id": seq_id, "type": "optim_step" });
        let request_id = self.api.submit(what, "optim_step", Body::Json(&body), self.again(), deadline)?;
        let done = self.api.wait_json(what, &request_id, deadline)?;
        let metrics = done.get("metrics").and_then(Value::as_object);
        let norm = metrics.and_then(|metrics| metrics.iter().find(|(name, _)| name.ends_with("grad_norm")));
        match norm {
            None => Ok(None),
            // JSON has no word for what is not a number; SkyRL writes null or a text.
            Some((_, value)) => Ok(Some(value.as_f64().unwrap_or(f64::NAN))),
        }
    }

    /// Keeps weights and optimiser on the server: the path to go on from.
    pub fn save_state(&mut self, name: &str) -> Result<String, TinkerError> {
        self.save("saving the state of training", "save_weights", name, "weights")
    }

    /// Keeps the weights on the server, for fetching: the path.
    pub fn save_weights(&mut self, name: &str) -> Result<String, TinkerError> {
        self.save("saving weights", "save_weights_for_sampler", name, "sampler_weights")
    }

    /// A name is used once. Where the answer to a request is lost and the request was acted upon, the server says that
    /// the name is taken (409), and another is tried.
    fn save(&mut self, what: &'static str, route: &str, name: &str, folder: &str) -> Result<String, TinkerError> {
        let deadline = self.api.deadline();
        let mut n_taken = 0;
        loop {
            let name = if n_taken == 0 { name.to_owned() } else { format!("{name}-{n_taken}") };
            let seq_id = self.number();
            let body = json!({ "model_id": self.id, "path": name, "seq_id": seq_id, "type": route });
            match self.api.submit(what, route, Body::Json(&body), Again::Yes, deadline) {
                Err(TinkerError::Refused { status: 409, .. }) if n_taken < CREATIONS => n_taken += 1,
                Err(error) => return Err(error),
                Ok(request_id) => {
                    let done = self.api.wait_json(what, &request_id, deadline)?;
                    let path = done.get("path").and_then(Value::as_str).map(str::to_owned);
                    return Ok(path.unwrap_or_else(|| format!("tinker://{}/{folder}/{name}", self.id)));
                }
            }
        }
    }

    /// Goes on from a state of this or another model; it must be the first thing that is asked of a model.
    pub fn load_state(&mut self, path: &str) -> Result<(), TinkerError> {
        let (what, deadline) = ("loading the state of training", self.api.deadline());
        let seq_id = self.number();
        let body = json!({
            "model_id": self.id, "path": path, "optimizer": true, "seq_id": seq_id, "type": "load_weights",
        });
        // Loading twice is loading, but the second is refused because it is not the first: it may not be repeated.
        let request_id = self.api.submit(what, "load_weights", Body::Json(&body), Again::No, deadline)?;
        self.api.wait_json(what, &request_id, deadline).map(|_| ())
    }

    /// Gives its slot back.
    pub fn unload(&mut self) -> Result<(), TinkerError> {
        self.unload_until(self.api.deadline())
    }

    fn unload_until(&mut self, deadline: Instant) -> Result<(), TinkerError> {
        if !std::mem::take(&mut self.is_loaded) {
            return Ok(());
        }
        let what = "unloading the model";
        let body = json!({ "model_id": self.id, "type": "unload_model" });
        let request_id = self.api.submit(what, "unload_model", Body::Json(&body), Again::Yes, deadline)?;
        self.api.wait_json(what, &request_id, deadline).map(|_| ())
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // A server that cannot be reached frees it when the session has fallen silent.
        let _ = self.unload_until(Instant::now() + FAREWELL);
    }
}

/// The body of a pass as a message of `tinker_public`.
fn protobuf(id: &str, rows: &[Sequence<'_>], loss: &str, forward_only: bool, seq_id: i32) -> Vec<u8> {
    let datum = |row: &Sequence<'_>| {
        let inputs = [
            ("target_tokens", Tensor::integers(row.next)),
            ("logprobs", Tensor::floats(row.logprobs)),
            ("advantages", Tensor::floats(row.advantages)),
        ];
        let loss_fn_inputs = inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        Datum { model_input: vec![Chunk::text(row.read)], loss_fn_inputs }
    };
    let request = ForwardBackwardRequest {
        model_id: id.to_owned(),
        seq_id,
        data: rows.iter().map(datum).collect(),
        loss_fn: loss.to_owned(),
        loss_fn_config: BTreeMap::new(),
        forward_only,
    };
    request.encode_to_vec()
}

/// Sequences, in order, in as few requests as the bounds allow.
fn parts<'a, 'b>(rows: &'a [Sequence<'b>]) -> Vec<&'a [Sequence<'b>]> {
    let (mut parts, mut start, mut n_tokens) = (Vec::new(), 0, 0);
    for (i, row) in rows.iter().enumerate() {
        if i > start && (i - start == MAX_ROWS || n_tokens + row.read.len() > MAX_TOKENS) {
            parts.push(&rows[start..i]);
            (start, n_tokens) = (i, 0);
        }
        n_tokens += row.read.len();
    }
    if start < rows.len() {
        parts.push(&rows[start..]);
    }
    parts
}

/// Gives signs of life until the sender is dropped.
fn keep_alive(api: Api, session_id: String) -> Sender<()> {
    let (sender, receiver) = channel();
    let beat = move || {
        let body = json!({ "session_id": session_id, "type": "session_heartbeat" });
        while receiver.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            let deadline = Instant::now() + HEARTBEAT;
            // The next one may arrive; if none does, the next pass says what the matter is.
            let _ = api.call("a sign of life", "session_heartbeat", Some(Body::Json(&body)), Again::Yes, deadline);
        }
    };
    // Without the thread the session lives for as long as the server leaves it.
    let _ = std::thread::Builder::new().name("aepo-heartbeat".to_owned()).spawn(beat);
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_goes_in_as_few_requests_as_bounds_allow_and_none_is_lost() {
        let long = vec![1; MAX_TOKENS - 10];
        let row = |tokens: &'static [u32]| Sequence { read: tokens, next: tokens, logprobs: &[], advantages: &[] };
        let big = Sequence { read: &long, next: &long, logprobs: &[], advantages: &[] };
        let lengths = |rows: &[Sequence<'_>]| parts(rows).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&vec![row(&[1, 2]); MAX_ROWS + 1]), [MAX_ROWS, 1]);
        assert_eq!(lengths(&[big, row(&[1; 10]), row(&[1]), big, big]), [2, 2, 1]);
    }
}
