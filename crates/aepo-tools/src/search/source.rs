//! Which source of search results does a recipe name, and what does the model read of its answers?

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::disk::{DiskIndex, IndexError};
use super::retriever::Retriever;
use super::web::{Web, WebApi};
use super::{Document, Hit, SearchIndex, SearchSettings, shown};
use crate::error::ToolsError;
use crate::http::{Client, HttpError};
use crate::toolset::Answer;

/// Which source, as `tools.search.source` names it.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceName {
    /// The articles inside the program.
    Quickstart,
    /// The directory of an index that `aepo index build` made.
    Directory(PathBuf),
    /// The address of a retriever, whole: `http://host:8000/retrieve`.
    Retriever(String),
    /// An API of the web.
    Web(WebApi),
}

impl SourceName {
    /// Reads a name. Everything that is no other source is a directory.
    #[must_use]
    pub fn parse(name: &str) -> SourceName {
        let lower = name.to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("https://") {
            return SourceName::Retriever(name.to_owned());
        }
        match WebApi::ALL.into_iter().find(|api| api.name() == name) {
            Some(api) => SourceName::Web(api),
            None if name == "quickstart" => SourceName::Quickstart,
            None => SourceName::Directory(PathBuf::from(name)),
        }
    }
}

/// Where results come from. Clones share indexes and connections.
#[derive(Clone)]
pub enum Source {
    /// An index in memory.
    Memory(Arc<SearchIndex>),
    /// An index on disk.
    Disk(Arc<DiskIndex>),
    /// Somebody else's index.
    Retriever(Retriever),
    /// A search engine.
    Web(Web),
}

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// An index in memory failed.
    #[error(transparent)]
    Memory(#[from] ToolsError),
    /// An index on disk failed.
    #[error(transparent)]
    Disk(#[from] IndexError),
    /// The network failed, or the budget is spent.
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl Source {
    /// Opens what has a name; `quickstart` gives the articles inside the program. Keys come from the environment; none is
    /// needed where nothing `is_asked`, because all results come from a cache.
    pub fn open(
        name: &SourceName,
        is_asked: bool,
        client: impl FnOnce() -> Result<Client, HttpError>,
        quickstart: impl FnOnce() -> Result<SearchIndex, ToolsError>,
    ) -> Result<Source, SearchError> {
        Ok(match name {
            SourceName::Quickstart => Source::Memory(Arc::new(quickstart()?)),
            SourceName::Directory(directory) => Source::Disk(Arc::new(DiskIndex::open(directory)?)),
            SourceName::Retriever(url) => Source::Retriever(Retriever { client: client()?, url: url.clone() }),
            SourceName::Web(api) if is_asked => Source::Web(Web::from_env(*api, client()?)?),
            SourceName::Web(api) => Source::Web(Web::unasked(*api, client()?)),
        })
    }

    /// The best answers to `query`, at most `n`, best first. An index answers at once and minds no deadline.
    pub fn search(&self, query: &str, n: usize, deadline: Instant) -> Result<Vec<Hit>, SearchError> {
        if query.trim().is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Source::Memory(index) => {
                let hit = |(score, document): (f32, &Document)| Hit {
                    document: document.clone(),
                    url: None,
                    score: Some(f64::from(score)),
                };
                Ok(index.best(query, n)?.into_iter().map(hit).collect())
            }
            Source::Disk(index) => Ok(index.search(query, n)?),
            Source::Retriever(retriever) => Ok(retriever.search(query, n, deadline)?),
            Source::Web(web) => Ok(web.search(query, n, deadline)?),
        }
    }

    /// The same source, whose requests that are sent again are counted apart from those of all others.
    #[must_use]
    pub fn counted_apart(&self) -> Source {
        match self {
            Source::Memory(_) | Source::Disk(_) => self.clone(),
            Source::Retriever(r) => Source::Retriever(Retriever { client: r.client.counted_apart(), ..r.clone() }),
            Source::Web(web) => Source::Web(Web { client: web.client.counted_apart(), ..web.clone() }),
        }
    }

    /// Requests that were sent again so far.
    #[must_use]
    pub fn n_retries(&self) -> u64 {
        match self {
            Source::Memory(_) | Source::Disk(_) => 0,
            Source::Retriever(retriever) => retriever.client.n_retries(),
            Source::Web(web) => web.client.n_retries(),
        }
    }

    /// What answers, and everything in it that changes an answer; no key.
    #[must_use]
    pub fn identity(&self) -> String {
        match self {
            Source::Memory(index) => index.identity(),
            Source::Disk(index) => format!("search on disk 1, {}", index.manifest().identity()),
            Source::Retriever(retriever) => format!("retriever 1, {}", retriever.url),
            Source::Web(web) => format!("web search 1, {}", web.identity()),
        }
    }

    /// What the model reads. Trouble is our fault, never the model's: every string is a query.
    #[must_use]
    pub fn answer(&self, query: &str, settings: &SearchSettings, deadline: Instant) -> Answer {
        match self.search(query, settings.n_results, deadline) {
            Ok(hits) => {
                let found =
                    hits.iter().map(|h| (h.document.title.as_str(), h.url.as_deref(), h.document.text.as_str()));
                Answer::ok(shown(found, settings.max_chars))
            }
            Err(error) => Answer::unavailable(&error.to_string()),
        }
    }
}
