//! What does a request say, field by field? Every field is read, known to be harmless, or refused by name.

use std::ops::RangeInclusive;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::serve::refusal::Refusal;

/// The fields of a request that have not been read yet.
pub(super) struct Fields(Map<String, Value>);

/// Fields that change no answer.
const HARMLESS: [&str; 9] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "request_id",
    "priority",
];

impl Fields {
    pub(super) fn parse(bytes: &[u8]) -> Result<Fields, Refusal> {
        let bad = |why: String| Refusal::new(StatusCode::BAD_REQUEST, why);
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err(bad("the request is no JSON object".to_owned())),
            Err(error) => Err(bad(format!("the request is no JSON: {error}"))),
        }
    }

    /// The field's value; null is as good as none.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(Refusal::field(name, "must be true or false")),
        }
    }

    /// A number in a range.
    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64().filter(|x| range.contains(x)) {
            Some(x) => Ok(Some(x)),
            None => Err(Refusal::field(name, format!("must be a number from {} to {}", range.start(), range.end()))),
        }
    }

    /// A whole number in a range.
    pub(super) fn whole(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_i64().filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => {
                Err(Refusal::field(name, format!("must be a whole number from {} to {}", range.start(), range.end())))
            }
        }
    }

    /// A count in a range.
    pub(super) fn count(&mut self, name: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, Refusal> {
        let bound = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let n = self.whole(name, bound(*range.start())..=bound(*range.end()))?;
        Ok(n.and_then(|n| usize::try_from(n).ok()))
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::field(name, "must be a text")),
        }
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(Refusal::field(name, "must be a list")),
        }
    }

    /// Fields that clients send with the value that means nothing; with another they would change the answer.
    pub(super) fn neutral(&mut self, name: &str, is_neutral: impl Fn(&Value) -> bool) -> Result<(), Refusal> {
        match self.take(name) {
            Some(value) if !is_neutral(&value) => Err(Refusal::unsupported(name, "is not supported")),
            _ => Ok(()),
        }
    }

    /// Refuses what nobody has read.
    pub(super) fn end(mut self) -> Result<(), Refusal> {
        HARMLESS.iter().for_each(|name| drop(self.0.remove(*name)));
        match self.0.into_iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => Err(Refusal::unsupported(&shortened(&name), "is not supported")),
            None => Ok(()),
        }
    }
}

/// What a message shows of a text that somebody else wrote.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
