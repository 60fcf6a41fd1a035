//! What does a served model say? One call of OpenAI's `POST /chat/completions`, which vLLM, SGLang, llama.cpp and most
//! hosts answer too.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Client, HttpError, Request, Secret, tls};

/// Which model is asked, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatSettings {
    /// Address up to and with the version, `https://api.openai.com/v1`; a slash at its end changes nothing.
    pub base_url: String,
    /// The name under which the server knows the model.
    pub model: String,
    /// Sampling temperature; `None` leaves it to the server.
    pub temperature: Option<f64>,
    /// Longest answer, tokens.
    pub max_tokens: u32,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// The question.
    User,
    /// An earlier answer.
    Assistant,
}

/// One message of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// The model's answer to `messages`. An answer that was cut at `max_tokens` is an answer.
pub fn complete(
    client: &Client,
    settings: &ChatSettings,
    key: Option<&Secret>,
    messages: &[ChatMessage],
    deadline: Instant,
) -> Result<String, HttpError> {
    let url = format!("{}/chat/completions", settings.base_url.trim_end_matches('/'));
    let body = body(settings, messages);
    let key = key.map(|key| ("authorization", "Bearer ", key));
    let answer = client.json(Request { url: &url, query: &[], key, body: Some(&body) }, deadline)?;
    let content = answer.pointer("/choices/0/message/content").and_then(Value::as_str);
    let host = || tls::origin(&url).unwrap_or_default().to_owned();
    content.map(str::to_owned).ok_or_else(|| HttpError::Form { host: host(), missing: "choices[0].message.content" })
}

fn body(settings: &ChatSettings, messages: &[ChatMessage]) -> Value {
    let role = |role| match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let messages: Vec<Value> = messages.iter().map(|m| json!({ "role": role(m.role), "content": m.content })).collect();
    let mut body = json!({ "model": settings.model, "messages": messages, "max_tokens": settings.max_tokens });
    if let Some(temperature) = settings.temperature {
        body["temperature"] = json!(temperature);
    }
    body
}
