//! Which articles of a large corpus answer a query? BM25 over an index on disk, which is whole or is not opened.

mod build;
mod error;
mod manifest;
mod rows;

use std::path::{Path, PathBuf};

use tantivy::schema::{FAST, Field, STORED, Schema, Value as _};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{Index, IndexReader, ReloadPolicy, TantivyDocument};

pub use build::{BuildSettings, Built, Phase, build};
pub use error::IndexError;
pub use manifest::{FileSum, Manifest, Plan};
pub use rows::Fields;

use super::{Document, Hit, bm25};
use error::engine;

/// An index that is open for searching; threads may share it.
pub struct DiskIndex {
    directory: PathBuf,
    manifest: Manifest,
    reader: IndexReader,
    analyser: TextAnalyzer,
    columns: Columns,
}

/// What an index knows of a document.
#[derive(Clone, Copy)]
struct Columns {
    /// Its place among the documents of the corpus, from 0.
    row: Field,
    id: Field,
    title: Field,
    text: Field,
}

fn schema() -> Schema {
    let mut schema = Schema::builder();
    schema.add_u64_field("row", FAST);
    schema.add_text_field("id", STORED);
    schema.add_text_field("title", bm25::indexed() | STORED);
    schema.add_text_field("text", bm25::indexed() | STORED);
    schema.build()
}

fn columns(index: &Index, path: &Path) -> Result<Columns, IndexError> {
    let schema = index.schema();
    let field = |name| schema.get_field(name).map_err(engine(path));
    Ok(Columns { row: field("row")?, id: field("id")?, title: field("title")?, text: field("text")? })
}

impl DiskIndex {
    /// Opens an index: its manifest is read and the sizes of its files compared. [`DiskIndex::check`] compares the sums.
    pub fn open(directory: &Path) -> Result<DiskIndex, IndexError> {
        let manifest = Manifest::open(directory)?;
        let failed = engine(directory);
        let index = Index::open_in_dir(directory).map_err(&failed)?;
        let columns = columns(&index, directory)?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(&failed)?;
        let analyser = index.tokenizer_for_field(columns.text).map_err(&failed)?;
        let found = IndexReader::searcher(&reader).num_docs();
        if found != manifest.n_rows {
            let why = format!("{found} documents instead of {}", manifest.n_rows);
            return Err(IndexError::Damaged { path: directory.to_owned(), why });
        }
        Ok(DiskIndex { directory: directory.to_owned(), manifest, reader, analyser, columns })
    }

    /// Compares the sums of all files of an index, and opens it; `progress` is told how many bytes were read.
    pub fn check(directory: &Path, progress: impl FnMut(u64)) -> Result<Manifest, IndexError> {
        let manifest = Manifest::open(directory)?;
        manifest.verify(directory, progress)?;
        Ok(DiskIndex::open(directory)?.manifest)
    }

    /// What is in it.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The best articles for `query`, at most `n`, best first; equal scores in the order of the corpus. Every string is a
    /// query: it is taken for words and nothing else.
    pub fn search(&self, query: &str, n: usize) -> Result<Vec<Hit>, IndexError> {
        let Columns { id, title, text, .. } = self.columns;
        let Some(query) = bm25::query(&self.analyser, title, text, query) else { return Ok(Vec::new()) };
        let failed = engine(&self.directory);
        let searcher = self.reader.searcher();
        let mut hits = Vec::new();
        for (score, address) in bm25::best(&searcher, &query, n).map_err(&failed)? {
            let doc: TantivyDocument = searcher.doc(address).map_err(&failed)?;
            let field = |field| doc.get_first(field).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
            let document = Document { id: field(id), title: field(title), text: field(text) };
            hits.push(Hit { document, url: None, score: Some(f64::from(score)) });
        }
        Ok(hits)
    }
}
