//! Does the client keep its deadline and bounds, try again what may pass, and hide the key?

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aepo_tools::http::{Budget, Client, HttpError, Limits, Rate, Request, Secret};
use aepo_tools::llm::{ChatMessage, End, Llm, LlmSettings, Sampling};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::server::{Reply, Server};

const KEY: &str = "sk-very-secret-0123456789";

pub fn quick() -> Client {
    let limits = Limits { max_bytes: 10_000, tries: 3, backoff: Duration::from_millis(2), certificates: None };
    Client::new(limits).unwrap()
}

fn get(client: &Client, server: &Server, patience: Duration) -> Result<Value, HttpError> {
    let url = format!("{}/path", server.address);
    let key = Secret::of(KEY).unwrap();
    let request = Request { url: &url, query: &[("q", "a b&c=ü")], key: Some(("x-key", "Token ", &key)), body: None };
    let found = client.json(request, Instant::now() + patience);
    if let Err(error) = &found {
        assert!(!format!("{error} {error:?}").contains(KEY), "{error:?}");
    }
    found
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_request_is_sent_as_it_is_described() {
    let server = Server::start(&[Reply::json("{\"a\": [1, \"ü\"]}")]);
    assert_eq!(get(&quick(), &server, LONG).unwrap(), json!({"a": [1, "ü"]}));
    let asked = server.log().remove(0);
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/path?q=a%20b%26c%3D%C3%BC"));
    assert_eq!(asked.headers["x-key"], format!("Token {KEY}"));
    assert_eq!(asked.headers["accept-encoding"], "gzip");
    let url = format!("{}/p", server.address);
    let body = json!({"q": "\"\u{0}"});
    let request = Request { url: &url, query: &[], key: None, body: Some(&body) };
    quick().json(request, Instant::now() + LONG).unwrap();
    let asked = server.log().remove(0);
    assert_eq!((asked.method.as_str(), asked.json()), ("POST", body));
    assert_eq!(asked.headers["content-type"], "application/json");
}

#[test]
fn what_may_pass_is_tried_again_and_what_stays_is_not() {
    let good = Reply::json("1");
    for passing in [Reply::status(429), Reply::status(500), Reply::status(503), Reply::HangUp] {
        let server = Server::start(&[passing.clone(), passing, good.clone()]);
        assert_eq!(get(&quick(), &server, LONG).unwrap(), json!(1));
        assert_eq!(server.log().len(), 3);
    }
    let server = Server::start(&[Reply::status(503)]);
    let (client, other) = (quick(), quick().counted_apart());
    let error = get(&client, &server, LONG).unwrap_err();
    assert_eq!((client.clone().n_retries(), client.counted_apart().n_retries(), other.n_retries()), (2, 0, 0));
    assert!(matches!(error, HttpError::Status { status: 503, tries: 3, .. }), "{error}");
    assert_eq!(server.log().len(), 3);
    for status in [301, 400, 401, 403, 404, 422] {
        server.then(&[Reply::Whole(status, vec![("location", "/other".to_owned())], Vec::new())]);
        let error = get(&quick(), &server, LONG).unwrap_err();
        assert!(matches!(error, HttpError::Status { tries: 1, .. }), "{error}");
        assert_eq!(server.log().len(), 1);
    }
    server.then(&[Reply::json("<html>")]);
    assert!(matches!(get(&quick(), &server, LONG), Err(HttpError::NotJson { .. })));
    server.then(&[Reply::HangUp]);
    assert!(matches!(get(&quick(), &server, LONG), Err(HttpError::Network { tries: 3, .. })));
}

#[test]
fn a_server_decides_on_the_pause_but_not_on_the_deadline() {
    let busy = |secs: &str| Reply::Whole(429, vec![("retry-after", secs.to_owned())], Vec::new());
    let server = Server::start(&[busy("1"), Reply::json("1")]);
    let began = Instant::now();
    get(&quick(), &server, LONG).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    server.log();
    // It would come too late, so nobody waits for it.
    server.then(&[busy("3600")]);
    let began = Instant::now();
    let error = get(&quick(), &server, LONG).unwrap_err();
    assert!(matches!(error, HttpError::Status { status: 429, tries: 1, .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn the_deadline_holds_whatever_the_server_does() {
    for slow in [Reply::Silence, Reply::Drip] {
        let server = Server::start(&[slow]);
        let began = Instant::now();
        let error = get(&quick(), &server, Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, HttpError::Deadline { .. }), "{error}");
        // The bound is generous for a busy machine; what matters is that it ends.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(server.log().len(), 1, "a deadline is not tried again");
    }
}

#[test]
fn answers_are_bounded_as_sent_and_as_unpacked() {
    let gzip = |bytes: &[u8]| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(bytes).unwrap();
        Reply::Whole(200, vec![("content-encoding", "gzip".to_owned())], packed.finish().unwrap())
    };
    let server = Server::start(&[gzip(b"{\"packed\": true}")]);
    assert_eq!(get(&quick(), &server, LONG).unwrap(), json!({"packed": true}));
    let bomb = gzip(&vec![b' '; 50_000_000]);
    for large in [Reply::json(&" ".repeat(10_001)), bomb, Reply::Endless] {
        server.then(&[large]);
        let error = get(&quick(), &server, LONG).unwrap_err();
        assert!(matches!(error, HttpError::TooLarge { max_bytes: 10_000, .. }), "{error}");
    }
    server.then(&[Reply::json(&format!("1{}", " ".repeat(9_999)))]);
    assert_eq!(get(&quick(), &server, LONG).unwrap(), json!(1));
    server.then(&[Reply::Whole(200, vec![("content-encoding", "br".to_owned())], vec![1, 2, 3])]);
    assert!(matches!(get(&quick(), &server, LONG), Err(HttpError::Network { .. })));
}

#[test]
fn a_key_that_the_server_sends_back_is_not_shown() {
    let server = Server::start(&[]);
    let echo = format!("{{\"error\": {{\"message\": \"no such key {KEY}\\u001b[2J\"}}}}");
    for status in [401, 500] {
        server.then(&[Reply::Whole(status, Vec::new(), echo.clone().into_bytes())]);
        let error = get(&quick(), &server, LONG).unwrap_err().to_string();
        assert!(error.contains(": no such key …[2J"), "{error}");
    }
    server.then(&[Reply::json(&echo)]);
    assert!(!get(&quick(), &server, LONG).unwrap().to_string().contains(KEY));
}

#[test]
fn clones_share_budget_and_rate() {
    let server = Server::start(&[Reply::status(500)]);
    let budget = Arc::new(Budget::new(5));
    let client = quick().with_budget(Arc::clone(&budget));
    assert!(matches!(get(&client.clone(), &server, LONG), Err(HttpError::Status { tries: 3, .. })));
    assert!(matches!(get(&client, &server, LONG), Err(HttpError::Budget { max_calls: 5, .. })), "tries count");
    assert_eq!((server.log().len(), budget.n_spent()), (5, 5));
    let error = get(&client, &server, LONG).unwrap_err().to_string();
    assert!(error.contains("calls_per_run"), "{error}");

    server.then(&[Reply::json("1")]);
    let client = quick().with_rate(Arc::new(Rate::new(20.0).unwrap()));
    let began = Instant::now();
    for _ in 0..24 {
        get(&client.clone(), &server, LONG).unwrap();
    }
    // Twenty at once, four more at 20 per second.
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
    let slow = quick().with_rate(Arc::new(Rate::new(0.001).unwrap()));
    get(&slow, &server, LONG).unwrap();
    assert!(matches!(get(&slow, &server, LONG), Err(HttpError::Deadline { .. })));
}

#[test]
fn what_is_no_address_is_an_error() {
    for url in [
        "",
        "nonsense",
        "ftp://a/b",
        "http://",
        "http://user:pass@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://a b/",
    ] {
        let request = Request { url, query: &[], key: None, body: None };
        let error = quick().json(request, Instant::now() + Duration::from_secs(5)).unwrap_err();
        assert_eq!(error, HttpError::Address, "{url}");
    }
}

#[test]
fn a_served_model_is_asked_as_openai_says() {
    let answer = r#"{"id": "x", "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": "Four."}}], "usage": {"total_tokens": 9}}"#;
    let server = Server::start(&[Reply::json(answer)]);
    let settings = LlmSettings { tries: 2, ..LlmSettings::of(format!("{}/v1/", server.address), "small") };
    let llm = Llm::over(quick(), &settings).unwrap();
    let messages = [ChatMessage::system("Be short."), ChatMessage::user("2 + 2?")];
    let sampling = Sampling { temperature: Some(0.0), max_tokens: 64, ..Sampling::default() };
    let ask = |llm: &Llm| llm.ask(&messages, &sampling, Instant::now() + LONG);
    let with_key = llm.clone().with_key(Secret::of(KEY).unwrap());
    let said = ask(&with_key).unwrap();
    assert_eq!((said.text.as_str(), said.end, said.n_sampled), ("Four.", End::Unsaid, None));
    let asked = server.log().remove(0);
    assert_eq!(asked.path, "/v1/chat/completions");
    assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"));
    let messages = json!([{"role": "system", "content": "Be short."}, {"role": "user", "content": "2 + 2?"}]);
    let expected = json!({"model": "small", "messages": messages, "max_tokens": 64, "temperature": 0.0});
    assert_eq!(asked.json(), expected);
    server.then(&[Reply::json(r#"{"choices": []}"#)]);
    assert!(matches!(ask(&llm), Err(HttpError::Form { missing: "choices[0]", .. })));
    let asked = server.log();
    assert_eq!(asked.len(), 2, "what cannot be read is asked for again");
    assert!(!asked[0].headers.contains_key("authorization"));
    server.then(&[Reply::json("{\"choices\": ["), Reply::json(answer)]);
    assert_eq!(ask(&llm).unwrap().text, "Four.");
    for bad in ["", "localhost:8000", "ftp://a/v1"] {
        assert_eq!(Llm::new(&LlmSettings::of(bad, "small")).unwrap_err(), HttpError::Address, "{bad:?}");
    }
}
