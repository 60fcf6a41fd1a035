//! What does a page say? Its article in Markdown, or all of it where there is none, or its bare text where it cannot be
//! parsed in bounds. Which of them it is stands in the result.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use dom_smoothie::{Config, Readability};
use htmd::HtmlToMarkdown;
use url::Url;

use super::one_line;
use super::plain::{strip, title};
use super::reduce::{TooMuch, reduce};

/// No page is parsed longer, whatever the deadline.
const MAX_PARSE: Duration = Duration::from_secs(10);
/// Left for the bare text when a parser takes too long.
const SPARE: Duration = Duration::from_millis(200);
/// Parsers over their time that may still run; a thread cannot be stopped. With so many, pages are not parsed.
const MAX_OVERDUE: usize = 4;
/// An article shorter than this, characters, and much shorter than its page, is not what the page is about.
const SHORT: usize = 500;
/// How much shorter.
const MUCH: usize = 4;

/// What the text of a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The article of an HTML page as Markdown, without menus and the like.
    Article,
    /// All of an HTML page as Markdown: it has no article, but lists or links.
    WholePage,
    /// The bare text of an HTML page that was not parsed.
    Stripped(NotParsed),
    /// The page itself, which is text.
    AsIs,
}

/// Why a page was not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotParsed {
    /// It is larger than what is parsed.
    TooMuch(TooMuch),
    /// The parser did not end in time.
    Slow,
    /// The parser gave up.
    Failed,
}

/// A page in words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Readable {
    pub(super) title: String,
    pub(super) text: String,
    pub(super) form: Form,
    /// Elements that lay too deep and were left out, not their text.
    pub(super) n_flattened: usize,
}

impl Readable {
    /// Text that is shown as it is.
    pub(super) fn as_is(text: String) -> Readable {
        Readable { title: String::new(), text, form: Form::AsIs, n_flattened: 0 }
    }
}

/// Reads HTML. Time: until shortly before the deadline; memory: a small multiple of what `reduce` lets through.
pub(super) fn readable(html: &str, url: &Url, max_bytes: usize, deadline: Instant) -> Readable {
    let title = title(html);
    let stripped = |title: String, why| Readable {
        title,
        text: strip(html, max_bytes),
        form: Form::Stripped(why),
        n_flattened: 0,
    };
    let reduced = match reduce(html, &title, url) {
        Ok(reduced) => reduced,
        Err(why) => return stripped(title, NotParsed::TooMuch(why)),
    };
    match parse_aside(reduced.html, url.to_string(), deadline) {
        Ok(mut page) => {
            page.n_flattened = reduced.n_too_deep;
            // The title as it is written; the parser's is shortened by guesses, but it also looks at headings.
            if !title.is_empty() {
                page.title = title;
            }
            page
        }
        Err(why) => stripped(title, why),
    }
}

/// Parsers over their time.
static N_OVERDUE: AtomicUsize = AtomicUsize::new(0);

/// Parses in a thread of its own, so that neither a panic nor a long run of somebody else's code costs more than a page.
fn parse_aside(html: String, url: String, deadline: Instant) -> Result<Readable, NotParsed> {
    /// Nesting has a bound, so a few megabytes are many.
    const STACK: usize = 16 << 20;
    if N_OVERDUE.load(Ordering::Acquire) >= MAX_OVERDUE {
        return Err(NotParsed::Slow);
    }
    let (done, answer) = sync_channel(1);
    let thread = std::thread::Builder::new().name("aepo-page".to_owned()).stack_size(STACK).spawn(move || {
        let page = catch_unwind(AssertUnwindSafe(|| parse(&html, &url)));
        if done.send(page.ok().flatten()).is_err() {
            N_OVERDUE.fetch_sub(1, Ordering::AcqRel);
        }
    });
    if thread.is_err() {
        return Err(NotParsed::Failed);
    }
    let patience = deadline.saturating_duration_since(Instant::now()).saturating_sub(SPARE).min(MAX_PARSE);
    // Counted before the channel closes, so that the thread never counts itself off first.
    N_OVERDUE.fetch_add(1, Ordering::AcqRel);
    match answer.recv_timeout(patience) {
        Ok(page) => {
            N_OVERDUE.fetch_sub(1, Ordering::AcqRel);
            page.ok_or(NotParsed::Failed)
        }
        Err(RecvTimeoutError::Timeout) => Err(NotParsed::Slow),
        Err(RecvTimeoutError::Disconnected) => {
            N_OVERDUE.fetch_sub(1, Ordering::AcqRel);
            Err(NotParsed::Failed)
        }
    }
}

/// The article, or the page where it has none.
fn parse(html: &str, url: &str) -> Option<Readable> {
    let whole = markdown(html)?;
    let config = Config { disable_json_ld: true, ..Config::default() };
    let mut reader = Readability::new(html, Some(url), Some(config)).ok()?;
    let title = one_line(&reader.get_article_title());
    let article = match reader.parse() {
        Ok(article) => markdown(&article.content)?,
        // Nothing looks like an article.
        Err(_) => String::new(),
    };
    let (n_article, n_whole) = (article.chars().count(), whole.chars().count());
    let is_article = n_article >= SHORT || n_article > 0 && n_article * MUCH >= n_whole;
    let (text, form) = if is_article { (article, Form::Article) } else { (whole, Form::WholePage) };
    Some(Readable { title, text, form, n_flattened: 0 })
}

/// HTML as Markdown; `None` if it cannot be.
fn markdown(html: &str) -> Option<String> {
    HtmlToMarkdown::builder().skip_tags(vec!["head", "title", "nav"]).build().convert(html).ok()
}
