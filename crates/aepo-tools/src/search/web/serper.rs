//! How is Google asked by serper.dev? `POST /search {"q", "num"}`, results in `organic`.

use serde_json::json;

use super::{Ask, Dialect, Names};

/// serper.dev.
pub(super) struct Serper;

impl Dialect for Serper {
    fn address(&self) -> &'static str {
        "https://google.serper.dev"
    }

    fn variable(&self) -> &'static str {
        "SERPER_API_KEY"
    }

    fn header(&self) -> (&'static str, &'static str) {
        ("x-api-key", "")
    }

    fn max_results(&self) -> usize {
        100
    }

    fn ask(&self, query: &str, n: usize, _zone: &str) -> Ask {
        Ask { path: "/search", query: Vec::new(), body: Some(json!({ "q": query, "num": n })) }
    }

    fn names(&self) -> Names {
        Names { list: "/organic", title: "title", url: "link", snippet: "snippet", score: None, may_be_absent: true }
    }
}
