//! What does a page of the web say? Fetched from the public internet alone, read within bounds, shown as Markdown.
//!
//! `target` reads addresses, `address` and `resolve` judge where they lead, `fetch` and `body` bring the page here,
//! `media` and `charset` say what it is written in. `tokens` cuts markup; from its pieces `reduce` rebuilds a page that
//! is safe to parse, and `plain` makes bare text of one that is not; `readable` chooses. `visit` is the tool,
//! `summary` has a model read the page instead.
//!
//! Everything comes from strangers: an address from a model, a page from whoever owns the host. Both are data. No input
//! makes more work than the caps of [`PageSettings`] allow, and nothing in a page is obeyed: not its refreshes, not its
//! scripts, not its words.

mod address;
mod body;
mod charset;
mod error;
mod fetch;
mod media;
mod plain;
mod readable;
mod reduce;
mod resolve;
mod summary;
mod target;
mod tokens;
mod visit;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use address::{NotPublic, not_public};
pub use body::Cut;
pub use error::{PageError, PageSettingsError};
pub use media::Media;
pub use readable::{Form, NotParsed};
pub use reduce::TooMuch;
pub use resolve::{Lookup, system};
pub use summary::{ChatSummary, Summarise, SummarySettings};
pub use target::AllowedHost;
pub use visit::{Visit, offer};

use fetch::Fetcher;
use readable::Readable;

/// How pages are fetched and shown.
#[derive(Clone, Debug)]
pub struct PageSettings {
    /// Hosts that may have a private address, and other ports than 80 and 443.
    pub allow_hosts: Vec<AllowedHost>,
    /// Characters of a page that are shown, without its title and address.
    pub max_chars: usize,
    /// Bytes of a page on the wire; the rest of it is not read.
    pub max_wire_bytes: u64,
    /// Bytes of a page when it is unpacked; the rest of it is not read.
    pub max_page_bytes: usize,
    /// Bytes of an answer's headers; one with more is refused.
    pub max_header_bytes: usize,
    /// Addresses that one leads on to.
    pub max_redirects: usize,
    /// Until a host is connected to, and again until the headers of its answer are there, seconds.
    pub first_byte_secs: f64,
    /// Until a page is there with everything that led to it, seconds.
    pub page_secs: f64,
    /// Requests for one address, where another may help.
    pub tries: u32,
    /// How servers are told who asks.
    pub user_agent: String,
    /// Certificates to trust instead of those of the public web, PEM.
    pub certificates: Option<PathBuf>,
}

impl Default for PageSettings {
    fn default() -> PageSettings {
        PageSettings {
            allow_hosts: Vec::new(),
            max_chars: 10_000,
            max_wire_bytes: 4 << 20,
            max_page_bytes: 16 << 20,
            max_header_bytes: 64 << 10,
            max_redirects: 8,
            first_byte_secs: 10.0,
            page_secs: 20.0,
            tries: 2,
            user_agent: concat!("aepo/", env!("CARGO_PKG_VERSION"), " (reads pages for a language model)").to_owned(),
            certificates: None,
        }
    }
}

impl PageSettings {
    /// Refuses what cannot work.
    fn check(&self) -> Result<(), PageSettingsError> {
        let number = |name, value: String, rule| Err(PageSettingsError::Number { name, value, rule });
        for (name, secs) in [("first_byte_secs", self.first_byte_secs), ("page_secs", self.page_secs)] {
            if !(secs > 0.0 && secs <= 3600.0) {
                return number(name, secs.to_string(), "must be above 0 and at most 3600");
            }
        }
        if self.max_chars == 0 {
            return number("max_chars", "0".to_owned(), "must be at least 1");
        }
        if self.tries == 0 {
            return number("tries", "0".to_owned(), "must be at least 1");
        }
        if !(1024..=1 << 20).contains(&self.max_header_bytes) {
            return number("max_header_bytes", self.max_header_bytes.to_string(), "must be from 1024 to 1048576");
        }
        if !(1024..=256 << 20).contains(&self.max_page_bytes) {
            return number("max_page_bytes", self.max_page_bytes.to_string(), "must be from 1024 to 268435456");
        }
        if self.max_wire_bytes < 1024 {
            return number("max_wire_bytes", self.max_wire_bytes.to_string(), "must be at least 1024");
        }
        Ok(())
    }
}

/// A page, read.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Page {
    /// Where it was in the end.
    pub address: String,
    /// Addresses that led there, in order.
    pub led_by: Vec<String>,
    /// HTTP status, from 200 to 299.
    pub status: u16,
    /// What the server said it is.
    pub content_type: Option<String>,
    /// What it is.
    pub media: Media,
    /// The encoding it was read in, a name of the Encoding standard.
    pub charset: &'static str,
    /// Whether bytes of it meant nothing in that encoding.
    pub is_lossy: bool,
    /// Bytes on the wire.
    pub n_wire_bytes: u64,
    /// Bytes unpacked.
    pub n_page_bytes: usize,
    /// Where reading it was cut short.
    pub cut: Option<Cut>,
    /// What `text` is.
    pub form: Form,
    /// Elements left out because they lay too deep in one another; their text is there.
    pub n_flattened: usize,
    /// On one line; empty where it has none.
    pub title: String,
    /// All of its text; what is shown of it is [`Pages::shown`].
    pub text: String,
}

/// Reads pages.
pub struct Pages {
    settings: PageSettings,
    fetcher: Fetcher,
}

impl Pages {
    /// Opens nothing yet. Names are looked up by `lookup`, usually [`system`].
    pub fn new(settings: PageSettings, lookup: Lookup) -> Result<Pages, PageSettingsError> {
        settings.check()?;
        let fetcher = Fetcher::new(&settings, lookup)?;
        Ok(Pages { settings, fetcher })
    }

    /// Reads the page at an address, until the deadline.
    pub fn read(&self, address: &str, deadline: Instant) -> Result<Page, PageError> {
        let fetched = self.fetcher.fetch(address, &self.settings, deadline)?;
        let content_type = fetched.content_type.as_deref();
        let media = media::media(content_type, &fetched.bytes)?;
        let names_itself = matches!(media, Media::Html | Media::Xml);
        let decoded = charset::decode(&fetched.bytes, content_type, names_itself, fetched.cut.is_some());
        let n_page_bytes = fetched.bytes.len();
        drop(fetched.bytes);
        let page = match media {
            Media::Html => {
                let max_bytes = self.settings.max_page_bytes;
                readable::readable(&decoded.text, &fetched.url, max_bytes, deadline)
            }
            Media::Plain | Media::Markdown | Media::Json | Media::Xml => Readable::as_is(decoded.text),
        };
        Ok(Page {
            address: fetched.url.into(),
            led_by: fetched.led_by,
            status: fetched.status,
            content_type: fetched.content_type,
            media,
            charset: decoded.charset,
            is_lossy: decoded.is_lossy,
            n_wire_bytes: fetched.n_wire,
            n_page_bytes,
            cut: fetched.cut,
            form: page.form,
            n_flattened: page.n_flattened,
            title: page.title,
            text: printable(&page.text),
        })
    }

    /// Requests that were sent again so far.
    #[must_use]
    pub fn n_retries(&self) -> u64 {
        self.fetcher.n_retries.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// What a model reads: title, address, and as much of the text as the settings allow, with a word about the rest.
    #[must_use]
    pub fn shown(&self, page: &Page) -> String {
        shown(page, self.settings.max_chars)
    }
}

/// Title and address, each on a line of its own.
fn heading(page: &Page) -> String {
    match page.title.is_empty() {
        true => format!("Address: {}\n\n", page.address),
        false => format!("Title: {}\nAddress: {}\n\n", page.title, page.address),
    }
}

fn shown(page: &Page, max_chars: usize) -> String {
    let mut shown = heading(page);
    let end = page.text.char_indices().nth(max_chars).map(|(at, _)| at);
    shown.push_str(&page.text[..end.unwrap_or(page.text.len())]);
    if page.text.is_empty() {
        shown.push_str("(The page holds no text.)");
    }
    match (end, page.cut) {
        (Some(_), None) => {
            let n_chars = page.text.chars().count();
            shown.push_str(&format!("\n\n(These are the first {max_chars} of {n_chars} characters.)"));
        }
        (Some(_), Some(_)) => shown.push_str(&format!("\n\n(These are the first {max_chars} characters.)")),
        (None, Some(_)) => shown.push_str("\n\n(The page goes on; the rest of it was too large to be read.)"),
        (None, None) => {}
    }
    shown
}

/// A time of the settings, which were checked.
fn seconds(secs: f64) -> Duration {
    Duration::try_from_secs_f64(secs).unwrap_or(Duration::from_secs(3600))
}

/// Words of a title, on one line of bounded length.
fn one_line(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    let words = printable(text).split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(MAX_CHARS).collect()
}

/// Text without characters that move a cursor or end a string, and with one kind of line end.
fn printable(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    text.trim_matches(['\n', '\r', '\u{feff}'])
        .chars()
        .map(|c| if c == '\r' { '\n' } else { c })
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}
