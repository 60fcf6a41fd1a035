//! How is an index offered to other programs? As the retriever API that Search-R1, verl and ARPO share.
//!
//! `POST /retrieve {"queries": […], "topk": n, "return_scores": b}` gives `{"result": [[…], …]}`, a list per query: of
//! `{"document": {"id", "contents", "title", "text"}, "score"}` where scores were asked for, of the bare documents where
//! not (Search-R1 a14dc3a, retrieval_server.py). A `topk` of null, 0 or none is the server's own. Fewer documents than
//! asked for, and none, are answers.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};

use super::{Gate, complain, json as answer};
use crate::search::Hit;
use crate::search::disk::DiskIndex;

/// Documents per query where the request does not say.
pub const DEFAULT_TOPK: usize = 3;
/// Most documents per query.
const MAX_TOPK: u64 = 1000;
/// Most queries of one request.
const MAX_QUERIES: usize = 10_000;

/// The route `POST /retrieve` over an index.
pub fn route(index: Arc<DiskIndex>, gate: Gate, default_topk: usize) -> Router {
    let handle = move |body: Body| {
        let (index, gate) = (Arc::clone(&index), gate.clone());
        async move { gate.answer(body, move |bytes| respond(&index, &bytes, default_topk)).await }
    };
    Router::new().route("/retrieve", post(handle))
}

/// What a request asks for.
#[derive(Debug, PartialEq)]
struct Asked {
    queries: Vec<String>,
    topk: usize,
    return_scores: bool,
}

fn respond(index: &DiskIndex, bytes: &[u8], default_topk: usize) -> Response {
    let asked = match read(bytes, default_topk) {
        Ok(asked) => asked,
        Err(why) => return complain(StatusCode::UNPROCESSABLE_ENTITY, &why),
    };
    let mut lists = Vec::new();
    for query in &asked.queries {
        match index.search(query, asked.topk) {
            Ok(hits) => lists.push(hits.iter().map(|hit| shown(hit, asked.return_scores)).collect()),
            Err(error) => return complain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
    answer(StatusCode::OK, &json!({ "result": Value::Array(lists) }))
}

fn shown(hit: &Hit, with_score: bool) -> Value {
    let d = &hit.document;
    let document = json!({ "id": d.id, "contents": d.contents(), "title": d.title, "text": d.text });
    if with_score { json!({ "document": document, "score": hit.score }) } else { document }
}

fn read(bytes: &[u8], default_topk: usize) -> Result<Asked, String> {
    let request: Value = serde_json::from_slice(bytes).map_err(|e| format!("the request is no JSON ({e})"))?;
    let texts = || request.get("queries")?.as_array()?.iter().map(|q| q.as_str().map(str::to_owned)).collect();
    let queries: Vec<String> = Option::<Vec<String>>::ok_or(texts(), "`queries` must be a list of texts")?;
    if queries.len() > MAX_QUERIES {
        return Err(format!("{} queries; one request holds at most {MAX_QUERIES}", queries.len()));
    }
    let topk = match request.get("topk") {
        None | Some(Value::Null) => default_topk,
        Some(n) => match n.as_u64() {
            Some(0) => default_topk,
            Some(n) => usize::try_from(n.min(MAX_TOPK)).unwrap_or(default_topk),
            None => return Err("`topk` must be a whole number, not below 0, or null".to_owned()),
        },
    };
    let return_scores = match request.get("return_scores") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(b)) => *b,
        Some(_) => return Err("`return_scores` must be true or false".to_owned()),
    };
    Ok(Asked { queries, topk, return_scores })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_its_clients_write_it() {
        let asked = |text: &str| read(text.as_bytes(), 3);
        let whole = asked(r#"{"queries": ["a", ""], "topk": 5, "return_scores": true}"#).unwrap();
        assert_eq!(whole, Asked { queries: vec!["a".into(), String::new()], topk: 5, return_scores: true });
        for topk in ["", ", \"topk\": null", ", \"topk\": 0"] {
            let asked = asked(&format!("{{\"queries\": [\"a\"]{topk}}}")).unwrap();
            assert_eq!((asked.topk, asked.return_scores), (3, false), "{topk}");
        }
        assert_eq!(asked(r#"{"queries": [], "topk": 99999999}"#).unwrap().topk, 1000);
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"queries": "a"}"#,
            r#"{"queries": [1]}"#,
            r#"{"queries": [], "topk": -1}"#,
            r#"{"queries": [], "topk": "3"}"#,
            r#"{"queries": [], "return_scores": 1}"#,
        ] {
            assert!(asked(bad).is_err(), "{bad}");
        }
    }
}
