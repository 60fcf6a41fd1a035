//! What does an API do? A server on this machine with answers written by the test, in order, and a log of what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A request as it arrived.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Asked {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What is sent back.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status, headers and a body, with its length.
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Headers, then a byte at a time for ever.
    Drip,
    /// Nothing, for ever.
    Silence,
    /// The connection ends at once.
    HangUp,
    /// A body that never ends.
    Endless,
}

impl Reply {
    pub fn json(text: &str) -> Reply {
        Reply::Whole(200, vec![("content-type", "application/json".to_owned())], text.as_bytes().to_vec())
    }

    pub fn status(status: u16) -> Reply {
        Reply::Whole(status, Vec::new(), Vec::new())
    }
}

#[derive(Default)]
struct State {
    /// The last one is repeated.
    replies: VecDeque<Reply>,
    log: Vec<Asked>,
}

/// A running server; its threads end with the test.
#[derive(Clone)]
pub struct Server {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start(replies: &[Reply]) -> Server {
        let state = Arc::new(Mutex::new(State { replies: replies.iter().cloned().collect(), log: Vec::new() }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                // A client that goes away ends its own connection only.
                std::thread::spawn(move || stream.and_then(|stream| answer(stream, &shared)));
            }
        });
        Server { address, state }
    }

    pub fn then(&self, replies: &[Reply]) {
        self.lock().replies = replies.iter().cloned().collect();
    }

    /// The requests since the last call.
    pub fn log(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().log)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut asked = Asked::default();
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    asked.method = words.next().unwrap_or_default();
    asked.path = words.next().unwrap_or_default();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let n_bytes = asked.headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; n_bytes];
    reader.read_exact(&mut body)?;
    asked.body = String::from_utf8(body).unwrap();
    let reply = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.log.push(asked);
        match state.replies.len() {
            0 => Reply::status(404),
            1 => state.replies[0].clone(),
            _ => state.replies.pop_front().unwrap(),
        }
    };
    match reply {
        Reply::Whole(status, headers, body) => {
            let mut text = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
            headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
            stream.write_all(text.as_bytes())?;
            stream.write_all(b"\r\n")?;
            stream.write_all(&body)
        }
        Reply::Drip => {
            stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 100000\r\n\r\n")?;
            loop {
                stream.write_all(b" ")?;
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
        // Until the client hangs up.
        Reply::Silence => std::io::copy(&mut reader, &mut std::io::sink()).map(drop),
        Reply::HangUp => Ok(()),
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 x\r\nconnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[b' '; 1 << 16])?;
            }
        }
    }
}
