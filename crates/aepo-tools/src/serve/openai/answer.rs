//! What is told of an answer, and how? In pieces that a stream sends as they come and that together are the whole.

use std::sync::Arc;

use aepo::data::message::FunctionCall;
use aepo::policy::SampleStop;
use aepo::policy::watch::Seen;
use aepo::prompt::served::{Offered, Talk};
use serde_json::Value;

use super::desk::Event;
use super::options::Options;
use super::text::Speller;
use crate::serve::refusal::Refusal;

/// What kind of answer is given, and what it is asked to hold.
pub(super) enum Kind {
    /// A message, perhaps with calls of these tools.
    Chat { tools: Vec<Offered>, logprobs: Option<usize> },
    /// Text.
    Text { logprobs: Option<usize>, prompt_logprobs: Option<usize>, echo: bool },
}

/// Everything that an answer is told from.
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) options: Options,
    pub(super) prompts: Vec<Arc<[u32]>>,
}

/// A token in an answer.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: u32,
    /// None for the first token of a prompt, which nothing stands before.
    pub(super) logprob: Option<f32>,
    pub(super) rank: u32,
    pub(super) likeliest: Vec<(u32, f32)>,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct End {
    /// `stop`, `length` or `tool_calls`.
    pub(super) reason: &'static str,
    /// The text or id that the request named and that ended it, as vLLM tells it.
    pub(super) stop: Value,
}

/// What is new of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    /// Whether nothing of it was told before.
    pub(super) is_first: bool,
    pub(super) text: String,
    pub(super) calls: Vec<FunctionCall>,
    /// Tokens of the prompt, where they are part of what is told.
    pub(super) prompt: Vec<Entry>,
    pub(super) tokens: Vec<Entry>,
    pub(super) end: Option<End>,
}

impl Piece {
    /// Whether a stream has nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
            && self.calls.is_empty()
            && self.prompt.is_empty()
            && self.tokens.is_empty()
            && self.end.is_none()
    }

    /// Puts `next` behind it.
    pub(super) fn extend(&mut self, next: Piece) {
        self.text += &next.text;
        self.calls.extend(next.calls);
        self.prompt.extend(next.prompt);
        self.tokens.extend(next.tokens);
        self.end = next.end.or(self.end.take());
    }
}

/// Tokens, for the bill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) n_prompt: usize,
    pub(super) n_cached: usize,
    pub(super) n_sampled: usize,
}

/// An answer on its way: events in, pieces out.
pub(super) struct Answers {
    pub(super) asked: Asked,
    talk: Arc<Talk>,
    choices: Vec<Choice>,
    /// Tokens of each prompt.
    given: Vec<Vec<Entry>>,
    n_open: usize,
    pub(super) usage: Usage,
}

struct Choice {
    speller: Speller,
    /// What is settled, of a message.
    text: String,
    n_told: usize,
    has_begun: bool,
    last: Option<u32>,
}

impl Answers {
    pub(super) fn new(asked: Asked, talk: Arc<Talk>) -> Answers {
        let (o, n) = (&asked.options, asked.prompts.len() * asked.options.n);
        let pieces = o.pieces(&talk);
        let choice = |_| Choice {
            speller: Speller::new(Arc::clone(&pieces), o.stop.clone(), o.include_stop),
            text: String::new(),
            n_told: 0,
            has_begun: false,
            last: None,
        };
        let choices = (0..n).map(choice).collect();
        let given = asked.prompts.iter().map(|prompt| first_entry(prompt)).collect();
        let usage = Usage { n_prompt: asked.prompts.iter().map(|prompt| prompt.len()).sum(), ..Usage::default() };
        Answers { asked, talk, choices, given, n_open: n, usage }
    }

    /// Whether everything has been told.
    pub(super) fn is_complete(&self) -> bool {
        self.n_open == 0
    }

    /// What an event adds, and to which answer.
    pub(super) fn on(&mut self, event: Event) -> Result<Option<(usize, Piece)>, Refusal> {
        match event {
            Event::Begun { n_cached } => {
                self.usage.n_cached += n_cached;
                Ok(None)
            }
            Event::Given { first, seen } => {
                self.given[first / self.asked.options.n].push(entry(seen));
                Ok(None)
            }
            Event::Token { choice, seen } => Ok(Some((choice, self.token(choice, seen)))),
            Event::Ended { choice, stop } => {
                self.n_open = self.n_open.saturating_sub(1);
                Ok(Some((choice, self.end(choice, stop))))
            }
            Event::Failed(failure) => Err(failure.into()),
        }
    }

    /// Whether the model was only asked about the prompt: what it sampled is dropped.
    fn is_silent(&self) -> bool {
        self.asked.options.max_tokens == Some(0)
    }

    /// What is told before the first token.
    fn begin(&mut self, idx: usize) -> Piece {
        let is_first = !std::mem::replace(&mut self.choices[idx].has_begun, true);
        let mut piece = Piece { is_first, ..Piece::default() };
        if let (true, Kind::Text { logprobs, prompt_logprobs, echo }) = (is_first, &self.asked.kind) {
            let at = idx / self.asked.options.n;
            if *echo {
                let pieces = self.asked.options.pieces(&self.talk);
                let bytes: Vec<u8> = self.asked.prompts[at]
                    .iter()
                    .flat_map(|&id| pieces.get(id as usize).map_or(&[][..], |bytes| bytes))
                    .copied()
                    .collect();
                piece.text = String::from_utf8_lossy(&bytes).into_owned();
            }
            if prompt_logprobs.is_some() || (*echo && logprobs.is_some()) {
                piece.prompt.clone_from(&self.given[at]);
            }
        }
        piece
    }

    fn token(&mut self, idx: usize, seen: Seen) -> Piece {
        let mut piece = self.begin(idx);
        if self.is_silent() {
            return piece;
        }
        self.usage.n_sampled += 1;
        let id = seen.token.token;
        let choice = &mut self.choices[idx];
        choice.last = Some(id);
        let options = &self.asked.options;
        // The end that a model makes of a turn is no word, unless its protocol has it as one.
        let is_mute = || self.talk.shown().get(id as usize).is_none_or(|bytes| bytes.is_empty());
        let is_end =
            options.stop_ids.contains(&id) || (!options.ignore_eos && self.talk.stop_ids().contains(&id) && is_mute());
        if !is_end || options.include_stop {
            choice.speller.add(id);
        }
        let told = choice.speller.tell();
        piece.text += &match &self.asked.kind {
            Kind::Text { .. } => told,
            Kind::Chat { tools, .. } => {
                choice.text += &told;
                choice.said(self.talk.n_said(&choice.text, tools))
            }
        };
        let wants_tokens = match &self.asked.kind {
            Kind::Text { logprobs, .. } | Kind::Chat { logprobs, .. } => logprobs.is_some(),
        };
        if wants_tokens || options.return_ids {
            piece.tokens.push(entry(seen));
        }
        piece
    }

    fn end(&mut self, idx: usize, stop: SampleStop) -> Piece {
        let mut piece = self.begin(idx);
        let options = &self.asked.options;
        let choice = &mut self.choices[idx];
        if self.asked.options.max_tokens == Some(0) {
            piece.end = Some(End { reason: "length", stop: Value::Null });
            return piece;
        }
        let (rest, found) = choice.speller.end();
        let named = choice.last.filter(|id| options.stop_ids.contains(id) && stop == SampleStop::StopToken);
        let reason = if stop == SampleStop::StopToken { "stop" } else { "length" };
        let mut end = End { reason, stop: found.map_or_else(|| named.map_or(Value::Null, Value::from), Value::from) };
        match &self.asked.kind {
            Kind::Text { .. } => piece.text += &rest,
            Kind::Chat { tools, .. } => {
                choice.text += &rest;
                let turn = self.talk.read(&choice.text, tools);
                piece.text += &choice.said(turn.content.len());
                if !turn.calls.is_empty() {
                    end.reason = "tool_calls";
                }
                piece.calls = turn.calls;
            }
        }
        piece.end = Some(end);
        piece
    }
}

impl Choice {
    /// What was not told up to the byte `n` of a message.
    fn said(&mut self, n: usize) -> String {
        let said = self.text.get(self.n_told..n).unwrap_or_default().to_owned();
        self.n_told += said.len();
        said
    }
}

fn first_entry(prompt: &[u32]) -> Vec<Entry> {
    prompt.first().map(|&id| Entry { id, logprob: None, rank: 0, likeliest: Vec::new() }).into_iter().collect()
}

fn entry(seen: Seen) -> Entry {
    let Seen { token, rank, likeliest } = seen;
    Entry { id: token.token, logprob: Some(token.logprob), rank, likeliest }
}
