//! How does a model come from the hub? By name, into the cache that Python programs share, resumed, checked, and whole.
//!
//! `hf-hub` says where in the cache everything is. What it can do over the network is not used: it has no timeout, checks
//! no sum, appends to a file whatever a server sends, believes a server's words about paths, and panics on some. `http`
//! and `download` do these things instead, `cache` looks at the disk, `name` reads names.

mod cache;
mod download;
mod error;
mod http;
mod name;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

pub use error::HubError;
pub use name::{ModelName, is_commit};

use cache::{INDEX, MORE_TEMPLATES, NEEDED, OPTIONAL, Shelf};
use download::Fetching;
use http::{About, Http, Trouble};

use crate::http::Secret;

/// Where models come from, and where they are kept.
#[derive(Clone, Debug)]
pub struct Hub {
    /// `https://…`, without a slash at its end.
    pub endpoint: String,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Sent to the endpoint and to nobody else.
    pub token: Option<Secret>,
    /// Use the cache alone.
    pub offline: bool,
    /// Certificates to trust instead of the usual ones, PEM.
    pub certificates: Option<PathBuf>,
    /// How long a server may be silent, at the start of an answer and within it.
    pub patience: Duration,
    /// How often something is tried that brings nothing.
    pub tries: u32,
    /// Wait before the second try; it doubles with each.
    pub backoff: Duration,
}

/// How much of a model is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its shape and its text files; of a GGUF file, which is one, everything.
    Facts,
    /// Its weights too.
    Everything,
}

/// Something that happens while files are fetched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A file is begun, or gone on with.
    Begin {
        /// Which file.
        file: &'a str,
        /// Bytes of an earlier attempt.
        n_have: u64,
        /// Its length, where the hub says.
        n_bytes: Option<u64>,
    },
    /// More of it has come.
    At {
        /// Which file.
        file: &'a str,
        /// Bytes on the disk.
        n_done: u64,
    },
    /// It is there, and is what was announced.
    End {
        /// Which file.
        file: &'a str,
    },
    /// Another process is fetching the same file.
    Waiting {
        /// Which file.
        file: &'a str,
    },
    /// Something failed that may pass.
    Again {
        /// Which file; the model's name for its description.
        file: &'a str,
        /// What failed.
        why: &'a str,
        /// Until the next try.
        wait: Duration,
    },
    /// The hub cannot be reached; what was fetched before is taken.
    FromCache {
        /// Why it cannot.
        why: &'a str,
        /// The commit that is taken.
        commit: &'a str,
    },
}

/// Is told what happens, and may end it.
pub type Tell<'a> = &'a dyn Fn(Event<'_>) -> ControlFlow<()>;

/// A model on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its directory, or its GGUF file.
    pub path: PathBuf,
    /// Which commit of the repository it is.
    pub commit: String,
}

impl Hub {
    /// Follows the variables of the environment that Python programs follow: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`,
    /// `XDG_CACHE_HOME`, `HF_TOKEN` (else the token file), `HF_HUB_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT` in seconds, and
    /// `SSL_CERT_FILE`. `lookup` gives the value of a variable.
    pub fn from_environment(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Hub, HubError> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let wrong = |variable, why: String| HubError::Environment { variable, why };
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !["https://", "http://"].iter().any(|scheme| endpoint.starts_with(scheme) && endpoint.len() > scheme.len()) {
            return Err(wrong(
                "HF_ENDPOINT",
                format!("`{endpoint}` is no address that begins with https:// or http://"),
            ));
        }
        let home = match (get("HF_HOME"), get("XDG_CACHE_HOME"), get("HOME")) {
            (Some(home), ..) => PathBuf::from(home),
            (_, Some(caches), _) => PathBuf::from(caches).join("huggingface"),
            (_, _, Some(home)) => PathBuf::from(home).join(".cache/huggingface"),
            _ => return Err(wrong("HOME", "is not set, nor is HF_HOME: there is no place for the cache".to_owned())),
        };
        let is_true = |name| get(name).is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&v.to_uppercase().as_str()));
        let token_file = get("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = get("HF_TOKEN").or_else(|| get("HUGGING_FACE_HUB_TOKEN"));
        let token = token.or_else(|| std::fs::read_to_string(token_file).ok());
        let token = token.filter(|token| !token.trim().is_empty()).map(|token| Secret::of(&token)).transpose();
        let token = token.map_err(|why| wrong("HF_TOKEN", format!("(or the token file) {why}")))?;
        let patience = match get("HF_HUB_DOWNLOAD_TIMEOUT") {
            None => 30,
            Some(text) => text.parse().ok().filter(|secs| (1..=86_400).contains(secs)).ok_or_else(|| {
                wrong("HF_HUB_DOWNLOAD_TIMEOUT", format!("`{text}` is no number of seconds from 1 to 86400"))
            })?,
        };
        Ok(Hub {
            endpoint,
            cache: get("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token,
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
            certificates: get("SSL_CERT_FILE").map(PathBuf::from),
            patience: Duration::from_secs(patience),
            tries: 5,
            backoff: Duration::from_millis(500),
        })
    }

    /// Brings a model onto the disk. What is in the cache is not fetched again; where the revision is a branch, the hub is
    /// asked what it means now, and if it cannot be reached a whole model in the cache is taken and `tell` is told so.
    pub fn fetch(&self, name: &ModelName, what: What, tell: Tell<'_>) -> Result<Fetched, HubError> {
        let shelf = Shelf::new(&self.cache, name);
        let cached = shelf.commit();
        let missing = match &cached {
            Some(commit) => shelf.missing(commit, name, what)?,
            None => Some(format!("refs/{}", name.revision())),
        };
        let found = |commit: &str| {
            let snapshot = shelf.snapshot(commit);
            let path = name.file.as_ref().map_or(snapshot.clone(), |file| snapshot.join(file));
            Fetched { path, commit: commit.to_owned() }
        };
        if self.offline {
            return match (cached, missing) {
                (Some(commit), None) => Ok(found(&commit)),
                (_, missing) => Err(HubError::Offline {
                    name: name.to_string(),
                    missing: missing.unwrap_or_default(),
                    folder: shelf.folder(),
                }),
            };
        }
        let http = Http::new(self)?;
        let listed = match list(&http, name, tell) {
            Ok(listed) => listed,
            Err(Trouble::Final(error)) => return Err(error),
            Err(trouble) => {
                let cause = match trouble {
                    Trouble::Status(status) => format!("HTTP status {status}"),
                    Trouble::Network(cause) => cause,
                    Trouble::Final(error) => return Err(error),
                };
                return match (cached, missing) {
                    (Some(commit), None) => match tell(Event::FromCache { why: &cause, commit: &commit }) {
                        ControlFlow::Continue(()) => Ok(found(&commit)),
                        ControlFlow::Break(()) => Err(HubError::Stopped { file: name.to_string() }),
                    },
                    _ => Err(HubError::Unreachable { host: http.host(), cause, name: name.to_string() }),
                };
            }
        };
        let fetching = Fetching { http: &http, shelf: &shelf, name, commit: &listed.commit, tries: self.tries };
        fetching.all(&listed.wanted(name)?, tell)?;
        if what == What::Everything && name.file.is_none() {
            let weights = cache::weights(&listed.files).ok_or_else(|| listed.no_weights(name))?;
            fetching.all(&BTreeSet::from([weights.to_owned()]), tell)?;
            if weights == INDEX {
                fetching.all(&cache::shards(&shelf.snapshot(&listed.commit).join(INDEX))?, tell)?;
            }
        }
        shelf.note_commit(&listed.commit)?;
        Ok(found(&listed.commit))
    }
}

impl Fetching<'_> {
    /// Brings several files onto the disk. All are asked about before the first is fetched, so that what is missing is
    /// known before gigabytes have come.
    fn all(&self, files: &BTreeSet<String>, tell: Tell<'_>) -> Result<(), HubError> {
        let mut described = Vec::new();
        for file in files {
            described.extend(self.describe(file, tell)?);
        }
        described.iter().try_for_each(|file| self.fetch(file, tell))
    }
}

/// What a repository holds at a revision.
struct Listed {
    commit: String,
    files: BTreeSet<String>,
}

fn list(http: &Http<'_>, name: &ModelName, tell: Tell<'_>) -> Result<Listed, Trouble> {
    let about = About { name, file: None };
    let path = format!("/api/models/{}/revision/{}", name.repo, name.revision().replace('/', "%2F"));
    let file = name.to_string();
    let again = |why: &str, wait| match tell(Event::Again { file: &file, why, wait }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(HubError::Stopped { file: file.clone() }),
    };
    let json = http.insist(about, || http.json(&path, about), again)?;
    let commit = json["sha"].as_str().filter(|sha| is_commit(sha));
    let commit = commit.ok_or_else(|| http.protocol(about, "no commit".to_owned()))?;
    let siblings = json["siblings"].as_array();
    let siblings = siblings.ok_or_else(|| http.protocol(about, "no list of files".to_owned()))?;
    let files = siblings.iter().filter_map(|s| Some(s["rfilename"].as_str()?.to_owned())).collect();
    Ok(Listed { commit: commit.to_owned(), files })
}

impl Listed {
    /// The files besides weights, or the one file that is asked for.
    fn wanted(&self, name: &ModelName) -> Result<BTreeSet<String>, HubError> {
        let no_model = |missing: &str, hint: String| {
            Err(HubError::NoModel { name: name.to_string(), missing: missing.to_owned(), hint })
        };
        if let Some(file) = &name.file {
            return match self.files.contains(file) {
                true => Ok(BTreeSet::from([file.clone()])),
                false => no_model(file, self.gguf_hint(name, "it has ")),
            };
        }
        if let Some(file) = NEEDED.iter().find(|file| !self.files.contains(**file)) {
            let hint = match self.files.contains("vocab.json") || self.files.contains("tokenizer.model") {
                true if *file == "tokenizer.json" => {
                    ": let AutoTokenizer.from_pretrained(…) of transformers save it anew into a directory".to_owned()
                }
                _ => self.gguf_hint(name, "one of its GGUF files can be named: "),
            };
            return no_model(file, hint);
        }
        let is_template = |file: &&String| {
            let inside = file.strip_prefix(MORE_TEMPLATES);
            inside.is_some_and(|inside| inside.ends_with(".jinja") && name::is_plain(inside))
        };
        let listed = NEEDED.iter().chain(&OPTIONAL).map(|file| (*file).to_owned());
        let mut wanted: BTreeSet<String> = listed.filter(|file| self.files.contains(file)).collect();
        wanted.extend(self.files.iter().filter(is_template).cloned());
        Ok(wanted)
    }

    fn no_weights(&self, name: &ModelName) -> HubError {
        let old = self.files.iter().any(|file| file.starts_with("pytorch_model") || file.ends_with(".bin"));
        let hint = match old {
            true => ": pytorch_model.bin is not read; convert it to safetensors".to_owned(),
            false => self.gguf_hint(name, "one of its GGUF files can be named: "),
        };
        HubError::NoModel { name: name.to_string(), missing: "model.safetensors".to_owned(), hint }
    }

    /// Names of GGUF files that could be meant.
    fn gguf_hint(&self, name: &ModelName, before: &str) -> String {
        let files: Vec<String> = self
            .files
            .iter()
            .filter(|file| file.to_ascii_lowercase().ends_with(".gguf"))
            .filter_map(|file| ModelName::parse(&format!("{}/{file}", name.repo)).ok())
            .map(|name| name.to_string())
            .take(12)
            .collect();
        if files.is_empty() { String::new() } else { format!(": {before}{}", files.join(", ")) }
    }
}
