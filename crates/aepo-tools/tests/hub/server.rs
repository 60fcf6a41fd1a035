//! What does a hub do? A server of one repository on this machine, with a second address for large files, and faults.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const REPO: &str = "maker/tiny";

/// Files of this size and more are kept at the second address.
pub const LARGE: usize = 1000;

/// What goes wrong with requests whose path contains a text, so often.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A status, with a header of its own.
    Status(u16, &'static str),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Silence after so many bytes of the body.
    Stall(usize),
    /// Other bytes than announced.
    Damaged,
    /// More bytes than announced, without a length.
    Longer,
    /// The whole file, whatever part was asked for.
    Whole,
    /// A header with another value.
    Header(&'static str, &'static str),
    /// A redirect.
    Elsewhere(String),
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
    /// Whether it came to the second address.
    pub away: bool,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// What the description lists besides.
    also_listed: Vec<String>,
    faults: Vec<(String, Fault, usize)>,
    log: Vec<Request>,
    away: String,
    /// Connections that stand still, kept open.
    silent: Vec<TcpStream>,
}

/// A running server; its threads end with the test.
#[derive(Clone)]
pub struct Server {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start(files: &[(&str, &[u8])]) -> Server {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let mut addresses = ["", ""].map(str::to_owned);
        for (away, address) in [false, true].into_iter().zip(&mut addresses) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            *address = format!("http://{}", listener.local_addr().unwrap());
            let state = state.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let state = state.clone();
                    // A client that goes away ends its own connection only.
                    std::thread::spawn(move || stream.and_then(|stream| answer(stream, away, &state)));
                }
            });
        }
        let [endpoint, address] = addresses;
        lock(&state).away = address;
        Server { endpoint, state }
    }

    pub fn fail(&self, path: &str, fault: Fault, times: usize) {
        lock(&self.state).faults.push((path.to_owned(), fault, times));
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        lock(&self.state).files.insert(name.to_owned(), bytes.to_vec());
    }

    pub fn list_also(&self, name: &str) {
        lock(&self.state).also_listed.push(name.to_owned());
    }

    /// The requests since the last call.
    pub fn log(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.state).log)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&SHA256, bytes).as_ref())
}

pub fn etag(bytes: &[u8]) -> String {
    if bytes.len() >= LARGE {
        return sha256(bytes);
    }
    let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    sum.update(format!("blob {}\0", bytes.len()).as_bytes());
    sum.update(bytes);
    hex(sum.finish().as_ref())
}

/// What is sent back.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes of the body that are sent, and whether the connection stays open behind them.
    sent: Option<(usize, bool)>,
    has_length: bool,
}

impl Reply {
    fn new(status: u16, body: &[u8]) -> Reply {
        Reply { status, headers: Vec::new(), body: body.to_vec(), sent: None, has_length: true }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.retain(|(other, _)| other != name);
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

fn answer(mut stream: TcpStream, away: bool, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        range: None,
        authorization: None,
        away,
    };
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => request.range = Some(value.to_owned()),
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                request.authorization = Some(value.to_owned());
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut state = lock(state);
    state.log.push(request.clone());
    let mut reply = reply(&state, &request);
    let fault = state.faults.iter_mut().find(|(path, _, left)| *left > 0 && request.path.contains(path.as_str()));
    let fault = fault.map(|(_, fault, left)| {
        *left -= 1;
        fault.clone()
    });
    match fault {
        None | Some(Fault::Whole) if reply.status < 300 => {
            let whole = matches!(fault, Some(Fault::Whole));
            let from = request.range.as_ref().filter(|_| !whole);
            let from: Option<usize> = from.map(|r| r["bytes=".len()..].trim_end_matches('-').parse().unwrap());
            if let Some(from) = from {
                let n = reply.body.len();
                reply = match from < n {
                    true => Reply { status: 206, body: reply.body.split_off(from), ..reply }
                        .with("content-range", format!("bytes {from}-{}/{n}", n - 1)),
                    false => Reply::new(416, b""),
                };
            }
        }
        None | Some(Fault::Whole) => {}
        Some(Fault::Status(status, header)) => {
            reply = Reply::new(status, b"no");
            if let Some((name, value)) = header.split_once(": ") {
                reply = reply.with(name, value);
            }
        }
        Some(Fault::Cut(n)) => reply.sent = Some((n, false)),
        Some(Fault::Stall(n)) => reply.sent = Some((n, true)),
        Some(Fault::Damaged) => reply.body.iter_mut().for_each(|b| *b ^= 1),
        Some(Fault::Longer) => {
            reply.body.extend_from_slice(b"more");
            reply.has_length = false;
        }
        Some(Fault::Header(name, value)) => reply = reply.with(name, value),
        Some(Fault::Elsewhere(to)) => reply = Reply::new(302, b"").with("location", to),
    }
    let mut text = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", reply.status);
    let length = reply.headers.iter().any(|(name, _)| name == "content-length");
    if reply.has_length && !length {
        text += &format!("content-length: {}\r\n", reply.body.len());
    }
    reply.headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    text += "\r\n";
    let body = if request.method == "HEAD" { &[][..] } else { &reply.body };
    match reply.sent {
        // Not even the headers.
        Some((0, open)) => {
            if open {
                state.silent.push(stream);
            }
            Ok(())
        }
        Some((n, open)) => {
            stream.write_all(text.as_bytes())?;
            stream.write_all(&body[..n.min(body.len())])?;
            if open {
                state.silent.push(stream);
            }
            Ok(())
        }
        None => {
            drop(state);
            stream.write_all(text.as_bytes())?;
            stream.write_all(body)
        }
    }
}

/// The answer of a hub in order.
fn reply(state: &State, request: &Request) -> Reply {
    let path = request.path.as_str();
    if request.away {
        let found = state.files.values().find(|bytes| path.strip_prefix("/blob/") == Some(&sha256(bytes)));
        return found.map_or_else(|| Reply::new(404, b""), |bytes| Reply::new(200, bytes));
    }
    if let Some(rest) = path.strip_prefix(&format!("/api/models/{REPO}/revision/")) {
        if !["main", "refs%2Fpr%2F1", COMMIT].contains(&rest) {
            return Reply::new(404, b"").with("x-error-code", "RevisionNotFound");
        }
        let names = state.files.keys().chain(&state.also_listed);
        let siblings: Vec<_> = names.map(|name| serde_json::json!({ "rfilename": name })).collect();
        let json = serde_json::json!({ "sha": COMMIT, "siblings": siblings });
        return Reply::new(200, json.to_string().as_bytes());
    }
    let file = path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/")).and_then(|file| state.files.get(file));
    let Some(bytes) = file else {
        return Reply::new(404, b"").with("x-error-code", "RepoNotFound");
    };
    if bytes.len() < LARGE {
        return Reply::new(200, bytes).with("etag", format!("\"{}\"", etag(bytes))).with("x-repo-commit", COMMIT);
    }
    Reply::new(302, b"")
        .with("etag", "\"of-the-redirect\"")
        .with("x-linked-etag", format!("\"{}\"", sha256(bytes)))
        .with("x-linked-size", bytes.len())
        .with("x-repo-commit", COMMIT)
        .with("location", format!("{}/blob/{}", state.away, sha256(bytes)))
}
