//! What happens to one server in the course of a run? It is called, goes down, comes back after a while, and must be the
//! same then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use aepo::tool::ToolOutcome;
use ring::rand::{SecureRandom, SystemRandom};
use rmcp::model::{CallToolRequestParams, CallToolResponse, ErrorCode, ErrorData};
use rmcp::service::ServiceError;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::error::McpError;
use super::file::{McpFile, ServerPlan};
use super::link::{Link, Refused, forgot_session, in_words};
use super::offer::{McpTool, difference, offered};
use super::{McpSettings, content};
use crate::toolset::Answer;

/// Until a server is started again after its first failure; twice as long after each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// The longest such time.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// What a process that has failed us gets to tell how it ended.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(200);
/// What a process gets to leave in order.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);
/// Characters of a reason.
const MAX_REASON_CHARS: usize = 1000;

/// One server of the file.
pub(super) struct Server {
    /// Its name in the file.
    pub name: String,
    /// How it is reached.
    pub plan: ServerPlan,
    settings: Arc<McpSettings>,
    secrets: Arc<[String]>,
    state: Mutex<State>,
    /// Failures since the last call that was answered.
    n_failures: AtomicU32,
    /// How often it was reached.
    pub n_starts: AtomicU64,
    /// How often its tools were found to be others than at the beginning.
    pub n_changes: AtomicU64,
}

struct State {
    link: Option<Arc<Link>>,
    /// The tools that the run began with.
    expected: Option<Vec<McpTool>>,
    /// What is different from them, as long as it is.
    changed: Option<String>,
    /// Why there is no link.
    reason: String,
    /// Not to be reached before.
    not_before: Instant,
}

impl Server {
    /// A server that has not been reached yet.
    pub fn new(name: String, plan: ServerPlan, settings: Arc<McpSettings>, secrets: Arc<[String]>) -> Server {
        let reason = "it has not been started".to_owned();
        let state = State { link: None, expected: None, changed: None, reason, not_before: Instant::now() };
        let (n_starts, n_changes) = (AtomicU64::new(0), AtomicU64::new(0));
        let state = Mutex::new(state);
        Server { name, plan, settings, secrets, state, n_failures: AtomicU32::new(0), n_starts, n_changes }
    }

    /// Reaches it for the first time and learns its tools.
    pub async fn begin(&self) -> Result<Vec<McpTool>, McpError> {
        let start = |reason: String| McpError::Start { server: self.name.clone(), reason: self.fit_to_print(&reason) };
        let mut state = self.state.lock().await;
        let (link, tools) = self.reach().await.map_err(|error| match error {
            Unreached::Refused(reason) => start(reason),
            Unreached::Unfit(error) => error,
        })?;
        state.link = Some(Arc::new(link));
        state.expected = Some(tools.clone());
        Ok(tools)
    }

    /// Ends it.
    pub async fn end(&self) {
        // Somebody may be starting it at this moment; that ends with the runtime.
        let Ok(mut state) = tokio::time::timeout(LEAVE_WITHIN, self.state.lock()).await else { return };
        if let Some(link) = state.link.take() {
            link.end(LEAVE_WITHIN).await;
        }
    }

    /// Calls a tool. The answer is there by the deadline.
    pub async fn call(self: Arc<Self>, tool: &str, arguments: Map<String, Value>, deadline: Instant) -> Answer {
        let answer = Arc::clone(&self).try_call(tool, &arguments, deadline).await;
        let answer = match answer {
            // The server forgot us, so it has done nothing: with a new session it may.
            Err(Failed::Forgotten) => self.try_call(tool, &arguments, deadline).await,
            answer => answer,
        };
        answer.unwrap_or_else(|failed| match failed {
            Failed::Answer(answer) => answer,
            Failed::Forgotten => self.unavailable("it forgot the session twice"),
        })
    }

    async fn try_call(
        self: &Arc<Self>,
        tool: &str,
        arguments: &Map<String, Value>,
        deadline: Instant,
    ) -> Result<Answer, Failed> {
        let began = Instant::now();
        let link = self.link_by(deadline).await?;
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.clone());
        let mut answers_pings = false;
        let response = tokio::select! {
            biased;
            response = link.peer.call_tool_once(params) => Some(response),
            () = sleep_until(deadline) => None,
            // Half-way it is asked whether it is there at all, which tells a slow tool from a dead server.
            () = async {
                sleep_until(began + deadline.saturating_duration_since(began) / 2).await;
                answers_pings = link.answers().await;
                std::future::pending::<()>().await;
            } => None,
        };
        let Some(response) = response else {
            if answers_pings && !link.is_over() {
                let secs = deadline.saturating_duration_since(began).as_secs_f64();
                let text = format!("the tool gave no result within {secs:.1} s");
                return Ok(Answer { outcome: ToolOutcome::Timeout, text });
            }
            let reason = self.fail(&link, Some("it answered neither the call nor a ping"), deadline).await;
            return Err(Failed::Answer(self.unavailable(&reason)));
        };
        let answer = match response {
            Ok(CallToolResponse::Complete(result)) => {
                self.n_failures.store(0, Ordering::Relaxed);
                let said_no = result.is_error.unwrap_or(false);
                let outcome = if said_no { ToolOutcome::Raised } else { ToolOutcome::Ok };
                Answer { outcome, text: content::text(&result, self.settings.max_result_chars) }
            }
            Ok(_) => {
                let text = "the tool asks for something that only a person could give it".to_owned();
                Answer { outcome: ToolOutcome::Raised, text }
            }
            Err(error) if forgot_session(&error) => {
                self.fail(&link, Some("it forgot the session"), deadline).await;
                return Err(Failed::Forgotten);
            }
            Err(ServiceError::McpError(error)) => self.protocol_error(&error),
            Err(error) => {
                let reason = if link.is_over() { self.fail(&link, None, deadline).await } else { in_words(&error) };
                return Err(Failed::Answer(self.unavailable(&reason)));
            }
        };
        if link.talk.tools_changed.load(Ordering::Acquire) {
            // It said meanwhile that it is another now: then this may be the answer of another tool.
            self.link_by(deadline).await?;
        }
        Ok(answer)
    }

    /// An error instead of a result: either the model's doing, or the server's own trouble.
    fn protocol_error(&self, error: &ErrorData) -> Answer {
        match error.code {
            // JSON-RPC 2.0, section 5.1: these say that the server, or we, do not work as they should.
            ErrorCode::PARSE_ERROR
            | ErrorCode::INVALID_REQUEST
            | ErrorCode::METHOD_NOT_FOUND
            | ErrorCode::INTERNAL_ERROR => self.unavailable(&format!("{} (error {})", error.message, error.code.0)),
            _ => {
                self.n_failures.store(0, Ordering::Relaxed);
                let text = content::cut(&error.message, self.settings.max_result_chars);
                Answer { outcome: ToolOutcome::Raised, text }
            }
        }
    }

    /// A link to a server that is what it was, if there can be one by the deadline.
    async fn link_by(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Link>, Failed> {
        let this = Arc::clone(self);
        // On its own: a server that takes longer to start than a call may last should come up nevertheless.
        let reached = tokio::spawn(async move { this.ensure(deadline).await });
        let reason = match timeout_at(deadline, reached).await {
            Ok(Ok(Ok(link))) => return Ok(link),
            Ok(Ok(Err(reason))) => reason,
            Ok(Err(_)) => "it was given up".to_owned(),
            Err(_) => "it was not up by the deadline".to_owned(),
        };
        Err(Failed::Answer(self.unavailable(&reason)))
    }

    async fn ensure(&self, deadline: Instant) -> Result<Arc<Link>, String> {
        let mut state = self.state.lock().await;
        if let Some(link) = state.link.take_if(|link| link.is_over()) {
            self.note_failure(&mut state, link.end(LAST_WORDS_WITHIN).await);
        }
        let link = match state.link.clone() {
            Some(link) => {
                if link.talk.tools_changed.load(Ordering::Acquire) {
                    let tools = match self.list(&link).await {
                        Ok(tools) => tools,
                        Err(error) => return Err(self.give_up(&mut state, error.in_words())),
                    };
                    self.compare(&mut state, &tools);
                }
                link
            }
            None => {
                let wait = state.not_before.saturating_duration_since(Instant::now());
                // A call waits for a restart only if most of its time is left then.
                if wait > deadline.saturating_duration_since(Instant::now()) / 2 {
                    let secs = wait.as_secs_f64();
                    return Err(format!("it is down and will be started again in {secs:.1} s: {}", state.reason));
                }
                sleep(wait).await;
                let (link, tools) = match self.reach().await {
                    Ok(reached) => reached,
                    Err(error) => return Err(self.give_up(&mut state, error.in_words())),
                };
                let link = Arc::new(link);
                state.link = Some(Arc::clone(&link));
                self.compare(&mut state, &tools);
                link
            }
        };
        match &state.changed {
            Some(change) => Err(format!("its tools changed since the run began: {change}")),
            None => Ok(link),
        }
    }

    /// Notes whether `tools` are those that the run began with.
    fn compare(&self, state: &mut State, tools: &[McpTool]) {
        let change = difference(state.expected.as_deref().unwrap_or_default(), tools);
        if change.is_some() && change != state.changed {
            self.n_changes.fetch_add(1, Ordering::Relaxed);
        }
        state.changed = change;
    }

    fn give_up(&self, state: &mut State, reason: String) -> String {
        state.link = None;
        self.note_failure(state, reason.clone());
        reason
    }

    /// Takes down what failed us and tells why it did, by the deadline: who is still ending then is not waited for.
    async fn fail(self: &Arc<Self>, link: &Arc<Link>, reason: Option<&str>, deadline: Instant) -> String {
        if let Some(reason) = reason {
            link.talk.ended(reason.to_owned());
        }
        let (this, theirs) = (Arc::clone(self), Arc::clone(link));
        let ending = tokio::spawn(async move { this.drop_link(&theirs).await });
        match timeout_at(deadline, ending).await {
            Ok(Ok(reason)) => reason,
            _ => link.talk.reason().unwrap_or_else(|| "the connection ended".to_owned()),
        }
    }

    /// Takes a link down, if nobody did before.
    async fn drop_link(&self, link: &Arc<Link>) -> String {
        let mut state = self.state.lock().await;
        if state.link.as_ref().is_none_or(|current| !Arc::ptr_eq(current, link)) {
            return link.talk.reason().unwrap_or_else(|| state.reason.clone());
        }
        state.link = None;
        let reason = link.end(LAST_WORDS_WITHIN).await;
        self.note_failure(&mut state, reason.clone());
        reason
    }

    fn note_failure(&self, state: &mut State, reason: String) {
        let n_before = self.n_failures.fetch_add(1, Ordering::Relaxed);
        let longest = FIRST_BACKOFF.saturating_mul(1 << n_before.min(16)).min(MAX_BACKOFF);
        // Somewhere in the second half, so that servers that fell together do not rise together.
        state.not_before = Instant::now() + longest.mul_f64(0.5 + 0.5 * unit_draw());
        state.reason = reason;
    }

    async fn reach(&self) -> Result<(Link, Vec<McpTool>), Unreached> {
        let link = Link::make(&self.plan, &self.settings).await?;
        self.n_starts.fetch_add(1, Ordering::Relaxed);
        match self.list(&link).await {
            Ok(tools) => Ok((link, tools)),
            Err(error) => {
                let reason = error.in_words();
                link.talk.ended(reason);
                let reason = link.end(LAST_WORDS_WITHIN).await;
                Err(match error {
                    Unreached::Refused(_) => Unreached::Refused(reason),
                    unfit => unfit,
                })
            }
        }
    }

    async fn list(&self, link: &Link) -> Result<Vec<McpTool>, Unreached> {
        let within = Duration::from_secs_f64(self.settings.start_secs);
        let listed = tokio::time::timeout(within, link.tools(&self.settings)).await.map_err(|_| {
            let secs = self.settings.start_secs;
            Unreached::Refused(format!("it did not list its tools within {secs} s"))
        })??;
        offered(&self.name, listed, &self.settings).map_err(Unreached::Unfit)
    }

    fn unavailable(&self, reason: &str) -> Answer {
        Answer::unavailable(&format!("the MCP server {}: {}", self.name, self.fit_to_print(reason)))
    }

    /// A reason of bounded length and without secrets.
    fn fit_to_print(&self, reason: &str) -> String {
        let mut text = reason.to_owned();
        if let ServerPlan::Http { url, .. } = &self.plan {
            text = text.replace(url.as_str(), &self.plan.address());
        }
        McpFile::hide(&self.secrets, &text).chars().take(MAX_REASON_CHARS).collect()
    }
}

/// A call that has no answer of the tool.
enum Failed {
    /// What is said instead.
    Answer(Answer),
    /// The server no longer knows the session, and has done nothing.
    Forgotten,
}

/// A server that is not there.
enum Unreached {
    /// In its own words, or for what it did.
    Refused(String),
    /// It has tools that cannot be offered.
    Unfit(McpError),
}

impl Unreached {
    fn in_words(&self) -> String {
        match self {
            Unreached::Refused(reason) => reason.clone(),
            Unreached::Unfit(error) => error.to_string(),
        }
    }
}

impl From<Refused> for Unreached {
    fn from(refused: Refused) -> Unreached {
        Unreached::Refused(refused.0)
    }
}

/// A number in 0..1. It decides when a server is started again, and nothing that a run repeats.
fn unit_draw() -> f64 {
    let mut byte = [128];
    // Without randomness the middle serves as well.
    let _ = SystemRandom::new().fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
