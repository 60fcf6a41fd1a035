//! Do the arguments fit the tool? What does not is answered at once, naming the place and what was expected there.

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};

/// Mistakes that are named in one answer.
const MAX_NAMED: usize = 3;
/// Characters of one mistake's description.
const MAX_MISTAKE_CHARS: usize = 300;
/// Bytes a pattern of a schema may take once it is compiled.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// Bytes of arguments; longer ones are refused unread.
pub(super) const MAX_ARGUMENT_BYTES: usize = 1 << 20;

/// A schema ready to be applied. It refers to nothing outside itself, and its patterns take linear time.
pub(super) fn compile(schema: &Value) -> Result<Validator, String> {
    if !schema.is_object() {
        return Err("its input schema is no JSON object".to_owned());
    }
    jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES))
        .build(schema)
        .map_err(|e| format!("its input schema cannot be used: {}", cut(&e.to_string())))
}

/// The arguments as an object, if that is what `text` is and it fits. `Err` is for the model to read.
pub(super) fn arguments(validator: &Validator, text: &str) -> Result<Map<String, Value>, String> {
    if text.len() > MAX_ARGUMENT_BYTES {
        return Err(format!("the arguments are {} bytes; at most {MAX_ARGUMENT_BYTES} can be given", text.len()));
    }
    let value: Value = if text.trim().is_empty() {
        Value::Object(Map::new())
    } else {
        serde_json::from_str(text).map_err(|e| format!("the arguments must be one JSON object: {e}"))?
    };
    let mut mistakes = validator.iter_errors(&value);
    let named: Vec<String> = mistakes
        .by_ref()
        .take(MAX_NAMED)
        .map(|mistake| {
            let place = mistake.instance_path().to_string();
            let place = if place.is_empty() { "the arguments" } else { place.as_str() };
            let told = format!("{place}: {mistake}");
            // What was expected matters more than a long value, which stands before it.
            if told.chars().count() > MAX_MISTAKE_CHARS { cut(&format!("{place}: {}", mistake.masked())) } else { told }
        })
        .collect();
    let n_more = mistakes.count();
    if !named.is_empty() {
        let more = if n_more > 0 { format!("; and {n_more} more") } else { String::new() };
        return Err(format!("the arguments do not fit the tool: {}{more}", named.join("; ")));
    }
    match value {
        Value::Object(arguments) => Ok(arguments),
        // The schema may be so wide as to allow this; the protocol does not.
        other => Err(format!("the arguments must be one JSON object, not {}", cut(&other.to_string()))),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_MISTAKE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn time() -> Validator {
        let schema = json!({
            "type": "object",
            "properties": {"timezone": {"type": "string"}, "limit": {"type": "integer", "minimum": 1}},
            "required": ["timezone"],
            "additionalProperties": false
        });
        compile(&schema).unwrap()
    }

    #[test]
    fn what_fits_goes_through_and_the_rest_is_told_why() {
        let check = |text: &str, expected: &str| {
            let reason = arguments(&time(), text).unwrap_err();
            assert!(reason.contains(expected), "{text}\n{reason}");
        };
        assert_eq!(arguments(&time(), r#" {"timezone": "UTC"} "#).unwrap()["timezone"], "UTC");
        check("", "\"timezone\" is a required property");
        check("{", "must be one JSON object");
        check("[]", "is not of type \"object\"");
        check(r#"{"timezone": 3}"#, "/timezone: 3 is not of type \"string\"");
        check(r#"{"timezone": "UTC", "limit": 0}"#, "/limit: 0 is less than the minimum of 1");
        check(r#"{"timezone": "UTC", "zone": 0}"#, "Additional properties are not allowed ('zone' was unexpected)");
        check(&format!("{{\"timezone\": [{}1]}}", "1, ".repeat(5000)), "/timezone: value is not of type \"string\"");
        check(&"[".repeat(5000), "must be one JSON object");
        check(&" ".repeat(MAX_ARGUMENT_BYTES + 1), "at most");
        let wide = compile(&json!({})).unwrap();
        assert!(arguments(&wide, "3").unwrap_err().contains("not 3"));
    }

    #[test]
    fn many_mistakes_are_few_words() {
        let schema = json!({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}});
        let object: Map<String, Value> = (0..1000).map(|i| (format!("key{i}"), json!(i))).collect();
        let reason = arguments(&compile(&schema).unwrap(), &Value::Object(object).to_string()).unwrap_err();
        assert!(reason.ends_with("; and 997 more") && reason.len() < 1000, "{reason}");
    }

    #[test]
    fn hostile_schemas_are_refused_or_harmless() {
        for bad in [
            json!([]),
            json!(true),
            json!({"type": "no such type"}),
            json!({"$ref": "https://elsewhere.example/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"$ref": "#/nowhere"}),
            json!({"type": "object", "properties": {"a": {"pattern": "("}}}),
            json!({"type": "object", "properties": {"a": {"pattern": "((a{1000}){1000}){1000}"}}}),
            json!({"type": "object", "properties": 3}),
        ] {
            assert!(compile(&bad).is_err(), "{bad}");
        }
        // Schemas that lead back to themselves without going into the value.
        for loops in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
            json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"type": "string"}], "not": {"$ref": "#"}}),
        ] {
            if let Ok(validator) = compile(&loops) {
                let _ = arguments(&validator, "{}");
            }
        }
        // A pattern that takes exponential time where patterns backtrack.
        let schema = json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}});
        let text = json!({"a": format!("{}!", "a".repeat(100_000))}).to_string();
        assert!(arguments(&compile(&schema).unwrap(), &text).unwrap_err().contains("does not match"));
        // A schema into which a deep value goes all the way.
        let schema = json!({"type": "object", "additionalProperties": {"$ref": "#"}});
        let text = format!("{}{}", "{\"a\":".repeat(100), "{}".to_owned() + &"}".repeat(100));
        assert!(arguments(&compile(&schema).unwrap(), &text).is_ok());
    }
}
