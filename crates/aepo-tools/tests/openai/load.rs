//! What happens when there is more to do than fits, and when the server is stopped?

use std::io::{Read as _, Write as _};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::http::{LIMITS, Limits, question, start_with};
use crate::raw::{CHAT, TEXT, connect, get, head, post, read};

/// Says the same letter for ever, a token in two milliseconds.
fn endless() -> Fake {
    Fake::new(5000, Duration::from_millis(2), Box::new(|_| "a".to_owned()))
}

fn begin(at: std::net::SocketAddr, body: &Value) -> std::net::TcpStream {
    let body = body.to_string();
    let mut stream = connect(at);
    stream.write_all(format!("{}{body}", head(TEXT, body.len(), "")).as_bytes()).unwrap();
    stream
}

#[test]
fn those_who_find_no_room_wait_and_who_finds_no_place_to_wait_may_come_again() {
    let running = start_with(endless(), Limits { max_live: 1, max_waiting: 1, ..LIMITS }, None);
    let at = running.server.address;
    let first = begin(at, &json!({ "prompt": "a", "max_tokens": 400, "stream": true }));
    let until = Instant::now() + Duration::from_secs(30);
    while running.n_open.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(2));
    }
    let second = begin(at, &json!({ "prompt": "b", "max_tokens": 3 }));
    // The second may not have arrived yet: the first that does not fit is told so.
    let refused =
        (0..200).map(|_| begin(at, &json!({ "prompt": "c", "max_tokens": 3, "stream": true }))).collect::<Vec<_>>();
    let refused: Vec<_> = refused.into_iter().map(read).filter(|answer| answer.status != 200).collect();
    assert!(!refused.is_empty());
    for answer in &refused {
        assert_eq!(answer.status, 429, "{answer:?}");
        assert!(answer.head.to_ascii_lowercase().contains("retry-after: 2"), "{answer:?}");
        assert_eq!(answer.json()["error"]["code"], "queue_full");
    }
    assert!([200, 429].contains(&read(second).status));
    assert_eq!(read(first).events().last().unwrap()["choices"][0]["finish_reason"], "length");
    assert_eq!(post(at, TEXT, &json!({ "prompt": "d" })).status, 200, "there is room again");
}

#[test]
fn what_begins_alike_is_cached_and_the_cache_has_bounds() {
    let say = |_: &str| "<answer>\\boxed{ no}</answer><|end|>".to_owned();
    let limits = Limits { cache_tokens: 700, ..LIMITS };
    let running = start_with(Fake::new(600, Duration::ZERO, Box::new(say)), limits, None);
    let at = running.server.address;
    let ask = |text: &str| {
        let usage = post(at, CHAT, &question(text, json!({ "max_tokens": 50 }))).json()["usage"].clone();
        let n = |value: &Value| value.as_u64().unwrap();
        (n(&usage["prompt_tokens"]), n(&usage["prompt_tokens_details"]["cached_tokens"]))
    };
    let long = "What is the area of Algeria? ".repeat(10);
    let (n_prompt, n_cached) = ask(&long);
    assert_eq!(n_cached, 0);
    assert_eq!(ask(&long).1, n_prompt - 1, "all but the last token, whose logits are needed");
    let (_, n_cached) = ask(&format!("{long}And of Peru?"));
    assert!(n_cached >= n_prompt - 4, "{n_cached} of {n_prompt}");
    // Other conversations take its room; the number of open paths stays bounded.
    for i in 0..60 {
        ask(&format!("{i}{}", "1234 ".repeat(20)));
        let n_open = running.n_open.load(Ordering::SeqCst);
        assert!(n_open < 12, "{n_open} paths are open");
    }
    assert_eq!(ask(&long).1, 0, "what was used longest ago is gone");
}

#[test]
fn streams_are_told_that_the_server_stops() {
    let mut running = start_with(endless(), LIMITS, None);
    let at = running.server.address;
    let mut stream = begin(at, &json!({ "prompt": "a", "max_tokens": 4000, "stream": true }));
    let short = begin(at, &json!({ "prompt": "a", "max_tokens": 700 }));
    let mut some = [0; 400];
    stream.read_exact(&mut some).unwrap();
    let before = Instant::now();
    drop(running.worker.take());
    let late = post(at, TEXT, &json!({ "prompt": "a" }));
    assert_eq!((late.status, &late.json()["error"]["code"]), (503, &json!("stopping")), "{late:?}");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    // Three seconds of grace, and more for a busy machine.
    assert!(before.elapsed() < Duration::from_secs(15));
    assert!(rest.contains("\"code\":\"stopping\"") && !rest.contains("[DONE]"), "{rest}");
    // What could be ended in that time was, on a machine that had the time.
    assert!([200, 503].contains(&read(short).status));
    assert_eq!(get(at, "/health").status, 503);
}
