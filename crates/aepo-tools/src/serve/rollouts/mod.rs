//! How do programs that train elsewhere get trajectories of our trees? One request for each, or one for all of a tree.
//!
//! `POST /rollouts` waits until the tree is done and answers one of its trajectories, or all; `GET /health` says that the
//! service is there and how it samples, for callers to compare with what they were told. Who grows the trees takes orders of [`Groups`] and brings them back.

pub mod groups;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use aepo::data::task::Task;
use aepo::policy::SampleParams;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::key::{self, Key};
use super::refusal::Refusal;
use groups::{Groups, Order, Unwelcome};
use wire::{Answer, Ask};

/// No request is longer, bytes: a question, its answers, and addresses.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Makes ids of a question.
pub type Render = Box<dyn Fn(&Task) -> Result<Vec<u32>, String> + Send + Sync>;

/// The service.
pub struct Rollouts {
    /// All groups.
    pub groups: Arc<Groups>,
    /// The first prompt of a task.
    pub render: Render,
    /// Trajectories of a tree.
    pub k: usize,
    /// How tokens are drawn.
    pub params: SampleParams,
    /// A response has at most so many tokens.
    pub max_response_tokens: usize,
    /// The longest path of the model; a prompt must be shorter.
    pub context_len: usize,
    /// Whether callers say which servers sample; else none may.
    pub names_servers: bool,
    /// What callers must show; `None` where everybody may ask.
    pub key: Option<Arc<Key>>,
    /// A request must be there whole in this time.
    pub body_patience: Duration,
}

/// Its routes.
pub fn routes(service: Rollouts) -> Router {
    let service = Arc::new(service);
    let kept = Router::new()
        .route("/rollouts", post(rollout))
        .route_layer(middleware::from_fn_with_state(service.key.clone(), key::check));
    kept.route("/health", get(health)).fallback(no_route).method_not_allowed_fallback(no_method).with_state(service)
}

async fn no_route() -> Response {
    let message = "there is no such route: GET /health and POST /rollouts are here";
    Refusal::new(StatusCode::NOT_FOUND, message).response()
}

async fn no_method() -> Response {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this route has another method").response()
}

async fn health(State(service): State<Arc<Rollouts>>) -> Response {
    match service.groups.is_open() {
        true => {
            let SampleParams { temperature, top_p, top_k, .. } = service.params;
            let facts = json!({
                "status": "ok", "k": service.k, "temperature": temperature, "top_p": top_p, "top_k": top_k,
                "max_response_tokens": service.max_response_tokens, "names_servers": service.names_servers,
            });
            super::json(StatusCode::OK, &facts)
        }
        false => stopping().response(),
    }
}

async fn rollout(State(service): State<Arc<Rollouts>>, headers: HeaderMap, body: Body) -> Response {
    answer(service, &headers, body).await.unwrap_or_else(|refusal| refusal.response())
}

async fn answer(service: Arc<Rollouts>, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
    let bytes = super::read_json(headers, body, MAX_BODY_BYTES, service.body_patience).await?;
    let here = Arc::clone(&service);
    let read = tokio::task::spawn_blocking(move || read(&here, &bytes)).await;
    let (order, index) = read.map_err(|_| failed("the request could not be read"))??;
    let name = order.task.id.clone();
    let mut told = service.groups.join(order).map_err(|why| refused(why, &name))?;
    let tree = match told.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Ok(tree))) => Arc::clone(tree),
        Ok(Some(Err(why))) => return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &**why)),
        Ok(None) | Err(_) => return Err(stopping()),
    };
    let one = |index: usize| {
        let told = Answer::of(&tree, index).ok_or_else(|| {
            let message = format!("is {index}, and this tree has {} trajectories", tree.leaves.len());
            Refusal::field("index", message)
        })?;
        serde_json::to_value(&told).map_err(|_| failed("the trajectory holds numbers that JSON has not"))
    };
    let indices = index.map_or(0..tree.leaves.len(), |index| index..index + 1);
    let mut told = indices.clone().map(one).collect::<Result<Vec<Value>, Refusal>>()?;
    service.groups.note_fetched(&name, indices);
    let value = match index {
        Some(_) => told.pop().unwrap_or_default(),
        None => json!({ "group": name, "n": told.len(), "trajectories": told }),
    };
    Ok(super::json(StatusCode::OK, &value))
}

/// What a request orders, and which trajectory it wants if not all.
fn read(service: &Rollouts, bytes: &[u8]) -> Result<(Order, Option<usize>), Refusal> {
    let ask = Ask::parse(bytes)?;
    let k = service.k;
    if let Some(n) = ask.n.filter(|&n| n != k) {
        let message =
            format!("is {n}, and trees here have {k} trajectories: rollout.k and the caller's number must agree");
        return Err(Refusal::field("n", message));
    }
    if let Some(index) = ask.index.filter(|&index| index >= k) {
        return Err(Refusal::field("index", format!("is {index}, and trees here have {k} trajectories")));
    }
    match (service.names_servers, ask.servers.is_empty()) {
        (true, true) => return Err(Refusal::field("servers", "must name the servers that sample")),
        (false, false) => {
            let message = "has no effect: the recipe says who samples. `aepo serve --rollouts --servers vllm` leaves it to \
                           callers";
            return Err(Refusal::unsupported("servers", message));
        }
        _ => {}
    }
    let task = ask.task();
    let prompt = (service.render)(&task).map_err(|why| Refusal::field("question", why))?;
    let (n, context_len) = (prompt.len(), service.context_len);
    if n >= context_len {
        let message =
            format!("has {n} tokens in its prompt; the model's context of {context_len} must have room for more");
        return Err(Refusal { code: Some("context_length_exceeded"), ..Refusal::field("question", message) });
    }
    Ok((Order { task, prompt, seed: ask.seed(), servers: ask.servers }, ask.index))
}

fn refused(why: Unwelcome, name: &str) -> Refusal {
    match why {
        Unwelcome::Closed => stopping(),
        Unwelcome::Full => {
            let message = "as many groups wait, grow or are kept as may; try again later";
            Refusal { code: Some("queue_full"), ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, message) }
        }
        Unwelcome::Differs => {
            let message =
                format!("`group` {name:?} was asked for with another question, other answers or another seed");
            Refusal { code: Some("group_differs"), ..Refusal::new(StatusCode::CONFLICT, message) }
        }
    }
}

fn stopping() -> Refusal {
    let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is being stopped");
    Refusal { code: Some("stopping"), ..refusal }
}

fn failed(message: &str) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}
