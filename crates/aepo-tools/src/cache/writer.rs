//! Who writes answers down? One thread; what arrives while it writes goes into its next transaction together.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, unbounded};

use crate::cache::{Cache, Entry, Key};
use crate::error::{ToolsError, io};

/// Answers of one transaction, at most.
const MAX_BATCH: usize = 1024;

/// An answer to be kept.
pub(crate) struct Put {
    /// Told when it is on the disk.
    pub ticket: u64,
    pub key: Key,
    pub entry: Entry,
}

/// The thread, and the way to it.
pub(crate) struct Writer {
    jobs: Option<Sender<Put>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. `done` is told the tickets of every transaction, and what went wrong with it.
    pub(crate) fn start(
        cache: Arc<Cache>,
        done: impl Fn(Vec<u64>, Result<(), String>) + Send + 'static,
    ) -> Result<Writer, ToolsError> {
        let (jobs, queue) = unbounded::<Put>();
        let work = move || {
            while let Ok(first) = queue.recv() {
                let batch: Vec<Put> = std::iter::once(first).chain(queue.try_iter()).take(MAX_BATCH).collect();
                let tickets = batch.iter().map(|put| put.ticket).collect();
                let entries: Vec<_> = batch.into_iter().map(|put| (put.key, put.entry)).collect();
                done(tickets, cache.put(&entries).map_err(|e| e.to_string()));
            }
        };
        let thread = std::thread::Builder::new().name("aepo-cache".to_owned());
        let thread = thread.spawn(work).map_err(io("starting the cache's thread"))?;
        Ok(Writer { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Whether it will be written and acknowledged.
    pub(crate) fn send(&self, put: Put) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(put).is_ok())
    }
}

impl Drop for Writer {
    /// What was sent is written first.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the store is caught where it is called.
            let _ = thread.join();
        }
    }
}
