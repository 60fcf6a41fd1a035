//! What does a row hold under a name? Texts and lists of texts, or what is wrong with them.

use serde_json::{Map, Value};

/// One row of a file.
pub type Row = Map<String, Value>;

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {key}: {problem}")]
pub struct Fault {
    /// Where in the row.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Fault {
    /// A fault of a field.
    #[must_use]
    pub fn new(key: &str, problem: impl Into<String>) -> Fault {
        Fault { key: key.to_owned(), problem: problem.into() }
    }
}

/// The value under a name. A dot in the name goes into an object where no field has the whole name.
#[must_use]
pub fn value<'a>(row: &'a Row, name: &str) -> Option<&'a Value> {
    if let Some(value) = row.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    rest.split('.').try_fold(row.get(first)?, |value, part| value.get(part))
}

/// The first of the names that a row has, with its value; `null` counts as not there.
#[must_use]
pub fn first<'a, 'n>(row: &'a Row, names: &[&'n str]) -> Option<(&'n str, &'a Value)> {
    names.iter().find_map(|&name| Some((name, value(row, name).filter(|value| !value.is_null())?)))
}

/// Why none of the names is there.
#[must_use]
pub fn missing(names: &[&str]) -> Fault {
    match names {
        [name] => Fault::new(name, "missing"),
        [first, rest @ ..] => Fault::new(first, format!("missing, and so are {}", rest.join(", "))),
        [] => Fault::new("", "no field is named"),
    }
}

/// A text or a number, as text without white space around it.
pub fn text(key: &str, value: &Value) -> Result<String, Fault> {
    match value {
        Value::String(text) if text.trim().is_empty() => Err(Fault::new(key, "blank")),
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err(Fault::new(key, "missing")),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(Fault::new(key, "neither text nor a number")),
    }
}

/// A text, a number, or a list of them that is not empty; none twice. A text that is a JSON list of strings, as tables
/// without lists hold one, is that list.
pub fn texts(key: &str, value: &Value) -> Result<Vec<String>, Fault> {
    let mut texts = match value {
        Value::Array(items) if items.is_empty() => return Err(Fault::new(key, "an empty list")),
        Value::Array(items) => {
            let each = items.iter().enumerate().map(|(i, item)| text(&format!("{key}[{i}]"), item));
            each.collect::<Result<Vec<String>, Fault>>()?
        }
        Value::String(cell) => match list_in(cell) {
            Some(list) => list,
            None => vec![text(key, value)?],
        },
        value => vec![text(key, value)?],
    };
    let mut seen = std::collections::HashSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    Ok(texts)
}

/// The strings of a text that is a JSON list of nothing else: `["a", "b"]`, but not `[1, 2]`, which is an interval.
fn list_in(cell: &str) -> Option<Vec<String>> {
    let cell = cell.trim();
    if !cell.starts_with('[') {
        return None;
    }
    let list: Vec<String> = serde_json::from_str(cell).ok()?;
    (!list.is_empty() && list.iter().all(|text| !text.trim().is_empty()))
        .then(|| list.iter().map(|text| text.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn names_go_into_objects_and_null_is_nothing() {
        let row = row(json!({"a": {"b": {"c": 1}}, "a.b": "literal", "n": null, "m": "x"}));
        assert_eq!(value(&row, "a.b.c"), Some(&json!(1)));
        assert_eq!(value(&row, "a.b"), Some(&json!("literal")));
        assert_eq!(value(&row, "a.x"), None);
        assert_eq!(first(&row, &["n", "m"]), Some(("m", &json!("x"))));
        assert_eq!(missing(&["n", "o"]).to_string(), "key n: missing, and so are o");
    }

    #[test]
    fn lists_are_lists_however_they_are_held() {
        let table = [
            (json!("18"), Ok(vec!["18"])),
            (json!(70), Ok(vec!["70"])),
            (json!([" a ", "b", "a"]), Ok(vec!["a", "b"])),
            (json!("[\"a\", \"b\"]"), Ok(vec!["a", "b"])),
            (json!("[1, 2]"), Ok(vec!["[1, 2]"])),
            (json!("[a]"), Ok(vec!["[a]"])),
            (json!("[]"), Ok(vec!["[]"])),
            (json!([]), Err("key k: an empty list")),
            (json!(["a", " "]), Err("key k[1]: blank")),
            (json!(["a", {}]), Err("key k[1]: neither text nor a number")),
            (json!(true), Err("key k: neither text nor a number")),
            (json!(" "), Err("key k: blank")),
        ];
        for (value, expected) in table {
            let got = texts("k", &value).map_err(|fault| fault.to_string());
            let expected = expected.map(|list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(got, expected.map_err(str::to_owned), "{value}");
        }
    }
}
