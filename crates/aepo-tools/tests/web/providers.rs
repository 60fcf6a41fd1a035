//! Is each search API asked as it documents, and its answer read?

use std::sync::Arc;
use std::time::{Duration, Instant};

use aepo_tools::http::{Budget, HttpError, Secret};
use aepo_tools::search::source::{Source, SourceName};
use aepo_tools::search::web::{Web, WebApi};
use aepo_tools::search::{Hit, SearchSettings};
use serde_json::{Value, json};

use crate::http::quick;
use crate::server::{Asked, Reply, Server};

const KEY: &str = "test-key-0123456789abcdef";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn web(api: WebApi, server: &Server) -> Web {
    let zone = if api == WebApi::BrightData { "serp_zone" } else { "" };
    let key = Some(Secret::of(KEY).unwrap());
    Web { api, client: quick(), address: server.address.clone(), key, zone: zone.to_owned() }
}

/// Answers in the form that each API documents, shortened to what is read and a little more.
fn canned(api: WebApi) -> &'static str {
    match api {
        WebApi::Serper => {
            r#"{"searchParameters": {"q": "moon", "type": "search", "num": 2, "engine": "google"},
                "knowledgeGraph": {"title": "Moon", "type": "Natural satellite"},
                "organic": [
                  {"title": "Moon - Wiki", "link": "https://a.example/moon", "snippet": "Earth's satellite.", "position": 1},
                  {"title": "No snippet", "link": "https://b.example/", "position": 2},
                  {"title": "Third", "link": "https://c.example/", "snippet": "x", "position": 3}],
                "relatedSearches": [{"query": "moon phases"}], "credits": 1}"#
        }
        WebApi::Brave => {
            r#"{"type": "search", "query": {"original": "moon"}, "mixed": {"type": "mixed"},
                "web": {"type": "search", "results": [
                  {"title": "Moon - Wiki", "url": "https://a.example/moon", "description": "Earth's satellite.",
                   "language": "en", "family_friendly": true},
                  {"title": "No snippet", "url": "https://b.example/"},
                  {"title": "Third", "url": "https://c.example/", "description": "x"}]}}"#
        }
        WebApi::Exa => {
            r#"{"requestId": "r", "resolvedSearchType": "neural", "results": [
                  {"id": "https://a.example/moon", "title": "Moon - Wiki", "url": "https://a.example/moon",
                   "publishedDate": "2024-01-01", "author": null, "score": 0.5, "text": "Earth's satellite."},
                  {"id": "2", "title": "No snippet", "url": "https://b.example/", "text": null},
                  {"id": "3", "title": "Third", "url": "https://c.example/", "text": "x"}],
                "costDollars": {"total": 0.005}}"#
        }
        WebApi::Tavily => {
            r#"{"query": "moon", "follow_up_questions": null, "answer": null, "images": [], "results": [
                  {"title": "Moon - Wiki", "url": "https://a.example/moon", "content": "Earth's satellite.",
                   "score": 0.5, "raw_content": null},
                  {"title": "No snippet", "url": "https://b.example/", "content": ""},
                  {"title": "Third", "url": "https://c.example/", "content": "x"}], "response_time": 1.2}"#
        }
        WebApi::BrightData => {
            r#"{"general": {"search_engine": "bing", "query": "moon"}, "input": {"original_url": "https://www.bing.com/"},
                "organic": [
                  {"link": "https://a.example/moon", "display_link": "a.example", "title": "Moon - Wiki",
                   "description": "Earth's satellite.", "rank": 1, "global_rank": 1},
                  {"link": "https://b.example/", "title": "No snippet", "rank": 2},
                  {"link": "https://c.example/", "title": "Third", "description": "x", "rank": 3}]}"#
        }
    }
}

fn expected(api: WebApi, asked: &Asked) {
    let bearer = format!("Bearer {KEY}");
    let (header, value) = match api {
        WebApi::Serper | WebApi::Exa => ("x-api-key", KEY),
        WebApi::Brave => ("x-subscription-token", KEY),
        WebApi::Tavily | WebApi::BrightData => ("authorization", bearer.as_str()),
    };
    assert_eq!(asked.headers[header], value);
    let body: Option<Value> = match api {
        WebApi::Serper => Some(json!({"q": "moon & \"sun\"", "num": 2})),
        WebApi::Brave => None,
        WebApi::Exa => {
            Some(json!({"query": "moon & \"sun\"", "numResults": 2, "contents": {"text": {"maxCharacters": 2000}}}))
        }
        WebApi::Tavily => Some(json!({"query": "moon & \"sun\"", "max_results": 2})),
        WebApi::BrightData => {
            let page = "https://www.bing.com/search?q=moon%20%26%20%22sun%22&mkt=en-US&setLang=en&brd_json=1&cc=us";
            Some(json!({"zone": "serp_zone", "url": page, "format": "raw"}))
        }
    };
    let path = match api {
        WebApi::Serper | WebApi::Exa | WebApi::Tavily => "/search",
        WebApi::Brave => "/res/v1/web/search?q=moon%20%26%20%22sun%22&count=2&text_decorations=false",
        WebApi::BrightData => "/request",
    };
    assert_eq!(asked.path, path);
    match body {
        Some(body) => assert_eq!((asked.method.as_str(), asked.json()), ("POST", body)),
        None => assert_eq!(asked.method, "GET"),
    }
}

#[test]
fn each_api_is_asked_and_read_as_it_documents() {
    for api in WebApi::ALL {
        let server = Server::start(&[Reply::json(canned(api))]);
        let hits = web(api, &server).search("moon & \"sun\"", 2, soon()).unwrap();
        expected(api, &server.log()[0]);
        let seen = |hit: &Hit| (hit.document.title.clone(), hit.url.clone().unwrap(), hit.document.text.clone());
        let found: Vec<_> = hits.iter().map(seen).collect();
        let first = ("Moon - Wiki".to_owned(), "https://a.example/moon".to_owned(), "Earth's satellite.".to_owned());
        let second = ("No snippet".to_owned(), "https://b.example/".to_owned(), String::new());
        assert_eq!(found, [first, second], "{api:?}");
        let scored = matches!(api, WebApi::Exa | WebApi::Tavily).then_some(0.5);
        assert_eq!(hits[0].score, scored, "{api:?}");
        let settings = SearchSettings { n_results: 2, max_chars: 7 };
        let answer = Source::Web(web(api, &server)).answer("moon", &settings, soon());
        assert_eq!(answer.text, "Moon - Wiki\nhttps://a.example/moon\nEarth's\n\nNo snippet\nhttps://b.example/\n");
    }
}

#[test]
fn each_api_is_asked_again_when_it_is_busy_and_given_up_in_a_storm() {
    for api in WebApi::ALL {
        let server = Server::start(&[Reply::status(429), Reply::json(canned(api))]);
        assert_eq!(web(api, &server).search("moon", 3, soon()).unwrap().len(), 3, "{api:?}");
        assert_eq!(server.log().len(), 2);
        server.then(&[Reply::status(502)]);
        let error = web(api, &server).search("moon", 3, soon()).unwrap_err();
        assert!(matches!(error, HttpError::Status { status: 502, tries: 3, .. }), "{error}");
        assert_eq!(server.log().len(), 3);

        let budget = Arc::new(Budget::new(4));
        let mut spender = web(api, &server);
        spender.client = spender.client.with_budget(Arc::clone(&budget));
        assert!(matches!(spender.search("moon", 3, soon()), Err(HttpError::Status { .. })));
        assert!(matches!(spender.search("moon", 3, soon()), Err(HttpError::Budget { max_calls: 4, .. })));
        assert_eq!((server.log().len(), budget.n_spent()), (4, 4));
        let answer = Source::Web(spender).answer("moon", &SearchSettings::default(), soon());
        assert_eq!(answer.outcome, aepo::tool::ToolOutcome::Unavailable);
    }
}

#[test]
fn no_key_is_in_any_error_or_description() {
    for api in WebApi::ALL {
        let echo = format!("{{\"error\": \"key {KEY} is not valid\", \"message\": \"{KEY}\"}}");
        let server = Server::start(&[]);
        for status in [400, 401, 403, 429, 500] {
            server.then(&[Reply::Whole(status, Vec::new(), echo.clone().into_bytes())]);
            let error = web(api, &server).search("moon", 3, soon()).unwrap_err();
            let shown = format!("{error} {error:?} {:?} {}", web(api, &server), web(api, &server).identity());
            assert!(!shown.contains(KEY) && shown.contains("is not valid"), "{shown}");
        }
        let variable = api.variable();
        if std::env::var_os(variable).is_none() {
            let error = Web::from_env(api, quick()).unwrap_err().to_string();
            assert!(error.contains(variable), "{error}");
        }
        // For a replay the API is known by what it would answer, and asks nobody.
        let unasked = Web { address: server.address.clone(), ..Web::unasked(api, quick()) };
        assert_eq!(unasked.identity(), Web { key: None, zone: unasked.zone.clone(), ..web(api, &server) }.identity());
        server.log();
        let error = unasked.search("moon", 3, soon()).unwrap_err().to_string();
        assert!(error.contains(variable) && error.contains("from the cache alone"), "{error}");
        assert_eq!(server.log().len(), 0);
    }
}

#[test]
fn answers_of_another_form_are_errors_and_empty_ones_are_not() {
    for api in WebApi::ALL {
        let server = Server::start(&[]);
        let search = |text: &str| {
            server.then(&[Reply::json(text)]);
            web(api, &server).search("moon", 3, soon())
        };
        for strange in ["[]", "1", "null", "{\"organic\": 1, \"results\": 1, \"web\": {\"results\": 1}}"] {
            assert!(matches!(search(strange), Err(HttpError::Form { .. })), "{api:?} {strange}");
        }
        let empty = "{\"organic\": [], \"results\": [], \"web\": {\"results\": []}}";
        assert_eq!(search(empty).unwrap(), []);
        let odd = "[1, null, {}, {\"url\": 1, \"link\": []}]";
        let odd = format!("{{\"organic\": {odd}, \"results\": {odd}, \"web\": {{\"results\": {odd}}}}}");
        assert_eq!(search(&odd).unwrap(), [], "what has no address is no result");
        // Serper, Brave and Bright Data leave the list out where nothing was found.
        let absent = search("{\"type\": \"search\"}");
        match api {
            WebApi::Exa | WebApi::Tavily => assert!(absent.is_err()),
            WebApi::Serper | WebApi::Brave | WebApi::BrightData => assert_eq!(absent.unwrap(), []),
        }
    }
}

#[test]
fn a_recipe_names_its_source() {
    assert_eq!(SourceName::parse("quickstart"), SourceName::Quickstart);
    assert_eq!(SourceName::parse("wiki/index"), SourceName::Directory("wiki/index".into()));
    assert_eq!(SourceName::parse("HTTP://h:8000/retrieve"), SourceName::Retriever("HTTP://h:8000/retrieve".to_owned()));
    for api in WebApi::ALL {
        assert_eq!(SourceName::parse(api.name()), SourceName::Web(api));
    }
}
