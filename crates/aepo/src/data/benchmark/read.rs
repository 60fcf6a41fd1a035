//! How does a row of a benchmark become a task?

use serde_json::Value;

use super::answer::{looks_mathematical, take};
use super::cipher::decrypt;
use super::{Benchmark, GraderOf, Taking};
use crate::data::files::lookup::{Fault, Row, first, missing, text, texts};
use crate::data::files::repair::Repairs;
use crate::data::files::{LeftOut, Taken, mended};
use crate::data::task::{Grader, Task};

/// Reads the `n`-th row of a file, counted from 1.
pub fn task(benchmark: &Benchmark, row: &Row, n: u64) -> Result<Taken, Fault> {
    let layout = &benchmark.layout;
    let mut repairs = Repairs::default();
    if let Some((key, _)) = layout.attachments.iter().find_map(|key| {
        let value = first(row, &[key])?.1;
        is_something(value).then_some((*key, value))
    }) {
        return Ok(Taken::LeftOut(LeftOut::Attachment { key: key.to_owned() }));
    }
    let (key, value) = first(row, layout.question).ok_or_else(|| missing(layout.question))?;
    let shown = text(key, value)?;
    let canary = row.get("canary").and_then(Value::as_str).filter(|_| layout.encrypted).unwrap_or_default();
    let secret = decrypt(&shown, canary);
    let is_secret = secret.is_some();
    let question = mended(&secret.unwrap_or(shown), key, &mut repairs)?;

    let (key, value) = first(row, layout.answers).ok_or_else(|| missing(layout.answers))?;
    let mut answers = Vec::new();
    for answer in texts(key, value)? {
        if answer == "?" && layout.taking == Taking::Whole {
            return Err(Fault::new(key, "\"?\": this is a test split whose answers are not published"));
        }
        let answer = match is_secret {
            false => answer,
            true => decrypt(&answer, canary).ok_or_else(|| Fault::new(key, "not encrypted like the row's question"))?,
        };
        let answer = mended(&answer, key, &mut repairs)?;
        answers.push(take(layout.taking, key, &answer)?);
    }
    if let Some((key, value)) = first(row, layout.aliases).filter(|(_, value)| is_something(value)) {
        for alias in texts(key, value)? {
            let alias = mended(&alias, key, &mut repairs)?;
            if !answers.contains(&alias) {
                answers.push(alias);
            }
        }
    }

    let grader = match layout.grader {
        GraderOf::Set => benchmark.grader,
        GraderOf::AnswerType => by_answer_type(row, &answers)?,
    };
    let id = match first(row, layout.id) {
        Some((key, value)) => text(key, value)?,
        None => n.to_string(),
    };
    let kind = match first(row, layout.kind).filter(|(_, value)| is_something(value)) {
        Some((key, value)) => kind(key, text(key, value)?),
        None => benchmark.name.to_owned(),
    };
    Ok(Taken::Task { task: Task { id, kind, question, answers, grader }, repairs })
}

/// A level that is a number alone says nothing by itself.
fn kind(key: &str, value: String) -> String {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { format!("{} {value}", key.rsplit('.').next().unwrap_or(key).to_lowercase()) } else { value }
}

/// Whether a field says that something is there.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.trim().is_empty() && text != "false" && text != "False",
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// Letters where the row has choices; texts are compared as mathematics where they look like it.
fn by_answer_type(row: &Row, answers: &[String]) -> Result<Grader, Fault> {
    const KEY: &str = "answer_type";
    let (key, value) = first(row, &[KEY]).ok_or_else(|| missing(&[KEY]))?;
    match text(key, value)?.as_str() {
        "multipleChoice" => Ok(Grader::Choice),
        "exactMatch" if answers.iter().all(|answer| looks_mathematical(answer)) => Ok(Grader::Math),
        "exactMatch" => Ok(Grader::Qa),
        other => Err(Fault::new(key, format!("{other:?} is neither \"exactMatch\" nor \"multipleChoice\""))),
    }
}
