//! What must change in a template's source so that `minijinja` reads it as `jinja2` with the extensions of
//! `transformers` does?
//!
//! - Line ends become `\n` before anything else is read.
//! - `{% generation %}` marks what the model wrote. It changes no text, but variables set inside end with it, as with
//!   `{% with %}`, which takes its place.
//! - What is put into a variable passes through the filters of `limits`, which bound it.
//! - Escapes in string literals follow Python, where `\/` is two characters and `\U0001F600` is one.

use std::fmt::Write as _;

use super::TemplateError;
use super::limits::{Counter, check_lines};

/// Names of the filters that bound what is put into a variable and into a namespace.
pub(super) const HELD: &str = "aepo_held";
pub(super) const HELD_INSIDE: &str = "aepo_held_inside";

/// `source` as `minijinja` has to see it, or the bound that it exceeds. What else is no valid template is left for the
/// parser to name.
pub(super) fn prepare(source: &str) -> Result<String, TemplateError> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    check_lines(&source)?;
    let mut counter = Counter::default();
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let mut line = 1;
    while let Some(at) = next_tag(rest) {
        out.push_str(&rest[..at]);
        line += rest[..at].matches('\n').count();
        rest = &rest[at..];
        let n = match &rest.as_bytes()[1] {
            b'#' => {
                let n = rest.find("#}").map_or(rest.len(), |at| at + 2);
                out.push_str(&rest[..n]);
                n
            }
            b'%' => match counted(&mut counter, line, statement(rest))? {
                Some((head, "raw", _)) => {
                    let n = raw_end(rest, head);
                    out.push_str(&rest[..n]);
                    n
                }
                Some((head, "generation", end)) => {
                    let _ = write!(out, "{}with{}", &rest[..head], &rest[head + "generation".len()..end]);
                    end
                }
                Some((head, "endgeneration", end)) => {
                    let _ = write!(out, "{}endwith{}", &rest[..head], &rest[head + "endgeneration".len()..end]);
                    end
                }
                word => expression(rest, "%}", word.is_some_and(|(_, word, _)| word == "set"), &mut counter, &mut out)?,
            },
            _ => {
                counter.tag(line, "")?;
                expression(rest, "}}", false, &mut counter, &mut out)?
            }
        };
        line += rest[..n].matches('\n').count();
        rest = &rest[n..];
    }
    out.push_str(rest);
    check_lines(&out)?;
    Ok(out)
}

type Statement<'a> = Option<(usize, &'a str, usize)>;

fn counted<'a>(counter: &mut Counter, line: usize, found: Statement<'a>) -> Result<Statement<'a>, TemplateError> {
    counter.tag(line, found.map_or("", |(_, word, _)| word))?;
    Ok(found)
}

/// Where the next `{%`, `{{` or `{#` begins.
fn next_tag(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| matches!(pair, [b'{', b'%' | b'{' | b'#']))
}

/// Of a text that begins with `{%`: where its first word begins, the word, and, where nothing but white space follows
/// the word, the end of the tag, else 0.
fn statement(text: &str) -> Statement<'_> {
    let inner = text.get(2..)?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner).trim_start();
    let head = text.len() - inner.len();
    let n_word = inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (word, behind) = inner.split_at(n_word);
    let behind = behind.trim_start();
    let behind = behind.strip_prefix(['-', '+']).unwrap_or(behind);
    let end = behind.strip_prefix("%}").map(|left| text.len() - left.len());
    match (word, end) {
        // With more than the word in it, the tag is for the parser to refuse.
        ("generation" | "endgeneration", None) => None,
        _ => Some((head, word, end.unwrap_or(0))),
    }
}

/// Where the `{% endraw %}` begins that ends a text which begins with `{% raw %}`; the end where there is none.
fn raw_end(text: &str, head: usize) -> usize {
    let mut at = head;
    while let Some(next) = text[at..].find("{%") {
        at += next;
        if matches!(statement(&text[at..]), Some((_, "endraw", _))) {
            return at;
        }
        at += 2;
    }
    text.len()
}

/// Copies a tag up to and with `close`, with its string literals rewritten and, in a `set` statement, its value bounded;
/// the number of bytes read.
fn expression(
    text: &str,
    close: &str,
    set: bool,
    counter: &mut Counter,
    out: &mut String,
) -> Result<usize, TemplateError> {
    out.push_str(&text[..2]);
    let mut at = 2;
    let mut depth = 0usize;
    // Where in `out` the value of a `set` begins, and whether it becomes part of a namespace.
    let mut value: Option<usize> = None;
    let mut inside = false;
    let mut last = ' ';
    while let Some(c) = text[at..].chars().next() {
        if depth == 0 && text[at..].starts_with(close) {
            if let Some(from) = value {
                bound(out, from, inside);
            }
            out.push_str(close);
            return Ok(at + close.len());
        }
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        if !(c.is_whitespace() || in_word(c) && in_word(last)) {
            counter.token(c)?;
        }
        last = c;
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '\'' | '"' => {
                let n = literal_end(&text[at..], c);
                string_literal(&text[at..at + n], out);
                at += n;
                continue;
            }
            '.' if value.is_none() => inside = true,
            '=' if set && depth == 0 && value.is_none() => {
                out.push_str("= (");
                value = Some(out.len());
                at += 1;
                continue;
            }
            _ => {}
        }
        out.push(c);
        at += c.len_utf8();
    }
    Ok(at)
}

/// Closes the bracket that was opened before the value at `from`, and passes it on to the filter that bounds it. A
/// sign for white space at the end stays at the end.
fn bound(out: &mut String, from: usize, inside: bool) {
    let value = out.split_off(from);
    let (value, sign) = match value.strip_suffix(['-', '+']) {
        Some(rest) => (rest, &value[rest.len()..]),
        None => (value.as_str(), ""),
    };
    let filter = if inside { HELD_INSIDE } else { HELD };
    let _ = write!(out, "{value})|{filter} {sign}");
}

/// Length of the string literal that `text` begins with, both quotes included.
fn literal_end(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Rewrites the escapes that the two languages read differently; all others stay as they are.
fn string_literal(literal: &str, out: &mut String) {
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('a') => out.push('\u{7}'),
            Some('v') => out.push('\u{b}'),
            Some('/') => out.push_str("\\\\/"),
            // A backslash before a line end joins the lines.
            Some('\n') => {}
            Some('U') => {
                let code: String = chars.clone().take(8).collect();
                match u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == 8).and_then(char::from_u32) {
                    Some(c) => {
                        chars.nth(7);
                        out.push(c);
                    }
                    None => out.push_str("\\\\U"),
                }
            }
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn only_what_differs_is_rewritten() {
        for (source, expected) in [
            ("a\r\nb\rc", "a\nb\nc"),
            ("{%- generation -%}x{% endgeneration %}", "{%- with -%}x{% endwith %}"),
            ("{% generation x %}", "{% generation x %}"),
            ("{{ '{% generation %}' }}{# {% generation %} #}", "{{ '{% generation %}' }}{# {% generation %} #}"),
            ("{% raw %}{% generation %}{% endraw %}", "{% raw %}{% generation %}{% endraw %}"),
            (r"{{ 'a\/\n\'\U0001F600' ~ {'b': {}} }} '\/'", r"{{ 'a\\/\n\'😀' ~ {'b': {}} }} '\/'"),
            ("{%- set x = [1, 2] -%}", "{%- set x = ( [1, 2] )|aepo_held -%}"),
            ("{% set ns.x = a == b%}", "{% set ns.x = ( a == b)|aepo_held_inside %}"),
            ("{% set x %}a=b{% endset %}", "{% set x %}a=b{% endset %}"),
            ("{{ 'open", "{{ 'open"),
            ("{% raw %}{{", "{% raw %}{{"),
            ("{", "{"),
            ("{%", "{%"),
        ] {
            assert_eq!(prepare(source).unwrap(), expected);
        }
    }
}
