//! How does a page come here? Over HTTP from a checked address, redirects followed by hand with every check anew, within
//! caps on bytes, steps and time. No cookies, no referrer, no proxy: a proxy would look names up by itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Timeout};
use url::Url;

use super::body::{Cut, Packing, unpack};
use super::error::{PageError, PageSettingsError, clean};
use super::resolve::{Checked, Lookup};
use super::target::target;
use super::{PageSettings, seconds};
use crate::http::tls;

/// What pages are asked for; servers that have several kinds choose by it.
const ACCEPT: &str = "text/html, application/xhtml+xml, text/plain;q=0.9, text/markdown;q=0.9, \
                      application/json;q=0.8, application/xml;q=0.7, */*;q=0.1";
/// Before another try; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(300);

/// A page as its server gave it, unpacked.
pub(super) struct Fetched {
    /// Where it was in the end.
    pub(super) url: Url,
    /// The addresses that led there, in order, without the last.
    pub(super) led_by: Vec<String>,
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) bytes: Vec<u8>,
    pub(super) n_wire: u64,
    pub(super) cut: Option<Cut>,
}

/// Connections to the public internet.
pub(super) struct Fetcher {
    agent: Agent,
    /// Requests that were sent again.
    pub(super) n_retries: AtomicU64,
}

/// When a page must be there, and why then.
#[derive(Clone, Copy)]
struct Limit {
    at: Instant,
    /// Time of a page, seconds, where it is that which ends first, and not the call's.
    page_secs: Option<f64>,
}

impl Limit {
    fn over(self, host: &str) -> PageError {
        match self.page_secs {
            Some(secs) => PageError::Slow { host: clean(host), step: "the whole page", secs },
            None => PageError::Deadline,
        }
    }

    fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

impl Fetcher {
    pub(super) fn new(settings: &PageSettings, lookup: Lookup) -> Result<Fetcher, PageSettingsError> {
        let roots = tls::roots(settings.certificates.as_deref())?;
        let first_byte = Some(seconds(settings.first_byte_secs));
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(settings.user_agent.as_str())
            .accept(ACCEPT)
            .accept_encoding(Packing::OFFERED)
            .max_response_header_size(settings.max_header_bytes)
            // A connection is made for its request, after its address was judged, and closed with it.
            .max_idle_connections(0)
            .timeout_resolve(first_byte)
            .timeout_connect(first_byte)
            .timeout_send_request(first_byte)
            .timeout_recv_response(first_byte)
            .build();
        let resolver = Checked { lookup, allowed: settings.allow_hosts.clone() };
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        Ok(Fetcher { agent, n_retries: AtomicU64::new(0) })
    }

    /// Fetches a page and whatever it leads on to.
    pub(super) fn fetch(
        &self,
        written: &str,
        settings: &PageSettings,
        deadline: Instant,
    ) -> Result<Fetched, PageError> {
        let page = Instant::now() + seconds(settings.page_secs);
        let limit = match page < deadline {
            true => Limit { at: page, page_secs: Some(settings.page_secs) },
            false => Limit { at: deadline, page_secs: None },
        };
        let mut url = target(written, None, &settings.allow_hosts)?;
        let mut led_by = Vec::new();
        let mut seen = HashSet::new();
        loop {
            if !seen.insert(url.to_string()) {
                return Err(PageError::Circle { address: clean(url.as_str()) });
            }
            let next = match self.insist(&url, settings, limit)? {
                Step::Page(mut fetched) => {
                    fetched.led_by = led_by;
                    return Ok(*fetched);
                }
                Step::On(next) => next,
            };
            if led_by.len() >= settings.max_redirects {
                return Err(PageError::Redirects { max: settings.max_redirects });
            }
            led_by.push(std::mem::replace(&mut url, next).to_string());
        }
    }

    /// Asks again where that may help: the server has trouble of its own, or the connection did not hold.
    fn insist(&self, url: &Url, settings: &PageSettings, limit: Limit) -> Result<Step, PageError> {
        let mut n_failed = 0;
        loop {
            let error = match self.step(url, settings, limit) {
                Err(error) => error,
                step => return step,
            };
            let may_pass = match &error {
                PageError::Status { status, .. } => matches!(status, 429 | 500 | 502..=504),
                PageError::NoAnswer { .. } | PageError::Broken { .. } => true,
                _ => false,
            };
            n_failed += 1;
            let wait = BACKOFF * 2u32.saturating_pow(n_failed - 1);
            if !may_pass || n_failed >= settings.tries || wait * 2 > limit.left() {
                return Err(error);
            }
            std::thread::sleep(wait);
            self.n_retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One request.
    fn step(&self, url: &Url, settings: &PageSettings, limit: Limit) -> Result<Step, PageError> {
        let host = url.host_str().unwrap_or_default();
        let trouble = |error: ureq::Error| trouble(error, host, settings, limit);
        let left = limit.left();
        if left.is_zero() {
            return Err(limit.over(host));
        }
        let request = self.agent.get(url.as_str()).config().timeout_global(Some(left)).build();
        let response = request.call().map_err(trouble)?;
        let status = response.status().as_u16();
        if let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, header(&response, "location")) {
            return target(&location, Some(url), &settings.allow_hosts).map(Step::On);
        }
        if !response.status().is_success() {
            return Err(PageError::Status { host: clean(host), status });
        }
        let packing = Packing::parse(header(&response, "content-encoding").as_deref())
            .map_err(|encoding| PageError::Encoding { encoding: clean(&encoding) })?;
        let content_type = header(&response, "content-type");
        // What is no text need not be read to its end.
        super::media::media(content_type.as_deref(), b"")?;
        let wire = response.into_body().into_reader();
        let unpacked =
            unpack(wire, packing, settings.max_wire_bytes, settings.max_page_bytes).map_err(|e| match e.into() {
                // The server broke off, or what it sent does not unpack.
                ureq::Error::Io(e) => PageError::Broken { host: clean(host), reason: clean(&e.to_string()) },
                other => trouble(other),
            })?;
        Ok(Step::Page(Box::new(Fetched {
            url: url.clone(),
            led_by: Vec::new(),
            status,
            content_type,
            bytes: unpacked.bytes,
            n_wire: unpacked.n_wire,
            cut: unpacked.cut,
        })))
    }
}

/// What a request brought.
enum Step {
    Page(Box<Fetched>),
    /// It leads on.
    On(Url),
}

/// A header's text; bytes that are no UTF-8 become U+FFFD, as in browsers.
fn header(response: &Response<Body>, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Whose trouble it is.
fn trouble(error: ureq::Error, host: &str, settings: &PageSettings, limit: Limit) -> PageError {
    let slow = |step: &'static str| PageError::Slow { host: clean(host), step, secs: settings.first_byte_secs };
    let host = clean(host);
    match error {
        ureq::Error::Other(inner) => match inner.downcast::<PageError>() {
            Ok(ours) => *ours,
            Err(other) => PageError::NoAnswer { host, reason: clean(&other.to_string()) },
        },
        ureq::Error::Timeout(step) => match step {
            Timeout::Resolve => PageError::Lookup { host, reason: "the resolver gave no answer".to_owned() },
            Timeout::Connect => slow("connecting"),
            Timeout::SendRequest => slow("the request"),
            Timeout::RecvResponse => slow("the beginning of the answer"),
            _ => limit.over(&host),
        },
        ureq::Error::HostNotFound => PageError::NoHost { host },
        ureq::Error::Io(e) => {
            let reason = clean(&e.to_string());
            match e.kind() {
                // Nothing left this machine. An unreachable host, in contrast, is a router's answer.
                std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::NetworkDown => {
                    PageError::NoNetwork { host, reason }
                }
                _ => PageError::NoAnswer { host, reason },
            }
        }
        ureq::Error::LargeResponseHeader(..) => {
            let reason = format!("more than {} bytes of headers", settings.max_header_bytes);
            PageError::Broken { host, reason }
        }
        ureq::Error::Protocol(e) => PageError::Broken { host, reason: clean(&e.to_string()) },
        other => PageError::NoAnswer { host, reason: clean(&other.to_string()) },
    }
}
