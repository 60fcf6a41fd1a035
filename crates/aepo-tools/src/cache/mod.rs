//! What has a tool answered before? A file of answers by content, so that a run can be repeated without the world.
//!
//! An entry is acknowledged when [`Cache::put`] returns: it is on the disk then, and a process that is killed later has
//! not lost it. The file is redb's: one process writes it, or any number read it.

mod entry;
mod error;
mod import;
mod key;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aepo::tool::ToolOutcome;
use redb::{Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition};

pub use entry::Entry;
pub use error::CacheError;
pub use import::{Imported, import_arpo};
pub use key::{ANY_PROVIDER, Key};
pub(crate) use writer::{Put, Writer};

use error::of_store;

/// What a run does with its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What is in it is answered from it; everything else is called, and its answer kept.
    Record,
    /// Everything is answered from it; what it does not hold is unavailable.
    Replay,
}

/// Where the cache lies, and what is done with it.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheSettings {
    /// The file.
    pub path: PathBuf,
    /// What is done with it.
    pub mode: Mode,
    /// How long a failure of an earlier process counts as an answer when recording, seconds.
    pub negative_secs: u64,
}

const ANSWERS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("answers");
const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");
/// The row of `about` that says what the file is.
const FORMAT: (&str, &str) = ("format", "aepo tool answers 1");
/// The first bytes of every file of redb, from its file format's description.
const MAGIC: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// Memory for pages of the file, bytes.
const PAGES_BYTES: usize = 64 << 20;

enum Store {
    Writable(Database),
    ReadOnly(ReadOnlyDatabase),
}

/// An open cache.
pub struct Cache {
    path: PathBuf,
    mode: Mode,
    store: Store,
    negative_secs: u64,
    /// Seconds since 1970.
    opened_secs: u64,
}

/// What a cache holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// Entries by tool and outcome.
    pub n_entries: BTreeMap<(String, ToolOutcome), u64>,
    /// Entries that hold for a short time only.
    pub n_negative: u64,
    /// Bytes of what the models read.
    pub n_text_bytes: u64,
    /// Bytes of the file.
    pub n_file_bytes: u64,
    /// When the oldest and the newest entry were made, seconds since 1970.
    pub created_secs: Option<(u64, u64)>,
}

/// The time, seconds since 1970.
pub(crate) fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The store panics where a file was altered behind its back; that is damage, not a reason to end the process.
fn guarded<T>(what: &'static str, path: &Path, act: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, CacheError> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => result.map_err(|e| of_store(what, path, e)),
        Err(_) => {
            let reason = format!("the store gave up {what} it");
            Err(CacheError::Damaged { path: path.to_path_buf(), reason })
        }
    }
}

impl Cache {
    /// Opens the file; makes one when recording and none is there. When it is opened for recording the checksums of the
    /// whole file are verified, which reads it once.
    pub fn open(settings: &CacheSettings) -> Result<Cache, CacheError> {
        let path = &settings.path;
        let exists = path.try_exists().map_err(|e| io_error("looking for", path, &e))?;
        match (exists, settings.mode) {
            (true, _) => looks_right(path)?,
            (false, Mode::Record) => create(path)?,
            (false, Mode::Replay) => return Err(CacheError::Missing { path: path.clone() }),
        }
        // Read first, so that a file of another program is not touched.
        let store = match (open_read_only(path)?, settings.mode) {
            (Some(store), Mode::Replay) => Store::ReadOnly(store),
            (Some(store), Mode::Record) => {
                drop(store);
                Store::Writable(open_writable(path)?)
            }
            // Whoever recorded last was killed: opening the file to write sets it in order.
            (None, mode) => {
                let store = open_writable(path)?;
                match mode {
                    Mode::Record => Store::Writable(store),
                    Mode::Replay => {
                        drop(store);
                        let reason = "it cannot be set in order".to_owned();
                        let damaged = CacheError::Damaged { path: path.clone(), reason };
                        Store::ReadOnly(open_read_only(path)?.ok_or(damaged)?)
                    }
                }
            }
        };
        Ok(Cache {
            path: path.clone(),
            mode: settings.mode,
            store,
            negative_secs: settings.negative_secs,
            opened_secs: now_secs(),
        })
    }

    /// What is done with it.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    fn read(&self) -> Result<ReadTransaction, redb::Error> {
        Ok(match &self.store {
            Store::Writable(store) => store.begin_read()?,
            Store::ReadOnly(store) => store.begin_read()?,
        })
    }

    /// The answer kept under `key`.
    ///
    /// A failure of the world (a dead site, a program that ran out of time) is kept as a negative entry. When recording,
    /// one that an earlier process left more than `negative_secs` ago is not given: the world is asked again. What this
    /// process has kept it gives as long as it runs, so that a run has one answer for each question and can be repeated.
    pub fn get(&self, key: &Key) -> Result<Option<Entry>, CacheError> {
        let bytes = guarded("reading", &self.path, || {
            let answers = self.read()?.open_table(ANSWERS)?;
            Ok(answers.get(&key.0)?.map(|found| found.value().to_vec()))
        })?;
        let Some(bytes) = bytes else { return Ok(None) };
        let damaged = |reason| CacheError::Damaged { path: self.path.clone(), reason };
        let entry = Entry::decode(&key.0, &bytes).map_err(damaged)?;
        let is_old = entry.created_secs < self.opened_secs && now_secs() >= entry.created_secs + self.negative_secs;
        if entry.negative && is_old && self.mode == Mode::Record {
            return Ok(None);
        }
        Ok(Some(entry))
    }

    /// Keeps all of them or none. They are on the disk when this returns.
    pub fn put(&self, entries: &[(Key, Entry)]) -> Result<(), CacheError> {
        let Store::Writable(store) = &self.store else {
            return Err(CacheError::ReadOnly { path: self.path.clone() });
        };
        guarded("writing", &self.path, || {
            // A transaction of redb is durable when it is committed, unless it is told otherwise.
            let writing = store.begin_write()?;
            {
                let mut answers = writing.open_table(ANSWERS)?;
                for (key, entry) in entries {
                    answers.insert(&key.0, entry.encode(&key.0).as_slice())?;
                }
            }
            Ok(writing.commit()?)
        })
    }

    /// Reads every entry and counts; fails at one whose checksum does not hold.
    pub fn contents(&self) -> Result<Contents, CacheError> {
        let mut contents = Contents::default();
        let mut damaged = None;
        guarded("reading", &self.path, || {
            for row in self.read()?.open_table(ANSWERS)?.iter()? {
                let (key, value) = row?;
                let entry = match Entry::decode(key.value(), value.value()) {
                    Ok(entry) => entry,
                    Err(reason) => {
                        damaged = Some(reason);
                        break;
                    }
                };
                contents.n_negative += u64::from(entry.negative);
                contents.n_text_bytes += entry.text.len() as u64;
                let (oldest, newest) = contents.created_secs.unwrap_or((entry.created_secs, entry.created_secs));
                contents.created_secs = Some((oldest.min(entry.created_secs), newest.max(entry.created_secs)));
                *contents.n_entries.entry((entry.tool, entry.outcome)).or_default() += 1;
            }
            Ok(())
        })?;
        if let Some(reason) = damaged {
            return Err(CacheError::Damaged { path: self.path.clone(), reason });
        }
        contents.n_file_bytes = std::fs::metadata(&self.path).map_err(|e| io_error("reading", &self.path, &e))?.len();
        Ok(contents)
    }
}

fn io_error(what: &'static str, path: &Path, error: &std::io::Error) -> CacheError {
    CacheError::Io { what, path: path.to_path_buf(), reason: error.to_string() }
}

/// Says what lies there when it is no file of redb, before redb is asked.
fn looks_right(path: &Path) -> Result<(), CacheError> {
    let foreign = |found: &str| Err(CacheError::Foreign { path: path.to_path_buf(), found: found.to_owned() });
    let about = std::fs::metadata(path).map_err(|e| io_error("opening", path, &e))?;
    if !about.is_file() {
        return foreign("it is not a file");
    }
    if about.len() == 0 {
        return foreign("it is empty");
    }
    let mut first = Vec::new();
    let file = File::open(path).map_err(|e| io_error("opening", path, &e))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut first).map_err(|e| io_error("reading", path, &e))?;
    if first != MAGIC {
        return foreign("it does not begin like one");
    }
    Ok(())
}

/// Makes an empty cache under another name and puts it in its place whole, so that no half of one is ever found.
fn create(path: &Path) -> Result<(), CacheError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let refused = |e: std::io::Error| io_error("creating", path, &e);
    let private = tempfile::Builder::new().prefix(".aepo-cache-").tempdir_in(dir).map_err(refused)?;
    let beside = private.path().join("new");
    guarded("creating", path, || {
        let store = Database::builder().set_cache_size(PAGES_BYTES).create(&beside)?;
        let writing = store.begin_write()?;
        writing.open_table(ABOUT)?.insert(FORMAT.0, FORMAT.1)?;
        writing.open_table(ANSWERS)?;
        writing.commit()?;
        Ok(store.close()?)
    })?;
    match std::fs::hard_link(&beside, path) {
        // Another process was as fast: its file is as good.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made.map_err(refused)?,
    }
    // The name is on the disk with the directory.
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(refused)
}

fn open_writable(path: &Path) -> Result<Database, CacheError> {
    let store = guarded("opening", path, || {
        Ok(Database::builder().set_cache_size(PAGES_BYTES).set_check_integrity_on_open(true).open(path)?)
    })?;
    is_ours(path, || store.begin_read())?;
    Ok(store)
}

/// `None` where the file must be set in order first, which takes a writer.
fn open_read_only(path: &Path) -> Result<Option<ReadOnlyDatabase>, CacheError> {
    let opened =
        guarded("opening", path, || match Database::builder().set_cache_size(PAGES_BYTES).open_read_only(path) {
            Err(redb::DatabaseError::RepairAborted) => Ok(None),
            opened => Ok(Some(opened?)),
        })?;
    if let Some(store) = &opened {
        is_ours(path, || store.begin_read())?;
    }
    Ok(opened)
}

/// Whether the file says that it is a cache of this version.
fn is_ours(
    path: &Path,
    read: impl FnOnce() -> Result<ReadTransaction, redb::TransactionError>,
) -> Result<(), CacheError> {
    let (name, wanted) = FORMAT;
    let format = guarded("opening", path, || {
        let about = match read()?.open_table(ABOUT) {
            Ok(about) => about,
            Err(redb::TableError::TableDoesNotExist(_) | redb::TableError::TableTypeMismatch { .. }) => {
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        Ok(about.get(name)?.map(|found| found.value().to_owned()))
    })?;
    let found = match format {
        Some(format) if format == wanted => return Ok(()),
        Some(format) => format!("its format is {format:?}, this version knows {wanted:?}"),
        None => "it is a redb file of another program".to_owned(),
    };
    Err(CacheError::Foreign { path: path.to_path_buf(), found })
}
