//! How long may a connection take, and how many may there be? Heads and answers have time limits, connections a number.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;

/// Connections that are open at once; further ones wait to be accepted.
pub const MAX_CONNECTIONS: usize = 512;
/// A request's head must be there whole in this time, also the next one of a connection that is kept.
pub(super) const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// A reader that takes nothing of an answer for so long is gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// The head of a request is no longer, bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Answers connections until `stopped`, then those requests that are under way.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    head_patience: Duration,
    stopped: watch::Receiver<()>,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let next = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            next = next => next,
            () = super::gone(stopped.clone()) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (routes, stopped) = (routes.clone(), stopped.clone());
                open.spawn(async move {
                    let _permit = permit;
                    answer(stream, routes, head_patience, stopped).await;
                });
            }
            // A connection that ended before it was accepted, or too many open files: neither ends a server.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    while open.join_next().await.is_some() {}
}

async fn answer(stream: TcpStream, routes: Router, head_patience: Duration, stopped: watch::Receiver<()>) {
    // Tokens are small packets, and are wanted at once.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Patient { stream, stalled: None });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_patience).max_buf_size(MAX_HEAD_BYTES);
    let connection = http.serve_connection(io, TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    // An error here is the connection's: the other side is gone, late, or speaks something else.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = super::gone(stopped) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// A stream whose writes must get on.
struct Patient {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    /// Counts how long nothing was taken.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_PATIENCE)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
