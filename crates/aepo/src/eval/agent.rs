//! How does a served model act? Its conversation, turn by turn: what to ask next, which tool to call, how it ended.
//!
//! No IO happens here: [`Agent::said`] and [`Agent::came_back`] are told what the server and the tools gave. Turns are
//! read by the grammar of training ([`Dialect::Aepo`], whose tags need nothing of a server but texts that end a turn),
//! and limits are those of training.
//!
//! A chat server offers no way to write into the model's own turn that all of them have, so a result comes as a message
//! of the user, `<result>` around it as in training ([`Results::Message`]). vLLM and SGLang can go on with the last
//! message, so there the whole conversation may be one turn of the assistant, exactly as in training ([`Results::Turn`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::eval::answer::{AnswerName, AnswerRecord, SERVER_UNAVAILABLE, informal_answer};
use crate::prompt::{Action, Dialect, without_fence};
use crate::rollout::drive::Limits;
use crate::rollout::tree::StopReason;
use crate::seed::Seed;
use crate::tool::{CallId, EarlierCall, ToolCall, ToolName, ToolOutcome, ToolSpec};

/// Where results of tools are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Results {
    /// In a message of the user.
    Message,
    /// In the turn of the assistant, which goes on behind them.
    Turn,
}

/// How a served model is asked.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The system message; none where it is empty.
    pub system: String,
    /// What may be called.
    pub tools: Vec<ToolSpec>,
    /// Where answers are cut. `response_tokens` counts what the model sampled, and of a result so many tokens are shown as
    /// `result_tokens` times [`CHARS_PER_TOKEN`] characters hold: only the server knows its vocabulary.
    pub limits: Limits,
    /// Where results are written.
    pub results: Results,
    /// Whether a program may stand in a Markdown fence, which is then taken off.
    pub code_fences: bool,
}

/// Characters that count as a token where there is no vocabulary.
pub const CHARS_PER_TOKEN: usize = 4;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Instructions.
    System,
    /// The question, and results.
    User,
    /// The model.
    Assistant,
}

/// What a server gave for a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What the model wrote; a text that ended it is not part of it.
    pub text: String,
    /// Why it ended.
    pub end: TurnEnd,
    /// Tokens it read.
    pub n_prompt: Option<u64>,
    /// Tokens it sampled.
    pub n_sampled: Option<u64>,
}

/// Why a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// The model ended it.
    Own,
    /// One of [`Agent::stops`].
    Stop(String),
    /// One or the other: servers of the plain protocol do not say which.
    Unsaid,
    /// It was cut at the tokens that were asked for.
    Cut,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Ask the server for a turn.
    Say,
    /// Call a tool.
    Call(ToolCall),
    /// Nothing: there is a record.
    End,
}

/// One answer in the making.
#[derive(Clone, Debug)]
pub struct Agent<'a> {
    settings: &'a AgentSettings,
    name: AnswerName<'a>,
    seed: Seed,
    messages: Vec<(Who, String)>,
    /// Everything behind the question.
    text: String,
    earlier: Arc<[EarlierCall]>,
    /// The call that is made at the moment.
    calling: Option<(ToolName, String)>,
    n_prompt: Option<u64>,
    n_sampled: Option<u64>,
    /// Known or guessed from the length of the text, for the limit.
    n_response: usize,
    n_turns: u64,
    end: Option<(String, Option<String>, bool, Option<String>)>,
}

impl<'a> Agent<'a> {
    /// Begins with a question.
    #[must_use]
    pub fn new(question: &str, name: AnswerName<'a>, settings: &'a AgentSettings) -> Agent<'a> {
        let mut messages = Vec::new();
        if !settings.system.is_empty() {
            messages.push((Who::System, settings.system.clone()));
        }
        messages.push((Who::User, question.to_owned()));
        Agent {
            settings,
            name,
            seed: Seed(name.seed),
            messages,
            text: String::new(),
            earlier: [].into(),
            calling: None,
            n_prompt: Some(0),
            n_sampled: Some(0),
            n_response: 0,
            n_turns: 0,
            end: None,
        }
    }

    /// The conversation so far.
    #[must_use]
    pub fn messages(&self) -> &[(Who, String)] {
        &self.messages
    }

    /// Texts that end a turn.
    #[must_use]
    pub fn stops(&self) -> Vec<String> {
        Dialect::Aepo.stop_texts(&self.settings.tools)
    }

    /// Tokens that the next turn may have.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        let limits = self.settings.limits;
        limits.turn_tokens.min(limits.response_tokens.saturating_sub(self.n_response)).max(1)
    }

    /// Seed of the next turn, for servers that take one. Some take no more than 31 bits of it.
    #[must_use]
    pub fn turn_seed(&self) -> u64 {
        const TURN: u64 = 1;
        self.seed.child(TURN).child(self.n_turns).0 >> 33
    }

    /// Takes a turn of the model.
    pub fn said(&mut self, turn: Turn) -> Next {
        let add = |sum: Option<u64>, n: Option<u64>| Some(sum?.saturating_add(n?));
        self.n_prompt = add(self.n_prompt, turn.n_prompt);
        self.n_sampled = add(self.n_sampled, turn.n_sampled);
        let guess = || turn.text.chars().count().div_ceil(CHARS_PER_TOKEN);
        let n = turn.n_sampled.map_or_else(guess, |n| usize::try_from(n).unwrap_or(usize::MAX));
        self.n_response = self.n_response.saturating_add(n);
        self.n_turns += 1;
        let (written, action) = self.read(&turn);
        self.write(&written);
        let Some(action) = action else {
            let is_last = self.n_response >= self.settings.limits.response_tokens;
            return self.ended(if is_last { StopReason::MaxResponseTokens } else { StopReason::MaxTurnTokens });
        };
        let limits = self.settings.limits;
        match action {
            Action::Answer(answer) => self.ended(StopReason::Answered(answer)),
            Action::Malformed(how) => {
                let informal = informal_answer(&turn.text);
                self.end = Some((StopReason::Malformed(how).name().to_owned(), informal, false, None));
                Next::End
            }
            Action::Call { tool, .. } if !limits.allow(&self.earlier, &tool) => self.ended(StopReason::CallLimit),
            Action::Call { tool, input } if limits.repeats(&self.earlier, &tool, &input) => {
                self.ended(StopReason::RepeatedCall)
            }
            Action::Call { tool, input } => {
                self.calling = Some((tool.clone(), input.clone()));
                let (id, seed, earlier) = (CallId(0), self.call_seed(), Arc::clone(&self.earlier));
                Next::Call(ToolCall { id, tool, input, seed, earlier, shared: false })
            }
        }
    }

    /// Takes the result of the call that was asked for.
    pub fn came_back(&mut self, outcome: ToolOutcome, result: &str) -> Next {
        let Some((tool, input)) = self.calling.take() else { return Next::End };
        let seed = self.call_seed();
        let mut earlier = self.earlier.to_vec();
        earlier.push(EarlierCall { tool: tool.clone(), input: input.into(), seed, outcome });
        self.earlier = earlier.into();
        if outcome == ToolOutcome::Unavailable {
            let why = format!("{tool}: {result}");
            self.end = Some((StopReason::ToolUnavailable.name().to_owned(), None, false, Some(why)));
            return Next::End;
        }
        let n_chars = self.settings.limits.result_tokens.saturating_mul(CHARS_PER_TOKEN);
        let shown = result.char_indices().nth(n_chars).map_or(result, |(at, _)| &result[..at]);
        let framed = format!("<result>\n{shown}\n</result>");
        self.text += &framed;
        match self.settings.results {
            Results::Message => self.messages.push((Who::User, framed)),
            Results::Turn => self.write_on(&framed),
        }
        match self.n_response >= self.settings.limits.response_tokens {
            true => self.ended(StopReason::MaxResponseTokens),
            false => Next::Say,
        }
    }

    /// The server says that the conversation is longer than the model can read.
    pub fn is_full(&mut self) {
        self.ended(StopReason::ContextFull);
    }

    /// The server could not be asked.
    pub fn is_lost(&mut self, why: String) {
        self.end = Some((SERVER_UNAVAILABLE.to_owned(), None, false, Some(why)));
    }

    /// What is kept of it, after `secs`; `None` before it has ended.
    #[must_use]
    pub fn record(self, secs: f64) -> Option<AnswerRecord> {
        let (stop, answer, format_ok, error) = self.end?;
        let mut calls = BTreeMap::new();
        self.earlier.iter().for_each(|call| *calls.entry(call.tool.clone()).or_insert(0) += 1);
        Some(AnswerRecord {
            benchmark: self.name.benchmark.to_owned(),
            id: self.name.id.to_owned(),
            sample: self.name.sample,
            seed: self.name.seed,
            stop,
            answer,
            format_ok,
            calls,
            n_prompt_tokens: self.n_prompt,
            n_sampled_tokens: self.n_sampled,
            secs,
            error,
            text: self.text,
        })
    }

    /// The turn with the tag that ended it, and what it means; nothing where it was cut.
    fn read(&self, turn: &Turn) -> (String, Option<Action>) {
        let tools = &self.settings.tools;
        let read = |text: &str, ended| match Dialect::Aepo.parse(text, ended, tools) {
            Action::Call { tool, input } if tool == ToolName::PYTHON && self.settings.code_fences => {
                Action::Call { tool, input: without_fence(&input).to_owned() }
            }
            action => action,
        };
        let with = |stop: &str| format!("{}{stop}", turn.text);
        let is_call = |action: &Action| matches!(action, Action::Call { .. });
        match &turn.end {
            TurnEnd::Cut => (turn.text.clone(), None),
            TurnEnd::Stop(stop) => {
                // Some servers leave the text that ended a turn in its place.
                let text = if turn.text.ends_with(stop.as_str()) { turn.text.clone() } else { with(stop) };
                let action = read(&text, false);
                (text, Some(action))
            }
            TurnEnd::Own => (turn.text.clone(), Some(read(&turn.text, true))),
            TurnEnd::Unsaid => {
                // With the tag of a call that is open it is a call; of several the one that makes it one.
                let closed = std::iter::once(String::new()).chain(self.stops()).map(|stop| with(&stop));
                let mut calls = closed.map(|text| (read(&text, false), text)).filter(|(action, _)| is_call(action));
                match calls.next() {
                    Some((action, text)) => (text, Some(action)),
                    None => (turn.text.clone(), Some(read(&turn.text, true))),
                }
            }
        }
    }

    /// Adds words of the model.
    fn write(&mut self, written: &str) {
        self.text += written;
        match self.settings.results {
            Results::Message => self.messages.push((Who::Assistant, written.to_owned())),
            Results::Turn => self.write_on(written),
        }
    }

    /// Goes on with the model's last message, or begins it.
    fn write_on(&mut self, text: &str) {
        match self.messages.last_mut() {
            Some((Who::Assistant, message)) => *message += text,
            _ => self.messages.push((Who::Assistant, text.to_owned())),
        }
    }

    fn call_seed(&self) -> Seed {
        const CALL: u64 = 2;
        self.seed.child(CALL).child(self.earlier.len() as u64)
    }

    fn ended(&mut self, stop: StopReason) -> Next {
        let name = stop.name().to_owned();
        self.end = Some(match stop {
            StopReason::Answered(answer) => (name, Some(answer), true, None),
            _ => (name, None, false, None),
        });
        Next::End
    }
}

#[cfg(test)]
mod tests;
