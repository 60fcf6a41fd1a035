//! How is a connection to a server made, and how does it end? A process or an address, a handshake, a list of tools.

use std::collections::HashMap;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use rmcp::model::{ClientRequest, ListToolsRequest, PaginatedRequestParams, PingRequest, ServerResult, Tool};
use rmcp::service::{ClientInitializeError, Peer, RoleClient, RunningService, ServiceError, serve_client};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig, StreamableHttpError,
};
use rmcp::transport::{DynamicTransportError, Transport};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

use super::McpSettings;
use super::file::ServerPlan;
use super::process::{Process, Program, keep_last};
use super::stdio::Lines;
use super::talk::{Listener, Talk, Watched};

/// Pages of a list of tools.
const MAX_PAGES: usize = 100;
/// How often a list is asked for again because the server said meanwhile that it is another now.
const MAX_LISTINGS: usize = 5;
/// What a server gets to end by itself once its input is closed.
const GOODBYE: Duration = Duration::from_millis(500);
/// Between two looks at a process that is ending.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Until a connection over TCP stands.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a page that tells of an error.
const MAX_ERROR_BYTES: usize = 4096;

/// A connection that works, or did.
pub(super) struct Link {
    /// What requests are sent by.
    pub peer: Peer<RoleClient>,
    /// What is known of it.
    pub talk: Arc<Talk>,
    running: Mutex<Option<RunningService<RoleClient, Listener>>>,
    process: StdMutex<Option<Process>>,
}

/// A connection that is not there, and why.
pub(super) struct Refused(pub String);

impl Link {
    /// Reaches the server and shakes hands. `Refused` tells what it did instead.
    pub async fn make(plan: &ServerPlan, settings: &McpSettings) -> Result<Link, Refused> {
        let talk = Arc::<Talk>::default();
        match plan {
            ServerPlan::Stdio { command, args, env, cwd } => {
                let program = Program { command, args, env, cwd: cwd.as_ref() };
                let refused = |e: std::io::Error| Refused(format!("{command} cannot be started: {e}"));
                let (process, pipes) = Process::start(&program).map_err(refused)?;
                let stdin = pipe::Sender::from_owned_fd(pipes.stdin).map_err(refused)?;
                let stdout = pipe::Receiver::from_owned_fd(pipes.stdout).map_err(refused)?;
                let stderr = pipe::Receiver::from_owned_fd(pipes.stderr).map_err(refused)?;
                tokio::spawn(collect(stderr, process.stderr_ring()));
                let lines = Lines::new(stdin, stdout, settings.max_message_bytes, Arc::clone(&talk));
                shake_hands(lines, talk, Some(process), settings).await
            }
            ServerPlan::Http { url, headers } => {
                let transport = http(url, headers, settings).map_err(Refused)?;
                shake_hands(transport, talk, None, settings).await
            }
        }
    }

    /// Whether nothing can, or should, be sent any more.
    pub fn is_over(&self) -> bool {
        self.peer.is_transport_closed() || self.talk.reason().is_some()
    }

    /// The server's own list, asked for again while it says that it has changed.
    pub async fn tools(&self, settings: &McpSettings) -> Result<Vec<Tool>, Refused> {
        let mut tools = Vec::new();
        for _ in 0..MAX_LISTINGS {
            self.talk.tools_changed.store(false, Ordering::Release);
            tools = self.list(settings).await?;
            // What it says before it answers this has been heard when it has answered.
            if !self.answers().await {
                return Err(Refused("it listed its tools and then answered no ping".to_owned()));
            }
            if !self.talk.tools_changed.load(Ordering::Acquire) {
                return Ok(tools);
            }
        }
        // A server that says so all the time is taken at its last word.
        self.talk.tools_changed.store(false, Ordering::Release);
        Ok(tools)
    }

    async fn list(&self, settings: &McpSettings) -> Result<Vec<Tool>, Refused> {
        let mut tools: Vec<Tool> = Vec::new();
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            let request = ClientRequest::ListToolsRequest(ListToolsRequest::with_param(params));
            let page = match self.peer.send_request(request).await {
                Ok(ServerResult::ListToolsResult(page)) => page,
                Ok(_) => {
                    return Err(Refused("it answered tools/list with something that is no list of tools".to_owned()));
                }
                Err(error) => return Err(Refused(format!("it did not list its tools: {}", in_words(&error)))),
            };
            tools.extend(page.tools);
            if tools.len() > settings.max_tools {
                return Err(Refused(format!("it has more than {} tools", settings.max_tools)));
            }
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(tools),
            }
        }
        Err(Refused(format!("its list of tools has more than {MAX_PAGES} pages")))
    }

    /// Whether it answers a ping, be it with an error.
    pub async fn answers(&self) -> bool {
        let ping = ClientRequest::PingRequest(PingRequest::default());
        matches!(self.peer.send_request(ping).await, Ok(_) | Err(ServiceError::McpError(_)))
    }

    /// Ends the connection: a process is given `patience` to leave by itself and is killed then. Gives the cause of its
    /// end, with the status of a process that left and what it said last.
    pub async fn end(&self, patience: Duration) -> String {
        let running = self.running.lock().await.take();
        if let Some(mut running) = running {
            // Only ends of tasks can fail here.
            let _ = running.close_with_timeout(GOODBYE).await;
        }
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        let reason = self.talk.reason();
        match process {
            Some(process) => farewell(process, patience, reason).await,
            None => reason.unwrap_or_else(|| "the connection ended".to_owned()),
        }
    }
}

/// Speaks the first words over a transport.
async fn shake_hands<T: Transport<RoleClient> + Send + 'static>(
    transport: T,
    talk: Arc<Talk>,
    process: Option<Process>,
    settings: &McpSettings,
) -> Result<Link, Refused> {
    let within = Duration::from_secs_f64(settings.start_secs);
    let served = serve_client(Listener(Arc::clone(&talk)), Watched::new(transport, Arc::clone(&talk)));
    let reason = match tokio::time::timeout(within, served).await {
        Ok(Ok(running)) => {
            let (peer, process) = (running.peer().clone(), StdMutex::new(process));
            return Ok(Link { peer, talk, running: Mutex::new(Some(running)), process });
        }
        Ok(Err(error)) => talk.reason().unwrap_or_else(|| refusal(&error)),
        Err(_) => talk.reason().unwrap_or_else(|| format!("it did not answer within {} s", settings.start_secs)),
    };
    match process {
        Some(process) => Err(Refused(farewell(process, LOOK_EVERY * 20, Some(reason)).await)),
        None => Err(Refused(reason)),
    }
}

/// Waits for a process to leave, kills it, and tells how it ended.
async fn farewell(process: Process, patience: Duration, reason: Option<String>) -> String {
    let until = tokio::time::Instant::now() + patience;
    while !process.has_left() && tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let left = process.has_left();
    // Killing and reaping may take a moment, in which the other servers should be heard.
    let ended = tokio::task::spawn_blocking(move || {
        let mut process = process;
        (process.end(), process.last_words())
    });
    let (status, words) = ended.await.unwrap_or_default();
    let mut told = reason.unwrap_or_else(|| "the connection ended".to_owned());
    if let (true, Some(status)) = (left, status) {
        told = format!("{told} ({})", how(status));
    }
    if words.is_empty() { told } else { format!("{told}; its last words: {words}") }
}

fn how(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("its program ended with exit code {code}"),
        None => format!("its program was ended by {status}"),
    }
}

/// Keeps the end of a stream.
async fn collect(mut stderr: pipe::Receiver, kept: Arc<StdMutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
        keep_last(&kept, &buffer[..n]);
    }
}

/// A client for one address. It follows no redirect: the headers are meant for this server alone.
fn http(
    url: &str,
    headers: &std::collections::BTreeMap<String, String>,
    settings: &McpSettings,
) -> Result<StreamableHttpClientTransport<reqwest::Client>, String> {
    // Fails when a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut sent = HashMap::new();
    for (name, value) in headers {
        let name = HeaderName::try_from(name).map_err(|_| format!("`{name}` cannot be the name of a header"))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| format!("the value of {name} cannot be sent"))?;
        value.set_sensitive(true);
        sent.insert(name, value);
    }
    let mut client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .pool_max_idle_per_host(0);
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    if host.is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host.as_str())) {
        // A proxy would look for the server at its own end.
        client = client.no_proxy();
    }
    let client = client.build().map_err(|e| format!("no HTTP client: {}", chain(&e)))?;
    let config = StreamableHttpClientTransportConfig::with_uri(url)
        .custom_headers(sent)
        .max_sse_event_size(settings.max_message_bytes)
        .max_json_response_size(settings.max_message_bytes)
        .max_error_response_size(MAX_ERROR_BYTES)
        // A new session is a new connection here, whose tools are looked at.
        .reinit_on_expired_session(false);
    Ok(StreamableHttpClientTransport::with_client(client, config))
}

/// Whether a request failed because the server forgot the session, in which case nothing was done.
pub(super) fn forgot_session(error: &ServiceError) -> bool {
    let ServiceError::TransportSend(error) = error else { return false };
    let http = error.error.downcast_ref::<StreamableHttpError<reqwest::Error>>();
    matches!(http, Some(StreamableHttpError::SessionExpired))
}

/// Why a request failed.
pub(super) fn in_words(error: &ServiceError) -> String {
    match error {
        ServiceError::TransportSend(error) => sending(error),
        ServiceError::TransportClosed => "the connection ended".to_owned(),
        ServiceError::McpError(error) => format!("{} (error {})", error.message, error.code.0),
        other => other.to_string(),
    }
}

fn refusal(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::TransportError { error, .. } => sending(error),
        ClientInitializeError::ConnectionClosed(_) => "the connection ended".to_owned(),
        ClientInitializeError::JsonRpcError(error) => {
            format!("it refused to begin: {} (error {})", error.message, error.code.0)
        }
        ClientInitializeError::ExpectedInitResult(_) | ClientInitializeError::ExpectedInitResponse(_) => {
            "it answered initialize with something else".to_owned()
        }
        other => other.to_string(),
    }
}

fn sending(error: &DynamicTransportError) -> String {
    match error.error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
        Some(StreamableHttpError::UnexpectedContentType(found)) => {
            let found = found.as_deref().unwrap_or("nothing");
            format!("it answered with {found} instead of application/json or text/event-stream")
        }
        Some(StreamableHttpError::Client(error)) => chain(error),
        _ => chain(error.error.as_ref()),
    }
}

/// An error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}
