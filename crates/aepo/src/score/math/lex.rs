//! Which tokens does an answer consist of? LaTeX and plain text, with Unicode's mathematical signs.

use super::digits;
use super::tree::Function;

/// More tokens are no answer that anybody compares as an expression.
const MAX_TOKENS: usize = 1500;

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// Decimal digits with at most one point, without separators.
    Digits(String),
    /// `17_8`: the digits and the base.
    Based(String, u32),
    /// A run of ASCII letters.
    Word(String),
    /// One symbol with a name of several letters: `theta`.
    Name(String),
    /// Words in `\text{…}`, or in a script that is not Latin.
    Text(String),
    /// A function.
    Function(Function),
    /// A command that the parser knows: `frac`, `sqrt`, `binom`, `log`, …
    Command(&'static str),
    /// `\begin{…}`.
    Begin(String),
    /// `\end{…}`.
    End,
    /// `\\`, between the rows of a matrix.
    NextRow,
    /// Any other sign, in one spelling; `«` and `»` are the braces of a set.
    Sign(char),
}

/// A token, and whether white space stands before it.
#[derive(Clone, Debug)]
pub struct Lexed {
    pub token: Token,
    pub spaced: bool,
}

/// The tokens of a text.
pub struct Tokens {
    pub list: Vec<Lexed>,
    /// Whether a comma was read as a separator of thousands where it might separate two members of a list.
    pub grouped: bool,
}

/// Reads `text`, or nothing where it holds a sign or a command that no answer consists of. With `group` off, `1,234` is
/// a list of two numbers.
pub fn lex(text: &str, group: bool) -> Option<Tokens> {
    let mut lexer = Lexer { rest: text, out: Vec::new(), spaced: false, depth: 0, group, grouped: false };
    while !lexer.rest.is_empty() {
        lexer.step()?;
        if lexer.out.len() > MAX_TOKENS {
            return None;
        }
    }
    Some(Tokens { list: lexer.out, grouped: lexer.grouped })
}

struct Lexer<'a> {
    rest: &'a str,
    out: Vec<Lexed>,
    spaced: bool,
    /// Of open brackets: inside them a comma always separates.
    depth: usize,
    group: bool,
    grouped: bool,
}

impl<'a> Lexer<'a> {
    fn push(&mut self, token: Token) {
        self.out.push(Lexed { token, spaced: self.spaced });
        self.spaced = false;
    }

    fn take(&mut self, n_bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(n_bytes);
        self.rest = rest;
        taken
    }

    fn step(&mut self) -> Option<()> {
        let first = self.rest.chars().next()?;
        if let Some(based) = digits::based(self.rest) {
            self.take(based.n_bytes);
            self.push(Token::Based(based.digits, based.base));
        } else if first.is_ascii_digit() || (first == '.' && self.rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            let read = digits::decimal(self.rest, self.group && self.depth == 0)?;
            self.grouped |= read.grouped;
            self.take(read.n_bytes);
            self.push(Token::Digits(read.digits));
        } else if first == '\\' {
            self.command()?;
        } else if first.is_ascii_alphabetic() {
            let n = self.rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let word = self.take(n).to_owned();
            self.push(Token::Word(word));
        } else {
            self.take(first.len_utf8());
            self.sign(first)?;
        }
        Some(())
    }

    fn sign(&mut self, c: char) -> Option<()> {
        let token = match c {
            c if c.is_whitespace() => {
                self.spaced = true;
                return Some(());
            }
            '~' | '\u{200b}' | '\u{2062}' => {
                self.spaced = true;
                return Some(());
            }
            '(' | '[' | '{' => {
                self.depth += 1;
                Token::Sign(c)
            }
            ')' | ']' | '}' => {
                self.depth = self.depth.saturating_sub(1);
                Token::Sign(c)
            }
            '*' if self.rest.starts_with('*') => {
                self.take(1);
                Token::Sign('^')
            }
            '<' | '>' | '!' | '=' if self.rest.starts_with('=') => {
                self.take(1);
                Token::Sign(match c {
                    '<' => '≤',
                    '>' => '≥',
                    '!' => '≠',
                    _ => '=',
                })
            }
            '+' if self.rest.starts_with("/-") || self.rest.starts_with("/\u{2212}") => {
                let n = 1 + self.rest[1..].chars().next()?.len_utf8();
                self.take(n);
                Token::Sign('±')
            }
            '+' | '-' | '*' | '/' | '^' | '_' | ',' | ';' | ':' | '=' | '<' | '>' | '!' | '|' | '%' | '$' | '&'
            | '\'' | '±' | '∓' | '≤' | '≥' | '≠' | '≈' | '∪' | '∈' | '°' | '√' | '⌊' | '⌋' | '⌈' | '⌉' | '€' | '£'
            | '¥' => Token::Sign(c),
            '\u{2212}' | '\u{2013}' | '\u{fe63}' => Token::Sign('-'),
            '×' | '·' | '⋅' | '∙' | '∗' | '•' => Token::Sign('*'),
            '÷' | '∕' | '⁄' => Token::Sign('/'),
            '⩽' => Token::Sign('≤'),
            '⩾' => Token::Sign('≥'),
            'º' | '˚' | '∘' => Token::Sign('°'),
            '′' | '’' => Token::Sign('\''),
            '、' => Token::Sign(','),
            '∞' => Token::Command("infty"),
            'π' | '𝜋' => Token::Name("pi".to_owned()),
            '∅' => Token::Command("emptyset"),
            'ℝ' => Token::Command("reals"),
            '⟨' => Token::Sign('('),
            '⟩' => Token::Sign(')'),
            c if digits::SUPERSCRIPTS.contains(c) => {
                let n = self.rest.chars().take_while(|c| digits::SUPERSCRIPTS.contains(*c)).map(char::len_utf8).sum();
                let more = self.take(n);
                return self.superscript(c, more);
            }
            c => {
                if let Some((over, under)) = digits::vulgar_fraction(c) {
                    self.push(Token::Command("frac"));
                    self.push(Token::Digits(over.to_owned()));
                    Token::Digits(under.to_owned())
                } else if let Some(name) = super::names::greek(c) {
                    Token::Name(name.to_owned())
                } else if c.is_alphabetic() {
                    let n = self.rest.chars().take_while(|c| c.is_alphabetic()).map(char::len_utf8).sum();
                    let more = self.take(n);
                    Token::Text(format!("{c}{more}"))
                } else {
                    return None;
                }
            }
        };
        self.push(token);
        Some(())
    }

    /// `²`, `⁻¹`: as `^{2}`, `^{-1}`.
    fn superscript(&mut self, first: char, more: &str) -> Option<()> {
        self.push(Token::Sign('^'));
        self.push(Token::Sign('{'));
        let plain: String = std::iter::once(first).chain(more.chars()).filter_map(digits::from_superscript).collect();
        let number = plain.strip_prefix('-').unwrap_or(&plain);
        if number.is_empty() || number.contains('-') {
            return None;
        }
        if number.len() < plain.len() {
            self.push(Token::Sign('-'));
        }
        self.push(Token::Digits(number.to_owned()));
        self.push(Token::Sign('}'));
        Some(())
    }

    fn command(&mut self) -> Option<()> {
        let after = &self.rest[1..];
        let n = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        if n == 0 {
            let c = after.chars().next()?;
            self.take(1 + c.len_utf8());
            let token = match c {
                ',' | ';' | ':' | '!' | ' ' | '/' => {
                    self.spaced = true;
                    return Some(());
                }
                '\\' => Token::NextRow,
                '{' => {
                    self.depth += 1;
                    Token::Sign('«')
                }
                '}' => {
                    self.depth = self.depth.saturating_sub(1);
                    Token::Sign('»')
                }
                '|' => Token::Sign('|'),
                '%' | '$' | '&' => Token::Sign(c),
                _ => return None,
            };
            self.push(token);
            return Some(());
        }
        self.take(1);
        let name = self.take(n);
        use super::names::Meaning;
        match super::names::command(name)? {
            Meaning::Nothing => self.spaced = true,
            Meaning::Delimiter => {
                // `\left.` and `\right.` stand for no bracket at all.
                if let Some(rest) = self.rest.trim_start().strip_prefix('.') {
                    self.rest = rest;
                }
            }
            Meaning::Sign(c) => {
                match c {
                    '(' | '[' | '«' => self.depth += 1,
                    ')' | ']' | '»' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                self.push(Token::Sign(c));
            }
            Meaning::Is(token) => self.push(token),
            Meaning::Text => {
                let words = self.argument()?;
                self.text(words)?;
            }
            Meaning::Begin => {
                let name = self.argument()?.trim_end_matches('*').to_owned();
                self.depth += 1;
                // The columns of an array.
                if name == "array" && self.rest.trim_start().starts_with('{') {
                    self.argument()?;
                }
                self.push(Token::Begin(name));
            }
            Meaning::End => {
                self.argument()?;
                self.depth = self.depth.saturating_sub(1);
                self.push(Token::End);
            }
        }
        Some(())
    }

    /// What stands between the next braces.
    fn argument(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start().strip_prefix('{')?;
        let n = super::extract::balanced(self.rest)?;
        let inside = self.take(n);
        self.take(1);
        Some(inside)
    }

    /// The content of `\text{…}`: words as one token, anything with digits or signs as if it stood outside.
    fn text(&mut self, words: &'a str) -> Option<()> {
        let trimmed = words.trim().trim_end_matches('.');
        let trimmed = trimmed.strip_prefix('(').and_then(|t| t.strip_suffix(')')).unwrap_or(trimmed);
        if trimmed.is_empty() {
            self.spaced |= !words.is_empty();
        } else if trimmed.chars().all(|c| c.is_alphabetic() || c.is_whitespace() || matches!(c, '-' | '\'' | '/')) {
            self.push(Token::Text(trimmed.to_owned()));
        } else {
            let inner = lex(words, self.group && self.depth == 0)?;
            self.grouped |= inner.grouped;
            self.out.extend(inner.list);
        }
        self.spaced |= words.ends_with(char::is_whitespace);
        Some(())
    }
}
