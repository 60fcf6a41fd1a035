//! What is a conversation? Messages with a speaker, and the function calls they make; plain text, no tokens.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// The rules of the conversation, at most one message and the first.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
    /// What a function returned.
    Tool,
}

impl Speaker {
    /// The name that chat templates know: `system`, `user`, `assistant`, `tool`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Speaker::System => "system",
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
            Speaker::Tool => "tool",
        }
    }
}

/// A call of a function with named arguments, in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionCall {
    /// Name of the function.
    pub name: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Speaker,
    /// What is said; may be empty where calls are made.
    pub content: String,
    /// Calls that follow the content, in order; only an assistant makes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<FunctionCall>,
    /// Name of the function that a tool's message comes from, where the data says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the assistant thought before the content, where it is kept apart from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}

impl Message {
    /// A message of plain text.
    #[must_use]
    pub fn text(role: Speaker, content: impl Into<String>) -> Message {
        Message { role, content: content.into(), calls: Vec::new(), name: None, reasoning: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_back_as_it_was_written_with_its_arguments_in_order() {
        let text =
            r#"{"role":"assistant","content":"","calls":[{"name":"f","arguments":{"z":1,"a":{"y":2.5,"b":[]}}}]}"#;
        let message: Message = serde_json::from_str(text).unwrap();
        assert_eq!(message.role.name(), "assistant");
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
        assert!(serde_json::from_str::<Message>(r#"{"role":"gpt","content":""}"#).is_err());
    }
}
