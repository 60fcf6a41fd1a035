//! Where does the model look things up? An index in memory or on disk, a retriever on the network, or the web.
//!
//! `bm25` says what a query means to an index, `memory` and `disk` hold one, `retriever` asks somebody else's, `web` asks
//! the APIs of search engines, and `source` is whichever of them a recipe names; `tool` offers it to agents.

mod bm25;
pub mod disk;
mod memory;
pub mod retriever;
pub mod source;
pub mod tool;
pub mod web;

pub use memory::SearchIndex;

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

impl Document {
    /// Title and text in one, as Search-R1's corpora and retrievers hold them: the title in quotes on the first line.
    #[must_use]
    pub fn contents(&self) -> String {
        format!("\"{}\"\n{}", self.title, self.text)
    }

    /// The article in `contents`. Without a line end there is no title.
    #[must_use]
    pub fn from_contents(id: String, contents: &str) -> Document {
        let Some((first, rest)) = contents.split_once('\n') else {
            return Document { id, title: String::new(), text: contents.to_owned() };
        };
        let first = first.trim();
        let title = first.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(first);
        Document { id, title: title.to_owned(), text: rest.to_owned() }
    }
}

/// One answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// What was found; its text is a snippet where the web was asked.
    pub document: Document,
    /// Where the whole of it is, on the web.
    pub url: Option<String>,
    /// How well it answers, in the source's own measure, larger is better.
    pub score: Option<f64>,
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

/// What the model reads of (title, address, text): title, address if there is one, text, an empty line between articles.
fn shown<'a>(found: impl Iterator<Item = (&'a str, Option<&'a str>, &'a str)>, max_chars: usize) -> String {
    let mut articles = Vec::new();
    for (title, url, text) in found {
        let text: String = text.chars().take(max_chars).collect();
        let url = url.map_or_else(String::new, |url| format!("{url}\n"));
        articles.push(format!("{}\n{url}{}", title.trim(), text.trim()));
    }
    if articles.is_empty() { "No results.".to_owned() } else { articles.join("\n\n") }
}
