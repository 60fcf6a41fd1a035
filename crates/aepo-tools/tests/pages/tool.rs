//! Does the tool `visit` answer as a tool must?

use std::time::{Duration, Instant};

use aepo::seed::Seed;
use aepo::tool::{CallId, ToolCall, ToolInput, ToolName, ToolOutcome};
use aepo_tools::llm::LlmSettings;
use aepo_tools::pages::{ChatSummary, Pages, Summarise, SummarySettings, Visit, offer, system};
use aepo_tools::toolset::Provider as _;

use crate::server::{Play, Server, html, response, typed};
use crate::settings;

fn call(input: &str) -> ToolCall {
    let (tool, input) = (ToolName::VISIT, input.to_owned());
    ToolCall { id: CallId(1), tool, input, seed: Seed(0), earlier: [].into(), shared: false }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn summaries(base_url: &str) -> SummarySettings {
    let llm = LlmSettings::of(base_url, "reader");
    SummarySettings { llm, temperature: Some(0.0), max_tokens: 500, max_page_chars: 200, secs: 10.0 }
}

#[test]
fn pages_and_refusals_are_answers() {
    let server = Server::start(vec![("/a", html("<title>T</title><p>words"))]);
    let mut visit = Visit::new(Pages::new(settings(&server), system()).unwrap());
    assert_eq!(visit.specs()[0].input_of_text("x").as_deref(), Some("x"));
    let mut ask = |input: &str| {
        let answer = visit.call(&call(input), soon());
        (answer.outcome, answer.text)
    };
    let address = server.url("/a");
    assert_eq!(ask(&format!(" {address}\n")), (ToolOutcome::Ok, format!("Title: T\nAddress: {address}\n\nwords")));
    for (input, words) in [
        ("", "is no address of a page: there is nothing"),
        ("words", "it does not begin with http:// or https://"),
        ("http://127.0.0.1/", "127.0.0.1 is a loopback address"),
        (&server.url("/b"), "HTTP status 404"),
    ] {
        let (outcome, text) = ask(input);
        assert!(outcome == ToolOutcome::Raised && text.contains(words), "{input}: {text}");
    }
}

#[test]
fn the_identity_is_of_what_decides_on_the_text() {
    let server = Server::start(vec![]);
    let of = |settings| Visit::new(Pages::new(settings, system()).unwrap()).identity();
    let mut other = settings(&server);
    assert_eq!(of(settings(&server)), of(other.clone()));
    other.max_chars = 77;
    assert_ne!(of(settings(&server)), of(other));
}

/// One that remembers what it was given.
struct Echo;

impl Summarise for Echo {
    fn summarise(&mut self, goal: &str, page: &str, _: Instant) -> Result<String, String> {
        match goal {
            "nothing" => Ok("<think>hm</think> \n".to_owned()),
            "fail" => Err("the model is gone".to_owned()),
            _ => Ok(format!("<think>let me see</think>\nabout {goal}: {} characters", page.chars().count())),
        }
    }
}

#[test]
fn another_model_may_read_the_page() {
    let server = Server::start(vec![("/a", typed("text/plain", "x".repeat(5000).as_bytes()))]);
    let pages = Pages::new(settings(&server), system()).unwrap();
    let mut visit = Visit::with_summaries(pages, Box::new(Echo), summaries("http://unused.example/v1"));
    let ToolInput::Arguments(schema) = visit.specs()[0].input.clone() else { panic!("takes one text") };
    assert_eq!(schema["required"], serde_json::json!(["url", "goal"]));
    let address = server.url("/a");
    let mut ask = |input: serde_json::Value| {
        let answer = visit.call(&call(&input.to_string()), soon());
        (answer.outcome, answer.text)
    };
    let (outcome, text) = ask(serde_json::json!({ "url": address, "goal": "length" }));
    let n = format!("Address: {address}\n\n").len() + 200 + "\n\n(These are the first 200 of 5000 characters.)".len();
    assert_eq!((outcome, text), (ToolOutcome::Ok, format!("Address: {address}\n\nabout length: {n} characters")));
    for (input, outcome, words) in [
        (serde_json::json!({ "url": address, "goal": "fail" }), ToolOutcome::Unavailable, "the model is gone"),
        (serde_json::json!({ "url": address, "goal": "nothing" }), ToolOutcome::Unavailable, "said nothing"),
        (serde_json::json!({ "url": address }), ToolOutcome::Raised, "`goal` is missing"),
        (serde_json::json!({ "url": 1, "goal": "x" }), ToolOutcome::Raised, "`url` is missing"),
        (serde_json::json!([1]), ToolOutcome::Raised, "no JSON object"),
        (serde_json::json!({ "url": address, "goal": "x".repeat(5000) }), ToolOutcome::Raised, "longer than"),
        (serde_json::json!({ "url": server.url("/b"), "goal": "x" }), ToolOutcome::Raised, "404"),
    ] {
        let (found, text) = ask(input);
        assert!(found == outcome && text.contains(words), "{found:?} {text}");
    }
}

#[test]
fn a_served_model_reads_the_page() {
    let said = br#"{"choices": [{"message": {"role": "assistant", "content": "The page says 42."}}]}"#;
    let server = Server::start(vec![
        ("/a", html("<title>T</title><p>the answer is 42")),
        ("/v1/chat/completions", typed("application/json", said)),
        ("/v2/chat/completions", Play::Bytes(response("400 Bad Request", "", b"no such model"))),
    ]);
    for (version, outcome, words) in
        [("/v1", ToolOutcome::Ok, "\n\nThe page says 42."), ("/v2", ToolOutcome::Unavailable, "no summary: ")]
    {
        let by = summaries(&server.url(version));
        let reader = ChatSummary::new(&by).unwrap();
        let mut visit = Visit::with_summaries(Pages::new(settings(&server), system()).unwrap(), Box::new(reader), by);
        let input = serde_json::json!({ "url": server.url("/a"), "goal": "the answer" }).to_string();
        let answer = visit.call(&call(&input), soon());
        assert!(answer.outcome == outcome && answer.text.contains(words), "{answer:?}");
    }
}

#[test]
fn settings_that_cannot_work_are_found_at_the_start() {
    let server = Server::start(vec![]);
    let mut by = summaries("http://unused.example/v1");
    by.llm.key_env = Some("AEPO_TEST_NO_SUCH_VARIABLE".to_owned());
    let error = offer(settings(&server), Some(by), 2).err().unwrap().to_string();
    assert!(error.contains("AEPO_TEST_NO_SUCH_VARIABLE"), "{error}");
    let mut none = settings(&server);
    none.page_secs = 0.0;
    assert!(offer(none, None, 2).err().unwrap().to_string().contains("page_secs = 0"));
    let offer = offer(settings(&server), None, 2).unwrap();
    assert_eq!((offer.limits.n_workers, (offer.make)().unwrap().specs()[0].name.as_str()), (2, "visit"));
}
