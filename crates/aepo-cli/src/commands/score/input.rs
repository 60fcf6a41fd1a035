//! What is a row of predictions? One line of JSON, read within bounds.

use std::io::BufRead;

use aepo::data::task::Grader;
use aepo::score::solution;
use serde_json::{Map, Value};

use super::key::Key;
use crate::error::usage;

/// No line is longer, bytes.
const MAX_LINE_BYTES: usize = 16 << 20;

/// What is graded.
pub struct Row {
    /// The line it stands on, counted from 1.
    pub line: u64,
    /// Its own name, as it was given.
    pub id: Option<Value>,
    /// What was asked; empty where nobody said.
    pub question: String,
    /// The answers that were given, at least one.
    pub predictions: Vec<String>,
    /// Whether they came as a list.
    pub is_list: bool,
    /// The answers that are accepted, at least one.
    pub answers: Vec<String>,
    /// How they are compared.
    pub grader: Grader,
}

/// Rows that are being read.
pub struct Input<R> {
    reader: R,
    n_lines: u64,
}

impl<R: BufRead> Input<R> {
    /// Reads from the beginning.
    pub fn new(reader: R) -> Input<R> {
        Input { reader, n_lines: 0 }
    }

    /// The next row; blank lines are passed over. An error names the line, and the key where one is wrong.
    pub fn next(&mut self, grader: Grader, key: Option<&mut Key>) -> anyhow::Result<Option<Row>> {
        let Some(text) = self.text()? else { return Ok(None) };
        let line = self.n_lines;
        let fault = |what: String| usage(format!("line {line}: {what}"), "");
        let object = match serde_json::from_slice(&text) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(fault("not a JSON object".to_owned())),
            Err(error) => return Err(fault(format!("not JSON ({error})"))),
        };
        row(object, line, grader, key).map(Some).map_err(fault)
    }

    /// The next line that is not blank.
    fn text(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            let mut line = Vec::new();
            let limited = &mut self.reader;
            let n = std::io::Read::take(limited, MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
            if n == 0 {
                return Ok(None);
            }
            self.n_lines += 1;
            if n > MAX_LINE_BYTES {
                return Err(usage(format!("line {}: longer than {MAX_LINE_BYTES} bytes", self.n_lines), ""));
            }
            let text = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| self.n_lines == 1).unwrap_or(&line);
            if !text.trim_ascii().is_empty() {
                return Ok(Some(text.trim_ascii().to_vec()));
            }
        }
    }
}

fn row(mut object: Map<String, Value>, line: u64, grader: Grader, key: Option<&mut Key>) -> Result<Row, String> {
    let id = match object.remove("id") {
        None | Some(Value::Null) => None,
        Some(id @ (Value::String(_) | Value::Number(_))) => Some(id),
        Some(other) => return Err(format!("`id`: {} is neither a text nor a number", kind(&other))),
    };
    let question = match object.remove("question") {
        None | Some(Value::Null) => None,
        Some(Value::String(question)) => Some(question),
        Some(other) => return Err(format!("`question`: {} is no text", kind(&other))),
    };
    let (predictions, is_list) = match (object.remove("prediction"), object.remove("predictions")) {
        (Some(_), Some(_)) => return Err("has both `prediction` and `predictions`".to_owned()),
        (None, None) => return Err("`prediction` is missing (or `predictions`, a list)".to_owned()),
        (Some(one), None) => (vec![given("prediction", one)?], false),
        (None, Some(Value::Array(many))) if !many.is_empty() => {
            let texts = many.into_iter().enumerate().map(|(i, one)| given(&format!("predictions[{i}]"), one));
            (texts.collect::<Result<_, _>>()?, true)
        }
        (None, Some(Value::Array(_))) => return Err("`predictions` is empty".to_owned()),
        (None, Some(other)) => return Err(format!("`predictions`: {} is no list", kind(&other))),
    };
    let own = object.remove("answer").filter(|own| !own.is_null()).map(|own| accepted(grader, own)).transpose()?;
    let known = match key {
        Some(key) => key.look_up(id.as_ref(), question.as_deref(), own.is_some())?,
        None => None,
    };
    let (question, answers, grader) = match (known, own) {
        (Some(task), own) => (task.question.clone(), own.unwrap_or_else(|| task.answers.clone()), task.grader),
        (None, Some(own)) => (question.unwrap_or_default(), own, grader),
        (None, None) => return Err("`answer` is missing".to_owned()),
    };
    Ok(Row { line, id, question, predictions, is_list, answers, grader })
}

/// A prediction. `null` says that there was none, which is an answer that is wrong.
fn given(key: &str, value: Value) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("`{key}`: {} is neither a text nor a number", kind(&other))),
    }
}

/// Accepted answers; a worked solution stands for its final answer.
fn accepted(grader: Grader, value: Value) -> Result<Vec<String>, String> {
    let values = match value {
        Value::Array(values) if values.is_empty() => return Err("`answer` is an empty list".to_owned()),
        Value::Array(values) => values,
        one => vec![one],
    };
    let text = |value: Value| match value {
        Value::String(text) => Ok(solution::reference_in(grader, &text).to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("`answer`: {} is neither a text nor a number", kind(&other))),
    };
    values.into_iter().map(text).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
