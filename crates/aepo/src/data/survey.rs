//! Which fields do the rows of a file have, how often, of what type, and how often are they empty?

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::files::Row;

/// More fields than these are counted, not described.
pub const MAX_FIELDS: usize = 200;

/// One field, or a part of one, by its dotted name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Field {
    /// The name.
    pub name: String,
    /// Rows that have it.
    pub n_rows: usize,
    /// Rows in which it holds nothing: `null`, blank, an empty list or object.
    pub n_empty: usize,
    /// Rows by the type of what it holds.
    pub types: BTreeMap<&'static str, usize>,
}

/// What was seen of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Fields, in the order in which they were first seen.
    pub fields: Vec<Field>,
    /// Whether there are more fields than [`MAX_FIELDS`].
    pub has_more: bool,
    /// Where each field is.
    places: BTreeMap<String, usize>,
}

impl Survey {
    /// Counts a row.
    pub fn add(&mut self, row: &Row) {
        for (name, value) in row {
            self.count(name, value);
            if let Value::Object(parts) = value {
                parts.iter().for_each(|(part, value)| self.count(&format!("{name}.{part}"), value));
            }
        }
    }

    fn count(&mut self, name: &str, value: &Value) {
        let place = match self.places.get(name) {
            Some(&place) => place,
            None if self.fields.len() == MAX_FIELDS => {
                self.has_more = true;
                return;
            }
            None => {
                self.places.insert(name.to_owned(), self.fields.len());
                self.fields.push(Field { name: name.to_owned(), ..Field::default() });
                self.fields.len() - 1
            }
        };
        let (kind, is_empty) = match value {
            Value::Null => ("null", true),
            Value::Bool(_) => ("bool", false),
            Value::Number(_) => ("number", false),
            Value::String(text) => ("text", text.trim().is_empty()),
            Value::Array(items) => ("list", items.is_empty()),
            Value::Object(parts) => ("object", parts.is_empty()),
        };
        let field = &mut self.fields[place];
        field.n_rows += 1;
        field.n_empty += usize::from(is_empty);
        *field.types.entry(kind).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_counted_with_their_types() {
        let mut survey = Survey::default();
        for row in
            [json!({"a": "x", "b": {"c": 1}}), json!({"a": " ", "b": {}}), json!({"a": null, "d": [], "e": true})]
        {
            survey.add(row.as_object().unwrap());
        }
        let line = |field: &Field| format!("{} {} {} {:?}", field.name, field.n_rows, field.n_empty, field.types);
        let said: Vec<String> = survey.fields.iter().map(line).collect();
        let expected = [
            "a 3 2 {\"null\": 1, \"text\": 2}",
            "b 2 1 {\"object\": 2}",
            "b.c 1 0 {\"number\": 1}",
            "d 1 1 {\"list\": 1}",
            "e 1 0 {\"bool\": 1}",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn fields_without_end_are_not_kept() {
        let mut survey = Survey::default();
        for i in 0..2 * MAX_FIELDS {
            survey.add(json!({format!("k{i}"): i}).as_object().unwrap());
        }
        assert_eq!((survey.fields.len(), survey.has_more), (MAX_FIELDS, true));
    }
}
