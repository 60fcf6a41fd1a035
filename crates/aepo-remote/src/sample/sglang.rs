//! How does SGLang speak? Its own `POST /generate` with ids both ways, and its routes about weights.
//!
//! The wire is that of SGLang 0.5 (`sglang/srt/managers/io_struct.py`, `tokenizer_manager.py` and
//! `entrypoints/http_server.py` of its package), read and not driven.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Http, Reply};
use super::reading::Mode;
use super::wire::{Answer, Ask, Token, Trouble, likeliest};

/// The body of a request. A seed is heeded where the server runs with `--enable-deterministic-inference`.
pub(crate) fn body(ask: &Ask<'_>) -> Value {
    let texts: &[String] = if ask.by_text { &ask.stop.texts } else { &[] };
    let mut body = json!({
        "rid": ask.id,
        "input_ids": ask.prompt,
        "sampling_params": {
            "max_new_tokens": ask.max_tokens,
            "temperature": ask.params.temperature,
            "top_p": ask.params.top_p,
            // −1 keeps the whole vocabulary there.
            "top_k": if ask.params.top_k == 0 { -1 } else { ask.params.top_k as i64 },
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "sampling_seed": ask.seed.0 as i64,
            "stop": texts,
            "stop_token_ids": ask.stop.ids,
            "no_stop_trim": true,
            "skip_special_tokens": false,
            "ignore_eos": true,
        },
        "return_logprob": true,
        "logprob_start_len": -1,
        "top_logprobs_num": ask.n_top,
        "return_text_in_logprobs": false,
        "stream": false,
    });
    if ask.is_adapter {
        body["lora_path"] = json!(ask.model);
    }
    body
}

/// A log-probability, an id, and a text or none.
type Entry = (f32, u32, Option<String>);

#[derive(Deserialize)]
struct Generated {
    output_ids: Option<Vec<u32>>,
    meta_info: Meta,
}

#[derive(Deserialize)]
struct Meta {
    id: String,
    finish_reason: Option<Finish>,
    prompt_tokens: Option<usize>,
    cached_tokens: Option<u64>,
    weight_version: Option<String>,
    output_token_logprobs: Option<Vec<Entry>>,
    output_top_logprobs: Option<Vec<Option<Vec<Entry>>>>,
}

#[derive(Deserialize)]
struct Finish {
    r#type: String,
    #[serde(default)]
    message: Option<String>,
}

/// Reads an answer, which must be to this request.
pub(crate) fn read(reply: &Reply, ask: &Ask<'_>) -> Result<Answer, Trouble> {
    if !reply.is_good() {
        return Err(match reply.trouble() {
            // A name that it does not know is a bad request there.
            Trouble::Refused(why) if ask.is_adapter && reply.status == 400 => Trouble::Weights(why),
            trouble => trouble,
        });
    }
    let bad = |why: &str| Trouble::Replica(format!("an answer that cannot be: {why}"));
    let Generated { output_ids, meta_info: meta } = reply.json()?;
    if meta.id != ask.id {
        return Err(bad("it is to another request"));
    }
    if meta.prompt_tokens.is_some_and(|n| n != ask.prompt.len()) {
        return Err(bad("it goes on from another prompt"));
    }
    let finish = meta.finish_reason.ok_or_else(|| bad("it does not say why it ended"))?;
    let aborted = match finish.r#type.as_str() {
        "stop" | "length" => false,
        "abort" => true,
        other => return Err(bad(&format!("it ended by `{other}`"))),
    };
    let (Some(drawn), Some(rows)) = (meta.output_token_logprobs, meta.output_top_logprobs) else {
        // What is taken from the queue has sampled nothing.
        return Err(match aborted {
            true => Trouble::Replica(format!("aborted: {}", finish.message.unwrap_or_default())),
            false => bad("it has no log-probabilities"),
        });
    };
    if drawn.len() != rows.len() {
        return Err(bad("it has not as many likeliest tokens as tokens"));
    }
    // Releases differ in whether the ids hold the one that ended the continuation; the log-probabilities always do.
    let ids: Vec<u32> = drawn.iter().map(|entry| entry.1).collect();
    if output_ids.is_some_and(|own| own != ids && own != ids[..ids.len().saturating_sub(1)]) {
        return Err(bad("log-probabilities are not those of its ids"));
    }
    let token = |((logprob, id, _), row): (Entry, Option<Vec<Entry>>)| {
        let row = row.ok_or_else(|| bad("a token has no likeliest tokens"))?;
        let top = likeliest(row.into_iter().map(|(logprob, id, _)| (id, logprob)), id, ask.n_top);
        Ok(Token { id, logprob, top })
    };
    let tokens = drawn.into_iter().zip(rows).map(token).collect::<Result<_, _>>()?;
    Ok(Answer { tokens, aborted, n_cached: meta.cached_tokens, label: meta.weight_version })
}

/// Whether it is well, and under which label its weights run.
pub(crate) async fn greet(http: &Http, within: Duration) -> Result<String, Trouble> {
    http.known("/health", within).await?;
    let info: Value = http.known("/get_model_info", within).await?.json()?;
    Ok(info["weight_version"].as_str().unwrap_or_default().to_owned())
}

/// See [`Mode`]: the same prompt at two temperatures.
pub(crate) async fn mode(http: &Http, ask: &Ask<'_>, within: Duration) -> Result<Mode, Trouble> {
    let mut rows = Vec::new();
    for temperature in [1.0, 0.5] {
        let params = aepo::policy::SampleParams { temperature, ..ask.params };
        let ask = Ask { params, ..*ask };
        let reply = http.post_for("/generate", &body(&ask), within, super::vllm::max_bytes(&ask)).await?;
        rows.push(read(&reply, &ask)?.tokens.into_iter().next().map(|t| t.top).unwrap_or_default());
    }
    Ok(Mode::measured(&rows[0], &rows[1]))
}

/// A call that answers `{"success": …, "message": …}`.
async fn call(http: &Http, path: &str, body: &Value, within: Duration) -> Result<(), Trouble> {
    let answer: Value = http.done(path, body, within).await?.json()?;
    match answer["success"].as_bool() {
        Some(true) => Ok(()),
        _ => {
            let why = answer["message"].as_str().or(answer["error_message"].as_str()).unwrap_or("without a reason");
            Err(Trouble::Replica(format!("{path} failed: {why}")))
        }
    }
}

/// Loads LoRA's matrices under a name of their own.
pub(crate) async fn load_adapter(http: &Http, name: &str, dir: &Path, within: Duration) -> Result<(), Trouble> {
    let body = json!({ "lora_name": name, "lora_path": dir.display().to_string() });
    call(http, "/load_lora_adapter", &body, within).await
}

/// Forgets LoRA's matrices of that name.
pub(crate) async fn unload_adapter(http: &Http, name: &str, within: Duration) -> Result<(), Trouble> {
    call(http, "/unload_lora_adapter", &json!({ "lora_name": name }), within).await
}

/// Reads whole weights from a directory, labelled, unless it has those of that label. The server lets requests under
/// way end first, and forgets its prefix cache.
pub(crate) async fn load_model(http: &Http, label: &str, dir: &Path, within: Duration) -> Result<(), Trouble> {
    if greet(http, within).await? == label {
        return Ok(());
    }
    let body = json!({
        "model_path": dir.display().to_string(),
        "weight_version": label,
        "flush_cache": true,
        "abort_all_requests": false,
    });
    call(http, "/update_weights_from_disk", &body, within).await
}
