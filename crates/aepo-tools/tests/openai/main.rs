//! Does a served model answer as OpenAI's API does, and refuse what it does not do?

mod fake;
mod hostile;
mod http;
mod load;
mod raw;

use http::{question, start};
use raw::{CHAT, TEXT, get, post};
use serde_json::{Value, json};

fn search() -> Value {
    let parameters = json!({ "type": "object", "properties": { "query": { "type": "string" } } });
    json!({ "type": "function", "function": { "name": "search", "description": "", "parameters": parameters } })
}

#[test]
fn a_server_says_that_it_is_there_and_what_it_has() {
    let running = start();
    let at = running.server.address;
    assert_eq!((get(at, "/health").status, get(at, "/health").json()), (200, json!({ "status": "ok" })));
    let models = get(at, "/v1/models").json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("fake")));
    assert_eq!(models["data"][0]["max_model_len"], 600);
}

#[test]
fn a_conversation_is_answered_whole_and_in_a_stream_alike() {
    let running = start();
    let at = running.server.address;
    let whole = post(at, CHAT, &question("Is it?", json!({ "model": "fake", "seed": 3 })));
    assert_eq!(whole.status, 200, "{whole:?}");
    let whole = whole.json();
    assert_eq!(whole["object"], "chat.completion");
    let message = json!({ "role": "assistant", "content": "<answer>\\boxed{ no}</answer>" });
    assert_eq!(whole["choices"][0]["message"], message);
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let usage = &whole["usage"];
    let n = |key: &str| usage[key].as_u64().unwrap();
    assert_eq!(n("total_tokens"), n("prompt_tokens") + n("completion_tokens"));
    let asked = json!({ "stream": true, "stream_options": { "include_usage": true }, "n": 2, "logprobs": true });
    let events = post(at, CHAT, &question("Is it?", asked)).events();
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"]));
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    for idx in 0..2 {
        let choices = || events.iter().flat_map(|e| e["choices"].as_array().unwrap()).filter(|c| c["index"] == idx);
        let text: String = choices().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(json!(text), message["content"]);
        assert_eq!(choices().next_back().unwrap()["finish_reason"], "stop");
        let tokens = choices().filter_map(|choice| choice["logprobs"]["content"].as_array()).flatten();
        let bytes = tokens.flat_map(|t| t["bytes"].as_array().unwrap()).map(|b| b.as_u64().unwrap() as u8);
        assert_eq!(String::from_utf8(bytes.collect()).unwrap(), format!("{text}<|end|>"));
    }
    let last = events.last().unwrap();
    assert_eq!(
        (&last["choices"], &last["usage"]["completion_tokens"]),
        (&json!([]), &json!(2 * n("completion_tokens")))
    );
}

#[test]
fn calls_of_tools_are_told_whole_and_in_a_stream_and_their_results_are_read() {
    let running = start();
    let at = running.server.address;
    let offered = json!({ "tools": [search()], "tool_choice": "auto" });
    let whole = post(at, CHAT, &question("call it", offered.clone())).json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{whole}");
    assert_eq!(choice["message"]["content"], "<think> I look.</think>");
    let call = &choice["message"]["tool_calls"][0];
    let function = json!({ "name": "search", "arguments": "{\"query\":\" Algeria area\"}" });
    assert_eq!((&call["type"], &call["function"]), (&json!("function"), &function));
    let mut streamed = question("call it", offered.clone());
    streamed["stream"] = json!(true);
    let events = post(at, CHAT, &streamed).events();
    let deltas = || events.iter().map(|event| &event["choices"][0]["delta"]);
    let text: String = deltas().filter_map(|delta| delta["content"].as_str()).collect();
    assert_eq!(text, "<think> I look.</think>");
    let calls: Vec<&Value> = deltas().filter_map(|delta| delta["tool_calls"].as_array()).flatten().collect();
    assert_eq!((calls.len(), &calls[0]["index"], &calls[0]["function"]), (1, &json!(0), &function));
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    // Without the tools, or where none may be called, the same is text.
    for more in [json!({}), json!({ "tools": [search()], "tool_choice": "none" })] {
        let choice = post(at, CHAT, &question("call it", more)).json()["choices"][0].clone();
        assert_eq!(choice["message"]["content"], "<think> I look.</think><search> Algeria area</search>");
        assert_eq!((&choice["finish_reason"], &choice["message"]["tool_calls"]), (&json!("stop"), &Value::Null));
    }
    let mut body = question("call it", offered);
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(choice["message"].clone());
    messages.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": [{ "type": "text", "text": "5" }] }));
    let answer = post(at, CHAT, &body).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "<think> a</think><answer>\\boxed{ 5}</answer>");
    assert!(answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 15, "{answer}");
}

#[test]
fn texts_and_ids_are_continued() {
    let running = start();
    let at = running.server.address;
    let ask = |body: Value| {
        let answer = post(at, TEXT, &body);
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
        answer.json()
    };
    let text =
        |body: Value| ask(body)["choices"].as_array().unwrap().iter().map(|c| c["text"].clone()).collect::<Vec<_>>();
    let ids = fake::tokenizer().encode_text(" It is 12 + 34.");
    let begun = fake::tokenizer().decode(&ids[..5]);
    assert_eq!(text(json!({ "prompt": "long", "max_tokens": 5 })), [begun]);
    assert_eq!(text(json!({ "prompt": ["a", "b"], "n": 2, "max_tokens": 50 })), ["<answer>\\boxed{ no}</answer>"; 4]);
    let ids = fake::tokenizer().encode_text("long");
    assert_eq!(text(json!({ "prompt": ids, "stop": ["+"] })), [" It is 12 "]);
    assert_eq!(text(json!({ "prompt": [ids], "stop": "12 +", "include_stop_str_in_output": true })), [" It is 12 +"]);
    let fourth = fake::tokenizer().encode_text(" It is 12 + 34.")[3];
    let by_id =
        ask(json!({ "prompt": "long", "stop_token_ids": [fourth], "max_tokens": 99, "return_token_ids": true }));
    let choice = &by_id["choices"][0];
    let is = (&choice["stop_reason"], &choice["finish_reason"], &choice["prompt_token_ids"]);
    assert_eq!(is, (&json!(fourth), &json!("stop"), &json!(ids)));
    assert_eq!(choice["token_ids"].as_array().unwrap().last(), Some(&json!(fourth)));
    assert_eq!(ask(json!({ "prompt": "long", "max_tokens": 2 }))["choices"][0]["finish_reason"], "length");
    let ended = ask(json!({ "prompt": "?", "max_tokens": 99, "ignore_eos": true, "skip_special_tokens": false }));
    assert_eq!(ended["usage"]["completion_tokens"], 99);
    assert!(ended["choices"][0]["text"].as_str().unwrap().contains("<|end|><answer>"));
}

#[test]
fn tokens_are_told_with_what_else_was_likely() {
    let running = start();
    let at = running.server.address;
    let body = json!({ "prompt": "long", "max_tokens": 3, "logprobs": 2, "echo": true, "prompt_logprobs": 1,
        "return_tokens_as_token_ids": true });
    let whole = post(at, TEXT, &body).json()["choices"][0].clone();
    let n_prompt = fake::tokenizer().encode_text("long").len();
    let logprobs = &whole["logprobs"];
    let tokens = logprobs["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), n_prompt + 3);
    assert!(tokens.iter().all(|token| token.as_str().unwrap().starts_with("token_id:")));
    assert_eq!((&logprobs["token_logprobs"][0], &logprobs["token_logprobs"][1]), (&Value::Null, &json!(-0.5)));
    assert_eq!(
        (&logprobs["top_logprobs"][0], logprobs["top_logprobs"][1].as_object().unwrap().len()),
        (&Value::Null, 2)
    );
    assert_eq!(whole["prompt_logprobs"].as_array().unwrap().len(), n_prompt);
    assert_eq!(whole["prompt_logprobs"][1].as_object().unwrap().values().next().unwrap()["rank"], 1);
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let events = post(at, TEXT, &streamed).events();
    let parts = || events.iter().map(|event| &event["choices"][0]);
    assert_eq!(json!(parts().map(|part| part["text"].as_str().unwrap()).collect::<String>()), whole["text"]);
    for key in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let all: Vec<&Value> = parts().flat_map(|part| part["logprobs"][key].as_array().unwrap()).collect();
        assert_eq!(json!(all), logprobs[key], "{key}");
    }
    // A text is judged without a word being said.
    let judged = post(at, TEXT, &json!({ "prompt": "long", "max_tokens": 0, "logprobs": 0, "echo": true })).json();
    assert_eq!((&judged["choices"][0]["text"], &judged["usage"]["completion_tokens"]), (&json!("long"), &json!(0)));
    assert_eq!(judged["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), n_prompt);
    let chat = post(at, CHAT, &question("?", json!({ "logprobs": true, "top_logprobs": 3 }))).json();
    let first = &chat["choices"][0]["logprobs"]["content"][0];
    assert_eq!((&first["token"], &first["logprob"]), (&json!("<answer>"), &json!(-0.5)));
    assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 3);
}
