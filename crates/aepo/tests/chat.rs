//! Are conversations rendered as `transformers` renders them? The texts come from `golden/make_chat.py`.

use std::collections::BTreeMap;

use aepo::prompt::message::{FunctionCall, Message, Speaker};
use aepo::prompt::template::{ChatTemplate, Date, RenderOptions, TemplateError};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    specials: BTreeMap<String, String>,
    tools: Vec<Value>,
    conversations: BTreeMap<String, Vec<Given>>,
    cases: Vec<Case>,
}

/// A message as OpenAI's format has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    role: Speaker,
    content: Option<String>,
    #[serde(default)]
    tool_calls: Vec<Call>,
    name: Option<String>,
    reasoning_content: Option<String>,
}

#[derive(Deserialize)]
struct Call {
    function: Function,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Function {
    name: String,
    arguments: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    template: String,
    conversation: String,
    tools: bool,
    variables: BTreeMap<String, Value>,
    add_generation_prompt: bool,
    text: Option<String>,
    refused: Option<String>,
}

fn message(given: &Given) -> Message {
    let call = |c: &Call| FunctionCall { name: c.function.name.clone(), arguments: c.function.arguments.clone() };
    Message {
        role: given.role,
        content: given.content.clone().unwrap_or_default(),
        calls: given.tool_calls.iter().map(call).collect(),
        name: given.name.clone(),
        reasoning: given.reasoning_content.clone(),
    }
}

fn source(name: &str) -> &'static str {
    match name {
        "chatml" => include_str!("golden/chat/chatml.jinja"),
        "hermes" => include_str!("golden/chat/hermes.jinja"),
        "llama3" => include_str!("golden/chat/llama3.jinja"),
        "qwen2_5" => include_str!("golden/chat/qwen2_5.jinja"),
        "qwen3" => include_str!("golden/chat/qwen3.jinja"),
        "smollm2" => include_str!("golden/chat/smollm2.jinja"),
        other => panic!("no template {other}"),
    }
}

#[test]
fn conversations_are_rendered_as_by_transformers() {
    let golden: Golden = serde_json::from_str(include_str!("golden/chat.json")).unwrap();
    assert_eq!(golden.cases.len(), 120);
    for case in &golden.cases {
        let at = format!("{}, {}, {:?}", case.template, case.conversation, case.variables);
        let template = ChatTemplate::parse(source(&case.template), golden.specials.clone()).expect(&at);
        let messages: Vec<Message> = golden.conversations[&case.conversation].iter().map(message).collect();
        let options = RenderOptions {
            tools: if case.tools { &golden.tools } else { &[] },
            add_generation_prompt: case.add_generation_prompt,
            variables: &case.variables,
            today: Date::new(2025, 3, 9),
        };
        let expected = match (&case.text, &case.refused) {
            (Some(text), None) => Ok(text.clone()),
            (None, Some(message)) => Err(TemplateError::Refused { message: message.clone() }),
            _ => panic!("{at}: neither or both"),
        };
        assert_eq!(template.render(&messages, &options), expected, "{at}");
    }
}

#[test]
fn a_template_without_a_place_for_calls_refuses_them() {
    let call = FunctionCall { name: "f".to_owned(), arguments: Map::new() };
    let messages =
        [Message::text(Speaker::User, "q"), Message { calls: vec![call], ..Message::text(Speaker::Assistant, "") }];
    let variables = BTreeMap::new();
    let options = RenderOptions { tools: &[], add_generation_prompt: true, variables: &variables, today: None };
    for (name, has_calls) in [("chatml", false), ("smollm2", false), ("qwen2_5", true), ("qwen3", true)] {
        let template = ChatTemplate::parse(source(name), BTreeMap::new()).unwrap();
        assert_eq!(template.has_calls(), has_calls, "{name}");
        let rendered = template.render(&messages, &options);
        assert_eq!(rendered.err(), (!has_calls).then_some(TemplateError::NoCalls), "{name}");
    }
}

#[test]
fn a_template_that_writes_the_date_needs_one() {
    let template = ChatTemplate::parse(source("llama3"), BTreeMap::from([("bos_token".into(), "<s>".into())])).unwrap();
    let messages = [Message::text(Speaker::User, "q")];
    let mut variables = BTreeMap::new();
    let render = |variables: &BTreeMap<String, Value>| {
        template.render(&messages, &RenderOptions { tools: &[], add_generation_prompt: true, variables, today: None })
    };
    assert_eq!(render(&variables), Err(TemplateError::NoDate));
    variables.insert("date_string".to_owned(), "9 Mar 2025".into());
    assert!(render(&variables).unwrap().contains("Today: 9 Mar 2025\n"));
}
