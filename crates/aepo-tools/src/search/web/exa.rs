//! How is Exa asked? `POST /search {"query", "numResults", "contents"}`, results in `results` with text of the page.

use serde_json::json;

use super::{Ask, Dialect, Names};

/// Text of each page that is asked for, characters.
const MAX_TEXT_CHARS: usize = 2000;

/// api.exa.ai.
pub(super) struct Exa;

impl Dialect for Exa {
    fn address(&self) -> &'static str {
        "https://api.exa.ai"
    }

    fn variable(&self) -> &'static str {
        "EXA_API_KEY"
    }

    fn header(&self) -> (&'static str, &'static str) {
        ("x-api-key", "")
    }

    fn max_results(&self) -> usize {
        100
    }

    fn ask(&self, query: &str, n: usize, _zone: &str) -> Ask {
        let contents = json!({ "text": { "maxCharacters": MAX_TEXT_CHARS } });
        let body = json!({ "query": query, "numResults": n, "contents": contents });
        Ask { path: "/search", query: Vec::new(), body: Some(body) }
    }

    fn names(&self) -> Names {
        Names {
            list: "/results",
            title: "title",
            url: "url",
            snippet: "text",
            score: Some("score"),
            may_be_absent: false,
        }
    }
}
