//! What does a source file say, without its comments and literals? A file as the rules read it.

use std::fmt;

/// A path as it is written in the code: `crate::train::batch::TreeBatch`, `println!`, `unsafe`. An import of a module
/// under its own name (`use std::time;`) counts as a mention of the module.
pub struct Mention {
    pub line: usize,
    pub path: String,
    /// How many modules with a body in this file lie around it.
    pub n_inline_mods: usize,
}

pub struct Source {
    /// From the workspace's root, with `/`.
    pub path: String,
    pub text: String,
    /// `text` with comments and literals blanked, line by line the same. Empty for what is not Rust.
    pub code: String,
    pub mentions: Vec<Mention>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let code = if path.ends_with(".rs") { blank(text) } else { String::new() };
        let mentions = mentions(&code);
        Source { path: path.to_string(), text: text.to_string(), code, mentions }
    }

    /// The crate's folder name.
    pub fn krate(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    pub fn fault(&self, line: usize, message: String) -> Fault {
        Fault { path: self.path.clone(), line, message }
    }

    /// A fault for each mention of one of `paths` or of something below it.
    pub fn forbid(&self, paths: &[&str], why: &str) -> Vec<Fault> {
        let hit = |m: &&Mention| {
            paths.iter().any(|p| m.path.strip_prefix(p).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
        };
        self.mentions.iter().filter(hit).map(|m| self.fault(m.line, format!("`{}`: {why}", m.path))).collect()
    }
}

pub struct Fault {
    pub path: String,
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Comments, strings and characters become spaces; line ends stay.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = literal_end(&chars, i).min(chars.len());
        if end <= i {
            out.push(chars[i]);
            i += 1;
        } else {
            out.extend(chars[i..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            i = end;
        }
    }
    out
}

/// The index behind the comment or literal that begins at `i`, or `i` if none does. May lie beyond the end of a text
/// that stops inside one.
fn literal_end(chars: &[char], i: usize) -> usize {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let starts = |i: usize, s: &str| s.chars().enumerate().all(|(j, c)| at(i + j) == c);
    let mut end = i;
    if starts(i, "//") {
        while end < chars.len() && at(end) != '\n' {
            end += 1;
        }
    } else if starts(i, "/*") {
        let mut depth = 0;
        loop {
            if starts(end, "/*") {
                (depth, end) = (depth + 1, end + 2);
            } else if starts(end, "*/") {
                (depth, end) = (depth - 1, end + 2);
            } else {
                end += 1;
            }
            if depth == 0 || end >= chars.len() {
                break;
            }
        }
    } else if at(i) == 'r' && (i == 0 || !is_name(at(i - 1)) || "bc".contains(at(i - 1))) {
        let n_hashes = (i + 1..).take_while(|&j| at(j) == '#').count();
        if at(i + 1 + n_hashes) == '"' {
            let close = format!("\"{}", "#".repeat(n_hashes));
            end = i + 2 + n_hashes;
            while end < chars.len() && !starts(end, &close) {
                end += 1;
            }
            end += close.len();
        }
    } else if at(i) == '"' {
        end = i + 1;
        while end < chars.len() && at(end) != '"' {
            end += if at(end) == '\\' { 2 } else { 1 };
        }
        end += 1;
    } else if starts(i, "'\\") {
        end = i + 3;
        while end < chars.len() && at(end) != '\'' {
            end += 1;
        }
        end += 1;
    } else if at(i) == '\'' && at(i + 2) == '\'' {
        // Otherwise the quote begins a lifetime.
        end = i + 3;
    }
    end
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[derive(PartialEq)]
enum Token {
    Name(String),
    PathSep,
    Open,
    Close,
    Star,
    Bang,
    Other,
}

/// The tokens that paths are made of, each with its line.
fn tokens(code: &str) -> Vec<(usize, Token)> {
    let mut out = Vec::new();
    for (i, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(c) = rest.chars().next() {
            let name_len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let (token, len) = match c {
                _ if name_len > 0 && c.is_numeric() => (Token::Other, name_len),
                _ if name_len > 0 => (Token::Name(rest[..name_len].to_string()), name_len),
                ':' if rest.starts_with("::") => (Token::PathSep, 2),
                '!' if rest.starts_with("!=") => (Token::Other, 2),
                '{' => (Token::Open, 1),
                '}' => (Token::Close, 1),
                '*' => (Token::Star, 1),
                '!' => (Token::Bang, 1),
                _ => (Token::Other, c.len_utf8()),
            };
            out.push((i + 1, token));
            rest = rest[len..].trim_start();
        }
    }
    out
}

/// Every path in the code, with the groups of `use` written out: `std::{fs, io::Read}` gives two.
pub fn mentions(code: &str) -> Vec<Mention> {
    let tokens = tokens(code);
    let mut out = Vec::new();
    // How many braces are open, and how many were where each inline module began.
    let (mut n_open, mut mods): (usize, Vec<usize>) = (0, Vec::new());
    let mut i = 0;
    while i < tokens.len() {
        match tokens[i].1 {
            Token::Name(_) => {
                let first = out.len();
                i = path_tree(&tokens, i, "", &mut out);
                out[first..].iter_mut().for_each(|m: &mut Mention| m.n_inline_mods = mods.len());
                continue;
            }
            Token::Open => {
                let is_mod = |token: &Token| matches!(token, Token::Name(name) if name == "mod");
                if i >= 2 && is_mod(&tokens[i - 2].1) {
                    mods.push(n_open);
                }
                n_open += 1;
            }
            Token::Close => {
                n_open = n_open.saturating_sub(1);
                mods.pop_if(|start| *start == n_open);
            }
            _ => {}
        }
        i += 1;
    }
    out
}

/// Reads the path, or the group of paths, that begins at token `i`; returns the index behind it.
fn path_tree(tokens: &[(usize, Token)], mut i: usize, prefix: &str, out: &mut Vec<Mention>) -> usize {
    let token = |i: usize| tokens.get(i).map(|(_, token)| token);
    let join = |name: &str| if prefix.is_empty() { name.to_string() } else { format!("{prefix}::{name}") };
    let line = tokens[i].0;
    match &tokens[i].1 {
        Token::Name(name) => {
            let goes_on = matches!(token(i + 2), Some(Token::Name(_) | Token::Open | Token::Star));
            if token(i + 1) == Some(&Token::PathSep) && goes_on {
                return path_tree(tokens, i + 2, &join(name), out);
            }
            let bang = if token(i + 1) == Some(&Token::Bang) { "!" } else { "" };
            // `a::{self}` names `a`.
            let path = if name == "self" && !prefix.is_empty() { prefix.to_string() } else { join(name) };
            out.push(Mention { line, path: path + bang, n_inline_mods: 0 });
            i + 1
        }
        Token::Open => {
            i += 1;
            loop {
                match token(i) {
                    None => return i,
                    Some(Token::Close) => return i + 1,
                    // `as Other` renames; the new name is no path.
                    Some(Token::Name(name)) if name == "as" => i += 2,
                    Some(Token::Name(_) | Token::Open | Token::Star) => i = path_tree(tokens, i, prefix, out),
                    Some(_) => i += 1,
                }
            }
        }
        _ => {
            out.push(Mention { line, path: join("*"), n_inline_mods: 0 });
            i + 1
        }
    }
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = "a /* b /* c */ d\n */ e \"f\\\"\n//g\" h r#\"i\"j\"# k 'l' m '\\'' n<'o> // p\nbr\"q\" s";
    let names: Vec<String> = mentions(&blank(text)).into_iter().map(|m| m.path).collect();
    assert_eq!(names.join(" "), "a e h k m n o b s");
    assert_eq!(blank(text).lines().count(), text.lines().count());
}

#[test]
fn inline_modules_are_counted() {
    let depths: Vec<usize> = mentions("a; mod b { c; fn d() { e } } f").iter().map(|m| m.n_inline_mods).collect();
    assert_eq!(depths, [0, 0, 0, 1, 1, 1, 1, 0]);
}
