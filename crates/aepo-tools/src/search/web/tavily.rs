//! How is Tavily asked? `POST /search {"query", "max_results"}`, results in `results`.

use serde_json::json;

use super::{Ask, Dialect, Names};

/// api.tavily.com.
pub(super) struct Tavily;

impl Dialect for Tavily {
    fn address(&self) -> &'static str {
        "https://api.tavily.com"
    }

    fn variable(&self) -> &'static str {
        "TAVILY_API_KEY"
    }

    fn header(&self) -> (&'static str, &'static str) {
        ("authorization", "Bearer ")
    }

    fn max_results(&self) -> usize {
        20
    }

    fn ask(&self, query: &str, n: usize, _zone: &str) -> Ask {
        Ask { path: "/search", query: Vec::new(), body: Some(json!({ "query": query, "max_results": n })) }
    }

    fn names(&self) -> Names {
        Names {
            list: "/results",
            title: "title",
            url: "url",
            snippet: "content",
            score: Some("score"),
            may_be_absent: false,
        }
    }
}
