//! How does a key stay secret? It is a type that is shown as dots, and that can be taken out of text.

use std::fmt;

use super::HttpError;

/// Shorter keys than this are placeholders ("EMPTY", "none") rather than secrets; taking them out of text would spoil it.
const MIN_HIDDEN_BYTES: usize = 8;

/// A key; it is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Secret {
    /// The key in a variable of the environment.
    pub fn from_env(variable: &str) -> Result<Secret, HttpError> {
        let error = |why| HttpError::Key { variable: variable.to_owned(), why };
        let value = std::env::var_os(variable).ok_or_else(|| error("is not set; put the key into it"))?;
        let value = value.into_string().map_err(|_| error("holds no text"))?;
        Secret::of(&value).map_err(error)
    }

    /// The key in a text that came from the environment. White space around it is left out.
    pub fn of(text: &str) -> Result<Secret, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty; put the key into it");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("holds characters that cannot stand in a header");
        }
        Ok(Secret(text.to_owned()))
    }

    /// The key itself, for the header that carries it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with dots where the key stood.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        match self.0.len() < MIN_HIDDEN_BYTES {
            true => text.to_owned(),
            false => text.replace(&self.0, "…"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_nowhere_and_taken_out_of_text() {
        let key = Secret::of(" sk-0123456789\n").unwrap();
        assert_eq!(format!("{key:?} {key}"), "Secret(…) …");
        assert_eq!(key.hide("bad key sk-0123456789!"), "bad key …!");
        assert_eq!(key.reveal(), "sk-0123456789");
        assert_eq!(Secret::of("EMPTY").unwrap().hide("EMPTY list"), "EMPTY list");
        for bad in ["", " \n", "a\r\nx-other: b", "schlüssel-schlüssel"] {
            assert!(Secret::of(bad).is_err(), "{bad:?}");
        }
        let error = Secret::from_env("AEPO_TEST_NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert!(error.contains("AEPO_TEST_NO_SUCH_VARIABLE"), "{error}");
    }
}
