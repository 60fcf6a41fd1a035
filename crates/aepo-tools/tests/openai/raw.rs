//! How does a test speak to a server of OpenAI's API? In bytes of HTTP/1.1 over a socket of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

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
