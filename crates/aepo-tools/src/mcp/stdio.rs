//! What does a server say on its standard output? One JSON-RPC message per line, and nothing else for long.
//!
//! The library's own line transport drops what it cannot read, so that a call would wait for an answer that has been
//! thrown away. Here the connection ends with the reason instead, unless the line is one that a careless program prints
//! beside the protocol, such as a banner.

use std::io;
use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

use super::talk::Talk;

/// Lines that are no messages before a server counts as one that does not speak the protocol.
const MAX_STRAY_LINES: usize = 1000;
/// Of a stray line, how much is shown.
const SHOWN_CHARS: usize = 120;

/// The lines of a process.
pub(super) struct Lines {
    reader: BufReader<pipe::Receiver>,
    line: Vec<u8>,
    max_bytes: usize,
    n_stray: usize,
    writer: Arc<Mutex<Option<pipe::Sender>>>,
    talk: Arc<Talk>,
}

impl Lines {
    /// Messages longer than `max_bytes` end the connection.
    pub fn new(stdin: pipe::Sender, stdout: pipe::Receiver, max_bytes: usize, talk: Arc<Talk>) -> Lines {
        let writer = Arc::new(Mutex::new(Some(stdin)));
        Lines { reader: BufReader::new(stdout), line: Vec::new(), max_bytes, n_stray: 0, writer, talk }
    }

    /// Reads on until a line is whole; `false` at the end. May be dropped at any await: what was read stays.
    async fn read_line(&mut self) -> bool {
        loop {
            let available = match self.reader.fill_buf().await {
                Ok(available) => available,
                Err(error) => {
                    self.talk.ended(format!("its output cannot be read: {error}"));
                    return false;
                }
            };
            if available.is_empty() {
                self.talk.ended("it closed its output".to_owned());
                return false;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let n = end.unwrap_or(available.len());
            if self.line.len() + n > self.max_bytes {
                self.talk.ended(format!("it sent a message of more than {} bytes", self.max_bytes));
                return false;
            }
            self.line.extend_from_slice(&available[..n]);
            self.reader.consume(end.map_or(n, |end| end + 1));
            if end.is_some() {
                return true;
            }
        }
    }

    /// The message in the line, if it is one that goes on. `Err` says why the connection ends.
    fn message(&mut self) -> Result<Option<RxJsonRpcMessage<RoleClient>>, String> {
        let line = self.line.trim_ascii();
        if line.is_empty() {
            return Ok(None);
        }
        let shown = || {
            let text = String::from_utf8_lossy(&line[..line.len().min(4 * SHOWN_CHARS)]).into_owned();
            text.chars().take(SHOWN_CHARS).collect::<String>()
        };
        let value: serde_json::Value = match serde_json::from_slice(line) {
            Ok(value) => value,
            // What begins as a message was meant as one, and somebody may be waiting for it.
            Err(error) if line[0] == b'{' => return Err(format!("it sent a broken message ({error}): {}", shown())),
            Err(_) => {
                self.n_stray += 1;
                if self.n_stray > MAX_STRAY_LINES {
                    return Err(format!("it wrote {} lines that are no messages, at last: {}", self.n_stray, shown()));
                }
                return Ok(None);
            }
        };
        match serde_json::from_value(value) {
            Ok(message) => Ok(Some(message)),
            Err(_) => Err(format!("it sent JSON that is no JSON-RPC message: {}", shown())),
        }
    }
}

impl Transport<RoleClient> for Lines {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let writer = Arc::clone(&self.writer);
        async move {
            let mut line = serde_json::to_vec(&item)?;
            line.push(b'\n');
            match writer.lock().await.as_mut() {
                Some(writer) => writer.write_all(&line).await,
                None => Err(io::Error::from(io::ErrorKind::NotConnected)),
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        while self.read_line().await {
            let message = self.message();
            // The buffer of an unusually long message is not kept.
            self.line.clear();
            self.line.shrink_to(64 * 1024);
            match message {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(reason) => {
                    self.talk.ended(reason);
                    return None;
                }
            }
        }
        None
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        // A writer that is stuck in the lock ends with the process.
        if let Ok(mut writer) = self.writer.try_lock() {
            *writer = None;
        }
        Ok(())
    }
}
