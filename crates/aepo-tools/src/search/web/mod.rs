//! What does the web know? Five search APIs behind one trait: each says how it is asked and how its answer is read.
//!
//! Keys come from the environment alone. Rate, budget, retries and deadline are the client's.

mod brave;
mod brightdata;
mod exa;
mod serper;
mod tavily;

use std::time::Instant;

use serde_json::Value;

use super::{Document, Hit};
use crate::http::{Client, HttpError, Request, Secret, tls};

/// An API of the web.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebApi {
    /// Google's results by serper.dev.
    Serper,
    /// Brave's own index.
    Brave,
    /// Exa's own index, which answers with text of the pages.
    Exa,
    /// Tavily's own index, made for agents.
    Tavily,
    /// Bing's results by Bright Data, which ARPO and AEPO were trained with.
    BrightData,
}

/// One question, before the key is added.
pub(super) struct Ask {
    /// Behind the API's address.
    path: &'static str,
    /// Parameters behind the `?`.
    query: Vec<(&'static str, String)>,
    /// What stands in the body; `None` asks by GET.
    body: Option<Value>,
}

/// How one API is spoken to. A zone is a name that Bright Data wants beside the key.
pub(super) trait Dialect: Sync {
    /// Its address, where no other is given.
    fn address(&self) -> &'static str;
    /// The variable that holds the key.
    fn variable(&self) -> &'static str;
    /// The header that carries the key, and what stands before the key.
    fn header(&self) -> (&'static str, &'static str);
    /// Most results that it gives at once.
    fn max_results(&self) -> usize;
    /// How `n` results are asked for.
    fn ask(&self, query: &str, n: usize, zone: &str) -> Ask;
    /// Where its answer keeps results, and what title, address, snippet and score are called there.
    fn names(&self) -> Names;
}

/// Where an answer keeps its results.
pub(super) struct Names {
    /// JSON pointer of the list.
    list: &'static str,
    title: &'static str,
    url: &'static str,
    snippet: &'static str,
    score: Option<&'static str>,
    /// Whether an answer without the list is one without results.
    may_be_absent: bool,
}

impl WebApi {
    /// Every one.
    pub const ALL: [WebApi; 5] = [WebApi::Serper, WebApi::Brave, WebApi::Exa, WebApi::Tavily, WebApi::BrightData];

    /// Its name in recipes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WebApi::Serper => "serper",
            WebApi::Brave => "brave",
            WebApi::Exa => "exa",
            WebApi::Tavily => "tavily",
            WebApi::BrightData => "brightdata",
        }
    }

    /// The variable of the environment that holds its key.
    #[must_use]
    pub fn variable(self) -> &'static str {
        self.dialect().variable()
    }

    fn dialect(self) -> &'static dyn Dialect {
        match self {
            WebApi::Serper => &serper::Serper,
            WebApi::Brave => &brave::Brave,
            WebApi::Exa => &exa::Exa,
            WebApi::Tavily => &tavily::Tavily,
            WebApi::BrightData => &brightdata::BrightData,
        }
    }
}

/// An API with its key.
#[derive(Clone, Debug)]
pub struct Web {
    /// Which one.
    pub api: WebApi,
    /// Who asks it.
    pub client: Client,
    /// Its address, without a slash at its end.
    pub address: String,
    /// Sent in its header; without it nothing is asked.
    pub key: Option<Secret>,
    /// The zone of Bright Data; nothing for the others.
    pub zone: String,
}

impl Web {
    /// An API with the key, and for Bright Data the zone, that the environment holds.
    pub fn from_env(api: WebApi, client: Client) -> Result<Web, HttpError> {
        let key = Some(Secret::from_env(api.variable())?);
        let zone = match api {
            WebApi::BrightData => std::env::var(brightdata::ZONE).map_err(|_| HttpError::Key {
                variable: brightdata::ZONE.to_owned(),
                why: "is not set; put the name of the SERP zone into it",
            })?,
            _ => String::new(),
        };
        Ok(Web { api, client, address: api.dialect().address().to_owned(), key, zone })
    }

    /// An API that answers nothing, for results that are known already: it has its identity and needs no key.
    #[must_use]
    pub fn unasked(api: WebApi, client: Client) -> Web {
        let zone = std::env::var(brightdata::ZONE).ok().filter(|_| api == WebApi::BrightData).unwrap_or_default();
        Web { api, client, address: api.dialect().address().to_owned(), key: None, zone }
    }

    /// The best pages, at most `n` and no more than the API gives at once, in its order.
    pub fn search(&self, query: &str, n: usize, deadline: Instant) -> Result<Vec<Hit>, HttpError> {
        let dialect = self.api.dialect();
        let why = "was not read: results were to come from the cache alone";
        let no_key = || HttpError::Key { variable: self.api.variable().to_owned(), why };
        let key = self.key.as_ref().ok_or_else(no_key)?;
        let ask = dialect.ask(query, n.clamp(1, dialect.max_results()), &self.zone);
        let url = format!("{}{}", self.address, ask.path);
        let parameters: Vec<(&str, &str)> = ask.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (name, before) = dialect.header();
        let key = Some((name, before, key));
        let request = Request { url: &url, query: &parameters, key, body: ask.body.as_ref() };
        let answer = self.client.json(request, deadline)?;
        let host = || tls::origin(&url).unwrap_or_default().to_owned();
        let mut hits = read(&answer, &dialect.names()).map_err(|missing| HttpError::Form { host: host(), missing })?;
        hits.truncate(n);
        Ok(hits)
    }

    /// Which API is asked where.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{} {} {}", self.api.name(), self.address, self.zone)
    }
}

/// Results of an answer. One without an address is left out, one without a title or snippet is shown without.
fn read(answer: &Value, names: &Names) -> Result<Vec<Hit>, &'static str> {
    let list = match answer.pointer(names.list) {
        Some(Value::Array(list)) => list,
        None if names.may_be_absent && answer.is_object() => return Ok(Vec::new()),
        _ => return Err("list of results where this API keeps it"),
    };
    let text = |item: &Value, name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let hit = |item: &Value| {
        let url = text(item, names.url);
        let document = Document { id: url.clone(), title: text(item, names.title), text: text(item, names.snippet) };
        let score = names.score.and_then(|score| item.get(score)?.as_f64());
        (!url.is_empty()).then_some(Hit { document, url: Some(url), score })
    };
    Ok(list.iter().filter_map(hit).collect())
}

/// Escapes what stands in a query of an address (RFC 3986, 2.3: all but the unreserved characters).
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}
