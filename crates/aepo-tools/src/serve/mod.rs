//! How do other programs use these tools? One HTTP server whose routes are whatever was asked for.

mod connection;
mod key;
pub mod openai;
mod refusal;
pub mod retrieve;
pub mod rollouts;
pub mod run_code;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{Semaphore, watch};

pub use key::Key;
use refusal::Refusal;

/// No request is longer, bytes.
const MAX_BODY_BYTES: usize = 16 << 20;
/// A request must be there whole in this time.
pub const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// How long requests under way are waited for when the server is stopped.
const GRACE: Duration = Duration::from_secs(5);
/// Requests that are read or answered at once; others wait.
const MAX_AT_ONCE: usize = 256;

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No address.
    #[error("`{text}` is no address to listen on: an IP address and a port are, like 127.0.0.1:8000 or [::1]:0")]
    Address {
        /// What was given.
        text: String,
    },
    /// The address cannot be used.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The system refused a thread or its event loop.
    #[error("starting the server: {0}")]
    Start(std::io::Error),
}

/// The address of a host, given as an IP address, and a port; and whether it is this machine's own, so that nobody else
/// reaches it.
///
/// # Errors
/// When the host is no IP address.
pub fn address(host: &str, port: u16) -> Result<(String, bool), ServeError> {
    let ip: std::net::IpAddr = host.parse().map_err(|_| ServeError::Address { text: host.to_owned() })?;
    Ok((SocketAddr::new(ip, port).to_string(), ip.is_loopback()))
}

/// No routes yet; [`Router::merge`] adds those of each tool.
pub fn routes() -> Router {
    Router::new()
}

/// A running server. Dropping it stops it; requests under way are answered first, within five seconds.
pub struct Server {
    /// Where it listens, with the port that the system chose where 0 was asked for.
    pub address: SocketAddr,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Server {
    /// Answers `routes` on `address`, like `127.0.0.1:8000`, until it is stopped.
    pub fn start(address: &str, routes: Router) -> Result<Server, ServeError> {
        Server::start_with(address, routes, connection::HEAD_PATIENCE)
    }

    /// As [`Server::start`], with another time in which the head of a request must be there.
    pub fn start_with(address: &str, routes: Router, head_patience: Duration) -> Result<Server, ServeError> {
        let address: SocketAddr = address.parse().map_err(|_| ServeError::Address { text: address.to_owned() })?;
        let listening = |cause| ServeError::Listen { address, cause };
        let listener = std::net::TcpListener::bind(address).map_err(listening)?;
        listener.set_nonblocking(true).map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Start)?;
        let (stop, stopped) = watch::channel(());
        let serve = move || {
            let late = async |stopped| {
                gone(stopped).await;
                tokio::time::sleep(GRACE).await;
            };
            let ended = runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::select! {
                    () = connection::serve(listener, routes, head_patience, stopped.clone()) => {}
                    // Somebody neither finishes a request nor hangs up.
                    () = late(stopped) => {}
                }
                Ok(())
            });
            runtime.shutdown_timeout(GRACE);
            ended
        };
        let thread = std::thread::Builder::new().name("aepo-serve".to_owned());
        let thread = thread.spawn(serve).map_err(ServeError::Start)?;
        Ok(Server { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// Ends when the sender is dropped.
async fn gone(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its error is that of a server that nobody uses any more.
            let _ = thread.join();
        }
    }
}

/// How many requests are worked on at once, and how they are read: for the handlers of all routes.
#[derive(Clone)]
pub struct Gate {
    open: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

impl Gate {
    /// Lets `n_workers` requests be worked on at once.
    #[must_use]
    pub fn new(n_workers: usize) -> Gate {
        let working = Arc::new(Semaphore::new(n_workers.clamp(1, MAX_AT_ONCE)));
        Gate { open: Arc::new(Semaphore::new(MAX_AT_ONCE)), working }
    }

    /// Reads a body, within bounds of size and time, and answers it in a thread where work may block. Errors are worded
    /// as FastAPI servers word them.
    pub async fn answer(
        &self,
        body: axum::body::Body,
        work: impl FnOnce(Bytes) -> Response + Send + 'static,
    ) -> Response {
        // Neither semaphore is ever closed.
        let Ok(_open) = self.open.acquire().await else { return complain(StatusCode::SERVICE_UNAVAILABLE, "closed") };
        let bytes = match read_body(body, MAX_BODY_BYTES, BODY_PATIENCE).await {
            Ok(bytes) => bytes,
            Err((status, why)) => return complain(status, why),
        };
        let Ok(_working) = self.working.acquire().await else {
            return complain(StatusCode::SERVICE_UNAVAILABLE, "closed");
        };
        match tokio::task::spawn_blocking(move || work(bytes)).await {
            Ok(response) => response,
            Err(_) => complain(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be answered"),
        }
    }
}

/// Reads a body, within bounds of size and time.
async fn read_body(
    body: axum::body::Body,
    max_bytes: usize,
    patience: Duration,
) -> Result<Bytes, (StatusCode, &'static str)> {
    match tokio::time::timeout(patience, axum::body::to_bytes(body, max_bytes)).await {
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time")),
        Ok(Err(_)) => Err((StatusCode::PAYLOAD_TOO_LARGE, "the request is cut off or too long")),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

/// Reads a body that says of itself that it is JSON, within bounds of size and time.
async fn read_json(
    headers: &HeaderMap,
    body: axum::body::Body,
    max_bytes: usize,
    patience: Duration,
) -> Result<Bytes, Refusal> {
    // A page in a browser can send other types to any server of its machine without asking it first.
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.trim_start().to_ascii_lowercase().starts_with("application/json") {
        let message = "the request must have Content-Type: application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    read_body(body, max_bytes, patience).await.map_err(|(status, why)| Refusal::new(status, why))
}

/// An error as FastAPI servers word it, so that clients made for them can show it.
pub(crate) fn complain(status: StatusCode, why: &str) -> Response {
    json(status, &serde_json::json!({ "detail": why }))
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    const KIND: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];
    (status, KIND, value.to_string()).into_response()
}
