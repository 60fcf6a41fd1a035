//! How are conversations read from a file? One per line, or as one JSON list, in one of two layouts.
//!
//! The ShareGPT layout is `{"conversations": [{"from": …, "value": …}], "system": …, "tools": …}`, as LLaMA-Factory
//! reads it; the OpenAI layout is `{"messages": [{"role": …, "content": …, "tool_calls": […]}], "tools": …}`. The first
//! row decides which of them a file is in.

mod functions;
mod openai;
mod order;
mod sharegpt;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::message::{Message, Speaker};

/// A conversation to learn from. It ends with the assistant, and every message of the assistant answers something.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// Where it stands in its file.
    pub at: Place,
    /// Tools that the assistant may call, as function schemas: `{"type": "function", "function": {"name": …}}`.
    pub tools: Vec<Value>,
    /// In order.
    pub messages: Vec<Message>,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Line of a file with a row on each, from 1.
    Line(usize),
    /// Item of a file that is one list, from 1.
    Item(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(n) => write!(f, "line {n}"),
            Place::Item(n) => write!(f, "item {n}"),
        }
    }
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Messages of `from` and `value`.
    ShareGpt,
    /// Messages of `role` and `content`.
    OpenAi,
}

impl Layout {
    fn words(self) -> &'static str {
        match self {
            Layout::ShareGpt => "ShareGPT (`from`, `value`)",
            Layout::OpenAi => "OpenAI (`role`, `content`)",
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Chats {
    /// The layout of every row.
    pub layout: Layout,
    /// One at least.
    pub conversations: Vec<Conversation>,
    /// Keys that occur in rows and messages and that nothing reads.
    pub unread: BTreeSet<String>,
}

/// What is wrong with a file of conversations.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// There is nothing in it.
    #[error("{file} holds no conversation")]
    Empty {
        /// What the caller calls the file.
        file: String,
    },
    /// A line is no JSON.
    #[error("{file}, {at}: not JSON: {cause}")]
    NotJson {
        /// What the caller calls the file.
        file: String,
        /// Which row.
        at: Place,
        /// What the reader said.
        cause: String,
    },
    /// A value is missing, of the wrong type, or not allowed.
    #[error("{file}, {at}, key {key}: {problem}")]
    BadKey {
        /// What the caller calls the file.
        file: String,
        /// Which row.
        at: Place,
        /// Where in the row.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads a file: JSON lines, of which blank ones are skipped, or one JSON list. Nothing that is wrong is passed over;
/// keys that this program has no use for are told in [`Chats::unread`].
///
/// # Errors
/// On the first thing that is wrong.
pub fn parse_chats(file: &str, text: &str) -> Result<Chats, ChatError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { file, layout: None, conversations: Vec::new(), unread: BTreeSet::new() };
    if text.trim_start().starts_with('[') {
        reader.list(text)?;
    } else {
        reader.lines(text)?;
    }
    match reader.layout {
        Some(layout) => Ok(Chats { layout, conversations: reader.conversations, unread: reader.unread }),
        None => Err(ChatError::Empty { file: file.to_owned() }),
    }
}

/// What is wrong inside a row.
struct Fault {
    key: String,
    problem: String,
}

fn fault<T>(key: impl Into<String>, problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { key: key.into(), problem: problem.into() })
}

struct Reader<'a> {
    file: &'a str,
    layout: Option<Layout>,
    conversations: Vec<Conversation>,
    unread: BTreeSet<String>,
}

impl Reader<'_> {
    fn lines(&mut self, text: &str) -> Result<(), ChatError> {
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let at = Place::Line(i + 1);
            let row = serde_json::from_str(line).map_err(|e| self.not_json(at, &e))?;
            self.row(at, row)?;
        }
        Ok(())
    }

    /// The rows of a list are taken one by one as they are parsed, so that the list is never in memory as JSON values.
    fn list(&mut self, text: &str) -> Result<(), ChatError> {
        let mut stopped = None;
        let mut n_read = 0;
        let mut json = serde_json::Deserializer::from_str(text);
        let rows = Rows { reader: self, stopped: &mut stopped, n_read: &mut n_read };
        let read = json.deserialize_seq(rows).and_then(|()| json.end());
        match (stopped, read) {
            (Some(error), _) => Err(error),
            (None, Err(e)) => Err(self.not_json(Place::Item(n_read + 1), &e)),
            (None, Ok(())) => Ok(()),
        }
    }

    fn not_json(&self, at: Place, e: &serde_json::Error) -> ChatError {
        ChatError::NotJson { file: self.file.to_owned(), at, cause: e.to_string() }
    }

    fn row(&mut self, at: Place, row: Value) -> Result<(), ChatError> {
        let (tools, messages) = self.read_row(row).map_err(|Fault { key, problem }| {
            let file = self.file.to_owned();
            ChatError::BadKey { file, at, key, problem }
        })?;
        self.conversations.push(Conversation { at, tools, messages });
        Ok(())
    }

    fn read_row(&mut self, row: Value) -> Result<(Vec<Value>, Vec<Message>), Fault> {
        let Value::Object(mut row) = row else { return fault("(row)", "not a JSON object") };
        let list_key = match ["conversations", "messages"].map(|key| row.contains_key(key)) {
            [true, false] => "conversations",
            [false, true] => "messages",
            [true, true] => return fault("messages", "there is `conversations`, too"),
            [false, false] => return fault("messages", "missing, and there is no `conversations` either"),
        };
        let items = match row.remove(list_key) {
            Some(Value::Array(items)) if items.is_empty() => return fault(list_key, "empty"),
            Some(Value::Array(items)) => items,
            _ => return fault(list_key, "not a list"),
        };
        let system = optional_text(&mut row, "system")?.filter(|text| !text.is_empty());
        let tools = functions::tools(row.remove("tools"))?;
        row.remove("id");
        self.note_unread(&row, &REFUSED_IN_ROWS, "")?;

        let layout = self.layout_of(&items, list_key)?;
        let (mut messages, ids) = match layout {
            Layout::ShareGpt => (sharegpt::messages(self, items, list_key)?, Vec::new()),
            Layout::OpenAi => openai::messages(self, items, list_key)?,
        };
        match layout {
            Layout::ShareGpt => order::check_alternation(&messages, list_key)?,
            Layout::OpenAi => order::check_calls(&messages, &ids, list_key)?,
        }
        match system {
            Some(_) if messages[0].role == Speaker::System => {
                return fault("system", format!("{list_key}[0] is a system message, too"));
            }
            Some(text) => messages.insert(0, Message::text(Speaker::System, text)),
            None => {}
        }
        Ok((tools, messages))
    }

    /// The layout of a row by its first message, which must be that of the rows before.
    fn layout_of(&mut self, items: &[Value], list_key: &str) -> Result<Layout, Fault> {
        let first = format!("{list_key}[0]");
        let has = |key: &str| items.first().is_some_and(|item| item.get(key).is_some());
        let layout = match (has("from"), has("role")) {
            (true, false) => Layout::ShareGpt,
            (false, true) => Layout::OpenAi,
            (true, true) => return fault(first, "both `from` and `role`"),
            (false, false) => return fault(first, "neither `from` nor `role`"),
        };
        match *self.layout.get_or_insert(layout) {
            of_file if of_file == layout => Ok(layout),
            of_file => {
                let problem = format!("the {} layout, but the file began in {}", layout.words(), of_file.words());
                fault(first, problem)
            }
        }
    }

    /// Refuses what would change what is learned, and remembers the names of everything else that is left.
    fn note_unread(&mut self, left: &Map<String, Value>, refused: &[(&str, &str)], prefix: &str) -> Result<(), Fault> {
        for (key, _) in left.iter().filter(|(_, value)| !is_nothing(value)) {
            if let Some((_, problem)) = refused.iter().find(|(name, _)| name == key) {
                return fault(format!("{prefix}{key}"), *problem);
            }
            // The position of a message says nothing about a key that nothing reads.
            let class = prefix.find('[').map_or(String::new(), |at| format!("{}[].", &prefix[..at]));
            self.unread.insert(format!("{class}{key}"));
        }
        Ok(())
    }
}

const REFUSED_IN_ROWS: [(&str, &str); 7] = [
    ("images", "only text can be learned here"),
    ("videos", "only text can be learned here"),
    ("audios", "only text can be learned here"),
    ("chosen", "a preference is no conversation to learn from"),
    ("rejected", "a preference is no conversation to learn from"),
    ("functions", "the older form of `tools` is not read"),
    ("loss_mask", "every message of the assistant is learned; leave out what should not be"),
];

/// Puts the rows of a list into a reader, up to the first that is wrong.
struct Rows<'r, 'a> {
    reader: &'r mut Reader<'a>,
    stopped: &'r mut Option<ChatError>,
    n_read: &'r mut usize,
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of conversations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(row) = seq.next_element()? {
            *self.n_read += 1;
            if let Err(error) = self.reader.row(Place::Item(*self.n_read), row) {
                *self.stopped = Some(error);
                // Only a way out of the parser: what is said is `stopped`.
                return Err(A::Error::custom("a row is wrong"));
            }
        }
        Ok(())
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A text that may be absent or null.
fn optional_text(object: &mut Map<String, Value>, key: &str) -> Result<Option<String>, Fault> {
    match object.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => fault(key, "not a string"),
    }
}
