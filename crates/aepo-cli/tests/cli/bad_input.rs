//! Does bad input get one clear error that names the file and the key, and destroy nothing?

use std::fmt::Write as _;
use std::fs::File;

use expect_test::{Expect, expect};

use crate::support::{place, stderr};

/// Runs each command line and writes down its exit code and what it said.
fn said(commands: &[&[&str]]) -> String {
    let place = place();
    let mut text = String::new();
    for args in commands {
        let output = place.run(args);
        assert!(output.stdout.is_empty(), "an error belongs on stderr");
        let _ = write!(text, "$ aepo {}\n{}", args.join(" "), stderr(&output));
        let _ = writeln!(text, "[{}]", output.status.code().unwrap());
    }
    text.replace(place.dir.to_str().unwrap(), "DIR")
}

fn check(commands: &[&[&str]], expected: Expect) {
    expected.assert_eq(&said(commands));
}

#[test]
fn recipes_that_cannot_run() {
    let place = place();
    std::fs::write(place.path("broken.toml"), "[train]\nsteps = = 3\n").unwrap();
    std::fs::write(place.path("typo.toml"), "[train]\nsteps = 3\nlearning_rat = 0.1\n").unwrap();
    check(
        &[
            &["check", "nowhere.toml"],
            &["check", "broken.toml"],
            &["check", "typo.toml"],
            &["check", "quickstart", "--set", "rollout.kk=3"],
            &["check", "quickstart", "--set", "k=3"],
            &["check", "quickstart", "--set", "rollout.k=many"],
            &["check", "quickstart", "--set", "rollout.k=1"],
            &["check", "quickstart", "--set", "rollout.k"],
            &["check", "quickstart", "--set", "algorithm.name=ppo"],
            &["check", "quickstart", "--set", "algorithm.name=grpo"],
            &["check", "quickstart", "--set", "rollout.initial_rollouts=4"],
            &["check", "quickstart", "--set", "train.minibatches=17"],
        ],
        expect![""],
    );
}

#[test]
fn models_and_tasks_that_cannot_be_used() {
    let place = place();
    place.copy("cold/model", "cut");
    let weights = std::fs::read(place.path("cut/model.safetensors")).unwrap();
    std::fs::write(place.path("cut/model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    place.copy("cold/model", "odd");
    let config = std::fs::read_to_string(place.path("odd/config.json")).unwrap();
    std::fs::write(place.path("odd/config.json"), config.replace("\"hidden_size\": 32", "\"hidden_size\": 34"))
        .unwrap();
    place.copy("cold/model", "mute");
    std::fs::remove_file(place.path("mute/tokenizer.json")).unwrap();
    std::fs::write(place.path("empty.jsonl"), "\n").unwrap();
    let row = r#"{"id":"a","kind":"k","question":"q?","answers":["1"],"grader":"math"}"#;
    std::fs::write(place.path("wrong.jsonl"), format!("{row}\n{}\n", row.replace("\"q?\"", "7"))).unwrap();
    let train = |set: &'static str| ["train", "tiny.toml", "--out", "never", "--set", set];
    let files = |source: &'static str| {
        ["train", "tiny.toml", "--out", "never", "--set", source, "--set", "tasks.eval_file=empty.jsonl"]
    };
    check(
        &[
            &train("model.init=nowhere"),
            &train("model.init=cut"),
            &train("model.init=odd"),
            &train("model.init=mute"),
            &train("tools.python.interpreter=/nowhere/python3"),
            &files("tasks.source=nowhere.jsonl"),
            &files("tasks.source=empty.jsonl"),
            &files("tasks.source=wrong.jsonl"),
            &["eval", "nowhere"],
            &["rollout", "tiny.toml", "--task", "99"],
            &["show", "cold/model"],
        ],
        expect![""],
    );
    assert!(!place.path("never").exists(), "what cannot start leaves nothing behind");
}

#[test]
fn directories_that_cannot_be_written() {
    let place = place();
    let rows = std::fs::read(place.path("whole/metrics.jsonl")).unwrap();
    let lock = File::create(place.path("held.lock")).unwrap();
    drop(lock);
    place.copy("whole", "held");
    let lock = File::open(place.path("held/lock")).unwrap();
    lock.lock().unwrap();
    check(
        &[
            &["train", "tiny.toml", "--out", "whole"],
            &["sft", "tiny.toml", "--out", "whole"],
            &["train", "tiny.toml", "--out", "held", "--resume"],
            &["train", "tiny.toml", "--out", "whole", "--resume", "--set", "rollout.beta=0.7"],
            &["train", "tiny.toml", "--out", "nothing", "--resume"],
            &["train", "tiny.toml", "--out", "tiny.toml/run"],
            &["train", "tiny.toml", "--out", "/proc/aepo/run"],
        ],
        expect![""],
    );
    assert_eq!(std::fs::read(place.path("whole/metrics.jsonl")).unwrap(), rows);
}

#[test]
fn command_lines_that_make_no_sense() {
    let place = place();
    for args in
        [&["fly"][..], &["train"], &["train", "quickstart", "--seed", "x"], &["eval", "quickstart", "--split", "z"]]
    {
        assert_eq!(place.run(args).status.code(), Some(2), "{args:?}");
    }
}
