//! How does a row in the OpenAI layout become messages?

use serde_json::Value;

use super::functions::call;
use super::{Fault, Reader, fault, optional_text};
use crate::data::message::{FunctionCall, Message, Speaker};

const REFUSED: [(&str, &str); 4] = [
    ("weight", "every message of the assistant is learned with the same weight"),
    ("function_call", "the older form of `tool_calls` is not read"),
    ("refusal", "a refusal is not read; write it as `content`"),
    ("audio", "only text can be learned here"),
];

/// By message, what ties calls and results together: the ids of an assistant's calls, or of the call that a tool
/// answers.
pub(super) type Ids = Vec<Option<String>>;

pub(super) fn messages(
    reader: &mut Reader<'_>,
    items: Vec<Value>,
    list: &str,
) -> Result<(Vec<Message>, Vec<Ids>), Fault> {
    let (mut messages, mut all_ids) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    for (i, item) in items.into_iter().enumerate() {
        let prefix = format!("{list}[{i}].");
        let below = |mut e: Fault| {
            e.key.insert_str(0, &prefix);
            e
        };
        let Value::Object(mut item) = item else { return fault(format!("{list}[{i}]"), "not an object") };
        let role = match item.remove("role") {
            Some(Value::String(role)) => match role.as_str() {
                "system" => Speaker::System,
                "user" => Speaker::User,
                "assistant" => Speaker::Assistant,
                "tool" => Speaker::Tool,
                _ => {
                    let problem = format!("{role:?} is none of system, user, assistant or tool");
                    return fault(format!("{prefix}role"), problem);
                }
            },
            Some(_) => return fault(format!("{prefix}role"), "not a string"),
            None => return fault(format!("{prefix}role"), "missing"),
        };
        let mut ids = Ids::new();
        let mut calls = Vec::new();
        if role == Speaker::Assistant {
            (calls, ids) = tool_calls(item.remove("tool_calls")).map_err(below)?;
        } else if item.get("tool_calls").is_some_and(|value| !value.is_null()) {
            return fault(format!("{prefix}tool_calls"), "only the assistant calls tools");
        }
        if role == Speaker::Tool {
            ids.push(optional_text(&mut item, "tool_call_id").map_err(below)?);
        }
        let content = match content(item.remove("content")).map_err(below)? {
            Some(text) => text,
            None if !calls.is_empty() => String::new(),
            None => return fault(format!("{prefix}content"), "missing"),
        };
        let name = optional_text(&mut item, "name").map_err(below)?;
        let reasoning = match role {
            Speaker::Assistant => optional_text(&mut item, "reasoning_content").map_err(below)?,
            _ => None,
        };
        item.retain(|name, value| !(name == "weight" && value.as_f64() == Some(1.0)));
        reader.note_unread(&item, &REFUSED, &prefix)?;
        messages.push(Message { calls, name, reasoning, ..Message::text(role, content) });
        all_ids.push(ids);
    }
    Ok((messages, all_ids))
}

/// A string, or the texts of a list of parts one behind the other; `None` for null and for nothing.
fn content(value: Option<Value>) -> Result<Option<String>, Fault> {
    let parts = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text)),
        Some(Value::Array(parts)) => parts,
        Some(_) => return fault("content", "neither a string nor a list of parts"),
    };
    let mut text = String::new();
    for (i, part) in parts.iter().enumerate() {
        match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(part)) => text += part,
            (Some("text"), None) => return fault(format!("content[{i}].text"), "no string"),
            _ => return fault(format!("content[{i}].type"), "not \"text\"; only text can be learned here"),
        }
    }
    Ok(Some(text))
}

/// The calls of `tool_calls`, and their ids.
fn tool_calls(value: Option<Value>) -> Result<(Vec<FunctionCall>, Ids), Fault> {
    let items = match value {
        None | Some(Value::Null) => return Ok((Vec::new(), Vec::new())),
        Some(Value::Array(items)) => items,
        Some(_) => return fault("tool_calls", "not a list"),
    };
    let (mut calls, mut ids) = (Vec::new(), Ids::new());
    for (i, item) in items.into_iter().enumerate() {
        let key = format!("tool_calls[{i}]");
        let Value::Object(mut item) = item else { return fault(key, "not an object") };
        if item.get("type").is_some_and(|kind| kind != "function") {
            return fault(format!("{key}.type"), "not \"function\"");
        }
        let id = optional_text(&mut item, "id").map_err(|e| Fault { key: format!("{key}.id"), ..e })?;
        if id.is_some() && ids.contains(&id) {
            return fault(format!("{key}.id"), "another call of the message has it, too");
        }
        let Some(function) = item.remove("function") else { return fault(format!("{key}.function"), "missing") };
        calls.push(call(function, &format!("{key}.function"))?);
        ids.push(id);
    }
    Ok((calls, ids))
}
