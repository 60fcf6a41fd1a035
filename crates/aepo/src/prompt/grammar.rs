//! What did the model do in a turn that is written in tags? One grammar for tags that are tokens and tags that are text.
//!
//! ```text
//! turn   = [<think> text </think>] ( <TOOL> text </TOOL> | answer )
//! answer = <answer> text \boxed{ text } text </answer> end-of-turn
//! ```
//! TOOL is the name of a tool. Where words are free (arXiv 2510.14545's models write them), text may stand between the parts, before them and behind
//! them, and thoughts may repeat.

use super::{Action, Malformation};
use crate::data::boxed::last_boxed;
use crate::tool::{ToolName, ToolSpec};

/// A tag of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Think,
    /// A call of the tool at that place of the list.
    Tool(usize),
    Answer,
    /// Written by the tools; a model that samples it makes a result up.
    Result,
}

impl Tag {
    /// The tag of that name, where these tools are offered.
    fn named(name: &str, tools: &[ToolSpec]) -> Option<Tag> {
        match name {
            "think" => Some(Tag::Think),
            "answer" => Some(Tag::Answer),
            "result" => Some(Tag::Result),
            _ => tools.iter().position(|tool| tool.name.as_str() == name).map(Tag::Tool),
        }
    }
}

/// A part of a turn; two texts never stand next to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Open(Tag),
    Close(Tag),
    /// The end of the turn.
    End,
    /// Another special token, which no turn may hold.
    Foreign,
    Text(String),
}

/// Reads one turn. A turn that is a proper beginning of the grammar but stops short is `NoAction`; one that can no
/// longer become right is `BadTags`.
pub(super) fn read(pieces: &[Piece], free_words: bool, tools: &[ToolSpec]) -> Action {
    match action(pieces, free_words, tools) {
        Ok(action) => action,
        Err(malformation) => Action::Malformed(malformation),
    }
}

fn action(pieces: &[Piece], free_words: bool, tools: &[ToolSpec]) -> Result<Action, Malformation> {
    let mut rest = pieces;
    if free_words {
        rest = skip_words(rest);
        while rest.first() == Some(&Piece::Open(Tag::Think)) {
            rest = skip_words(tagged(rest, Tag::Think)?.1);
        }
    } else if rest.first() == Some(&Piece::Open(Tag::Think)) {
        rest = tagged(rest, Tag::Think)?.1;
    }
    if let Some((tool, &Piece::Open(tag))) = rest.first().and_then(|piece| Some((spec_of(piece, tools)?, piece))) {
        let (text, rest) = tagged(rest, tag)?;
        let rest = if free_words { skip_words(rest) } else { rest };
        if !rest.is_empty() {
            return Err(Malformation::BadTags);
        }
        let input = tool.input_of_text(&text).ok_or(Malformation::BadCall)?;
        return Ok(Action::Call { tool: tool.name.clone(), input });
    }
    if rest.first() == Some(&Piece::Open(Tag::Answer)) {
        let (text, rest) = tagged(rest, Tag::Answer)?;
        let rest = if free_words { skip_words(rest) } else { rest };
        return match rest {
            [] => Err(Malformation::NoAction),
            [Piece::End] => last_boxed(&text).map(Action::Answer).ok_or(Malformation::NoBox),
            _ => Err(Malformation::BadTags),
        };
    }
    // Plain words with or without an end: no tag is wrong, there just is nothing to act on.
    let words = rest.strip_suffix(&[Piece::End]).unwrap_or(rest);
    match words.iter().all(|piece| matches!(piece, Piece::Text(_))) {
        true => Err(Malformation::NoAction),
        false => Err(Malformation::BadTags),
    }
}

/// The tool whose call the piece opens.
fn spec_of<'a>(piece: &Piece, tools: &'a [ToolSpec]) -> Option<&'a ToolSpec> {
    match piece {
        Piece::Open(Tag::Tool(idx)) => tools.get(*idx),
        _ => None,
    }
}

fn skip_words(pieces: &[Piece]) -> &[Piece] {
    match pieces.split_first() {
        Some((Piece::Text(_), rest)) => rest,
        _ => pieces,
    }
}

/// Splits `pieces`, which begin with the tag's opening, into the text up to its closing and what follows that. Nothing
/// but text may stand between.
fn tagged(pieces: &[Piece], tag: Tag) -> Result<(String, &[Piece]), Malformation> {
    let (text, rest) = match &pieces[1..] {
        [Piece::Text(text), rest @ ..] => (text.clone(), rest),
        rest => (String::new(), rest),
    };
    match rest.split_first() {
        None => Err(Malformation::NoAction),
        Some((&Piece::Close(close), rest)) if close == tag => Ok((text, rest)),
        Some(_) => Err(Malformation::BadTags),
    }
}

/// The pieces of a turn whose tags are text. A call may hold anything but its own closing tag; only a query, which has no
/// use for tags, may hold none.
pub(super) fn pieces_of_text(text: &str, ended: bool, tools: &[ToolSpec]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    // Where the text that is not yet a piece begins, and where to look for the next tag.
    let (mut start, mut from) = (0, 0);
    while let Some(at) = text[from..].find('<').map(|n| from + n) {
        let held = pieces.last().filter(|piece| spec_of(piece, tools).is_some_and(|t| t.name != ToolName::SEARCH));
        match tag_at(&text[at..], tools) {
            Some((piece, n)) if held.is_none_or(|open| closes(&piece, open)) => {
                if at > start {
                    pieces.push(Piece::Text(text[start..at].to_owned()));
                }
                pieces.push(piece);
                (start, from) = (at + n, at + n);
            }
            _ => from = at + 1,
        }
    }
    if start < text.len() {
        pieces.push(Piece::Text(text[start..].to_owned()));
    }
    if ended {
        pieces.push(Piece::End);
    }
    pieces
}

/// The tag that `text` begins with, and its length in bytes.
fn tag_at(text: &str, tools: &[ToolSpec]) -> Option<(Piece, usize)> {
    let inner = text.strip_prefix('<')?;
    let (closing, name) = inner.strip_prefix('/').map_or((false, inner), |name| (true, name));
    let n_name = name.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'_' || b == b'-'))?;
    let (name, rest) = name.split_at(n_name);
    let tag = Tag::named(name, tools).filter(|_| rest.starts_with('>'))?;
    Some((if closing { Piece::Close(tag) } else { Piece::Open(tag) }, text.len() - rest.len() + 1))
}

fn closes(piece: &Piece, open: &Piece) -> bool {
    matches!((piece, open), (Piece::Close(close), Piece::Open(open)) if close == open)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tool::ToolInput;

    fn call(tool: ToolName, input: &str) -> Action {
        Action::Call { tool, input: input.to_owned() }
    }

    fn tools() -> [ToolSpec; 3] {
        let name = ToolName::new("time__now").unwrap();
        let clock = ToolSpec { name, description: String::new(), input: ToolInput::Arguments(json!({})) };
        [ToolSpec::python(), ToolSpec::search(), clock]
    }

    #[test]
    fn tags_that_are_text_leave_words_free() {
        use Malformation::{BadCall, BadTags, NoAction, NoBox};
        let bad = Action::Malformed;
        let clock = |input: &str| call(ToolName::new("time__now").unwrap(), input);
        let table = [
            ("<search>Algeria area</search>", false, call(ToolName::SEARCH, "Algeria area")),
            ("<think>I look.</think>\n<python>print(1)</python>\n", false, call(ToolName::PYTHON, "print(1)")),
            ("So:\n<think>a</think> b <think>c</think><search>d</search>", false, call(ToolName::SEARCH, "d")),
            (
                "<python>print('<answer>', '</think>')</python>",
                false,
                call(ToolName::PYTHON, "print('<answer>', '</think>')"),
            ),
            ("<answer>\\boxed{5}</answer>", true, Action::Answer("5".to_owned())),
            ("Done. <answer>It is \\boxed{5}.</answer>\n", true, Action::Answer("5".to_owned())),
            ("", false, bad(NoAction)),
            ("It is 5.", true, bad(NoAction)),
            ("<think>a", false, bad(NoAction)),
            ("<think>a</think>", true, bad(NoAction)),
            ("<python>print(1)", true, bad(BadTags)),
            ("<python>print(1)", false, bad(NoAction)),
            ("<answer>\\boxed{5}</answer>", false, bad(NoAction)),
            ("<answer>5</answer>", true, bad(NoBox)),
            ("<search>a</search><search>b</search>", false, bad(BadTags)),
            ("<search>a</search>", true, bad(BadTags)),
            ("<think>a<search>b</search>", false, bad(BadTags)),
            ("</think><search>b</search>", false, bad(BadTags)),
            ("<result>5</result><answer>\\boxed{5}</answer>", true, bad(BadTags)),
            ("<answer>\\boxed{5}</answer><answer>\\boxed{6}</answer>", true, bad(BadTags)),
            ("<time__now>{\"b\": 1, \"a\": \"</think>\"}</time__now>", false, clock("{\"a\":\"</think>\",\"b\":1}")),
            ("<time__now> {} </time__now> ", false, clock("{}")),
            ("<time__now>now</time__now>", false, bad(BadCall)),
            ("<time__now>{}</time__now>", true, bad(BadTags)),
            ("<time__now>{}</search>", false, bad(NoAction)),
            ("<browse>a</browse>", false, bad(NoAction)),
            ("a < b <search>c</search>", false, call(ToolName::SEARCH, "c")),
            ("<search <search>c</search>", false, call(ToolName::SEARCH, "c")),
            ("<python>1<2</python>", false, call(ToolName::PYTHON, "1<2")),
        ];
        let many = "<think>".repeat(50_000);
        assert_eq!(read(&pieces_of_text(&many, true, &tools()), true, &tools()), bad(BadTags));
        for (text, ended, expected) in table {
            assert_eq!(read(&pieces_of_text(text, ended, &tools()), true, &tools()), expected, "{text:?}");
        }
    }
}
