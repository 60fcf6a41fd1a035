//! What of a model is on the disk already? The cache that the hub's Python library shares.
//!
//! ```text
//! models--ORG--NAME/refs/main             the commit of a branch
//! models--ORG--NAME/snapshots/COMMIT/…    links, by the names that files have in the repository
//! models--ORG--NAME/blobs/ETAG            the files themselves
//! .locks/models--ORG--NAME/ETAG.lock      held while a file is fetched
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use serde::Deserialize;

use super::name::{is_commit, is_plain};
use super::{HubError, ModelName, What};

/// The weights of a model in one file, and the list of those in several.
const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// What a model cannot do without, besides weights.
pub(super) const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];

/// What is taken where a repository has it.
pub(super) const OPTIONAL: [&str; 6] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// Folder of further templates.
pub(super) const MORE_TEMPLATES: &str = "additional_chat_templates/";

/// The part of the cache that belongs to one model.
pub(super) struct Shelf {
    root: PathBuf,
    repo: Repo,
    cached: CacheRepo,
}

impl Shelf {
    pub(super) fn new(root: &Path, name: &ModelName) -> Shelf {
        let repo = Repo::with_revision(name.repo.clone(), RepoType::Model, name.revision().to_owned());
        Shelf { root: root.to_owned(), cached: Cache::new(root.to_owned()).repo(repo.clone()), repo }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.root.join(self.repo.folder_name())
    }

    /// Where the files of a commit are.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cached.pointer_path(commit)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(etag)
    }

    /// The commit that the revision meant when it was last fetched.
    pub(super) fn commit(&self) -> Option<String> {
        let revision = self.repo.revision();
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = std::fs::read_to_string(self.folder().join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes what the revision means now.
    pub(super) fn note_commit(&self, commit: &str) -> Result<(), HubError> {
        if is_commit(self.repo.revision()) || self.commit().as_deref() == Some(commit) {
            return Ok(());
        }
        self.cached.create_ref(commit).map_err(HubError::io(&self.folder()))
    }

    /// The first file that `what` needs and that is not here.
    pub(super) fn missing(&self, commit: &str, name: &ModelName, what: What) -> Result<Option<String>, HubError> {
        let snapshot = self.snapshot(commit);
        let absent = |file: &str| (!snapshot.join(file).is_file()).then(|| file.to_owned());
        if let Some(file) = &name.file {
            return Ok(absent(file));
        }
        let mut missing = NEEDED.iter().find_map(|file| absent(file));
        if missing.is_none() && what == What::Everything && absent(WEIGHTS).is_some() {
            missing = match absent(INDEX) {
                Some(_) => Some(WEIGHTS.to_owned()),
                None => shards(&snapshot.join(INDEX))?.iter().find_map(|file| absent(file)),
            };
        }
        Ok(missing)
    }

    /// Makes a file of a snapshot out of a blob.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(file);
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        // From snapshots/COMMIT/FILE up to the model's folder.
        let up = "../".repeat(2 + file.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        if std::fs::read_link(&path).is_ok_and(|found| found == target) {
            return Ok(());
        }
        // A link to elsewhere, or to nothing, is replaced without a moment in which there is none.
        let temporary = folder.join(format!(".{etag}.link"));
        match std::os::unix::fs::symlink(&target, &temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(HubError::io(&temporary)(e)),
            _ => std::fs::rename(&temporary, &path).map_err(HubError::io(&path)),
        }
    }

    /// The file whose lock is held while a blob is fetched.
    pub(super) fn lock(&self, etag: &str) -> Result<File, HubError> {
        let folder = self.root.join(".locks").join(self.repo.folder_name());
        std::fs::create_dir_all(&folder).map_err(HubError::io(&folder))?;
        let path = folder.join(format!("{etag}.lock"));
        File::options().create(true).truncate(false).write(true).open(&path).map_err(HubError::io(&path))
    }
}

/// The files of weights that a repository with these files has: one, or the list and what it names; the list itself
/// comes first.
pub(super) fn weights(files: &BTreeSet<String>) -> Option<&'static str> {
    [WEIGHTS, INDEX].into_iter().find(|file| files.contains(*file))
}

/// The files that a list of shards names.
pub(super) fn shards(index: &Path) -> Result<BTreeSet<String>, HubError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let wrong = |why: String| HubError::Io { path: index.to_owned(), source: std::io::Error::other(why) };
    let bytes = std::fs::read(index).map_err(HubError::io(index))?;
    let parsed: Index = serde_json::from_slice(&bytes).map_err(|e| wrong(format!("not an index of shards: {e}")))?;
    let files: BTreeSet<String> = parsed.weight_map.into_values().collect();
    match files.iter().find(|file| !is_plain(file)) {
        Some(file) => {
            Err(wrong(format!("names `{}` as a shard, which is no name of a file", crate::http::clean(file))))
        }
        None => Ok(files),
    }
}
