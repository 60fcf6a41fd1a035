//! How does a request want to be sampled? The fields that both kinds of completions have.

use std::sync::Arc;

use aepo::policy::SampleParams;
use aepo::prompt::served::Talk;
use aepo::seed::Seed;
use aepo::stop::Stop;
use serde_json::Value;

use super::fields::Fields;
use crate::serve::refusal::Refusal;

/// Answers of one request.
pub const MAX_CHOICES: usize = 128;
/// Likeliest tokens beside each.
pub const MAX_LIKELIEST: usize = 20;
/// Texts that end an answer, and bytes of each.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;
/// More tokens than any model has room for.
const MANY: usize = 1 << 31;

/// What both kinds of requests say.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) n: usize,
    /// As asked for.
    pub(super) max_tokens: Option<usize>,
    pub(super) params: SampleParams,
    pub(super) seed: Option<i64>,
    pub(super) stop: Vec<String>,
    pub(super) stop_ids: Vec<u32>,
    pub(super) include_stop: bool,
    pub(super) ignore_eos: bool,
    pub(super) skip_special: bool,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// Whether ids stand beside texts.
    pub(super) return_ids: bool,
    /// Whether ids stand in the place of tokens' texts.
    pub(super) tokens_as_ids: bool,
}

impl Options {
    pub(super) fn read(fields: &mut Fields) -> Result<Options, Refusal> {
        let n = fields.count("n", 1..=MAX_CHOICES)?.unwrap_or(1);
        fields.neutral("best_of", |value| value.as_u64() == Some(n as u64))?;
        for (name, neutral) in [
            ("presence_penalty", 0.0),
            ("frequency_penalty", 0.0),
            ("repetition_penalty", 1.0),
            ("length_penalty", 1.0),
            ("min_p", 0.0),
            ("min_tokens", 0.0),
        ] {
            fields.neutral(name, |value| value.as_f64() == Some(neutral))?;
        }
        for (name, neutral) in [
            ("use_beam_search", false),
            ("spaces_between_special_tokens", true),
            ("add_special_tokens", false),
            ("continue_final_message", false),
            ("detokenize", true),
        ] {
            fields.neutral(name, |value| *value == neutral)?;
        }
        fields.neutral("logit_bias", |value| value.as_object().is_some_and(serde_json::Map::is_empty))?;
        fields.neutral("response_format", |value| value["type"] == "text")?;
        let temperature = fields.number("temperature", 0.0..=100.0)?.unwrap_or(1.0) as f32;
        let top_p = fields.number("top_p", f64::MIN_POSITIVE..=1.0)?.unwrap_or(1.0) as f32;
        // -1 is how vLLM's clients say that nothing is cut.
        let top_k = fields.whole("top_k", -1..=i64::MAX)?.unwrap_or(0).max(0);
        let params = match temperature {
            // The likeliest token, whose probability is told as the model has it.
            0.0 => SampleParams { temperature: 1.0, top_p: 1.0, top_k: 1, top_entropy: false },
            _ => SampleParams {
                // Colder ones would divide logits into infinities, and say the same.
                temperature: temperature.max(1e-4),
                top_p: top_p.max(f32::MIN_POSITIVE),
                top_k: usize::try_from(top_k).unwrap_or(usize::MAX),
                top_entropy: false,
            },
        };
        let stream = fields.flag("stream")?.unwrap_or(false);
        let include_usage = stream_options(fields, stream)?;
        let max_tokens = fields.count("max_tokens", 0..=MANY)?;
        let max_tokens = fields.count("max_completion_tokens", 0..=MANY)?.or(max_tokens);
        Ok(Options {
            n,
            max_tokens,
            params,
            seed: fields.whole("seed", i64::MIN..=i64::MAX)?,
            stop: stops(fields)?,
            stop_ids: ids(fields, "stop_token_ids")?,
            include_stop: fields.flag("include_stop_str_in_output")?.unwrap_or(false),
            ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
            skip_special: fields.flag("skip_special_tokens")?.unwrap_or(true),
            stream,
            include_usage,
            return_ids: fields.flag("return_token_ids")?.unwrap_or(false),
            tokens_as_ids: fields.flag("return_tokens_as_token_ids")?.unwrap_or(false),
        })
    }

    /// What ends an answer; `more` are texts of the conversation's own.
    pub(super) fn stop(&self, talk: &Talk, more: Vec<String>) -> Arc<Stop> {
        let mut ids = self.stop_ids.clone();
        if !self.ignore_eos {
            ids.extend(talk.stop_ids());
        }
        let texts = self.stop.iter().cloned().chain(more).collect();
        Arc::new(Stop { ids, texts, pieces: self.pieces(talk) })
    }

    /// What each id adds to the text.
    pub(super) fn pieces(&self, talk: &Talk) -> Arc<[Box<[u8]>]> {
        if self.skip_special { talk.shown() } else { talk.tokenizer().byte_table() }
    }

    /// The seed, or one that nobody has asked for before.
    pub(super) fn seed(&self) -> Seed {
        /// Numbers of callers and our own are different children.
        const ASKED: u64 = 1;
        match self.seed {
            Some(seed) => Seed(ASKED).child(seed as u64),
            None => Seed(super::fresh()),
        }
    }
}

fn stream_options(fields: &mut Fields, stream: bool) -> Result<bool, Refusal> {
    const NAME: &str = "stream_options";
    let Some(value) = fields.take(NAME) else { return Ok(false) };
    let Value::Object(mut options) = value else { return Err(Refusal::field(NAME, "must be an object")) };
    if !stream {
        return Err(Refusal::field(NAME, "is for requests with `stream`"));
    }
    options.remove("include_obfuscation");
    let include = match options.remove("include_usage") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(include)) => include,
        Some(_) => return Err(Refusal::field("stream_options.include_usage", "must be true or false")),
    };
    match options.keys().next() {
        Some(name) => {
            let name = format!("stream_options.{}", super::fields::shortened(name));
            Err(Refusal::unsupported(&name, "is not supported"))
        }
        None => Ok(include),
    }
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    const WRONG: &str = "must be a text or a list of texts";
    let texts = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>().ok_or_else(|| Refusal::field("stop", WRONG))?
        }
        Some(_) => return Err(Refusal::field("stop", WRONG)),
    };
    let fits = |text: &String| !text.is_empty() && text.len() <= MAX_STOP_BYTES;
    match texts.len() <= MAX_STOPS && texts.iter().all(fits) {
        true => Ok(texts),
        false => {
            let most = format!("must hold at most {MAX_STOPS} texts of 1 to {MAX_STOP_BYTES} bytes");
            Err(Refusal::field("stop", most))
        }
    }
}

fn ids(fields: &mut Fields, name: &str) -> Result<Vec<u32>, Refusal> {
    let items = fields.list(name)?.unwrap_or_default();
    let id = |item: &Value| item.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids: Option<Vec<u32>> = items.iter().map(id).collect();
    match ids.filter(|ids| ids.len() <= 1024) {
        Some(ids) => Ok(ids),
        None => Err(Refusal::field(name, "must be a list of at most 1024 token ids")),
    }
}
