//! Which answers do the benchmarks' files hold? They are no part of this repository.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where the data lies beside a checkout, or where `AEPO_SHARED_DATA` says.
fn folder() -> PathBuf {
    match std::env::var_os("AEPO_SHARED_DATA") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    }
}

/// The reference answers of the sets that are there, by name.
pub fn references() -> Vec<(&'static str, Vec<String>)> {
    let mut sets = Vec::new();
    for name in ["math500", "gsm8k", "aime24"] {
        let Ok(text) = std::fs::read_to_string(folder().join("benchmarks").join(format!("{name}.jsonl"))) else {
            continue;
        };
        let answer = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            let text = row["answer"].as_str().unwrap();
            let last = text.rsplit("####").next().unwrap();
            last.trim().to_owned()
        };
        sets.push((name, text.lines().filter(|line| !line.trim().is_empty()).map(answer).collect()));
    }
    sets
}
