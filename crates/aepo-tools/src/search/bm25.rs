//! What does a query mean, and how well does an article answer it? Words and BM25, the same in memory and on disk.

use std::collections::HashSet;

use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, BoostQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{DocAddress, Score, Searcher, Term};

/// A word in the title counts this much more than in the text.
const TITLE_BOOST: f32 = 1.5;
/// Of a longer query only the beginning is read, characters.
const MAX_QUERY_CHARS: usize = 2000;
/// Of more distinct words only the first count.
const MAX_QUERY_TERMS: usize = 64;
/// The analyser of queries and articles alike: lower case, English stems.
pub(super) const ANALYSER: &str = "en_stem";

/// How titles and texts are indexed: words and how often they occur.
pub(super) fn indexed() -> TextOptions {
    let indexing = TextFieldIndexing::default().set_tokenizer(ANALYSER).set_index_option(IndexRecordOption::WithFreqs);
    TextOptions::default().set_indexing_options(indexing)
}

/// What a query asks for; `None` when it holds no word. Every string is a query: it is taken for words and nothing else.
///
/// score(d) = Σ_words  BM25_text(word, d) + 1.5 · BM25_title(word, d), with k1 = 1.2, b = 0.75.
pub(super) fn query(analyser: &TextAnalyzer, title: Field, text: Field, query: &str) -> Option<BooleanQuery> {
    let query: String = query.chars().take(MAX_QUERY_CHARS).collect();
    let mut words = HashSet::new();
    let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
    let mut analyser = analyser.clone();
    let mut tokens = analyser.token_stream(&query);
    while tokens.advance() && words.len() < MAX_QUERY_TERMS {
        let word = tokens.token().text.clone();
        if !words.insert(word.clone()) {
            continue;
        }
        let term = |field| TermQuery::new(Term::from_field_text(field, &word), IndexRecordOption::WithFreqs);
        clauses.push((Occur::Should, Box::new(term(text))));
        clauses.push((Occur::Should, Box::new(BoostQuery::new(Box::new(term(title)), TITLE_BOOST))));
    }
    (!clauses.is_empty()).then(|| BooleanQuery::new(clauses))
}

/// The `n` best articles, best first. Equal scores are ordered by document number, which is the row of the corpus where
/// the index is one segment.
pub(super) fn best(searcher: &Searcher, query: &BooleanQuery, n: usize) -> tantivy::Result<Vec<(Score, DocAddress)>> {
    // The collector makes room for twice as many as asked for.
    let n = n.min(usize::try_from(searcher.num_docs()).unwrap_or(usize::MAX));
    if n == 0 {
        return Ok(Vec::new());
    }
    searcher.search(query, &TopDocs::with_limit(n).order_by_score())
}
