//! What does a page say, read without a parser? Its text in one pass, for pages that are too large or too strange to be
//! parsed; a result says so when it was made this way.

use super::tokens::{Token, is_raw, resolve, tokens};

/// Elements that stand in a line; all others begin one.
const INLINE: [&str; 27] = [
    "a", "abbr", "b", "bdi", "bdo", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd", "mark", "q", "s",
    "samp", "small", "span", "strong", "sub", "sup", "time", "u", "var", "wbr",
];

/// The text of a page, one line per block, at most about `max_bytes` of it.
pub(super) fn strip(page: &str, max_bytes: usize) -> String {
    let mut text = String::new();
    // Within an element whose content is no tags, and which nobody reads: scripts, styles, the title.
    let mut unread = false;
    let mut piece = String::new();
    for token in tokens(page) {
        match token {
            Token::Text(_) if unread => {}
            Token::Text(raw) => {
                piece.clear();
                // More than fits need not be looked at.
                resolve(&raw[..raw.floor_char_boundary(max_bytes.saturating_mul(2))], &mut piece);
                push_words(&mut text, &piece, max_bytes);
            }
            Token::Open { name, .. } | Token::Close { name } => {
                unread = matches!(token, Token::Open { .. }) && is_raw(name);
                if !INLINE.iter().any(|i| i.eq_ignore_ascii_case(name)) {
                    end_line(&mut text);
                }
            }
        }
        if text.len() >= max_bytes {
            break;
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// The content of the first `<title>`.
pub(super) fn title(page: &str) -> String {
    let mut within = false;
    for token in tokens(page) {
        match token {
            Token::Open { name, .. } => within = name.eq_ignore_ascii_case("title"),
            Token::Text(raw) if within => {
                let mut title = String::new();
                resolve(&raw[..raw.floor_char_boundary(2000)], &mut title);
                return super::one_line(&title);
            }
            Token::Text(_) | Token::Close { .. } => {}
        }
    }
    String::new()
}

/// Adds words with one space between them.
fn push_words(text: &mut String, piece: &str, max_bytes: usize) {
    let mut is_apart = piece.starts_with(char::is_whitespace);
    for word in piece.split_whitespace() {
        if is_apart && !text.is_empty() && !text.ends_with(['\n', ' ']) {
            text.push(' ');
        }
        text.push_str(word);
        is_apart = true;
        if text.len() >= max_bytes {
            return;
        }
    }
    if piece.ends_with(char::is_whitespace) && !text.is_empty() && !text.ends_with(['\n', ' ']) {
        text.push(' ');
    }
}

fn end_line(text: &mut String) {
    if text.ends_with(' ') {
        text.pop();
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_in_lines_without_what_nobody_reads() {
        let page = "<title>T &amp; t</title><script>x<p></script><h1>One</h1>\n<p>two <b>th</b>ree\n  four</p><br>\
                    <svg>five &lt;six&gt;";
        assert_eq!(strip(page, 1000), "One\ntwo three four\nfive <six>");
        assert_eq!(title(page), "T & t");
        assert_eq!((title("<p>x"), title("<title></title><p>x")), (String::new(), String::new()));
    }

    #[test]
    fn size_is_bounded_whatever_comes() {
        let line = "word ".repeat(2_000_000);
        let text = strip(&line, 1000);
        assert!(text.len() >= 999 && text.len() < 1010);
        assert!(strip(&"x".repeat(10_000_000), 1000).len() <= 2000);
        let deep = format!("{}inmost", "<div>".repeat(30_000));
        assert_eq!(strip(&deep, 1000), "inmost");
    }
}
