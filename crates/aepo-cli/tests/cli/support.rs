//! What do these tests share? A tiny recipe with a model that has learned a little, and ways to run the binary on it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// Settings under which a step takes a fraction of a second. The cold start is just long enough for some answers to
/// be well-formed and some not, so that training has a signal.
const RECIPE: &str = r#"
[model]
init = "cold/model"
[model.shape]
hidden_size = 32
intermediate_size = 64
n_layers = 2
n_heads = 2
n_kv_heads = 1
head_dim = 16
context_len = 512
[tasks]
n_train = 24
[rollout]
k = 4
entropy_tokens = 4
call_limit = 2
max_response_tokens = 96
max_turn_tokens = 40
max_result_tokens = 40
[train]
steps = 6
tasks_per_step = 4
minibatches = 2
learning_rate = 1e-3
warmup_steps = 2
checkpoint_every = 2
threads = 2
[eval]
n_tasks = 8
samples = 2
[sft]
tokens = 300_000
batch_tokens = 1024
learning_rate = 1e-2
curriculum = 0.1
copy_share = [0.0, 0.0]
lookup_share = [0.0, 0.0]
task_share = [1.0, 1.0]
kind_shares = [0.0, 0.0, 0.0, 1.0]
"#;

/// A folder with the recipe `tiny.toml`, the cold start `cold`, and a finished run `whole` of six steps.
pub struct Place {
    pub dir: PathBuf,
}

/// Made once for all tests.
pub fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        // One folder per build of the tests, emptied at the start: nothing is left behind but the last run of them.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("tiny.toml"), RECIPE).unwrap();
        let place = Place { dir };
        place.ok(&["sft", "tiny.toml", "--out", "cold", "--quiet"]);
        place.ok(&["train", "tiny.toml", "--out", "whole", "--quiet"]);
        place
    })
}

impl Place {
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aepo"));
        command.args(args).current_dir(&self.dir).stdin(Stdio::null()).env_remove("NO_COLOR");
        // No test asks the real hub, or reads its cache.
        command.env("HF_HOME", self.path("hf")).env("HF_ENDPOINT", "http://127.0.0.1:9");
        let others = ["HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"];
        let proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
        for name in others.into_iter().chain(proxies).chain(["TRANSFORMERS_OFFLINE", "SSL_CERT_FILE"]) {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs to a good end and returns stdout.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "aepo {}: {}", args.join(" "), stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The rows of a run without what does not repeat.
    pub fn rows(&self, run: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        let row = |line: &str| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            let varies =
                |key: &str| key.starts_with("secs_") || key.starts_with("tokens_per_sec") || key == "peak_memory_mb";
            row.as_object_mut().unwrap().retain(|key, _| !varies(key));
            row
        };
        text.lines().map(row).collect()
    }

    pub fn json(&self, file: &str) -> Value {
        let path = self.path(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).unwrap()
    }

    /// Starts a command that speaks JSON and waits until `n` steps have been told.
    pub fn start_and_wait(&self, args: &[&str], n_steps: usize) -> Child {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let steps = lines.by_ref().map(Result::unwrap).filter(|line| line.starts_with("{\"event\":\"step\""));
        let n_told = steps.take(n_steps).count();
        assert_eq!(n_told, n_steps, "aepo {} ended early", args.join(" "));
        // Somebody must go on reading, or the pipe fills up.
        std::thread::spawn(move || lines.count());
        child
    }

    /// A copy of a folder, to be harmed.
    pub fn copy(&self, from: &str, to: &str) {
        let status = Command::new("cp").arg("-r").arg(self.path(from)).arg(self.path(to)).status().unwrap();
        assert!(status.success());
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Sends a signal by name; the shell has `kill` everywhere.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", child.id())).status().unwrap();
    assert!(status.success());
}
