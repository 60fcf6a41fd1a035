//! How does a conversation from outside become ids, and what the model says a message again? For those who serve it.
//!
//! A rollout has one system message and one set of tools, and its prompt only grows. Whoever calls a served model brings
//! whole conversations and tools of their own, so a conversation is rendered anew each time, by the same template and
//! with the same guards.

mod turn;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::PromptError;
use super::chat::{Dialect, MARKER, guarded, tool_call};
use super::message::{Message, Speaker};
use super::tags::Tags;
use super::template::{ChatTemplate, Date, RenderOptions};
use super::tokenizer::{SPECIALS, Tokenizer};
use crate::tool::{ToolInput, ToolName, ToolNameError, ToolSpec, canonical_json};

pub use turn::{Turn, overlap};

/// The token behind which Llama 3 models write programs.
const PYTHON_TAG: &str = "<|python_tag|>";

/// A chat model's own ways.
#[derive(Clone, Debug)]
pub struct Template {
    /// For conversations without tools.
    pub plain: ChatTemplate,
    /// For those with tools; often the same.
    pub with_tools: ChatTemplate,
    /// How calls are written; `None` where nobody knows, and no tools can be offered.
    pub dialect: Option<Dialect>,
    /// The date, for templates that write one.
    pub today: Option<Date>,
}

enum Form {
    Bare,
    Tags(Box<Tags>),
    Chat(Box<Template>),
}

/// How a served model is talked to.
pub struct Talk {
    tokenizer: Arc<Tokenizer>,
    form: Form,
    stop_ids: Vec<u32>,
    shown: Arc<[Box<[u8]>]>,
}

/// A tool as a request offers it.
#[derive(Clone, Debug)]
pub struct Offered {
    /// As it was described: `{"type": "function", "function": {…}}`.
    pub schema: Value,
    /// As it is called in tags.
    pub spec: ToolSpec,
}

impl Offered {
    /// A function of this name and JSON schema. Python, search and visit, when they take one text, are called with it
    /// alone, as they are in training; all others with an object.
    ///
    /// # Errors
    /// When tags could not hold the name.
    pub fn new(name: &str, schema: Value) -> Result<Offered, ToolNameError> {
        let name = ToolName::new(name)?;
        let (parameters, description) = (&schema["function"]["parameters"], &schema["function"]["description"]);
        let only = match parameters["properties"].as_object().map(|all| all.iter().collect::<Vec<_>>()).as_deref() {
            Some([(argument, about)]) if about["type"] == "string" => Some((*argument, *about)),
            _ => None,
        };
        let takes_text = [ToolName::PYTHON, ToolName::SEARCH, ToolName::VISIT].contains(&name);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let input = match only.filter(|_| takes_text) {
            Some((argument, about)) => {
                ToolInput::Text { argument: argument.clone(), about: text(&about["description"]) }
            }
            None => ToolInput::Arguments(parameters.clone()),
        };
        let spec = ToolSpec { name, description: text(description), input };
        Ok(Offered { schema, spec })
    }
}

impl Talk {
    /// A model that continues texts and holds no conversations. `eos` are the ids that end a text by its own account.
    #[must_use]
    pub fn bare(tokenizer: Arc<Tokenizer>, eos: &[u32]) -> Talk {
        let shown = shown(&tokenizer, &[]);
        Talk { tokenizer, form: Form::Bare, stop_ids: eos.to_vec(), shown }
    }

    /// The quickstart's own protocol.
    ///
    /// # Errors
    /// When the vocabulary lacks one of its tags.
    pub fn tags(tokenizer: Arc<Tokenizer>) -> Result<Talk, PromptError> {
        let tags = Tags::new(&tokenizer, &ToolSpec::python_and_search())?;
        let kept: Vec<&str> = SPECIALS.into_iter().filter(|name| !name.starts_with("<|")).collect();
        let (stop_ids, shown) = (tags.stop_ids().to_vec(), shown(&tokenizer, &kept));
        Ok(Talk { tokenizer, form: Form::Tags(Box::new(tags)), stop_ids, shown })
    }

    /// A chat model. `eos` are the ids that end a turn by its own account, besides the one that its template writes.
    ///
    /// # Errors
    /// When the template renders no question.
    pub fn chat(tokenizer: Arc<Tokenizer>, template: Template, eos: &[u32]) -> Result<Talk, PromptError> {
        let is_llama = template.dialect == Some(Dialect::Llama3);
        let shown = shown(&tokenizer, if is_llama { &[PYTHON_TAG] } else { &[] });
        let mut stop_ids = eos.to_vec();
        let turn = [Message::text(Speaker::User, "?"), Message::text(Speaker::Assistant, MARKER)];
        let none = BTreeMap::new();
        let behind = render(&template.plain, &turn, &[], &none, template.today, false)?;
        let behind = behind.split_once(MARKER).map_or("", |(_, behind)| behind);
        let end = tokenizer.encode_rendered(behind, MARKER).first().copied().filter(|&id| tokenizer.is_added(id));
        let eom = if is_llama { tokenizer.special("<|eom_id|>").ok() } else { None };
        for id in end.into_iter().chain(eom) {
            if !stop_ids.contains(&id) {
                stop_ids.push(id);
            }
        }
        let talk = Talk { tokenizer, form: Form::Chat(Box::new(template)), stop_ids, shown };
        talk.prompt(&turn[..1], &[], &none)?;
        Ok(talk)
    }

    /// Whether it holds conversations.
    #[must_use]
    pub fn holds_conversations(&self) -> bool {
        !matches!(self.form, Form::Bare)
    }

    /// The tokenizer underneath.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Ids that end a turn or a text.
    #[must_use]
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// Texts that end a turn where these tools are offered.
    #[must_use]
    pub fn stop_texts(&self, tools: &[Offered]) -> Vec<String> {
        let specs: Vec<ToolSpec> = tools.iter().map(|tool| tool.spec.clone()).collect();
        match &self.form {
            Form::Chat(template) => template.dialect.map_or_else(Vec::new, |dialect| dialect.stop_texts(&specs)),
            Form::Bare | Form::Tags(_) => Vec::new(),
        }
    }

    /// What each id adds to a text that people read: nothing for special tokens, unless they are words of the protocol.
    #[must_use]
    pub fn shown(&self) -> Arc<[Box<[u8]>]> {
        Arc::clone(&self.shown)
    }

    /// Ids of a conversation up to the model's next words. `variables` are further names for the template.
    ///
    /// # Errors
    /// When the model holds no such conversation.
    pub fn prompt(
        &self,
        messages: &[Message],
        tools: &[Offered],
        variables: &BTreeMap<String, Value>,
    ) -> Result<Vec<u32>, PromptError> {
        if let (Some(name), Form::Bare | Form::Tags(_)) = (variables.keys().next(), &self.form) {
            return Err(PromptError::UnusedVariable { name: name.clone() });
        }
        match &self.form {
            Form::Bare => Err(PromptError::NoConversations),
            Form::Tags(tags) => {
                let known = ToolSpec::python_and_search();
                match tools.iter().find(|tool| known.iter().all(|known| known.name != tool.spec.name)) {
                    Some(other) => Err(PromptError::NoTagOfTool { name: other.spec.name.clone() }),
                    None => tags.conversation(&self.tokenizer, messages),
                }
            }
            Form::Chat(template) => match template.dialect {
                None if !tools.is_empty() => Err(PromptError::NoTools),
                Some(Dialect::Aepo) => self.in_tags(template, messages, tools, variables),
                Some(Dialect::Hermes | Dialect::Llama3) | None => {
                    let schemas: Vec<Value> = tools.iter().map(|tool| tool.schema.clone()).collect();
                    self.opening(template, messages, &schemas, variables)
                }
            },
        }
    }

    /// Renders by the template. What the assistant said before may hold tokens for thoughts and calls, what others say
    /// may hold none.
    fn opening(
        &self,
        template: &Template,
        messages: &[Message],
        schemas: &[Value],
        variables: &BTreeMap<String, Value>,
    ) -> Result<Vec<u32>, PromptError> {
        let tok = &self.tokenizer;
        let (messages, schemas, guard) = guarded(messages, schemas, |who, text, guard| match who {
            Some(Speaker::Assistant) => tok.guard_special(text, guard),
            _ => tok.guard_text(text, guard),
        })?;
        let source = if schemas.is_empty() { &template.plain } else { &template.with_tools };
        let text = render(source, &messages, &schemas, variables, template.today, true)?;
        for name in variables.keys() {
            let mut without = variables.clone();
            without.remove(name);
            if render(source, &messages, &schemas, &without, template.today, true).is_ok_and(|same| same == text) {
                return Err(PromptError::UnusedVariable { name: name.clone() });
            }
        }
        if !schemas.is_empty() && render(source, &messages, &[], variables, template.today, true)? == text {
            return Err(PromptError::ToolsNotShown);
        }
        Ok(tok.encode_rendered(&text, guard))
    }

    /// The tags of AEPO: the system message tells of the tools, and calls and results stand in the assistant's one turn.
    fn in_tags(
        &self,
        template: &Template,
        messages: &[Message],
        tools: &[Offered],
        variables: &BTreeMap<String, Value>,
    ) -> Result<Vec<u32>, PromptError> {
        let specs: Vec<ToolSpec> = tools.iter().map(|tool| tool.spec.clone()).collect();
        let mut folded: Vec<Message> = Vec::new();
        // The parts of a turn of the assistant that no other message has ended.
        let mut turn: Vec<String> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            match message.role {
                Speaker::Assistant => {
                    let mut text = message.content.clone();
                    for call in &message.calls {
                        let input = tool_call(&specs, &call.name, &call.arguments).map(|(_, input)| input);
                        let input = input.unwrap_or_else(|| canonical_json(&Value::Object(call.arguments.clone())));
                        text += &format!("<{name}>{input}</{name}>", name = call.name);
                    }
                    turn.push(text);
                }
                Speaker::Tool if turn.is_empty() => return Err(PromptError::NoCallBefore { index }),
                Speaker::Tool => {
                    turn.extend(["<result>\n".to_owned(), message.content.clone(), "\n</result>".to_owned()]);
                }
                Speaker::System | Speaker::User => {
                    if !turn.is_empty() {
                        folded.push(Message::text(Speaker::Assistant, turn.concat()));
                        turn.clear();
                    }
                    folded.push(message.clone());
                }
            }
        }
        if !tools.is_empty() {
            let told = Dialect::Aepo.system(&specs);
            match folded.first_mut().filter(|message| message.role == Speaker::System) {
                Some(system) => system.content += &format!("\n\n{told}"),
                None => folded.insert(0, Message::text(Speaker::System, told)),
            }
        }
        let goes_on = messages.last().is_some_and(|message| message.role == Speaker::Tool);
        if !turn.is_empty() && !goes_on {
            folded.push(Message::text(Speaker::Assistant, turn.concat()));
            turn.clear();
        }
        let mut ids = self.opening(template, &folded, &[], variables)?;
        turn.iter().for_each(|part| ids.extend(self.tokenizer.encode_text(part)));
        Ok(ids)
    }
}

fn render(
    template: &ChatTemplate,
    messages: &[Message],
    tools: &[Value],
    variables: &BTreeMap<String, Value>,
    today: Option<Date>,
    add_generation_prompt: bool,
) -> Result<String, PromptError> {
    Ok(template.render(messages, &RenderOptions { tools, add_generation_prompt, variables, today })?)
}

/// The bytes of each id, none for special tokens but those of these names.
fn shown(tokenizer: &Tokenizer, kept: &[&str]) -> Arc<[Box<[u8]>]> {
    let kept: Vec<u32> = kept.iter().filter_map(|name| tokenizer.added(name)).collect();
    let bytes = tokenizer.byte_table();
    let is_kept = |id: u32| !tokenizer.is_special(id) || kept.contains(&id);
    (0..).zip(bytes.iter()).map(|(id, bytes)| if is_kept(id) { bytes.clone() } else { Box::default() }).collect()
}
