//! How is a JSON API asked? One request at a time, with a deadline over all of its tries, and bounds on everything.
//!
//! A [`Client`] is cheap to clone; clones share connections, rate and budget. Redirects are not followed: an API has one
//! address, and a key must not travel. A key ([`Secret`]) is shown nowhere: not in errors, not in what a server sends back.

mod error;
pub mod exchange;
mod pace;
mod secret;
pub(crate) mod tls;

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

pub use error::HttpError;
pub use pace::{Budget, Rate};
pub use secret::Secret;
pub use tls::origin;

pub use pace::backoff;
use pace::retry_after;

/// A server that accepts no connection in this time is not there.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Of what a server says about an error, this much is read, bytes.
const MAX_COMPLAINT_BYTES: usize = 1 << 16;

/// What every request of a client is held to.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Longest answer, bytes, as sent and as decompressed.
    pub max_bytes: usize,
    /// How often one request is sent at most; at least once.
    pub tries: u32,
    /// Wait before the second try; it doubles with each, and a random half of it is left out.
    pub backoff: Duration,
    /// Certificates to trust instead of the usual ones, PEM.
    pub certificates: Option<PathBuf>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_bytes: 8 << 20, tries: 4, backoff: Duration::from_millis(500), certificates: None }
    }
}

/// Sends requests.
#[derive(Clone, Debug)]
pub struct Client {
    limits: Limits,
    /// One that uses the proxy of the environment, and one for this machine, which does not.
    agents: [Agent; 2],
    rate: Option<Arc<Rate>>,
    budget: Option<Arc<Budget>>,
    n_retries: Arc<AtomicU64>,
}

/// One question to an API.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `http://…` or `https://…`, without a query.
    pub url: &'a str,
    /// Parameters behind the `?`, not yet escaped.
    pub query: &'a [(&'a str, &'a str)],
    /// Header that holds the key, what stands before the key, and the key: `("authorization", "Bearer ", key)`.
    pub key: Option<(&'a str, &'a str, &'a Secret)>,
    /// Sent by POST; `None` asks by GET.
    pub body: Option<&'a Value>,
}

/// Why one try gave nothing, where another may help.
enum Trouble {
    Network(String),
    Status { status: u16, message: String, wait: Option<Duration> },
}

impl Client {
    /// A client without a rate or a budget.
    pub fn new(limits: Limits) -> Result<Client, HttpError> {
        let roots = tls::roots(limits.certificates.as_deref())?;
        let agent = |proxy: bool| -> Agent {
            let mut config = Agent::config_builder()
                .tls_config(ureq::tls::TlsConfig::builder().root_certs(roots.clone()).build())
                .http_status_as_error(false)
                .max_redirects(0)
                .user_agent(concat!("aepo/", env!("CARGO_PKG_VERSION")))
                .timeout_connect(Some(CONNECT_PATIENCE));
            if !proxy {
                config = config.proxy(None);
            }
            config.build().into()
        };
        Ok(Client { agents: [agent(true), agent(false)], limits, rate: None, budget: None, n_retries: Arc::default() })
    }

    /// The same client, which sends no faster than `rate` allows.
    #[must_use]
    pub fn with_rate(mut self, rate: Arc<Rate>) -> Client {
        self.rate = Some(rate);
        self
    }

    /// The same client, which sends no more requests than `budget` has left.
    #[must_use]
    pub fn with_budget(mut self, budget: Arc<Budget>) -> Client {
        self.budget = Some(budget);
        self
    }

    /// The same client, whose requests that are sent again are counted apart from those of its other clones.
    #[must_use]
    pub fn counted_apart(&self) -> Client {
        Client { n_retries: Arc::default(), ..self.clone() }
    }

    /// Requests that were sent again so far.
    #[must_use]
    pub fn n_retries(&self) -> u64 {
        self.n_retries.load(Ordering::Relaxed)
    }

    /// Asks until there is JSON, an error that stays, or `deadline`. Answers of 429 and 5xx, and connections that fail,
    /// are tried again, each try counted by rate and budget; never later than the server's `Retry-After` allows, and not
    /// at all when that lies behind the deadline.
    pub fn json(&self, request: Request<'_>, deadline: Instant) -> Result<Value, HttpError> {
        let host = tls::origin(request.url).ok_or(HttpError::Address)?.to_owned();
        let mut last = None;
        for n_failed in 0..self.limits.tries.max(1) {
            if let Some(trouble) = &last {
                let wait = match trouble {
                    Trouble::Status { wait: Some(wait), .. } => (*wait).max(backoff(self.limits.backoff, n_failed)),
                    _ => backoff(self.limits.backoff, n_failed),
                };
                if Instant::now() + wait >= deadline {
                    return Err(given_up(host, last, n_failed));
                }
                std::thread::sleep(wait);
            }
            if let Some(rate) = &self.rate {
                let turn = rate.turn(deadline);
                turn.map_err(|()| HttpError::Deadline { host: host.clone(), during: "waiting for its turn" })?;
            }
            if let Some(budget) = &self.budget {
                budget.spend().map_err(|max_calls| HttpError::Budget { host: host.clone(), max_calls })?;
            }
            if n_failed > 0 {
                self.n_retries.fetch_add(1, Ordering::Relaxed);
            }
            match self.try_once(&request, &host, deadline)? {
                Ok(value) => return Ok(value),
                Err(trouble) => last = Some(trouble),
            }
        }
        Err(given_up(host, last, self.limits.tries.max(1)))
    }

    /// The outer error stays, the inner one may pass.
    fn try_once(
        &self,
        request: &Request<'_>,
        host: &str,
        deadline: Instant,
    ) -> Result<Result<Value, Trouble>, HttpError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HttpError::Deadline { host: host.to_owned(), during: "before it was asked" });
        }
        let response = match self.send(request, left) {
            Ok(response) => response,
            Err(error) => return failed(&error, host, deadline, request),
        };
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (encoding, wait) = (header("content-encoding"), header("retry-after"));
        let good = (200..300).contains(&status);
        let max_bytes = if good { self.limits.max_bytes } else { MAX_COMPLAINT_BYTES };
        let bytes = match read(response, encoding.as_deref(), max_bytes) {
            Ok(bytes) => bytes,
            Err(ReadError::TooLarge) if good => {
                return Err(HttpError::TooLarge { host: host.to_owned(), max_bytes });
            }
            Err(ReadError::Broken(error)) if good => {
                // What a deadline looks like from inside a reader is an error of any kind.
                if Instant::now() >= deadline {
                    return Err(HttpError::Deadline { host: host.to_owned(), during: "within its answer" });
                }
                return Ok(Err(Trouble::Network(clean(&hide(request, &error)))));
            }
            // An error's explanation that cannot be read changes nothing about the error.
            Err(_) => Vec::new(),
        };
        let text = hide(request, &String::from_utf8_lossy(&bytes));
        if good {
            let parsed = serde_json::from_str(&text);
            return parsed.map(Ok).map_err(|e| HttpError::NotJson { host: host.to_owned(), why: e.to_string() });
        }
        let message = complaint(&text);
        match status {
            429 | 500..=599 => {
                let wait = wait.as_deref().and_then(retry_after);
                Ok(Err(Trouble::Status { status, message, wait }))
            }
            _ => Err(HttpError::Status { host: host.to_owned(), status, message, tries: 1 }),
        }
    }

    fn send(&self, request: &Request<'_>, left: Duration) -> Result<Response<Body>, ureq::Error> {
        let agent = &self.agents[usize::from(tls::is_here(request.url))];
        macro_rules! prepared {
            ($builder:expr) => {{
                let mut builder = $builder.config().timeout_global(Some(left)).build();
                for (name, value) in request.query {
                    builder = builder.query(*name, *value);
                }
                if let Some((name, before, secret)) = request.key {
                    builder = builder.header(name, format!("{before}{}", secret.reveal()));
                }
                builder.header("accept", "application/json").header("accept-encoding", "gzip")
            }};
        }
        match request.body {
            Some(body) => prepared!(agent.post(request.url))
                .header("content-type", "application/json")
                .send(body.to_string().as_bytes()),
            None => prepared!(agent.get(request.url)).call(),
        }
    }
}

/// An error of one try: one that stays, or one that may pass.
fn failed(
    error: &ureq::Error,
    host: &str,
    deadline: Instant,
    request: &Request<'_>,
) -> Result<Result<Value, Trouble>, HttpError> {
    let is_global = matches!(error, ureq::Error::Timeout(kind) if !matches!(kind, ureq::Timeout::Connect));
    if is_global || Instant::now() >= deadline {
        return Err(HttpError::Deadline { host: host.to_owned(), during: "before it answered" });
    }
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Err(HttpError::Address),
        other => Ok(Err(Trouble::Network(clean(&hide(request, &tls::words(other)))))),
    }
}

fn given_up(host: String, last: Option<Trouble>, tries: u32) -> HttpError {
    match last {
        Some(Trouble::Status { status, message, .. }) => HttpError::Status { host, status, message, tries },
        Some(Trouble::Network(cause)) => HttpError::Network { host, cause, tries },
        None => HttpError::Deadline { host, during: "before it was asked" },
    }
}

/// The server's text without the key, should it send it back.
fn hide(request: &Request<'_>, text: &str) -> String {
    match request.key {
        Some((_, _, secret)) => secret.hide(text),
        None => text.to_owned(),
    }
}

/// A server's words for a message of ours: short, and without anything that moves the cursor.
pub(crate) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// What a server says about its error, behind a colon: the message inside JSON where there is one.
fn complaint(text: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    let words = parsed.as_ref().and_then(|value| {
        let places = ["/error/message", "/error", "/message", "/detail", "/detail/error"];
        places.iter().find_map(|place| value.pointer(place)?.as_str().map(str::to_owned))
    });
    let words = clean(words.as_deref().unwrap_or(text));
    if words.is_empty() { words } else { format!(": {words}") }
}

enum ReadError {
    TooLarge,
    Broken(String),
}

/// The body, at most `max_bytes` of it, sent or decompressed.
fn read(response: Response<Body>, encoding: Option<&str>, max_bytes: usize) -> Result<Vec<u8>, ReadError> {
    let sent = response.into_body().into_with_config().limit(u64::MAX).reader().take(max_bytes as u64 + 1);
    let mut bytes = Vec::new();
    let done = match encoding.map(|e| e.trim().to_ascii_lowercase()).as_deref() {
        None | Some("" | "identity") => sent.take(max_bytes as u64 + 1).read_to_end(&mut bytes),
        Some("gzip" | "x-gzip") => {
            flate2::read::MultiGzDecoder::new(sent).take(max_bytes as u64 + 1).read_to_end(&mut bytes)
        }
        Some(other) => return Err(ReadError::Broken(format!("an answer packed as `{other}`, which nobody asked for"))),
    };
    done.map_err(|e| ReadError::Broken(e.to_string()))?;
    if bytes.len() > max_bytes {
        return Err(ReadError::TooLarge);
    }
    Ok(bytes)
}
