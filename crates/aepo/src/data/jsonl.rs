//! How are tasks read from a file? One JSON object per line; an error names the file, the line and the key.

use std::collections::HashMap;

use serde_json::Value;

use super::task::Task;

/// What is wrong with a task file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TasksError {
    /// There is no task in it.
    #[error("{file} holds no task")]
    Empty {
        /// What the caller calls the file.
        file: String,
    },
    /// A line is no JSON object.
    #[error("{file}, line {line}: not a JSON object: {cause}")]
    NotJson {
        /// What the caller calls the file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What the reader said.
        cause: String,
    },
    /// A value is missing, of the wrong type, or not allowed.
    #[error("{file}, line {line}, key {key}: {problem}")]
    BadKey {
        /// What the caller calls the file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// Where in the object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

const KEYS: [&str; 5] = ["id", "kind", "question", "answers", "grader"];

/// Reads one [`Task`] per line; blank lines are skipped. Ids must be unique, texts not blank.
pub fn parse_tasks(file: &str, text: &str) -> Result<Vec<Task>, TasksError> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut first_line: HashMap<String, usize> = HashMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, row) in text.lines().enumerate().map(|(i, row)| (i + 1, row)).filter(|(_, row)| !row.trim().is_empty()) {
        let task = parse_row(row).map_err(|problem| match problem {
            RowProblem::Json(cause) => TasksError::NotJson { file: file.to_owned(), line, cause },
            RowProblem::Key(key, problem) => TasksError::BadKey { file: file.to_owned(), line, key, problem },
        })?;
        if let Some(first) = first_line.insert(task.id.clone(), line) {
            let problem = format!("{:?} is already the id of line {first}", task.id);
            return Err(TasksError::BadKey { file: file.to_owned(), line, key: "id".to_owned(), problem });
        }
        tasks.push(task);
    }
    if tasks.is_empty() {
        return Err(TasksError::Empty { file: file.to_owned() });
    }
    Ok(tasks)
}

enum RowProblem {
    Json(String),
    Key(String, String),
}

/// Keys are checked one by one, because an error of the whole object would not say which of them it means.
fn parse_row(row: &str) -> Result<Task, RowProblem> {
    let key = |name: &str, problem: &str| RowProblem::Key(name.to_owned(), problem.to_owned());
    let value: Value = serde_json::from_str(row).map_err(|e| RowProblem::Json(e.to_string()))?;
    let Value::Object(object) = value else {
        return Err(RowProblem::Json("another kind of value".to_owned()));
    };
    if let Some(unknown) = object.keys().find(|k| !KEYS.contains(&k.as_str())) {
        return Err(key(unknown, "unknown"));
    }
    let text = |name: &str| match object.get(name) {
        None => Err(key(name, "missing")),
        Some(Value::String(s)) if s.trim().is_empty() => Err(key(name, "blank")),
        Some(Value::String(s)) => Ok(s.clone()),
        Some(_) => Err(key(name, "not a string")),
    };
    let answers = match object.get("answers") {
        None => return Err(key("answers", "missing")),
        Some(Value::Array(items)) if items.is_empty() => return Err(key("answers", "empty")),
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(i, item)| match item.as_str() {
                Some(s) if !s.trim().is_empty() => Ok(s.to_owned()),
                Some(_) => Err(key(&format!("answers[{i}]"), "blank")),
                None => Err(key(&format!("answers[{i}]"), "not a string")),
            })
            .collect::<Result<Vec<String>, RowProblem>>()?,
        Some(_) => return Err(key("answers", "not a list of strings")),
    };
    let grader = serde_json::from_value(Value::String(text("grader")?))
        .map_err(|_| key("grader", "neither \"math\" nor \"qa\""))?;
    Ok(Task { id: text("id")?, kind: text("kind")?, question: text("question")?, answers, grader })
}

#[cfg(test)]
mod tests {
    use super::super::task::Grader;
    use super::*;

    const GOOD: &str = r#"{"id":"a","kind":"k","question":"q?","answers":["1","2"],"grader":"math"}"#;

    #[test]
    fn tasks_round_trip() {
        let tasks =
            parse_tasks("t.jsonl", &format!("\u{feff}{GOOD}\r\n\n{}\n", GOOD.replace("\"a\"", "\"b\""))).unwrap();
        assert_eq!(tasks.len(), 2);
        assert_eq!((tasks[0].grader, tasks[1].id.as_str(), tasks[0].answers.len()), (Grader::Math, "b", 2));
        assert_eq!(serde_json::to_string(&tasks[0]).unwrap(), GOOD);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let table = [
            (String::new(), "t.jsonl holds no task"),
            ("\n \n".to_owned(), "t.jsonl holds no task"),
            (format!("{GOOD}\n[]"), "t.jsonl, line 2: not a JSON object: another kind of value"),
            (format!("{GOOD}\n\n{GOOD}"), "t.jsonl, line 3, key id: \"a\" is already the id of line 1"),
            (GOOD.replace(r#""id":"a","#, ""), "t.jsonl, line 1, key id: missing"),
            (GOOD.replace(r#""q?""#, "3"), "t.jsonl, line 1, key question: not a string"),
            (GOOD.replace(r#""q?""#, "\" \""), "t.jsonl, line 1, key question: blank"),
            (GOOD.replace(r#"["1","2"]"#, "[]"), "t.jsonl, line 1, key answers: empty"),
            (GOOD.replace(r#"["1","2"]"#, "\"1\""), "t.jsonl, line 1, key answers: not a list of strings"),
            (GOOD.replace(r#"["1","2"]"#, "[\"1\",2]"), "t.jsonl, line 1, key answers[1]: not a string"),
            (GOOD.replace("math", "f1"), "t.jsonl, line 1, key grader: neither \"math\" nor \"qa\""),
            (GOOD.replace("kind", "kin"), "t.jsonl, line 1, key kin: unknown"),
        ];
        for (text, expected) in table {
            assert_eq!(parse_tasks("t.jsonl", &text).unwrap_err().to_string(), expected);
        }
        let broken = parse_tasks("t.jsonl", "{\"id\":").unwrap_err().to_string();
        assert!(broken.starts_with("t.jsonl, line 1: not a JSON object: EOF"), "{broken}");
    }
}
