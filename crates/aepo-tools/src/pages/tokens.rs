//! What are the tags and texts of a page? Cut in one pass over the bytes, whatever they are: every byte is looked at a
//! bounded number of times, nothing recurses, nothing is stored.
//!
//! The cuts are those of the HTML standard's tokenizer, without its tree: comments, declarations and processing
//! instructions are left out, and the contents of scripts and styles are no tags.

/// A piece of a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// Characters between tags; character references are not resolved.
    Text(&'a str),
    /// `<name attributes>`
    Open { name: &'a str, attributes: &'a str },
    /// `</name>`
    Close { name: &'a str },
}

/// Cuts a page.
pub(super) fn tokens(page: &str) -> Tokens<'_> {
    Tokens { rest: page, raw: None }
}

/// The pieces of a page, in their order.
#[derive(Clone)]
pub(super) struct Tokens<'a> {
    rest: &'a str,
    /// The element whose content is text until its own closing tag.
    raw: Option<&'a str>,
}

/// Elements with text for content (HTML standard, 13.2.5): a `<` in it begins nothing.
const RAW: [&str; 8] = ["script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes"];

/// Whether `name` is an element whose content is no tags.
pub(super) fn is_raw(name: &str) -> bool {
    RAW.iter().any(|raw| raw.eq_ignore_ascii_case(name))
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        if let Some(name) = self.raw.take() {
            let end = end_of_raw(self.rest, name);
            if end > 0 {
                return Some(Token::Text(self.take(end)));
            }
        }
        loop {
            let rest = self.rest;
            if rest.is_empty() {
                return None;
            }
            let Some(at) = beginning_of_tag(rest) else { return Some(Token::Text(self.take(rest.len()))) };
            if at > 0 {
                return Some(Token::Text(self.take(at)));
            }
            let bytes = rest.as_bytes();
            match bytes[1] {
                b'!' if rest.starts_with("<!--") => {
                    let end = rest[4..].find("-->").map_or(rest.len(), |end| 4 + end + 3);
                    // `<!-->` and `<!--->` are whole comments.
                    let short = ["<!-->", "<!--->"].into_iter().find(|short| rest.starts_with(short));
                    self.take(short.map_or(end, str::len));
                }
                b'!' | b'?' => {
                    self.take(rest.find('>').map_or(rest.len(), |end| end + 1));
                }
                b'/' if !bytes.get(2).is_some_and(u8::is_ascii_alphabetic) => {
                    self.take(rest.find('>').map_or(rest.len(), |end| end + 1));
                }
                b'/' => {
                    let tag = self.tag(2);
                    return tag.map(|(name, _)| Token::Close { name });
                }
                _ => {
                    let (name, attributes) = self.tag(1)?;
                    self.raw = is_raw(name).then_some(name);
                    return Some(Token::Open { name, attributes });
                }
            }
        }
    }
}

impl<'a> Tokens<'a> {
    fn take(&mut self, n: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        taken
    }

    /// Name and attributes of the tag whose name begins at byte `from`. One that never ends is dropped, and with it the
    /// rest of the page, as the standard says.
    fn tag(&mut self, from: usize) -> Option<(&'a str, &'a str)> {
        let rest = self.rest;
        let end_of_name = rest[from..]
            .find(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>'))
            .map_or(rest.len(), |n| from + n);
        let Some(end) = end_of_tag(rest, end_of_name) else {
            self.rest = "";
            return None;
        };
        self.take(end + 1);
        Some((&rest[from..end_of_name], rest[end_of_name..end].trim_end_matches('/')))
    }
}

/// Where the next tag, comment or declaration begins; a `<` before anything else is text.
fn beginning_of_tag(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let begins =
        |at: &usize| bytes.get(at + 1).is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'!' | b'?' | b'/'));
    text.match_indices('<').map(|(at, _)| at).find(begins)
}

/// The `>` of a tag. One inside a quoted value is none.
fn end_of_tag(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    let mut behind_equals = false;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'>' => return Some(at),
            b'"' | b'\'' if behind_equals => {
                at += 1 + bytes[at + 1..].iter().position(|&b| b == byte)?;
                behind_equals = false;
            }
            b'=' => behind_equals = true,
            b if b.is_ascii_whitespace() => {}
            _ => behind_equals = false,
        }
        at += 1;
    }
    None
}

/// Where the closing tag of `name` begins; everything is text where there is none.
fn end_of_raw(text: &str, name: &str) -> usize {
    let bytes = text.as_bytes();
    let closes = |at: &usize| {
        let rest = &bytes[at + 2..];
        rest.len() >= name.len()
            && rest[..name.len()].eq_ignore_ascii_case(name.as_bytes())
            && rest.get(name.len()).is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'>'))
    };
    text.match_indices("</").map(|(at, _)| at).find(closes).unwrap_or(text.len())
}

/// Names and values of a tag's attributes; character references are not resolved.
pub(super) fn attributes(mut rest: &str) -> impl Iterator<Item = (&str, &str)> {
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() {
            return None;
        }
        // A name may begin with `=`, so that every round takes at least one character.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let n = rest[first..]
            .find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '/'))
            .map_or(rest.len(), |n| first + n);
        let (name, behind) = rest.split_at(n);
        let Some(value) = behind.trim_ascii_start().strip_prefix('=') else {
            rest = behind;
            return Some((name, ""));
        };
        let value = value.trim_ascii_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, behind) = match quote {
            Some(quote) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
            None => value.split_at(value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len())),
        };
        rest = behind;
        Some((name, value))
    })
}

/// Resolves the character references that texts have: numbers, and the names in [`NAMED`]. Others stay as written.
pub(super) fn resolve(text: &str, to: &mut String) {
    /// A reference is no longer, bytes.
    const MAX: usize = 12;
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        to.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.as_bytes().iter().take(MAX).position(|&b| b == b';');
        match end.and_then(|end| Some((reference(&rest[1..end])?, end))) {
            Some((c, end)) => {
                to.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                to.push('&');
                rest = &rest[1..];
            }
        }
    }
    to.push_str(rest);
}

/// References of the HTML standard that are met most.
const NAMED: [(&str, char); 30] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", ' '),
    ("copy", '©'),
    ("reg", '®'),
    ("trade", '™'),
    ("hellip", '…'),
    ("mdash", '—'),
    ("ndash", '–'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("laquo", '«'),
    ("raquo", '»'),
    ("bull", '•'),
    ("middot", '·'),
    ("deg", '°'),
    ("times", '×'),
    ("minus", '−'),
    ("plusmn", '±'),
    ("frac12", '½'),
    ("euro", '€'),
    ("pound", '£'),
    ("sect", '§'),
    ("rarr", '→'),
    ("larr", '←'),
];

fn reference(name: &str) -> Option<char> {
    let number = match name.strip_prefix('#') {
        None => return NAMED.iter().find(|(known, _)| *known == name).map(|(_, c)| *c),
        Some(number) => number,
    };
    let number = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(number).filter(|c| *c != '\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(page: &str) -> String {
        let each = tokens(page).map(|token| match token {
            Token::Text(text) => format!("'{text}'"),
            Token::Open { name, attributes } => format!("+{name}[{attributes}]"),
            Token::Close { name } => format!("-{name}"),
        });
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pages_are_cut_where_browsers_cut_them() {
        for (page, cut) in [
            ("a<b>c</b>", "'a' +b[] 'c' -b"),
            ("<a href='x>y' b>z", "+a[ href='x>y' b] 'z'"),
            ("<br/><img src=a/ >", "+br[] +img[ src=a/ ]"),
            ("1 < 2 <3> <", "'1 < 2 <3> <'"),
            ("a<!-- <b> -->c<!DOCTYPE x><?php y ?>d</ e>", "'a' 'c' 'd'"),
            ("<!-->a<!--->b<!---->c", "'a' 'b' 'c'"),
            ("<script>if (a<b) '</b>' </SCRIPT >x", "+script[] 'if (a<b) '</b>' ' -SCRIPT 'x'"),
            ("<style></style><title>a<b></title>", "+style[] -style +title[] 'a<b>' -title"),
            ("<script>never closed </scripty", "+script[] 'never closed </scripty'"),
            ("<p>x<b y='", "+p[] 'x'"),
            ("<p>x<!-- never closed", "+p[] 'x'"),
            ("<p a=1'>x", "+p[ a=1'] 'x'"),
            ("", ""),
        ] {
            assert_eq!(shown(page), cut, "{page}");
        }
    }

    #[test]
    fn attributes_have_names_and_values() {
        let read = |tag| attributes(tag).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("|");
        assert_eq!(read(" a=1 b = 'two words' c d=\"x>y\"/"), "a=1|b=two words|c=|d=x>y");
        assert_eq!(read("=x ==y a='never closed"), "=x==y|a=never closed");
        assert_eq!(read("   / "), "");
    }

    #[test]
    fn character_references_become_characters() {
        let read = |text| {
            let mut to = String::new();
            resolve(text, &mut to);
            to
        };
        assert_eq!(read("a &amp; b &lt;c&gt; &#65;&#x1F600; &nbsp;&eacute; &"), "a & b <c> A😀  &eacute; &");
        assert_eq!(read("&#0;&#xD800;&#99999999999;&;&&amp;"), "&#0;&#xD800;&#99999999999;&;&&");
    }

    #[test]
    fn hostile_markup_takes_one_pass() {
        // Each would take minutes if some step looked back or ahead over the whole page for each of its pieces.
        for piece in
            ["<", "<!", "<!--", "<a ", "</", "<script>", "<a b='", "&", "&#", "<title></", "<a =", "</script", "<p>"]
        {
            let page = piece.repeat(4_000_000 / piece.len());
            let n = tokens(&page)
                .map(|t| if let Token::Open { attributes: a, .. } = t { attributes(a).count() } else { 1 })
                .sum::<usize>();
            let mut to = String::new();
            resolve(&page, &mut to);
            assert!(n <= page.len() && to.len() == page.len(), "{piece}");
        }
    }
}
