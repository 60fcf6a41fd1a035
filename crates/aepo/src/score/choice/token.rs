//! Of what does an answer to a multiple-choice question consist? Words, single letters, and the marks between them.

use crate::score::text::fold_width;

/// What a piece of the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A single letter, in capitals, and whether it was written so.
    Letter(u8, bool),
    /// A word of Latin or other spaced script, or a number.
    Word,
    /// A stretch of Chinese or Japanese characters.
    Han,
    /// `(` or `[`.
    Open,
    /// `)` or `]`.
    Close,
    /// A line's end.
    Line,
    /// Any other mark.
    Mark(char),
}

/// A piece of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    /// In lower case.
    pub text: String,
    /// Whether it was written in capitals alone.
    pub is_upper: bool,
    /// Whether it touches what is in front of it.
    pub touches: bool,
}

/// Reads an answer. Commands and braces of LaTeX, emphasis of Markdown and quotation marks are left out.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let folded = fold_width(text);
    let mut tokens: Vec<Token> = Vec::new();
    let mut touches = false;
    let mut chars = folded.chars().peekable();
    while let Some(c) = chars.next() {
        let kind = match c {
            '\\' => {
                // `\text`, `\boxed`, `\(`, `\,`: the name or the one character behind it.
                if chars.next().is_some_and(|c| c.is_ascii_alphabetic()) {
                    while chars.next_if(char::is_ascii_alphabetic).is_some() {}
                }
                continue;
            }
            '*' | '_' | '`' | '$' | '{' | '}' | '"' | '“' | '”' | '\'' | '‘' | '’' | '「' | '」' => continue,
            '(' | '[' => Kind::Open,
            ')' | ']' => Kind::Close,
            '\n' => Kind::Line,
            c if c.is_whitespace() || c.is_control() => {
                touches = false;
                continue;
            }
            c if is_han(c) => Kind::Han,
            c if c.is_alphanumeric() => Kind::Word,
            c => Kind::Mark(c),
        };
        let mut word = String::from(c);
        if matches!(kind, Kind::Word | Kind::Han) {
            loop {
                let next = chars.next_if(|next| match kind {
                    Kind::Han => is_han(*next),
                    // `C-4` is one word, and so is `isn't`.
                    _ => (next.is_alphanumeric() || matches!(next, '-' | '\'' | '’')) && !is_han(*next),
                });
                match next {
                    Some('\'' | '’') => {}
                    Some(next) => word.push(next),
                    None => break,
                }
            }
        }
        // A hyphen behind a word is a mark, as in `C - 23` and `C- 23`.
        let n_hyphens = if kind == Kind::Word { word.len() - word.trim_end_matches('-').len() } else { 0 };
        word.truncate(word.len() - n_hyphens);
        let kind = match word.as_bytes() {
            [b] if kind == Kind::Word && b.is_ascii_alphabetic() => {
                Kind::Letter(b.to_ascii_uppercase(), b.is_ascii_uppercase())
            }
            _ => kind,
        };
        let is_upper = word.bytes().all(|b| b.is_ascii_uppercase());
        tokens.push(Token { kind, text: word.to_lowercase(), is_upper, touches });
        for _ in 0..n_hyphens {
            tokens.push(Token { kind: Kind::Mark('-'), text: "-".to_owned(), is_upper: false, touches: true });
        }
        touches = kind != Kind::Line;
    }
    tokens
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}
