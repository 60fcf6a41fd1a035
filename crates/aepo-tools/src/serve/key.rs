//! Is a key the right one? Compared without telling by the time it takes how much of it was right.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use ring::hmac;

use super::refusal::Refusal;
use crate::http::Secret;

/// The key that callers must show.
pub struct Key {
    /// A key of our own, which is never told.
    own: hmac::Key,
    tag: hmac::Tag,
}

impl Key {
    /// Takes the key that callers will show as `Authorization: Bearer KEY`.
    #[must_use]
    pub fn new(secret: &Secret) -> Key {
        let own: Vec<u8> = (0..4).flat_map(|_| fresh().to_le_bytes()).collect();
        let own = hmac::Key::new(hmac::HMAC_SHA256, &own);
        let tag = hmac::sign(&own, secret.reveal().as_bytes());
        Key { own, tag }
    }

    /// Whether the value of an `Authorization` header holds it.
    #[must_use]
    pub fn opens(&self, header: &[u8]) -> bool {
        const SCHEME: &[u8] = b"bearer ";
        let scheme = header.get(..SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
        let shown = scheme.and_then(|_| header.get(SCHEME.len()..)).unwrap_or_default();
        // Codes of the two are compared in constant time, and do not tell how much of the keys is equal.
        hmac::verify(&self.own, shown, self.tag.as_ref()).is_ok()
    }
}

/// Lets a request through whose caller shows the key, where there is one.
pub(super) async fn check(State(key): State<Option<Arc<Key>>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    match &key {
        Some(key) if !key.opens(shown.unwrap_or_default()) => {
            let message = "a key is needed: Authorization: Bearer KEY";
            let refusal = Refusal::new(StatusCode::UNAUTHORIZED, message);
            Refusal { code: Some("invalid_api_key"), ..refusal }.response()
        }
        _ => next.run(request).await,
    }
}

/// A number that was not given out before, and that nobody outside can guess.
pub(super) fn fresh() -> u64 {
    static N: AtomicU64 = AtomicU64::new(0);
    // The standard library seeds it from the system's randomness.
    RandomState::new().hash_one(N.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_opens() {
        let key = Key::new(&Secret::of("sk-0123").unwrap());
        assert!(key.opens(b"Bearer sk-0123") && key.opens(b"bearer sk-0123"));
        for wrong in [&b""[..], b"sk-0123", b"Bearer ", b"Bearer sk-012", b"Bearer sk-01234", b"Basic sk-0123", b"Bea"]
        {
            assert!(!key.opens(wrong), "{wrong:?}");
        }
    }
}
