//! How does a test speak to the server? In bytes of HTTP/1.1 over a socket of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use aepo::prompt::served::Talk;
use aepo_tools::http::Secret;
use aepo_tools::serve::Server;
pub use aepo_tools::serve::openai::desk::Limits;
use aepo_tools::serve::openai::desk::Worker;
use aepo_tools::serve::openai::{Key, Served, routes};
use serde_json::{Value, json};

use crate::fake::{Fake, tokenizer};

/// A server over a fake; fields are dropped in this order.
pub struct Running {
    pub worker: Option<Worker>,
    pub server: Server,
    pub n_open: Arc<AtomicUsize>,
}

pub const LIMITS: Limits = Limits { cache_tokens: 20_000, max_live: 256, max_waiting: 256 };

pub fn start_with(fake: Fake, limits: Limits, key: Option<&str>) -> Running {
    let n_open = Arc::clone(&fake.n_open);
    let (desk, worker) = Worker::start(fake, limits).unwrap();
    let served = Served {
        name: "fake".to_owned(),
        talk: Arc::new(Talk::tags(tokenizer()).unwrap()),
        desk,
        default_max_tokens: 100,
        key: key.map(|key| Key::new(&Secret::of(key).unwrap())),
        body_patience: Duration::from_millis(700),
    };
    let server = Server::start_with("127.0.0.1:0", routes(served), Duration::from_millis(700)).unwrap();
    Running { worker: Some(worker), server, n_open }
}

/// Answers what its table says, and otherwise that it does not know.
pub fn start() -> Running {
    let say = |prompt: &str| {
        let question = prompt.rsplit("<|user|>").next().unwrap_or_default();
        let says = |part: &str| question.contains(part);
        match () {
            () if says("</result>") => "<think> a</think><answer>\\boxed{ 5}</answer><|end|>",
            () if says("call") => "<think> I look.</think><search> Algeria area</search>",
            () if says("long") => " It is 12 + 34.",
            () => "<answer>\\boxed{ no}</answer><|end|>",
        }
        .to_owned()
    };
    start_with(Fake::new(600, Duration::ZERO, Box::new(say)), LIMITS, None)
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The events of a stream; the last is `[DONE]`, which is left out.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        assert!(self.head.contains("text/event-stream"), "{self:?}");
        let mut lines: Vec<&str> = self.body.split_terminator("\n\n").collect();
        assert_eq!(lines.pop(), Some("data: [DONE]"), "{}", self.body);
        lines.iter().map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap()).collect()
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// The head of a request with a JSON body of so many bytes.
pub fn head(path: &str, n_bytes: usize, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: \
         {n_bytes}\r\n{more}\r\n"
    )
}

/// Reads an answer up to the end of the connection.
pub fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A server that refuses a body hangs up before it has read all of it.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => unchunked(body),
        false => body.to_owned(),
    };
    Answer { status, head: head.to_owned(), body }
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let n = usize::from_str_radix(length, 16).unwrap();
        text += &rest[..n.min(rest.len())];
        body = rest.get(n + 2..).unwrap_or_default();
    }
    text
}

pub fn raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = connect(address);
    let _ = stream.write_all(bytes);
    read(stream)
}

pub fn post_text(address: SocketAddr, path: &str, body: &str) -> Answer {
    raw(address, format!("{}{body}", head(path, body.len(), "")).as_bytes())
}

pub fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    post_text(address, path, &body.to_string())
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    raw(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
}

pub const CHAT: &str = "/v1/chat/completions";
pub const TEXT: &str = "/v1/completions";

/// A question with further fields.
pub fn question(text: &str, more: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": text }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}
