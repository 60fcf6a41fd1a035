//! How does a model use the tools of MCP servers (modelcontextprotocol.io)? They are started, listed and called here, and
//! every way in which one can fail is an answer within the deadline.
//!
//! One thread of ours runs everything that waits for servers; workers wait for their own answers only. What goes over
//! the wire is `rmcp`'s; what it leaves open is decided here:
//!
//! - A server's program gets an environment that holds only `PATH`, `LANG`, a private `HOME` and what the file says, and
//!   is killed with all that it started (`process`).
//! - Lines, bodies, lists, schemas, arguments, results and times have limits ([`McpSettings`]).
//! - The tools are those that the run began with. A server that comes back with others, or says that it has others now,
//!   answers no calls until they are the same again.
//! - A mistake of the model's, such as arguments that do not fit the schema, is `Raised` and says what was expected. A
//!   server that is down, silent or broken is `Unavailable`, and so never becomes a sample. A tool that is slow, in a
//!   server that answers pings meanwhile, is a `Timeout`.

mod content;
mod error;
mod file;
mod link;
mod offer;
mod process;
mod provider;
mod schema;
mod server;
mod stdio;
mod talk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use jsonschema::Validator;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use aepo::tool::ToolOutcome;

use crate::toolset::Answer;

pub use error::McpError;
pub use file::{McpFile, ServerPlan};
pub use offer::McpTool;
pub use provider::offer;

use server::Server;

/// What the thread of the servers may be late with an answer before a worker goes on without it.
const LATE_BY: Duration = Duration::from_millis(400);

/// Limits on servers, and which of their tools are offered.
#[derive(Clone, Debug, PartialEq)]
pub struct McpSettings {
    /// For a server's handshake, and as long again for its list of tools; seconds.
    pub start_secs: f64,
    /// One message of a server: a line, a body or an event; bytes.
    pub max_message_bytes: usize,
    /// What a model reads of one result; characters.
    pub max_result_chars: usize,
    /// Tools of one server.
    pub max_tools: usize,
    /// Name, description and schema of one tool; bytes.
    pub max_tool_bytes: usize,
    /// The names (`SERVER__TOOL`) of the tools that are offered; empty offers all.
    pub offer: Vec<String>,
}

impl Default for McpSettings {
    fn default() -> McpSettings {
        McpSettings {
            start_secs: 60.0,
            max_message_bytes: 4 << 20,
            max_result_chars: 20_000,
            max_tools: 256,
            max_tool_bytes: 64 << 10,
            offer: Vec::new(),
        }
    }
}

/// The servers of a file, at work. Dropped, they end, and calls in flight are answered at once.
pub struct Mcp {
    client: McpClient,
    quit: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a worker calls tools through. Cheap to clone; once its [`Mcp`] is gone, nothing answers.
#[derive(Clone)]
pub struct McpClient {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
}

struct Shared {
    servers: BTreeMap<String, Arc<Server>>,
    /// By name; so in the order in which they are offered.
    tools: BTreeMap<String, (McpTool, Validator)>,
    fingerprint: String,
    identity: String,
}

/// How one server has fared.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerStats {
    /// Its name in the file.
    pub server: String,
    /// How often it was reached: 1 for a server that never failed.
    pub n_starts: u64,
    /// How often its tools were found to be others than those that the run began with.
    pub n_changes: u64,
}

impl Mcp {
    /// Starts all servers at once and lists their tools. One that does not start is an error: a run should not begin
    /// with fewer tools than it was given.
    pub fn start(file: &McpFile, settings: McpSettings) -> Result<Mcp, McpError> {
        check(&settings)?;
        let settings = Arc::new(settings);
        let secrets: Arc<[String]> = file.secrets.clone().into();
        let server = |(name, plan): (&String, &ServerPlan)| {
            let server = Server::new(name.clone(), plan.clone(), Arc::clone(&settings), Arc::clone(&secrets));
            (name.clone(), Arc::new(server))
        };
        let (quit, wait) = oneshot::channel();
        let (tell, begun) = bounded(1);
        let plans = file.clone();
        let io = |what| move |source| McpError::Io { what, source };
        // Deadlines of servers are in the time of their runtime, which must exist before they do.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(io("starting the runtime of MCP servers"))?;
        let handle = runtime.handle().clone();
        let servers: BTreeMap<String, Arc<Server>> = plans.servers.iter().map(server).collect();
        let theirs = servers.clone();
        let life = move || {
            runtime.block_on(async {
                let _ = tell.send(begin(&theirs).await);
                // An error means that the owner is gone, too.
                let _ = wait.await;
                end(&theirs).await;
            });
        };
        let thread = std::thread::Builder::new().name("aepo-mcp".to_owned()).spawn(life);
        let thread = thread.map_err(io("starting the thread of MCP servers"))?;
        // From here on, leaving this function ends the servers.
        let mut guard = Guard { quit: Some(quit), thread: Some(thread) };
        let tools = begun.recv().map_err(|_| McpError::Io {
            what: "starting MCP servers",
            source: std::io::Error::other("their thread ended"),
        })??;
        let by_name = offer::by_name(&tools)?;
        if let Some(missing) = settings.offer.iter().find(|name| !by_name.contains_key(*name)) {
            let there = by_name.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(McpError::NoSuchTool { name: missing.clone(), there });
        }
        let fingerprint = offer::fingerprint(&tools);
        let addresses: Vec<String> = servers.values().map(|s| format!("{}={}", s.name, s.plan.address())).collect();
        let max_chars = settings.max_result_chars;
        let identity = format!("mcp 1; {}; tools {fingerprint}; at most {max_chars} characters", addresses.join("; "));
        let shared = Arc::new(Shared { servers, tools: by_name, fingerprint, identity });
        let client = McpClient { shared, runtime: handle };
        Ok(Mcp { client, quit: guard.quit.take(), thread: guard.thread.take() })
    }

    /// For a worker.
    #[must_use]
    pub fn client(&self) -> McpClient {
        self.client.clone()
    }

    /// The tools on offer, sorted by name.
    pub fn tools(&self) -> impl Iterator<Item = &McpTool> {
        self.client.tools()
    }

    /// SHA-256 over the names, descriptions and schemas of all tools on offer, in hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.client.shared.fingerprint
    }

    /// How each server has fared, sorted by name.
    #[must_use]
    pub fn stats(&self) -> Vec<ServerStats> {
        self.client.stats()
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        drop(Guard { quit: self.quit.take(), thread: self.thread.take() });
    }
}

/// Ends the servers when it goes out of scope.
struct Guard {
    quit: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.quit.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has ended the servers as well: their processes are killed where they are dropped.
            let _ = thread.join();
        }
    }
}

impl McpClient {
    /// The tools on offer, sorted by name.
    pub fn tools(&self) -> impl Iterator<Item = &McpTool> {
        self.shared.tools.values().map(|(tool, _)| tool)
    }

    /// How each server has fared, sorted by name.
    #[must_use]
    pub fn stats(&self) -> Vec<ServerStats> {
        let stats = |server: &Arc<Server>| ServerStats {
            server: server.name.clone(),
            n_starts: server.n_starts.load(Ordering::Relaxed),
            n_changes: server.n_changes.load(Ordering::Relaxed),
        };
        self.shared.servers.values().map(stats).collect()
    }

    /// What answers: servers, their tools, and the limit on results; for keys of a cache.
    #[must_use]
    pub fn identity(&self) -> String {
        self.shared.identity.clone()
    }

    /// Calls the tool of that name with a JSON object of arguments. Blocks until the answer is there, which is not later
    /// than the deadline by more than `LATE_BY`.
    pub fn call(&self, name: &str, arguments: &str, deadline: Instant) -> Answer {
        let Some((tool, validator)) = self.shared.tools.get(name) else {
            return Answer::unavailable(&format!("no MCP server has the tool {name}"));
        };
        let arguments = match schema::arguments(validator, arguments) {
            Ok(arguments) => arguments,
            Err(text) => return Answer { outcome: ToolOutcome::Raised, text },
        };
        let Some(server) = self.shared.servers.get(&tool.server) else {
            return Answer::unavailable(&format!("there is no MCP server {}", tool.server));
        };
        let (server, remote) = (Arc::clone(server), tool.remote.clone());
        let (tell, answer) = bounded(1);
        // A runtime that has ended drops this, and with it `tell`.
        self.runtime.spawn(async move {
            // Nobody listens to an answer that is too late.
            let _ = tell.send(server.call(&remote, arguments, deadline.into()).await);
        });
        answer.recv_deadline(deadline + LATE_BY).unwrap_or_else(|error| {
            let what = match error {
                RecvTimeoutError::Timeout => "its thread is busy",
                RecvTimeoutError::Disconnected => "it has been ended",
            };
            Answer::unavailable(&format!("the MCP server {}: {what}", tool.server))
        })
    }
}

/// Reaches all servers at the same time.
async fn begin(servers: &BTreeMap<String, Arc<Server>>) -> Result<Vec<McpTool>, McpError> {
    let mut beginning = JoinSet::new();
    for server in servers.values().map(Arc::clone) {
        beginning.spawn(async move { server.begin().await });
    }
    let mut tools = Vec::new();
    while let Some(begun) = beginning.join_next().await {
        let begun = begun.map_err(|e| McpError::Io { what: "starting an MCP server", source: e.into() })?;
        tools.extend(begun?);
    }
    tools.sort_by(|a: &McpTool, b: &McpTool| a.name.cmp(&b.name));
    Ok(tools)
}

async fn end(servers: &BTreeMap<String, Arc<Server>>) {
    let mut ending = JoinSet::new();
    for server in servers.values().map(Arc::clone) {
        ending.spawn(async move { server.end().await });
    }
    while ending.join_next().await.is_some() {}
}

/// Limits that nothing could keep.
fn check(settings: &McpSettings) -> Result<(), McpError> {
    let McpSettings { start_secs, max_message_bytes, max_result_chars, max_tools, max_tool_bytes, .. } = settings;
    if !(*start_secs > 0.0 && *start_secs <= 3600.0) {
        let rule = "must be more than 0 and at most 3600";
        return Err(McpError::Setting { name: "start_secs", value: start_secs.to_string(), rule });
    }
    for (name, value) in [
        ("max_message_bytes", max_message_bytes),
        ("max_result_chars", max_result_chars),
        ("max_tools", max_tools),
        ("max_tool_bytes", max_tool_bytes),
    ] {
        if *value == 0 {
            return Err(McpError::Setting { name, value: value.to_string(), rule: "must be at least 1" });
        }
    }
    Ok(())
}
