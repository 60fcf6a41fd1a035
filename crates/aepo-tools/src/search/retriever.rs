//! What does somebody else's index find? The retriever API that Search-R1, verl and ARPO share, asked as a client.
//!
//! `POST {"queries": [q], "topk": n, "return_scores": true}` gives `{"result": [[…]]}`, a list per query, whose items are
//! `{"document": {…}, "score": x}`, or bare documents from servers that know no scores (Search-R1 a14dc3a,
//! retrieval_server.py). A document holds `contents` (title in quotes on its first line), and sometimes `title` and
//! `text`, and an `id`, which some servers leave out.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Document, Hit};
use crate::http::{Client, HttpError, Request, tls};

/// A retriever on the network.
#[derive(Clone, Debug)]
pub struct Retriever {
    /// Who asks it.
    pub client: Client,
    /// Its address, whole: `http://host:8000/retrieve`.
    pub url: String,
}

impl Retriever {
    /// The best documents, at most `n`, in the server's order. Fewer are an answer too.
    pub fn search(&self, query: &str, n: usize, deadline: Instant) -> Result<Vec<Hit>, HttpError> {
        // 0 and null would mean the server's own default.
        let body = json!({ "queries": [query], "topk": n.max(1), "return_scores": true });
        let request = Request { url: &self.url, query: &[], key: None, body: Some(&body) };
        let answer = self.client.json(request, deadline)?;
        let host = || tls::origin(&self.url).unwrap_or_default().to_owned();
        let mut hits = read(&answer).map_err(|missing| HttpError::Form { host: host(), missing })?;
        hits.truncate(n);
        Ok(hits)
    }
}

/// The documents for the only query; an error names what is missing.
fn read(answer: &Value) -> Result<Vec<Hit>, &'static str> {
    let lists = answer.get("result").and_then(Value::as_array).ok_or("list `result`")?;
    let [Value::Array(found)] = &lists[..] else { return Err("list in `result` for the query alone") };
    found.iter().map(hit).collect()
}

fn hit(item: &Value) -> Result<Hit, &'static str> {
    let document = item.get("document").unwrap_or(item);
    let text_of = |key: &str| document.get(key).and_then(Value::as_str);
    let id = match document.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => String::new(),
    };
    let found = match (text_of("title"), text_of("text"), text_of("contents")) {
        (title, Some(text), None) => {
            Document { id, title: title.unwrap_or_default().to_owned(), text: text.to_owned() }
        }
        (Some(title), Some(text), _) => {
            Document { id, title: title.trim_matches('"').to_owned(), text: text.to_owned() }
        }
        (_, _, Some(contents)) => Document::from_contents(id, contents),
        (_, None, None) => return Err("`contents` or `text` in a document"),
    };
    Ok(Hit { document: found, url: None, score: item.get("score").and_then(Value::as_f64) })
}
