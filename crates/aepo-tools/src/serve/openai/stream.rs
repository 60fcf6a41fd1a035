//! How does an answer get out? As a stream of events while it comes, or whole.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aepo::prompt::served::Talk;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::answer::{Answers, Kind, Piece};
use super::desk::Event;
use super::wire::Writer;
use crate::serve::refusal::Refusal;

/// The model ended without a word.
fn lost() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the model has ended")
}

/// Waits for all of it.
pub(super) async fn whole(
    mut answers: Answers,
    mut writer: Writer,
    talk: &Talk,
    mut told: UnboundedReceiver<Event>,
) -> Result<Value, Refusal> {
    let n = answers.asked.prompts.len() * answers.asked.options.n;
    let first = Piece { is_first: true, ..Piece::default() };
    let mut pieces = vec![first; n];
    while !answers.is_complete() {
        let event = told.recv().await.ok_or_else(lost)?;
        if let Some((idx, piece)) = answers.on(event)? {
            pieces[idx].extend(piece);
        }
    }
    Ok(writer.whole(talk.tokenizer(), &answers, &pieces))
}

/// Server-sent events: `data: {…}`, and `data: [DONE]` at the end of a whole answer.
pub(super) fn response(answers: Answers, writer: Writer, talk: Arc<Talk>, told: UnboundedReceiver<Event>) -> Response {
    let mut lines = VecDeque::new();
    if matches!(answers.asked.kind, Kind::Chat { .. }) {
        lines.extend((0..answers.asked.options.n).map(|idx| line(&writer.opening(&answers.asked, idx))));
    }
    let stream = Lines { answers, writer, talk, told, lines, has_ended: false };
    const HEADERS: [(header::HeaderName, &str); 2] =
        [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (StatusCode::OK, HEADERS, Body::from_stream(stream)).into_response()
}

fn line(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

struct Lines {
    answers: Answers,
    writer: Writer,
    talk: Arc<Talk>,
    told: UnboundedReceiver<Event>,
    lines: VecDeque<Bytes>,
    has_ended: bool,
}

impl Lines {
    fn on(&mut self, event: Option<Event>) {
        let told = match event {
            Some(event) => self.answers.on(event),
            None => Err(lost()),
        };
        match told {
            Ok(Some((idx, piece))) if !piece.is_empty() => {
                let chunk = self.writer.chunk(self.talk.tokenizer(), &self.answers.asked, idx, &piece);
                self.lines.push_back(line(&chunk));
            }
            Ok(_) => {}
            Err(refusal) => {
                self.lines.push_back(line(&refusal.body()));
                self.has_ended = true;
                return;
            }
        }
        if self.answers.is_complete() {
            if self.answers.asked.options.include_usage {
                self.lines.push_back(line(&self.writer.closing(&self.answers.asked, self.answers.usage)));
            }
            self.lines.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
            self.has_ended = true;
        }
    }
}

impl futures_core::Stream for Lines {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Poll::Ready(Some(Ok(line)));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            match self.told.poll_recv(cx) {
                Poll::Ready(event) => self.on(event),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
