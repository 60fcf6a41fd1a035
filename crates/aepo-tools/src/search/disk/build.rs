//! How does a corpus become an index? In commits that a later build goes on from, beside its place, and renamed at the end.
//!
//! One thread indexes, and segments are never merged before the end, so every segment holds a run of rows. At the end they
//! are merged in the order of their rows: a document's number is its row, whatever happened on the way, and so equal
//! scores have one order.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tantivy::index::SegmentId;
use tantivy::indexer::{IndexWriter, NoMergePolicy};
use tantivy::{Index, IndexReader, ReloadPolicy, TantivyDocument};

use super::error::{IndexError, engine, io};
use super::manifest::{FORMAT, FileSum, MANIFEST, Manifest, PLAN, Plan, sha256, sync_directory, write};
use super::rows::{Fields, Place, Rows, extension};
use super::{Columns, columns, schema};
use crate::search::bm25::ANALYSER;

/// Memory for postings before they are written, bytes.
const ARENA_BYTES: usize = 256 << 20;
/// Reasons that are kept of rows that were left out.
const MAX_REASONS: usize = 5;

/// What to build.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildSettings {
    /// JSON lines (`.jsonl`) or Parquet (`.parquet`).
    pub corpus: PathBuf,
    /// Directory of the index; it must not be there yet.
    pub out: PathBuf,
    /// Which fields of a row make a document.
    pub fields: Fields,
    /// Leave bad rows out instead of refusing the corpus.
    pub skip_bad_rows: bool,
    /// Text between two commits, bytes of titles and texts. A kill loses at most this much work.
    pub commit_bytes: usize,
    /// Documents between two commits.
    pub commit_rows: u64,
}

impl BuildSettings {
    /// The usual settings.
    #[must_use]
    pub fn new(corpus: PathBuf, out: PathBuf) -> BuildSettings {
        let fields = Fields::default();
        BuildSettings { corpus, out, fields, skip_bad_rows: false, commit_bytes: 64 << 20, commit_rows: 1 << 18 }
    }

    /// Where the index grows before it gets its place.
    #[must_use]
    pub fn beside(&self) -> PathBuf {
        let mut name = self.out.file_name().unwrap_or_default().to_owned();
        name.push(".building");
        self.out.with_file_name(name)
    }
}

/// What a build does at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// The sum of the corpus is taken: bytes so far.
    Checking(u64),
    /// Documents are indexed.
    Indexing {
        /// Documents so far.
        n_rows: u64,
        /// Documents that no kill can lose any more.
        n_committed: u64,
        /// How much of the corpus that is, in [0, 1].
        share: f64,
    },
    /// Segments are merged into one.
    Merging(u64),
    /// Sums of the index's files are taken.
    Summing,
}

/// What a build made.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// What is in the index.
    pub manifest: Manifest,
    /// Documents that an earlier build had committed already.
    pub n_resumed: u64,
    /// Of rows that were left out, the first few: number of the row, and why.
    pub skipped: Vec<(u64, String)>,
}

/// What a commit remembers; it stands inside the engine's own commit, so it is never newer or older than the documents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Mark {
    place: Place,
    n_rows: u64,
    n_skipped: u64,
    skipped: Vec<(u64, String)>,
    /// Whether the corpus was read to its end.
    whole: bool,
}

/// Builds an index, or goes on with a build that was stopped. `progress` may stop it.
pub fn build(
    settings: &BuildSettings,
    mut progress: impl FnMut(Phase) -> std::ops::ControlFlow<()>,
) -> Result<Built, IndexError> {
    if settings.out.symlink_metadata().is_ok() {
        return Err(IndexError::Exists { path: settings.out.clone() });
    }
    extension(&settings.corpus)?;
    let beside = settings.beside();
    std::fs::create_dir_all(&beside).map_err(io("creating", &beside))?;
    let mut n_checked = 0;
    let sum = sha256(&settings.corpus, |n| {
        n_checked += n;
        // A stop is heard a moment later, where documents are indexed.
        let _ = progress(Phase::Checking(n_checked));
    })?;
    let plan = Plan {
        format: FORMAT,
        engine: tantivy::version_string().to_owned(),
        analyser: ANALYSER.to_owned(),
        corpus_bytes: n_checked,
        corpus_sha256: sum,
        id_field: settings.fields.id.clone(),
        title_field: settings.fields.title.clone(),
        text_field: settings.fields.text.clone().unwrap_or_default(),
        skip_bad_rows: settings.skip_bad_rows,
    };
    begin(&beside, &plan)?;
    let failed = engine(&beside);
    let directory = tantivy::directory::MmapDirectory::open(&beside)
        .map_err(|e| IndexError::Engine { path: beside.clone(), why: e.to_string() })?;
    let index = Index::open_or_create(directory, schema()).map_err(&failed)?;
    let writer: IndexWriter = index.writer_with_num_threads(1, ARENA_BYTES).map_err(&failed)?;
    writer.set_merge_policy(Box::new(NoMergePolicy));
    // What a killed build left beside its commits.
    writer.garbage_collect_files().wait().map_err(&failed)?;
    let payload = index.load_metas().map_err(&failed)?.payload;
    let mark: Mark = match payload {
        Some(text) => serde_json::from_str(&text)
            .map_err(|e| IndexError::Damaged { path: beside.join("meta.json"), why: e.to_string() })?,
        None => Mark::default(),
    };
    let n_resumed = mark.n_rows;
    let mut writing = Writing { settings, beside: &beside, writer, columns: columns(&index, &beside)?, mark };
    let read = if writing.mark.whole { Ok(()) } else { writing.read(&mut progress) };
    let read = match read {
        Ok(()) if writing.mark.n_rows == 0 => Err(IndexError::Empty { path: settings.corpus.clone() }),
        read => read,
    };
    if let Err(error) = read {
        drop(writing);
        // With this corpus the build would end here again, and with a mended one it begins anew.
        if matches!(error, IndexError::BadRow { .. } | IndexError::Parquet { .. } | IndexError::Empty { .. }) {
            std::fs::remove_dir_all(&beside).map_err(io("removing", &beside))?;
        }
        return Err(error);
    }
    let Writing { mut writer, mark, .. } = writing;
    let _ = progress(Phase::Merging(mark.n_rows));
    merge(&index, &mut writer, &beside)?;
    writer.wait_merging_threads().map_err(&failed)?;
    let _ = progress(Phase::Summing);
    let manifest = finish(&index, &beside, plan, &mark)?;
    std::fs::rename(&beside, &settings.out).map_err(io("renaming", &beside))?;
    let parent = settings.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_directory(parent)?;
    Ok(Built { manifest, n_resumed, skipped: mark.skipped })
}

/// Writes down what is built, or compares it with what was.
fn begin(beside: &Path, plan: &Plan) -> Result<(), IndexError> {
    let error = |what| Err(IndexError::OtherBuild { path: beside.to_owned(), what });
    match std::fs::read(beside.join(PLAN)) {
        Ok(text) => {
            let Ok(before) = serde_json::from_slice::<Plan>(&text) else { return error("its plan cannot be read") };
            let corpus = |p: &Plan| (p.corpus_bytes, p.corpus_sha256.clone());
            let fields = |p: &Plan| (p.id_field.clone(), p.title_field.clone(), p.text_field.clone());
            match () {
                () if before == *plan => Ok(()),
                () if corpus(&before) != corpus(plan) => error("the corpus"),
                () if fields(&before) != fields(plan) => error("the fields"),
                () if before.skip_bad_rows != plan.skip_bad_rows => error("what to do with bad rows"),
                () => error("the version of this program"),
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let entries = std::fs::read_dir(beside).map_err(io("reading", beside))?;
            // A plan that was cut off while it was written is no plan.
            let strange = |name: &std::ffi::OsStr| name != format!("{PLAN}.new").as_str();
            if entries.filter_map(Result::ok).any(|entry| strange(&entry.file_name())) {
                return error("its plan is missing");
            }
            write(beside, PLAN, plan)
        }
        Err(e) => Err(io("reading", &beside.join(PLAN))(e)),
    }
}

/// A build under way.
struct Writing<'a> {
    settings: &'a BuildSettings,
    beside: &'a Path,
    writer: IndexWriter,
    columns: Columns,
    /// Up to date with every document that was added.
    mark: Mark,
}

impl Writing<'_> {
    /// Reads the corpus to its end.
    fn read(&mut self, progress: &mut impl FnMut(Phase) -> std::ops::ControlFlow<()>) -> Result<(), IndexError> {
        let corpus = &self.settings.corpus;
        let mut rows = Rows::open(corpus, &self.settings.fields, self.mark.place)?;
        let (mut n_committed, mut n_bytes) = (self.mark.n_rows, 0);
        while let Some(row) = rows.next()? {
            let row_number = rows.place().n_read;
            match row {
                Ok(document) => {
                    n_bytes += document.title.len() + document.text.len();
                    let mut doc = TantivyDocument::default();
                    doc.add_u64(self.columns.row, self.mark.n_rows);
                    doc.add_text(self.columns.id, document.id);
                    doc.add_text(self.columns.title, document.title);
                    doc.add_text(self.columns.text, document.text);
                    self.writer.add_document(doc).map_err(engine(self.beside))?;
                    self.mark.n_rows += 1;
                }
                Err(why) if self.settings.skip_bad_rows => {
                    self.mark.n_skipped += 1;
                    if self.mark.skipped.len() < MAX_REASONS {
                        self.mark.skipped.push((row_number, why));
                    }
                }
                Err(why) => return Err(IndexError::BadRow { path: corpus.clone(), row: row_number, why }),
            }
            self.mark.place = rows.place();
            let full = n_bytes >= self.settings.commit_bytes;
            let due = full || self.mark.n_rows - n_committed >= self.settings.commit_rows.max(1);
            if due {
                self.commit()?;
                (n_committed, n_bytes) = (self.mark.n_rows, 0);
            }
            if due || row_number.is_multiple_of(1024) {
                let phase = Phase::Indexing { n_rows: self.mark.n_rows, n_committed, share: rows.share() };
                if progress(phase).is_break() {
                    self.commit()?;
                    return Err(IndexError::Stopped { n_rows: self.mark.n_rows });
                }
            }
        }
        self.mark.whole = true;
        self.commit()?;
        let n_rows = self.mark.n_rows;
        // The corpus is read: whoever stops now is heard, and nothing is lost.
        let phase = Phase::Indexing { n_rows, n_committed: n_rows, share: 1.0 };
        if progress(phase).is_break() {
            return Err(IndexError::Stopped { n_rows });
        }
        Ok(())
    }

    /// Makes everything so far safe from a kill.
    fn commit(&mut self) -> Result<(), IndexError> {
        let failed = engine(self.beside);
        let payload = serde_json::to_string(&self.mark)
            .map_err(|e| IndexError::Engine { path: self.beside.to_owned(), why: e.to_string() })?;
        let mut prepared = self.writer.prepare_commit().map_err(&failed)?;
        prepared.set_payload(&payload);
        prepared.commit().map_err(&failed)?;
        Ok(())
    }
}

/// Segments with their first row, in the order of the corpus.
fn segments(index: &Index, beside: &Path) -> Result<Vec<(u64, SegmentId)>, IndexError> {
    let failed = engine(beside);
    let reader: IndexReader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(&failed)?;
    let mut found = Vec::new();
    for segment in reader.searcher().segment_readers() {
        let rows = segment.fast_fields().u64("row").map_err(&failed)?;
        found.push((rows.first(0).unwrap_or(0), segment.segment_id()));
    }
    found.sort_unstable();
    Ok(found)
}

fn merge(index: &Index, writer: &mut IndexWriter, beside: &Path) -> Result<(), IndexError> {
    let ids: Vec<SegmentId> = segments(index, beside)?.into_iter().map(|(_, id)| id).collect();
    if ids.len() > 1 {
        writer.merge(&ids).wait().map_err(engine(beside))?;
    }
    Ok(())
}

/// Sees that documents are numbered by their rows, removes what is no part of the index, and writes the manifest.
fn finish(index: &Index, beside: &Path, plan: Plan, mark: &Mark) -> Result<Manifest, IndexError> {
    let failed = engine(beside);
    let wrong = |why: String| IndexError::Engine { path: beside.to_owned(), why };
    let reader: IndexReader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(&failed)?;
    let searcher = reader.searcher();
    let [segment] = searcher.segment_readers() else {
        return Err(wrong(format!("{} segments instead of one", searcher.segment_readers().len())));
    };
    let rows = segment.fast_fields().u64("row").map_err(&failed)?;
    if u64::from(segment.max_doc()) != mark.n_rows
        || (0..segment.max_doc()).any(|doc| rows.first(doc) != Some(u64::from(doc)))
    {
        return Err(wrong("documents are not in the order of the corpus".to_owned()));
    }
    let metas = index.load_metas().map_err(&failed)?;
    let mut names: Vec<String> = metas
        .list_segment_files()
        .iter()
        .filter_map(|path| path.to_str().map(str::to_owned))
        .chain(["meta.json", ".managed.json", PLAN].map(str::to_owned))
        .filter(|name| beside.join(name).exists())
        .collect();
    names.sort_unstable();
    drop((searcher, reader));
    for entry in std::fs::read_dir(beside).map_err(io("reading", beside))?.filter_map(Result::ok) {
        let known = entry.file_name().to_str().is_some_and(|name| names.iter().any(|known| known == name));
        if !known {
            std::fs::remove_file(entry.path()).map_err(io("removing", &entry.path()))?;
        }
    }
    let mut files = Vec::new();
    for name in names {
        let path = beside.join(&name);
        let bytes = path.metadata().map_err(io("reading", &path))?.len();
        files.push(FileSum { sha256: sha256(&path, |_| {})?, name, bytes });
    }
    let manifest = Manifest { plan, n_rows: mark.n_rows, n_skipped: mark.n_skipped, files };
    write(beside, MANIFEST, &manifest)?;
    Ok(manifest)
}
