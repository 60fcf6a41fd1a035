//! How is the hub asked? One request at a time over HTTP, its redirects followed with care, its errors put into words.

use std::time::Duration;

use ureq::http::Response;
use ureq::http::header::HeaderMap;
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use super::{Hub, HubError, ModelName};
use crate::http::{clean, tls};

/// Redirects that are followed one after another.
const MAX_REDIRECTS: usize = 8;
/// No description of a repository is longer.
const MAX_JSON_BYTES: u64 = 1 << 26;

/// A connection to one hub.
pub(super) struct Http<'a> {
    hub: &'a Hub,
    agent: Agent,
}

/// Why a request gave nothing.
pub(super) enum Trouble {
    /// It may pass: no connection, a connection that broke or stood still.
    Network(String),
    /// It may pass: the server has trouble of its own (5xx), or enough of us (429).
    Status(u16),
    /// It will not.
    Final(HubError),
}

impl From<HubError> for Trouble {
    fn from(error: HubError) -> Trouble {
        Trouble::Final(error)
    }
}

/// What is asked for, in the words of messages.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    /// Which model.
    pub(super) name: &'a ModelName,
    /// Which file of it; `None` for its description.
    pub(super) file: Option<&'a str>,
}

impl About<'_> {
    pub(super) fn words(&self) -> String {
        match self.file {
            Some(file) => format!("{file} of {}", self.name),
            None => format!("the description of {}", self.name),
        }
    }
}

impl<'a> Http<'a> {
    pub(super) fn new(hub: &'a Hub) -> Result<Http<'a>, HubError> {
        let roots = tls::roots(hub.certificates.as_deref())
            .map_err(|e| HubError::Environment { variable: "SSL_CERT_FILE", why: e.to_string() })?;
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("aepo/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(hub.patience))
            .timeout_resolve(Some(hub.patience))
            .timeout_send_request(Some(hub.patience))
            .timeout_recv_response(Some(hub.patience))
            // A slow file may take hours; what must not happen is nothing.
            .timeout_per_read(Some(hub.patience))
            .build();
        Ok(Http { hub, agent: config.into() })
    }

    /// What messages call the server.
    pub(super) fn host(&self) -> String {
        self.hub.endpoint.clone()
    }

    /// The JSON behind a path of the hub.
    pub(super) fn json(&self, path: &str, about: About<'_>) -> Result<serde_json::Value, Trouble> {
        let url = format!("{}{path}", self.hub.endpoint);
        let (_, response) = self.follow(false, &url, None, true, about)?;
        let mut body = self.ok(response, about)?.into_body();
        let bytes =
            body.with_config().limit(MAX_JSON_BYTES).read_to_vec().map_err(|e| Trouble::Network(e.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|e| self.protocol(about, format!("no JSON ({e})")).into())
    }

    /// The headers in which the hub describes a file. Redirects to another server are not followed: it would not know.
    pub(super) fn head(&self, path: &str, about: About<'_>) -> Result<HeaderMap, Trouble> {
        let url = format!("{}{path}", self.hub.endpoint);
        let (_, response) = self.follow(true, &url, None, false, about)?;
        match response.status().is_redirection() {
            true => Ok(response.headers().clone()),
            false => Ok(self.ok(response, about)?.headers().clone()),
        }
    }

    /// A file from byte `from` on. Statuses 200, 206 and 416 are answers, all others errors.
    pub(super) fn get(&self, path: &str, from: u64, about: About<'_>) -> Result<Response<Body>, Trouble> {
        let url = format!("{}{path}", self.hub.endpoint);
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let (_, response) = self.follow(false, &url, range.as_deref(), true, about)?;
        match response.status().as_u16() {
            416 => Ok(response),
            _ => self.ok(response, about),
        }
    }

    /// Follows redirects; those to another server only if `away`. The token goes to the hub alone.
    fn follow(
        &self,
        head: bool,
        url: &str,
        range: Option<&str>,
        away: bool,
        about: About<'_>,
    ) -> Result<(String, Response<Body>), Trouble> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let mut request = if head { self.agent.head(&url) } else { self.agent.get(&url) };
            // What is measured in bytes must not be compressed on the way.
            request = request.header("accept-encoding", "identity");
            if let Some(range) = range {
                request = request.header("range", range);
            }
            if let Some(token) = self.hub.token.as_ref().filter(|_| same_origin(&url, &self.hub.endpoint)) {
                request = request.header("authorization", format!("Bearer {}", token.reveal()));
            }
            let response = request.call().map_err(|e| Trouble::Network(tls::words(&e)))?;
            let location = response.headers().get("location").and_then(|l| l.to_str().ok());
            let (true, Some(location)) = (response.status().is_redirection(), location) else {
                return Ok((url, response));
            };
            let next = join(&url, location)
                .ok_or_else(|| self.protocol(about, format!("a redirect to `{}`", clean(location))))?;
            if !away && !same_origin(&next, &url) {
                return Ok((url, response));
            }
            url = next;
        }
        Err(self.protocol(about, format!("more than {MAX_REDIRECTS} redirects")).into())
    }

    fn ok(&self, response: Response<Body>, about: About<'_>) -> Result<Response<Body>, Trouble> {
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let (code, said) = (header("x-error-code").unwrap_or_default(), header("x-error-message"));
        let message = said.map_or_else(String::new, |said| format!(": {}", clean(said)));
        let (host, name) = (self.hub.endpoint.clone(), about.name.to_string());
        let has_token = self.hub.token.is_some();
        Err(match status {
            200 | 206 => return Ok(response),
            429 | 500..=599 => Trouble::Status(status),
            401 | 403 => {
                let advice = match (code, status, has_token) {
                    ("GatedRepo", _, true) => "its terms must be accepted on its page by the account of the token",
                    ("GatedRepo", _, false) => {
                        "its terms must be accepted on its page; then put a token of that account into HF_TOKEN"
                    }
                    (_, 401, false) => {
                        "it does not exist, or is private: check the spelling, or put a token into HF_TOKEN"
                    }
                    (_, _, false) => "put a token into HF_TOKEN",
                    (_, _, true) => {
                        "check the spelling; the token (HF_TOKEN, or the token file) may be old, or have no right to it"
                    }
                };
                HubError::Denied { host, name, status, message, advice }.into()
            }
            404 => {
                let what = match (about.file, code) {
                    (Some(file), _) => format!("file {file} in {name}"),
                    (None, "RevisionNotFound") => {
                        format!("revision `{}` of model {}", about.name.revision(), about.name.repo)
                    }
                    (None, _) => format!("model {name}"),
                };
                HubError::NotFound { what, host, repo: about.name.repo.clone() }.into()
            }
            other => self.protocol(about, format!("HTTP status {other}{message}")).into(),
        })
    }

    pub(super) fn protocol(&self, about: About<'_>, found: String) -> HubError {
        HubError::Protocol { host: self.hub.endpoint.clone(), what: about.words(), found }
    }

    /// Asks until there is an answer, at most so often as the hub's settings say, longer and longer apart.
    pub(super) fn insist<T>(
        &self,
        about: About<'_>,
        mut ask: impl FnMut() -> Result<T, Trouble>,
        mut again: impl FnMut(&str, Duration) -> Result<(), HubError>,
    ) -> Result<T, Trouble> {
        let mut n_failed = 0;
        loop {
            let trouble = match ask() {
                Err(Trouble::Final(error)) => return Err(Trouble::Final(error)),
                Err(trouble) => trouble,
                Ok(answer) => return Ok(answer),
            };
            n_failed += 1;
            if n_failed >= self.hub.tries {
                return Err(match trouble {
                    Trouble::Status(status) => {
                        let (host, what) = (self.hub.endpoint.clone(), about.words());
                        HubError::Server { host, status, what, tries: n_failed }.into()
                    }
                    trouble => trouble,
                });
            }
            self.rest(&trouble, n_failed, &mut again)?;
        }
    }

    /// Waits before another try.
    pub(super) fn rest(
        &self,
        trouble: &Trouble,
        n_failed: u32,
        again: &mut impl FnMut(&str, Duration) -> Result<(), HubError>,
    ) -> Result<(), HubError> {
        let wait = self.hub.backoff * 2u32.saturating_pow(n_failed.saturating_sub(1).min(6));
        match trouble {
            Trouble::Network(cause) => again(cause, wait)?,
            Trouble::Status(status) => again(&format!("HTTP status {status}"), wait)?,
            Trouble::Final(_) => {}
        }
        std::thread::sleep(wait);
        Ok(())
    }
}

/// `scheme://host:port`
fn origin(url: &str) -> Option<&str> {
    let behind = url.find("://")? + 3;
    let end = url[behind..].find(['/', '?', '#']).map_or(url.len(), |at| behind + at);
    Some(&url[..end])
}

fn same_origin(a: &str, b: &str) -> bool {
    matches!((origin(a), origin(b)), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b))
}

/// Where a redirect leads: to a whole address, never from https to http, or to a path of the same server.
fn join(url: &str, location: &str) -> Option<String> {
    let lower = location.to_ascii_lowercase();
    match () {
        () if lower.starts_with("https://") => Some(location.to_owned()),
        () if lower.starts_with("http://") => {
            let secure = url.to_ascii_lowercase().starts_with("https://");
            (!secure).then(|| location.to_owned())
        }
        () if location.starts_with('/') && !location.starts_with("//") => Some(format!("{}{location}", origin(url)?)),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_addresses_and_paths_and_never_from_https_to_http() {
        let from = "https://a.example/x/y?z";
        assert_eq!(join(from, "/q?r").as_deref(), Some("https://a.example/q?r"));
        assert_eq!(join(from, "https://b.example/q").as_deref(), Some("https://b.example/q"));
        for location in ["http://b.example/q", "HTTP://b.example", "//b.example/q", "q", "file:///etc/passwd", ""] {
            assert_eq!(join(from, location), None, "{location}");
        }
        assert_eq!(join("http://a:80/x", "http://b/q").as_deref(), Some("http://b/q"));
    }

    #[test]
    fn the_token_goes_to_the_same_scheme_host_and_port_alone() {
        let hub = "https://hub.example";
        for (url, same) in [
            ("https://hub.example/api/x", true),
            ("https://HUB.example?x", true),
            ("http://hub.example/x", false),
            ("https://hub.example:8443/x", false),
            ("https://hub.example.evil/x", false),
            ("https://hub.example@evil/x", false),
            ("nonsense", false),
        ] {
            assert_eq!(same_origin(url, hub), same, "{url}");
        }
    }
}
