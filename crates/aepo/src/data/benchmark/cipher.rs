//! How is a row of xbench-DeepSearch read that was published encrypted?
//!
//! Its authors publish questions and answers as Base64 of the UTF-8 text, each byte exclusive-or'd with the row's own
//! `canary`, repeated, so that the texts do not end up in training data by accident.

/// The text behind a field, by the row's key. `None` where the field is no Base64 of a text under that key: then it was
/// never encrypted, or is decrypted already.
#[must_use]
pub fn decrypt(text: &str, canary: &str) -> Option<String> {
    if canary.is_empty() {
        return None;
    }
    let bytes = base64(text.trim())?;
    let plain: Vec<u8> = bytes.iter().zip(canary.bytes().cycle()).map(|(byte, key)| byte ^ key).collect();
    let plain = String::from_utf8(plain).ok()?;
    // Words that only look like Base64 decrypt to control characters.
    (!plain.is_empty() && !plain.chars().any(|c| c.is_control() && !c.is_whitespace())).then_some(plain)
}

/// The bytes of standard Base64 (RFC 4648, section 4), with its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    let (mut bits, mut n_bits) = (0u32, 0u32);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_decrypted_by_their_canary() {
        // base64(bytes(b ^ k for b, k in zip("多少？42".encode(), itertools.cycle(b"key")))), with Python's base64.
        assert_eq!(decrypt("jsHjjtXohNnmX1c=", "key").as_deref(), Some("多少？42"));
        for (text, canary) in
            [("jsHjjtXohNnmX1c=", ""), ("j8Hjjtvoh9rmX1c=", "other"), ("161.27元", "key"), ("", "key")]
        {
            assert_eq!(decrypt(text, canary), None, "{text} {canary}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, bytes) in
            [("", &b""[..]), ("Zg==", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("Zm9vYmFy", b"foobar")]
        {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["Zg", "Zg=", "Z===", "Zm9v!A==", "Zm 9v"] {
            assert_eq!(base64(text), None, "{text}");
        }
    }
}
