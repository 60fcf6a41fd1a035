//! What does a row of our own layout hold? `{"id", "kind", "question", "answers", "grader"}`, checked key by key.

use serde_json::Value;

use super::{Fault, Row};
use crate::data::task::{Grader, Task};

const KEYS: [&str; 5] = ["id", "kind", "question", "answers", "grader"];

/// The task of a row. Keys are checked one by one, because an error of the whole object would not say which of them it
/// means; texts are kept to the letter.
pub fn task(row: &Row) -> Result<Task, Fault> {
    if let Some(unknown) = row.keys().find(|k| !KEYS.contains(&k.as_str())) {
        return Err(Fault::new(unknown, "unknown"));
    }
    let text = |name: &str| match row.get(name) {
        None => Err(Fault::new(name, "missing")),
        Some(Value::String(s)) if s.trim().is_empty() => Err(Fault::new(name, "blank")),
        Some(Value::String(s)) => Ok(s.clone()),
        Some(_) => Err(Fault::new(name, "not a string")),
    };
    let answers = match row.get("answers") {
        None => return Err(Fault::new("answers", "missing")),
        Some(Value::Array(items)) if items.is_empty() => return Err(Fault::new("answers", "empty")),
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(i, item)| match item.as_str() {
                Some(s) if !s.trim().is_empty() => Ok(s.to_owned()),
                Some(_) => Err(Fault::new(&format!("answers[{i}]"), "blank")),
                None => Err(Fault::new(&format!("answers[{i}]"), "not a string")),
            })
            .collect::<Result<Vec<String>, Fault>>()?,
        Some(_) => return Err(Fault::new("answers", "not a list of strings")),
    };
    let said = text("grader")?;
    let grader = Grader::named(&said).ok_or_else(|| Fault::new("grader", Grader::expected(&said)))?;
    Ok(Task { id: text("id")?, kind: text("kind")?, question: text("question")?, answers, grader })
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::super::task_file::{At, Reader, TaskFile, TasksError};
    use super::*;

    const GOOD: &str = r#"{"id":"a","kind":"k","question":"q?","answers":["1","2"],"grader":"math"}"#;

    fn read(rows: &[&str]) -> Result<TaskFile, TasksError> {
        let mut reader = Reader::new("t.jsonl", Shape::Tasks);
        for (at, row) in (1..).map(At::Line).zip(rows) {
            reader.push(at, serde_json::from_str::<Value>(row).unwrap().as_object().unwrap())?;
        }
        reader.finish()
    }

    #[test]
    fn tasks_round_trip() {
        let file = read(&[GOOD, &GOOD.replace("\"a\"", "\"b\"")]).unwrap();
        let tasks = file.tasks;
        assert_eq!((tasks.len(), file.n_rows, &file.places[..]), (2, 2, &[At::Line(1), At::Line(2)][..]));
        assert_eq!((tasks[0].grader, tasks[1].id.as_str(), tasks[0].answers.len()), (Grader::Math, "b", 2));
        assert_eq!(serde_json::to_string(&tasks[0]).unwrap(), GOOD);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let table = [
            (GOOD.replace(r#""id":"a","#, ""), "t.jsonl, line 1, key id: missing"),
            (GOOD.replace(r#""q?""#, "3"), "t.jsonl, line 1, key question: not a string"),
            (GOOD.replace(r#""q?""#, "\" \""), "t.jsonl, line 1, key question: blank"),
            (GOOD.replace(r#"["1","2"]"#, "[]"), "t.jsonl, line 1, key answers: empty"),
            (GOOD.replace(r#"["1","2"]"#, "\"1\""), "t.jsonl, line 1, key answers: not a list of strings"),
            (GOOD.replace(r#"["1","2"]"#, "[\"1\",2]"), "t.jsonl, line 1, key answers[1]: not a string"),
            (
                GOOD.replace("math", "f1"),
                "t.jsonl, line 1, key grader: \"f1\" is none of \"math\", \"qa\", \"choice\" and \"gaia\"",
            ),
            (GOOD.replace("kind", "kin"), "t.jsonl, line 1, key kin: unknown"),
        ];
        for (row, expected) in table {
            assert_eq!(read(&[&row]).unwrap_err().to_string(), expected);
        }
        assert_eq!(read(&[]).unwrap_err().to_string(), "t.jsonl holds no task");
        let twice = read(&[GOOD, GOOD]).unwrap_err().to_string();
        assert_eq!(twice, "t.jsonl, line 2, key id: \"a\" is already the id of line 1");
    }
}
