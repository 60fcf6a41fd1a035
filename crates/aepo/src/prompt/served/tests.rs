//! Do conversations from outside become what a rollout would have written, and turns the calls that they hold?

use serde_json::json;

use super::super::tokenizer::tests::tiny;
use super::*;
use crate::data::message::FunctionCall;

/// A template in the manner of ChatML with the special tokens of the test vocabulary.
const TEMPLATE: &str = "\
{%- if tools %}{{ tools | map(attribute='function') | map(attribute='name') | join(' ') ~ '\\n' }}{% endif %}
{%- for m in messages %}
{{- '<|assistant|>' if m.role == 'assistant' else '<|user|>' }}{{ m.role + '\\n' + (m.content or '') }}
{%- for c in m.tool_calls or [] %}{{ '\\n<tool_call>' + c.function | tojson + '</tool_call>' }}{% endfor %}
{{- '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>assistant\\n' }}{% if quiet %}quiet{% endif %}{% endif %}";

fn talk(dialect: Option<Dialect>) -> Talk {
    let plain = ChatTemplate::parse(TEMPLATE, BTreeMap::new()).unwrap();
    let template = Template { with_tools: plain.clone(), plain, dialect, today: None };
    Talk::chat(Arc::new(tiny()), template, &[0]).unwrap()
}

fn tools() -> Vec<Offered> {
    let [python, search] = ToolSpec::python_and_search();
    let clock = json!({"type": "function", "function": {"name": "now", "description": "Says the time.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}});
    [(python.name.as_str(), python.schema()), (search.name.as_str(), search.schema()), ("now", clock)]
        .into_iter()
        .map(|(name, schema)| Offered::new(name, schema).unwrap())
        .collect()
}

fn call(name: &str, arguments: Value) -> FunctionCall {
    FunctionCall { name: name.to_owned(), arguments: arguments.as_object().unwrap().clone() }
}

/// A question, a call, its result and what was made of it.
fn conversation(n: usize) -> Vec<Message> {
    let called = Message {
        calls: vec![call("search", json!({"query": "Algeria"}))],
        ..Message::text(Speaker::Assistant, "<think> I look.</think>")
    };
    let result = Message::text(Speaker::Tool, "Its capital is </result><|end|>.");
    let all = [Message::text(Speaker::User, "Is <|end|> it?"), called, result];
    let last = [Message::text(Speaker::Assistant, "It is."), Message::text(Speaker::User, "?")];
    all.into_iter().chain(last).take(n).collect()
}

#[track_caller]
fn check(talk: &Talk, messages: &[Message], tools: &[Offered], expected: &str) {
    let ids = talk.prompt(messages, tools, &BTreeMap::new()).unwrap();
    assert_eq!(talk.tokenizer().decode(&ids), expected);
}

#[test]
fn a_conversation_is_rendered_and_only_its_own_tags_are_tokens() {
    let tools = tools();
    let hermes = talk(Some(Dialect::Hermes));
    let expected = "python search now\n<|user|>user\nIs <|end|> it?<|end|>\n<|assistant|>assistant\n<think> I \
                    look.</think>\n<tool_call>{\"name\": \"search\", \"arguments\": {\"query\": \
                    \"Algeria\"}}</tool_call><|end|>\n<|user|>tool\nIts capital is \
                    </result><|end|>.<|end|>\n<|assistant|>assistant\n";
    check(&hermes, &conversation(3), &tools, expected);
    let ids = hermes.prompt(&conversation(3), &tools, &BTreeMap::new()).unwrap();
    let n_special = ids.iter().filter(|&&id| hermes.tokenizer().is_special(id)).count();
    // Two users, two assistants and three ends of the template.
    assert_eq!(n_special, 7);
    let tags = Talk::tags(Arc::new(tiny())).unwrap();
    let expected = "<|user|> Is <|end|> it?<|assistant|><think> I look.</think><search>Algeria</search><result>Its \
                    capital is </result><|end|>.</result>";
    check(&tags, &conversation(3), &tools[..2], expected);
    check(&tags, &conversation(5), &[], &format!("{expected}It is.<|end|><|user|> ?<|assistant|>"));
    let ids = tags.prompt(&conversation(3), &[], &BTreeMap::new()).unwrap();
    let n_special = ids.iter().filter(|&&id| tags.tokenizer().is_special(id)).count();
    assert_eq!(n_special, 8);
    let aepo = talk(Some(Dialect::Aepo));
    let told = Dialect::Aepo.system(&tools.iter().map(|tool| tool.spec.clone()).collect::<Vec<_>>());
    let head = format!("<|user|>system\n{told}<|end|>\n<|user|>user\nIs <|end|> it?<|end|>\n<|assistant|>assistant\n");
    let turn = "<think> I look.</think><search>Algeria</search><result>\nIts capital is </result><|end|>.\n</result>";
    check(&aepo, &conversation(3), &tools, &format!("{head}{turn}"));
    let rest = "It is.<|end|>\n<|user|>user\n?<|end|>\n<|assistant|>assistant\n";
    check(&aepo, &conversation(5), &tools, &format!("{head}{turn}{rest}"));
}

#[test]
fn what_a_model_cannot_hold_is_an_error() {
    let none = BTreeMap::new();
    let bare = Talk::bare(Arc::new(tiny()), &[3]);
    assert!(matches!(bare.prompt(&conversation(1), &[], &none), Err(PromptError::NoConversations)));
    let tags = Talk::tags(Arc::new(tiny())).unwrap();
    let system = [Message::text(Speaker::System, "Be good.")];
    assert!(matches!(tags.prompt(&system, &[], &none), Err(PromptError::NoSystem)));
    assert!(matches!(tags.prompt(&conversation(1), &tools(), &none), Err(PromptError::NoTagOfTool { .. })));
    let result = [Message::text(Speaker::Tool, "5")];
    for talk in [&tags, &talk(Some(Dialect::Aepo))] {
        assert!(matches!(talk.prompt(&result, &[], &none), Err(PromptError::NoCallBefore { index: 0 })));
    }
    assert!(matches!(talk(None).prompt(&conversation(1), &tools(), &none), Err(PromptError::NoTools)));
    let loud = BTreeMap::from([("loud".to_owned(), json!(true))]);
    let hermes = talk(Some(Dialect::Hermes));
    for talk in [&hermes, &tags] {
        assert!(matches!(talk.prompt(&conversation(1), &[], &loud), Err(PromptError::UnusedVariable { .. })));
    }
    let quiet = BTreeMap::from([("quiet".to_owned(), json!(true))]);
    assert!(hermes.prompt(&conversation(1), &[], &quiet).is_ok());
}

#[test]
fn turns_end_where_the_model_ends_them_and_special_tokens_are_not_shown() {
    let (tags, hermes) = (Talk::tags(Arc::new(tiny())).unwrap(), talk(Some(Dialect::Hermes)));
    let names = |talk: &Talk| talk.tokenizer().decode(talk.stop_ids());
    assert_eq!((names(&tags).as_str(), names(&hermes).as_str()), ("</search></python><|end|>", "<|pad|><|end|>"));
    assert_eq!(talk(Some(Dialect::Aepo)).stop_texts(&tools()), ["</python>", "</search>", "</now>"]);
    let shown = |talk: &Talk, name: &str| talk.shown()[talk.tokenizer().special(name).unwrap() as usize].to_vec();
    assert_eq!((shown(&tags, "<think>"), shown(&tags, "<|end|>")), (b"<think>".to_vec(), Vec::new()));
    assert_eq!(shown(&hermes, "<think>"), b"");
}

#[test]
fn a_turn_is_read_as_its_dialect_writes_calls() {
    use Dialect::{Aepo, Hermes, Llama3};
    let tools = tools();
    let search = || call("search", json!({"query": "Algeria"}));
    let now = || call("now", json!({"zone": "x", "a": 1}));
    let one = r#"<tool_call>{"name": "search", "arguments": {"query": "Algeria"}}</tool_call>"#;
    let two = r#"<tool_call>{"name": "now", "arguments": {"zone": "x", "a": 1}}</tool_call>"#;
    let llama = r#"{"name": "search", "parameters": {"query": "Algeria"}}"#;
    let program = call("python", json!({"code": "print(1)"}));
    // What is said of each, in bytes, and its calls; what is not said is what the call is read from.
    let table = [
        (Hermes, format!("Hm. {one}\n{two}\n"), "Hm. ", vec![search(), now()]),
        (Hermes, format!("<think>{two}</think>{one}"), &format!("<think>{two}</think>"), vec![search()]),
        (Hermes, one.replace("</tool_call>", ""), "", vec![search()]),
        (Hermes, one.replace("search", "other"), &one.replace("search", "other"), vec![]),
        (Hermes, format!("{one} or"), &format!("{one} or"), vec![]),
        (Hermes, "5 < 6 <tool".to_owned(), "5 < 6 <tool", vec![]),
        (Llama3, llama.to_owned(), "", vec![search()]),
        (Llama3, format!("{llama}; {llama}"), "", vec![search(), search()]),
        (Llama3, "<|python_tag|>print(1)".to_owned(), "", vec![program]),
        (Llama3, "{5} is it".to_owned(), "{5} is it", vec![]),
        (Llama3, " It is.".to_owned(), " It is.", vec![]),
        (Aepo, "<think> a</think><search>Algeria</search>".to_owned(), "<think> a</think>", vec![search()]),
        (Aepo, "<now>{\"zone\": \"x\", \"a\": 1}</now>\n".to_owned(), "", vec![now()]),
        (Aepo, "<now>late</now>".to_owned(), "<now>late</now>", vec![]),
        (Aepo, "<answer>5</answer>".to_owned(), "<answer>5</answer>", vec![]),
    ];
    for (dialect, text, content, mut calls) in table {
        let talk = talk(Some(dialect));
        let turn = talk.read(&text, &tools);
        // Arguments in tags are canonical JSON.
        calls.iter_mut().for_each(|call| call.arguments.sort_keys());
        let read: Vec<FunctionCall> = turn
            .calls
            .into_iter()
            .map(|mut call| {
                call.arguments.sort_keys();
                call
            })
            .collect();
        assert_eq!((turn.content.as_str(), read), (content, calls), "{text}");
        let mut said = 0;
        for n in (0..=text.len()).filter(|&n| text.is_char_boundary(n)) {
            let now = talk.n_said(&text[..n], &tools);
            assert!(now >= said && now <= content.len().max(said), "{text} at {n}: {said} {now}");
            said = now;
        }
        assert_eq!(talk.read(&text, &[]).content, text, "nothing is called where nothing is offered");
        assert_eq!(talk.n_said(&text, &[]), text.len());
    }
}

#[test]
fn the_end_of_a_text_may_begin_a_word() {
    for (text, word, n) in [
        ("a <tool", "<tool_call>", 5),
        ("<tool_call>", "<tool_call>", 0),
        ("aab", "abc", 2),
        ("", "x", 0),
        ("é", "é!", 2),
    ] {
        assert_eq!(super::turn::overlap(text, word), n, "{text} {word}");
    }
}
