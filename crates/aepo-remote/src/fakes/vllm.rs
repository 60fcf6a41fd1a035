//! What does vLLM 0.32 answer? Its OpenAI completions with ids, and its routes about adapters and weights.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aepo::policy::SampleParams;
use aepo::seed::Seed;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use super::fault::{Fault, send, status};
use super::model::{Said, Work};
use super::{State, held, ids, texts, unpenalised};

/// The name of the model under all adapters.
const MODEL: &str = "policy";

struct Vllm {
    state: Arc<State>,
    /// Directory of each adapter, by name.
    adapters: Mutex<BTreeMap<String, String>>,
    label: Mutex<String>,
    n_paused: AtomicU64,
}

pub(super) fn routes(state: Arc<State>) -> Router {
    let vllm = Vllm {
        state,
        adapters: Mutex::default(),
        label: Mutex::new("default".to_owned()),
        n_paused: AtomicU64::new(0),
    };
    Router::new()
        .route("/health", get(async || ""))
        .route("/v1/models", get(models))
        .route("/v1/completions", post(completions))
        .route("/v1/load_lora_adapter", post(load_adapter))
        .route("/v1/unload_lora_adapter", post(unload_adapter))
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/collective_rpc", post(collective_rpc))
        .route("/reset_prefix_cache", post(reset_prefix_cache))
        .route("/update_weight_version", post(update_weight_version))
        .route("/weight_info", get(weight_info))
        .with_state(Arc::new(vllm))
}

type On = Shared<Arc<Vllm>>;

async fn models(Shared(vllm): On) -> Json<Value> {
    let card = |id: &str, root: &str, parent: Option<&str>, max_model_len: Option<usize>| {
        json!({ "id": id, "object": "model", "created": 1, "owned_by": "vllm", "root": root, "parent": parent,
            "max_model_len": max_model_len, "permission": [] })
    };
    let mut data = vec![card(MODEL, "/models/policy", None, Some(256))];
    data.extend(held(&vllm.adapters).iter().map(|(name, path)| card(name, path, Some(MODEL), None)));
    Json(json!({ "object": "list", "data": data }))
}

async fn completions(Shared(vllm): On, headers: HeaderMap, body: Bytes) -> Response {
    let state = &vllm.state;
    let fault = match state.begin() {
        Ok(fault) => fault,
        Err(refusal) => return refusal.into_response(),
    };
    if let Some(Fault::Repeats) = fault {
        let key = headers.get("authorization").and_then(|key| key.to_str().ok()).unwrap_or_default();
        return status(401, &format!("this is no good key: {key}"));
    }
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else { return status(400, "no JSON") };
    let model = asked["model"].as_str().unwrap_or(MODEL).to_owned();
    if model != MODEL && !held(&vllm.adapters).contains_key(&model) {
        return status(404, &format!("The model `{model}` does not exist."));
    }
    let work = match work(&asked, &model) {
        Ok(work) => work,
        Err(why) => return status(400, why),
    };
    let (prompt, n_top) = (work.prompt.clone(), work.n_top);
    let said = match state.sampled(work, fault).await {
        Ok(said) => said,
        Err(refusal) => return refusal.into_response(),
    };
    let mut answer = answer(&asked, &model, &prompt, &said, n_top);
    match fault {
        Some(Fault::Twice) => {
            let copy = answer["choices"][0].clone();
            if let Some(choices) = answer["choices"].as_array_mut() {
                choices.push(copy);
            }
        }
        Some(Fault::Astray) => answer["id"] = json!("cmpl-of-somebody-else"),
        Some(Fault::Skewed) => answer["model"] = json!("policy-of-yesterday"),
        Some(Fault::Short) => {
            if let Some(rows) = answer["choices"][0]["logprobs"]["token_logprobs"].as_array_mut() {
                rows.pop();
            }
        }
        Some(Fault::Aborted) => abort(&mut answer["choices"][0]),
        _ => {}
    }
    send(state, answer, fault)
}

/// Leaves the first half of a continuation.
fn abort(choice: &mut Value) {
    let n = choice["token_ids"].as_array().map_or(0, Vec::len).div_ceil(2);
    for place in ["/token_ids", "/logprobs/tokens", "/logprobs/token_logprobs", "/logprobs/top_logprobs"] {
        if let Some(list) = choice.pointer_mut(place).and_then(Value::as_array_mut) {
            list.truncate(n);
        }
    }
    choice["finish_reason"] = json!("abort");
}

/// What vLLM's `CompletionRequest` says, of which only what this fake can do is allowed.
fn work(asked: &Value, model: &str) -> Result<Work, &'static str> {
    let number = |key: &str, default: f64| asked[key].as_f64().unwrap_or(default);
    unpenalised(asked)?;
    if asked["ignore_eos"] != true || asked["skip_special_tokens"] != false {
        return Err("this fake has no end of a text of its own");
    }
    if asked["return_token_ids"] != true || asked["return_tokens_as_token_ids"] != true {
        return Err("this fake speaks in ids");
    }
    let texts = texts(&asked["stop"]);
    if !texts.is_empty() && asked["include_stop_str_in_output"] != true {
        return Err("this fake does not cut what it says");
    }
    Ok(Work {
        name: if model == MODEL { String::new() } else { model.to_owned() },
        prompt: ids(&asked["prompt"]).filter(|prompt| !prompt.is_empty()).ok_or("Either prompt or prompt_embeds")?,
        max_tokens: asked["max_tokens"].as_u64().unwrap_or(16) as usize,
        ids: ids(&asked["stop_token_ids"]).unwrap_or_default(),
        texts,
        params: SampleParams {
            temperature: number("temperature", 1.0) as f32,
            top_p: number("top_p", 1.0) as f32,
            top_k: asked["top_k"].as_u64().unwrap_or(0) as usize,
            top_entropy: false,
        },
        seed: Seed(asked["seed"].as_i64().ok_or("this fake needs a seed")? as u64),
        n_top: asked["logprobs"].as_u64().ok_or("this fake gives log-probabilities")? as usize,
    })
}

fn answer(asked: &Value, model: &str, prompt: &[u32], said: &Said, n_top: usize) -> Value {
    let name = |id: u32| format!("token_id:{id}");
    let ids: Vec<u32> = said.tokens.iter().map(|t| t.id).collect();
    let row = |top: &Vec<(u32, f32)>| {
        let number = |&(id, logprob): &(u32, f32)| (name(id), json!(f64::from(logprob.max(-9999.0))));
        Value::Object(top.iter().map(number).collect::<Map<String, Value>>())
    };
    debug_assert!(said.tokens.iter().all(|t| t.top.len() <= n_top + 1));
    json!({
        "id": format!("cmpl-{}", asked["request_id"].as_str().unwrap_or("0")),
        "object": "text_completion",
        "created": 1,
        "model": model,
        "choices": [{
            "index": 0,
            "text": "",
            "logprobs": {
                "text_offset": vec![0; ids.len()],
                "token_logprobs": said.tokens.iter().map(|t| f64::from(t.logprob)).collect::<Vec<_>>(),
                "tokens": ids.iter().map(|&id| name(id)).collect::<Vec<_>>(),
                "top_logprobs": said.tokens.iter().map(|t| row(&t.top)).collect::<Vec<_>>(),
            },
            "finish_reason": if said.by_length { "length" } else { "stop" },
            "stop_reason": null,
            "token_ids": ids,
            "prompt_logprobs": null,
            "prompt_token_ids": prompt,
        }],
        "usage": {
            "prompt_tokens": prompt.len(),
            "total_tokens": prompt.len() + said.tokens.len(),
            "completion_tokens": said.tokens.len(),
            "prompt_tokens_details": { "cached_tokens": said.n_cached },
        },
        "kv_transfer_params": null,
    })
}

async fn load_adapter(Shared(vllm): On, Json(asked): Json<Value>) -> Response {
    let (Some(name), Some(path)) = (asked["lora_name"].as_str(), asked["lora_path"].as_str()) else {
        return status(400, "Both 'lora_name' and 'lora_path' must be provided.");
    };
    vllm.state.note(format!("load {name}"));
    if held(&vllm.adapters).contains_key(name) {
        return status(400, &format!("The lora adapter '{name}' has already been loaded."));
    }
    if let Err(why) = vllm.state.model.load(name.to_owned(), PathBuf::from(path)).await {
        return status(500, &why);
    }
    held(&vllm.adapters).insert(name.to_owned(), path.to_owned());
    format!("Success: LoRA adapter '{name}' added successfully.").into_response()
}

async fn unload_adapter(Shared(vllm): On, Json(asked): Json<Value>) -> Response {
    let name = asked["lora_name"].as_str().unwrap_or_default();
    vllm.state.note(format!("unload {name}"));
    if held(&vllm.adapters).remove(name).is_none() {
        return status(404, &format!("The lora adapter '{name}' cannot be found."));
    }
    vllm.state.model.unload(name.to_owned());
    format!("Success: LoRA adapter '{name}' removed successfully.").into_response()
}

async fn pause(Shared(vllm): On) -> Json<Value> {
    vllm.state.note("pause".to_owned());
    vllm.n_paused.store(1, Ordering::Relaxed);
    Json(json!({ "status": "paused" }))
}

async fn resume(Shared(vllm): On) -> Json<Value> {
    vllm.state.note("resume".to_owned());
    vllm.n_paused.store(0, Ordering::Relaxed);
    Json(json!({ "status": "resumed" }))
}

async fn collective_rpc(Shared(vllm): On, Json(asked): Json<Value>) -> Response {
    let path = asked["kwargs"]["weights_path"].as_str().unwrap_or_default().to_owned();
    vllm.state.note(format!("rpc {}", asked["method"].as_str().unwrap_or_default()));
    if vllm.n_paused.load(Ordering::Relaxed) == 0 {
        return status(500, "this fake is only reloaded while it is paused");
    }
    match vllm.state.model.load(String::new(), PathBuf::from(path)).await {
        Ok(()) => Json(json!({ "results": [null] })).into_response(),
        Err(why) => status(500, &why),
    }
}

async fn reset_prefix_cache(Shared(vllm): On) -> Json<Value> {
    vllm.state.note("reset".to_owned());
    vllm.state.model.forget_cache();
    Json(json!({ "success": true }))
}

async fn update_weight_version(Shared(vllm): On, Json(asked): Json<Value>) -> Json<Value> {
    let label = asked["new_version"].as_str().unwrap_or_default().to_owned();
    vllm.state.note(format!("label {label}"));
    *held(&vllm.label) = label.clone();
    Json(json!({ "success": true, "new_version": label }))
}

async fn weight_info(Shared(vllm): On) -> Json<Value> {
    Json(json!({ "weight_version": held(&vllm.label).clone() }))
}
