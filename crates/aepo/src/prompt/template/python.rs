//! Which methods do strings, dictionaries and lists have in a chat template? Those of Python that change nothing.

use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::MAX_OUTPUT;

/// Longest list of characters to strip; each character of a text is looked up in it.
const MAX_STRIPPED: usize = 256;

/// Called for every method that `minijinja` does not know.
pub(super) fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            read(state, text.len())?;
            string_method(text, name, args)
        }
        ValueKind::Map => map_method(value, name, args),
        ValueKind::Seq | ValueKind::Iterable => list_method(value, name, args),
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

/// White space as `str.isspace` has it: Unicode's, and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Pays for reading `n_bytes` of text: a unit of work for 64.
pub(super) fn read(state: &State<'_, '_>, n_bytes: usize) -> Result<(), Error> {
    state.consume_fuel(n_bytes as u64 / 64)
}

/// `str.strip(chars)`, at either or both ends.
pub(super) fn strip<'a>(text: &'a str, chars: Option<&str>, start: bool, end: bool) -> &'a str {
    let drop = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if start { text.trim_start_matches(drop) } else { text };
    if end { text.trim_end_matches(drop) } else { text }
}

pub(super) fn string_method(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            if chars.is_some_and(|chars| chars.len() > MAX_STRIPPED) {
                return Err(refused(format!("{name}: more than {MAX_STRIPPED} bytes of characters to strip")));
            }
            strip(text, chars, name != "rstrip", name != "lstrip").into()
        }
        "split" | "rsplit" => {
            let (sep, max, kwargs): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
            let sep = sep.or(kwargs.get("sep")?).filter(|sep| !sep.is_none());
            let max = max.or(kwargs.get("maxsplit")?).and_then(|max| usize::try_from(max).ok());
            kwargs.assert_all_used()?;
            let parts = match &sep {
                None => split_space(text, max.unwrap_or(usize::MAX), name == "rsplit"),
                Some(sep) => match sep.as_str() {
                    None | Some("") => return Err(refused(format!("{name}: no text to split at"))),
                    Some(sep) => split_at(text, sep, max.unwrap_or(usize::MAX), name == "rsplit"),
                },
            };
            parts.into_iter().collect()
        }
        "splitlines" => {
            let (keep, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = keep.or(kwargs.get("keepends")?).unwrap_or(false);
            kwargs.assert_all_used()?;
            lines(text, keep).into_iter().collect()
        }
        "partition" | "rpartition" => {
            let (sep,): (&str,) = from_args(args)?;
            let at = if name == "partition" { text.find(sep) } else { text.rfind(sep) };
            let parts = match at {
                _ if sep.is_empty() => return Err(refused(format!("{name}: no text to split at"))),
                Some(at) => [&text[..at], sep, &text[at + sep.len()..]],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Tuple::from(parts.map(Value::from)).into()
        }
        "startswith" | "endswith" => {
            let (part, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
            let text = window(text, start, end);
            let fits = |part: &Value| match part.as_str() {
                Some(part) if name == "startswith" => Ok(text.starts_with(part)),
                Some(part) => Ok(text.ends_with(part)),
                None => Err(refused(format!("{name}: {} is no text", part.kind()))),
            };
            if part.kind() == ValueKind::Seq {
                let mut any = false;
                for part in part.try_iter()? {
                    any |= fits(&part)?;
                }
                any.into()
            } else {
                fits(part)?.into()
            }
        }
        "replace" => {
            let (old, new, count, kwargs): (&str, &str, Option<i64>, Kwargs) = from_args(args)?;
            let count = count.or(kwargs.get("count")?).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
            kwargs.assert_all_used()?;
            let n = text.matches(old).take(count).count();
            within_bounds(text.len().saturating_add(n.saturating_mul(new.len())))?;
            text.replacen(old, new, n).into()
        }
        "removeprefix" => {
            let (part,): (&str,) = from_args(args)?;
            text.strip_prefix(part).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            text.strip_suffix(part).unwrap_or(text).into()
        }
        "find" | "rfind" | "index" | "rindex" => {
            let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let seen = window(text, start, end);
            let at = if name.starts_with('r') { seen.rfind(part) } else { seen.find(part) };
            let before = seen.as_ptr() as usize - text.as_ptr() as usize;
            match at {
                Some(at) => text[..before + at].chars().count().into(),
                None if name.ends_with("find") => (-1).into(),
                None => return Err(refused(format!("{name}: the text is not there"))),
            }
        }
        "count" => {
            let (part,): (&str,) = from_args(args)?;
            text.matches(part).count().into()
        }
        "join" => {
            let (parts,): (&Value,) = from_args(args)?;
            let mut out = String::new();
            for (idx, part) in parts.try_iter()?.enumerate() {
                let Some(part) = part.as_str() else {
                    return Err(refused(format!("join: item {idx} is a {}, not a text", part.kind())));
                };
                within_bounds(out.len() + text.len() + part.len())?;
                if idx > 0 {
                    out.push_str(text);
                }
                out.push_str(part);
            }
            out.into()
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let (width, fill): (i64, Option<&str>) = from_args(args)?;
            let fill = if name == "zfill" { "0" } else { fill.unwrap_or(" ") };
            pad(text, name, usize::try_from(width).unwrap_or(0), fill)?.into()
        }
        _ => {
            let change = string_change(text, name).ok_or(ErrorKind::UnknownMethod)?;
            let () = from_args(args)?;
            change
        }
    })
}

/// The methods without arguments.
fn string_change(text: &str, name: &str) -> Option<Value> {
    let all = |test: fn(char) -> bool| Value::from(!text.is_empty() && text.chars().all(test));
    Some(match name {
        "upper" => text.to_uppercase().into(),
        "lower" | "casefold" => text.to_lowercase().into(),
        "capitalize" => {
            let first = text.chars().next().map_or(0, char::len_utf8);
            format!("{}{}", text[..first].to_uppercase(), text[first..].to_lowercase()).into()
        }
        "title" => title(text).into(),
        "isspace" => all(is_space),
        // Python tells three kinds of digits apart; all of them are numeric.
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isascii" => text.is_ascii().into(),
        "isupper" => (text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)).into(),
        "islower" => (text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)).into(),
        _ => return None,
    })
}

/// A capital letter wherever a letter follows something else.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphabetic();
    }
    out
}

fn pad(text: &str, name: &str, width: usize, fill: &str) -> Result<String, Error> {
    let missing = width.saturating_sub(text.chars().count());
    within_bounds(text.len().saturating_add(missing.saturating_mul(fill.len())))?;
    if fill.chars().count() != 1 {
        return Err(refused(format!("{name}: the filling must be one character")));
    }
    let (sign, digits) = text.split_at(usize::from(name == "zfill" && text.starts_with(['-', '+'])));
    let left = match name {
        "ljust" => 0,
        // The odd one goes to the left where the width is odd.
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    Ok(format!("{sign}{}{digits}{}", fill.repeat(left), fill.repeat(missing - left)))
}

/// `text[start:end]`, counted in characters, negative from the end.
fn window(text: &str, start: Option<i64>, end: Option<i64>) -> &str {
    if start.is_none() && end.is_none() {
        return text;
    }
    let n = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let place = |at: i64| usize::try_from(if at < 0 { (at + n).max(0) } else { at.min(n) }).unwrap_or(0);
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    let (start, end) = (byte(place(start.unwrap_or(0))), byte(place(end.unwrap_or(n))));
    text.get(start..end).unwrap_or(&text[start..start])
}

fn split_at<'a>(text: &'a str, sep: &str, max: usize, from_end: bool) -> Vec<&'a str> {
    let n = max.saturating_add(1);
    if from_end {
        let mut parts: Vec<&str> = text.rsplitn(n, sep).collect();
        parts.reverse();
        return parts;
    }
    text.splitn(n, sep).collect()
}

/// Words between white space, at most `max` of them cut off.
fn split_space(text: &str, max: usize, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = strip(text, None, true, true);
    while !rest.is_empty() {
        let cut = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        match cut {
            Some(at) if parts.len() < max && from_end => {
                parts.push(rest[at..].trim_start_matches(is_space));
                rest = rest[..at].trim_end_matches(is_space);
            }
            Some(at) if parts.len() < max => {
                parts.push(&rest[..at]);
                rest = rest[at..].trim_start_matches(is_space);
            }
            _ => {
                parts.push(rest);
                rest = "";
            }
        }
    }
    // What is left over behind the last cut keeps the white space at its far end.
    if parts.len() > max
        && let Some(last) = parts.last_mut()
    {
        let (from, n) = (last.as_ptr() as usize - text.as_ptr() as usize, last.len());
        *last = if from_end { &text[..from + n] } else { &text[from..] };
    }
    if from_end {
        parts.reverse();
    }
    parts
}

fn lines(text: &str, keep: bool) -> Vec<&str> {
    let ends = |c: char| matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest.find(ends).unwrap_or(rest.len());
        let n_end = match rest[at..].strip_prefix("\r\n") {
            Some(_) => 2,
            None => rest[at..].chars().next().map_or(0, char::len_utf8),
        };
        parts.push(&rest[..at + if keep { n_end } else { 0 }]);
        rest = &rest[at + n_end..];
    }
    parts
}

fn map_method(value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let pairs = |value: &Value| -> Result<Vec<(Value, Value)>, Error> {
        value.try_iter()?.map(|key| Ok((key.clone(), value.get_item(&key)?))).collect()
    };
    Ok(match name {
        "get" => {
            let (key, default): (&Value, Option<Value>) = from_args(args)?;
            let found = value.as_object().and_then(|map| map.get_value(key));
            found.or(default).unwrap_or_else(|| ().into())
        }
        "items" | "keys" | "values" => {
            let () = from_args(args)?;
            let pick = |(key, item): (Value, Value)| match name {
                "items" => Tuple::from([key, item]).into(),
                "keys" => key,
                _ => item,
            };
            pairs(value)?.into_iter().map(pick).collect()
        }
        _ => return Err(ErrorKind::UnknownMethod.into()),
    })
}

fn list_method(value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(match name {
        "count" => {
            let (what,): (&Value,) = from_args(args)?;
            value.try_iter()?.filter(|item| item == what).count().into()
        }
        "index" => {
            let (what,): (&Value,) = from_args(args)?;
            let at = value.try_iter()?.position(|item| item == *what);
            at.ok_or_else(|| refused("index: the item is not there"))?.into()
        }
        "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort" | "reverse" => {
            return Err(refused(format!("{name}: a template may not change a list")));
        }
        _ => return Err(ErrorKind::UnknownMethod.into()),
    })
}

pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// A single text may not be longer than all that a template may write.
pub(super) fn within_bounds(n_bytes: usize) -> Result<(), Error> {
    if n_bytes > MAX_OUTPUT { Err(ErrorKind::OutOfFuel.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, Value};

    /// Expressions and what Python says of them.
    #[test]
    fn methods_give_what_python_gives() {
        let env = super::super::environment::environment().unwrap();
        for (expression, expected) in [
            (r"' \x1c a \u3000'.strip()", "'a'"),
            ("'xxaxx'.lstrip('x') ~ 'xxaxx'.rstrip('x')", "'axxxxa'"),
            ("'  a b  c '.split()", "['a', 'b', 'c']"),
            ("'  a b  c '.split(none, 1)", "['a', 'b  c ']"),
            ("'  a b  c '.rsplit(none, 1)", "['  a b', 'c']"),
            ("'a,b,,c'.split(',', maxsplit=2)", "['a', 'b', ',c']"),
            ("'a,b,c'.rsplit(',', 1)", "['a,b', 'c']"),
            (r"'a\nb\r\nc\x0bd\u2028'.splitlines()", "['a', 'b', 'c', 'd']"),
            (r"'a\r\nb'.splitlines(keepends=true)", r"['a\r\n', 'b']"),
            ("'a=b=c'.partition('=')", "('a', '=', 'b=c')"),
            ("'a'.rpartition('=')", "('', '', 'a')"),
            ("'abc'.startswith(('x', 'a'))", "True"),
            ("'abc'.startswith('b', 1)", "True"),
            ("'abc'.endswith('b', 0, -1)", "True"),
            ("'aXbXc'.replace('X', '-', 1) ~ 'ab'.replace('', '-')", "'a-bXc-a-b-'"),
            ("['aéb'.find('b'), 'abcabc'.find('c', 3), 'a'.rfind('z'), 'abc'.index('c')]", "[2, 5, -1, 2]"),
            ("'it\\'s x-y 3d'.title()", "\"It'S X-Y 3D\""),
            ("'ß hELLO'.capitalize()", "'SS hello'"),
            ("'7'.zfill(3) ~ '-7'.zfill(4) ~ 'a'.center(4, '*') ~ 'a'.ljust(2) ~ 'a'.rjust(2)", "'007-007*a**a  a'"),
            ("['12'.isdigit(), ''.isspace(), 'aB'.isupper(), 'ab'.islower()]", "[True, False, False, True]"),
            ("{'items': 1}.items()", "[('items', 1)]"),
            ("[{'a': 1}.get('a'), {'a': 1}.get('b'), {'a': 1}.get('b', 5)]", "[1, None, 5]"),
            ("[[1, 2, 1].count(1), [1, 2].index(2), [1, 2, 3][1:].count(3)]", "[2, 1, 1]"),
            ("', '.join(['a', 'b'])", "'a, b'"),
            (
                "[1e16|string, 1e-5|string, 0.1|string, 'x'|int, '1.7'|int, 'x'|float(2)]",
                "['1e+16', '1e-05', '0.1', 0, 1, 2.0]",
            ),
            ("[[] is sequence, 'a' is sequence, {} is sequence, 1 is sequence]", "[True, True, True, False]"),
        ] {
            let value = env.compile_expression(expression).unwrap().eval(Value::UNDEFINED);
            assert_eq!(
                value.map(|value| format!("{value:?}")).map_err(|e| e.to_string()).as_deref(),
                Ok(expected),
                "{expression}"
            );
        }
        let refused = |expression| {
            let env: &Environment<'_> = &env;
            env.compile_expression(expression).unwrap().eval(Value::UNDEFINED).unwrap_err().to_string()
        };
        assert!(refused("'a'.split('')").contains("no text to split at"));
        assert!(refused("'a'.index('b')").contains("not there"));
        assert!(refused("','.join([1])").contains("item 0 is a number"));
        assert!(refused("[1].append(2)").contains("may not change"));
        assert!(refused("'a'.nothing()").contains("nothing"));
    }
}
