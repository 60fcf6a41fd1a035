//! What keeps a hostile template from exhausting the stack or the memory? Bounds on its source, and on what it keeps.
//!
//! `minijinja` bounds the work of a rendering and the nesting of what it parses, but not how deep a value nests that a
//! loop builds up in a variable, nor how long a chain of operators is; both end in recursion, and the process with it.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::TemplateError;
use super::python::refused;

/// Most words, signs and literals in one tag, and most `elif`; published templates have 80 and 30.
const MAX_TOKENS: usize = 400;
/// Deepest nesting of brackets in one tag, and of blocks.
const MAX_BRACKETS: usize = 16;
const MAX_BLOCKS: usize = 32;
/// Most lines, and bytes in a line; the engine counts both in 16 bits.
const MAX_LINES: usize = 60_000;
/// Deepest nesting of a value that a variable holds.
const MAX_DEPTH: usize = 100;
/// Most parts of such a value; each is one unit of work.
const MAX_PARTS: u64 = 100_000;

/// Counts what a source is made of, in the order in which it is read.
#[derive(Default)]
pub(super) struct Counter {
    tokens: usize,
    brackets: usize,
    blocks: usize,
    elifs: usize,
    line: usize,
}

impl Counter {
    /// A tag begins on `line`; `word` is its first one.
    pub(super) fn tag(&mut self, line: usize, word: &str) -> Result<(), TemplateError> {
        (self.tokens, self.brackets, self.line) = (0, 0, line);
        match word {
            "elif" => self.elifs += 1,
            "if" | "for" | "macro" | "call" | "filter" | "with" | "generation" | "autoescape" => self.blocks += 1,
            word if word.starts_with("end") => self.blocks = self.blocks.saturating_sub(1),
            _ => {}
        }
        self.check(self.blocks > MAX_BLOCKS, "blocks nest too deep")?;
        self.check(self.elifs > MAX_TOKENS, "too many `elif`")
    }

    /// One more part of the tag; `c` is how it begins.
    pub(super) fn token(&mut self, c: char) -> Result<(), TemplateError> {
        self.tokens += 1;
        match c {
            '(' | '[' | '{' => self.brackets += 1,
            ')' | ']' | '}' => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.check(self.tokens > MAX_TOKENS, "the tag is too long")?;
        self.check(self.brackets > MAX_BRACKETS, "brackets nest too deep")
    }

    fn check(&self, fault: bool, message: &str) -> Result<(), TemplateError> {
        if fault { Err(TemplateError::Syntax { line: self.line, message: message.to_owned() }) } else { Ok(()) }
    }
}

/// Lines are neither too many nor too long.
pub(super) fn check_lines(source: &str) -> Result<(), TemplateError> {
    let fault = |line: usize, message: &str| Err(TemplateError::Syntax { line, message: message.to_owned() });
    for (idx, line) in source.split('\n').enumerate() {
        if idx >= MAX_LINES {
            return fault(idx + 1, "too many lines");
        }
        if line.len() > MAX_LINES {
            return fault(idx + 1, "the line is too long");
        }
    }
    Ok(())
}

/// Every value that a template puts into a variable passes through here (`source` sees to it). Lazy sequences become
/// lists, as they are in Python.
pub(super) fn held(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let mut parts = 0u64;
    measure(value, 0, &mut parts)?;
    state.consume_fuel(parts)?;
    Ok(match value.kind() {
        ValueKind::Iterable => value.try_iter()?.collect(),
        // A list that is the sum of others is a tree of them, until it is read.
        ValueKind::Seq if !value.is_tuple() => value.try_iter()?.collect(),
        _ => value.clone(),
    })
}

/// As [`held`], for what becomes part of a namespace: a namespace in one could hold itself.
pub(super) fn held_inside(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    if is_namespace(value) {
        return Err(refused("a namespace cannot be part of another value"));
    }
    held(state, value)
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().contains("Namespace"))
}

fn measure(value: &Value, depth: usize, parts: &mut u64) -> Result<(), Error> {
    *parts += 1;
    if depth > MAX_DEPTH {
        return Err(refused(format!("a variable's value nests deeper than {MAX_DEPTH}")));
    }
    if *parts > MAX_PARTS {
        return Err(refused(format!("a variable's value has more than {MAX_PARTS} parts")));
    }
    if depth > 0 && is_namespace(value) {
        return Err(refused("a namespace cannot be part of another value"));
    }
    match value.kind() {
        ValueKind::Map => {
            for key in value.try_iter()? {
                measure(&value.get_item(&key)?, depth + 1, parts)?;
                // A key may be a tuple of anything.
                measure(&key, depth + 1, parts)?;
            }
        }
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                measure(&item, depth + 1, parts)?;
            }
        }
        _ => {}
    }
    Ok(())
}
