//! What must the world be able to do? The second of the two traits where the world begins.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::seed::Seed;

/// Names a tool, for the model and in records: `python`, `search`, `time__get_current_time`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolName(Cow<'static, str>);

/// Why a text names no tool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolNameError {
    /// Other characters, or too many or too few of them.
    #[error("{name:?} cannot name a tool: 1 to {MAX_NAME} ASCII letters, digits, `_` and `-` can")]
    Form {
        /// The text.
        name: String,
    },
    /// The tags of AEPO give it another meaning.
    #[error("{name:?} cannot name a tool: it is a tag of thoughts, answers or results")]
    Reserved {
        /// The text.
        name: String,
    },
}

/// Characters of a name, at most. The chat completion API of OpenAI allows as many.
const MAX_NAME: usize = 64;

/// Tags that mean something else.
const RESERVED: [&str; 3] = ["think", "answer", "result"];

impl ToolName {
    /// Runs model-written Python.
    pub const PYTHON: ToolName = ToolName(Cow::Borrowed("python"));
    /// Looks a query up in a corpus or on the web.
    pub const SEARCH: ToolName = ToolName(Cow::Borrowed("search"));
    /// Reads a page of the web.
    pub const VISIT: ToolName = ToolName(Cow::Borrowed("visit"));

    /// Takes a name that schemas and tags can hold.
    ///
    /// # Errors
    /// For an empty or long name, for other characters than ASCII letters, digits, `_` and `-`, and for `think`,
    /// `answer` and `result`.
    pub fn new(name: &str) -> Result<ToolName, ToolNameError> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
            return Err(ToolNameError::Form { name: name.to_owned() });
        }
        if RESERVED.contains(&name) {
            return Err(ToolNameError::Reserved { name: name.to_owned() });
        }
        Ok(ToolName(Cow::Owned(name.to_owned())))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ToolName {
    type Error = ToolNameError;
    fn try_from(name: String) -> Result<ToolName, ToolNameError> {
        ToolName::new(&name)
    }
}

impl From<ToolName> for String {
    fn from(name: ToolName) -> String {
        name.0.into_owned()
    }
}

/// What the model is told of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolSpec {
    /// What a call names.
    pub name: ToolName,
    /// What it does, for the model.
    pub description: String,
    /// What a call gives it.
    pub input: ToolInput,
}

/// What a call of a tool holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolInput {
    /// One text.
    Text {
        /// The argument's name where calls are JSON.
        argument: String,
        /// What it is, for the model.
        about: String,
    },
    /// A JSON object that this JSON schema describes.
    Arguments(Value),
}

impl ToolSpec {
    /// The Python tool, in the words of every recipe.
    #[must_use]
    pub fn python() -> ToolSpec {
        let (argument, about) = ("code".to_owned(), "The program.".to_owned());
        let description = "Runs a Python program and returns what it prints.".to_owned();
        ToolSpec { name: ToolName::PYTHON, description, input: ToolInput::Text { argument, about } }
    }

    /// The search tool, in the words of every recipe.
    #[must_use]
    pub fn search() -> ToolSpec {
        let (argument, about) = ("query".to_owned(), "The query.".to_owned());
        let description = "Looks a query up in a collection of texts and returns the best matches.".to_owned();
        ToolSpec { name: ToolName::SEARCH, description, input: ToolInput::Text { argument, about } }
    }

    /// Both, in the order in which every recipe offers them.
    #[must_use]
    pub fn python_and_search() -> [ToolSpec; 2] {
        [ToolSpec::python(), ToolSpec::search()]
    }

    /// The description that OpenAI's chat completion API has for a function, and that chat templates read.
    #[must_use]
    pub fn schema(&self) -> Value {
        let parameters = match &self.input {
            ToolInput::Text { argument, about } => json!({
                "type": "object",
                "properties": { argument.as_str(): { "type": "string", "description": about } },
                "required": [argument],
            }),
            ToolInput::Arguments(schema) => schema.clone(),
        };
        json!({
            "type": "function",
            "function": { "name": self.name, "description": self.description, "parameters": parameters },
        })
    }

    /// The input of a call by arguments: the one text, or the whole object as canonical JSON. `None` when the tool takes
    /// one text and the arguments are not exactly that.
    #[must_use]
    pub fn input_of(&self, arguments: &Map<String, Value>) -> Option<String> {
        match &self.input {
            ToolInput::Text { argument, .. } => match arguments.get(argument) {
                Some(Value::String(text)) if arguments.len() == 1 => Some(text.clone()),
                _ => None,
            },
            ToolInput::Arguments(_) => Some(canonical_json(&Value::Object(arguments.clone()))),
        }
    }

    /// The input of a call whose text stands between tags: the text, or, of a tool that takes arguments, the JSON object
    /// that it must be, made canonical. `None` when it is no object.
    #[must_use]
    pub fn input_of_text(&self, text: &str) -> Option<String> {
        match &self.input {
            ToolInput::Text { .. } => Some(text.to_owned()),
            ToolInput::Arguments(_) => match serde_json::from_str(text.trim()) {
                Ok(Value::Object(arguments)) => self.input_of(&arguments),
                _ => None,
            },
        }
    }
}

/// JSON without white space and with the keys of every object in byte order, so that equal values are equal texts.
#[must_use]
pub fn canonical_json(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut fields: Vec<(String, Value)> = fields.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Object(Map::from_iter(fields))
            }
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}

/// Names one call in flight; the driver hands it out, the result carries it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// One call, as the model wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Unique among the calls in flight.
    pub id: CallId,
    /// Which tool.
    pub tool: ToolName,
    /// The text exactly as sampled, or the arguments as a canonical JSON object.
    pub input: String,
    /// Randomness inside the tool (Python's `random`, hash seed) follows from this.
    pub seed: Seed,
    /// The calls of this path before it, in order, those before a fork included.
    pub earlier: Arc<[EarlierCall]>,
    /// Whether another path may go on from the same earlier calls, so that what they left behind is still needed; false
    /// without earlier calls. It saves work and no more: it may depend on the order of events, so no answer may depend on
    /// it.
    pub shared: bool,
}

/// A call that a path has made before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EarlierCall {
    /// Which tool.
    pub tool: ToolName,
    /// As [`ToolCall::input`]; every later call of the path carries it.
    pub input: Arc<str>,
    /// As [`ToolCall::seed`].
    pub seed: Seed,
    /// How it ended.
    pub outcome: ToolOutcome,
}

/// How a call ended. Known by the tool's supervisor, never believed from the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolOutcome {
    /// It ran to its end.
    Ok,
    /// The program raised or exited with an error, or the tool refused the call; what it said is kept.
    Raised,
    /// The source does not parse.
    Syntax,
    /// The wall or CPU limit passed and it was killed.
    Timeout,
    /// The memory limit.
    Memory,
    /// It printed more than the output limit and was killed.
    Output,
    /// It asked for more processes or threads than are allowed.
    Pids,
    /// It died of a signal (a segmentation fault, an abort).
    Signal,
    /// Our own fault, not the program's: never to be taken for the model's doing.
    Unavailable,
}

impl ToolOutcome {
    /// Every outcome, in the order of records.
    pub const ALL: [ToolOutcome; 9] = [
        ToolOutcome::Ok,
        ToolOutcome::Raised,
        ToolOutcome::Syntax,
        ToolOutcome::Timeout,
        ToolOutcome::Memory,
        ToolOutcome::Output,
        ToolOutcome::Pids,
        ToolOutcome::Signal,
        ToolOutcome::Unavailable,
    ];

    /// The name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ToolOutcome::Ok => "ok",
            ToolOutcome::Raised => "raised",
            ToolOutcome::Syntax => "syntax",
            ToolOutcome::Timeout => "timeout",
            ToolOutcome::Memory => "memory",
            ToolOutcome::Output => "output",
            ToolOutcome::Pids => "pids",
            ToolOutcome::Signal => "signal",
            ToolOutcome::Unavailable => "unavailable",
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// The call it answers.
    pub id: CallId,
    /// How it ended.
    pub outcome: ToolOutcome,
    /// What the model gets to read. Untrusted: encoded with special tokens disabled. The reason, where the outcome is
    /// [`ToolOutcome::Unavailable`]; the model reads nothing then.
    pub text: String,
    /// Wall time of the call, seconds.
    pub wall_secs: f64,
}

/// Tools behind one door. Calls run concurrently, each with its own deadline, so every submitted call comes back.
pub trait Toolset {
    /// Which tools answer here, in the order in which the model is told of them.
    fn tools(&self) -> &[ToolSpec];
    /// Starts a call.
    fn submit(&mut self, call: ToolCall);
    /// Results that have arrived, in the order of their arrival. With `block`, waits for at least one, unless
    /// nothing is in flight.
    fn poll(&mut self, block: bool) -> Vec<ToolResult>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_tags_and_schemas() {
        let long = "a".repeat(65);
        for name in ["", "a b", "a.b", "a>", "köln", &long, "think", "answer", "result"] {
            assert!(ToolName::new(name).is_err(), "{name:?}");
            assert!(serde_json::from_value::<ToolName>(json!(name)).is_err(), "{name:?}");
        }
        for name in ["python", "time__get_current_time", "a-b_C3", &long[1..]] {
            assert_eq!(ToolName::new(name).unwrap().as_str(), name);
            assert_eq!(serde_json::to_value(ToolName::new(name).unwrap()).unwrap(), json!(name));
        }
        assert_eq!(ToolName::new("python").unwrap(), ToolName::PYTHON);
    }

    #[test]
    fn outcomes_have_their_names_in_records() {
        for outcome in ToolOutcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), json!(outcome.name()));
        }
    }

    #[test]
    fn inputs_are_one_text_or_a_canonical_object() {
        let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let search = ToolSpec::search();
        assert_eq!(search.input_of(&object(r#"{"query": "a"}"#)).as_deref(), Some("a"));
        for bad in [r#"{"query": 1}"#, r#"{"code": "a"}"#, r#"{"query": "a", "n": 1}"#, "{}"] {
            assert_eq!(search.input_of(&object(bad)), None, "{bad}");
        }
        let clock = ToolSpec { input: ToolInput::Arguments(json!({"type": "object"})), ..search };
        let canonical = r#"{"a":[{"x":null,"y":1.5}],"b":"é\n"}"#;
        let written = r#" {"b": "\u00e9\n", "a": [ {"y": 1.5, "x": null} ]} "#;
        assert_eq!(clock.input_of(&object(written)).as_deref(), Some(canonical));
        assert_eq!(clock.input_of_text(written).as_deref(), Some(canonical));
        for bad in ["", "[1]", "{", "{} {}"] {
            assert_eq!(clock.input_of_text(bad), None, "{bad:?}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(clock.input_of_text(&deep), None);
    }
}
