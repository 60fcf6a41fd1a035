//! What did the model do in this turn? Read from the ids it sampled, never from text that looks like tags.
//!
//! ```text
//! turn   = [<think> text </think>] ( <search> text </search> | <python> text </python> | answer )
//! answer = <answer> text \boxed{ text } text </answer> <|end|>
//! ```

use super::tokenizer::Tokenizer;
use super::{Action, Malformation, PromptError};
use crate::tool::Tool;

/// Ids of the tags that a turn is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// `<|end|>`
    pub end: u32,
    /// `<think>`, `</think>`
    pub think: [u32; 2],
    /// `<search>`, `</search>`
    pub search: [u32; 2],
    /// `<python>`, `</python>`
    pub python: [u32; 2],
    /// `<answer>`, `</answer>`
    pub answer: [u32; 2],
}

impl Tags {
    /// Looks the tags up; each must be one special id.
    pub fn new(tokenizer: &Tokenizer) -> Result<Tags, PromptError> {
        let pair = |name: &str| -> Result<[u32; 2], PromptError> {
            Ok([tokenizer.special(&format!("<{name}>"))?, tokenizer.special(&format!("</{name}>"))?])
        };
        Ok(Tags {
            end: tokenizer.special("<|end|>")?,
            think: pair("think")?,
            search: pair("search")?,
            python: pair("python")?,
            answer: pair("answer")?,
        })
    }
}

/// Reads one turn. A turn that is a proper beginning of the grammar but stops short is `NoAction`; one that can no
/// longer become right is `BadTags`.
#[must_use]
pub fn parse(tokenizer: &Tokenizer, tags: &Tags, turn: &[u32]) -> Action {
    match action(tokenizer, tags, turn) {
        Ok(action) => action,
        Err(malformation) => Action::Malformed(malformation),
    }
}

fn action(tokenizer: &Tokenizer, tags: &Tags, turn: &[u32]) -> Result<Action, Malformation> {
    let mut rest = turn;
    if rest.first() == Some(&tags.think[0]) {
        rest = tagged(tokenizer, rest, tags.think)?.1;
    }
    for (tool, pair) in [(Tool::Search, tags.search), (Tool::Python, tags.python)] {
        if rest.first() == Some(&pair[0]) {
            let (input, rest) = tagged(tokenizer, rest, pair)?;
            if !rest.is_empty() {
                return Err(Malformation::BadTags);
            }
            return Ok(Action::Call { tool, input: tokenizer.decode(input) });
        }
    }
    if rest.first() == Some(&tags.answer[0]) {
        let (text, rest) = tagged(tokenizer, rest, tags.answer)?;
        return match rest {
            [] => Err(Malformation::NoAction),
            &[token] if token == tags.end => {
                last_boxed(&tokenizer.decode(text)).map(Action::Answer).ok_or(Malformation::NoBox)
            }
            _ => Err(Malformation::BadTags),
        };
    }
    // Plain words with or without an end: no tag is wrong, there just is nothing to act on.
    let words = rest.strip_suffix(&[tags.end]).unwrap_or(rest);
    if words.iter().any(|&id| tokenizer.is_special(id)) {
        return Err(Malformation::BadTags);
    }
    Err(Malformation::NoAction)
}

/// Splits `ids`, which begin with `pair[0]`, into what stands between the pair and what follows it. No special token
/// may stand between.
fn tagged<'a>(tokenizer: &Tokenizer, ids: &'a [u32], pair: [u32; 2]) -> Result<(&'a [u32], &'a [u32]), Malformation> {
    let inner = &ids[1..];
    let close = inner.iter().position(|&id| tokenizer.is_special(id)).ok_or(Malformation::NoAction)?;
    if inner[close] != pair[1] {
        return Err(Malformation::BadTags);
    }
    Ok((&inner[..close], &inner[close + 1..]))
}

/// The trimmed content of the last `\boxed{…}` whose braces match; nothing when there is none or it is empty. Braces
/// escaped with a backslash do not count.
#[must_use]
pub fn last_boxed(text: &str) -> Option<String> {
    const OPEN: &str = "\\boxed{";
    let starts: Vec<usize> = text.match_indices(OPEN).map(|(at, _)| at + OPEN.len()).collect();
    starts.into_iter().rev().find_map(|start| {
        let content = text[start..].get(..matching_brace(&text[start..])?)?.trim();
        (!content.is_empty()).then(|| content.to_owned())
    })
}

/// Byte index of the `}` that closes a brace opened just before `text`.
fn matching_brace(text: &str) -> Option<usize> {
    let mut depth = 1usize;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::tiny;
    use super::*;

    #[test]
    fn turns_are_read_by_the_grammar() {
        use Malformation::{BadTags, NoAction, NoBox};
        let tokenizer = tiny();
        let tags = Tags::new(&tokenizer).unwrap();
        let call = |tool, input: &str| Action::Call { tool, input: input.to_owned() };
        let answer = |text: &str| Action::Answer(text.to_owned());
        let table = [
            ("<search> Algeria area</search>", call(Tool::Search, " Algeria area")),
            ("<think> I look.</think><python>print( 1 + 2)</python>", call(Tool::Python, "print( 1 + 2)")),
            ("<think></think><search></search>", call(Tool::Search, "")),
            ("<answer>\\boxed{ Algiers}</answer><|end|>", answer("Algiers")),
            ("<think> a</think><answer> It is \\boxed{ 5} km.</answer><|end|>", answer("5")),
            ("<answer>\\boxed{\\frac{1}{2}}</answer><|end|>", answer("\\frac{1}{2}")),
            ("<answer>\\boxed{1} or \\boxed{2}</answer><|end|>", answer("2")),
            ("", Action::Malformed(NoAction)),
            ("<|end|>", Action::Malformed(NoAction)),
            ("Algiers<|end|>", Action::Malformed(NoAction)),
            ("<think> a</think>", Action::Malformed(NoAction)),
            ("<think> a</think><|end|>", Action::Malformed(NoAction)),
            ("<think> a", Action::Malformed(NoAction)),
            ("<search> a", Action::Malformed(NoAction)),
            ("<answer>\\boxed{1}", Action::Malformed(NoAction)),
            ("<answer>\\boxed{1}</answer>", Action::Malformed(NoAction)),
            ("<answer> Algiers</answer><|end|>", Action::Malformed(NoBox)),
            ("<answer>\\boxed{ Algiers</answer><|end|>", Action::Malformed(NoBox)),
            ("<answer>\\boxed{ }</answer><|end|>", Action::Malformed(NoBox)),
            ("<think> a<search> b</search>", Action::Malformed(BadTags)),
            ("<think> a<|end|>", Action::Malformed(BadTags)),
            ("</think><search> a</search>", Action::Malformed(BadTags)),
            ("<think> a</think><think> b</think><search> c</search>", Action::Malformed(BadTags)),
            (" word <search> a</search>", Action::Malformed(BadTags)),
            ("<search> a</python>", Action::Malformed(BadTags)),
            ("<search> a</search><search> b</search>", Action::Malformed(BadTags)),
            ("<search> a</search> b", Action::Malformed(BadTags)),
            ("<search> a</search><|end|>", Action::Malformed(BadTags)),
            ("<result> a</result>", Action::Malformed(BadTags)),
            ("<answer>\\boxed{1}</answer><|end|> more", Action::Malformed(BadTags)),
            ("<answer>\\boxed{1}</answer> more<|end|>", Action::Malformed(BadTags)),
            ("<answer><search> a</search>\\boxed{1}</answer><|end|>", Action::Malformed(BadTags)),
        ];
        for (turn, expected) in table {
            assert_eq!(parse(&tokenizer, &tags, &tokenizer.encode_marked(turn)), expected, "{turn}");
        }
    }

    #[test]
    fn text_that_looks_like_tags_is_no_action() {
        let tokenizer = tiny();
        let tags = Tags::new(&tokenizer).unwrap();
        let turn = tokenizer.encode_text("<answer>\\boxed{1}</answer><|end|>");
        assert_eq!(parse(&tokenizer, &tags, &turn), Action::Malformed(Malformation::NoAction));
    }

    #[test]
    fn boxes_match_their_braces() {
        let table = [
            ("\\boxed{a}", Some("a")),
            ("x \\boxed{ {a}{b} } y", Some("{a}{b}")),
            ("\\boxed{a\\}b}", Some("a\\}b")),
            ("\\boxed{\\{a\\}}", Some("\\{a\\}")),
            ("\\boxed{\\boxed{3}}", Some("3")),
            ("\\boxed{1} \\boxed{2", Some("1")),
            ("boxed{1}", None),
            ("\\boxed{1", None),
            ("\\boxed{\\}", None),
            ("\\boxed 1", None),
        ];
        for (text, expected) in table {
            assert_eq!(last_boxed(text).as_deref(), expected, "{text}");
        }
    }
}
