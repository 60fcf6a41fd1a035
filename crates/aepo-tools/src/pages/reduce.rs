//! What of a page may a parser see? A copy that is well nested, shallow, small and plain.
//!
//! Parsing HTML as the standard says takes quadratic time and memory on hostile pages (each paragraph may repeat every
//! open `<b>`), and what works on the tree recurses. No limit inside a parser is needed when its input is rebuilt here
//! in one pass: elements that carry text or its structure, opened and closed in order, at most [`MAX_DEPTH`] deep, with
//! at most [`MAX_INLINE`] of the kinds that would be repeated.

use url::Url;

use super::tokens::{Token, Tokens, attributes, is_raw, resolve, tokens};

/// Elements inside one another. Text of deeper ones stands in the innermost that is kept.
const MAX_DEPTH: usize = 64;
/// Inline elements inside one another.
const MAX_INLINE: usize = 6;
/// Elements of a page; one with more is not parsed.
const MAX_ELEMENTS: usize = 40_000;
/// Bytes of the rebuilt page; one with more is not parsed.
const MAX_BYTES: usize = 3 << 20;
/// Bytes of one attribute that names something, and of one that holds an address.
const MAX_NAME: usize = 200;
const MAX_LINK: usize = 2000;

/// A page for a parser.
#[derive(Debug)]
pub(super) struct Reduced {
    /// Well nested HTML.
    pub(super) html: String,
    /// Elements left out because they lay too deep; their text is there.
    pub(super) n_too_deep: usize,
}

/// Why a page is not for a parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TooMuch {
    /// Too many elements.
    Elements,
    /// Too many bytes.
    Bytes,
}

/// What an element means for the nesting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Holds blocks.
    Block,
    /// Holds no blocks: one that begins ends it.
    Paragraph,
    /// Stands in a line; a block that begins ends it.
    Inline,
    /// Stands in a line or around blocks, never in itself.
    Link,
    /// Has no content.
    Void,
    /// Left out with everything in it.
    Dropped,
}

/// Elements that are kept, or left out whole. All others are left out and their text is kept.
const ELEMENTS: &[(&str, Role)] = {
    use Role::{Block, Dropped, Inline, Link, Paragraph, Void};
    &[
        ("a", Link),
        ("abbr", Inline),
        ("address", Block),
        ("article", Block),
        ("aside", Block),
        ("b", Inline),
        ("blockquote", Block),
        ("br", Void),
        ("caption", Block),
        ("cite", Inline),
        ("code", Inline),
        ("dd", Block),
        ("del", Inline),
        ("details", Block),
        ("div", Block),
        ("dl", Block),
        ("dt", Block),
        ("em", Inline),
        ("figcaption", Block),
        ("figure", Block),
        ("footer", Block),
        ("form", Block),
        ("h1", Paragraph),
        ("h2", Paragraph),
        ("h3", Paragraph),
        ("h4", Paragraph),
        ("h5", Paragraph),
        ("h6", Paragraph),
        ("header", Block),
        ("hr", Void),
        ("i", Inline),
        ("iframe", Dropped),
        ("kbd", Inline),
        ("li", Block),
        ("main", Block),
        ("math", Dropped),
        ("nav", Block),
        ("ol", Block),
        ("p", Paragraph),
        ("pre", Block),
        ("q", Inline),
        ("s", Inline),
        ("samp", Inline),
        ("script", Dropped),
        ("section", Block),
        ("select", Dropped),
        ("span", Inline),
        ("strong", Inline),
        ("style", Dropped),
        ("sub", Inline),
        ("summary", Block),
        ("sup", Inline),
        ("svg", Dropped),
        ("table", Block),
        ("tbody", Block),
        ("td", Block),
        ("template", Dropped),
        ("textarea", Dropped),
        ("tfoot", Block),
        ("th", Block),
        ("thead", Block),
        ("time", Inline),
        ("title", Dropped),
        ("tr", Block),
        ("u", Inline),
        ("ul", Block),
    ]
};

/// An element of [`ELEMENTS`], by its place.
fn element(name: &str) -> Option<(usize, Role)> {
    // No name of the table is longer.
    let mut lower = [0; 10];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    let at = ELEMENTS.binary_search_by(|(known, _)| known.as_bytes().cmp(lower)).ok()?;
    Some((at, ELEMENTS[at].1))
}

/// Rebuilds a page, or says why not. Links become whole addresses, from that of the page.
pub(super) fn reduce(page: &str, title: &str, address: &Url) -> Result<Reduced, TooMuch> {
    let mut to = Builder {
        base: address.clone(),
        html: String::with_capacity(page.len().min(MAX_BYTES)),
        open: Vec::new(),
        n_inline: 0,
        n_elements: 0,
        n_too_deep: [0; ELEMENTS.len()],
        n_too_deep_ever: 0,
    };
    to.html.push_str("<html><head><title>");
    push_text(&mut to.html, title);
    to.html.push_str("</title></head><body>");
    let mut cut = tokens(page);
    // Within an element that is left out: which one, how often it is open, and what follows its first tag.
    let mut dropped: Option<(usize, usize, Tokens<'_>)> = None;
    let mut is_unread = false;
    let mut never_closed = [false; ELEMENTS.len()];
    loop {
        let Some(token) = cut.next() else {
            // One that never ends would hide the rest of the page. Each kind does so once.
            let Some((at, _, behind)) = dropped.take() else { break };
            never_closed[at] = true;
            cut = behind;
            continue;
        };
        if let Some((at, n_open, _)) = &mut dropped {
            let name = ELEMENTS[*at].0;
            match token {
                Token::Open { name: n, .. } if n.eq_ignore_ascii_case(name) => *n_open += 1,
                Token::Close { name: n } if n.eq_ignore_ascii_case(name) => *n_open -= 1,
                _ => {}
            }
            if *n_open == 0 {
                dropped = None;
            }
            continue;
        }
        match token {
            Token::Text(_) if is_unread => {}
            Token::Text(text) => push_text(&mut to.html, text),
            Token::Close { name } => {
                is_unread = false;
                if let Some((at, _)) = element(name) {
                    to.close(at);
                }
            }
            Token::Open { name, attributes: list } if name.eq_ignore_ascii_case("base") => {
                let href = attributes(list).find(|(n, _)| n.eq_ignore_ascii_case("href"));
                if let Some(base) = href.and_then(|(_, href)| to.link(href)).and_then(|base| Url::parse(&base).ok()) {
                    to.base = base;
                }
            }
            Token::Open { name, attributes: list } => match element(name) {
                Some((at, Role::Dropped)) if never_closed[at] => {}
                Some((at, Role::Dropped)) => {
                    // Formulas say in one attribute what their elements draw.
                    let formula = attributes(list).find(|(n, _)| n.eq_ignore_ascii_case("alttext"));
                    if let Some((_, formula)) = formula {
                        push_text(&mut to.html, &format!(" ${formula}$ "));
                    }
                    // The content of some is no tags for the tokenizer either: it ends where it must.
                    dropped = (!is_raw(name)).then(|| (at, 1, cut.clone()));
                    is_unread = is_raw(name);
                }
                Some((at, role)) => to.open(at, role, list),
                None => {}
            },
        }
        if to.html.len() > MAX_BYTES {
            return Err(TooMuch::Bytes);
        }
        if to.n_elements > MAX_ELEMENTS {
            return Err(TooMuch::Elements);
        }
    }
    to.close_above(0);
    to.html.push_str("</body></html>");
    Ok(Reduced { html: to.html, n_too_deep: to.n_too_deep_ever })
}

struct Builder {
    /// What links of the page begin from.
    base: Url,
    html: String,
    /// Open elements, places in [`ELEMENTS`].
    open: Vec<usize>,
    n_inline: usize,
    n_elements: usize,
    /// Elements of each kind that are open but left out: their closing tags belong to them.
    n_too_deep: [usize; ELEMENTS.len()],
    n_too_deep_ever: usize,
}

impl Builder {
    fn open(&mut self, at: usize, role: Role, list: &str) {
        let name = ELEMENTS[at].0;
        match name {
            "li" => self.end_among(&["li"], &["ul", "ol"]),
            "dt" | "dd" => self.end_among(&["dt", "dd"], &["dl"]),
            "tr" => self.end_among(&["tr", "caption"], &["table"]),
            "td" | "th" => self.end_among(&["td", "th"], &["tr", "table"]),
            "thead" | "tbody" | "tfoot" => self.end_among(&["thead", "tbody", "tfoot", "caption"], &["table"]),
            "a" => self.end_among(&["a"], &["td", "th", "table"]),
            _ => {}
        }
        let is_cell = matches!(name, "td" | "th" | "tr" | "thead" | "tbody" | "tfoot" | "caption");
        if is_cell && !self.open.iter().any(|&o| ELEMENTS[o].0 == "table") {
            return;
        }
        if matches!(role, Role::Block | Role::Paragraph) || name == "hr" {
            // A block ends the line and the paragraph it begins in.
            let holds = |o: &usize| matches!(ELEMENTS[*o].1, Role::Block | Role::Link);
            self.close_above(self.open.iter().rposition(holds).map_or(0, |last| last + 1));
        }
        let is_inline = matches!(role, Role::Inline | Role::Link);
        let too_deep = self.open.len() >= MAX_DEPTH || is_inline && self.n_inline >= MAX_INLINE;
        if too_deep && role != Role::Void {
            self.n_too_deep[at] += 1;
            self.n_too_deep_ever += 1;
            // Words of different blocks stay apart.
            self.html.push(if is_inline { ' ' } else { '\n' });
            return;
        }
        self.n_elements += 1;
        self.html.push('<');
        self.html.push_str(name);
        self.attributes(name, list);
        self.html.push('>');
        if role != Role::Void {
            self.open.push(at);
            self.n_inline += usize::from(is_inline);
        }
    }

    fn close(&mut self, at: usize) {
        if self.n_too_deep[at] > 0 {
            self.n_too_deep[at] -= 1;
            return;
        }
        let Some(place) = self.open.iter().rposition(|&o| o == at) else { return };
        // The end of a line's element does not end the blocks in it: they ended it when they began.
        let is_inline = ELEMENTS[at].1 == Role::Inline;
        // What is inside a table ends with its cell.
        let is_cell = |o: &usize| matches!(ELEMENTS[*o].0, "td" | "th" | "caption" | "table");
        let crosses = self.open[place + 1..].iter().any(|o| {
            is_inline && ELEMENTS[*o].1 != Role::Inline || is_cell(o) && !is_cell(&at) && ELEMENTS[at].0 != "tr"
        });
        if !crosses {
            self.close_above(place);
        }
    }

    /// Ends the last open element of `ended`, unless one of `within` is open above it.
    fn end_among(&mut self, ended: &[&str], within: &[&str]) {
        let found = self.open.iter().rposition(|&o| ended.contains(&ELEMENTS[o].0) || within.contains(&ELEMENTS[o].0));
        if let Some(place) = found.filter(|&place| ended.contains(&ELEMENTS[self.open[place]].0)) {
            self.close_above(place);
        }
    }

    /// Ends every open element from this place on.
    fn close_above(&mut self, place: usize) {
        while self.open.len() > place {
            let Some(at) = self.open.pop() else { return };
            let (name, role) = ELEMENTS[at];
            self.n_inline -= usize::from(matches!(role, Role::Inline | Role::Link));
            self.html.push_str("</");
            self.html.push_str(name);
            self.html.push('>');
        }
    }

    /// Where a link leads, if to a page: not into the same one, and not to a program.
    fn link(&self, value: &str) -> Option<String> {
        if value.len() > MAX_LINK {
            return None;
        }
        let mut written = String::new();
        resolve(value.trim(), &mut written);
        if written.is_empty() || written.starts_with('#') {
            return None;
        }
        let link = self.base.join(&written).ok()?;
        (matches!(link.scheme(), "http" | "https") && link.as_str().len() <= MAX_LINK).then(|| link.into())
    }

    /// Attributes that say what an element is for, where it leads, or that nobody sees it.
    fn attributes(&mut self, element: &str, list: &str) {
        for (name, value) in attributes(list).take(32) {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let (name, max) = match () {
                () if is("class") => ("class", MAX_NAME),
                () if is("id") => ("id", MAX_NAME),
                () if is("role") => ("role", MAX_NAME),
                () if is("hidden") => ("hidden", MAX_NAME),
                () if is("aria-hidden") => ("aria-hidden", MAX_NAME),
                () if is("href") && element == "a" => {
                    if let Some(link) = self.link(value) {
                        self.html.push_str(" href=\"");
                        // What stands for itself in an address means something in HTML.
                        push_escaped(&mut self.html, &link.replace('&', "&amp;"));
                        self.html.push('"');
                    }
                    continue;
                }
                () if is("style") && is_invisible(value) => {
                    self.html.push_str(" hidden=\"\"");
                    continue;
                }
                () => continue,
            };
            if value.len() <= max {
                self.html.push(' ');
                self.html.push_str(name);
                self.html.push_str("=\"");
                push_escaped(&mut self.html, value);
                self.html.push('"');
            }
        }
    }
}

fn is_invisible(style: &str) -> bool {
    // A style is looked at as far as a short one goes.
    let style: String = style.chars().take(500).filter(|c| !c.is_whitespace()).collect();
    let style = style.to_ascii_lowercase();
    style.contains("display:none") || style.contains("visibility:hidden")
}

fn push_text(to: &mut String, text: &str) {
    push_escaped(to, text);
}

/// Text and values keep their character references; what could end them does not stay.
fn push_escaped(to: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['<', '>', '"', '\0']) {
        to.push_str(&rest[..at]);
        to.push_str(match rest.as_bytes()[at] {
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "",
        });
        rest = &rest[at + 1..];
    }
    to.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduced(page: &str) -> Result<Reduced, TooMuch> {
        reduce(page, "", &Url::parse("http://a.example/b/c").unwrap())
    }

    #[track_caller]
    fn check(page: &str, body: &str) {
        let html = reduced(page).unwrap().html;
        let inside = html.strip_prefix("<html><head><title></title></head><body>").unwrap();
        assert_eq!(inside.strip_suffix("</body></html>").unwrap(), body, "{page}");
    }

    #[test]
    fn the_table_is_sorted_and_its_names_are_short() {
        assert!(ELEMENTS.is_sorted_by(|a, b| a.0 < b.0) && ELEMENTS.iter().all(|(name, _)| name.len() <= 10));
    }

    #[test]
    fn what_is_open_is_closed_in_order() {
        check("<p>a<p>b", "<p>a</p><p>b</p>");
        check("<b>a<i>b</b>c</i>", "<b>a<i>b</i></b>c");
        check("<b>a<div>b</b>c</div>d", "<b>a</b><div>bc</div>d");
        check("<div><b>a</div>b</b>", "<div><b>a</b></div>b");
        check("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>");
        check(
            "<table><tr><td>a<td>b<tr><th>c</table>d",
            "<table><tr><td>a</td><td>b</td></tr><tr><th>c</th></tr></table>d",
        );
        check("<td>a</td></p>", "a");
        check("<div><table><tr><td>a</div>b</table>", "<div><table><tr><td>ab</td></tr></table></div>");
        check(
            "<a href=/x><div>a</div><a href=/y>b",
            "<a href=\"http://a.example/x\"><div>a</div></a><a href=\"http://a.example/y\">b</a>",
        );
        check("<dl><dt>a<dd>b<dt>c</dl>", "<dl><dt>a</dt><dd>b</dd><dt>c</dt></dl>");
    }

    #[test]
    fn only_text_and_its_structure_stay() {
        check("<font onclick=x>a</font><center>b", "ab");
        check("<script>x<y</script>a<style>p{}</style><svg><p>c</p><svg></svg></svg>b", "ab");
        check("<script></script>a<svg>b<svg>c<select>d<p>e", "abcd<p>e</p>");
        check("<math alttext='x^2'><mi>x</mi></math>", " $x^2$ ");
        check("<p class=a onclick=b style='color:red'>x", "<p class=\"a\">x</p>");
        check("<span style='display : none'>x</span>", "<span hidden=\"\">x</span>");
        check("<a href='javascript:x()'>a</a><a href=' data:x'>b</a><a href='#c'>c</a>", "<a>a</a><a>b</a><a>c</a>");
        check("<p id='\"><script>'>a < b &lt; \0c", "<p id=\"&quot;&gt;&lt;script&gt;\">a &lt; b &lt; c</p>");
        check("<&#x69;mg>", "&lt;&#x69;mg&gt;");
    }

    #[test]
    fn links_are_whole_addresses() {
        check("<a href='d?e=1&amp;f=2#g'>x</a>", "<a href=\"http://a.example/b/d?e=1&amp;f=2#g\">x</a>");
        check("<base href='//z.example/y/'><a href=w>x</a>", "<a href=\"http://z.example/y/w\">x</a>");
        check("<base href='data:x'><a href='\">'>x</a>", "<a href=\"http://a.example/b/%22%3E\">x</a>");
        check(&format!("<a href={}>x</a>", "y".repeat(MAX_LINK + 1)), "<a>x</a>");
    }

    #[test]
    fn depth_and_size_have_bounds_and_no_text_is_lost_to_the_first() {
        let deep = format!("{}inmost{}after", "<div>".repeat(30_000), "</div>".repeat(30_000));
        let flat = reduced(&deep).unwrap();
        assert_eq!(flat.n_too_deep, 30_000 - MAX_DEPTH);
        assert!(flat.html.contains("inmost") && flat.html.ends_with("</div>after</body></html>"));
        let inline = format!("{}x", "<b><i>".repeat(1000));
        assert_eq!(reduced(&inline).unwrap().html.matches("<b>").count(), MAX_INLINE / 2);
        assert_eq!(reduced(&"<p>".repeat(MAX_ELEMENTS + 1)).unwrap_err(), TooMuch::Elements);
        assert_eq!(reduced(&"x".repeat(MAX_BYTES + 1)).unwrap_err(), TooMuch::Bytes);
    }
}
