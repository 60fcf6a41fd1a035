//! How does a fake fail? As servers and networks do, one request at a time or all of them.

use std::collections::VecDeque;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::{State, count};

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// So many milliseconds pass before anything is sampled.
    Slow(u64),
    /// The connection breaks before there is an answer; the tokens were sampled.
    HangUp,
    /// Half of the answer, as if it were whole.
    Half,
    /// The continuation twice in one answer.
    Twice,
    /// An answer to another request.
    Astray,
    /// A number of log-probabilities that is not that of the tokens.
    Short,
    /// The label or the name of other weights.
    Skewed,
    /// The server was told to stop in the middle: the first tokens, marked as aborted.
    Aborted,
    /// A refusal that repeats the key it was asked with.
    Repeats,
    /// This status.
    Status(u16),
}

/// Faults to come.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub next: VecDeque<Fault>,
    pub always: Option<Fault>,
}

impl Plan {
    pub fn take(&mut self) -> Option<Fault> {
        self.next.pop_front().or(self.always)
    }
}

/// What a fault makes of an answer, apart from those that its protocol has its own place for.
pub(crate) fn send(state: &State, answer: Value, fault: Option<Fault>) -> Response {
    let text = answer.to_string();
    let body = match fault {
        // Unwinding is how a handler makes the server drop the connection.
        Some(Fault::HangUp) => std::panic::resume_unwind(Box::new("hung up")),
        Some(Fault::Half) => text[..text.len() / 2].to_owned(),
        _ => text,
    };
    if matches!(fault, None | Some(Fault::Slow(_) | Fault::Aborted)) {
        count(&state.counts.n_answered, 1);
    }
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A bad status in the server's words.
pub(crate) fn status(status: u16, message: &str) -> Response {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = json!({ "error": { "message": message, "type": "Error", "param": null, "code": status } });
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
