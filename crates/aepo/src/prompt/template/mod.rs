//! How does a conversation become text? By the model's own chat template, rendered as `transformers` renders it.

mod date;
mod environment;
mod json;
mod limits;
mod python;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::{Environment, Error, ErrorKind};
use serde_json::{Map, Value};

use super::message::{FunctionCall, Message, Speaker};
pub use date::Date;

/// Longest source that is compiled, in bytes; the largest published templates have about 30,000.
pub const MAX_SOURCE: usize = 256 * 1024;
/// Most work that one rendering may do, in `minijinja`'s units: an instruction is one, and so are 64 bytes.
pub const MAX_FUEL: u64 = 2_000_000;
/// Longest text that one rendering may produce, in bytes.
pub const MAX_OUTPUT: usize = 32 * 1024 * 1024;

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The source is longer than [`MAX_SOURCE`].
    #[error("the chat template has {n_bytes} bytes, more than {MAX_SOURCE}")]
    SourceTooLong {
        /// Its length.
        n_bytes: usize,
    },
    /// The source is no template.
    #[error("chat template, line {line}: {message}")]
    Syntax {
        /// Line, from 1; 0 where it is not known.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The template called `raise_exception`: it does not take such a conversation.
    #[error("the chat template refuses the conversation: {message}")]
    Refused {
        /// Its own words.
        message: String,
    },
    /// Rendering failed.
    #[error("chat template, line {line}: {message}")]
    Render {
        /// Line, from 1; 0 where it is not known.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Rendering took more than [`MAX_FUEL`].
    #[error("the chat template does not end within {MAX_FUEL} units of work")]
    TooMuchWork,
    /// The text is longer than [`MAX_OUTPUT`].
    #[error("the chat template writes more than {MAX_OUTPUT} bytes")]
    OutputTooLong,
    /// The template writes the date and was given none.
    #[error("the chat template writes today's date; set prompt.date to the one that it is to be")]
    NoDate,
    /// There are function calls to write and the template has no place for them, so they would be lost.
    #[error("the chat template does not write function calls")]
    NoCalls,
    /// There are several templates and none is for this use.
    #[error("the chat templates {names:?} hold no `default`")]
    NoDefault {
        /// Their names.
        names: Vec<String>,
    },
}

/// A compiled chat template with the special tokens' texts that it may name. Cheap to clone.
#[derive(Clone)]
pub struct ChatTemplate {
    env: Arc<Environment<'static>>,
    specials: Arc<BTreeMap<String, String>>,
    source: Arc<str>,
    calls: Option<NoContent>,
}

/// What stands for the content of a message that only makes calls. OpenAI's format has `none`; some templates, as that
/// of Qwen3, fail on it, and some, as those of DeepSeek, write the calls for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoContent {
    None,
    Empty,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).field("specials", &self.specials).finish()
    }
}

/// What a rendering is given beside the messages.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions<'a> {
    /// Schemas of the functions that may be called, in OpenAI's form; none is told from an empty list by no template.
    pub tools: &'a [Value],
    /// Whether the text ends with the beginning of the assistant's next message.
    pub add_generation_prompt: bool,
    /// Further variables, as `enable_thinking` or `date_string`; they go before special tokens of the same name.
    pub variables: &'a BTreeMap<String, Value>,
    /// The date for templates that write it; a rendering must not depend on the day it is done.
    pub today: Option<Date>,
}

/// The template for conversations with or without tools, of the named ones that a `tokenizer_config.json` may hold:
/// `tool_use` where there are tools and it exists, else `default`.
pub fn choose(templates: &BTreeMap<String, String>, with_tools: bool) -> Result<&str, TemplateError> {
    let for_tools = templates.get("tool_use").filter(|_| with_tools);
    match for_tools.or_else(|| templates.get("default")) {
        Some(source) => Ok(source),
        None => Err(TemplateError::NoDefault { names: templates.keys().cloned().collect() }),
    }
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles `source`; `specials` are the names and texts of special tokens as in `tokenizer_config.json`
    /// (`bos_token`, `eos_token`, …).
    pub fn parse(source: &str, specials: BTreeMap<String, String>) -> Result<ChatTemplate, TemplateError> {
        if source.len() > MAX_SOURCE {
            return Err(TemplateError::SourceTooLong { n_bytes: source.len() });
        }
        let mut env = environment::environment().map_err(syntax_error)?;
        env.add_template_owned(NAME, source::prepare(source)?).map_err(syntax_error)?;
        let template =
            ChatTemplate { env: Arc::new(env), specials: Arc::new(specials), source: source.into(), calls: None };
        let calls = [NoContent::None, NoContent::Empty].into_iter().find(|&calls| template.writes_calls(calls));
        Ok(ChatTemplate { calls, ..template })
    }

    /// Whether a call is seen in the text when `content` stands for what is not said beside it.
    fn writes_calls(&self, content: NoContent) -> bool {
        const FUNCTION: &str = "look_up_7f3a";
        let tool = serde_json::json!({"type": "function", "function": {"name": "other", "description": "", "parameters":
            {"type": "object", "properties": {}}}});
        let call = FunctionCall { name: FUNCTION.to_owned(), arguments: Map::new() };
        let messages = [
            Message::text(Speaker::User, "question"),
            Message { calls: vec![call], ..Message::text(Speaker::Assistant, "") },
            Message::text(Speaker::Tool, "result"),
        ];
        let today = Date::new(2000, 1, 1);
        let (tools, variables) = (&[tool][..], &BTreeMap::new());
        let options = RenderOptions { tools, add_generation_prompt: true, variables, today };
        self.write(&messages, &options, content).is_ok_and(|text| text.contains(FUNCTION))
    }

    /// Whether function calls can be rendered.
    #[must_use]
    pub fn has_calls(&self) -> bool {
        self.calls.is_some()
    }

    /// The source it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The conversation as text.
    pub fn render(&self, messages: &[Message], options: &RenderOptions<'_>) -> Result<String, TemplateError> {
        let content = match self.calls {
            Some(content) => content,
            None if messages.iter().any(|message| !message.calls.is_empty()) => return Err(TemplateError::NoCalls),
            None => NoContent::Empty,
        };
        self.write(messages, options, content)
    }

    fn write(
        &self,
        messages: &[Message],
        options: &RenderOptions<'_>,
        content: NoContent,
    ) -> Result<String, TemplateError> {
        let mut context: BTreeMap<&str, minijinja::Value> = BTreeMap::new();
        context.extend(self.specials.iter().map(|(name, text)| (name.as_str(), text.as_str().into())));
        context.extend(options.variables.iter().map(|(name, value)| (name.as_str(), template_value(value))));
        let tools = match options.tools {
            [] => ().into(),
            tools => tools.iter().map(template_value).collect(),
        };
        context.insert("messages", messages.iter().map(|m| template_value(&message_json(m, content))).collect());
        context.insert("tools", tools);
        context.insert("documents", ().into());
        let today = options.today;
        context.insert("strftime_now", minijinja::Value::from_function(move |form: &str| date::now(today, form)));
        context.insert("add_generation_prompt", options.add_generation_prompt.into());
        let template = self.env.get_template(NAME).map_err(render_error)?;
        let mut out = Bounded { bytes: Vec::new(), full: false };
        let rendered = template.render_captured_to(minijinja::Value::from(context), &mut out).map(|_| ());
        if out.full {
            return Err(TemplateError::OutputTooLong);
        }
        rendered.map_err(render_error)?;
        String::from_utf8(out.bytes).map_err(|e| TemplateError::Render { line: 0, message: e.to_string() })
    }
}

/// What a template says on its way out of the engine.
#[derive(Debug, thiserror::Error)]
enum Said {
    /// The text of `raise_exception`.
    #[error("{0}")]
    Raised(String),
    /// `strftime_now` without a date.
    #[error("no date")]
    NoDate,
}

impl From<Said> for Error {
    fn from(said: Said) -> Error {
        Error::new(ErrorKind::InvalidOperation, "refused").with_source(said)
    }
}

/// A writer that stops at [`MAX_OUTPUT`].
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + part.len() > MAX_OUTPUT {
            self.full = true;
            return Err(std::io::Error::other("output too long"));
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn syntax_error(error: Error) -> TemplateError {
    TemplateError::Syntax { line: error.line().unwrap_or(0), message: said(&error) }
}

fn render_error(error: Error) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(at) = cause {
        match at.downcast_ref::<Said>() {
            Some(Said::Raised(message)) => return TemplateError::Refused { message: message.clone() },
            Some(Said::NoDate) => return TemplateError::NoDate,
            None => {}
        }
        if at.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
            return TemplateError::TooMuchWork;
        }
        cause = at.source();
    }
    TemplateError::Render { line: error.line().unwrap_or(0), message: said(&error) }
}

/// The engine's words without the place, which the error has in fields of its own.
fn said(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// A message in the shape that chat templates read.
fn message_json(message: &Message, no_content: NoContent) -> Value {
    let mut map = Map::new();
    map.insert("role".to_owned(), message.role.name().into());
    let only_calls = message.content.is_empty() && !message.calls.is_empty();
    let content = match no_content {
        NoContent::None if only_calls => Value::Null,
        _ => message.content.as_str().into(),
    };
    map.insert("content".to_owned(), content);
    if let Some(name) = &message.name {
        map.insert("name".to_owned(), name.as_str().into());
    }
    if let Some(reasoning) = &message.reasoning {
        // The two names under which published templates look for it.
        map.insert("reasoning_content".to_owned(), reasoning.as_str().into());
        map.insert("thinking".to_owned(), reasoning.as_str().into());
    }
    if !message.calls.is_empty() {
        map.insert("tool_calls".to_owned(), message.calls.iter().map(call_json).collect());
    }
    Value::Object(map)
}

/// A call in OpenAI's shape.
fn call_json(call: &FunctionCall) -> Value {
    serde_json::json!({"type": "function", "function": {"name": call.name, "arguments": call.arguments}})
}

fn template_value(value: &Value) -> minijinja::Value {
    match value {
        Value::Null => ().into(),
        Value::Bool(b) => (*b).into(),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => i.into(),
            (None, Some(u)) => u.into(),
            (None, None) => n.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(template_value).collect::<Vec<_>>().into(),
        Value::Object(map) => {
            minijinja::Value::from_pairs(map.iter().map(|(key, value)| (key.as_str(), template_value(value))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_for_tools_is_chosen_where_there_is_one() {
        let named =
            |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), format!("{n}!"))).collect::<BTreeMap<_, _>>();
        assert_eq!(choose(&named(&["default", "tool_use"]), true), Ok("tool_use!"));
        assert_eq!(choose(&named(&["default", "tool_use"]), false), Ok("default!"));
        assert_eq!(choose(&named(&["default", "rag"]), true), Ok("default!"));
        assert_eq!(choose(&named(&["rag"]), true), Err(TemplateError::NoDefault { names: vec!["rag".to_owned()] }));
    }

    #[test]
    fn errors_say_the_line() {
        let parse = |source: &str| ChatTemplate::parse(source, BTreeMap::new());
        assert!(matches!(parse("\n\n{% if %}"), Err(TemplateError::Syntax { line: 3, .. })));
        let options =
            RenderOptions { tools: &[], add_generation_prompt: true, variables: &BTreeMap::new(), today: None };
        let failed = |source: &str| parse(source).unwrap().render(&[Message::text(Speaker::User, " hi")], &options);
        assert!(matches!(failed("\n{{ nothing.at.all }}"), Err(TemplateError::Render { line: 2, .. })));
        assert_eq!(
            failed("{{ raise_exception('no ' ~ messages[0].role) }}"),
            Err(TemplateError::Refused { message: "no user".to_owned() })
        );
        assert_eq!(failed("{{ messages[0].content }}|{{ tools is none }}"), Ok(" hi|True".to_owned()));
    }
}
