//! How is Brave asked? `GET /res/v1/web/search?q&count`, results in `web.results`; `web` is absent where there are none.

use super::{Ask, Dialect, Names};

/// api.search.brave.com.
pub(super) struct Brave;

impl Dialect for Brave {
    fn address(&self) -> &'static str {
        "https://api.search.brave.com"
    }

    fn variable(&self) -> &'static str {
        "BRAVE_API_KEY"
    }

    fn header(&self) -> (&'static str, &'static str) {
        ("x-subscription-token", "")
    }

    fn max_results(&self) -> usize {
        20
    }

    fn ask(&self, query: &str, n: usize, _zone: &str) -> Ask {
        // Longer queries are refused, by characters and by words.
        let words: Vec<&str> = query.split_whitespace().take(50).collect();
        let query = words.join(" ").chars().take(400).collect();
        // Without decorations a description holds no tags around the words that were found.
        let parameters = vec![("q", query), ("count", n.to_string()), ("text_decorations", "false".to_owned())];
        Ask { path: "/res/v1/web/search", query: parameters, body: None }
    }

    fn names(&self) -> Names {
        Names {
            list: "/web/results",
            title: "title",
            url: "url",
            snippet: "description",
            score: None,
            may_be_absent: true,
        }
    }
}
