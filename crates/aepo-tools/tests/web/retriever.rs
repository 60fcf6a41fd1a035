//! Do we speak the retriever API, as its client and as its server, in both of its shapes?
//!
//! The pairs in `golden/` were written by hand from the format of Search-R1's `retrieval_server.py` (a14dc3a).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aepo_tools::http::{HttpError, Request};
use aepo_tools::search::disk::{BuildSettings, DiskIndex, build};
use aepo_tools::search::retriever::Retriever;
use aepo_tools::search::{Document, Hit};
use aepo_tools::serve::{Gate, Server as Serving, retrieve};
use serde_json::{Value, json};

use crate::http::quick;
use crate::server::{Reply, Server};

const GOLDEN: &[(&str, &str)] = &[
    ("bm25 with scores", include_str!("golden/bm25_scores.json")),
    ("bm25 without scores", include_str!("golden/bm25_bare.json")),
    ("dense with scores", include_str!("golden/dense_scores.json")),
    ("web server", include_str!("golden/serp.json")),
    ("fewer than asked for", include_str!("golden/none.json")),
];

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn find(server: &Server, query: &str, n: usize) -> Result<Vec<Hit>, HttpError> {
    Retriever { client: quick(), url: format!("{}/retrieve", server.address) }.search(query, n, soon())
}

#[test]
fn the_client_asks_and_reads_recorded_pairs() {
    for (name, pair) in GOLDEN {
        let pair: Value = serde_json::from_str(pair).unwrap();
        let server = Server::start(&[Reply::json(&pair["response"].to_string())]);
        let query = pair["request"]["queries"][0].as_str().unwrap();
        let hits = find(&server, query, 3).unwrap();
        let asked = server.log().remove(0);
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/retrieve"));
        assert_eq!(asked.json(), json!({"queries": [query], "topk": 3, "return_scores": true}));
        let seen = |hit: &Hit| {
            let d = &hit.document;
            json!({"id": d.id, "title": d.title, "text": d.text, "score": hit.score})
        };
        let found: Vec<Value> = hits.iter().map(seen).collect();
        assert_eq!(Value::Array(found), pair["hits"], "{name}");
    }
}

#[test]
fn a_client_meets_bad_servers() {
    let server = Server::start(&[]);
    for strange in [
        "{}",
        "[]",
        "{\"result\": 1}",
        "{\"result\": []}",
        "{\"result\": [[], []]}",
        "{\"result\": [{}]}",
        "{\"result\": [[1]]}",
        "{\"result\": [[{\"document\": {\"id\": 1}}]]}",
        "{\"result\": [[{\"contents\": 1}]]}",
    ] {
        server.then(&[Reply::json(strange)]);
        assert!(matches!(find(&server, "q", 3), Err(HttpError::Form { .. })), "{strange}");
    }
    server.then(&[Reply::status(500), Reply::json("{\"result\": [[]]}")]);
    assert_eq!(find(&server, "q", 3).unwrap(), []);
    server.then(&[Reply::Whole(422, Vec::new(), b"{\"detail\": \"topk\"}".to_vec())]);
    let error = find(&server, "q", 3).unwrap_err().to_string();
    assert!(error.contains("422: topk"), "{error}");
    server.then(&[Reply::Silence]);
    let retriever = Retriever { client: quick(), url: format!("{}/retrieve", server.address) };
    let error = retriever.search("q", 3, Instant::now() + Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error, HttpError::Deadline { .. }), "{error}");
    // More than asked for is cut.
    let many = json!({"result": [[{"id": "1", "contents": "a"}, {"id": "2", "contents": "b"}]]});
    server.then(&[Reply::json(&many.to_string())]);
    assert_eq!(find(&server, "q", 1).unwrap().len(), 1);
}

/// An index of a few articles, and a server of it.
fn serving(folder: &Path) -> (Arc<DiskIndex>, Serving) {
    let corpus = folder.join("corpus.jsonl");
    let rows = [
        json!({"id": "moon", "contents": "\"Moon\"\nThe Moon is Earth's only natural satellite."}),
        json!({"id": "mars", "title": "Mars", "text": "Mars has two moons, Phobos and Deimos."}),
        json!({"id": 7, "title": "Seven", "text": "A number."}),
    ];
    std::fs::write(&corpus, rows.map(|row| row.to_string()).join("\n")).unwrap();
    let out = folder.join("index");
    build(&BuildSettings::new(corpus, out.clone()), |_| std::ops::ControlFlow::Continue(())).unwrap();
    let index = Arc::new(DiskIndex::open(&out).unwrap());
    let routes = retrieve::route(Arc::clone(&index), Gate::new(2), retrieve::DEFAULT_TOPK);
    (index, Serving::start("127.0.0.1:0", routes).unwrap())
}

#[test]
fn the_server_answers_both_shapes_and_our_client_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let (index, server) = serving(folder.path());
    let url = format!("http://{}/retrieve", server.address);
    let ask = |body: Value| quick().json(Request { url: &url, query: &[], key: None, body: Some(&body) }, soon());
    let moon = json!({"id": "moon", "contents": "\"Moon\"\nThe Moon is Earth's only natural satellite.", "title": "Moon",
        "text": "The Moon is Earth's only natural satellite."});
    let bare = ask(json!({"queries": ["moon", "zebra", "seven"], "topk": 1})).unwrap();
    let seven = json!({"id": "7", "contents": "\"Seven\"\nA number.", "title": "Seven", "text": "A number."});
    assert_eq!(bare, json!({"result": [[moon], [], [seven]]}));
    let scored = ask(json!({"queries": ["moon"], "topk": 0, "return_scores": true})).unwrap();
    assert_eq!(scored["result"][0][0]["document"], moon);
    assert_eq!(scored["result"][0].as_array().unwrap().len(), 2, "fewer than the default of 3");
    assert_eq!(ask(json!({"queries": [], "topk": null})).unwrap(), json!({"result": []}));
    for bad in [json!({}), json!({"queries": "moon"}), json!([1])] {
        assert!(matches!(ask(bad), Err(HttpError::Status { status: 422, .. })));
    }
    let long = json!({"queries": ["x".repeat(17 << 20)]});
    assert!(matches!(ask(long), Err(HttpError::Status { status: 413, .. } | HttpError::Network { .. })));

    let retriever = Retriever { client: quick(), url: url.clone() };
    for query in ["moon", "Phobos and the moon", "zebra", "AND OR (\"", ""] {
        let here = index.search(query, 3).unwrap();
        let there = retriever.search(query, 3, soon()).unwrap();
        assert_eq!(there, here, "{query}: over the network is as here");
    }
    // What it says about a document can be turned into the document again.
    for hit in index.search("moon number", 9).unwrap() {
        let d = hit.document;
        assert_eq!(Document::from_contents(d.id.clone(), &d.contents()), d);
    }
    assert!(!server.has_ended());
    // Somebody who begins a request and never ends it does not hold the server up.
    let mut slow = std::net::TcpStream::connect(server.address).unwrap();
    std::io::Write::write_all(&mut slow, b"POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{").unwrap();
    let began = Instant::now();
    drop(server);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert!(matches!(retriever.search("moon", 3, soon()), Err(HttpError::Network { .. })), "it has stopped");
}
