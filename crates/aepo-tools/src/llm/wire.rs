//! How is a conversation written for OpenAI's `POST /chat/completions`, and what does its answer say?

use serde_json::{Value, json};

use super::{ChatMessage, End, Role, Said, Sampling};
use crate::http::HttpError;

/// The body of a request. What is left to the server is left out.
pub(super) fn body(model: &str, messages: &[ChatMessage], sampling: &Sampling) -> Value {
    let messages: Vec<Value> =
        messages.iter().map(|m| json!({ "role": m.role.name(), "content": m.content })).collect();
    let mut body = json!({ "model": model, "messages": messages, "max_tokens": sampling.max_tokens });
    if let Some(temperature) = sampling.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(top_p) = sampling.top_p {
        body["top_p"] = json!(top_p);
    }
    if let Some(seed) = sampling.seed {
        body["seed"] = json!(seed);
    }
    if !sampling.stop.is_empty() {
        body["stop"] = json!(sampling.stop);
    }
    if messages_go_on(&messages) {
        // vLLM's names for going on with the last message instead of beginning another.
        body["continue_final_message"] = json!(true);
        body["add_generation_prompt"] = json!(false);
    }
    body
}

/// Whether the model is to go on with its own message.
fn messages_go_on(messages: &[Value]) -> bool {
    messages.last().is_some_and(|last| last["role"] == Role::Assistant.name())
}

/// Reads an answer.
///
/// `finish_reason` is OpenAI's; which text ended it is said by vLLM (`stop_reason`: a text, the number of a token, or
/// null at the model's own end) and by SGLang (`matched_stop`: a text or the number of a token).
pub(super) fn said(answer: &Value, host: &str) -> Result<Said, HttpError> {
    let form = |missing| HttpError::Form { host: host.to_owned(), missing };
    let choice = answer.pointer("/choices/0").ok_or_else(|| form("choices[0]"))?;
    let message = choice.get("message").ok_or_else(|| form("choices[0].message"))?;
    let thoughts = ["reasoning_content", "reasoning"].iter().find_map(|key| message.get(*key)?.as_str());
    let thoughts = thoughts.filter(|thoughts| !thoughts.is_empty()).map(str::to_owned);
    let text = match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        // A server that keeps thoughts apart says null where there are only thoughts.
        Some(Value::Null) if thoughts.is_some() => String::new(),
        _ => return Err(form("choices[0].message.content")),
    };
    let end = match choice.get("finish_reason").and_then(Value::as_str) {
        Some("length") => End::Length,
        Some("content_filter") => End::Filtered,
        _ => match choice.get("stop_reason").or_else(|| choice.get("matched_stop")) {
            Some(Value::String(stop)) => End::StopText(stop.clone()),
            Some(_) => End::Turn,
            None => End::Unsaid,
        },
    };
    let count = |key: &str| answer.pointer(&format!("/usage/{key}")).and_then(Value::as_u64);
    Ok(Said { text, thoughts, end, n_prompt: count("prompt_tokens"), n_sampled: count("completion_tokens") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(choice: Value) -> Result<Said, HttpError> {
        said(&json!({ "choices": [choice] }), "http://host")
    }

    #[test]
    fn ends_are_told_apart_as_servers_say() {
        let message = json!({ "content": "a" });
        let table = [
            (json!({ "message": message, "finish_reason": "stop" }), End::Unsaid),
            (json!({ "message": message }), End::Unsaid),
            (json!({ "message": message, "finish_reason": "length", "stop_reason": null }), End::Length),
            (json!({ "message": message, "finish_reason": "content_filter" }), End::Filtered),
            (json!({ "message": message, "finish_reason": "stop", "stop_reason": null }), End::Turn),
            (json!({ "message": message, "finish_reason": "stop", "stop_reason": 151_645 }), End::Turn),
            (
                json!({ "message": message, "finish_reason": "stop", "stop_reason": "</python>" }),
                End::StopText("</python>".to_owned()),
            ),
            (
                json!({ "message": message, "finish_reason": "stop", "matched_stop": "</search>" }),
                End::StopText("</search>".to_owned()),
            ),
        ];
        for (choice, expected) in table {
            assert_eq!(read(choice.clone()).unwrap().end, expected, "{choice}");
        }
    }

    #[test]
    fn what_is_no_answer_is_named() {
        for (answer, missing) in [
            (json!({}), "choices[0]"),
            (json!({ "choices": [] }), "choices[0]"),
            (json!({ "choices": [{}] }), "choices[0].message"),
            (json!({ "choices": [{ "message": {} }] }), "choices[0].message.content"),
            (json!({ "choices": [{ "message": { "content": null } }] }), "choices[0].message.content"),
            (json!({ "choices": [{ "message": { "content": ["a"] } }] }), "choices[0].message.content"),
            (json!([1]), "choices[0]"),
        ] {
            match said(&answer, "h") {
                Err(HttpError::Form { missing: found, .. }) => assert_eq!(found, missing, "{answer}"),
                other => panic!("{answer}: {other:?}"),
            }
        }
        let thought = read(json!({ "message": { "content": null, "reasoning_content": "hm" } })).unwrap();
        assert_eq!((thought.text.as_str(), thought.thoughts.as_deref()), ("", Some("hm")));
    }

    #[test]
    fn only_what_is_set_is_sent() {
        let user = [ChatMessage::user("2 + 2?")];
        let plain = Sampling { max_tokens: 9, ..Sampling::default() };
        let expected = json!({ "model": "m", "messages": [{ "role": "user", "content": "2 + 2?" }], "max_tokens": 9 });
        assert_eq!(body("m", &user, &plain), expected);
        let all = Sampling {
            temperature: Some(0.6),
            top_p: Some(0.95),
            max_tokens: 9,
            seed: Some(3),
            stop: vec!["</python>".to_owned()],
        };
        let own = [user[0].clone(), ChatMessage { role: Role::Assistant, content: "<think>".to_owned() }];
        let sent = body("m", &own, &all);
        assert_eq!(sent["top_p"], json!(0.95));
        assert_eq!(sent["stop"], json!(["</python>"]));
        assert_eq!(sent["seed"], json!(3));
        assert_eq!(sent["continue_final_message"], json!(true));
        assert_eq!(sent["add_generation_prompt"], json!(false));
    }
}
