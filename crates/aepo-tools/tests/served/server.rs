//! What does a served model look like from outside? OpenAI's chat completions as a test plays them: it knows answers to
//! questions, counts every request by its content, and misbehaves where it is told to.

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered.
    None,
    /// An HTTP status, with a short `Retry-After`.
    Status(u16),
    /// Half of the answer, and then the connection ends.
    Half,
    /// Something that is no JSON.
    Garbage,
    /// JSON that is no answer.
    Form,
    /// It is answered, late.
    Late(Duration),
}

/// What the model says to a conversation: the messages' contents, in order.
pub type Say = dyn Fn(&[String]) -> String + Send + Sync;
/// What is done with the n-th request, counted from 0.
pub type Misbehave = dyn Fn(u64) -> Fault + Send + Sync;

#[derive(Default)]
struct State {
    /// Requests by their whole body.
    asked: BTreeMap<String, u64>,
    /// Those that were answered to the end.
    answered: u64,
}

/// A running server; its threads end with the test.
#[derive(Clone)]
pub struct Served {
    /// Up to and with the version.
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Served {
    /// Starts it. Turns end where `stop` says, and the server says which text ended them if `says_stop`.
    pub fn start(says_stop: bool, say: Arc<Say>, misbehave: Arc<Misbehave>) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let served = Served { url, state: Arc::default() };
        let (shared, n_asked) = (served.clone(), Arc::new(AtomicU64::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, n_asked) = (shared.clone(), Arc::clone(&n_asked));
                let (say, misbehave) = (Arc::clone(&say), Arc::clone(&misbehave));
                // A client that goes away ends its own connection only.
                std::thread::spawn(move || shared.talk(&stream, says_stop, &*say, &*misbehave, &n_asked));
            }
        });
        served
    }

    /// Requests by their whole body, with how often each came.
    pub fn asked(&self) -> BTreeMap<String, u64> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }

    /// Requests that were answered to the end.
    pub fn n_answered(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).answered
    }

    /// Requests on one connection, until it ends.
    fn talk(
        &self,
        stream: &TcpStream,
        says_stop: bool,
        say: &Say,
        misbehave: &Misbehave,
        n_asked: &AtomicU64,
    ) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let Some(body) = request(&mut reader)? else { return Ok(()) };
            *self.state.lock().unwrap_or_else(PoisonError::into_inner).asked.entry(body.clone()).or_insert(0) += 1;
            let answer = completion(&serde_json::from_str(&body)?, says_stop, say).to_string();
            match misbehave(n_asked.fetch_add(1, Ordering::SeqCst)) {
                Fault::None => {}
                Fault::Late(by) => std::thread::sleep(by),
                Fault::Status(status) => {
                    let head = format!("HTTP/1.1 {status} x\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n");
                    (&*stream).write_all(head.as_bytes())?;
                    continue;
                }
                Fault::Half => {
                    let head = format!("HTTP/1.1 200 x\r\ncontent-length: {}\r\n\r\n", answer.len());
                    (&*stream).write_all(&[head.as_bytes(), &answer.as_bytes()[..answer.len() / 2]].concat())?;
                    return stream.shutdown(std::net::Shutdown::Both);
                }
                Fault::Garbage => {
                    send(stream, "<html>bad gateway</html>")?;
                    continue;
                }
                Fault::Form => {
                    send(stream, "{\"choices\": []}")?;
                    continue;
                }
            }
            send(stream, &answer)?;
            self.state.lock().unwrap_or_else(PoisonError::into_inner).answered += 1;
        }
    }
}

fn send(mut stream: &TcpStream, body: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())
}

/// The body of the next request; `None` where the client has gone.
fn request(reader: &mut impl std::io::BufRead) -> std::io::Result<Option<String>> {
    let (mut line, mut n_bytes) = (String::new(), 0);
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            n_bytes = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; n_bytes];
    reader.read_exact(&mut body)?;
    Ok(Some(String::from_utf8(body).unwrap_or_default()))
}

/// The answer, cut at the first text that ends a turn.
fn completion(asked: &Value, says_stop: bool, say: &Say) -> Value {
    let contents = asked["messages"].as_array().into_iter().flatten();
    let contents: Vec<String> = contents.map(|m| m["content"].as_str().unwrap_or_default().to_owned()).collect();
    let mut text = say(&contents);
    let stops = asked["stop"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let first = stops.filter_map(|stop| Some((text.find(stop)?, stop.to_owned()))).min();
    let stop = first.map(|(at, stop)| {
        text.truncate(at);
        stop
    });
    let (n_read, n_written) = (contents.iter().map(String::len).sum::<usize>() / 4, text.len() / 4 + 1);
    let message = json!({ "role": "assistant", "content": text });
    let mut choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
    if says_stop {
        choice["stop_reason"] = json!(stop);
    }
    json!({
        "object": "chat.completion", "model": asked["model"], "choices": [choice],
        "usage": { "prompt_tokens": n_read, "completion_tokens": n_written, "total_tokens": n_read + n_written },
    })
}
