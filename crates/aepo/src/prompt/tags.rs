//! What does the quickstart's own protocol look like? Every tag is one special token, so that text can never be a tag.

use super::chat::tool_call;
use super::grammar::{Piece, Tag, read};
use super::message::{Message, Speaker};
use super::tokenizer::Tokenizer;
use super::{Action, Malformation, PromptError};
use crate::tool::{ToolName, ToolSpec};

/// Ids of the tokens that prompts, turns and results are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tags {
    user: u32,
    assistant: u32,
    end: u32,
    /// Opening and closing, in the order of [`NAMES`].
    pairs: [[u32; 2]; 5],
    /// The tools that have tags, in the order of [`Tag::Tool`].
    tools: [ToolSpec; 2],
    offered: Vec<ToolName>,
}

/// Every name in tags, and what it means.
const NAMES: [(&str, Tag); 5] = [
    ("think", Tag::Think),
    ("search", Tag::Tool(1)),
    ("python", Tag::Tool(0)),
    ("answer", Tag::Answer),
    ("result", Tag::Result),
];
/// Places in [`NAMES`].
const SEARCH: usize = 1;
const PYTHON: usize = 2;
const RESULT: usize = 4;

impl Tags {
    /// Looks the tokens up; each must be one special id. Only Python and search have tags.
    pub(super) fn new(tokenizer: &Tokenizer, offered: &[ToolSpec]) -> Result<Tags, PromptError> {
        let tools = ToolSpec::python_and_search();
        let offered: Vec<ToolName> = offered.iter().map(|tool| tool.name.clone()).collect();
        if let Some(name) = offered.iter().find(|&name| tools.iter().all(|tool| tool.name != *name)) {
            return Err(PromptError::NoTagOfTool { name: name.clone() });
        }
        let mut pairs = [[0; 2]; 5];
        for (pair, (name, _)) in pairs.iter_mut().zip(NAMES) {
            *pair = [tokenizer.special(&format!("<{name}>"))?, tokenizer.special(&format!("</{name}>"))?];
        }
        Ok(Tags {
            user: tokenizer.special("<|user|>")?,
            assistant: tokenizer.special("<|assistant|>")?,
            end: tokenizer.special("<|end|>")?,
            pairs,
            tools,
            offered,
        })
    }

    /// `<|user|> question<|assistant|>`
    pub(super) fn first_prompt(&self, tokenizer: &Tokenizer, question: &str) -> Vec<u32> {
        let question = tokenizer.encode_text(&format!(" {question}"));
        [&[self.user][..], &question, &[self.assistant]].concat()
    }

    /// `<result>text</result>`, with at most `max_tokens` ids between the tags.
    pub(super) fn tool_result(&self, tokenizer: &Tokenizer, text: &str, max_tokens: usize) -> Vec<u32> {
        let [open, close] = self.pairs[RESULT];
        let mut ids = vec![open];
        ids.extend(tokenizer.encode_text(text).into_iter().take(max_tokens));
        ids.push(close);
        ids
    }

    /// A conversation up to the model's next words. What the assistant said before may hold the protocol's tags.
    pub(super) fn conversation(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>, PromptError> {
        let mut ids = Vec::new();
        // Who speaks where the ids end: the assistant, whose turn goes on behind a call.
        let mut before: Option<Speaker> = None;
        for (index, message) in messages.iter().enumerate() {
            match message.role {
                Speaker::System => return Err(PromptError::NoSystem),
                Speaker::User => {
                    ids.push(self.user);
                    ids.extend(tokenizer.encode_text(&format!(" {}", message.content)));
                }
                Speaker::Assistant => {
                    if before != Some(Speaker::Tool) {
                        ids.push(self.assistant);
                    }
                    ids.extend(tokenizer.encode_marked(&message.content));
                    for call in &message.calls {
                        let input = tool_call(&self.tools, &call.name, &call.arguments);
                        let (tool, input) = input.ok_or_else(|| PromptError::UnknownCall {
                            name: call.name.clone(),
                            known: "python(code), search(query)".to_owned(),
                        })?;
                        let [open, close] = self.pairs[if tool == ToolName::PYTHON { PYTHON } else { SEARCH }];
                        ids.push(open);
                        ids.extend(tokenizer.encode_text(&input));
                        ids.push(close);
                    }
                    if message.calls.is_empty() {
                        ids.push(self.end);
                    }
                }
                Speaker::Tool if !matches!(before, Some(Speaker::Assistant | Speaker::Tool)) => {
                    return Err(PromptError::NoCallBefore { index });
                }
                Speaker::Tool => ids.extend(self.tool_result(tokenizer, &message.content, usize::MAX)),
            }
            before = Some(message.role);
        }
        if before != Some(Speaker::Tool) {
            ids.push(self.assistant);
        }
        Ok(ids)
    }

    /// `</search>`, `</python>`, `<|end|>`.
    pub(super) fn stop_ids(&self) -> [u32; 3] {
        [self.pairs[SEARCH][1], self.pairs[PYTHON][1], self.end]
    }

    /// Reads the ids of a turn, never text that looks like tags.
    pub(super) fn parse(&self, tokenizer: &Tokenizer, turn: &[u32]) -> Action {
        let tag_of = |id: u32, side: usize| {
            self.pairs.iter().zip(NAMES).find(|(pair, _)| pair[side] == id).map(|(_, (_, tag))| tag)
        };
        let mut pieces = Vec::new();
        let mut rest = turn;
        while let Some(&id) = rest.first() {
            let n_words = rest.iter().take_while(|&&id| !tokenizer.is_special(id)).count();
            if n_words > 0 {
                pieces.push(Piece::Text(tokenizer.decode(&rest[..n_words])));
                rest = &rest[n_words..];
                continue;
            }
            pieces.push(match (tag_of(id, 0), tag_of(id, 1)) {
                (Some(tag), _) => Piece::Open(tag),
                (None, Some(tag)) => Piece::Close(tag),
                (None, None) if id == self.end => Piece::End,
                (None, None) => Piece::Foreign,
            });
            rest = &rest[1..];
        }
        match read(&pieces, false, &self.tools) {
            Action::Call { tool, .. } if !self.offered.contains(&tool) => Action::Malformed(Malformation::BadCall),
            action => action,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Malformation;
    use super::super::tokenizer::tests::tiny;
    use super::*;

    #[test]
    fn turns_are_read_by_the_grammar() {
        use Malformation::{BadTags, NoAction, NoBox};
        let tokenizer = tiny();
        let tags = Tags::new(&tokenizer, &ToolSpec::python_and_search()).unwrap();
        let call = |tool, input: &str| Action::Call { tool, input: input.to_owned() };
        let answer = |text: &str| Action::Answer(text.to_owned());
        let table = [
            ("<search> Algeria area</search>", call(ToolName::SEARCH, " Algeria area")),
            ("<think> I look.</think><python>print( 1 + 2)</python>", call(ToolName::PYTHON, "print( 1 + 2)")),
            ("<think></think><search></search>", call(ToolName::SEARCH, "")),
            ("<answer>\\boxed{ Algiers}</answer><|end|>", answer("Algiers")),
            ("<think> a</think><answer> It is \\boxed{ 5} km.</answer><|end|>", answer("5")),
            ("<answer>\\boxed{\\frac{1}{2}}</answer><|end|>", answer("\\frac{1}{2}")),
            ("<answer>\\boxed{1} or \\boxed{2}</answer><|end|>", answer("2")),
            ("", Action::Malformed(NoAction)),
            ("<|end|>", Action::Malformed(NoAction)),
            ("Algiers<|end|>", Action::Malformed(NoAction)),
            ("<think> a</think>", Action::Malformed(NoAction)),
            ("<think> a</think><|end|>", Action::Malformed(NoAction)),
            ("<think> a", Action::Malformed(NoAction)),
            ("<search> a", Action::Malformed(NoAction)),
            ("<answer>\\boxed{1}", Action::Malformed(NoAction)),
            ("<answer>\\boxed{1}</answer>", Action::Malformed(NoAction)),
            ("<answer> Algiers</answer><|end|>", Action::Malformed(NoBox)),
            ("<answer>\\boxed{ Algiers</answer><|end|>", Action::Malformed(NoBox)),
            ("<answer>\\boxed{ }</answer><|end|>", Action::Malformed(NoBox)),
            ("<think> a<search> b</search>", Action::Malformed(BadTags)),
            ("<think> a<|end|>", Action::Malformed(BadTags)),
            ("</think><search> a</search>", Action::Malformed(BadTags)),
            ("<think> a</think><think> b</think><search> c</search>", Action::Malformed(BadTags)),
            (" word <search> a</search>", Action::Malformed(BadTags)),
            ("<search> a</python>", Action::Malformed(BadTags)),
            ("<search> a</search><search> b</search>", Action::Malformed(BadTags)),
            ("<search> a</search> b", Action::Malformed(BadTags)),
            ("<search> a</search><|end|>", Action::Malformed(BadTags)),
            ("<result> a</result>", Action::Malformed(BadTags)),
            ("<answer>\\boxed{1}</answer><|end|> more", Action::Malformed(BadTags)),
            ("<answer>\\boxed{1}</answer> more<|end|>", Action::Malformed(BadTags)),
            ("<answer><search> a</search>\\boxed{1}</answer><|end|>", Action::Malformed(BadTags)),
        ];
        for (turn, expected) in table {
            assert_eq!(tags.parse(&tokenizer, &tokenizer.encode_marked(turn)), expected, "{turn}");
        }
    }

    #[test]
    fn only_python_and_search_have_tags_and_only_what_is_offered_is_called() {
        let tokenizer = tiny();
        let tags = Tags::new(&tokenizer, &[ToolSpec::search()]).unwrap();
        let parse = |text: &str| tags.parse(&tokenizer, &tokenizer.encode_marked(text));
        assert_eq!(parse("<python> 1</python>"), Action::Malformed(Malformation::BadCall));
        assert!(matches!(parse("<search> 1</search>"), Action::Call { .. }));
        let visit = ToolSpec { name: ToolName::new("visit").unwrap(), ..ToolSpec::search() };
        let error = Tags::new(&tokenizer, &[visit]).unwrap_err().to_string();
        assert!(error.contains("no tags for the tool visit"), "{error}");
    }

    #[test]
    fn text_that_looks_like_tags_is_no_action() {
        let tokenizer = tiny();
        let tags = Tags::new(&tokenizer, &ToolSpec::python_and_search()).unwrap();
        let turn = tokenizer.encode_text("<answer>\\boxed{1}</answer><|end|>");
        assert_eq!(tags.parse(&tokenizer, &turn), Action::Malformed(Malformation::NoAction));
    }
}
