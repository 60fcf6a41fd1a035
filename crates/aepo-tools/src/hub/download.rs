//! How does one file come onto the disk? Under another name, from where it was left, checked, and then renamed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use ureq::http::header::HeaderMap;

use super::cache::Shelf;
use super::http::{About, Http, Trouble};
use super::{Event, HubError, ModelName, Tell};
use crate::http::clean;
use crate::http::tls::words;

/// What the hub says of a file before it is fetched.
pub(super) struct Described {
    /// Its name in the repository.
    pub(super) file: String,
    /// Names its content.
    etag: Etag,
    /// Its length, where the hub says.
    n_bytes: Option<u64>,
}

/// The name of a content, which is also its checksum.
enum Etag {
    /// SHA-256 of the bytes: large files.
    Sha256(String),
    /// What git calls them, SHA-1 behind a header: small files.
    Git(String),
}

impl Etag {
    fn text(&self) -> &str {
        match self {
            Etag::Sha256(text) | Etag::Git(text) => text,
        }
    }

    fn read(text: &str) -> Option<Etag> {
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match text.len() {
            64 if is_hex => Some(Etag::Sha256(text.to_owned())),
            40 if is_hex => Some(Etag::Git(text.to_owned())),
            _ => None,
        }
    }
}

/// One model's files at one commit.
pub(super) struct Fetching<'a> {
    pub(super) http: &'a Http<'a>,
    pub(super) shelf: &'a Shelf,
    pub(super) name: &'a ModelName,
    pub(super) commit: &'a str,
    pub(super) tries: u32,
}

impl Fetching<'_> {
    /// Asks what a file is, unless it is on the disk.
    pub(super) fn describe(&self, file: &str, tell: Tell<'_>) -> Result<Option<Described>, HubError> {
        if self.shelf.snapshot(self.commit).join(file).is_file() {
            return Ok(None);
        }
        let about = About { name: self.name, file: Some(file) };
        let again = |why: &str, wait| told(tell(Event::Again { file, why, wait }), file);
        let headers = self.http.insist(about, || self.http.head(&self.path(file), about), again);
        let headers = headers.map_err(|trouble| self.give_up(file, trouble, self.tries, 0))?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let etag = text("x-linked-etag").or_else(|| text("etag"));
        let Some(etag) = etag.and_then(Etag::read) else {
            let found = match etag {
                Some(etag) => format!("an etag that is no checksum, `{}`", clean(etag)),
                None => "no etag".to_owned(),
            };
            return Err(self.http.protocol(about, found));
        };
        if let Some(commit) = text("x-repo-commit").filter(|&commit| commit != self.commit) {
            let found = format!("commit {} instead of {}", clean(commit), self.commit);
            return Err(self.http.protocol(about, found));
        }
        let n_bytes = text("x-linked-size").or_else(|| length(&headers)).and_then(|n| n.parse().ok());
        Ok(Some(Described { file: file.to_owned(), etag, n_bytes }))
    }

    /// Fetches a file and puts it into the snapshot.
    pub(super) fn fetch(&self, described: &Described, tell: Tell<'_>) -> Result<(), HubError> {
        let (file, etag) = (&described.file, described.etag.text());
        let blob = self.shelf.blob(etag);
        let folder = blob.parent().unwrap_or(&blob);
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        let lock = self.shelf.lock(etag)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                told(tell(Event::Waiting { file }), file)?;
                lock.lock().map_err(HubError::io(&blob))?;
            }
            Err(TryLockError::Error(e)) => return Err(HubError::io(&blob)(e)),
        }
        // Whoever held the lock may have fetched it.
        if !blob.is_file() {
            self.fill(described, &blob, tell)?;
        }
        self.shelf.link(self.commit, file, etag)
    }

    /// Makes a blob, which appears under its name when it is whole and checked.
    fn fill(&self, described: &Described, blob: &Path, tell: Tell<'_>) -> Result<(), HubError> {
        let file = &described.file;
        let partial = blob.with_extension("incomplete");
        let mut out = OpenOptions::new().create(true).append(true).open(&partial).map_err(HubError::io(&partial))?;
        let n_earlier = length_of(&out, &partial)?;
        told(tell(Event::Begin { file, n_have: n_earlier, n_bytes: described.n_bytes }), file)?;
        self.append(described, &mut out, &partial, tell)?;
        if let Err(error) = check(described, self.name, &partial) {
            // Bytes of an earlier attempt may have been damaged since; those of this one have not.
            truncate(&out, &partial)?;
            if n_earlier == 0 {
                let _ = std::fs::remove_file(&partial);
                return Err(error);
            }
            self.append(described, &mut out, &partial, tell)?;
            check(described, self.name, &partial).inspect_err(|_| {
                // The error that matters is this one; a leftover would be found wrong again.
                let _ = std::fs::remove_file(&partial);
            })?;
        }
        out.sync_all().map_err(HubError::io(&partial))?;
        std::fs::rename(&partial, blob).map_err(HubError::io(blob))?;
        told(tell(Event::End { file }), file)
    }

    /// Fetches what is missing, going on where the connection breaks.
    fn append(&self, described: &Described, out: &mut File, path: &Path, tell: Tell<'_>) -> Result<(), HubError> {
        let file = &described.file;
        let mut n_failed = 0;
        loop {
            let before = length_of(out, path)?;
            if described.n_bytes.is_some_and(|n| before > n) {
                truncate(out, path)?;
                continue;
            }
            if described.n_bytes == Some(before) && before > 0 {
                return Ok(());
            }
            let trouble = match self.piece(described, out, path, before, tell) {
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            let now = length_of(out, path)?;
            n_failed = if now > before { 1 } else { n_failed + 1 };
            if matches!(trouble, Trouble::Final(_)) || n_failed >= self.tries {
                return Err(self.give_up(file, trouble, n_failed, now));
            }
            let mut again = |why: &str, wait| told(tell(Event::Again { file, why, wait }), file);
            self.http.rest(&trouble, n_failed, &mut again)?;
        }
    }

    /// One request, and what comes of it.
    fn piece(
        &self,
        described: &Described,
        out: &mut File,
        path: &Path,
        from: u64,
        tell: Tell<'_>,
    ) -> Result<(), Trouble> {
        let file = &described.file;
        let about = About { name: self.name, file: Some(file) };
        let response = self.http.get(&self.path(file), from, about)?;
        let mut n_done = from;
        match response.status().as_u16() {
            206 => {
                let range = response.headers().get("content-range").and_then(|r| r.to_str().ok()).unwrap_or_default();
                if !range.starts_with(&format!("bytes {from}-")) {
                    return Err(self.http.protocol(about, format!("the range `{}`", clean(range))).into());
                }
            }
            416 => {
                truncate(out, path)?;
                return Err(Trouble::Network("the rest of the file is not there".to_owned()));
            }
            // The server sends everything, whatever was asked for.
            _ => {
                truncate(out, path)?;
                n_done = 0;
            }
        }
        let expected = described.n_bytes;
        let mut body = response.into_body();
        let mut reader = body.with_config().limit(u64::MAX).reader();
        let mut piece = vec![0; 1 << 16];
        loop {
            let n = match reader.read(&mut piece) {
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Trouble::Network(io_words(&e))),
            };
            if n == 0 {
                break;
            }
            n_done += n as u64;
            if let Some(expected) = expected.filter(|&expected| n_done > expected) {
                let _ = std::fs::remove_file(path);
                let (file, name) = (file.clone(), self.name.to_string());
                return Err(HubError::Size { file, name, expected, found: n_done }.into());
            }
            out.write_all(&piece[..n]).map_err(|e| full(e, path, expected.map(|all| all - n_done + n as u64)))?;
            told(tell(Event::At { file, n_done }), file)?;
        }
        match expected {
            Some(expected) if n_done < expected => {
                Err(Trouble::Network(format!("the connection ended {} bytes early", expected - n_done)))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, file: &str) -> String {
        format!("/{}/resolve/{}/{file}", self.name.repo, self.commit)
    }

    /// What is said when trying again is over.
    fn give_up(&self, file: &str, trouble: Trouble, tries: u32, n_bytes: u64) -> HubError {
        let about = About { name: self.name, file: Some(file) };
        match trouble {
            Trouble::Final(error) => error,
            Trouble::Status(status) => HubError::Server { host: self.http.host(), status, what: about.words(), tries },
            Trouble::Network(cause) => {
                HubError::Cut { file: file.to_owned(), name: self.name.to_string(), tries, n_bytes, cause }
            }
        }
    }
}

/// Whether the bytes are those that the hub announced.
fn check(described: &Described, name: &ModelName, path: &Path) -> Result<(), HubError> {
    let mut file = File::open(path).map_err(HubError::io(path))?;
    let n_bytes = length_of(&file, path)?;
    let (mut sum, algorithm) = match &described.etag {
        Etag::Sha256(_) => (Context::new(&SHA256), "SHA-256"),
        Etag::Git(_) => {
            // git hashes what it keeps: a header, a zero, the bytes.
            let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            sum.update(format!("blob {n_bytes}\0").as_bytes());
            (sum, "git SHA-1")
        }
    };
    let (file_name, name) = (described.file.clone(), name.to_string());
    if let Some(expected) = described.n_bytes.filter(|&expected| expected != n_bytes) {
        return Err(HubError::Size { file: file_name, name, expected, found: n_bytes });
    }
    let mut piece = vec![0; 1 << 18];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => sum.update(&piece[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(HubError::io(path)(e)),
        }
    }
    let found: String = sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = described.etag.text().to_owned();
    match found == expected {
        true => Ok(()),
        false => Err(HubError::Checksum { file: file_name, name, algorithm, expected, found }),
    }
}

fn told(flow: ControlFlow<()>, file: &str) -> Result<(), HubError> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(HubError::Stopped { file: file.to_owned() }),
    }
}

fn length(headers: &HeaderMap) -> Option<&str> {
    // The length that a redirect states is that of its own body.
    let is_redirect = headers.contains_key("location");
    headers.get("content-length").filter(|_| !is_redirect).and_then(|value| value.to_str().ok())
}

fn length_of(file: &File, path: &Path) -> Result<u64, HubError> {
    Ok(file.metadata().map_err(HubError::io(path))?.len())
}

fn truncate(file: &File, path: &Path) -> Result<(), HubError> {
    file.set_len(0).map_err(HubError::io(path))
}

fn io_words(error: &std::io::Error) -> String {
    match (error.get_ref().and_then(|inner| inner.downcast_ref()), error.kind()) {
        (Some(inner), _) => words(inner),
        (None, ErrorKind::TimedOut | ErrorKind::WouldBlock) => "nothing came for too long".to_owned(),
        (None, _) => error.to_string(),
    }
}

fn full(error: std::io::Error, path: &Path, n_left: Option<u64>) -> HubError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            HubError::DiskFull { path: path.to_owned(), n_left: n_left.unwrap_or(0) }
        }
        _ => HubError::io(path)(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_how_much_is_to_come() {
        let path = Path::new("/c/blob");
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            let error = full(kind.into(), path, Some(12));
            assert!(matches!(error, HubError::DiskFull { n_left: 12, .. }), "{error}");
        }
        assert!(matches!(full(ErrorKind::PermissionDenied.into(), path, None), HubError::Io { .. }));
    }

    #[test]
    fn etags_are_checksums_with_or_without_quotes() {
        let sha256 = "ab".repeat(32);
        for text in [format!("\"{sha256}\""), sha256.clone(), format!("W/\"{sha256}\"")] {
            assert!(matches!(Etag::read(&text), Some(Etag::Sha256(found)) if found == sha256), "{text}");
        }
        assert!(matches!(Etag::read(&"0f".repeat(20)), Some(Etag::Git(_))));
        for text in ["", "\"\"", "../x", &"AB".repeat(20), &"zz".repeat(32)] {
            assert!(Etag::read(text).is_none(), "{text}");
        }
    }
}
