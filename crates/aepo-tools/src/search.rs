//! Which articles answer a query? BM25 over an index in memory.

use std::collections::HashSet;

use aepo::tool::ToolOutcome;
use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, BoostQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{Index, IndexReader, TantivyDocument, Term};

use crate::error::ToolsError;
use crate::toolset::Answer;

/// One article.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The corpus's own name for it.
    pub id: String,
    /// Searched with a little more weight than the text.
    pub title: String,
    /// The article.
    pub text: String,
}

/// What a search gives back.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchSettings {
    /// Articles per query.
    pub n_results: usize,
    /// Characters of text shown of each.
    pub max_chars: usize,
}

impl Default for SearchSettings {
    fn default() -> Self {
        SearchSettings { n_results: 3, max_chars: 1000 }
    }
}

/// A word in the title counts this much more than in the text.
const TITLE_BOOST: f32 = 1.5;
/// Of a longer query only the beginning is read, characters.
const MAX_QUERY_CHARS: usize = 2000;
/// Of more distinct words only the first count.
const MAX_QUERY_TERMS: usize = 64;
/// The analyser of queries and articles alike: lower case, English stems.
const ANALYSER: &str = "en_stem";
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
        let indexing =
            TextFieldIndexing::default().set_tokenizer(ANALYSER).set_index_option(IndexRecordOption::WithFreqs);
        let options = TextOptions::default().set_indexing_options(indexing);
        let mut schema = Schema::builder();
        let title = schema.add_text_field("title", options.clone());
        let text = schema.add_text_field("text", options);
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

    /// What answers: the whole corpus and what is shown of it.
    pub(crate) fn identity(&self) -> String {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for document in &self.documents {
            for field in [&document.title, &document.text] {
                hash.update(&(field.len() as u64).to_le_bytes());
                hash.update(field.as_bytes());
            }
        }
        let corpus: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("search in memory 1, {:?}, corpus {corpus}", self.settings)
    }

    /// The best articles for `query`, best first; equal scores in the order of the corpus. Every string is a query: it is
    /// taken for words and nothing else.
    ///
    /// score(d) = Σ_words  BM25_text(word, d) + 1.5 · BM25_title(word, d), with k1 = 1.2, b = 0.75.
    pub fn search(&self, query: &str) -> Result<Vec<&Document>, ToolsError> {
        let query: String = query.chars().take(MAX_QUERY_CHARS).collect();
        let mut words = HashSet::new();
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        let mut analyser = self.analyser.clone();
        let mut tokens = analyser.token_stream(&query);
        while tokens.advance() && words.len() < MAX_QUERY_TERMS {
            let word = tokens.token().text.clone();
            if !words.insert(word.clone()) {
                continue;
            }
            let term = |field| TermQuery::new(Term::from_field_text(field, &word), IndexRecordOption::WithFreqs);
            clauses.push((Occur::Should, Box::new(term(self.text))));
            clauses.push((Occur::Should, Box::new(BoostQuery::new(Box::new(term(self.title)), TITLE_BOOST))));
        }
        drop(tokens);
        if clauses.is_empty() {
            return Ok(Vec::new());
        }
        let top = TopDocs::with_limit(self.settings.n_results).order_by_score();
        let hits = self.reader.searcher().search(&BooleanQuery::new(clauses), &top);
        let hits = hits.map_err(|e| ToolsError::Index(e.to_string()))?;
        Ok(hits.iter().filter_map(|(_, address)| self.documents.get(address.doc_id as usize)).collect())
    }

    /// What the model reads: title, then text, an empty line between articles.
    pub(crate) fn answer(&self, query: &str) -> Answer {
        let found = match self.search(query) {
            Ok(found) => found,
            Err(error) => return Answer::unavailable(&error.to_string()),
        };
        if found.is_empty() {
            return Answer { outcome: ToolOutcome::Ok, text: "No results.".to_owned() };
        }
        let show = |doc: &&Document| {
            let text: String = doc.text.chars().take(self.settings.max_chars).collect();
            format!("{}\n{}", doc.title.trim(), text.trim())
        };
        let shown: Vec<String> = found.iter().map(show).collect();
        Answer { outcome: ToolOutcome::Ok, text: shown.join("\n\n") }
    }
}
