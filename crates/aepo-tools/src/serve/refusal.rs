//! How is a request refused? In the shape in which OpenAI's API tells errors.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::serve;

/// Seconds after which somebody who found the queue full may try again.
const RETRY_AFTER_SECS: u32 = 2;

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// In words, with what to do.
    pub message: String,
    /// The field of the request that it is about.
    pub param: Option<String>,
    /// A name for programs.
    pub code: Option<&'static str>,
}

impl Refusal {
    /// A field is not what it must be. Status 400.
    pub fn field(param: &str, message: impl Into<String>) -> Refusal {
        let message = format!("`{param}` {}", message.into());
        Refusal { status: StatusCode::BAD_REQUEST, message, param: Some(param.to_owned()), code: Some("invalid_value") }
    }

    /// A field asks for what this server does not do. Status 400.
    pub fn unsupported(param: &str, message: impl Into<String>) -> Refusal {
        Refusal { code: Some("unsupported_parameter"), ..Refusal::field(param, message) }
    }

    /// Any other refusal.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into(), param: None, code: None }
    }

    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// `{"error": {"message", "type", "param", "code"}}`
    pub fn body(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind(), "param": self.param, "code": self.code } })
    }

    /// The answer.
    pub fn response(&self) -> Response {
        let mut response = serve::json(self.status, &self.body());
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
