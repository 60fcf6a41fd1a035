//! How does Python's `json.dumps` write a value? Chat templates call it as the filter `tojson`.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, ErrorKind, Value};

/// Nesting beyond which a value is refused; Python would stop at about 1000.
const MAX_DEPTH: usize = 100;

/// What `json.dumps` is told.
struct Style {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
}

/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, as `transformers` defines it for chat
/// templates: no HTML escapes, keys in their order, `", "` and `": "` between the parts.
pub(super) fn tojson(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    let (given, kwargs): (&[Value], Kwargs) = from_args(&args)?;
    if given.len() > 4 {
        return Err(ErrorKind::TooManyArguments.into());
    }
    let option = |at: usize, name: &str| -> Result<Option<Value>, Error> {
        let value = given.get(at).cloned().map_or_else(|| kwargs.get::<Option<Value>>(name), |v| Ok(Some(v)))?;
        Ok(value.filter(|v| !v.is_none()))
    };
    let truth = |value: Option<Value>| value.is_some_and(|v| v.is_true());
    let ascii = truth(option(0, "ensure_ascii")?);
    let indent = match option(1, "indent")? {
        None => None,
        Some(v) => Some(match v.as_str() {
            Some(text) => text.to_owned(),
            // A width below zero only breaks the lines.
            None => " ".repeat(i64::try_from(v)?.clamp(0, 255) as usize),
        }),
    };
    // With an indent a line ends behind the comma, so the default comma has no space behind it.
    let mut style = Style {
        ascii,
        item: if indent.is_some() { "," } else { ", " }.to_owned(),
        key: ": ".to_owned(),
        sorted: truth(option(3, "sort_keys")?),
        indent,
    };
    if let Some(pair) = option(2, "separators")? {
        let parts: Vec<Value> = pair.try_iter()?.take(3).collect();
        match parts.iter().map(Value::as_str).collect::<Option<Vec<&str>>>().as_deref() {
            Some([item, key]) => (style.item, style.key) = ((*item).to_owned(), (*key).to_owned()),
            _ => return Err(refused("separators must be two strings")),
        }
    }
    kwargs.assert_all_used()?;
    let mut out = String::new();
    write_value(&mut out, value, &style, 0)?;
    Ok(out)
}

/// A float as Python's `repr` writes it: the shortest digits that read back, with an exponent below 1e-4 and from
/// 1e16 on.
#[must_use]
pub fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = x.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{x:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(rest) => ('-', rest),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{x:?}")
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadSerialization, message.into())
}

fn write_value(out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(refused(format!("tojson: values nest deeper than {MAX_DEPTH}")));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if value.is_integer() => push(out, value),
        ValueKind::Number => match float_repr(f64::try_from(value.clone())?).as_str() {
            "nan" => out.push_str("NaN"),
            "inf" => out.push_str("Infinity"),
            "-inf" => out.push_str("-Infinity"),
            text => out.push_str(text),
        },
        ValueKind::String => write_string(out, value.as_str().unwrap_or_default(), style.ascii),
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sorted {
                keys.sort();
            }
            write_items(out, ['{', '}'], keys, style, depth, |out, key| {
                let inner = value.get_item(&key)?;
                match key.kind() {
                    ValueKind::String => write_string(out, key.as_str().unwrap_or_default(), style.ascii),
                    ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                        out.push('"');
                        write_value(out, &key, style, depth + 1)?;
                        out.push('"');
                    }
                    kind => return Err(refused(format!("tojson: a key cannot be a {kind}"))),
                }
                out.push_str(&style.key);
                write_value(out, &inner, style, depth + 1)
            })?;
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_items(out, ['[', ']'], items, style, depth, |out, item| write_value(out, &item, style, depth + 1))?;
        }
        kind => return Err(refused(format!("tojson: a value of type {kind} has no JSON"))),
    }
    Ok(())
}

fn write_items(
    out: &mut String,
    brackets: [char; 2],
    items: Vec<Value>,
    style: &Style,
    depth: usize,
    mut write: impl FnMut(&mut String, Value) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    };
    out.push(brackets[0]);
    let empty = items.is_empty();
    for (idx, item) in items.into_iter().enumerate() {
        if idx > 0 {
            out.push_str(&style.item);
        }
        line(out, depth + 1);
        write(out, item)?;
    }
    if !empty {
        line(out, depth);
    }
    out.push(brackets[1]);
    Ok(())
}

fn write_string(out: &mut String, text: &str, ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (ascii && !(' '..='\u{7e}').contains(&c)) => {
                let mut units = [0u16; 2];
                for unit in c.encode_utf16(&mut units) {
                    push(out, format_args!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn push(out: &mut String, text: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use minijinja::Value;

    #[test]
    fn values_are_written_as_by_json_dumps() {
        let env = super::super::environment::environment().unwrap();
        for (expression, expected) in [
            (
                r"{'b': 1.0, 'a': [1e20, -0.0, 1e-7, true, none, {}, []]}|tojson",
                r#"{"b": 1.0, "a": [1e+20, -0.0, 1e-07, true, null, {}, []]}"#,
            ),
            (r#"'é\u2028"<&\x00\x7f\n'|tojson"#, "\"é\u{2028}\\\"<&\\u0000\u{7f}\\n\""),
            ("'é😀'|tojson(ensure_ascii=true)", r#""\u00e9\ud83d\ude00""#),
            ("{'a': [1, {}], 'b': {}}|tojson(indent=2)", "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {}\n}"),
            ("[1, 2]|tojson(indent='-', separators=(';', '='))", "[\n-1;\n-2\n]"),
            ("{'b': 1, 'a': 2}|tojson(sort_keys=true, separators=(',', ':'))", r#"{"a":2,"b":1}"#),
            ("[1][0:]|tojson(true, -1)", "[\n1\n]"),
            ("{1: 2, none: 3}|tojson", r#"{"1": 2, "null": 3}"#),
        ] {
            let value = env.compile_expression(expression).unwrap().eval(Value::UNDEFINED).unwrap();
            assert_eq!(value.as_str(), Some(expected), "{expression}");
        }
        for expression in ["nothing|tojson", "1|tojson(indnt=2)", "[1]|tojson(separators=(1, 2))"] {
            assert!(env.compile_expression(expression).unwrap().eval(Value::UNDEFINED).is_err(), "{expression}");
        }
    }
}
