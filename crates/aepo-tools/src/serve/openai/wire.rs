//! In which JSON are answers told? That of OpenAI's two kinds of completions, with vLLM's names for what they lack.

use std::sync::Arc;

use aepo::data::message::FunctionCall;
use aepo::prompt::Tokenizer;
use serde_json::{Map, Value, json};

use super::answer::{Answers, Asked, Entry, Kind, Piece, Usage};

/// What every object of an answer says.
#[derive(Clone)]
pub(super) struct Heading {
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) model: String,
}

/// Writes the pieces of one request's answers.
pub(super) struct Writer {
    pub(super) heading: Heading,
    /// Characters of the tokens told so far, by answer.
    offsets: Vec<usize>,
    /// Calls told so far, by answer.
    n_calls: Vec<usize>,
    /// What each id adds to the text.
    pieces: Arc<[Box<[u8]>]>,
}

impl Writer {
    pub(super) fn new(heading: Heading, n_choices: usize, pieces: Arc<[Box<[u8]>]>) -> Writer {
        Writer { heading, offsets: vec![0; n_choices], n_calls: vec![0; n_choices], pieces }
    }

    fn object(&self, kind: &Kind, is_chunk: bool, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let object = match (kind, is_chunk) {
            (Kind::Chat { .. }, true) => "chat.completion.chunk",
            (Kind::Chat { .. }, false) => "chat.completion",
            (Kind::Text { .. }, _) => "text_completion",
        };
        let Heading { id, created, model } = &self.heading;
        let mut value = json!({ "id": id, "object": object, "created": created, "model": model, "choices": choices });
        if let (Some(usage), Some(fields)) = (usage, value.as_object_mut()) {
            fields.insert("usage".to_owned(), usage);
        }
        value
    }

    /// One event of a stream.
    pub(super) fn chunk(&mut self, tok: &Tokenizer, asked: &Asked, idx: usize, piece: &Piece) -> Value {
        let choice = self.choice(tok, asked, idx, piece, true);
        let usage = asked.options.include_usage.then_some(Value::Null);
        self.object(&asked.kind, true, vec![choice], usage)
    }

    /// The event that begins the message of an answer.
    pub(super) fn opening(&self, asked: &Asked, idx: usize) -> Value {
        let delta = json!({ "role": "assistant", "content": "" });
        let choice = json!({ "index": idx, "delta": delta, "logprobs": null, "finish_reason": null });
        self.object(&asked.kind, true, vec![choice], asked.options.include_usage.then_some(Value::Null))
    }

    /// The event that tells the bill.
    pub(super) fn closing(&self, asked: &Asked, usage: Usage) -> Value {
        self.object(&asked.kind, true, Vec::new(), Some(bill(usage)))
    }

    /// The whole answer.
    pub(super) fn whole(&mut self, tok: &Tokenizer, answers: &Answers, pieces: &[Piece]) -> Value {
        let choices = (0..).zip(pieces).map(|(idx, piece)| self.choice(tok, &answers.asked, idx, piece, false));
        let choices = choices.collect();
        let asked = &answers.asked;
        let mut value = self.object(&asked.kind, false, choices, Some(bill(answers.usage)));
        if let (Kind::Chat { .. }, true, Some(fields)) = (&asked.kind, asked.options.return_ids, value.as_object_mut())
        {
            fields.insert("prompt_token_ids".to_owned(), json!(asked.prompts[0]));
        }
        value
    }

    fn choice(&mut self, tok: &Tokenizer, asked: &Asked, idx: usize, piece: &Piece, is_chunk: bool) -> Value {
        let as_ids = asked.options.tokens_as_ids;
        let mut fields = Map::new();
        fields.insert("index".to_owned(), json!(idx));
        match &asked.kind {
            Kind::Chat { logprobs, .. } => {
                let message = self.message(idx, piece, is_chunk);
                fields.insert((if is_chunk { "delta" } else { "message" }).to_owned(), message);
                let content = |n: usize| piece.tokens.iter().map(move |e| chat_entry(tok, e, n, as_ids));
                let logprobs = logprobs.map(|n| json!({ "content": content(n).collect::<Vec<Value>>() }));
                fields.insert("logprobs".to_owned(), json!(logprobs));
            }
            Kind::Text { logprobs, prompt_logprobs, echo } => {
                fields.insert("text".to_owned(), json!(piece.text));
                let shown = piece.prompt.iter().filter(|_| *echo).chain(&piece.tokens);
                let logprobs = logprobs.map(|n| self.text_entries(tok, idx, &shown.collect::<Vec<_>>(), n, as_ids));
                fields.insert("logprobs".to_owned(), json!(logprobs));
                if let (Some(n), true) = (prompt_logprobs, piece.is_first) {
                    let of_prompt = piece.prompt.iter().map(|entry| prompt_entry(tok, entry, *n));
                    fields.insert("prompt_logprobs".to_owned(), of_prompt.collect());
                }
            }
        }
        if asked.options.return_ids {
            fields.insert("token_ids".to_owned(), piece.tokens.iter().map(|entry| json!(entry.id)).collect());
            if let (Kind::Text { .. }, true) = (&asked.kind, piece.is_first) {
                fields.insert("prompt_token_ids".to_owned(), json!(asked.prompts[idx / asked.options.n]));
            }
        }
        fields.insert("finish_reason".to_owned(), json!(piece.end.as_ref().map(|end| end.reason)));
        if let Some(end) = &piece.end {
            fields.insert("stop_reason".to_owned(), end.stop.clone());
        }
        Value::Object(fields)
    }

    fn message(&mut self, idx: usize, piece: &Piece, is_chunk: bool) -> Value {
        let mut calls = Vec::new();
        for call in &piece.calls {
            let id = format!("call-{}-{idx}-{}", self.heading.id.trim_start_matches("chatcmpl-"), self.n_calls[idx]);
            let mut value = call_json(call, id);
            if let (true, Some(fields)) = (is_chunk, value.as_object_mut()) {
                fields.insert("index".to_owned(), json!(self.n_calls[idx]));
            }
            self.n_calls[idx] += 1;
            calls.push(value);
        }
        let mut message = Map::new();
        if !is_chunk {
            message.insert("role".to_owned(), json!("assistant"));
            let says = !piece.text.is_empty() || calls.is_empty();
            message.insert("content".to_owned(), json!(says.then_some(&piece.text)));
        } else if !piece.text.is_empty() {
            message.insert("content".to_owned(), json!(piece.text));
        }
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        Value::Object(message)
    }

    /// Lists of equal length: texts, log-probabilities, the likeliest, and where in the text each begins, in characters.
    fn text_entries(&mut self, tok: &Tokenizer, idx: usize, entries: &[&Entry], n: usize, as_ids: bool) -> Value {
        let (mut texts, mut offsets, mut likeliest) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            let text = text(tok, entry.id, as_ids);
            offsets.push(self.offsets[idx]);
            let piece = self.pieces.get(entry.id as usize).map_or(&[][..], |piece| piece);
            // The bytes that go on with a character begin with the bits 10.
            self.offsets[idx] += piece.iter().filter(|&&byte| byte >> 6 != 0b10).count();
            texts.push(text);
            let pairs =
                |top: &[(u32, f32)]| top.iter().map(|&(id, p)| (self::text(tok, id, as_ids), json!(p))).collect();
            likeliest.push(entry.logprob.filter(|_| n > 0).map(|logprob| {
                let mut map: Map<String, Value> = pairs(&entry.likeliest);
                map.entry(self::text(tok, entry.id, as_ids)).or_insert(json!(logprob));
                Value::Object(map)
            }));
        }
        json!({
            "tokens": texts,
            "token_logprobs": entries.iter().map(|entry| entry.logprob).collect::<Vec<_>>(),
            "top_logprobs": (n > 0).then_some(likeliest),
            "text_offset": offsets,
        })
    }
}

fn call_json(call: &FunctionCall, id: String) -> Value {
    let arguments = Value::Object(call.arguments.clone()).to_string();
    json!({ "id": id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
}

fn bill(usage: Usage) -> Value {
    let Usage { n_prompt, n_cached, n_sampled } = usage;
    json!({
        "prompt_tokens": n_prompt,
        "completion_tokens": n_sampled,
        "total_tokens": n_prompt + n_sampled,
        "prompt_tokens_details": { "cached_tokens": n_cached },
    })
}

/// A token's own text; bytes that are no character are replaced.
fn bytes(tok: &Tokenizer, id: u32) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(tok.token_bytes(id).unwrap_or_default())
}

fn text(tok: &Tokenizer, id: u32, as_id: bool) -> String {
    if as_id { format!("token_id:{id}") } else { bytes(tok, id).into_owned() }
}

fn chat_entry(tok: &Tokenizer, entry: &Entry, n: usize, as_ids: bool) -> Value {
    let one = |id: u32, logprob: Option<f32>| json!({ "token": text(tok, id, as_ids), "logprob": logprob, "bytes": tok.token_bytes(id).unwrap_or_default() });
    let mut value = one(entry.id, entry.logprob);
    if let Some(fields) = value.as_object_mut() {
        let top = entry.likeliest.iter().take(n).map(|&(id, logprob)| one(id, Some(logprob)));
        fields.insert("top_logprobs".to_owned(), top.collect());
    }
    value
}

/// As vLLM tells a token of the prompt: an object of ids.
fn prompt_entry(tok: &Tokenizer, entry: &Entry, n: usize) -> Value {
    let Some(logprob) = entry.logprob else { return Value::Null };
    let one = |id: u32, logprob: f32, rank: usize| {
        (id.to_string(), json!({ "logprob": logprob, "rank": rank, "decoded_token": bytes(tok, id) }))
    };
    let likeliest = entry.likeliest.iter().take(n).enumerate().map(|(i, &(id, p))| one(id, p, i + 1));
    let mut map: Map<String, Value> = likeliest.collect();
    let (id, mut own) = one(entry.id, logprob, entry.rank as usize);
    if let (0, Some(fields)) = (entry.rank, own.as_object_mut()) {
        // Its place was not looked for.
        fields.remove("rank");
    }
    map.entry(id).or_insert(own);
    Value::Object(map)
}
