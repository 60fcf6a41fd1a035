//! Does the same hold over streamable HTTP? A server inside the test plays each part.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use aepo::tool::ToolOutcome;
use aepo_tools::mcp::{Mcp, McpError, McpFile, McpSettings};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::any;
use serde_json::{Value, json};

use crate::{PATIENT, SHORT, SLACK, call, resident_mb};

/// What the server does, and what it has counted.
struct Part {
    mode: &'static str,
    n_sessions: AtomicUsize,
    n_calls: AtomicUsize,
    n_elsewhere: AtomicUsize,
}

/// Plays a part until the test ends; gives its address.
fn play(mode: &'static str) -> (String, Arc<Part>) {
    let zero = AtomicUsize::default;
    let part = Arc::new(Part { mode, n_sessions: zero(), n_calls: zero(), n_elsewhere: zero() });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/mcp?key=s3cr3t-k3y", listener.local_addr().unwrap());
    let theirs = Arc::clone(&part);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let app = Router::new().route("/mcp", any(answer)).route("/elsewhere", any(elsewhere)).with_state(theirs);
            axum::serve(listener, app).await.unwrap();
        });
    });
    (url, part)
}

async fn elsewhere(State(part): State<Arc<Part>>) -> StatusCode {
    part.n_elsewhere.fetch_add(1, Ordering::Relaxed);
    StatusCode::OK
}

fn respond(status: u16, kind: &str, session: usize, body: impl Into<Body>) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .header("mcp-session-id", format!("session-{session}"))
        .body(body.into())
        .unwrap()
}

async fn answer(State(part): State<Arc<Part>>, method: Method, headers: HeaderMap, body: String) -> Response {
    let session = part.n_sessions.load(Ordering::Relaxed);
    if method != Method::POST {
        return respond(405, "text/plain", session, "");
    }
    if headers.get("authorization").is_none_or(|value| value != "Bearer s3cr3t-k3y") {
        return respond(401, "text/plain", session, "who are you?");
    }
    let message: Value = serde_json::from_str(&body).unwrap();
    let Some(id) = message["id"].as_i64() else { return respond(202, "application/json", session, "") };
    let params = &message["params"];
    let tools = || {
        let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}});
        json!([{"name": "echo", "inputSchema": schema}, {"name": "act", "inputSchema": {"type": "object"}}])
    };
    let result = match (message["method"].as_str().unwrap(), params["name"].as_str()) {
        ("initialize", _) => {
            let session = part.n_sessions.fetch_add(1, Ordering::Relaxed) + 1;
            match part.mode {
                "start-500" => return respond(500, "text/plain", session, "out of order"),
                "start-hang" => std::future::pending().await,
                _ => {}
            }
            let version = &params["protocolVersion"];
            let info = json!({"name": "fake", "version": "1"});
            let result = json!({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info});
            let body = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
            return respond(200, "application/json", session, body);
        }
        ("tools/call", Some("act")) => {
            let n_before = part.n_calls.fetch_add(1, Ordering::Relaxed);
            match part.mode {
                "500" => return respond(500, "text/plain", session, "out of order"),
                "hang" | "hang-all" => std::future::pending().await,
                "html" => return respond(200, "text/html", session, "<html>a page</html>"),
                "wrong-id" => {
                    let body = json!({"jsonrpc": "2.0", "id": id + 1000, "result": {"content": []}}).to_string();
                    return respond(200, "application/json", session, body);
                }
                "no-json" => return respond(200, "application/json", session, "{ this is no JSON }"),
                "long-body" => return respond(200, "application/json", session, vec![b'a'; 50 << 20]),
                "long-event" => return respond(200, "text/event-stream", session, vec![b'a'; 50 << 20]),
                "redirect" => {
                    let mut response = respond(307, "text/plain", session, "");
                    response.headers_mut().insert(header::LOCATION, "/elsewhere".parse().unwrap());
                    return response;
                }
                "forgets" if n_before == 0 => return respond(404, "text/plain", session, "no such session"),
                "forgets-always" => return respond(404, "text/plain", session, "no such session"),
                _ => json!({"content": [{"type": "text", "text": "done"}]}),
            }
        }
        ("tools/call", _) => json!({"content": [{"type": "text", "text": params["arguments"]["text"]}]}),
        ("tools/list", _) => json!({"tools": tools()}),
        // The second session begins with pings.
        ("ping", _) if part.mode == "hang-all" && part.n_calls.load(Ordering::Relaxed) == 1 && session == 1 => {
            std::future::pending().await
        }
        _ => json!({}),
    };
    let body = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
    match part.mode {
        "sse" => respond(200, "text/event-stream", session, format!("event: message\ndata: {body}\n\n")),
        _ => respond(200, "application/json", session, body),
    }
}

fn start(url: &str, settings: McpSettings) -> Result<Mcp, McpError> {
    let server = json!({"url": url, "headers": {"Authorization": "Bearer ${KEY}"}});
    let text = json!({"mcpServers": {"fake": server}}).to_string();
    Mcp::start(&McpFile::parse(&text, |_| Some("s3cr3t-k3y".to_owned())).unwrap(), settings)
}

#[track_caller]
fn check(mode: &'static str, outcome: ToolOutcome, words: &str, n_starts: u64) {
    let (url, part) = play(mode);
    let mcp = start(&url, McpSettings::default()).unwrap();
    let within = if mode.starts_with("hang") { SHORT } else { PATIENT };
    let (before, began) = (resident_mb(), Instant::now());
    let (found, text) = call(&mcp, "fake__act", json!({}), within);
    assert!(began.elapsed() < within + SLACK, "{mode}: {:?}", began.elapsed());
    // The server is in this process, and holds the whole of a long answer.
    assert!(resident_mb() - before < 300.0, "{mode}: {before} MiB before, {} MiB after", resident_mb());
    assert_eq!(found, outcome, "{mode}: {text}");
    assert!(text.contains(words), "{mode}: {text}");
    assert!(text.len() < 2000 && !text.contains("s3cr3t"), "{mode}: {text}");
    let (found, text) = call(&mcp, "fake__echo", json!({"text": "still here"}), PATIENT);
    assert_eq!((found, text.as_str()), (ToolOutcome::Ok, "still here"), "{mode}");
    assert_eq!(mcp.stats()[0].n_starts, n_starts, "{mode}");
    assert_eq!(part.n_elsewhere.load(Ordering::Relaxed), 0, "a redirect was followed");
}

#[test]
fn answers_come_as_bodies_and_as_events() {
    check("ok", ToolOutcome::Ok, "done", 1);
    check("sse", ToolOutcome::Ok, "done", 1);
}

#[test]
fn failures_are_told_apart() {
    use ToolOutcome::{Timeout, Unavailable};
    check("500", Unavailable, "500", 1);
    check("html", Unavailable, "it answered with text/html instead of", 1);
    check("no-json", Unavailable, "could not parse JSON", 1);
    check("redirect", Unavailable, "307", 1);
    check("long-body", Unavailable, "4194304", 1);
    check("wrong-id", Unavailable, "that was never made", 2);
    check("hang", Timeout, "no result within 2.5 s", 1);
    check("hang-all", Unavailable, "it answered neither the call nor a ping", 2);
}

#[test]
fn an_event_without_end_is_bounded() {
    let (url, _) = play("long-event");
    let mcp = start(&url, McpSettings::default()).unwrap();
    let began = Instant::now();
    let (found, text) = call(&mcp, "fake__act", json!({}), SHORT);
    assert!(began.elapsed() < SHORT + SLACK, "{:?}", began.elapsed());
    assert_ne!(found, ToolOutcome::Ok, "{text}");
    let (found, text) = call(&mcp, "fake__echo", json!({"text": "still here"}), PATIENT);
    assert_eq!((found, text.as_str()), (ToolOutcome::Ok, "still here"));
}

#[test]
fn a_lost_session_is_replaced_once() {
    check("forgets", ToolOutcome::Ok, "done", 2);
    check("forgets-always", ToolOutcome::Unavailable, "it forgot the session twice", 3);
}

#[test]
fn what_cannot_be_reached_is_told() {
    let check = |url: &str, words: &str| {
        let error = start(url, McpSettings { start_secs: 2.0, ..McpSettings::default() }).err().unwrap().to_string();
        assert!(error.contains(words) && !error.contains("s3cr3t"), "{error}");
    };
    check(&play("start-500").0, "500");
    check(&play("start-hang").0, "it did not answer within 2 s");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check(&format!("http://{closed}/mcp?key=s3cr3t-k3y"), "refused");
    let text = json!({"mcpServers": {"fake": {"url": play("ok").0}}}).to_string();
    let file = McpFile::parse(&text, |_| None).unwrap();
    let error = Mcp::start(&file, McpSettings::default()).err().unwrap().to_string();
    assert!(error.contains("401"), "{error}");
}
