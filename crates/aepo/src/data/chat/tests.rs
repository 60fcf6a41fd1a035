//! Are both layouts read as they are written, and is everything else an error that names file, row and key?

use std::fmt::Write as _;

use expect_test::expect;

use super::*;

const TWO_TURNS: &str = r#"{"conversations":[{"from":"human","value":"a?"},{"from":"gpt","value":"b"}]}"#;

/// One line per message: who, what, and the calls.
fn shown(text: &str) -> String {
    let chats = parse_chats("c.jsonl", text).unwrap_or_else(|e| panic!("{e}"));
    let mut out = format!("{:?}, unread {:?}\n", chats.layout, chats.unread);
    for c in &chats.conversations {
        let _ = writeln!(out, "{}, tools {}", c.at, Value::from(c.tools.clone()));
        for m in &c.messages {
            let calls: Vec<String> =
                m.calls.iter().map(|c| format!(" {}{}", c.name, Value::from(c.arguments.clone()))).collect();
            let _ = write!(out, "  {} {:?}{}", m.role.name(), m.content, calls.concat());
            let _ = writeln!(
                out,
                "{}",
                [&m.name, &m.reasoning].into_iter().flatten().fold(String::new(), |s, t| s + " " + t)
            );
        }
    }
    out
}

fn refused(text: &str) -> String {
    parse_chats("c.jsonl", text).expect_err(text).to_string()
}

#[test]
fn the_sharegpt_layout() {
    let thoughtful = concat!(
        r#"{"id":7,"source":"web","system":"Be short.","tools":"[{\"name\":\"f\",\"parameters\":{}}]","#,
        r#""conversations":[{"from":"human","value":"2+2?"},{"from":"function_call","#,
        r#""value":"<think>\nhm</think>\n\n{\"name\":\"f\",\"arguments\":{\"z\":1,\"a\":\"é\"}}"},"#,
        r#"{"from":"observation","value":""},"#,
        r#"{"from":"gpt","value":"<think>so</think>4","weight":1,"lang":"en"}]}"#,
    );
    let long = concat!(
        r#"{"tools":"","system":null,"conversations":[{"from":"system","value":"S"},{"from":"user","value":"q"},"#,
        r#"{"from":"function_call","value":"[{\"name\":\"f\",\"arguments\":\"{}\"},{\"name\":\"g\",\"arguments\":{}}]"},"#,
        r#"{"from":"tool","value":"1\n2"},{"from":"assistant","value":"3"},{"from":"human","value":"more"},"#,
        r#"{"from":"gpt","value":""}]}"#,
    );
    let rows = [TWO_TURNS, "", thoughtful, long];
    expect![[r#"
        ShareGpt, unread {"conversations[].lang", "source"}
        line 1, tools []
          user "a?"
          assistant "b"
        line 3, tools [{"type":"function","function":{"name":"f","parameters":{}}}]
          system "Be short."
          user "2+2?"
          assistant "<think>\nhm</think>" f{"z":1,"a":"é"}
          tool ""
          assistant "<think>so</think>4"
        line 4, tools []
          system "S"
          user "q"
          assistant "" f{} g{}
          tool "1\n2"
          assistant "3"
          user "more"
          assistant ""
    "#]]
    .assert_eq(&shown(&rows.join("\r\n")));
}

#[test]
fn the_openai_layout() {
    let text = r#"
      [{"messages": [{"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b?"}]},
        {"role": "assistant", "content": null, "reasoning_content": "look", "refusal": null, "tool_calls": [
          {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{\"q\": [1, 2.50]}"}},
          {"id": "y", "function": {"name": "g", "arguments": {"b": null, "a": {}}}}]},
        {"role": "tool", "tool_call_id": "y", "name": "g", "content": "1"},
        {"role": "tool", "tool_call_id": "x", "content": "2"},
        {"role": "assistant", "content": "c", "annotations": [1]},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "d", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}],
        "tools": [{"type": "function", "function": {"name": "f"}}], "parallel_tool_calls": false},
       {"conversations": [{"role": "system", "content": "S"}, {"role": "user", "content": "q"},
        {"role": "assistant", "content": "r", "tool_calls": []}]}]
    "#;
    expect![[r#"
        OpenAi, unread {"messages[].annotations", "parallel_tool_calls"}
        item 1, tools [{"type":"function","function":{"name":"f"}}]
          user "a b?"
          assistant "" f{"q":[1,2.5]} g{"b":null,"a":{}} look
          tool "1" g
          tool "2"
          assistant "c"
          user ""
          assistant "d" f{}
        item 2, tools []
          system "S"
          user "q"
          assistant "r"
    "#]]
    .assert_eq(&shown(text));
}

/// A row of messages given as `speaker text` pairs in the layout's own words.
fn sharegpt(messages: &[(&str, &str)]) -> String {
    let list: Vec<Value> = messages.iter().map(|(f, v)| serde_json::json!({"from": f, "value": v})).collect();
    serde_json::json!({ "conversations": list }).to_string()
}

fn openai(messages: &[Value]) -> String {
    serde_json::json!({ "messages": messages }).to_string()
}

#[test]
fn errors_name_file_row_and_key() {
    let (h, g, o, s) = (("human", "q"), ("gpt", "a"), ("observation", "r"), ("system", "s"));
    let call = |value: &str| sharegpt(&[h, ("function_call", value)]);
    let two = |second: &str| format!("{TWO_TURNS}\n{second}");
    let table = [
        String::new(),
        "\u{feff} \n\n".to_owned(),
        "[]".to_owned(),
        "[] 5".to_owned(),
        two("{\"conversations\":"),
        two("[1]"),
        two("7"),
        format!("[{TWO_TURNS},\n5]"),
        format!("[{TWO_TURNS},\n{{\"messages\":3}}]"),
        format!("[{TWO_TURNS},\n"),
        r#"{"instruction":"q","output":"a"}"#.to_owned(),
        r#"{"messages":[],"conversations":[]}"#.to_owned(),
        r#"{"messages":[]}"#.to_owned(),
        r#"{"messages":{}}"#.to_owned(),
        r#"{"messages":["a"]}"#.to_owned(),
        r#"{"messages":[{"content":"a"}]}"#.to_owned(),
        r#"{"messages":[{"role":"user","from":"human"}]}"#.to_owned(),
        two(r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#),
        sharegpt(&[h]),
        sharegpt(&[g]),
        sharegpt(&[g, h]),
        sharegpt(&[o, g]),
        sharegpt(&[h, g, h]),
        sharegpt(&[h, h, g]),
        sharegpt(&[h, g, g]),
        sharegpt(&[h, ("function_call", "{\"name\":\"f\",\"arguments\":{}}"), o, o, g]),
        sharegpt(&[h, g, s, g]),
        sharegpt(&[s, s, h, g]),
        sharegpt(&[h, ("bard", "a")]),
        TWO_TURNS.replace("\"a?\"", "3"),
        TWO_TURNS.replace(",\"value\":\"b\"", ""),
        TWO_TURNS.replace("{\"from\":\"gpt\",\"value\":\"b\"}", "null"),
        TWO_TURNS.replace("\"value\":\"b\"", "\"value\":\"b\",\"weight\":0"),
        TWO_TURNS.replacen('{', "{\"images\":[\"a.png\"],", 1),
        TWO_TURNS.replacen('{', "{\"chosen\":{},", 1),
        TWO_TURNS.replacen('{', "{\"system\":[],", 1),
        sharegpt(&[s, h, g]).replacen('{', "{\"system\":\"t\",", 1),
        TWO_TURNS.replacen('{', "{\"tools\":\"f(x)\",", 1),
        TWO_TURNS.replacen('{', "{\"tools\":\"{}\",", 1),
        TWO_TURNS.replacen('{', "{\"tools\":[{\"type\":\"function\"}],", 1),
        TWO_TURNS.replacen('{', "{\"tools\":7,", 1),
        call("f(x)"),
        call("[]"),
        call("[1]"),
        call("{\"name\":\"f\"}"),
        call("{\"name\":\" \",\"arguments\":{}}"),
        call("{\"name\":\"f\",\"arguments\":[1]}"),
        call("{\"name\":\"f\",\"arguments\":\"x = 1\"}"),
        call("{\"name\":\"f\",\"arguments\":\"[]\"}"),
        call("<think>never ends {\"name\":\"f\",\"arguments\":{}}"),
    ];
    let text: String = table.iter().map(|text| refused(text) + "\n").collect();
    expect![[r#"
        c.jsonl holds no conversation
        c.jsonl holds no conversation
        c.jsonl holds no conversation
        c.jsonl, item 1: not JSON: trailing characters at line 1 column 4
        c.jsonl, line 2: not JSON: EOF while parsing a value at line 1 column 17
        c.jsonl, line 2, key (row): not a JSON object
        c.jsonl, line 2, key (row): not a JSON object
        c.jsonl, item 2, key (row): not a JSON object
        c.jsonl, item 2, key messages: not a list
        c.jsonl, item 2: not JSON: EOF while parsing a value at line 2 column 0
        c.jsonl, line 1, key messages: missing, and there is no `conversations` either
        c.jsonl, line 1, key messages: there is `conversations`, too
        c.jsonl, line 1, key messages: empty
        c.jsonl, line 1, key messages: not a list
        c.jsonl, line 1, key messages[0]: neither `from` nor `role`
        c.jsonl, line 1, key messages[0]: neither `from` nor `role`
        c.jsonl, line 1, key messages[0]: both `from` and `role`
        c.jsonl, line 2, key messages[0]: the OpenAI (`role`, `content`) layout, but the file began in ShareGPT (`from`, `value`)
        c.jsonl, line 1, key conversations: no message of the assistant, so there is nothing to learn
        c.jsonl, line 1, key conversations[0]: the user should begin
        c.jsonl, line 1, key conversations[0]: the user should begin
        c.jsonl, line 1, key conversations[0]: the user should begin
        c.jsonl, line 1, key conversations[2]: the conversation should end with the assistant
        c.jsonl, line 1, key conversations[1]: the assistant should answer here
        c.jsonl, line 1, key conversations[2]: the assistant has just spoken; the user or a tool should
        c.jsonl, line 1, key conversations[3]: the assistant should answer here
        c.jsonl, line 1, key conversations[2]: a system message stands first or nowhere
        c.jsonl, line 1, key conversations[1]: a system message stands first or nowhere
        c.jsonl, line 1, key conversations[1].from: "bard" is none of human, user, gpt, assistant, function_call, observation, tool or system
        c.jsonl, line 1, key conversations[0].value: not a string
        c.jsonl, line 1, key conversations[1].value: missing
        c.jsonl, line 1, key conversations[1]: not an object
        c.jsonl, line 1, key conversations[1].weight: every message of the assistant is learned with the same weight
        c.jsonl, line 1, key images: only text can be learned here
        c.jsonl, line 1, key chosen: a preference is no conversation to learn from
        c.jsonl, line 1, key system: not a string
        c.jsonl, line 1, key system: conversations[0] is a system message, too
        c.jsonl, line 1, key tools: the string is no JSON: expected ident at line 1 column 2
        c.jsonl, line 1, key tools: the string holds no list
        c.jsonl, line 1, key tools[0]: no function with a name
        c.jsonl, line 1, key tools: neither a list nor a string that holds one
        c.jsonl, line 1, key conversations[1].value: the calls are no JSON: expected ident at line 1 column 2
        c.jsonl, line 1, key conversations[1].value: no call in it
        c.jsonl, line 1, key conversations[1].value: not an object
        c.jsonl, line 1, key conversations[1].value.arguments: missing
        c.jsonl, line 1, key conversations[1].value.name: blank
        c.jsonl, line 1, key conversations[1].value.arguments: neither an object nor a string that holds one
        c.jsonl, line 1, key conversations[1].value.arguments: the string is no JSON: expected value at line 1 column 1
        c.jsonl, line 1, key conversations[1].value.arguments: the string holds no object
        c.jsonl, line 1, key conversations[1].value: the calls are no JSON: expected value at line 1 column 1
    "#]].assert_eq(&text);
}

#[test]
fn errors_of_the_openai_layout() {
    use serde_json::json;
    let user = json!({"role": "user", "content": "q"});
    let ai = json!({"role": "assistant", "content": "a"});
    let called = |ids: &[&str]| {
        let calls: Vec<Value> =
            ids.iter().map(|id| json!({"id": id, "function": {"name": "f", "arguments": "{}"}})).collect();
        json!({"role": "assistant", "content": null, "tool_calls": calls})
    };
    let result = |id: &str| json!({"role": "tool", "content": "r", "tool_call_id": id});
    let with = |key: &str, value: Value| {
        let mut message = ai.clone();
        message[key] = value;
        openai(&[user.clone(), message])
    };
    let row = |messages: &[&Value]| openai(&messages.iter().map(|m| (*m).clone()).collect::<Vec<_>>());
    let table = [
        row(&[&user]),
        row(&[&ai]),
        row(&[&user, &user, &ai]),
        row(&[&user, &ai, &ai]),
        row(&[&user, &ai, &user]),
        row(&[&user, &ai, &result("x"), &ai]),
        row(&[&user, &called(&["x"]), &user, &ai]),
        row(&[&user, &called(&["x", "y"]), &result("x"), &ai]),
        row(&[&user, &called(&["x"]), &result("y"), &ai]),
        row(&[&user, &called(&["x", "y"]), &result("x"), &result("x"), &ai]),
        row(&[&user, &called(&["x", "x"])]),
        row(&[&user, &called(&["x"]), &result("x")]),
        row(&[&json!({"role": "developer", "content": "s"}), &user, &ai]),
        row(&[&json!({"role": "user"}), &ai]),
        row(&[&json!({"role": 1}), &ai]),
        row(&[&json!({"role": "user", "content": "q", "tool_calls": [1]}), &ai]),
        with("content", Value::Null),
        with("content", json!(7)),
        with("content", json!([{"type": "image_url"}])),
        with("content", json!([{"type": "text", "text": 1}])),
        with("tool_calls", json!({})),
        with("tool_calls", json!([1])),
        with("tool_calls", json!([{"type": "custom"}])),
        with("tool_calls", json!([{"name": "f", "arguments": "{}"}])),
        with("tool_calls", json!([{"id": 1, "function": {}}])),
        with("tool_calls", json!([{"function": {"name": "f", "arguments": ""}}])),
        with("tool_calls", json!([{"function": {"name": "f", "arguments": {"a": [1e30]}}}])),
        with("function_call", json!({"name": "f"})),
        with("refusal", json!("no")),
        with("weight", json!(0)),
        with("name", json!(0)),
        with("reasoning_content", json!(0)),
    ];
    let text: String = table.iter().map(|text| refused(text) + "\n").collect();
    expect![[r#"
        c.jsonl, line 1, key messages: no message of the assistant, so there is nothing to learn
        c.jsonl, line 1, key messages[0]: the user should begin
        c.jsonl, line 1, key messages[1]: the assistant should answer here
        c.jsonl, line 1, key messages[2]: the assistant has just spoken; the user or a tool should
        c.jsonl, line 1, key messages[2]: the conversation should end with the assistant
        c.jsonl, line 1, key messages[2]: a result without a call
        c.jsonl, line 1, key messages[2]: of 1 calls before only 0 have a result
        c.jsonl, line 1, key messages[3]: of 2 calls before only 1 have a result
        c.jsonl, line 1, key messages[2].tool_call_id: no call before has the id "y"
        c.jsonl, line 1, key messages[3].tool_call_id: "x" has a result already
        c.jsonl, line 1, key messages[1].tool_calls[1].id: another call of the message has it, too
        c.jsonl, line 1, key messages[2]: the conversation should end with the assistant
        c.jsonl, line 1, key messages[0].role: "developer" is none of system, user, assistant or tool
        c.jsonl, line 1, key messages[0].content: missing
        c.jsonl, line 1, key messages[0].role: not a string
        c.jsonl, line 1, key messages[0].tool_calls: only the assistant calls tools
        c.jsonl, line 1, key messages[1].content: missing
        c.jsonl, line 1, key messages[1].content: neither a string nor a list of parts
        c.jsonl, line 1, key messages[1].content[0].type: not "text"; only text can be learned here
        c.jsonl, line 1, key messages[1].content[0].text: no string
        c.jsonl, line 1, key messages[1].tool_calls: not a list
        c.jsonl, line 1, key messages[1].tool_calls[0]: not an object
        c.jsonl, line 1, key messages[1].tool_calls[0].type: not "function"
        c.jsonl, line 1, key messages[1].tool_calls[0].function: missing
        c.jsonl, line 1, key messages[1].tool_calls[0].id: not a string
        c.jsonl, line 1, key messages[1].tool_calls[0].function.arguments: the string is no JSON: EOF while parsing a value at line 1 column 0
        c.jsonl, line 1, key messages[1].tool_calls[0].function.arguments.a: 1e+30 is too large to be kept exactly; write it as a string
        c.jsonl, line 1, key messages[1].function_call: the older form of `tool_calls` is not read
        c.jsonl, line 1, key messages[1].refusal: a refusal is not read; write it as `content`
        c.jsonl, line 1, key messages[1].weight: every message of the assistant is learned with the same weight
        c.jsonl, line 1, key messages[1].name: not a string
        c.jsonl, line 1, key messages[1].reasoning_content: not a string
    "#]].assert_eq(&text);
}

#[test]
fn hostile_rows_are_errors_or_bounded() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let args = |text: &str| sharegpt(&[("human", "q"), ("function_call", text)]);
    for text in [
        deep(100_000),
        format!("[{TWO_TURNS},{}]", deep(100_000)),
        format!("[{}", "{\"a\":".repeat(100_000)),
        format!("{{\"messages\":{}}}", deep(100_000)),
        args(&deep(100_000)),
        args(&format!("{{\"name\":\"f\",\"arguments\":{{\"a\":{}}}}}", deep(100_000))),
        args("{\"name\":\"f\",\"arguments\":{\"a\":1e999}}"),
        args("{\"name\":\"f\",\"arguments\":{\"a\":-123456789012345678901234567890}}"),
        format!("{{\"messages\":[{{\"role\":\"user\",\"content\":{}}}]}}", "9".repeat(100_000)),
        TWO_TURNS[..TWO_TURNS.len() - 1].to_owned(),
        TWO_TURNS.replace('"', "\u{0}"),
        "\u{feff}\u{feff}[".to_owned(),
    ] {
        let said = refused(&text);
        assert!(said.starts_with("c.jsonl, ") && said.len() < 400, "{said}");
    }
    // What is kept exactly is allowed.
    let exact = "{\"name\":\"f\",\"arguments\":{\"a\":18446744073709551615,\"b\":-9223372036854775808,\"c\":0.1}}";
    assert!(shown(&args(exact)).contains(r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":0.1}"#));
    // Every cut of a row and every changed byte is read or refused, and nothing panics.
    for at in 0..TWO_TURNS.len() {
        assert!(parse_chats("c", &TWO_TURNS[..at]).is_err());
        for byte in *b"\"{}[]:,x\\0" {
            let mut changed = TWO_TURNS.as_bytes().to_vec();
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            if let Ok(chats) = parse_chats("c", &changed) {
                assert_eq!(chats.conversations[0].messages.len(), 2, "{changed}");
            }
        }
    }
}
