//! How is Bing asked by Bright Data? `POST /request {"zone", "url", "format"}` with the address of a results page, whose
//! `brd_json=1` asks for JSON, results in `organic`. The AEPO and ARPO programs ask this way.

use serde_json::json;

use super::{Ask, Dialect, Names, escape};

/// The variable that holds the name of the zone.
pub(super) const ZONE: &str = "BRIGHTDATA_SERP_ZONE";

/// api.brightdata.com.
pub(super) struct BrightData;

impl Dialect for BrightData {
    fn address(&self) -> &'static str {
        "https://api.brightdata.com"
    }

    fn variable(&self) -> &'static str {
        "BRIGHTDATA_API_KEY"
    }

    fn header(&self) -> (&'static str, &'static str) {
        ("authorization", "Bearer ")
    }

    fn max_results(&self) -> usize {
        // One page of results; Bing gives no more at once.
        10
    }

    fn ask(&self, query: &str, _n: usize, zone: &str) -> Ask {
        let query = escape(query);
        let page = format!("https://www.bing.com/search?q={query}&mkt=en-US&setLang=en&brd_json=1&cc=us");
        let body = json!({ "zone": zone, "url": page, "format": "raw" });
        Ask { path: "/request", query: Vec::new(), body: Some(body) }
    }

    fn names(&self) -> Names {
        Names {
            list: "/organic",
            title: "title",
            url: "link",
            snippet: "description",
            score: None,
            may_be_absent: true,
        }
    }
}
