//! What does SGLang 0.5 answer? `POST /generate` with ids, and its routes about adapters and weights.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use aepo::policy::SampleParams;
use aepo::seed::Seed;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::fault::{Fault, send, status};
use super::model::{Said, Work};
use super::{State, held, ids, texts, unpenalised};

struct Sglang {
    state: Arc<State>,
    adapters: Mutex<BTreeSet<String>>,
    label: Mutex<String>,
}

pub(super) fn routes(state: Arc<State>) -> Router {
    let sglang = Sglang { state, adapters: Mutex::default(), label: Mutex::new("default".to_owned()) };
    Router::new()
        .route("/health", get(async || ""))
        .route("/get_model_info", get(model_info))
        .route("/generate", post(generate))
        .route("/load_lora_adapter", post(load_adapter))
        .route("/unload_lora_adapter", post(unload_adapter))
        .route("/update_weights_from_disk", post(update_weights))
        .with_state(Arc::new(sglang))
}

type On = Shared<Arc<Sglang>>;

async fn model_info(Shared(sglang): On) -> Json<Value> {
    Json(json!({ "model_path": "/models/policy", "is_generation": true, "weight_version": *held(&sglang.label) }))
}

async fn generate(Shared(sglang): On, body: Bytes) -> Response {
    let state = &sglang.state;
    let fault = match state.begin() {
        Ok(fault) => fault,
        Err(refusal) => return refusal.into_response(),
    };
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else { return status(400, "no JSON") };
    let adapter = asked["lora_path"].as_str().unwrap_or_default().to_owned();
    if !adapter.is_empty() && !held(&sglang.adapters).contains(&adapter) {
        return status(400, &format!("LoRA adapter {adapter} is not loaded"));
    }
    let work = match work(&asked, adapter) {
        Ok(work) => work,
        Err(why) => return status(400, why),
    };
    let n_prompt = work.prompt.len();
    let stops = work.ids.clone();
    // The label is that of the end of the request.
    let said = match state.sampled(work, fault).await {
        Ok(said) => said,
        Err(refusal) => return refusal.into_response(),
    };
    let mut answer = answer(&asked, n_prompt, &said, &stops, &held(&sglang.label));
    let meta = &mut answer["meta_info"];
    match fault {
        Some(Fault::Twice) => {
            let twice = json!([answer, answer]);
            return send(state, twice, fault);
        }
        Some(Fault::Astray) => meta["id"] = json!("of-somebody-else"),
        Some(Fault::Skewed) => meta["weight_version"] = json!("of-yesterday"),
        Some(Fault::Short) => {
            if let Some(rows) = meta["output_top_logprobs"].as_array_mut() {
                rows.pop();
            }
        }
        Some(Fault::Aborted) => {
            let n = said.tokens.len().div_ceil(2);
            for place in ["/output_ids", "/meta_info/output_token_logprobs", "/meta_info/output_top_logprobs"] {
                if let Some(list) = answer.pointer_mut(place).and_then(Value::as_array_mut) {
                    list.truncate(n);
                }
            }
            answer["meta_info"]["finish_reason"] = json!({ "type": "abort", "message": "Aborted on purpose" });
        }
        _ => {}
    }
    send(state, answer, fault)
}

/// What SGLang's `GenerateReqInput` says, of which only what this fake can do is allowed.
fn work(asked: &Value, name: String) -> Result<Work, &'static str> {
    let sampling = &asked["sampling_params"];
    unpenalised(sampling)?;
    if sampling["ignore_eos"] != true || sampling["no_stop_trim"] != true || sampling["skip_special_tokens"] != false {
        return Err("this fake neither cuts nor ends a text by itself");
    }
    if asked["return_logprob"] != true || asked["logprob_start_len"] != -1 {
        return Err("this fake gives log-probabilities of what it samples");
    }
    Ok(Work {
        name,
        prompt: ids(&asked["input_ids"]).filter(|prompt| !prompt.is_empty()).ok_or("no input_ids")?,
        max_tokens: sampling["max_new_tokens"].as_u64().unwrap_or(128) as usize,
        ids: ids(&sampling["stop_token_ids"]).unwrap_or_default(),
        texts: texts(&sampling["stop"]),
        params: SampleParams {
            temperature: sampling["temperature"].as_f64().unwrap_or(1.0) as f32,
            top_p: sampling["top_p"].as_f64().unwrap_or(1.0) as f32,
            top_k: usize::try_from(sampling["top_k"].as_i64().unwrap_or(-1)).unwrap_or(0),
            top_entropy: false,
        },
        seed: Seed(sampling["sampling_seed"].as_i64().ok_or("this fake needs a seed")? as u64),
        n_top: asked["top_logprobs_num"].as_u64().unwrap_or(0) as usize,
    })
}

fn answer(asked: &Value, n_prompt: usize, said: &Said, stops: &[u32], label: &str) -> Value {
    let entry = |id: u32, logprob: f32| json!([f64::from(logprob), id, null]);
    let mut ids: Vec<u32> = said.tokens.iter().map(|t| t.id).collect();
    let drawn: Vec<Value> = said.tokens.iter().map(|t| entry(t.id, t.logprob)).collect();
    let n_top = asked["top_logprobs_num"].as_u64().unwrap_or(0) as usize;
    // The k likeliest and no more, whether the sampled token is among them or not.
    let row = |top: &[(u32, f32)]| top.iter().take(n_top).map(|&(id, l)| entry(id, l)).collect::<Vec<_>>();
    let top: Vec<Vec<Value>> = said.tokens.iter().map(|t| row(&t.top)).collect();
    let last = ids.last().copied();
    let finish = match last.filter(|id| stops.contains(id)) {
        Some(id) => {
            // The id that ended it is left out of the ids.
            ids.pop();
            json!({ "type": "stop", "matched": id })
        }
        None if said.by_length => json!({ "type": "length", "length": said.tokens.len() }),
        None => json!({ "type": "stop", "matched": "a text" }),
    };
    json!({
        "text": "",
        "output_ids": ids,
        "meta_info": {
            "id": asked["rid"],
            "finish_reason": finish,
            "prompt_tokens": n_prompt,
            "weight_version": label,
            "num_retractions": 0,
            "input_token_logprobs": [],
            "output_token_logprobs": drawn,
            "input_top_logprobs": [],
            "output_top_logprobs": top,
            "completion_tokens": said.tokens.len(),
            "cached_tokens": said.n_cached,
            "e2e_latency": 0.01,
        },
    })
}

async fn load_adapter(Shared(sglang): On, Json(asked): Json<Value>) -> Json<Value> {
    let name = asked["lora_name"].as_str().unwrap_or_default().to_owned();
    let path = asked["lora_path"].as_str().unwrap_or_default();
    sglang.state.note(format!("load {name}"));
    if held(&sglang.adapters).contains(&name) {
        return Json(json!({ "success": false, "error_message": format!("LoRA adapter {name} is already loaded") }));
    }
    match sglang.state.model.load(name.clone(), PathBuf::from(path)).await {
        Ok(()) => {
            held(&sglang.adapters).insert(name);
            Json(json!({ "success": true, "error_message": "" }))
        }
        Err(why) => Json(json!({ "success": false, "error_message": why })),
    }
}

async fn unload_adapter(Shared(sglang): On, Json(asked): Json<Value>) -> Json<Value> {
    let name = asked["lora_name"].as_str().unwrap_or_default().to_owned();
    sglang.state.note(format!("unload {name}"));
    let known = held(&sglang.adapters).remove(&name);
    sglang.state.model.unload(name);
    Json(json!({ "success": known, "error_message": if known { "" } else { "is not loaded" } }))
}

async fn update_weights(Shared(sglang): On, Json(asked): Json<Value>) -> Json<Value> {
    let path = asked["model_path"].as_str().unwrap_or_default();
    let label = asked["weight_version"].as_str().unwrap_or_default();
    sglang.state.note(format!("update {label}"));
    match sglang.state.model.load(String::new(), PathBuf::from(path)).await {
        Ok(()) => {
            sglang.state.model.forget_cache();
            *held(&sglang.label) = label.to_owned();
            Json(json!({ "success": true, "message": "Succeeded to update model weights.", "num_paused_requests": 0 }))
        }
        Err(why) => Json(json!({ "success": false, "message": why })),
    }
}
