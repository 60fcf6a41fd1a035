//! Is a key the right one? Compared without telling by the time it takes how much of it was right.

use ring::hmac;

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
        let own: Vec<u8> = (0..4).flat_map(|_| super::fresh().to_le_bytes()).collect();
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
