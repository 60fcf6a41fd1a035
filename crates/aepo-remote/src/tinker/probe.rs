//! What can this server do? Found out on a model of its own, before anything is trained.
//!
//! Servers of the same protocol differ in what nobody can ask them: how batches are written, whether a repeated request
//! counts once, how losses add up, whether gradients are clipped. All of it shows in gradient norms and log-probabilities
//! of a few short sequences. The model's `B` is zero and stays zero under a learning rate of 0, so that its gradient is
//! the same in every experiment.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::TinkerSettings;
use super::api::{Again, Api, Body};
use super::error::TinkerError;
use super::model::{Adam, Dialect, Manners, Model, Sequence};

/// How a server makes one gradient of the tokens that it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// All tokens are added (the Tinker contract; SkyRL's FSDP and Megatron).
    Sum,
    /// Each sequence is averaged over its tokens, then sequences are averaged over the whole step (SkyRL's JAX).
    MeanOfMeans,
}

impl Reduction {
    /// By what a coefficient is multiplied, in a sequence of `n_tokens` of `n_rows` that a step learns from, so that
    /// the server's gradient is the plain sum.
    #[must_use]
    pub fn factor(self, n_tokens: usize, n_rows: usize) -> f64 {
        match self {
            Reduction::Sum => 1.0,
            Reduction::MeanOfMeans => n_tokens as f64 * n_rows as f64,
        }
    }
}

/// What a server can do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Capabilities {
    /// Scheme, host and port.
    pub host: String,
    /// The model that is trained, by the server's name.
    pub model: String,
    /// Longest sequence, tokens, where the server says it.
    pub context_len: Option<u64>,
    /// "protobuf" or "json".
    pub dialect: &'static str,
    /// Whether a repeated request counts once.
    pub numbered: bool,
    /// How losses add up.
    pub reduction: Reduction,
    /// Losses that a pass accepts.
    pub losses: Vec<&'static str>,
    /// Whether the global gradient norm is clipped on request.
    pub clips: bool,
    /// Rank that a model was made with; training of all weights is not part of the protocol.
    pub lora_rank: usize,
    /// Whether entropies come back: they do from no server.
    pub entropies: bool,
    /// How the server is spoken to.
    #[serde(skip)]
    pub manners: Manners,
}

/// The only loss that is trained with: with the current log-probabilities as old ones its gradient is
/// `Σ advantage·∂logp`, exactly, whatever the advantages.
pub const LOSS: &str = "importance_sampling";

/// Losses that are asked about. `cross_entropy` is left out: with signed weights SkyRL's JAX backend divides by their
/// sum, which may be anything.
const LOSSES: [&str; 3] = [LOSS, "ppo", "cispo"];

/// Token ids that every vocabulary has.
const LONG: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const SHORT: [u32; 4] = [3, 1, 4, 2];

/// Ratios of norms that are 1, 2 or a length in exact arithmetic; bf16 servers are off by a percent.
const TOLERANCE: f64 = 0.05;

/// Finds out; the model that it takes is unloaded, whatever happens.
pub fn probe(api: &Api, settings: &TinkerSettings) -> Result<Capabilities, TinkerError> {
    let (model, context_len) = base_model(api, settings)?;
    let first = Manners { dialect: Dialect::Protobuf, numbered: false };
    let mut scratch = Model::create(api, &model, settings, first)?;
    let found = experiments(api, &mut scratch, settings, model, context_len);
    let unloaded = scratch.unload();
    let found = found?;
    unloaded.map(|()| found)
}

/// The server's name for the model, and its context.
fn base_model(api: &Api, settings: &TinkerSettings) -> Result<(String, Option<u64>), TinkerError> {
    let what = "asking what it can do";
    let answer = api.call(what, "get_server_capabilities", None, Again::Yes, api.deadline())?;
    let models = answer.get("supported_models").and_then(Value::as_array);
    let models = models.ok_or_else(|| api.form(what, "supported_models"))?;
    let named: BTreeMap<&str, Option<u64>> = models
        .iter()
        .filter_map(|m| Some((m.get("model_name")?.as_str()?, m.get("max_context_length").and_then(Value::as_u64))))
        .collect();
    let unable = |why: String| TinkerError::Unable { host: api.host.clone(), key: "policy.train.base_model", why };
    let names = || named.keys().copied().take(20).collect::<Vec<_>>().join(", ");
    match &settings.model {
        Some(name) => match named.get(name.as_str()) {
            Some(context) => Ok((name.clone(), *context)),
            None => Err(unable(format!("it has {}", names()))),
        },
        None => match named.iter().next().filter(|_| named.len() == 1) {
            Some((name, context)) => Ok(((*name).to_owned(), *context)),
            None => Err(unable(format!("name one of its {} models: {}", named.len(), names()))),
        },
    }
}

fn experiments(
    api: &Api,
    scratch: &mut Model,
    settings: &TinkerSettings,
    model: String,
    context_len: Option<u64>,
) -> Result<Capabilities, TinkerError> {
    scratch.manners.dialect = dialect(api, scratch)?;
    scratch.manners.numbered = numbered(api, scratch)?;
    let reduction = reduction(api, scratch)?;
    let mut losses = Vec::new();
    for loss in LOSSES {
        match scratch.pass(&[of(&SHORT, &[0.0; 3], &[-1.0; 3])], loss, true) {
            Ok(_) => losses.push(loss),
            Err(TinkerError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let clips = clips(scratch)?;
    let dialect = match scratch.manners.dialect {
        Dialect::Protobuf => "protobuf",
        Dialect::Json => "json",
    };
    Ok(Capabilities {
        host: api.host.clone(),
        model,
        context_len,
        dialect,
        numbered: scratch.manners.numbered,
        reduction,
        losses,
        clips,
        lora_rank: settings.rank,
        entropies: false,
        manners: scratch.manners,
    })
}

/// A sequence over `tokens`.
fn of<'a>(tokens: &'a [u32], advantages: &'a [f32], logprobs: &'a [f32]) -> Sequence<'a> {
    let n = tokens.len() - 1;
    Sequence { read: &tokens[..n], next: &tokens[1..], logprobs: &logprobs[..n], advantages: &advantages[..n] }
}

/// Protobuf where it is taken, else JSON.
fn dialect(api: &Api, scratch: &mut Model) -> Result<Dialect, TinkerError> {
    let mut refused = [0; 2];
    for (i, dialect) in [Dialect::Protobuf, Dialect::Json].into_iter().enumerate() {
        scratch.manners.dialect = dialect;
        match scratch.pass(&[of(&SHORT, &[0.0; 3], &[-1.0; 3])], LOSS, true) {
            Ok(_) => return Ok(dialect),
            // What one says of a body that cannot be read, or of a route that is not there.
            Err(TinkerError::Refused { status: status @ (400 | 404 | 405 | 415 | 422), .. }) => refused[i] = status,
            Err(error) => return Err(error),
        }
    }
    Err(TinkerError::Dialect { host: api.host.clone(), protobuf: refused[0], json: refused[1] })
}

/// Whether the same number twice gives the same future.
fn numbered(api: &Api, scratch: &mut Model) -> Result<bool, TinkerError> {
    let (what, deadline) = ("a repeated request", api.deadline());
    // Far from the numbers of any request of this model.
    let (bytes, route) = scratch.write(&[of(&SHORT, &[0.0; 3], &[-1.0; 3])], LOSS, true, 1 << 20);
    let json: Value;
    let body = match scratch.manners.dialect {
        Dialect::Protobuf => Body::Protobuf(&bytes),
        Dialect::Json => {
            json = serde_json::from_slice(&bytes).unwrap_or_default();
            Body::Json(&json)
        }
    };
    let first = api.submit(what, route, body, Again::Yes, deadline)?;
    api.wait(what, &first, deadline)?;
    match api.submit(what, route, body, Again::Yes, deadline) {
        Ok(second) => {
            api.wait(what, &second, deadline)?;
            Ok(first == second)
        }
        Err(TinkerError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A step that moves nothing.
const STILL: Adam = Adam { learning_rate: 0.0, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.0, clip_norm: None };

/// The norm of a batch's gradient. Log-probabilities of the denominators are those of the pass before, so that every
/// ratio is 1.
fn norm(api: &Api, scratch: &mut Model, batch: &[(&[u32], &[f32])]) -> Result<f64, TinkerError> {
    let zeros = [0.0; LONG.len()];
    let rows: Vec<Sequence<'_>> = batch.iter().map(|(tokens, advantages)| of(tokens, advantages, &zeros)).collect();
    let current = scratch.pass(&rows, LOSS, true)?;
    let rows: Vec<Sequence<'_>> = rows.iter().zip(&current).map(|(r, c)| Sequence { logprobs: c, ..*r }).collect();
    scratch.pass(&rows, LOSS, false)?;
    let unable =
        |why: &str| TinkerError::Unable { host: api.host.clone(), key: "policy.train.url", why: why.to_owned() };
    let norm = scratch.step(&STILL)?.ok_or_else(|| {
        unable("it reports no gradient norm after a step, and without one nobody can tell how it adds up losses")
    })?;
    match norm.is_finite() && norm > 0.0 {
        true => Ok(norm),
        false => {
            Err(unable(&format!("the gradient of eight tokens has the norm {norm}, so nothing can be learned of it")))
        }
    }
}

fn reduction(api: &Api, scratch: &mut Model) -> Result<Reduction, TinkerError> {
    let (ones, first) = ([1.0; 7], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let (long, short): (&[u32], &[u32]) = (&LONG, &SHORT);
    let single = norm(api, scratch, &[(long, &ones), (short, &ones)])?;
    let twice = norm(api, scratch, &[(long, &ones), (short, &ones), (long, &ones), (short, &ones)])?;
    // One token's gradient, alone and at the head of a sequence whose other tokens have no coefficient.
    let alone = norm(api, scratch, &[(&LONG[..2], &first)])?;
    let padded = norm(api, scratch, &[(long, &first)])?;
    let (doubled, padded, mean) = (twice / single, padded / alone, 1.0 / 7.0);
    let near = |x: f64, wanted: f64| (x - wanted).abs() <= TOLERANCE * wanted;
    match () {
        () if near(doubled, 2.0) && near(padded, 1.0) => Ok(Reduction::Sum),
        () if near(doubled, 1.0) && near(padded, mean) => Ok(Reduction::MeanOfMeans),
        () => Err(TinkerError::Reduction { host: api.host.clone(), doubled, padded, mean }),
    }
}

/// Whether a bound on the gradient norm has an effect: an ε far above the gradient makes Adam's step proportional to it.
/// This moves the model, which nobody needs any more.
fn clips(scratch: &mut Model) -> Result<bool, TinkerError> {
    let ones = [1.0; 7];
    let free = Adam { learning_rate: 1.0, beta1: 0.0, beta2: 0.0, eps: 1.0, ..STILL };
    let mut at = scratch.pass(&[of(&LONG, &ones, &[0.0; 7])], LOSS, true)?;
    let mut moved = [0.0f64; 2];
    for (moved, clip_norm) in moved.iter_mut().zip([Some(1e-6), None]) {
        scratch.pass(&[of(&LONG, &ones, &at[0])], LOSS, false)?;
        match scratch.step(&Adam { clip_norm, ..free }) {
            Ok(_) => {}
            Err(TinkerError::Refused { status: 400 | 422, .. }) if clip_norm.is_some() => return Ok(false),
            Err(error) => return Err(error),
        }
        let now = scratch.pass(&[of(&LONG, &ones, &[0.0; 7])], LOSS, true)?;
        *moved = now[0].iter().zip(&at[0]).map(|(a, b)| f64::from((a - b).abs())).sum();
        at = now;
    }
    Ok(moved[0] < 1e-2 * moved[1])
}
