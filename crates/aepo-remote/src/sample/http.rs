//! How is a replica asked over HTTP? Within a time, within bounds, and with nothing of a key in what is said about it.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Key;
use super::wire::{Trouble, words};

/// A server that accepts no connection in this time is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// No short answer (about a model, a version, an error) is longer, bytes.
const MAX_SHORT_BYTES: usize = 1 << 20;

/// A replica's address.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client,
    base: String,
    key: Option<(HeaderValue, Key)>,
}

/// A status and what came with it.
pub(crate) struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Whether the request was done.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What a bad status means: 429 and 5xx may pass, as may 408; 404 is about a model that is not known there; all
    /// others are about the request.
    pub fn trouble(&self) -> Trouble {
        let why = format!("HTTP status {}: {}", self.status, words(&self.body));
        match self.status {
            408 | 429 | 500..=599 => Trouble::Replica(why),
            404 => Trouble::Weights(why),
            _ => Trouble::Refused(why),
        }
    }

    /// The body as JSON of a form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        let read = serde_json::from_slice(&self.body);
        read.map_err(|e| Trouble::Replica(format!("an answer that cannot be read: {e}")))
    }
}

/// A client for all replicas. It goes through no proxy and follows no redirect: these are engines on machines of one's
/// own.
pub(crate) fn client() -> Result<Client, String> {
    // Fails when a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    builder.connect_timeout(CONNECT_WITHIN).tcp_nodelay(true).build().map_err(|e| chain(&e))
}

impl Http {
    /// `base` is `http://host:port`, perhaps with a path before those of the protocol.
    pub fn new(client: &Client, base: &str, key: Option<&Key>) -> Result<Http, String> {
        let base = base.trim_end_matches('/');
        let parsed = reqwest::Url::parse(base).map_err(|e| format!("`{base}` is no address: {e}"))?;
        if !["http", "https"].contains(&parsed.scheme()) || parsed.host_str().is_none() {
            return Err(format!("`{base}` is no address: http://HOST:PORT is"));
        }
        let header = |key: &Key| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.0)).map_err(|_| "the key cannot be sent")?;
            value.set_sensitive(true);
            Ok::<(HeaderValue, Key), &str>((value, key.clone()))
        };
        let key = key.map(header).transpose()?;
        Ok(Http { client: client.clone(), base: base.to_owned(), key })
    }

    /// Posts JSON; the answer is short.
    pub async fn post(&self, path: &str, body: &Value, within: Duration) -> Result<Reply, Trouble> {
        self.post_for(path, body, within, MAX_SHORT_BYTES).await
    }

    /// Posts JSON; the answer has so many bytes at most.
    pub async fn post_for(&self, path: &str, body: &Value, within: Duration, max: usize) -> Result<Reply, Trouble> {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/json");
        self.exchange(request.body(body.to_string()), within, max).await
    }

    /// Asks for something; the answer is short.
    pub async fn get(&self, path: &str, within: Duration) -> Result<Reply, Trouble> {
        self.exchange(self.request(Method::GET, path), within, MAX_SHORT_BYTES).await
    }

    /// [`Http::post`], where only a good status will do.
    pub async fn done(&self, path: &str, body: &Value, within: Duration) -> Result<Reply, Trouble> {
        let reply = self.post(path, body, within).await?;
        if reply.is_good() { Ok(reply) } else { Err(unfit(path, &reply)) }
    }

    /// [`Http::get`], where only a good status will do.
    pub async fn known(&self, path: &str, within: Duration) -> Result<Reply, Trouble> {
        let reply = self.get(path, within).await?;
        if reply.is_good() { Ok(reply) } else { Err(unfit(path, &reply)) }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some((header, _)) => request.header(AUTHORIZATION, header.clone()),
            None => request,
        }
    }

    /// What comes back, without the key should a server repeat it in what it says about an error.
    async fn exchange(&self, request: RequestBuilder, within: Duration, max: usize) -> Result<Reply, Trouble> {
        let mut reply = exchange(request, within, max).await?;
        if let Some((_, key)) = self.key.as_ref().filter(|_| !reply.is_good()) {
            reply.body = String::from_utf8_lossy(&reply.body).replace(&key.0, "…").into_bytes();
        }
        Ok(reply)
    }
}

/// What a bad status means where a server is asked to do something about itself: this one does not do it now.
fn unfit(path: &str, reply: &Reply) -> Trouble {
    Trouble::Replica(format!("{path} answers with HTTP status {}: {}", reply.status, words(&reply.body)))
}

async fn exchange(request: RequestBuilder, within: Duration, max: usize) -> Result<Reply, Trouble> {
    let whole = async {
        let mut response = request.send().await.map_err(|e| Trouble::Replica(chain(&e)))?;
        let status = response.status().as_u16();
        let good = (200..300).contains(&status);
        let max = if good { max } else { max.min(MAX_SHORT_BYTES) };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| Trouble::Replica(chain(&e)))? {
            if body.len() + chunk.len() > max {
                return Err(Trouble::Replica(format!("an answer of more than {max} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, body })
    };
    match tokio::time::timeout(within, whole).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Trouble::Replica(format!("no answer in {:.1} s", within.as_secs_f64()))),
    }
}

/// An error with its causes, of which reqwest's own words leave out the last. Addresses are left out: who says this
/// names the replica.
fn chain(error: &reqwest::Error) -> String {
    let mut text = match () {
        () if error.is_connect() => "no connection".to_owned(),
        () if error.is_body() || error.is_decode() => "the answer broke off".to_owned(),
        () => "the exchange broke off".to_owned(),
    };
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.source().is_none() {
            text += &format!(": {inner}");
        }
        cause = inner.source();
    }
    text
}
