//! What does `POST /v1/chat/completions` ask for? The next message of a conversation, perhaps with calls of functions.

use std::collections::BTreeMap;

use aepo::data::message::{FunctionCall, Message, Speaker};
use aepo::prompt::served::Offered;
use serde_json::{Map, Value, json};

use super::answer::{Asked, Kind};
use super::fields::{Fields, shortened};
use super::options::{MAX_LIKELIEST, Options};
use super::{Served, check_room};
use crate::serve::refusal::Refusal;

/// Messages of a conversation, and tools.
const MAX_MESSAGES: usize = 4096;
const MAX_TOOLS: usize = 128;

pub(super) fn read(served: &Served, bytes: &[u8]) -> Result<Asked, Refusal> {
    let mut fields = Fields::parse(bytes)?;
    served.check_model(&mut fields)?;
    let mut options = Options::read(&mut fields)?;
    let messages = fields.list("messages")?.ok_or_else(|| Refusal::field("messages", "is missing"))?;
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        return Err(Refusal::field("messages", format!("must hold 1 to {MAX_MESSAGES} messages")));
    }
    let messages = messages.into_iter().enumerate().map(|(i, value)| message(&format!("messages[{i}]"), value));
    let messages: Vec<Message> = messages.collect::<Result<_, _>>()?;
    let tools = tools(&mut fields)?;
    let logprobs = fields.flag("logprobs")?.unwrap_or(false);
    let n_likeliest = fields.count("top_logprobs", 0..=MAX_LIKELIEST)?;
    if n_likeliest.is_some_and(|n| n > 0) && !logprobs {
        return Err(Refusal::field("top_logprobs", "needs `logprobs` to be true"));
    }
    let variables = match fields.take("chat_template_kwargs") {
        None => BTreeMap::new(),
        Some(Value::Object(variables)) => variables.into_iter().collect(),
        Some(_) => return Err(Refusal::field("chat_template_kwargs", "must be an object")),
    };
    fields.neutral("echo", |value| *value == false)?;
    fields.neutral("include_reasoning", |value| *value == true)?;
    fields.neutral("add_generation_prompt", |value| *value == true)?;
    fields.neutral("modalities", |value| *value == json!(["text"]))?;
    fields.end()?;
    if options.max_tokens == Some(0) {
        return Err(Refusal::field("max_tokens", "must be at least 1"));
    }
    let prompt = served.talk.prompt(&messages, &tools, &variables);
    let prompt = prompt.map_err(|error| Refusal::field("messages", format!("cannot be put to this model: {error}")))?;
    options.max_tokens = Some(options.max_tokens.unwrap_or(served.default_max_tokens));
    let kind = Kind::Chat { tools, logprobs: logprobs.then_some(n_likeliest.unwrap_or(0)) };
    let asked = Asked { kind, options, prompts: vec![prompt.into()] };
    check_room(served, &asked, "messages")?;
    Ok(asked)
}

/// The tools that may be called: none where the request says so.
fn tools(fields: &mut Fields) -> Result<Vec<Offered>, Refusal> {
    let items = fields.list("tools")?.unwrap_or_default();
    if items.len() > MAX_TOOLS {
        return Err(Refusal::field("tools", format!("must hold at most {MAX_TOOLS} tools")));
    }
    let offered = items.into_iter().enumerate().map(|(i, tool)| offered(&format!("tools[{i}]"), tool));
    let offered: Vec<Offered> = offered.collect::<Result<_, _>>()?;
    for (i, tool) in offered.iter().enumerate() {
        if offered[..i].iter().any(|other| other.spec.name == tool.spec.name) {
            return Err(Refusal::field(&format!("tools[{i}].function.name"), "names another tool, too"));
        }
    }
    const CHOICE: &str = "tool_choice";
    let choice = match fields.take(CHOICE) {
        None => None,
        Some(Value::String(choice)) if choice == "auto" || choice == "none" => Some(choice),
        Some(_) => {
            let message = "must be \"auto\" or \"none\": a model cannot be made to call a tool here";
            return Err(Refusal::unsupported(CHOICE, message));
        }
    };
    // True is what a model does anyway; fewer calls than it makes would be another answer.
    fields.neutral("parallel_tool_calls", |value| *value == true || offered.is_empty())?;
    Ok(if choice.as_deref() == Some("none") { Vec::new() } else { offered })
}

fn offered(at: &str, tool: Value) -> Result<Offered, Refusal> {
    let Value::Object(mut tool) = tool else { return Err(Refusal::field(at, "must be an object")) };
    if tool.remove("type").is_some_and(|kind| kind != "function") {
        return Err(Refusal::unsupported(&format!("{at}.type"), "must be \"function\""));
    }
    let Some(Value::Object(mut function)) = tool.remove("function") else {
        return Err(Refusal::field(&format!("{at}.function"), "must be an object"));
    };
    nothing_else(at, &tool)?;
    let Some(Value::String(name)) = function.get("name").cloned() else {
        return Err(Refusal::field(&format!("{at}.function.name"), "must be a text"));
    };
    match function.get("strict") {
        None | Some(Value::Null | Value::Bool(false)) => drop(function.remove("strict")),
        Some(_) => {
            let message = "is not supported: arguments are not held to their schema";
            return Err(Refusal::unsupported(&format!("{at}.function.strict"), message));
        }
    }
    if function.get("parameters").is_some_and(|value| !value.is_object() && !value.is_null()) {
        return Err(Refusal::field(&format!("{at}.function.parameters"), "must be a JSON schema"));
    }
    let schema = json!({ "type": "function", "function": function });
    Offered::new(&name, schema).map_err(|e| Refusal::field(&format!("{at}.function.name"), format!("is wrong: {e}")))
}

/// Refuses what is left of an object.
fn nothing_else(at: &str, object: &Map<String, Value>) -> Result<(), Refusal> {
    match object.iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) => Err(Refusal::unsupported(&format!("{at}.{}", shortened(name)), "is not supported")),
        None => Ok(()),
    }
}

fn message(at: &str, value: Value) -> Result<Message, Refusal> {
    let Value::Object(mut item) = value else { return Err(Refusal::field(at, "must be an object")) };
    let below = |name: &str| format!("{at}.{name}");
    let role = match item.remove("role").as_ref().and_then(Value::as_str) {
        Some("system" | "developer") => Speaker::System,
        Some("user") => Speaker::User,
        Some("assistant") => Speaker::Assistant,
        Some("tool") => Speaker::Tool,
        _ => return Err(Refusal::field(&below("role"), "must be system, user, assistant or tool")),
    };
    let calls = match item.remove("tool_calls") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(calls)) if role == Speaker::Assistant => {
            let calls = calls.iter().enumerate();
            calls.map(|(i, value)| call(&below(&format!("tool_calls[{i}]")), value)).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(Refusal::field(&below("tool_calls"), "must be a list, of an assistant's message")),
    };
    let content = match content(&below("content"), item.remove("content"))? {
        Some(content) => content,
        None if !calls.is_empty() => String::new(),
        None => return Err(Refusal::field(&below("content"), "is missing")),
    };
    let mut text = |name: &str| match item.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refusal::field(&below(name), "must be a text")),
    };
    let name = text("name")?;
    let reasoning = text("reasoning_content")?;
    if role == Speaker::Tool {
        // Results are told apart by their order.
        text("tool_call_id")?;
    }
    for (name, neutral) in [("refusal", Value::Null), ("annotations", json!([])), ("stop_reason", Value::Null)] {
        if item.get(name) == Some(&neutral) {
            item.remove(name);
        }
    }
    nothing_else(at, &item)?;
    Ok(Message { role, content, calls, name, reasoning })
}

/// A text, or the texts of a list of parts.
fn content(at: &str, value: Option<Value>) -> Result<Option<String>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Array(parts)) => {
            let text = |part: &Value| match part["type"].as_str() {
                Some("text") => part["text"].as_str().map(str::to_owned),
                _ => None,
            };
            let texts: Option<Vec<String>> = parts.iter().map(text).collect();
            match texts {
                Some(texts) => Ok(Some(texts.concat())),
                None => Err(Refusal::unsupported(at, "holds a part that is no text; only texts can be read")),
            }
        }
        Some(_) => Err(Refusal::field(at, "must be a text or a list of parts")),
    }
}

fn call(at: &str, value: &Value) -> Result<FunctionCall, Refusal> {
    let name = value["function"]["name"].as_str();
    let name = name.ok_or_else(|| Refusal::field(&format!("{at}.function.name"), "must be a text"))?;
    let wrong = || Refusal::field(&format!("{at}.function.arguments"), "must be a text that holds a JSON object");
    let arguments: Value = match &value["function"]["arguments"] {
        Value::String(text) => serde_json::from_str(text).map_err(|_| wrong())?,
        other => other.clone(),
    };
    match arguments {
        Value::Object(arguments) => Ok(FunctionCall { name: name.to_owned(), arguments }),
        _ => Err(wrong()),
    }
}
