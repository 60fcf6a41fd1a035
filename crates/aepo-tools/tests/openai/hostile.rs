//! Is everything refused that is malformed, too large, too slow, or not done here, and does the server stay?

use std::io::Write as _;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::http::{LIMITS, Limits, question, start, start_with};
use crate::raw::{Answer, CHAT, TEXT, connect, get, head, post, post_text, raw, read};

/// The error's `param`, with everything else that an error has.
#[track_caller]
fn param(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    let error = answer.json()["error"].clone();
    assert!(!error["message"].as_str().unwrap().is_empty() && error["type"].is_string(), "{answer:?}");
    assert!(error.get("code").is_some());
    error["param"].clone()
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let running = start();
    let at = running.server.address;
    let long = "x".repeat(300);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for bad in ["", "{", "[]", "7", "\"x\"", "{\"prompt\": \"\\ud800\"}", "{\"prompt\": NaN}", &deep] {
        assert_eq!(param(&post_text(at, TEXT, bad), 400), Value::Null, "{bad}");
    }
    let tool = json!({ "type": "function", "function": { "name": "search" } });
    let texts: [(Value, &str); 42] = [
        (json!({}), "prompt"),
        (json!({ "prompt": 7 }), "prompt"),
        (json!({ "prompt": "" }), "prompt"),
        (json!({ "prompt": [] }), "prompt"),
        (json!({ "prompt": [[]] }), "prompt"),
        (json!({ "prompt": ["a", 7] }), "prompt"),
        (json!({ "prompt": [1, -1] }), "prompt"),
        (json!({ "prompt": [1, 320] }), "prompt"),
        (json!({ "prompt": [1, 1e99] }), "prompt"),
        (json!({ "prompt": vec![5; 600] }), "prompt"),
        (json!({ "prompt": vec!["a"; 129] }), "prompt"),
        (json!({ "prompt": vec!["a"; 100], "n": 2 }), "n"),
        (json!({ "temperature": "warm" }), "temperature"),
        (json!({ "temperature": -0.1 }), "temperature"),
        (json!({ "temperature": 1e300 }), "temperature"),
        (json!({ "top_p": 0 }), "top_p"),
        (json!({ "top_p": 1.5 }), "top_p"),
        (json!({ "top_k": -2 }), "top_k"),
        (json!({ "max_tokens": -1 }), "max_tokens"),
        (json!({ "max_tokens": 1.5 }), "max_tokens"),
        (json!({ "max_tokens": 1e18 }), "max_tokens"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "n": 0 }), "n"),
        (json!({ "n": 1000 }), "n"),
        (json!({ "n": 128, "max_tokens": 500 }), "n"),
        (json!({ "seed": 0.5 }), "seed"),
        (json!({ "seed": 1e30 }), "seed"),
        (json!({ "stop": 7 }), "stop"),
        (json!({ "stop": [""] }), "stop"),
        (json!({ "stop": [long] }), "stop"),
        (json!({ "stop": vec!["a"; 17] }), "stop"),
        (json!({ "stop_token_ids": ["a"] }), "stop_token_ids"),
        (json!({ "stream": 1 }), "stream"),
        (json!({ "stream_options": { "include_usage": true } }), "stream_options"),
        (json!({ "stream": true, "stream_options": { "often": 1 } }), "stream_options.often"),
        (json!({ "logprobs": 21 }), "logprobs"),
        (json!({ "logprobs": true }), "logprobs"),
        (json!({ "suffix": "x" }), "suffix"),
        (json!({ "presence_penalty": 0.5 }), "presence_penalty"),
        (json!({ "logit_bias": { "5": -100 } }), "logit_bias"),
        (json!({ "response_format": { "type": "json_object" } }), "response_format"),
        (json!({ "guided_regex": "a+" }), "guided_regex"),
    ];
    for (fields, name) in texts {
        let mut body =
            if name == "prompt" { json!({}) } else { json!({ "prompt": fields.get("prompt").unwrap_or(&json!("a")) }) };
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(param(&post(at, TEXT, &body), 400), name, "{body}");
    }
    let message = |value: Value| json!({ "messages": [{ "role": "user", "content": "a" }, value] });
    let chats = [
        (json!({}), "messages"),
        (json!({ "messages": "a" }), "messages"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": ["a"] }), "messages[0]"),
        (message(json!({ "role": "king", "content": "a" })), "messages[1].role"),
        (message(json!({ "role": "user" })), "messages[1].content"),
        (message(json!({ "role": "user", "content": 7 })), "messages[1].content"),
        (message(json!({ "role": "user", "content": [{ "type": "image_url" }] })), "messages[1].content"),
        (message(json!({ "role": "user", "content": "a", "tool_calls": [7] })), "messages[1].tool_calls"),
        (
            message(json!({ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": "{" } }] })),
            "messages[1].tool_calls[0].function.arguments",
        ),
        (message(json!({ "role": "user", "content": "a", "colour": 1 })), "messages[1].colour"),
        // The fake's protocol knows neither.
        (message(json!({ "role": "system", "content": "a" })), "messages"),
        (message(json!({ "role": "tool", "content": "a" })), "messages"),
        (question(&"a ".repeat(700), json!({})), "messages"),
        (question("a", json!({ "tools": 7 })), "tools"),
        (question("a", json!({ "tools": [7] })), "tools[0]"),
        (question("a", json!({ "tools": [{ "type": "function" }] })), "tools[0].function"),
        (question("a", json!({ "tools": [{ "type": "web" }] })), "tools[0].type"),
        (question("a", json!({ "tools": [{ "function": { "name": "a b" } }] })), "tools[0].function.name"),
        (question("a", json!({ "tools": [tool.clone(), tool.clone()] })), "tools[1].function.name"),
        (question("a", json!({ "tools": [tool.clone()], "tool_choice": "required" })), "tool_choice"),
        (question("a", json!({ "tools": [tool.clone()], "parallel_tool_calls": false })), "parallel_tool_calls"),
        (question("a", json!({ "functions": [tool] })), "functions"),
        (question("a", json!({ "top_logprobs": 2 })), "top_logprobs"),
        (question("a", json!({ "logprobs": 2 })), "logprobs"),
        (question("a", json!({ "max_completion_tokens": 0 })), "max_tokens"),
        (question("a", json!({ "chat_template_kwargs": { "thinking": true } })), "messages"),
        (question("a", json!({ "reasoning_effort": "high" })), "reasoning_effort"),
    ];
    for (body, name) in chats {
        assert_eq!(param(&post(at, CHAT, &body), 400), name, "{body}");
    }
    assert_eq!(param(&post(at, CHAT, &question("a", json!({ "model": "gpt-9" }))), 404), "model");
    // What means nothing is taken.
    let plain = json!({ "user": "u", "metadata": {}, "store": false, "temperature": null, "frequency_penalty": 0,
        "logit_bias": {}, "response_format": { "type": "text" }, "parallel_tool_calls": true, "top_k": -1, "seed": -5 });
    assert_eq!(post(at, CHAT, &question("a", plain)).status, 200);
    let failed = post(at, CHAT, &question("fail now", json!({})));
    assert_eq!(param(&failed, 500), Value::Null);
    assert!(failed.body.contains("a number of this test is not finite"), "{failed:?}");
    assert_eq!(post(at, CHAT, &question("a", json!({}))).status, 200);
}

#[test]
fn what_is_no_request_of_this_server_is_refused_and_it_stays() {
    let running = start();
    let at = running.server.address;
    param(&get(at, "/v1/embeddings"), 404);
    param(&get(at, CHAT), 405);
    let plain = head(CHAT, 2, "").replace("application/json", "text/plain");
    param(&raw(at, format!("{plain}{{}}").as_bytes()), 415);
    let large = head(TEXT, 17 << 20, "");
    let mut bytes = large.into_bytes();
    bytes.resize(bytes.len() + (17 << 20), b' ');
    assert!([413, 0].contains(&raw(at, &bytes).status), "a server may hang up while the rest is on its way");
    let said = head(TEXT, 100, "");
    let begun = raw(at, format!("{said}{{\"prompt\"").as_bytes());
    param(&begun, 408);
    let headers: String = (0..10_000).map(|i| format!("X-{i}: {i}\r\n")).collect();
    assert_eq!(raw(at, head(TEXT, 0, &headers).as_bytes()).status, 431);
    let line = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200_000));
    assert!([414, 431, 0].contains(&raw(at, line.as_bytes()).status));
    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        assert!(![200, 500].contains(&raw(at, garbage).status));
    }
    let both =
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_ne!(raw(at, both.as_bytes()).status, 200);
    // A head that never ends, and connections that say nothing, are closed in time.
    let before = Instant::now();
    let silent: Vec<_> = (0..50).map(|_| connect(at)).collect();
    let half: Vec<_> = (0..50)
        .map(|_| {
            let stream = connect(at);
            stream.shutdown(Shutdown::Write).unwrap();
            stream
        })
        .collect();
    let mut slow = connect(at);
    slow.write_all(b"GET /health HTTP/1.1\r\nX-").unwrap();
    for stream in silent.into_iter().chain(half).chain([slow]) {
        read(stream);
    }
    assert!(before.elapsed() < Duration::from_secs(30));
    assert_eq!(get(at, "/health").status, 200);
}

#[test]
fn a_key_is_asked_for_where_there_is_one() {
    let fake = Fake::new(600, Duration::ZERO, Box::new(|_| "a<|end|>".to_owned()));
    let running = start_with(fake, LIMITS, Some("sk-0123"));
    let at = running.server.address;
    let body = question("a", json!({})).to_string();
    let ask = |header: &str| raw(at, format!("{}{body}", head(CHAT, body.len(), header)).as_bytes());
    for wrong in ["", "Authorization: Bearer sk-012\r\n", "Authorization: Basic sk-0123\r\n", "Authorization: \r\n"] {
        let answer = ask(wrong);
        param(&answer, 401);
        assert!(answer.head.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer:?}");
    }
    assert_eq!(get(at, "/v1/models").status, 401);
    assert_eq!(get(at, "/health").status, 200, "whether a server lives is no secret");
    assert_eq!(ask("Authorization: Bearer sk-0123\r\n").status, 200);
}

#[test]
fn who_goes_away_is_no_longer_sampled_for() {
    let fake = Fake::new(100_000, Duration::from_millis(2), Box::new(|_| "a".to_owned()));
    let running = start_with(fake, Limits { cache_tokens: 1_000_000, ..LIMITS }, None);
    let at = running.server.address;
    let streams: Vec<_> = [true, false]
        .into_iter()
        .map(|stream| {
            let body = json!({ "prompt": "a", "max_tokens": 90_000, "stream": stream }).to_string();
            let mut connection = connect(at);
            connection.write_all(format!("{}{body}", head(TEXT, body.len(), "")).as_bytes()).unwrap();
            connection
        })
        .collect();
    let wait_for = |n: usize| {
        let until = Instant::now() + Duration::from_secs(30);
        while running.n_open.load(Ordering::SeqCst) != n {
            assert!(Instant::now() < until, "{} paths are open, not {n}", running.n_open.load(Ordering::SeqCst));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for(2);
    drop(streams);
    wait_for(0);
}
