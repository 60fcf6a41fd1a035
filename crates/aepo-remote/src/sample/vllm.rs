//! How does vLLM speak? OpenAI's `POST /v1/completions` with ids both ways, and its own routes about weights.
//!
//! The wire is that of vLLM 0.32 (`vllm/entrypoints/openai/completion`, `serve/lora`, `serve/dev` and `rl/online` of its
//! package). Every sampling parameter is sent, because what is left out is taken from the model's
//! `generation_config.json` there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Http, Reply};
use super::reading::Mode;
use super::wire::{Answer, Ask, Token, Trouble, likeliest};

/// The body of a request.
pub(crate) fn body(ask: &Ask<'_>) -> Value {
    let texts: &[String] = if ask.by_text { &ask.stop.texts } else { &[] };
    json!({
        "model": ask.model,
        "prompt": ask.prompt,
        "max_tokens": ask.max_tokens,
        "temperature": ask.params.temperature,
        "top_p": ask.params.top_p,
        "top_k": ask.params.top_k,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        // A signed number there; all 64 bits count.
        "seed": ask.seed.0 as i64,
        "logprobs": ask.n_top,
        "return_token_ids": true,
        "return_tokens_as_token_ids": true,
        "stop": texts,
        "stop_token_ids": ask.stop.ids,
        "include_stop_str_in_output": true,
        "skip_special_tokens": false,
        "ignore_eos": true,
        "request_id": ask.id,
    })
}

/// Bytes that an answer may have: ids of the prompt, and for each token its id and so many log-probabilities.
pub(crate) fn max_bytes(ask: &Ask<'_>) -> usize {
    (1 << 16) + 12 * ask.prompt.len() + ask.max_tokens * (64 * (ask.n_top + 4))
}

#[derive(Deserialize)]
struct Completed {
    id: String,
    model: String,
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<String>,
    token_ids: Option<Vec<u32>>,
    prompt_token_ids: Option<Vec<u32>>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Logprobs {
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

/// Reads an answer, which must be to this request, of these weights, and one.
pub(crate) fn read(reply: &Reply, ask: &Ask<'_>) -> Result<Answer, Trouble> {
    if !reply.is_good() {
        return Err(reply.trouble());
    }
    let bad = |why: &str| Trouble::Replica(format!("an answer that cannot be: {why}"));
    let completed: Completed = reply.json()?;
    if !completed.id.contains(ask.id) {
        return Err(bad("it is to another request"));
    }
    if completed.model != ask.model {
        return Err(Trouble::Weights(format!("`{}` answered instead of `{}`", completed.model, ask.model)));
    }
    let [choice] = &completed.choices[..] else {
        return Err(bad("it holds more or less than one continuation"));
    };
    if choice.prompt_token_ids.as_deref() != Some(ask.prompt) {
        return Err(bad("it goes on from another prompt"));
    }
    let (Some(ids), Some(logprobs)) = (&choice.token_ids, &choice.logprobs) else {
        return Err(bad("it has no ids or no log-probabilities"));
    };
    if ids.len() != logprobs.token_logprobs.len() || ids.len() != logprobs.top_logprobs.len() {
        return Err(bad("it has not as many log-probabilities as ids"));
    }
    let token = |i: usize, id: u32| {
        let (Some(logprob), Some(top)) = (logprobs.token_logprobs[i], &logprobs.top_logprobs[i]) else {
            return Err(bad("a token has no log-probability"));
        };
        let named = |(name, logprob): (&String, &f32)| {
            let id = name.strip_prefix("token_id:").and_then(|id| id.parse().ok());
            id.map(|id: u32| (id, *logprob)).ok_or_else(|| bad("log-probabilities do not name ids"))
        };
        let all: Vec<(u32, f32)> = top.iter().map(named).collect::<Result<_, _>>()?;
        if !all.contains(&(id, logprob)) {
            return Err(bad("log-probabilities are not those of its ids"));
        }
        Ok(Token { id, logprob, top: likeliest(all.into_iter(), id, ask.n_top) })
    };
    let tokens = ids.iter().enumerate().map(|(i, &id)| token(i, id)).collect::<Result<_, _>>()?;
    let aborted = match choice.finish_reason.as_deref() {
        Some("stop" | "length") => false,
        Some("abort") => true,
        other => return Err(bad(&format!("it ended by `{}`", other.unwrap_or("nothing")))),
    };
    let details = completed.usage.and_then(|usage| usage.prompt_tokens_details);
    Ok(Answer { tokens, aborted, n_cached: details.and_then(|d| d.cached_tokens), label: None })
}

/// What is asked once about a replica.
pub(crate) struct Served {
    /// The name of the model under all adapters.
    pub model: String,
    /// Longest path, tokens.
    pub context_len: Option<usize>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Card>,
}

#[derive(Deserialize)]
struct Card {
    id: String,
    root: Option<String>,
    parent: Option<String>,
    max_model_len: Option<usize>,
}

/// Whether it is well, and what it serves: the model of this name, or its only one.
pub(crate) async fn greet(http: &Http, wanted: Option<&str>, within: Duration) -> Result<Served, Trouble> {
    http.known("/health", within).await?;
    let models: Models = http.known("/v1/models", within).await?.json()?;
    let own = models.data.iter().filter(|card| card.parent.is_none());
    let names = || own.clone().map(|card| card.id.as_str()).collect::<Vec<_>>().join("`, `");
    let found = match wanted {
        Some(name) => own.clone().find(|card| card.id == name),
        // A model may be served under several names; the first is the one that answers give.
        None => own.clone().next(),
    };
    match found {
        Some(card) => Ok(Served { model: card.id.clone(), context_len: card.max_model_len }),
        None => Err(Trouble::Replica(format!("it serves `{}`, not `{}`", names(), wanted.unwrap_or("any model")))),
    }
}

/// See [`Mode`]: the same prompt at two temperatures.
pub(crate) async fn mode(http: &Http, ask: &Ask<'_>, within: Duration) -> Result<Mode, Trouble> {
    let mut rows = Vec::new();
    for temperature in [1.0, 0.5] {
        let params = aepo::policy::SampleParams { temperature, ..ask.params };
        let ask = Ask { params, ..*ask };
        let reply = http.post_for("/v1/completions", &body(&ask), within, max_bytes(&ask)).await?;
        rows.push(read(&reply, &ask)?.tokens.into_iter().next().map(|t| t.top).unwrap_or_default());
    }
    Ok(Mode::measured(&rows[0], &rows[1]))
}

/// Loads LoRA's matrices under a name of their own. Loading under a name that is known already keeps blocks of its
/// prefix cache that belong to other weights, so it is not asked for; the same name with the same directory is what was
/// loaded before.
pub(crate) async fn load_adapter(http: &Http, name: &str, dir: &Path, within: Duration) -> Result<(), Trouble> {
    let path = dir.display().to_string();
    let models: Models = http.known("/v1/models", within).await?.json()?;
    match models.data.iter().find(|card| card.id == name) {
        Some(card) if card.root.as_deref() == Some(&path) => return Ok(()),
        Some(card) => {
            let root = card.root.as_deref().unwrap_or("nowhere");
            return Err(Trouble::Replica(format!("`{name}` is loaded there from {root}, not from {path}")));
        }
        None => {}
    }
    let reply = http.post("/v1/load_lora_adapter", &json!({ "lora_name": name, "lora_path": path }), within).await?;
    match reply.is_good() {
        true => Ok(()),
        false => Err(Trouble::Replica(format!(
            "/v1/load_lora_adapter: {}; vLLM needs --enable-lora, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and to see {path}",
            match reply.trouble() {
                Trouble::Replica(why) | Trouble::Weights(why) | Trouble::Refused(why) => why,
            }
        ))),
    }
}

/// Forgets LoRA's matrices of that name.
pub(crate) async fn unload_adapter(http: &Http, name: &str, within: Duration) -> Result<(), Trouble> {
    http.done("/v1/unload_lora_adapter", &json!({ "lora_name": name }), within).await.map(|_| ())
}

/// Reads whole weights from a directory, labelled, unless it has those of that label. Whoever else uses the replica
/// waits meanwhile; nothing of the prefix cache is left.
pub(crate) async fn load_model(http: &Http, label: &str, dir: &Path, within: Duration) -> Result<(), Trouble> {
    if weight_label(http, within).await? == label {
        return Ok(());
    }
    can_reload(dir)?;
    http.done("/pause?mode=wait", &json!({}), within).await?;
    let path = dir.display().to_string();
    let update = async {
        let call = json!({ "method": "reload_weights", "kwargs": { "weights_path": path } });
        http.done("/collective_rpc", &call, within).await?;
        let reset: Value = http.done("/reset_prefix_cache", &json!({}), within).await?.json()?;
        if reset["success"] == false {
            return Err(Trouble::Replica("/reset_prefix_cache: blocks are still in use".to_owned()));
        }
        http.done("/update_weight_version", &json!({ "new_version": label }), within).await
    };
    let updated = update.await;
    // A replica that stays paused is worse than one with old weights, which its label gives away.
    let resumed = http.done("/resume", &json!({}), within).await;
    updated?;
    resumed?;
    match weight_label(http, within).await? == label {
        true => Ok(()),
        false => Err(Trouble::Replica("the label of its weights did not change".to_owned())),
    }
}

/// A head that is the embedding is not read anew: vLLM 0.32 puts the old head back in its place, because the directory has
/// no weights of that name, and where the head was packed (on processors, as was seen) it keeps the old numbers. The model
/// would sample with half of the old weights, and nothing would say so.
fn can_reload(dir: &Path) -> Result<(), Trouble> {
    let path = dir.join("config.json");
    let unread = |why: String| Trouble::Replica(format!("{}: {why}", path.display()));
    let text = std::fs::read(&path).map_err(|e| unread(e.to_string()))?;
    let config: Value = serde_json::from_slice(&text).map_err(|e| unread(e.to_string()))?;
    match config["tie_word_embeddings"] == true {
        true => Err(Trouble::Replica(
            "vLLM may keep the old output head where it is the embedding (tie_word_embeddings); serve the model with a head \
             of its own, or publish LoRA's matrices"
                .to_owned(),
        )),
        false => Ok(()),
    }
}

/// What the weights there are called.
async fn weight_label(http: &Http, within: Duration) -> Result<String, Trouble> {
    let info: Value = http.known("/weight_info", within).await?.json()?;
    let label = info["weight_version"].as_str().map(str::to_owned);
    label.ok_or_else(|| Trouble::Replica("/weight_info names no version".to_owned()))
}
