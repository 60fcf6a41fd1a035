//! Which requests does the fake server know, and what does each do?

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use aepo::policy::Learner as _;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use prost::Message as _;
use serde_json::{Value, json};

use super::learn::{FakeModel, FakeRow};
use super::{FaultKind, State};
use crate::tinker::model::Dialect;
use crate::tinker::wire::{FLOAT32, ForwardBackwardOutput, ForwardBackwardRequest, INT64, PROTOBUF, Tensor};
use crate::tinker::wire::{read_floats, read_integers};

/// No request is longer, bytes.
const MAX_BODY_BYTES: usize = 1 << 26;

/// Something that was asked for, which is done at once and told later.
pub(crate) struct Future {
    /// How often it was polled.
    n_polls: usize,
    /// How often it must be polled before it is told.
    late: usize,
    result: Result<Told, String>,
}

/// A result.
pub(crate) enum Told {
    Json(Value),
    Logprobs(Vec<Vec<f32>>),
}

/// Everything below `/api/v1`.
pub(super) fn routes(state: Arc<Mutex<State>>) -> Router {
    Router::new().fallback(move |request: Request| answer(Arc::clone(&state), request))
}

/// What arrived.
struct Asked {
    verb: String,
    path: String,
    kind: String,
    key: Option<String>,
    body: Vec<u8>,
}

async fn answer(state: Arc<Mutex<State>>, request: Request) -> Response {
    // Nothing that borrows the request may live on while its body is read.
    let (verb, path, kind, key) = {
        let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let path = request.uri().path().strip_prefix("/api/v1/").unwrap_or_default().to_owned();
        (request.method().to_string(), path, header("content-type").unwrap_or_default(), header("x-api-key"))
    };
    let Ok(body) = axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES).await else {
        return complain(413, "too long");
    };
    let asked = Asked { verb, path, kind, key, body: body.to_vec() };
    let worked = tokio::task::spawn_blocking(move || work(&state, &asked)).await;
    match worked {
        Ok(Some(response)) => response,
        Ok(None) => std::panic::resume_unwind(Box::new("the connection ends here")),
        Err(_) => complain(500, "the fake server broke"),
    }
}

/// `None` ends the connection.
fn work(state: &Mutex<State>, asked: &Asked) -> Option<Response> {
    let state = &mut *state.lock().unwrap_or_else(PoisonError::into_inner);
    state.counts.n_requests += 1;
    if state.settings.key.as_ref().is_some_and(|key| asked.key.as_ref() != Some(key)) {
        return Some(complain(401, &format!("Invalid key {}", asked.key.as_deref().unwrap_or("none"))));
    }
    let n = state.asked.entry(asked.path.clone()).or_default();
    *n += 1;
    let hit = |f: &&super::Fault| f.route == asked.path && n.is_multiple_of(f.every);
    let fault = state.settings.faults.iter().find(hit).map(|f| f.kind);
    state.counts.n_hit += usize::from(fault.is_some());
    match fault {
        Some(FaultKind::Busy) => return Some(complain(503, "busy")),
        Some(FaultKind::Broken) => return Some(complain(500, "broken")),
        Some(FaultKind::Twice) => drop(route(state, asked)),
        _ => {}
    }
    let (status, kind, bytes) = match route(state, asked) {
        Ok(good) => good,
        Err((status, why)) => (status, "application/json", json!({ "detail": why }).to_string().into_bytes()),
    };
    match fault {
        Some(FaultKind::Lost) => None,
        Some(FaultKind::Half) => Some(response(status, kind, bytes[..bytes.len() / 2].to_vec())),
        _ => Some(response(status, kind, bytes)),
    }
}

type Answered = Result<(u16, &'static str, Vec<u8>), (u16, String)>;

fn response(status: u16, kind: &str, bytes: Vec<u8>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // A redirect's body is its address.
    let location = if status.is_redirection() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() };
    (status, [("content-type", kind), ("location", location.as_str())], Body::from(bytes)).into_response()
}

fn complain(status: u16, why: &str) -> Response {
    response(status, "application/json", json!({ "detail": why }).to_string().into_bytes())
}

fn good(value: &Value) -> Answered {
    Ok((200, "application/json", value.to_string().into_bytes()))
}

fn refuse<T>(status: u16, why: &str) -> Result<T, (u16, String)> {
    Err((status, why.to_owned()))
}

fn route(state: &mut State, asked: &Asked) -> Answered {
    let parts: Vec<&str> = asked.path.split('/').collect();
    match (asked.verb.as_str(), &parts[..]) {
        ("GET", ["get_server_capabilities"]) => {
            good(&json!({ "supported_models": [{ "model_name": "fake", "max_context_length": 512 }] }))
        }
        ("GET", ["training_runs", id, "checkpoints", name, "archive"]) => {
            Ok((302, "text/plain", format!("/api/v1/training_runs/{id}/checkpoints/{name}/download").into_bytes()))
        }
        ("GET", ["training_runs", id, "checkpoints", name, "download"]) => {
            match state.archives.get(&format!("{id}/{name}")) {
                Some(bytes) => Ok((200, "application/octet-stream", bytes.clone())),
                None => refuse(404, "Checkpoint not found"),
            }
        }
        ("DELETE", ["training_runs", id, "checkpoints", kind, name]) => {
            let key = format!("{id}/{name}");
            let gone = if *kind == "weights" {
                state.states.remove(&key).is_some()
            } else {
                state.archives.remove(&key).is_some()
            };
            if gone { Ok((204, "application/json", Vec::new())) } else { refuse(404, "Checkpoint not found") }
        }
        ("POST", ["retrieve_future"]) => retrieve(state, &json_of(asked)?),
        ("POST", ["forward_backward"]) if asked.kind == PROTOBUF && state.settings.dialect == Dialect::Protobuf => {
            let Ok(request) = ForwardBackwardRequest::decode(&asked.body[..]) else {
                return refuse(422, "Invalid proto forward_backward body");
            };
            let Some(rows) = request.data.iter().map(row_of_message).collect() else {
                return refuse(422, "Invalid proto forward_backward body");
            };
            let learn = !request.forward_only;
            pass(state, asked, &request.model_id, i64::from(request.seq_id), rows, &request.loss_fn, learn)
        }
        ("POST", ["forward_backward"]) if state.settings.dialect == Dialect::Protobuf => {
            refuse(415, "forward_backward requires a application/x-protobuf body (tinker SDK >= 0.25.0)")
        }
        ("POST", [route @ ("forward_backward" | "forward")]) if state.settings.dialect == Dialect::Json => {
            let body = json_of(asked)?;
            let input = &body[if *route == "forward" { "forward_input" } else { "forward_backward_input" }];
            let rows = input["data"].as_array().and_then(|data| data.iter().map(row_of_json).collect());
            let Some(rows) = rows else { return refuse(422, "Field required") };
            let (id, loss) =
                (body["model_id"].as_str().unwrap_or_default(), input["loss_fn"].as_str().unwrap_or_default());
            pass(state, asked, id, body["seq_id"].as_i64().unwrap_or(0), rows, loss, *route == "forward_backward")
        }
        ("POST", [route]) => call(state, asked, route, &json_of(asked)?),
        _ => refuse(404, "Not Found"),
    }
}

fn json_of(asked: &Asked) -> Result<Value, (u16, String)> {
    serde_json::from_slice(&asked.body).map_err(|_| (422, "JSON decode error".to_owned()))
}

fn row_of_message(datum: &crate::tinker::wire::Datum) -> Option<FakeRow> {
    let text = datum.model_input.first()?.encoded_text.as_ref()?;
    let read = text.tokens.as_chunks::<4>().0.iter().map(|&w| i32::from_le_bytes(w) as u32).collect();
    let dense = |t: &Tensor, dtype| t.dense.clone().filter(|_| t.dtype == dtype);
    let floats = |name: &str| read_floats(&dense(datum.loss_fn_inputs.get(name)?, FLOAT32)?);
    let next = read_integers(&dense(datum.loss_fn_inputs.get("target_tokens")?, INT64)?)?;
    fitting(
        read,
        next.into_iter().map(|t| t as u32).collect(),
        floats("weights"),
        floats("logprobs")?,
        floats("advantages")?,
    )
}

fn row_of_json(datum: &Value) -> Option<FakeRow> {
    let ids = |v: &Value| v.as_array()?.iter().map(|t| Some(t.as_u64()? as u32)).collect::<Option<Vec<u32>>>();
    let floats = |name: &str| {
        let data = datum["loss_fn_inputs"][name]["data"].as_array()?;
        data.iter().map(|x| Some(x.as_f64()? as f32)).collect::<Option<Vec<f32>>>()
    };
    let read = ids(&datum["model_input"]["chunks"][0]["tokens"])?;
    let next = ids(&datum["loss_fn_inputs"]["target_tokens"]["data"])?;
    fitting(read, next, floats("weights"), floats("logprobs")?, floats("advantages")?)
}

fn fitting(
    read: Vec<u32>,
    next: Vec<u32>,
    weights: Option<Vec<f32>>,
    logprobs: Vec<f32>,
    advantages: Vec<f32>,
) -> Option<FakeRow> {
    let n = read.len();
    let weights = weights.unwrap_or_else(|| vec![1.0; n]);
    let fits = n > 0 && [next.len(), weights.len(), logprobs.len(), advantages.len()].iter().all(|&m| m == n);
    fits.then_some(FakeRow { read, next, weights, logprobs, advantages })
}

/// The future of a numbered request that was made before; an error where the number was another request's.
fn known(state: &State, asked: &Asked, id: &str, seq_id: i64) -> Result<Option<usize>, (u16, String)> {
    match state.numbers.get(&(id.to_owned(), seq_id)).filter(|_| state.settings.numbered && seq_id > 0) {
        None => Ok(None),
        Some((print, future)) if *print == fingerprint(asked) => Ok(Some(*future)),
        Some(_) => refuse(409, "Training request sequence number was reused"),
    }
}

fn fingerprint(asked: &Asked) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&asked.path, &asked.body).hash(&mut hasher);
    hasher.finish()
}

fn future(state: &mut State, asked: &Asked, id: &str, seq_id: i64, result: Result<Told, String>) -> Answered {
    let number = state.futures.len();
    // The first is told last.
    let late = state.settings.late.saturating_sub(number % 4);
    state.futures.push(Future { n_polls: 0, late, result });
    state.numbers.insert((id.to_owned(), seq_id), (fingerprint(asked), number));
    promised(number)
}

fn promised(number: usize) -> Answered {
    good(&json!({ "future_id": number.to_string(), "status": "pending", "request_id": number.to_string() }))
}

fn pass(
    state: &mut State,
    asked: &Asked,
    id: &str,
    seq_id: i64,
    rows: Vec<FakeRow>,
    loss: &str,
    learn: bool,
) -> Answered {
    if let Some(number) = known(state, asked, id, seq_id)? {
        return promised(number);
    }
    if !["cross_entropy", "importance_sampling", "ppo", "cispo"].contains(&loss) {
        return refuse(422, "Input should be 'cross_entropy', 'importance_sampling', 'ppo' or 'cispo'");
    }
    let Some(model) = state.models.get_mut(id) else { return refuse(404, "Model not found") };
    model.is_used = true;
    let result = model.pass(rows, loss, learn).map(Told::Logprobs).map_err(|e| e.to_string());
    state.counts.n_passes += usize::from(learn && result.is_ok());
    future(state, asked, id, seq_id, result)
}

fn call(state: &mut State, asked: &Asked, route: &str, body: &Value) -> Answered {
    let id = body["model_id"].as_str().unwrap_or_default().to_owned();
    let seq_id = body["seq_id"].as_i64().unwrap_or(0);
    let name = body["path"].as_str().unwrap_or_default().to_owned();
    match route {
        "create_session" => return good(&json!({ "session_id": "session_1" })),
        "session_heartbeat" => return good(&json!({})),
        "create_model" => return create(state, asked, body),
        "optim_step" | "unload_model" | "load_weights" | "save_weights" | "save_weights_for_sampler" => {}
        _ => return refuse(404, "Not Found"),
    }
    if route == "optim_step"
        && let Some(number) = known(state, asked, &id, seq_id)?
    {
        return promised(number);
    }
    if !state.models.contains_key(&id) {
        return refuse(404, "Model not found");
    }
    let key = format!("{id}/{name}");
    if route.starts_with("save") && (state.states.contains_key(&key) || state.archives.contains_key(&key)) {
        return refuse(409, "Checkpoint already exists");
    }
    if route == "load_weights" && state.models[&id].is_used {
        return refuse(400, "LoadWeights is not permitted with this seq_id");
    }
    let result = perform(state, route, &id, &name, body);
    future(state, asked, &id, seq_id, result.map(Told::Json))
}

fn create(state: &mut State, asked: &Asked, body: &Value) -> Answered {
    let id = format!("model_{}", state.futures.len());
    let slots = state.settings.slots;
    let result = match state.models.len() < slots {
        false => Err(format!("Maximum number of LoRA adapters ({}) reached", slots + 1)),
        true if body["base_model"] != "fake" => Err("another base model".to_owned()),
        true => FakeModel::new(&state.settings, &body["lora_config"]).map_err(|e| e.to_string()),
    };
    let result = result.map(|model| {
        state.counts.n_created += 1;
        state.models.insert(id.clone(), model);
        Told::Json(json!({ "model_id": id, "base_model": "fake" }))
    });
    let promised = future(state, asked, &id, 0, result)?;
    let mut answer: Value = serde_json::from_slice(&promised.2).unwrap_or_default();
    answer["model_id"] = json!(id);
    good(&answer)
}

fn perform(state: &mut State, route: &str, id: &str, name: &str, body: &Value) -> Result<Value, String> {
    let words = |e: &dyn std::fmt::Display| e.to_string();
    if route == "unload_model" {
        state.models.remove(id);
        state.counts.n_unloaded += 1;
        return Ok(json!({ "model_id": id, "type": "unload_model" }));
    }
    let model = state.models.get_mut(id).ok_or("Model not found")?;
    model.is_used = true;
    match route {
        "optim_step" => {
            let (metrics, n_rows) = model.step(&state.settings, &body["adam_params"]).map_err(|e| words(&e))?;
            state.counts.n_steps += 1;
            state.counts.n_rows += n_rows;
            Ok(metrics)
        }
        "load_weights" => {
            let from = name.strip_prefix("tinker://").unwrap_or_default().replace("/weights/", "/");
            let dir = state.states.get(&from).ok_or("Checkpoint not found")?;
            model.engine.load_adapter(dir.path()).map_err(|e| words(&e))?;
            model.engine.load_optimizer(dir.path()).map_err(|e| words(&e))?;
            Ok(json!({ "path": name }))
        }
        _ => {
            let dir = tempfile::tempdir().map_err(|e| words(&e))?;
            model.engine.save(dir.path(), true).map_err(|e| words(&e))?;
            let key = format!("{id}/{name}");
            if route == "save_weights" {
                state.states.insert(key, dir);
                return Ok(json!({ "path": format!("tinker://{id}/weights/{name}"), "type": "save_weights" }));
            }
            let archive = archive(dir.path()).map_err(|e| words(&e))?;
            state.archives.insert(key, archive);
            Ok(json!({ "path": format!("tinker://{id}/sampler_weights/{name}"), "type": route }))
        }
    }
}

/// The two files of PEFT; the modules are left out of the description, as SkyRL leaves them out.
fn archive(dir: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let mut config: Value = serde_json::from_slice(&std::fs::read(dir.join("adapter_config.json"))?)?;
    config["target_modules"] = Value::Null;
    let files = [
        ("adapter_config.json", config.to_string().into_bytes()),
        ("adapter_model.safetensors", std::fs::read(dir.join("adapter_model.safetensors"))?),
    ];
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    for (name, bytes) in &files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &bytes[..])?;
    }
    tar.into_inner()?.finish()
}

fn retrieve(state: &mut State, body: &Value) -> Answered {
    let number = body["request_id"].as_str().and_then(|n| n.parse::<usize>().ok());
    let dialect = state.settings.dialect;
    let Some(future) = number.and_then(|n| state.futures.get_mut(n)) else { return refuse(404, "Future not found") };
    future.n_polls += 1;
    if future.n_polls <= future.late {
        // The two ways in which servers say so.
        return match future.n_polls % 2 {
            0 => refuse(408, "Timeout waiting for result"),
            _ => good(&json!({ "type": "try_again", "request_id": body["request_id"], "queue_state": "active" })),
        };
    }
    match &future.result {
        Err(why) => refuse(400, why),
        Ok(Told::Json(value)) => good(value),
        Ok(Told::Logprobs(rows)) if dialect == Dialect::Protobuf => {
            let output = ForwardBackwardOutput::of(&[("logprobs", rows)], rows.len());
            Ok((200, PROTOBUF, output.encode_to_vec()))
        }
        Ok(Told::Logprobs(rows)) => {
            let outputs: Vec<Value> = rows
                .iter()
                .map(|row| json!({ "logprobs": { "data": row, "dtype": "float32", "shape": [row.len()] } }))
                .collect();
            good(&json!({ "loss_fn_output_type": "scalar", "loss_fn_outputs": outputs, "metrics": {} }))
        }
    }
}
