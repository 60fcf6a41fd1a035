//! Does a query find its article, and is every string a query?

mod common;

use aepo::tool::{ToolName, ToolOutcome};
use aepo_tools::{Document, SearchIndex, SearchSettings, Tools, ToolsError};
use common::{answer, call};

fn corpus() -> Vec<Document> {
    let doc = |id: &str, title: &str, text: &str| Document { id: id.into(), title: title.into(), text: text.into() };
    vec![
        doc("moon", "Moon", "The Moon is Earth's only natural satellite. It causes the tides."),
        doc("mars", "Mars", "Mars is the fourth planet. It has two moons, Phobos and Deimos."),
        doc("tide", "Tide", "Tides are the rise and fall of sea levels caused by the Moon and the Sun."),
        doc("rust", "Rust (programming language)", "Rust is a language whose compiler checks borrowed references."),
        doc("twin-a", "Twin", "identical words"),
        doc("twin-b", "Twin", "identical words"),
        doc("and", "Logic", "AND, OR and NOT are the connectives; a:b is a pair."),
    ]
}

fn ids(index: &SearchIndex, query: &str) -> Vec<String> {
    index.search(query).unwrap().iter().map(|doc| doc.id.clone()).collect()
}

#[test]
fn the_right_article_comes_first() {
    let index = SearchIndex::build(corpus(), SearchSettings::default()).unwrap();
    assert_eq!(ids(&index, "Phobos")[0], "mars");
    assert_eq!(ids(&index, "what causes the tides?")[0], "tide");
    assert_eq!(ids(&index, "moon")[0], "moon", "the title counts more");
    assert_eq!(ids(&index, "borrow reference language")[0], "rust", "words are stemmed");
    assert_eq!(ids(&index, "identical words"), ["twin-a", "twin-b"], "equal scores keep the corpus's order");
    assert_eq!(ids(&index, "AND OR NOT")[0], "and");
    assert!(ids(&index, "zebra").is_empty());
}

#[test]
fn every_string_is_a_query() {
    let settings = SearchSettings { n_results: 2, max_chars: 12 };
    let index = SearchIndex::build(corpus(), settings).unwrap();
    let mut tools = Tools::start(1, None, Some(index)).unwrap();
    let long = "moon ".repeat(1 << 18);
    let hostile =
        ["", " ", "\"", "\"unbalanced", "(((", "*", "[a TO", "+-!^~", "\0", "\u{202e}", "🦀", "a AND", "title:"];
    for query in hostile {
        let result = answer(&mut tools, call(1, ToolName::SEARCH, query));
        assert_eq!(result.outcome, ToolOutcome::Ok, "{query:?}");
        if !query.chars().any(char::is_alphabetic) {
            assert_eq!(result.text, "No results.", "{query:?}");
        }
    }
    let result = answer(&mut tools, call(1, ToolName::SEARCH, &long));
    assert!(result.text.starts_with("Moon\n"), "{}", result.text);
    let result = answer(&mut tools, call(2, ToolName::SEARCH, "title:mars"));
    assert_eq!(result.text, "Mars\nMars is the");
    let result = answer(&mut tools, call(3, ToolName::SEARCH, "twin"));
    assert_eq!(result.text, "Twin\nidentical wo\n\nTwin\nidentical wo");
    let result = answer(&mut tools, call(4, ToolName::PYTHON, "1"));
    assert_eq!(result.outcome, ToolOutcome::Unavailable);
}

#[test]
fn two_builds_answer_alike() {
    let documents: Vec<Document> = (0..5000)
        .map(|i| Document {
            id: i.to_string(),
            title: format!("Article {}", i % 7),
            text: format!("common words {} {}", i % 11, i % 13),
        })
        .collect();
    let settings = SearchSettings { n_results: 50, max_chars: 100 };
    let one = SearchIndex::build(documents.clone(), settings.clone()).unwrap();
    let two = SearchIndex::build(documents, settings).unwrap();
    for query in ["common words 3 5", "article 2", "12", "words"] {
        let found = ids(&one, query);
        assert_eq!(found, ids(&two, query));
        assert_eq!(found.len(), 50);
    }
}

#[test]
fn an_empty_corpus_answers_and_bad_settings_do_not_start() {
    let index = SearchIndex::build(Vec::new(), SearchSettings::default()).unwrap();
    assert!(ids(&index, "anything").is_empty());
    for settings in [SearchSettings { n_results: 0, max_chars: 1 }, SearchSettings { n_results: 1, max_chars: 0 }] {
        let error = SearchIndex::build(Vec::new(), settings).err().unwrap();
        assert!(matches!(error, ToolsError::Setting { .. }));
    }
}
