//! How are tools and their calls read, and with which numbers?

use serde_json::Value;

use super::{Fault, fault};
use crate::data::message::FunctionCall;

/// Reads tools: a list, or a string that holds one. A schema that stands alone is wrapped as a function.
pub(super) fn tools(value: Option<Value>) -> Result<Vec<Value>, Fault> {
    let items = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(Vec::new()),
        Some(Value::String(text)) => match serde_json::from_str(&text) {
            Ok(Value::Array(items)) => items,
            Ok(_) => return fault("tools", "the string holds no list"),
            Err(e) => return fault("tools", format!("the string is no JSON: {e}")),
        },
        Some(Value::Array(items)) => items,
        Some(_) => return fault("tools", "neither a list nor a string that holds one"),
    };
    let tool = |(i, tool): (usize, Value)| {
        check_numbers(&tool, &format!("tools[{i}]"))?;
        let wrapped = tool.get("type").is_some_and(|kind| kind == "function");
        let function = if wrapped { tool.get("function") } else { Some(&tool) };
        match function.and_then(|function| function.get("name")) {
            Some(Value::String(name)) if !name.is_empty() && wrapped => Ok(tool),
            Some(Value::String(name)) if !name.is_empty() => {
                Ok(serde_json::json!({ "type": "function", "function": tool }))
            }
            _ => fault(format!("tools[{i}]"), "no function with a name"),
        }
    };
    items.into_iter().enumerate().map(tool).collect()
}

/// A call of `{"name": …, "arguments": …}`; the arguments are an object, or a string that holds one.
pub(super) fn call(value: Value, key: &str) -> Result<FunctionCall, Fault> {
    let Value::Object(mut call) = value else { return fault(key, "not an object") };
    let name = match call.remove("name") {
        Some(Value::String(name)) if !name.trim().is_empty() => name,
        Some(Value::String(_)) => return fault(format!("{key}.name"), "blank"),
        Some(_) => return fault(format!("{key}.name"), "not a string"),
        None => return fault(format!("{key}.name"), "missing"),
    };
    let key_of_arguments = format!("{key}.arguments");
    let arguments = match call.remove("arguments") {
        Some(Value::Object(arguments)) => Value::Object(arguments),
        Some(Value::String(text)) => match serde_json::from_str(&text) {
            Ok(Value::Object(arguments)) => Value::Object(arguments),
            Ok(_) => return fault(key_of_arguments, "the string holds no object"),
            Err(e) => return fault(key_of_arguments, format!("the string is no JSON: {e}")),
        },
        Some(_) => return fault(key_of_arguments, "neither an object nor a string that holds one"),
        None => return fault(key_of_arguments, "missing"),
    };
    check_numbers(&arguments, &key_of_arguments)?;
    let Value::Object(arguments) = arguments else { return fault(key_of_arguments, "not an object") };
    Ok(FunctionCall { name, arguments })
}

/// Refuses numbers that are not kept as they were written: whole ones of more than 64 bits would be rounded, and the
/// model would learn digits that nobody wrote.
fn check_numbers(value: &Value, key: &str) -> Result<(), Fault> {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(x) if number.is_f64() && x.abs() >= TWO_TO_63 => {
                fault(key, format!("{number} is too large to be kept exactly; write it as a string"))
            }
            _ => Ok(()),
        },
        Value::Array(items) => items.iter().try_for_each(|item| check_numbers(item, key)),
        Value::Object(object) => object.iter().try_for_each(|(name, v)| check_numbers(v, &format!("{key}.{name}"))),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}
