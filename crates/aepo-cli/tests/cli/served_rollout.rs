//! Does `aepo rollout` through servers print the tree that it prints without them?

use std::path::Path;
use std::sync::Arc;

use aepo_engine::Engine;
use aepo_remote::fakes::{Fake, FakeSettings, MakeEngine, Mode, Plays};
use serde_json::Value;

use crate::support::{place, stderr};

/// A server of the tests' own small model.
fn fake(plays: Plays) -> Fake {
    let dir = place().dir.join("cold/model");
    let make: MakeEngine = Arc::new(move |_: Option<&Path>| Engine::load(&dir, 1).map_err(|e| e.to_string()));
    Fake::start(FakeSettings { plays, make, pieces: Arc::new([]), mode: Mode::Scaled }).unwrap()
}

/// What is in a tree besides entropies, which the servers' rounding touches.
fn essence(json: &str) -> Vec<(Value, Value, Value, Value)> {
    let tree: Value = serde_json::from_str(json).unwrap();
    let nodes = tree["nodes"].as_array().unwrap();
    nodes
        .iter()
        .map(|n| (n["parent"].clone(), n["tokens"].clone(), n["logprobs"].clone(), n["version"].clone()))
        .collect()
}

#[test]
fn a_tree_through_servers_is_printed_like_one_of_this_program() {
    let local = place().ok(&["rollout", "tiny.toml", "--json", "--task", "3"]);
    for (plays, name) in [(Plays::Vllm, "vllm"), (Plays::Sglang, "sglang")] {
        let fakes = [fake(plays), fake(plays)];
        let (engine, urls) = (
            format!("policy.sample.engine={name}"),
            format!("policy.sample.urls=[\"{}\", \"{}\"]", fakes[0].url, fakes[1].url),
        );
        let sets = ["--set", &engine, "--set", &urls, "--set", "policy.sample.top_logprobs=4096"];
        let args = |more: &[&'static str]| [&["rollout", "tiny.toml", "--task", "3"][..], more].concat();
        let served = place().ok(&[&args(&["--json"])[..], &sets].concat());
        assert_eq!(essence(&served), essence(&local));
        // What reads no servers says so instead of sampling somewhere else.
        let refused = place().run(&[&["eval", "cold/model", "--recipe", "tiny.toml"][..], &sets].concat());
        assert_eq!(refused.status.code(), Some(2));
        let refused = stderr(&refused);
        assert!(refused.contains("policy.sample.urls") && refused.contains("aepo rollout"), "{refused}");
    }
}
