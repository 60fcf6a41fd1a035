//! How does a row in the ShareGPT layout become messages?
//!
//! A `function_call` holds its calls as JSON text, one object or a list of them, perhaps behind a thought between
//! `<think>` and `</think>` (read from LLaMA-Factory's converter and its function formatter).

use serde_json::Value;

use super::functions::call;
use super::{Fault, Reader, fault};
use crate::data::message::{FunctionCall, Message, Speaker};

const REFUSED: [(&str, &str); 1] = [("weight", "every message of the assistant is learned with the same weight")];

pub(super) fn messages(reader: &mut Reader<'_>, items: Vec<Value>, list: &str) -> Result<Vec<Message>, Fault> {
    let mut messages = Vec::with_capacity(items.len());
    for (i, item) in items.into_iter().enumerate() {
        let key = format!("{list}[{i}]");
        let Value::Object(mut item) = item else { return fault(key, "not an object") };
        let from = match item.remove("from") {
            Some(Value::String(from)) => from,
            Some(_) => return fault(format!("{key}.from"), "not a string"),
            None => return fault(format!("{key}.from"), "missing"),
        };
        let value = match item.remove("value") {
            Some(Value::String(value)) => value,
            Some(_) => return fault(format!("{key}.value"), "not a string"),
            None => return fault(format!("{key}.value"), "missing"),
        };
        messages.push(match from.as_str() {
            "system" => Message::text(Speaker::System, value),
            "human" | "user" => Message::text(Speaker::User, value),
            "gpt" | "assistant" => Message::text(Speaker::Assistant, value),
            "observation" | "tool" => Message::text(Speaker::Tool, value),
            "function_call" => {
                let (thought, calls) = function_call(&value, &format!("{key}.value"))?;
                Message { calls, ..Message::text(Speaker::Assistant, thought) }
            }
            _ => {
                let known = "human, user, gpt, assistant, function_call, observation, tool or system";
                return fault(format!("{key}.from"), format!("{from:?} is none of {known}"));
            }
        });
        item.retain(|name, value| !(name == "weight" && value.as_f64() == Some(1.0)));
        reader.note_unread(&item, &REFUSED, &format!("{key}."))?;
    }
    Ok(messages)
}

/// The thought before the calls, with its tags, and the calls.
fn function_call(value: &str, key: &str) -> Result<(String, Vec<FunctionCall>), Fault> {
    const END: &str = "</think>";
    let thought = match value.find(END) {
        Some(at) if value.trim_start().starts_with("<think>") => &value[..at + END.len()],
        _ => "",
    };
    let calls = match serde_json::from_str(&value[thought.len()..]) {
        Ok(Value::Array(calls)) if calls.is_empty() => return fault(key, "no call in it"),
        Ok(Value::Array(calls)) => calls,
        Ok(one) => vec![one],
        Err(e) => return fault(key, format!("the calls are no JSON: {e}")),
    };
    let calls = calls.into_iter().map(|value| call(value, key)).collect::<Result<_, _>>()?;
    Ok((thought.to_owned(), calls))
}
