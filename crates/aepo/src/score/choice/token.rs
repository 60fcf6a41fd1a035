//! Of what does an answer to a multiple-choice question consist? Words, single letters, and the marks between them.

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    /// As it was written.
    pub text: &'a str,
    /// Whether it touches what is in front of it.
    pub touches: bool,
}

impl Token<'_> {
    /// Whether it is one of these words, in whatever case.
    pub(super) fn is_in(&self, words: &[&str]) -> bool {
        words.iter().any(|word| word.eq_ignore_ascii_case(self.text))
    }
}

/// Reads an answer of which wide forms are folded. Commands and braces of LaTeX, emphasis of Markdown and quotation marks
/// are left out.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut touches = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let kind = match c {
            '\\' => {
                // `\text`, `\boxed`, `\(`, `\,`: the name or the one character behind it.
                if chars.next().is_some_and(|(_, c)| c.is_ascii_alphabetic()) {
                    while chars.next_if(|(_, c)| c.is_ascii_alphabetic()).is_some() {}
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
        let belongs = |next: char| match kind {
            Kind::Han => is_han(next),
            // `C-4` is one word, and so is `C's`.
            Kind::Word => (next.is_alphanumeric() || matches!(next, '-' | '\'' | '’')) && !is_han(next),
            _ => false,
        };
        while chars.next_if(|(_, next)| belongs(*next)).is_some() {}
        let end = chars.peek().map_or(text.len(), |(end, _)| *end);
        // A hyphen behind a word is a mark, as in `C- 23`; a quotation mark there is nothing.
        let word = &text[at..end];
        let bare = if kind == Kind::Word { word.trim_end_matches(['-', '\'', '’']) } else { word };
        let kind = match bare.as_bytes() {
            [b] if kind == Kind::Word && b.is_ascii_alphabetic() => {
                Kind::Letter(b.to_ascii_uppercase(), b.is_ascii_uppercase())
            }
            _ => kind,
        };
        tokens.push(Token { kind, text: bare, touches });
        if word[bare.len()..].contains('-') {
            tokens.push(Token { kind: Kind::Mark('-'), text: "-", touches: true });
        }
        touches = kind != Kind::Line;
    }
    tokens
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}
