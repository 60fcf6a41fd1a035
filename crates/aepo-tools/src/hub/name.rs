//! How is a model of the hub called? `org/name`, a revision behind `@`, or one GGUF file of it.

use std::fmt;

use super::HubError;

/// A model, or a GGUF file, of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// `org/name`
    pub repo: String,
    /// Path of a `.gguf` file in it; `None` means the model as safetensors.
    pub file: Option<String>,
    /// Branch, tag or commit; `None` means `main`.
    pub revision: Option<String>,
}

impl ModelName {
    /// Reads `org/name`, `org/name@revision`, `org/name/file.gguf` or `org/name/file.gguf@revision`.
    pub fn parse(name: &str) -> Result<ModelName, HubError> {
        let wrong = |why| HubError::Name { name: name.to_owned(), why };
        let (path, revision) = match name.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (name, None),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let (repo, file) = match &parts[..] {
            [org, model] => ([*org, *model], None),
            [org, model, file @ ..] if !file.is_empty() => ([*org, *model], Some(file.join("/"))),
            _ => return Err(wrong("it must be org/name, with @revision or /file.gguf behind it if need be")),
        };
        if !repo.iter().all(|part| is_repo_part(part)) {
            return Err(wrong("an organisation and a name are letters, digits, `-`, `_` and `.`"));
        }
        if let Some(file) = &file
            && !(is_gguf_name(file) && file.split('/').all(is_plain))
        {
            return Err(wrong("of a model's files only one ending in .gguf can be named"));
        }
        if let Some(revision) = revision
            && !(revision.len() <= 200 && revision.split('/').all(is_plain))
        {
            return Err(wrong("behind @ stands a branch, a tag or a commit"));
        }
        Ok(ModelName { repo: repo.join("/"), file, revision: revision.map(str::to_owned) })
    }

    /// The revision to ask for.
    #[must_use]
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The same model at a commit, which does not change any more.
    #[must_use]
    pub fn at(&self, commit: &str) -> ModelName {
        ModelName { revision: Some(commit.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        self.file.iter().try_for_each(|file| write!(f, "/{file}"))?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

/// Whether a text is the number of a commit.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_gguf_name(file: &str) -> bool {
    file.len() > 5 && file.to_ascii_lowercase().ends_with(".gguf")
}

fn is_repo_part(part: &str) -> bool {
    let at_ends = |c: char| c == '-' || c == '.';
    is_plain(part) && part.len() <= 96 && !part.starts_with(at_ends) && !part.ends_with(at_ends) && !part.contains("--")
}

/// Whether it can be part of a path, here and in a URL, and leads nowhere else.
pub(super) fn is_plain(part: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+' | b'=');
    !part.is_empty() && part.len() <= 200 && part.bytes().all(letter) && !part.starts_with('.') && !part.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_back() {
        for (text, repo, file, revision) in [
            ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct", None, "main"),
            ("a/b@v1.0", "a/b", None, "v1.0"),
            ("a/b@refs/pr/3", "a/b", None, "refs/pr/3"),
            ("a/b/c.Q4_K_M.gguf", "a/b", Some("c.Q4_K_M.gguf"), "main"),
            ("a/b/sub/c.GGUF@main", "a/b", Some("sub/c.GGUF"), "main"),
        ] {
            let name = ModelName::parse(text).unwrap();
            assert_eq!((name.repo.as_str(), name.file.as_deref(), name.revision()), (repo, file, revision));
            assert_eq!(name.to_string(), text);
        }
        let name = ModelName::parse("a/b").unwrap().at("0".repeat(40).as_str());
        assert!(is_commit(name.revision()));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for text in [
            "a",
            "a/",
            "/b",
            "a/b/",
            "a//b",
            "../b",
            "a/..",
            "a/b/c",
            "a/b/c.txt",
            "a/b/../c.gguf",
            "a/b/.gguf",
            "a b/c",
            "a/b@",
            "a/b@../x",
            "a/b@x//y",
            "a/b?x",
            "a/b#x",
            "a/b%2f",
            "-a/b",
            "a/b.",
            "a/b--c",
            "é/b",
            "a/b@x\ny",
        ] {
            assert!(matches!(ModelName::parse(text), Err(HubError::Name { .. })), "{text}");
        }
    }
}
