//! Does `aepo sft` learn a file of conversations, from another model's weights, and the same after being stopped?

use std::fmt::Write as _;
use std::sync::Once;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::support::{place, signal, stderr};

/// The cold start's special tokens in the manner of ChatML.
const TEMPLATE: &str = "\
{%- for m in messages %}
{{- '<|assistant|>' if m.role == 'assistant' else '<|user|>' }}{{ m.role + '\\n' + (m.content or '') }}
{%- for c in m.tool_calls or [] %}{{ '<tool_call>' + c.function | tojson + '</tool_call>' }}{% endfor %}
{{- '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>assistant\\n' }}{% endif %}";

const RECIPE: &str = r#"
[train]
threads = 2
[prompt]
protocol = "hermes"
[sft]
init = "talker"
source = "chats.jsonl"
epochs = 2
batch_tokens = 256
max_batch_tokens = 256
learning_rate = 5e-3
holdout = 4
eval_every = 10
"#;

const N_ROWS: u64 = 40;

/// Row `i`: a sum that is computed with a tool.
fn sharegpt(i: u64) -> Value {
    let (a, b) = (17 * i + 3, 5 * i + 1);
    let call = json!({"name": "python", "arguments": {"code": format!("print({a} + {b})")}});
    json!({"id": i, "system": "Compute.", "tools": "[]", "conversations": [
        {"from": "human", "value": format!("What is {a} + {b}?")},
        {"from": "function_call", "value": call.to_string()},
        {"from": "observation", "value": (a + b).to_string()},
        {"from": "gpt", "value": format!("\\boxed{{{}}}", a + b)},
    ]})
}

/// The same in the other layout.
fn openai(i: u64) -> Value {
    let (a, b) = (17 * i + 3, 5 * i + 1);
    let arguments = json!({"code": format!("print({a} + {b})")}).to_string();
    let call = json!({"id": "x", "type": "function", "function": {"name": "python", "arguments": arguments}});
    json!({"messages": [
        {"role": "system", "content": "Compute."},
        {"role": "user", "content": [{"type": "text", "text": format!("What is {a} + {b}?")}]},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "x", "content": (a + b).to_string()},
        {"role": "assistant", "content": format!("\\boxed{{{}}}", a + b)},
    ]})
}

/// Files for all tests here: a model with a chat template, both layouts, and a recipe.
fn files() {
    static FILES: Once = Once::new();
    FILES.call_once(|| {
        let place = place();
        place.copy("cold/model", "talker");
        std::fs::write(place.path("talker/chat_template.jinja"), TEMPLATE).unwrap();
        std::fs::write(place.path("chat.toml"), RECIPE).unwrap();
        let lines: String = (0..N_ROWS).map(|i| sharegpt(i).to_string() + "\n").collect();
        std::fs::write(place.path("chats.jsonl"), lines).unwrap();
        let list: Vec<Value> = (0..N_ROWS).map(openai).collect();
        std::fs::write(place.path("chats.json"), serde_json::to_string_pretty(&list).unwrap()).unwrap();
    });
}

fn weights(run: &str) -> Vec<u8> {
    std::fs::read(place().path(run).join("model/model.safetensors")).unwrap()
}

#[test]
fn both_layouts_teach_the_same_and_what_is_held_out_is_learned_too() {
    files();
    let place = place();
    place.ok(&["sft", "chat.toml", "--out", "chat", "--quiet"]);
    place.ok(&["sft", "chat.toml", "--out", "chat-openai", "--quiet", "--set", "sft.source=chats.json"]);
    assert_eq!(place.rows("chat"), place.rows("chat-openai"));
    assert!(weights("chat") == weights("chat-openai") && weights("chat") != weights("cold"));

    let summary = place.json("chat/summary.json");
    let n = |value: &Value| value.as_u64().unwrap();
    let (rows, data) = (place.rows("chat"), &summary["data"]);
    assert_eq!((data["layout"].as_str(), n(&data["rows"]["n_rows"])), (Some("sharegpt"), N_ROWS));
    assert_eq!((n(&data["rows"]["n_train"]), n(&data["rows"]["n_holdout"])), (N_ROWS - 4, 4));
    assert_eq!(*data, place.json("chat/data.json"));
    let learned = &summary["learned"];
    for key in ["n_rows", "n_tokens", "n_trained"] {
        assert_eq!(n(&learned[key]), rows.iter().map(|row| n(&row[key])).sum::<u64>());
    }
    assert_eq!(n(&learned["n_rows"]), 2 * (N_ROWS - 4));
    assert_eq!(n(&learned["n_trained"]), 2 * n(&data["rows"]["n_trained"]));
    assert!(rows.iter().all(|row| n(&row["n_trained"]) < n(&row["n_tokens"]) && n(&row["n_tokens"]) <= 256));
    assert_eq!(rows.last().unwrap()["epoch"], 2.0);

    let holdout: Vec<(u64, f64)> =
        summary["holdout"].as_array().unwrap().iter().map(|m| (n(&m["step"]), m["loss"].as_f64().unwrap())).collect();
    let steps = rows.len() as u64;
    let measured: Vec<u64> = (0..steps).filter(|step| step % 10 == 0).chain([steps]).collect();
    assert_eq!(holdout.iter().map(|(step, _)| *step).collect::<Vec<_>>(), measured);
    assert!(holdout[holdout.len() - 1].1 < holdout[0].1 - 0.5, "{holdout:?}");

    // The model keeps its template, so that it can be asked, and taught further.
    let template = std::fs::read_to_string(place.path("chat/model/chat_template.jinja")).unwrap();
    assert_eq!(template, TEMPLATE);
    place.ok(&["sft", "chat.toml", "--out", "chat-more", "--quiet", "--set", "sft.init=chat", "--set", "sft.epochs=1"]);
    let before = place.json("chat-more/evals/step-000000.json")["loss"].as_f64().unwrap();
    // The weights were rounded to bf16 when the model was saved.
    assert!((before - holdout[holdout.len() - 1].1).abs() < 0.02, "{before} {holdout:?}");
}

#[test]
fn a_stopped_and_killed_cold_start_goes_on_to_the_same_model() {
    files();
    let place = place();
    let args = ["sft", "chat.toml", "--set", "sft.epochs=20", "--out"];
    let with = |rest: &[&'static str]| [&args[..], rest].concat();
    place.ok(&with(&["chat-long", "--quiet"]));
    let child = place.start_and_wait(&with(&["chat-stopped", "--json"]), 12);
    signal(&child, "TERM");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    let n_rows = place.rows("chat-stopped").len();
    assert_eq!(place.json(&format!("chat-stopped/checkpoints/step-{n_rows:06}/state.json"))["step"], n_rows);
    let mut child = place.start_and_wait(&with(&["chat-stopped", "--resume", "--json"]), 7);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    place.ok(&with(&["chat-stopped", "--resume", "--quiet"]));
    assert_eq!(place.rows("chat-stopped"), place.rows("chat-long"));
    assert!(weights("chat-stopped") == weights("chat-long"));
    assert_eq!(place.json("chat-stopped/summary.json")["holdout"], place.json("chat-long/summary.json")["holdout"]);
}

#[test]
fn long_rows_are_cut_or_left_out_and_told() {
    files();
    let place = place();
    let long = sharegpt(7).to_string().replace("Compute.", &"word ".repeat(100));
    let short = r#"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"source":"web"}"#;
    let mut lines = format!("{long}\n{short}\n");
    (0..6).for_each(|i| lines += &format!("{}\n", sharegpt(i)));
    std::fs::write(place.path("long.jsonl"), lines).unwrap();
    let run = |out: &str, more: &[&str]| {
        let args =
            ["sft", "chat.toml", "--set", "sft.source=long.jsonl", "--set", "sft.max_row_tokens=100", "--out", out];
        let output = place.run(&[&args[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stderr(&output)
            .replace(place.dir.to_str().unwrap(), "DIR")
            .lines()
            .take(4)
            .fold(String::new(), |s, l| s + l + "\n")
    };
    let mut text = run("chat-left-out", &["--set", "sft.holdout=0"]);
    text += &run("chat-cut", &["--set", "sft.holdout=1", "--set", "sft.long_rows=cut"]);
    expect![[r#"
        chat.toml, line 14: `sft.eval_every` is left out: sft.holdout is 0
        DIR/long.jsonl: 8 conversations, 1 learned and 0 held out, 14 tokens per epoch, 2 of them trained
        of them 7 left out, longer than 100 tokens (the longest has 416)
        keys of it that nothing reads: source
        DIR/long.jsonl: 8 conversations, 6 learned and 1 held out, 514 tokens per epoch, 299 of them trained
        of them 6 cut behind 100 tokens (the longest has 416); 1 left out, nothing to train within 100 tokens
        keys of it that nothing reads: source
        chat: cold start of 0.1M weights, 5 steps from step 0, seed 0, 2 threads, into chat-cut
    "#]]
    .assert_eq(&text);
}

fn check(commands: &[&[&str]], expected: Expect) {
    files();
    let place = place();
    let mut text = String::new();
    for args in commands {
        let output = place.run(args);
        assert!(output.stdout.is_empty(), "an error belongs on stderr");
        let _ = write!(text, "$ aepo {}\n{}", args.join(" "), stderr(&output));
        let _ = writeln!(text, "[{}]", output.status.code().unwrap());
    }
    assert!(!place.path("never").exists(), "what cannot start leaves nothing behind");
    expected.assert_eq(&text.replace(place.dir.to_str().unwrap(), "DIR"));
}

#[test]
fn conversations_that_cannot_be_learned() {
    let place = place();
    let row = |text: &str| format!("{}\n{text}\n", sharegpt(0));
    std::fs::write(place.path("order.jsonl"), row(r#"{"conversations":[{"from":"gpt","value":"a"}]}"#)).unwrap();
    std::fs::write(place.path("mixed.jsonl"), row(&openai(1).to_string())).unwrap();
    std::fs::write(place.path("cut.jsonl"), row(r#"{"conversations":[{"from":"#)).unwrap();
    std::fs::write(place.path("latin1.jsonl"), b"{\"messages\":\"\xe9\"}").unwrap();
    std::fs::write(place.path("no.jsonl"), "\n").unwrap();
    let call = r#"{"conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"print(1)"}]}"#;
    std::fs::write(place.path("call.jsonl"), row(call)).unwrap();
    fn sft<'a>(sets: &[&'a str]) -> Vec<&'a str> {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        ["sft", "chat.toml", "--out", "never"].into_iter().chain(sets).collect()
    }
    check(
        &[
            &sft(&["sft.source=nowhere.jsonl"]),
            &sft(&["sft.source=no.jsonl"]),
            &sft(&["sft.source=latin1.jsonl"]),
            &sft(&["sft.source=cut.jsonl"]),
            &sft(&["sft.source=order.jsonl"]),
            &sft(&["sft.source=mixed.jsonl"]),
            &sft(&["sft.source=call.jsonl"]),
            &sft(&["sft.holdout=40"]),
            &sft(&["sft.max_row_tokens=3"]),
            &sft(&["sft.tokens=1000"]),
            &sft(&["sft.head_math=0.5"]),
            &sft(&["model.shape.n_layers=2"]),
            &sft(&["sft.init=nowhere"]),
            &sft(&["sft.init=cold/model"]),
            &sft(&["sft.init=random"]),
            &sft(&["prompt.protocol=tags"]),
            &sft(&["sft.source=quickstart"]),
            &sft(&["sft.source=quickstart", "sft.copy_share=[0,0]", "sft.lookup_share=[0,0]", "sft.epochs=2"]),
        ],
        expect![[r#"
            $ aepo sft chat.toml --out never --set sft.source=nowhere.jsonl
            error: cannot read conversations DIR/nowhere.jsonl: No such file or directory (os error 2)
            [1]
            $ aepo sft chat.toml --out never --set sft.source=no.jsonl
            error: DIR/no.jsonl holds no conversation
            [1]
            $ aepo sft chat.toml --out never --set sft.source=latin1.jsonl
            error: DIR/latin1.jsonl: invalid utf-8 sequence of 1 bytes from index 13
            [1]
            $ aepo sft chat.toml --out never --set sft.source=cut.jsonl
            error: DIR/cut.jsonl, line 2: not JSON: EOF while parsing a value at line 1 column 26
            [1]
            $ aepo sft chat.toml --out never --set sft.source=order.jsonl
            error: DIR/order.jsonl, line 2, key conversations[0]: the user should begin
            [1]
            $ aepo sft chat.toml --out never --set sft.source=mixed.jsonl
            error: DIR/mixed.jsonl, line 2, key messages[0]: the OpenAI (`role`, `content`) layout, but the file began in ShareGPT (`from`, `value`)
            [1]
            $ aepo sft chat.toml --out never --set sft.source=call.jsonl
            error: DIR/call.jsonl, line 2, key conversations[1].value: the calls are no JSON: expected value at line 1 column 1
            [1]
            $ aepo sft chat.toml --out never --set sft.holdout=40
            error: DIR/chats.jsonl: `sft.holdout` is 40, but only 40 rows can be learned, and one at least must be
            [1]
            $ aepo sft chat.toml --out never --set sft.max_row_tokens=3
            error: DIR/chats.jsonl: none of 40 rows holds something to learn within 3 tokens
            [1]
            $ aepo sft chat.toml --out never --set sft.tokens=1000
            error: --set: `sft.tokens` has no effect: sft.source is a file, and sft.epochs says how often it is learned
            [2]
            $ aepo sft chat.toml --out never --set sft.head_math=0.5
            error: --set: `sft.head_math` has no effect: sft.source is a file, and nothing is generated
            [2]
            $ aepo sft chat.toml --out never --set model.shape.n_layers=2
            error: --set: `model.shape.n_layers` has no effect: sft.init names a model, which has a shape of its own
            [2]
            $ aepo sft chat.toml --out never --set sft.init=nowhere
            error: there is no model in DIR/nowhere: no such directory
            hint: name `quickstart`, a run directory, a .gguf file, a directory of config.json, model.safetensors and tokenizer.json, or org/name of the Hugging Face hub
            [2]
            $ aepo sft chat.toml --out never --set sft.init=cold/model
            error: DIR/cold/model holds no chat template
            hint: put a chat_template.jinja beside the weights, or choose prompt.protocol = "tags"
            [2]
            $ aepo sft chat.toml --out never --set sft.init=random
            error: `sft.init` is "random", but a random model has the quickstart's vocabulary and no chat template
            hint: name a model with sft.init, or choose prompt.protocol = "tags"
            [2]
            $ aepo sft chat.toml --out never --set prompt.protocol=tags
            error: --set: `prompt.protocol` is "tags" but must be "aepo", "hermes" or "llama3" where sft.source is a file: conversations need a chat template
            [2]
            $ aepo sft chat.toml --out never --set sft.source=quickstart
            chat.toml, line 9: `sft.epochs` is left out: the quickstart's demonstrations are generated, as many as sft.tokens says
            error: rows that repeat or look up (sft.copy_share, sft.lookup_share) are made of the quickstart's own tags, and prompt.protocol is another
            hint: set sft.copy_share = [0.0, 0.0] and sft.lookup_share = [0.0, 0.0]
            [2]
            $ aepo sft chat.toml --out never --set sft.source=quickstart --set sft.copy_share=[0,0] --set sft.lookup_share=[0,0] --set sft.epochs=2
            error: --set: `sft.epochs` has no effect: the quickstart's demonstrations are generated, as many as sft.tokens says
            [2]
        "#]],
    );
}

#[test]
fn a_resumed_cold_start_wants_the_file_that_it_began_with() {
    files();
    let place = place();
    std::fs::copy(place.path("chats.jsonl"), place.path("changing.jsonl")).unwrap();
    let args = ["sft", "chat.toml", "--set", "sft.source=changing.jsonl", "--out", "changed", "--quiet"];
    place.ok(&args);
    let resume = [&args[..], &["--resume"]].concat();
    place.ok(&resume);
    std::fs::write(place.path("changing.jsonl"), sharegpt(0).to_string()).unwrap();
    check(
        &[&resume],
        expect![[r#"
            $ aepo sft chat.toml --set sft.source=changing.jsonl --out changed --quiet --resume
            error: DIR/changing.jsonl has changed since the run began: it had 11320 bytes (CRC-32 cbb435ba), and has 271 (ca874e3a)
            hint: bring the file back, or start another run with another --out
            [2]
        "#]],
    );
}
