//! How does a chat model's own template become prompts that only ever grow? Rendered once, then extended token by token.
//!
//! A template renders whole conversations, but a rollout may not tokenise again what was sampled. So the first prompt is
//! rendered, and from then on only what stands *between* two turns of the model: a marker is put in the place of the
//! turn, and what the template writes behind it, less the token that the model sampled itself, is appended.

mod dialect;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::message::{Message, Speaker};
use super::template::{ChatTemplate, Date, RenderOptions};
use super::tokenizer::{Tokenizer, pick_guard};
use super::{Action, PromptError};
use crate::data::demos::Role;
use crate::stop::Stop;
use crate::tool::{ToolInput, ToolName, ToolSpec};

pub use dialect::Dialect;
pub use dialect::without_fence;
pub(super) use dialect::{function_call, tool_call};

/// Stands for a turn of the model where a template is asked what follows it. A noncharacter, which no text has to hold.
pub(super) const MARKER: char = '\u{FDEF}';

/// What a recipe and a model say about prompts.
#[derive(Clone, Debug)]
pub struct ChatSettings {
    /// How calls and answers are written.
    pub dialect: Dialect,
    /// The tools that the model may call.
    pub tools: Vec<ToolSpec>,
    /// The system message; none where it is empty.
    pub system: String,
    /// Whether a program may stand in a Markdown fence, which is then taken off.
    pub code_fences: bool,
    /// Further names that the template may use, as `enable_thinking`.
    pub variables: BTreeMap<String, Value>,
    /// The date, for templates that write one.
    pub today: Option<Date>,
    /// Ids that end a turn by the model's own account, besides the one its template writes.
    pub eos: Vec<u32>,
}

/// A template with its dialect.
pub(super) struct Chat {
    template: ChatTemplate,
    settings: ChatSettings,
    /// The token that the template writes behind a turn of the model.
    end: u32,
    pub(super) stop: Arc<Stop>,
    /// What the template is given as tools in a rollout.
    pub(super) schemas: Vec<Value>,
    /// Whether the template writes them down.
    shows_tools: bool,
}

impl Chat {
    /// Finds the end of a turn by rendering one, and renders a question and a result, so that a template that cannot is
    /// refused here.
    pub(super) fn new(tok: &Tokenizer, template: ChatTemplate, settings: ChatSettings) -> Result<Chat, PromptError> {
        let schemas = settings.dialect.schemas(&settings.tools);
        let mut chat = Chat { template, settings, end: 0, stop: Arc::default(), schemas, shows_tools: true };
        let behind = chat.behind_marker(&[], false)?;
        let ids = tok.encode_rendered(&behind, MARKER);
        chat.end =
            ids.first().copied().filter(|&id| tok.is_added(id)).ok_or(PromptError::NoTurnEnd { found: behind })?;
        let mut stop_ids = vec![chat.end];
        let eom = (chat.settings.dialect == Dialect::Llama3).then(|| tok.special("<|eom_id|>").ok()).flatten();
        for id in chat.settings.eos.iter().copied().chain(eom) {
            if !stop_ids.contains(&id) {
                stop_ids.push(id);
            }
        }
        let texts = chat.settings.dialect.stop_texts(&chat.settings.tools);
        let pieces = if texts.is_empty() { Arc::default() } else { tok.byte_table() };
        chat.stop = Arc::new(Stop { ids: stop_ids, texts, pieces });
        let prompt = chat.question(tok, "?")?;
        chat.tool_result(tok, "?", 1)?;
        if let [first, ..] = &mut chat.schemas[..] {
            let name = first["function"]["name"].take();
            chat.shows_tools = !chat.question(tok, "?").is_ok_and(|without| without == prompt);
            chat.schemas[0]["function"]["name"] = name;
        }
        for name in chat.settings.variables.keys().cloned().collect::<Vec<String>>() {
            let value = chat.settings.variables.remove(&name);
            let same = chat.question(tok, "?").is_ok_and(|without| without == prompt);
            if same {
                return Err(PromptError::UnusedVariable { name });
            }
            chat.settings.variables.extend(value.map(|value| (name, value)));
        }
        if let Some(today) = chat.settings.today.take() {
            // Where another date makes no difference, none was asked for.
            chat.settings.today = Date::new(1999, 9, 9);
            if chat.question(tok, "?").is_ok_and(|another| another == prompt) {
                return Err(PromptError::UnusedVariable { name: "prompt.date".to_owned() });
            }
            chat.settings.today = Some(today);
        }
        Ok(chat)
    }

    /// The conversation up to the model's first turn. A model that is not told of its tools could never call one.
    pub(super) fn first_prompt(&self, tok: &Tokenizer, question: &str) -> Result<Vec<u32>, PromptError> {
        match self.shows_tools {
            true => self.question(tok, question),
            false => Err(PromptError::ToolsNotShown),
        }
    }

    fn question(&self, tok: &Tokenizer, question: &str) -> Result<Vec<u32>, PromptError> {
        let mut messages = Vec::new();
        if !self.settings.system.is_empty() {
            messages.push(Message::text(Speaker::System, self.settings.system.as_str()));
        }
        messages.push(Message::text(Speaker::User, question));
        self.opening(tok, &messages, &self.schemas)
    }

    /// What stands between a call and the model's next words, with at most about `max_tokens` ids of the result's text.
    pub(super) fn tool_result(&self, tok: &Tokenizer, text: &str, max_tokens: usize) -> Result<Vec<u32>, PromptError> {
        let ids = tok.encode_text(text);
        let shown = match ids.get(..max_tokens) {
            // A character whose bytes were cut apart is left out.
            Some(shown) if shown.len() < ids.len() => tok.decode(shown).trim_end_matches('\u{FFFD}').to_owned(),
            _ => text.to_owned(),
        };
        self.between(tok, &[Message::text(Speaker::Tool, shown)])
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.settings.dialect
    }

    /// What the model did in `turn`.
    pub(super) fn parse(&self, tok: &Tokenizer, turn: &[u32]) -> Action {
        let (words, ended) = match turn.split_last() {
            Some((last, words)) if self.stop.ids.contains(last) => (words, true),
            _ => (turn, false),
        };
        match self.settings.dialect.parse(&tok.decode(words), ended, &self.settings.tools) {
            Action::Call { tool, input } if tool == ToolName::PYTHON && self.settings.code_fences => {
                Action::Call { tool, input: without_fence(&input).to_owned() }
            }
            action => action,
        }
    }

    /// A conversation as the tokens that a rollout of it would have; those of [`Role::Written`] are the model's. What
    /// follows its last turn is left out.
    pub(super) fn dialogue(
        &self,
        tok: &Tokenizer,
        messages: &[Message],
        tools: &[Value],
    ) -> Result<Vec<(Role, Vec<u32>)>, PromptError> {
        let is_turn = |message: &Message| message.role == Speaker::Assistant;
        let Some(mut at) = messages.iter().position(is_turn).filter(|&at| at > 0) else {
            return Err(PromptError::NoTurn);
        };
        let mut segments = vec![(Role::Context, self.opening(tok, &messages[..at], tools)?)];
        loop {
            let n_between = messages[at + 1..].iter().position(is_turn);
            let between = n_between.map(|n| &messages[at + 1..at + 1 + n]);
            segments.extend(self.turn(tok, &messages[at], between)?);
            let Some(between) = between else { return Ok(segments) };
            segments.push((Role::Context, self.between(tok, between)?));
            at += 1 + between.len();
        }
    }

    /// Ids of messages that the model only reads, and the opening of its turn.
    fn opening(&self, tok: &Tokenizer, messages: &[Message], tools: &[Value]) -> Result<Vec<u32>, PromptError> {
        let (guarded, tools, guard) = guarded(messages, tools, |_, text, guard| tok.guard_text(text, guard))?;
        Ok(tok.encode_rendered(&self.render(&guarded, &tools, true)?, guard))
    }

    /// Ids between two turns of the model.
    fn between(&self, tok: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>, PromptError> {
        if let Some(message) = self.result_in_turn(messages) {
            return Ok(["<result>\n", &message.content, "\n</result>"]
                .iter()
                .flat_map(|t| tok.encode_text(t))
                .collect());
        }
        let (guarded, _, guard) = guarded(messages, &[], |_, text, guard| tok.guard_text(text, guard))?;
        let behind = self.behind_marker(&guarded, true)?;
        let mut ids = tok.encode_rendered(&behind, guard);
        match ids.first() == Some(&self.end) {
            // The model sampled it.
            true => Ok(ids.split_off(1)),
            false => Err(PromptError::NoTurnEnd { found: behind }),
        }
    }

    /// The result that stands in the model's own turn, where tools are called in tags.
    fn result_in_turn<'a>(&self, messages: &'a [Message]) -> Option<&'a Message> {
        match messages {
            [message] if self.dialect() == Dialect::Aepo && message.role == Speaker::Tool => Some(message),
            _ => None,
        }
    }

    /// Ids of a turn that the model is shown as its own, with the token that ends it.
    fn turn(
        &self,
        tok: &Tokenizer,
        message: &Message,
        between: Option<&[Message]>,
    ) -> Result<Vec<(Role, Vec<u32>)>, PromptError> {
        if self.settings.dialect == Dialect::Aepo {
            return self.tagged_turn(tok, message, between);
        }
        // What is special may not come from data; thoughts and calls have tokens that the model should write.
        let one = std::slice::from_ref(message);
        let (mut all, _, guard) = guarded(one, &[], |_, text, guard| tok.guard_special(text, guard))?;
        let user = Message::text(Speaker::User, "?");
        let head = self.render(std::slice::from_ref(&user), &[], true)?;
        all.insert(0, user);
        let whole = self.render(&all, &[], false)?;
        let Some(turn) = whole.strip_prefix(&head) else {
            return Err(PromptError::TurnNotAppended { head });
        };
        let mut ids = tok.encode_rendered(turn, guard);
        match ids.iter().position(|&id| id == self.end) {
            Some(end) => ids.truncate(end + 1),
            None => return Err(PromptError::NoTurnEnd { found: turn.to_owned() }),
        }
        Ok(vec![(Role::Written, ids)])
    }

    /// A turn in tags: calls are text, results that stand in it are context, and only the answer ends it.
    fn tagged_turn(
        &self,
        tok: &Tokenizer,
        message: &Message,
        between: Option<&[Message]>,
    ) -> Result<Vec<(Role, Vec<u32>)>, PromptError> {
        const OPEN: &str = "<result>";
        const CLOSE: &str = "</result>";
        let mut text = message.content.clone();
        for call in &message.calls {
            let (tool, input) = tool_call(&self.settings.tools, &call.name, &call.arguments).ok_or_else(|| {
                PromptError::UnknownCall {
                    name: call.name.clone(),
                    known: self.settings.tools.iter().map(signature).collect::<Vec<String>>().join(", "),
                }
            })?;
            text += &Dialect::call_in_text(&tool, &input);
        }
        let mut segments = Vec::new();
        let mut rest = text.as_str();
        while let Some(open) = rest.find(OPEN) {
            let Some(n) = rest[open..].find(CLOSE) else { break };
            let close = open + n + CLOSE.len();
            for (role, part) in [(Role::Written, &rest[..open]), (Role::Context, &rest[open..close])] {
                if !part.is_empty() {
                    segments.push((role, tok.encode_text(part)));
                }
            }
            rest = &rest[close..];
        }
        let mut ids = tok.encode_text(rest);
        // A turn that a result goes on with has not ended, whatever white space stands behind its call.
        if between.and_then(|between| self.result_in_turn(between)).is_none() {
            ids.push(self.end);
        }
        segments.push((Role::Written, ids));
        Ok(segments)
    }

    /// What the template writes behind a turn of the model that is followed by `messages`.
    fn behind_marker(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, PromptError> {
        let mut all = vec![Message::text(Speaker::User, "?"), Message::text(Speaker::Assistant, MARKER)];
        all.extend_from_slice(messages);
        let text = self.render(&all, &[], add_generation_prompt)?;
        match text.split_once(MARKER) {
            Some((_, behind)) => Ok(behind.to_owned()),
            None => Err(PromptError::TurnNotShown),
        }
    }

    fn render(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String, PromptError> {
        let variables = &self.settings.variables;
        let options = RenderOptions { tools, add_generation_prompt, variables, today: self.settings.today };
        Ok(self.template.render(messages, &options)?)
    }
}

/// Messages and tools with a guard, which is returned too, in every place of their texts where `guard_text` wants it,
/// which is told who speaks. What a server says of its tools is no more to be trusted than what they return.
pub(super) fn guarded(
    messages: &[Message],
    tools: &[Value],
    guard_text: impl Fn(Option<Speaker>, &str, char) -> String,
) -> Result<(Vec<Message>, Vec<Value>, char), PromptError> {
    let (mut messages, mut tools) = (messages.to_vec(), tools.to_vec());
    let mut seen = vec![MARKER.to_string()];
    let mut for_each = |on: &mut dyn FnMut(Option<Speaker>, &mut String)| {
        messages.iter_mut().for_each(|message| {
            let role = message.role;
            for_each_text(message, &mut |text| on(Some(role), text));
        });
        tools.iter_mut().for_each(|tool| for_each_string(tool, &mut |text| on(None, text)));
    };
    for_each(&mut |_, text| seen.push(text.clone()));
    let guard = pick_guard(seen.iter().map(String::as_str))?;
    for_each(&mut |who, text| *text = guard_text(who, text, guard));
    Ok((messages, tools, guard))
}

/// The tool and what it takes, for a message to a person.
fn signature(tool: &ToolSpec) -> String {
    match &tool.input {
        ToolInput::Text { argument, .. } => format!("{}({argument})", tool.name),
        ToolInput::Arguments(_) => format!("{}(…)", tool.name),
    }
}

/// Every text of a message that a template may write.
fn for_each_text(message: &mut Message, on: &mut dyn FnMut(&mut String)) {
    on(&mut message.content);
    message.name.iter_mut().for_each(&mut *on);
    message.reasoning.iter_mut().for_each(&mut *on);
    for call in &mut message.calls {
        call.arguments.values_mut().for_each(|value| for_each_string(value, on));
    }
}

fn for_each_string(value: &mut Value, on: &mut dyn FnMut(&mut String)) {
    match value {
        Value::String(text) => on(text),
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_string(item, on)),
        Value::Object(fields) => {
            for (mut name, mut field) in std::mem::take(fields) {
                on(&mut name);
                for_each_string(&mut field, on);
                fields.insert(name, field);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
