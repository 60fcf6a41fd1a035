//! How do programs that know OpenAI's API use a model of ours? Its routes over one sampler, whoever that is.
//!
//! `GET /health`, `GET /v1/models`, `POST /v1/completions` and `POST /v1/chat/completions`, whole or as streams of
//! events. What a request asks for and this server does not do is refused by name. Log-probabilities are natural
//! logarithms under the request's own temperature, before `top_p` and `top_k` cut (at temperature 0: under temperature
//! 1), so that they are those that training computes.

mod answer;
mod chat;
mod completions;
pub mod desk;
mod fields;
mod kept;
mod options;
mod refused;
mod stream;
mod text;
mod wire;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aepo::prompt::served::Talk;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::json;
use tokio::sync::mpsc;

use answer::{Answers, Asked, Kind};
use desk::{Desk, Job};
use fields::{Fields, shortened};
use wire::{Heading, Writer};

use super::key::{self, Key, fresh};
use super::refusal::Refusal;

/// No request is longer, bytes: all connections together may hold one.
const MAX_BODY_BYTES: usize = 4 << 20;

/// A model with everything that answering needs.
pub struct Served {
    /// The name under which it is asked for.
    pub name: String,
    /// How it is talked to.
    pub talk: Arc<Talk>,
    /// Who samples.
    pub desk: Desk,
    /// Tokens of a message where a request does not say.
    pub default_max_tokens: usize,
    /// What callers must show; `None` where everybody may ask.
    pub key: Option<Arc<Key>>,
    /// A request must be there whole in this time.
    pub body_patience: Duration,
}

impl Served {
    fn check_model(&self, fields: &mut Fields) -> Result<(), Refusal> {
        match fields.text("model")? {
            Some(name) if name != self.name => {
                let (name, mine) = (shortened(&name), &self.name);
                let message = format!("there is no model {name:?} here; `model` must be {mine:?}");
                let refusal = Refusal::new(StatusCode::NOT_FOUND, message);
                Err(Refusal { param: Some("model".to_owned()), code: Some("model_not_found"), ..refusal })
            }
            _ => Ok(()),
        }
    }
}

/// Routes of a model.
pub fn routes(served: Served) -> Router {
    let served = Arc::new(served);
    let v1 = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/completions", post(complete))
        .route("/v1/chat/completions", post(converse))
        .route_layer(middleware::from_fn_with_state(served.key.clone(), key::check));
    v1.route("/health", get(health)).fallback(no_route).method_not_allowed_fallback(no_method).with_state(served)
}

async fn no_route() -> Response {
    let known = "GET /health, GET /v1/models, POST /v1/completions and POST /v1/chat/completions are here";
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no such route: {known}")).response()
}

async fn no_method() -> Response {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this route has another method").response()
}

async fn health(State(served): State<Arc<Served>>) -> Response {
    match served.desk.is_open() {
        true => super::json(StatusCode::OK, &json!({ "status": "ok" })),
        false => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the model has ended").response(),
    }
}

async fn models(State(served): State<Arc<Served>>) -> Response {
    let model = json!({
        "id": served.name, "object": "model", "created": 0, "owned_by": "aepo",
        "max_model_len": served.desk.context_len,
    });
    super::json(StatusCode::OK, &json!({ "object": "list", "data": [model] }))
}

async fn complete(State(served): State<Arc<Served>>, headers: HeaderMap, body: Body) -> Response {
    answer(served, &headers, body, completions::read).await.unwrap_or_else(|refusal| refusal.response())
}

async fn converse(State(served): State<Arc<Served>>, headers: HeaderMap, body: Body) -> Response {
    answer(served, &headers, body, chat::read).await.unwrap_or_else(|refusal| refusal.response())
}

type Read = fn(&Served, &[u8]) -> Result<Asked, Refusal>;

async fn answer(served: Arc<Served>, headers: &HeaderMap, body: Body, read: Read) -> Result<Response, Refusal> {
    let bytes = super::read_json(headers, body, MAX_BODY_BYTES, served.body_patience).await?;
    let here = Arc::clone(&served);
    // Rendering and tokenising a long conversation takes a while.
    let asked = tokio::task::spawn_blocking(move || read(&here, &bytes)).await;
    let failed = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be read");
    let asked = asked.map_err(failed)??;
    let is_stream = asked.options.stream;
    let (events, told) = mpsc::unbounded_channel();
    served.desk.submit(jobs(&served, &asked, &events))?;
    drop(events);
    let prefix = if matches!(asked.kind, Kind::Chat { .. }) { "chatcmpl" } else { "cmpl" };
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let heading = Heading { id: format!("{prefix}-{:016x}", fresh()), created, model: served.name.clone() };
    let writer = Writer::new(heading, asked.prompts.len() * asked.options.n, asked.options.pieces(&served.talk));
    let answers = Answers::new(asked, Arc::clone(&served.talk));
    match is_stream {
        true => Ok(stream::response(answers, writer, Arc::clone(&served.talk), told)),
        false => Ok(super::json(StatusCode::OK, &stream::whole(answers, writer, &served.talk, told).await?)),
    }
}

fn jobs(served: &Served, asked: &Asked, events: &mpsc::UnboundedSender<desk::Event>) -> Vec<Job> {
    let (o, seed) = (&asked.options, asked.options.seed());
    let (n_likeliest, judges_prompt, texts) = match &asked.kind {
        Kind::Chat { tools, logprobs } => (logprobs.unwrap_or(0), false, served.talk.stop_texts(tools)),
        Kind::Text { logprobs, prompt_logprobs, echo } => {
            let n = logprobs.unwrap_or(0).max(prompt_logprobs.unwrap_or(0));
            (n, prompt_logprobs.is_some() || (*echo && logprobs.is_some()), Vec::new())
        }
    };
    let stop = o.stop(&served.talk, texts);
    let job = |(i, prompt): (usize, &Arc<[u32]>)| Job {
        prompt: Arc::clone(prompt),
        first: i * o.n,
        n: o.n,
        max_tokens: max_tokens(served, asked, prompt.len()),
        stop: Arc::clone(&stop),
        params: o.params,
        seed: seed.child(i as u64),
        n_likeliest,
        judges_prompt,
        events: events.clone(),
    };
    asked.prompts.iter().enumerate().map(job).collect()
}

/// What there is room for behind a prompt, at most what was asked for, at least one.
fn max_tokens(served: &Served, asked: &Asked, n_prompt: usize) -> usize {
    let room = served.desk.context_len.saturating_sub(n_prompt);
    asked.options.max_tokens.unwrap_or(room).min(room).max(1)
}

/// Refuses prompts without room for an answer, and requests that the cache could never hold.
fn check_room(served: &Served, asked: &Asked, param: &str) -> Result<(), Refusal> {
    let context_len = served.desk.context_len;
    for prompt in &asked.prompts {
        let n = prompt.len();
        if n >= context_len {
            let message = format!("has {n} tokens; the model's context of {context_len} must have room for an answer");
            return Err(Refusal { code: Some("context_length_exceeded"), ..Refusal::field(param, message) });
        }
        let limits = served.desk.limits;
        let cost = Desk::cost(n, asked.options.n, max_tokens(served, asked, n));
        if cost > limits.cache_tokens || asked.options.n > limits.max_live {
            let (room, n) = (limits.cache_tokens, limits.max_live);
            let message =
                format!("times `max_tokens` asks for more than this server holds: {room} tokens, {n} answers");
            return Err(Refusal::field("n", message));
        }
    }
    Ok(())
}
