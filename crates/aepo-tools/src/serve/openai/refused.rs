//! Why does the desk not answer? In the words of a refusal.

use axum::http::StatusCode;

use super::desk::{Failure, Refused};
use crate::serve::refusal::Refusal;

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        match refused {
            Refused::Full => {
                let message = "as many requests wait as may; try again later";
                Refusal { code: Some("queue_full"), ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, message) }
            }
            Refused::Stopping => Failure::Stopping.into(),
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        match failure {
            Failure::Stopping => {
                let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is being stopped");
                Refusal { code: Some("stopping"), ..refusal }
            }
            Failure::Model(message) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}
