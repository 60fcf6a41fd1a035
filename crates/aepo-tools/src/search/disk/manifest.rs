//! What is in an index, and is all of it still there? A list of its files with sizes and sums, written last.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::error::{IndexError, io};

/// Name of the manifest inside an index.
pub(super) const MANIFEST: &str = "manifest.json";
/// Name of a build's plan inside its directory.
pub(super) const PLAN: &str = "plan.json";
/// What the files mean; another number is another program's.
pub(super) const FORMAT: u32 = 1;

/// What an index was built from. A build goes on only under the same plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What the files mean, see `FORMAT`.
    pub format: u32,
    /// Version of the search engine.
    pub engine: String,
    /// How words are found in text.
    pub analyser: String,
    /// Size of the corpus, bytes.
    pub corpus_bytes: u64,
    /// SHA-256 of the corpus, hexadecimal.
    pub corpus_sha256: String,
    /// Field of a row that names a document; empty where rows are numbered.
    pub id_field: String,
    /// Field of a row that holds the title.
    pub title_field: String,
    /// Field of a row that holds the text, or title and text where it is `contents`; empty for whichever is there.
    pub text_field: String,
    /// Whether bad rows are left out.
    pub skip_bad_rows: bool,
}

/// What an index holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What it was built from.
    pub plan: Plan,
    /// Documents.
    pub n_rows: u64,
    /// Bad rows that were left out.
    pub n_skipped: u64,
    /// Every other file, by name.
    pub files: Vec<FileSum>,
}

/// One file of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    /// Its name in the directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// What answers: corpus and engine, everything else follows.
    #[must_use]
    pub fn identity(&self) -> String {
        let plan = &self.plan;
        let fields = [&plan.id_field, &plan.title_field, &plan.text_field].map(|f| format!("{f:?}")).join(" ");
        format!("{} {} {} {} {fields}", plan.corpus_sha256, self.n_rows, plan.engine, plan.analyser)
    }

    /// Reads the manifest of an index and compares the sizes of its files.
    pub(super) fn open(directory: &Path) -> Result<Manifest, IndexError> {
        let error = |why: String| IndexError::NotAnIndex { path: directory.to_owned(), why };
        let text = std::fs::read(directory.join(MANIFEST)).map_err(|e| error(format!("{MANIFEST}: {e}")))?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| error(format!("{MANIFEST}: {e}")))?;
        if manifest.plan.format != FORMAT {
            return Err(error(format!("format {}, this program reads {FORMAT}", manifest.plan.format)));
        }
        for file in &manifest.files {
            if file.name.contains(['/', '\\', '\0']) || [".", "..", ""].contains(&file.name.as_str()) {
                return Err(error(format!("{MANIFEST} lists the file {:?}", file.name)));
            }
            let path = directory.join(&file.name);
            let found = std::fs::metadata(&path).map_err(|e| error(format!("{}: {e}", file.name)))?.len();
            if found != file.bytes {
                let why = format!("{found} bytes instead of {}", file.bytes);
                return Err(IndexError::Damaged { path, why });
            }
        }
        Ok(manifest)
    }

    /// Reads every file and compares its sum; `progress` is told how many bytes were read.
    pub(super) fn verify(&self, directory: &Path, mut progress: impl FnMut(u64)) -> Result<(), IndexError> {
        for file in &self.files {
            let path = directory.join(&file.name);
            if sha256(&path, &mut progress)? != file.sha256 {
                return Err(IndexError::Damaged { path, why: "another SHA-256 sum".to_owned() });
            }
        }
        Ok(())
    }
}

/// SHA-256 of a file, hexadecimal; `progress` is told the size of each part that was read.
pub(super) fn sha256(path: &Path, mut progress: impl FnMut(u64)) -> Result<String, IndexError> {
    let mut file = File::open(path).map_err(io("opening", path))?;
    let mut sum = Context::new(&SHA256);
    let mut part = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut part).map_err(io("reading", path))?;
        if n == 0 {
            break;
        }
        sum.update(&part[..n]);
        progress(n as u64);
    }
    Ok(sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a file whole or not at all, and waits for the disk.
pub(super) fn write(directory: &Path, name: &str, value: &impl Serialize) -> Result<(), IndexError> {
    let path = directory.join(name);
    let mut text =
        serde_json::to_vec_pretty(value).map_err(|e| IndexError::Engine { path: path.clone(), why: e.to_string() })?;
    text.push(b'\n');
    let beside = directory.join(format!("{name}.new"));
    let mut file = File::create(&beside).map_err(io("creating", &beside))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(io("writing", &beside))?;
    std::fs::rename(&beside, &path).map_err(io("renaming", &beside))?;
    sync_directory(directory)
}

/// Waits until the names in a directory are on the disk.
pub(super) fn sync_directory(directory: &Path) -> Result<(), IndexError> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(io("flushing", directory))
}
