//! Does a server keep to the protocol? Answers only to what was asked, and no floods; and what it lets us know besides.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::RoleClient;
use rmcp::handler::client::ClientHandler;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, JsonRpcMessage, RequestId};
use rmcp::service::{NotificationContext, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;

/// Messages in a row that answer nothing before a server counts as flooding us.
const MAX_UNASKED: u32 = 20_000;

/// What is known of one connection, shared by those who speak over it.
#[derive(Default)]
pub(super) struct Talk {
    /// Why it ended; the first reason is the cause of the others.
    reason: Mutex<Option<String>>,
    /// The server said that its tools are others now, and nobody has looked yet.
    pub tools_changed: AtomicBool,
}

impl Talk {
    /// Notes why the connection is over.
    pub fn ended(&self, reason: String) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    /// Why the connection is over, where that is known.
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Our side's answers to what a server asks: it has no person to ask and no model to borrow here.
pub(super) struct Listener(pub Arc<Talk>);

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("aepo", env!("CARGO_PKG_VERSION")))
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.0.tools_changed.store(true, Ordering::Release);
    }
}

/// A transport whose messages are looked at.
pub(super) struct Watched<T> {
    inner: T,
    talk: Arc<Talk>,
    /// Requests are numbered from 0 on; this is the highest number in use.
    last_request: AtomicI64,
    n_unasked: u32,
}

impl<T> Watched<T> {
    /// Looks at the messages of `inner`.
    pub fn new(inner: T, talk: Arc<Talk>) -> Watched<T> {
        Watched { inner, talk, last_request: AtomicI64::new(-1), n_unasked: 0 }
    }

    /// Whether the request that is answered was made. It may have been given up since: late answers are no offence.
    fn was_asked(&self, id: &RequestId) -> bool {
        matches!(id, RequestId::Number(id) if (0..=self.last_request.load(Ordering::Relaxed)).contains(id))
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Watched<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        if let JsonRpcMessage::Request(request) = &item
            && let RequestId::Number(id) = request.id
        {
            self.last_request.fetch_max(id, Ordering::Relaxed);
        }
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = self.inner.receive().await?;
        let answered = match &message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        self.n_unasked = if answered.is_some() { 0 } else { self.n_unasked + 1 };
        if let Some(id) = answered
            && !self.was_asked(id)
        {
            self.talk.ended(format!("it answered a request {id} that was never made"));
            return None;
        }
        if self.n_unasked > MAX_UNASKED {
            self.talk.ended(format!("it sent {} messages in a row that answer nothing", self.n_unasked));
            return None;
        }
        Some(message)
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.inner.close().await
    }
}
