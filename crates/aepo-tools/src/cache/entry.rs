//! What does the cache keep of an answer? One JSON object behind a checksum.

use aepo::tool::ToolOutcome;

/// One answer, as it was given.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The tool that was called.
    pub tool: String,
    /// What it was given, for people who look into the file.
    pub input: String,
    /// How the call ended; never `Unavailable`.
    pub outcome: ToolOutcome,
    /// What the model read.
    pub text: String,
    /// Whether it holds for a short time only, see [`super::Cache::get`].
    pub negative: bool,
    /// Wall time that the call took, seconds.
    pub wall_secs: f64,
    /// When it was answered, seconds since 1970.
    pub created_secs: u64,
}

/// Bytes of the checksum in front.
const SUM_BYTES: usize = 8;

/// The first bytes of SHA-256 over the key and the object: an entry cannot be taken for another one.
fn sum(key: &[u8], body: &[u8]) -> [u8; SUM_BYTES] {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(key);
    hash.update(body);
    let mut first = [0; SUM_BYTES];
    first.copy_from_slice(&hash.finish().as_ref()[..SUM_BYTES]);
    first
}

impl Entry {
    /// The bytes kept under `key`.
    #[must_use]
    pub fn encode(&self, key: &[u8]) -> Vec<u8> {
        // Strings, numbers and a closed enum: there is nothing in an entry that JSON cannot hold.
        let body = serde_json::to_vec(self).unwrap_or_default();
        let mut bytes = Vec::with_capacity(SUM_BYTES + body.len());
        bytes.extend(sum(key, &body));
        bytes.extend(body);
        bytes
    }

    /// The entry, or what is wrong with its bytes.
    pub fn decode(key: &[u8], bytes: &[u8]) -> Result<Entry, String> {
        let (first, body) = bytes.split_at_checked(SUM_BYTES).ok_or("an entry is cut off")?;
        if first != sum(key, body) {
            return Err("the checksum of an entry does not hold".to_owned());
        }
        serde_json::from_slice(body).map_err(|e| format!("an entry is not what this version writes: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        let entry = Entry {
            tool: "python".to_owned(),
            input: "print('\u{0}é')".to_owned(),
            outcome: ToolOutcome::Raised,
            text: "\u{0}é\n".to_owned(),
            negative: true,
            wall_secs: 0.1 + 0.2,
            created_secs: 1,
        };
        let bytes = entry.encode(b"key");
        assert_eq!(Entry::decode(b"key", &bytes).unwrap(), entry);
        assert!(Entry::decode(b"kez", &bytes).is_err());
        for i in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[i] ^= 1;
            assert!(Entry::decode(b"key", &changed).is_err(), "byte {i}");
            assert!(Entry::decode(b"key", &bytes[..i]).is_err(), "cut at {i}");
        }
    }
}
