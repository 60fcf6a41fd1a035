//! Does `aepo serve` offer the engine as it is: the likeliest tokens, the same bits for the same seed, and its own end?

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::raw::{Answer, TEXT, post};
use crate::support::{signal, stderr};

/// A running server; it ends with the test.
pub struct Serving {
    pub child: Child,
    /// Without the scheme.
    pub address: String,
    _dir: tempfile::TempDir,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn aepo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aepo"));
    command.arg("serve").args(args).stdin(Stdio::null()).env_remove("AEPO_API_KEY").env("HF_HUB_OFFLINE", "1");
    command
}

fn serve(more: &[&str], key: Option<&str>) -> Serving {
    let mut command = aepo(&[&["quickstart", "--cache-tokens", "100000"], more].concat());
    key.map(|key| command.env("AEPO_API_KEY", key));
    Serving::start(command)
}

impl Serving {
    /// Waits until the server answers.
    pub fn start(mut command: Command) -> Serving {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("address");
        command.args(["--port", "0", "--address-file"]).arg(&file);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(120);
        let mut serving = Serving { child, address: String::new(), _dir: dir };
        while serving.address.is_empty() {
            assert!(Instant::now() < until && serving.child.try_wait().unwrap().is_none(), "no server");
            std::thread::sleep(Duration::from_millis(20));
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let whole = text.strip_suffix('\n').and_then(|line| line.strip_prefix("http://"));
            serving.address = whole.unwrap_or_default().to_owned();
        }
        serving
    }
}

/// The body of a good answer.
#[track_caller]
fn complete(serving: &str, body: &Value) -> Answer {
    let answer = post(serving.parse().unwrap(), TEXT, body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

const PROMPT: &str = "<|user|> Find the area of Peru.<|assistant|>";

/// Text, tokens and log-probabilities of an answer, from a stream or whole.
fn answer(address: &str, body: &Value) -> (String, Vec<Value>, Vec<Value>) {
    let told = complete(address, body);
    let events = if body["stream"] == true { told.events() } else { vec![told.json()] };
    let choices = || events.iter().map(|event| &event["choices"][0]);
    let all = |key: &str| choices().flat_map(|choice| choice["logprobs"][key].as_array().unwrap()).cloned().collect();
    (choices().map(|choice| choice["text"].as_str().unwrap()).collect(), all("tokens"), all("token_logprobs"))
}

fn seeded(seed: u64, stream: bool) -> Value {
    json!({ "prompt": PROMPT, "seed": seed, "temperature": 2.0, "top_p": 0.98, "max_tokens": 120, "logprobs": 0,
        "stream": stream, "ignore_eos": true })
}

#[test]
fn the_greedy_answer_is_made_of_the_likeliest_tokens() {
    let serving = serve(&[], None);
    let body = json!({ "prompt": PROMPT, "temperature": 0, "max_tokens": 60, "logprobs": 2, "ignore_eos": true,
        "return_tokens_as_token_ids": true });
    let told = complete(&serving.address, &body).json();
    let logprobs = &told["choices"][0]["logprobs"];
    let tokens = logprobs["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 60);
    for (token, top) in tokens.iter().zip(logprobs["top_logprobs"].as_array().unwrap()) {
        let best =
            top.as_object().unwrap().iter().max_by(|a, b| a.1.as_f64().unwrap().total_cmp(&b.1.as_f64().unwrap()));
        assert_eq!(best.map(|best| best.0.as_str()), token.as_str(), "{top}");
    }
    // The whole text judged as a prompt is worth the same, bit for bit.
    let ids: Vec<u64> =
        tokens.iter().map(|t| t.as_str().unwrap().strip_prefix("token_id:").unwrap().parse().unwrap()).collect();
    let given = json!({ "prompt": PROMPT, "max_tokens": 1, "return_token_ids": true });
    let given = complete(&serving.address, &given).json();
    let prompt: Vec<u64> = serde_json::from_value(given["choices"][0]["prompt_token_ids"].clone()).unwrap();
    let whole: Vec<u64> = prompt.iter().copied().chain(ids).collect();
    let judged = json!({ "prompt": whole, "max_tokens": 0, "echo": true, "logprobs": 0 });
    let judged = answer(&serving.address, &judged).2;
    assert_eq!(json!(judged[prompt.len()..]), logprobs["token_logprobs"]);
}

#[test]
fn a_seeded_answer_is_the_same_streamed_or_whole_alone_or_among_others() {
    let serving = serve(&["--threads", "2"], None);
    let at = &serving.address;
    let alone = answer(at, &seeded(7, false));
    assert_eq!(alone.1.len(), 120);
    assert_ne!(alone, answer(at, &seeded(8, false)));
    assert_eq!(alone, answer(at, &seeded(7, true)), "streamed, and from the cache");
    let among: Vec<_> = std::thread::scope(|scope| {
        let ask = |i: u64| {
            scope
                .spawn(move || answer(at, &seeded(if i.is_multiple_of(21) { 7 } else { 100 + i }, i.is_multiple_of(2))))
        };
        let asked: Vec<_> = (0..64).map(ask).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    for i in [0, 21, 42, 63] {
        assert_eq!(among[i], alone, "number {i} of 64");
    }
    assert_ne!(among[1], alone);
}

#[test]
fn a_server_that_others_reach_needs_a_key_and_wrong_use_is_2() {
    for (args, word) in [
        (&["quickstart", "--host", "0.0.0.0"][..], "AEPO_API_KEY"),
        (&["quickstart", "--host", "::"], "AEPO_API_KEY"),
        (&["quickstart", "--host", "here"], "--host here"),
        (&["quickstart", "--api-key", " "], "--api-key is empty"),
        (&["quickstart", "--max-live", "0"], "--max-live"),
        (&["quickstart", "--cache-tokens", "9"], "--cache-tokens 9"),
        (&["quickstart", "--cache-tokens", "99999999999"], "--cache-tokens"),
        (&["quickstart", "--dialect", "hermes"], "chat template"),
        (&["no-such-model"], "no model"),
        (&["quickstart", "--set", "rollout.k=2"], "--rollouts"),
        (&["quickstart", "--max-groups", "3"], "--rollouts"),
        (&["quickstart", "--rollouts", "--max-live", "3"], "--max-live"),
        (&["quickstart", "--rollouts", "--max-groups", "0"], "--max-groups"),
        (&["quickstart", "--rollouts", "--host", "0.0.0.0"], "AEPO_API_KEY"),
        (&["quickstart", "--rollouts", "--servers", "vllm", "--set", "policy.sample.key_env=KEY"], "key_env"),
    ] {
        let output = aepo(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{args:?}: {}", stderr(&output));
    }
    let serving = serve(&["--host", "0.0.0.0"], Some("sk-0123"));
    let port = serving.address.rsplit(':').next().unwrap();
    let taken = aepo(&["quickstart", "--port", port, "--api-key", "sk-0"]).output().unwrap();
    assert_eq!(taken.status.code(), Some(2), "{}", stderr(&taken));
    assert!(stderr(&taken).contains("choose another --port"), "{}", stderr(&taken));
}

#[test]
fn ctrl_c_ends_it_and_tells_those_who_listen() {
    let mut serving = serve(&[], None);
    let body = json!({ "prompt": PROMPT, "max_tokens": 100, "stream": true, "n": 100, "ignore_eos": true });
    let address = serving.address.clone();
    let listener = std::thread::spawn(move || complete(&address, &body).body);
    // The signal may come before, during or behind the answer: its stream ends in each case.
    std::thread::sleep(Duration::from_millis(60));
    signal(&serving.child, "INT");
    let until = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = serving.child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until, "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(0));
    let told = listener.join().unwrap();
    assert!(told.ends_with("data: [DONE]\n\n") || told.contains("\"code\":\"stopping\""), "{told}");
    let mut screen = String::new();
    serving.child.stdout.take().unwrap().read_to_string(&mut screen).unwrap();
    for word in ["quickstart on http://127.0.0.1:", "/v1", "curl -s http://", "Ctrl-C"] {
        assert!(screen.contains(word), "{word}: {screen}");
    }
}

/// A Python with OpenAI's client: the one that `AEPO_OPENAI_PYTHON` names, or the one on the path.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("AEPO_OPENAI_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let found = Command::new(&named).args(["-c", "import openai"]).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success()).then_some(named)
}

#[test]
fn openais_own_client_gets_what_it_asks_for() {
    let Some(python) = python() else {
        eprintln!("skipped: AEPO_OPENAI_PYTHON names no Python with the package openai, nor is it on the path");
        return;
    };
    let serving = serve(&[], Some("sk-0123456789"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_client.py");
    let url = format!("http://{}/v1", serving.address);
    let output: Output = Command::new(python).args([script, &url, "quickstart", "sk-0123456789"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("checks passed"), "{said}{}", stderr(&output));
}
