//! What do strangers' servers do? One on this machine that plays them: by path, in any bytes, at any pace.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens when a path is asked for.
#[derive(Clone)]
pub enum Play {
    /// These bytes, and the connection ends.
    Bytes(Vec<u8>),
    /// These bytes, then a piece again and again, with a pause before each, for as long as the client stays.
    Endless { begin: Vec<u8>, piece: Vec<u8>, pause: Duration },
    /// One after another, the last for good.
    Turns(Vec<Play>),
}

/// A running server; its threads end with the test.
pub struct Server {
    /// `127.0.0.1:port`
    pub host: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start(plays: Vec<(&str, Play)>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let plays: BTreeMap<String, Play> = plays.into_iter().map(|(path, play)| (path.to_owned(), play)).collect();
        let plays = Arc::new(plays);
        let log = Arc::new(Mutex::new(Vec::new()));
        let server = Server { host, log: Arc::clone(&log) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (plays, log) = (Arc::clone(&plays), Arc::clone(&log));
                // A client that goes away ends its own connection only.
                std::thread::spawn(move || stream.and_then(|stream| answer(stream, &plays, &log)));
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    /// Heads of the requests so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(mut stream: TcpStream, plays: &BTreeMap<String, Play>, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = String::new();
    let mut lines = BufReader::new(stream.try_clone()?);
    while !head.ends_with("\r\n\r\n") {
        if lines.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let n_before = {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let n_before = log.iter().filter(|other| other.split(' ').nth(1) == Some(&path)).count();
        log.push(head);
        n_before
    };
    let mut play = plays.get(&path).cloned().unwrap_or_else(|| Play::Bytes(response("404 Not Found", "", b"")));
    while let Play::Turns(turns) = play {
        play = turns[n_before.min(turns.len() - 1)].clone();
    }
    match play {
        Play::Bytes(bytes) => stream.write_all(&bytes),
        Play::Endless { begin, piece, pause } => {
            stream.write_all(&begin)?;
            loop {
                std::thread::sleep(pause);
                stream.write_all(&piece)?;
            }
        }
        Play::Turns(_) => Ok(()),
    }
}

/// A whole answer; `headers` are lines that end in CRLF.
pub fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub fn html(body: &str) -> Play {
    Play::Bytes(response("200 OK", "Content-Type: text/html; charset=utf-8\r\n", body.as_bytes()))
}

pub fn typed(content_type: &str, body: &[u8]) -> Play {
    Play::Bytes(response("200 OK", &format!("Content-Type: {content_type}\r\n"), body))
}

pub fn redirect(to: &str) -> Play {
    Play::Bytes(response("302 Found", &format!("Location: {to}\r\nSet-Cookie: id=1\r\n"), b""))
}
