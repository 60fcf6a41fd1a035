//! What does the model say to a caller, and which functions does it call? Read from the text of a turn, while it comes
//! and when it has ended.

use serde_json::{Map, Value};

use super::super::chat::{Dialect, function_call};
use super::super::message::FunctionCall;
use super::{Form, Offered, PYTHON_TAG, Talk};
use crate::tool::{ToolInput, ToolName};

/// A turn of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// What is said, thoughts included, up to the first call.
    pub content: String,
    /// Calls in order.
    pub calls: Vec<FunctionCall>,
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
const END_OF_THOUGHT: &str = "</think>";

/// How a form writes calls.
enum Ways {
    /// A tag of each tool's name, at the end of a turn.
    Tags,
    Hermes,
    Llama3,
}

impl Talk {
    fn ways(&self) -> Option<Ways> {
        match &self.form {
            Form::Bare => None,
            Form::Tags(_) => Some(Ways::Tags),
            Form::Chat(template) => template.dialect.map(|dialect| match dialect {
                Dialect::Aepo => Ways::Tags,
                Dialect::Hermes => Ways::Hermes,
                Dialect::Llama3 => Ways::Llama3,
            }),
        }
    }

    /// Reads a whole turn's text, as [`Talk::shown`] spells it. Calls that cannot be read, and those of functions that
    /// were not offered, are text.
    #[must_use]
    pub fn read(&self, text: &str, tools: &[Offered]) -> Turn {
        let found = match self.ways() {
            None => None,
            _ if tools.is_empty() => None,
            Some(Ways::Tags) => tags(text, tools),
            Some(Ways::Hermes) => hermes(text, tools),
            Some(Ways::Llama3) => llama3(text, tools),
        };
        found.unwrap_or_else(|| Turn { content: text.to_owned(), calls: Vec::new() })
    }

    /// How many bytes of a turn that is still coming are no part of a call, whatever follows. More of the same turn never
    /// gives less.
    #[must_use]
    pub fn n_said(&self, text: &str, tools: &[Offered]) -> usize {
        let Some(ways) = self.ways().filter(|_| !tools.is_empty()) else { return text.len() };
        let openings: Vec<String> = match ways {
            Ways::Tags => tools.iter().map(|tool| format!("<{}>", tool.spec.name)).collect(),
            Ways::Hermes => vec![OPEN.to_owned()],
            Ways::Llama3 => {
                let start = text.trim_start();
                let may_call = start.is_empty()
                    || start.starts_with('{')
                    || start.starts_with(PYTHON_TAG)
                    || PYTHON_TAG.starts_with(start);
                return if may_call { 0 } else { text.len() };
            }
        };
        let from = behind_thoughts(text);
        let first = openings.iter().filter_map(|opening| text[from..].find(opening.as_str())).min();
        let begun = openings.iter().map(|opening| overlap(&text[from..], opening)).max().unwrap_or(0);
        first.map_or(text.len() - begun, |at| from + at)
    }
}

/// Where the last thought ends.
fn behind_thoughts(text: &str) -> usize {
    text.rfind(END_OF_THOUGHT).map_or(0, |at| at + END_OF_THOUGHT.len())
}

/// The longest end of `text` that `word` begins with, without being it, in bytes.
#[must_use]
pub fn overlap(text: &str, word: &str) -> usize {
    let most = word.len().saturating_sub(1).min(text.len());
    (1..=most).rev().find(|&n| text.as_bytes()[text.len() - n..] == word.as_bytes()[..n]).unwrap_or(0)
}

fn tags(text: &str, tools: &[Offered]) -> Option<Turn> {
    let trimmed = text.trim_end();
    let from = behind_thoughts(text);
    let (tool, inside) = tools.iter().find_map(|tool| {
        let inside = trimmed.strip_suffix(&format!("</{}>", tool.spec.name))?;
        Some((tool, inside))
    })?;
    let opening = format!("<{}>", tool.spec.name);
    let at = from + inside.get(from..)?.find(&opening)?;
    let input = tool.spec.input_of_text(&inside[at + opening.len()..])?;
    let call = function_call(&tool.spec, &input)?;
    Some(Turn { content: text[..at].to_owned(), calls: vec![call] })
}

fn hermes(text: &str, tools: &[Offered]) -> Option<Turn> {
    let from = behind_thoughts(text);
    let at = from + text[from..].find(OPEN)?;
    let mut rest = &text[at..];
    let mut calls = Vec::new();
    while let Some(inside) = rest.trim_start().strip_prefix(OPEN) {
        // The last call may lack its closing tag where the turn ended instead.
        let (inside, behind) = inside.split_once(CLOSE).unwrap_or((inside, ""));
        calls.push(json_call(&serde_json::from_str(inside.trim()).ok()?, "arguments", tools)?);
        rest = behind;
    }
    rest.trim().is_empty().then(|| Turn { content: text[..at].to_owned(), calls })
}

fn llama3(text: &str, tools: &[Offered]) -> Option<Turn> {
    let start = text.trim();
    let (tagged, mut rest) = start.strip_prefix(PYTHON_TAG).map_or((false, start), |rest| (true, rest.trim()));
    let mut calls = Vec::new();
    loop {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) if value.is_object() => {
                let Some(call) = json_call(&value, "parameters", tools) else { break };
                calls.push(call);
            }
            _ => break,
        }
        rest = rest[values.byte_offset()..].trim_start().trim_start_matches(';').trim_start();
        if rest.is_empty() {
            return Some(Turn { content: String::new(), calls });
        }
    }
    let python = tools.iter().find(|tool| tool.spec.name == ToolName::PYTHON);
    match python.filter(|_| tagged && calls.is_empty()).map(|tool| &tool.spec) {
        Some(spec) if matches!(spec.input, ToolInput::Text { .. }) => {
            Some(Turn { content: String::new(), calls: vec![function_call(spec, rest)?] })
        }
        _ => None,
    }
}

fn json_call(call: &Value, key: &str, tools: &[Offered]) -> Option<FunctionCall> {
    let name = call.get("name")?.as_str()?;
    tools.iter().find(|tool| tool.spec.name.as_str() == name)?;
    let arguments: Map<String, Value> = call.get(key)?.as_object()?.clone();
    Some(FunctionCall { name: name.to_owned(), arguments })
}
