//! What did the model do in a turn that is written in tags? One grammar for tags that are tokens and tags that are text.
//!
//! ```text
//! turn   = [<think> text </think>] ( <search> text </search> | <python> text </python> | answer )
//! answer = <answer> text \boxed{ text } text </answer> end-of-turn
//! ```
//! Where words are free (arXiv 2510.14545's models write them), text may stand between the parts, before them and behind
//! them, and thoughts may repeat.

use super::{Action, Malformation};
use crate::tool::Tool;

/// A tag of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Think,
    Search,
    Python,
    Answer,
    /// Written by the tools; a model that samples it makes a result up.
    Result,
}

impl Tag {
    pub(super) const ALL: [Tag; 5] = [Tag::Think, Tag::Search, Tag::Python, Tag::Answer, Tag::Result];

    pub(super) fn name(self) -> &'static str {
        match self {
            Tag::Think => "think",
            Tag::Search => "search",
            Tag::Python => "python",
            Tag::Answer => "answer",
            Tag::Result => "result",
        }
    }

    /// `<name>`
    pub(super) fn open(self) -> String {
        format!("<{}>", self.name())
    }

    /// `</name>`
    pub(super) fn close(self) -> String {
        format!("</{}>", self.name())
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
pub(super) fn read(pieces: &[Piece], free_words: bool) -> Action {
    match action(pieces, free_words) {
        Ok(action) => action,
        Err(malformation) => Action::Malformed(malformation),
    }
}

fn action(pieces: &[Piece], free_words: bool) -> Result<Action, Malformation> {
    let mut rest = pieces;
    if free_words {
        rest = skip_words(rest);
        while rest.first() == Some(&Piece::Open(Tag::Think)) {
            rest = skip_words(tagged(rest, Tag::Think)?.1);
        }
    } else if rest.first() == Some(&Piece::Open(Tag::Think)) {
        rest = tagged(rest, Tag::Think)?.1;
    }
    for (tool, tag) in [(Tool::Search, Tag::Search), (Tool::Python, Tag::Python)] {
        if rest.first() == Some(&Piece::Open(tag)) {
            let (input, rest) = tagged(rest, tag)?;
            let rest = if free_words { skip_words(rest) } else { rest };
            if !rest.is_empty() {
                return Err(Malformation::BadTags);
            }
            return Ok(Action::Call { tool, input });
        }
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

/// The pieces of a turn whose tags are text. A program may hold anything but its own closing tag.
pub(super) fn pieces_of_text(text: &str, ended: bool) -> Vec<Piece> {
    let marks: Vec<(String, Piece)> = Tag::ALL
        .into_iter()
        .flat_map(|tag| [(tag.open(), Piece::Open(tag)), (tag.close(), Piece::Close(tag))])
        .collect();
    let (mut pieces, mut rest) = (Vec::new(), text);
    loop {
        let in_program = pieces.last() == Some(&Piece::Open(Tag::Python));
        let next = marks
            .iter()
            .filter(|(_, piece)| !in_program || *piece == Piece::Close(Tag::Python))
            .filter_map(|(mark, piece)| rest.find(mark).map(|at| (at, mark.len(), piece)))
            .min_by_key(|(at, ..)| *at);
        let end = next.map_or(rest.len(), |(at, ..)| at);
        if end > 0 {
            pieces.push(Piece::Text(rest[..end].to_owned()));
        }
        let Some((_, n, piece)) = next else { break };
        pieces.push(piece.clone());
        rest = &rest[end + n..];
    }
    if ended {
        pieces.push(Piece::End);
    }
    pieces
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
    use super::*;

    fn call(tool: Tool, input: &str) -> Action {
        Action::Call { tool, input: input.to_owned() }
    }

    #[test]
    fn tags_that_are_text_leave_words_free() {
        use Malformation::{BadTags, NoAction, NoBox};
        let bad = Action::Malformed;
        let table = [
            ("<search>Algeria area</search>", false, call(Tool::Search, "Algeria area")),
            ("<think>I look.</think>\n<python>print(1)</python>\n", false, call(Tool::Python, "print(1)")),
            ("So:\n<think>a</think> b <think>c</think><search>d</search>", false, call(Tool::Search, "d")),
            (
                "<python>print('<answer>', '</think>')</python>",
                false,
                call(Tool::Python, "print('<answer>', '</think>')"),
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
        ];
        for (text, ended, expected) in table {
            assert_eq!(read(&pieces_of_text(text, ended), true), expected, "{text:?}");
        }
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
