//! Which articles of a small corpus answer a query? BM25 over an index in memory.

use ring::digest::{Context, SHA256};
use tantivy::schema::{Field, Schema};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{Index, IndexReader, TantivyDocument};

use super::{Document, SearchSettings, bm25, shown};
use crate::error::ToolsError;
use crate::toolset::Answer;

/// Bound on the corpus, bytes: an article's postings must fit one segment's arena (4 GiB), see `SearchIndex::build`.
const MAX_CORPUS_BYTES: usize = 1 << 30;

/// A corpus and its index.
pub struct SearchIndex {
    settings: SearchSettings,
    documents: Vec<Document>,
    reader: IndexReader,
    analyser: TextAnalyzer,
    title: Field,
    text: Field,
}

impl SearchIndex {
    /// Indexes `documents`. The index is one segment, so its document numbers are positions in `documents` and equal
    /// scores are ordered by them.
    pub fn build(documents: Vec<Document>, settings: SearchSettings) -> Result<SearchIndex, ToolsError> {
        for (name, value) in [("search.n_results", settings.n_results), ("search.max_chars", settings.max_chars)] {
            if value == 0 {
                return Err(ToolsError::Setting { name, value: "0".to_owned(), rule: "must be at least 1" });
            }
        }
        let n_bytes = documents.iter().map(|doc| doc.title.len() + doc.text.len()).sum();
        if n_bytes > MAX_CORPUS_BYTES {
            return Err(ToolsError::CorpusTooLarge { n_bytes, max_bytes: MAX_CORPUS_BYTES });
        }
        let failed = |e: tantivy::TantivyError| ToolsError::Index(e.to_string());
        let mut schema = Schema::builder();
        let title = schema.add_text_field("title", bm25::indexed());
        let text = schema.add_text_field("text", bm25::indexed());
        let index = Index::create_in_ram(schema.build());
        // One thread and room for everything: the arena grows as it is used, and a full one would start a new segment.
        let arena_bytes = (64 << 20) + n_bytes * 3 + documents.len() * 64;
        let mut writer = index.writer_with_num_threads(1, arena_bytes.min(4_000_000_000)).map_err(failed)?;
        for article in &documents {
            let mut doc = TantivyDocument::default();
            doc.add_text(title, &article.title);
            doc.add_text(text, &article.text);
            writer.add_document(doc).map_err(failed)?;
        }
        writer.commit().map_err(failed)?;
        writer.wait_merging_threads().map_err(failed)?;
        let reader = index.reader().map_err(failed)?;
        let n_segments = reader.searcher().segment_readers().len();
        if n_segments > 1 {
            return Err(ToolsError::Index(format!("it fell into {n_segments} segments")));
        }
        let analyser = index.tokenizer_for_field(text).map_err(failed)?;
        Ok(SearchIndex { settings, documents, reader, analyser, title, text })
    }

    /// The best articles for `query`, as many as the settings say, best first; equal scores in the order of the corpus.
    /// Every string is a query: it is taken for words and nothing else.
    pub fn search(&self, query: &str) -> Result<Vec<&Document>, ToolsError> {
        Ok(self.best(query, self.settings.n_results)?.into_iter().map(|(_, document)| document).collect())
    }

    /// The best articles for `query`, at most `n`, with their scores.
    pub fn best(&self, query: &str, n: usize) -> Result<Vec<(f32, &Document)>, ToolsError> {
        let Some(query) = bm25::query(&self.analyser, self.title, self.text, query) else { return Ok(Vec::new()) };
        let hits = bm25::best(&self.reader.searcher(), &query, n);
        let hits = hits.map_err(|e| ToolsError::Index(e.to_string()))?;
        let document = |address: tantivy::DocAddress| self.documents.get(address.doc_id as usize);
        Ok(hits.into_iter().filter_map(|(score, address)| Some((score, document(address)?))).collect())
    }

    /// What answers: the whole corpus and what is shown of it.
    #[must_use]
    pub fn identity(&self) -> String {
        let mut sum = Context::new(&SHA256);
        for document in &self.documents {
            for part in [&document.title, &document.text] {
                sum.update(&(part.len() as u64).to_le_bytes());
                sum.update(part.as_bytes());
            }
        }
        let corpus: String = sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("search in memory 1, {:?}, corpus {corpus}", self.settings)
    }

    /// What the model reads: title, then text, an empty line between articles.
    pub(crate) fn answer(&self, query: &str) -> Answer {
        let found = match self.search(query) {
            Ok(found) => found,
            Err(error) => return Answer::unavailable(&error.to_string()),
        };
        let found = found.into_iter().map(|doc| (doc.title.as_str(), None, doc.text.as_str()));
        Answer::ok(shown(found, self.settings.max_chars))
    }
}
