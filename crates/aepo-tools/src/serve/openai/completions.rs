//! What does `POST /v1/completions` ask for? Texts to be continued, token by token.

use std::sync::Arc;

use aepo::prompt::tokenizer::pick_guard;
use serde_json::Value;

use super::answer::{Asked, Kind};
use super::fields::Fields;
use super::options::{MAX_CHOICES, MAX_LIKELIEST, Options};
use super::{Served, check_room};
use crate::serve::refusal::Refusal;

/// Tokens of an answer where a request does not say, as in OpenAI's API.
const DEFAULT_MAX_TOKENS: usize = 16;

pub(super) fn read(served: &Served, bytes: &[u8]) -> Result<Asked, Refusal> {
    let mut fields = Fields::parse(bytes)?;
    served.check_model(&mut fields)?;
    let mut options = Options::read(&mut fields)?;
    let prompt = fields.take("prompt").ok_or_else(|| Refusal::field("prompt", "is missing"))?;
    let prompts = prompts(served, &prompt)?;
    let echo = fields.flag("echo")?.unwrap_or(false);
    let logprobs = fields.count("logprobs", 0..=MAX_LIKELIEST)?;
    let prompt_logprobs = fields.count("prompt_logprobs", 0..=MAX_LIKELIEST)?;
    fields.neutral("suffix", |value| value == "")?;
    fields.end()?;
    options.max_tokens = Some(options.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS));
    if options.max_tokens == Some(0) && !echo && prompt_logprobs.is_none() {
        return Err(Refusal::field("max_tokens", "is 0, and neither `echo` nor `prompt_logprobs` is asked for"));
    }
    if prompts.len() * options.n > MAX_CHOICES {
        let n = prompts.len();
        return Err(Refusal::field("n", format!("times {n} prompts is more than {MAX_CHOICES} answers")));
    }
    let asked = Asked { kind: Kind::Text { logprobs, prompt_logprobs, echo }, options, prompts };
    check_room(served, &asked, "prompt")?;
    Ok(asked)
}

/// A text, ids, or a list of either.
fn prompts(served: &Served, prompt: &Value) -> Result<Vec<Arc<[u32]>>, Refusal> {
    let wrong = || Refusal::field("prompt", "must be a text, a list of token ids, or a list of either, and not empty");
    let one = |value: &Value| match value {
        Value::String(text) => encode(served, text),
        Value::Array(ids) => {
            let ids = ids.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()));
            ids.collect::<Option<Arc<[u32]>>>().ok_or_else(wrong)
        }
        _ => Err(wrong()),
    };
    let prompts = match prompt {
        Value::Array(items) if items.first().is_some_and(|item| item.is_string() || item.is_array()) => {
            if items.len() > MAX_CHOICES {
                return Err(Refusal::field("prompt", format!("holds more than {MAX_CHOICES} prompts")));
            }
            items.iter().map(one).collect::<Result<Vec<_>, _>>()?
        }
        other => vec![one(other)?],
    };
    if prompts.iter().any(|ids| ids.is_empty()) {
        return Err(wrong());
    }
    let vocab_size = served.desk.vocab_size;
    match prompts.iter().flat_map(|ids| ids.iter()).find(|&&id| id as usize >= vocab_size) {
        Some(id) => Err(Refusal::field("prompt", format!("holds the token id {id}; the model has {vocab_size} ids"))),
        None => Ok(prompts),
    }
}

/// A text as it stands: tokens with a name of their own may be written in it, and nothing is put before it.
fn encode(served: &Served, text: &str) -> Result<Arc<[u32]>, Refusal> {
    let guard = pick_guard([text]).map_err(|error| Refusal::field("prompt", error.to_string()))?;
    Ok(served.talk.tokenizer().encode_rendered(text, guard).into())
}
