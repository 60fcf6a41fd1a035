//! What does a chat template find around it? The names, filters and tests of `transformers`' sandbox.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, Output, State, Value, escape_formatter};

use super::{MAX_FUEL, Said, json, limits, python, source};

/// `ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])` with the filters
/// and functions that `transformers` adds.
pub(super) fn environment() -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_fuel(Some(MAX_FUEL));
    env.set_unknown_method_callback(python::method);
    env.set_formatter(write_value);
    env.add_filter("tojson", json::tojson);
    env.add_filter("trim", trim);
    env.add_filter("string", |value: &Value| text_of(value));
    env.add_filter("float", float);
    env.add_filter("int", int);
    env.add_filter(source::HELD, limits::held);
    env.add_filter(source::HELD_INSIDE, limits::held_inside);
    env.add_test("lower", |state: &State<'_, '_>, value: &Value| cased(state, value, "islower"));
    env.add_test("upper", |state: &State<'_, '_>, value: &Value| cased(state, value, "isupper"));
    env.add_test("sequence", is_sequence);
    env.add_test("iterable", is_sequence);
    env.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        Err(Said::Raised(message.to_string()).into())
    });
    // It shows the engine's inside, and jinja2 has no such name without an extension.
    env.remove_global("debug");
    Ok(env)
}

fn is_float(value: &Value) -> bool {
    value.kind() == ValueKind::Number && !value.is_integer()
}

/// Python and Rust write floats below 1e-4 and from 1e16 on in different ways.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if is_float(value) {
        return Ok(out.write_str(&json::float_repr(f64::try_from(value.clone())?))?);
    }
    escape_formatter(out, state, value)
}

fn text_of(value: &Value) -> Result<Value, Error> {
    if value.kind() == ValueKind::String {
        return Ok(value.clone());
    }
    if is_float(value) {
        return Ok(json::float_repr(f64::try_from(value.clone())?).into());
    }
    let text = value.to_string();
    python::within_bounds(text.len())?;
    Ok(text.into())
}

fn trim(state: &mut State<'_, '_>, value: &Value, chars: Option<&str>) -> Result<Value, Error> {
    let text = text_of(value)?;
    python::method(state, &text, "strip", &chars.map(Value::from).into_iter().collect::<Vec<_>>())
}

/// `float(value, default=0.0)`
fn float(value: &Value, default: Option<f64>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = default.or(kwargs.get("default")?).unwrap_or(0.0);
    kwargs.assert_all_used()?;
    let read = match value.as_str() {
        Some(text) => text.trim_matches(python::is_space).parse().ok(),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(read.unwrap_or(default).into())
}

/// `int(value, default=0)`: a text may hold a float, whose fraction is cut off.
fn int(value: &Value, default: Option<i64>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = default.or(kwargs.get("default")?).unwrap_or(0);
    kwargs.assert_all_used()?;
    if value.is_integer() {
        return Ok(value.clone());
    }
    let whole = value.as_str().and_then(|text| text.trim_matches(python::is_space).parse::<i64>().ok());
    let cut = |x: f64| (x.is_finite() && x.abs() < 9.0e18).then_some(x as i64);
    let read = whole.or(f64::try_from(float(value, Some(f64::NAN), Kwargs::from_iter::<[(&str, Value); 0]>([]))?)
        .ok()
        .and_then(cut));
    Ok(read.unwrap_or(default).into())
}

fn cased(state: &State<'_, '_>, value: &Value, method: &str) -> Result<Value, Error> {
    let text = text_of(value)?;
    let text = text.as_str().unwrap_or_default();
    python::read(state, text.len())?;
    python::string_method(text, method, &[])
}

/// jinja2 asks whether there are a length and items: texts, mappings and what is undefined have them too.
fn is_sequence(value: &Value) -> bool {
    // What is lazy here, as a slice, is a list in Python.
    let lists = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    lists || matches!(value.kind(), ValueKind::Map | ValueKind::String | ValueKind::Undefined)
}
