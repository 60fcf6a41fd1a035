//! How is a Tinker server asked? Calls that give a future, and futures that are polled until they have ended.
//!
//! A lost connection, 408, 429 and 5xx are asked again after a pause, eight times in a row at most: a poll always, a call
//! where repeating it cannot count twice. Everything ends within the patience of one operation.

use std::time::{Duration, Instant};

use aepo_tools::http::exchange::{Answer, Exchange, Method};
use aepo_tools::http::{Client, HttpError, Limits, Secret, backoff};
use serde_json::{Value, json};

use super::TinkerSettings;
use super::error::TinkerError;
use super::wire::PROTOBUF;

/// Tries of one request in a row.
const TRIES: u32 = 8;
/// Answers that are cut off before a server counts as one that speaks differently.
pub(super) const MAX_CUT: u32 = 4;
/// A poll that has heard nothing for this long is sent again. Servers hold a poll back until there is something to say,
/// SkyRL for up to 300 s; the clients made for them hang up after 45 s.
const POLL_PATIENCE: Duration = Duration::from_secs(45);
/// Pause before a server that answers at once is polled again.
const POLL_PAUSE: Duration = Duration::from_millis(20);
/// Longest answer to a call, and longest archive of weights, bytes.
const MAX_ANSWER_BYTES: usize = 1 << 30;
/// Header of a key, as the published client writes it.
const KEY: &str = "x-api-key";

/// Whether a request may be sent again when its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It changes nothing, or the server knows it by its number.
    Yes,
    /// It would count twice.
    No,
}

/// What a request carries.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// JSON.
    Json(&'a Value),
    /// A message of `tinker_public`.
    Protobuf(&'a [u8]),
}

/// How a future ended well.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With JSON.
    Json(Value),
    /// With a message of `tinker_public`.
    Protobuf(Vec<u8>),
}

/// A server. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Api {
    http: Client,
    base: String,
    key: Option<Secret>,
    /// Scheme, host and port, for messages.
    pub host: String,
    /// Longest time of one operation.
    pub patience: Duration,
    pause: Duration,
}

impl Api {
    /// Reads the key from the environment; asks nothing yet.
    pub fn new(settings: &TinkerSettings) -> Result<Api, TinkerError> {
        let key = settings.key_env.as_deref().map(Secret::from_env).transpose()?;
        Api::with_key(settings, key)
    }

    /// The same with this key.
    pub fn with_key(settings: &TinkerSettings, key: Option<Secret>) -> Result<Api, TinkerError> {
        let base = settings.url.trim_end_matches('/').to_owned();
        let host = aepo_tools::http::origin(&base).ok_or(HttpError::Address)?.to_owned();
        let http = Client::new(Limits::default())?;
        Ok(Api { http, base, key, host, patience: settings.patience, pause: settings.pause })
    }

    /// When an operation that begins now must have ended.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// One try.
    fn once(&self, path: &str, method: Method<'_>, accept: &str, deadline: Instant) -> Result<Answer, HttpError> {
        let url = format!("{}/api/v1/{path}", self.base);
        self.ask(&url, method, accept, self.key.as_ref(), deadline)
    }

    fn ask(
        &self,
        url: &str,
        method: Method<'_>,
        accept: &str,
        key: Option<&Secret>,
        deadline: Instant,
    ) -> Result<Answer, HttpError> {
        let key = key.map(|key| (KEY, "", key));
        self.http.exchange(Exchange { url, method, accept, key, max_bytes: MAX_ANSWER_BYTES }, deadline)
    }

    /// Sends a request until there is an answer that stays; every status but those that pass is handed back.
    fn send(
        &self,
        what: &'static str,
        path: &str,
        body: Option<Body<'_>>,
        again: Again,
        deadline: Instant,
    ) -> Result<Answer, TinkerError> {
        let text;
        let method = match body {
            None => Method::Get,
            Some(Body::Protobuf(bytes)) => Method::Post { kind: PROTOBUF, bytes },
            Some(Body::Json(value)) => {
                text = value.to_string();
                Method::Post { kind: "application/json", bytes: text.as_bytes() }
            }
        };
        let mut n_failed = 0;
        loop {
            let answer = self.once(path, method, "application/json", deadline);
            n_failed += 1;
            let wait = match &answer {
                Ok(answer) if passes(answer.status) => answer.wait,
                Ok(_) => return Ok(answer?),
                Err(HttpError::Network { .. }) => None,
                Err(HttpError::Deadline { .. }) if again == Again::Yes => return Err(self.late(what)),
                Err(HttpError::Deadline { .. }) => None,
                Err(_) => return Ok(answer?),
            };
            // 429 and 503 say that nothing was done; of the others nobody knows.
            let is_known = matches!(&answer, Ok(answer) if matches!(answer.status, 429 | 503));
            if again == Again::No && !is_known {
                let why = match answer {
                    Ok(answer) => format!("status {}{}", answer.status, answer.complaint()),
                    Err(error) => error.to_string(),
                };
                return Err(TinkerError::Lost { host: self.host.clone(), what, why });
            }
            let wait = wait.unwrap_or_default().max(backoff(self.pause, n_failed));
            if n_failed >= TRIES || Instant::now() + wait >= deadline {
                let answer = answer?;
                return Err(self.refused(what, &answer));
            }
            std::thread::sleep(wait);
        }
    }

    /// A call with a JSON answer, good or refused.
    pub fn call(
        &self,
        what: &'static str,
        path: &str,
        body: Option<Body<'_>>,
        again: Again,
        deadline: Instant,
    ) -> Result<Value, TinkerError> {
        let mut n_cut = 0;
        loop {
            let answer = self.send(what, path, body, again, deadline)?;
            if !answer.is_good() {
                return Err(self.refused(what, &answer));
            }
            if let Ok(value) = serde_json::from_slice(&answer.bytes) {
                return Ok(value);
            }
            // Cut off on its way, by something between the server and here.
            if again == Again::No {
                let why = "it was no JSON".to_owned();
                return Err(TinkerError::Lost { host: self.host.clone(), what, why });
            }
            n_cut += 1;
            if n_cut >= MAX_CUT {
                return Err(self.form(what, "JSON"));
            }
        }
    }

    /// A call that gives a future: its number.
    pub fn submit(
        &self,
        what: &'static str,
        path: &str,
        body: Body<'_>,
        again: Again,
        deadline: Instant,
    ) -> Result<String, TinkerError> {
        let answer = self.call(what, path, Some(body), again, deadline)?;
        self.text(&answer, what, "request_id")
    }

    /// A field of an answer that must be a text.
    pub fn text(&self, answer: &Value, what: &'static str, field: &'static str) -> Result<String, TinkerError> {
        answer.get(field).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| self.form(what, field))
    }

    /// Polls until a future has ended.
    pub fn wait(&self, what: &'static str, request_id: &str, deadline: Instant) -> Result<Outcome, TinkerError> {
        let body = json!({ "request_id": request_id }).to_string();
        let method = Method::Post { kind: "application/json", bytes: body.as_bytes() };
        let mut n_failed = 0;
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Err(self.late(what));
            }
            let answer = self.once("retrieve_future", method, PROTOBUF, deadline.min(now + POLL_PATIENCE));
            let mut pause = POLL_PAUSE;
            match answer {
                Ok(answer) if answer.is_good() && answer.kind == PROTOBUF => {
                    return Ok(Outcome::Protobuf(answer.bytes));
                }
                Ok(answer) if answer.is_good() => match serde_json::from_slice::<Value>(&answer.bytes) {
                    Ok(value) if value["type"] == "try_again" => n_failed = 0,
                    Ok(value) => match value.get("error").and_then(Value::as_str).filter(|e| !e.is_empty()) {
                        Some(error) => return Err(self.failed(what, 200, &format!(": {error}"))),
                        None => return Ok(Outcome::Json(value)),
                    },
                    // Cut off on its way; the future is still there.
                    Err(_) if n_failed + 1 < TRIES => {
                        n_failed += 1;
                        pause = backoff(self.pause, n_failed);
                    }
                    Err(_) => return Err(self.form(what, "JSON")),
                },
                // Not yet.
                Ok(answer) if answer.status == 408 => n_failed = 0,
                Ok(answer) if passes(answer.status) => {
                    n_failed += 1;
                    pause = answer.wait.unwrap_or_default().max(backoff(self.pause, n_failed));
                    if n_failed >= TRIES || Instant::now() + pause >= deadline {
                        return Err(self.refused(what, &answer));
                    }
                }
                Ok(answer) => return Err(self.refused(what, &answer)),
                Err(HttpError::Deadline { .. }) => {}
                Err(error @ HttpError::Network { .. }) => {
                    n_failed += 1;
                    pause = backoff(self.pause, n_failed);
                    if n_failed >= TRIES || Instant::now() + pause >= deadline {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        }
    }

    /// The JSON of a future that must end with JSON.
    pub fn wait_json(&self, what: &'static str, request_id: &str, deadline: Instant) -> Result<Value, TinkerError> {
        match self.wait(what, request_id, deadline)? {
            Outcome::Json(value) => Ok(value),
            Outcome::Protobuf(_) => Err(self.form(what, "JSON")),
        }
    }

    /// The bytes of an archive of weights. The address that the server points to gets no key unless it is the server's.
    pub fn archive(&self, path: &str, deadline: Instant) -> Result<Vec<u8>, TinkerError> {
        let what = "fetching weights";
        let answer = self.send(what, path, None, Again::Yes, deadline)?;
        let answer = match (answer.status, &answer.location) {
            (301 | 302 | 303 | 307 | 308, Some(to)) => {
                let own = aepo_tools::http::origin(to) == Some(self.host.as_str());
                let url = if to.starts_with('/') { format!("{}{to}", self.host) } else { to.clone() };
                let key = self.key.as_ref().filter(|_| own || to.starts_with('/'));
                let mut n_failed = 0;
                loop {
                    match self.ask(&url, Method::Get, "*/*", key, deadline) {
                        Ok(answer) if !passes(answer.status) => break answer,
                        Ok(_) | Err(HttpError::Network { .. }) if n_failed + 1 < TRIES => {}
                        other => break other?,
                    }
                    n_failed += 1;
                    std::thread::sleep(backoff(self.pause, n_failed));
                }
            }
            _ => answer,
        };
        match answer.is_good() {
            true => Ok(answer.bytes),
            false => Err(self.refused(what, &answer)),
        }
    }

    /// Removes something, once; whether it is gone is not known.
    pub fn delete(&self, path: &str) {
        // What is left over takes room on the server and harms nothing.
        let _ = self.once(path, Method::Delete, "application/json", Instant::now() + Duration::from_secs(10));
    }

    /// The status of a request that asks for nothing but that, whatever it is.
    pub fn status(&self, path: &str, body: Body<'_>, deadline: Instant) -> Result<(u16, Answer), TinkerError> {
        let answer = self.send("a first batch", path, Some(body), Again::Yes, deadline)?;
        Ok((answer.status, answer))
    }

    /// An answer that is an error.
    pub fn refused(&self, what: &'static str, answer: &Answer) -> TinkerError {
        self.failed(what, answer.status, &answer.complaint())
    }

    fn failed(&self, what: &'static str, status: u16, message: &str) -> TinkerError {
        let (host, message) = (self.host.clone(), message.to_owned());
        match message.contains("Maximum number of LoRA adapters") {
            true => TinkerError::NoSlot { host, message },
            false => TinkerError::Refused { host, what, status, message },
        }
    }

    /// An answer that is not of the form.
    #[must_use]
    pub fn form(&self, what: &'static str, missing: &'static str) -> TinkerError {
        TinkerError::Form { host: self.host.clone(), what, missing }
    }

    fn late(&self, what: &'static str) -> TinkerError {
        TinkerError::TooLate { host: self.host.clone(), what, secs: self.patience.as_secs() }
    }
}

/// Whether asking again may help.
fn passes(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}
