//! How is something asked that is not JSON, or whose status is an answer? Once, with every status handed back.
//!
//! Protocols with futures, archives and binary messages decide for themselves what a status means and what may be sent
//! again; deadlines, bounds, certificates and keys are those of [`Client::json`].

use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::{Body, http};

use super::{Client, HttpError, MAX_COMPLAINT_BYTES, ReadError, Request, Secret, clean, complaint, read, tls};

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// `http://…` or `https://…`.
    pub url: &'a str,
    /// How.
    pub method: Method<'a>,
    /// The `Accept` header.
    pub accept: &'a str,
    /// Header that holds the key, what stands before the key, and the key.
    pub key: Option<(&'a str, &'a str, &'a Secret)>,
    /// Longest answer, bytes, as sent and as decompressed.
    pub max_bytes: usize,
}

/// The verb, with what it carries.
#[derive(Clone, Copy, Debug)]
pub enum Method<'a> {
    /// Asks.
    Get,
    /// Removes.
    Delete,
    /// Sends a body of a media type.
    Post {
        /// `Content-Type`.
        kind: &'a str,
        /// The body.
        bytes: &'a [u8],
    },
}

/// What came back, whatever the status.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type` without parameters, in lower case; empty where there is none.
    pub kind: String,
    /// The body; of a status that is not 2xx its first 64 KiB, the key taken out.
    pub bytes: Vec<u8>,
    /// Where a redirect points, as the server wrote it.
    pub location: Option<String>,
    /// How long the server asks to be left alone.
    pub wait: Option<Duration>,
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What the server says of its error, behind a colon, short and without control characters; or nothing.
    #[must_use]
    pub fn complaint(&self) -> String {
        complaint(&String::from_utf8_lossy(&self.bytes))
    }
}

impl Client {
    /// Sends one request once. Redirects are handed back and not followed.
    ///
    /// # Errors
    /// [`HttpError::Network`] when no whole answer came (the server may have acted on the request all the same),
    /// [`HttpError::Deadline`], [`HttpError::TooLarge`] or [`HttpError::Address`].
    pub fn exchange(&self, what: Exchange<'_>, deadline: Instant) -> Result<Answer, HttpError> {
        let host = tls::origin(what.url).ok_or(HttpError::Address)?.to_owned();
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HttpError::Deadline { host, during: "before it was asked" });
        }
        let request = Request { url: what.url, query: &[], key: what.key, body: None };
        let lost = |error: String, during| match Instant::now() >= deadline {
            true => HttpError::Deadline { host: host.clone(), during },
            false => HttpError::Network { host: host.clone(), cause: clean(&super::hide(&request, &error)), tries: 1 },
        };
        let response = self.put(&what, left).map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => HttpError::Address,
            other => lost(tls::words(&other), "before it answered"),
        })?;
        let header =
            |name: http::HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (encoding, wait) = (header(http::header::CONTENT_ENCODING), header(http::header::RETRY_AFTER));
        let (location, kind) = (header(http::header::LOCATION), header(http::header::CONTENT_TYPE).unwrap_or_default());
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let status = response.status().as_u16();
        let good = (200..300).contains(&status);
        let max_bytes = if good { what.max_bytes } else { MAX_COMPLAINT_BYTES };
        let bytes = match read(response, encoding.as_deref(), max_bytes) {
            Ok(bytes) => bytes,
            Err(ReadError::TooLarge) if good => return Err(HttpError::TooLarge { host, max_bytes }),
            Err(ReadError::Broken(error)) if good => return Err(lost(error, "within its answer")),
            // An error's explanation that cannot be read changes nothing about the error.
            Err(_) => Vec::new(),
        };
        let bytes = match good {
            true => bytes,
            false => super::hide(&request, &String::from_utf8_lossy(&bytes)).into_bytes(),
        };
        let wait = wait.as_deref().and_then(super::retry_after);
        Ok(Answer { status, kind, bytes, location, wait })
    }

    fn put(&self, what: &Exchange<'_>, left: Duration) -> Result<Response<Body>, ureq::Error> {
        let agent = &self.agents[usize::from(tls::is_here(what.url))];
        macro_rules! prepared {
            ($builder:expr) => {{
                let mut builder = $builder.config().timeout_global(Some(left)).build();
                if let Some((name, before, secret)) = what.key {
                    builder = builder.header(name, format!("{before}{}", secret.reveal()));
                }
                builder.header("accept", what.accept).header("accept-encoding", "gzip")
            }};
        }
        match what.method {
            Method::Get => prepared!(agent.get(what.url)).call(),
            Method::Delete => prepared!(agent.delete(what.url)).call(),
            Method::Post { kind, bytes } => prepared!(agent.post(what.url)).header("content-type", kind).send(bytes),
        }
    }
}
