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
            &["check", "tiny.toml", "--set", "rollout.kk=3"],
            &["check", "tiny.toml", "--set", "k=3"],
            &["check", "tiny.toml", "--set", "rollout.k=many"],
            &["check", "tiny.toml", "--set", "rollout.k=1"],
            &["check", "tiny.toml", "--set", "rollout.k"],
            &["check", "tiny.toml", "--set", "algorithm.name=gpro"],
            &["check", "tiny.toml", "--set", "algorithm.name=grpo", "--set", "rollout.beta=0.5"],
            &["check", "tiny.toml", "--set", "rollout.initial_rollouts=4"],
            &["check", "tiny.toml", "--set", "train.minibatches=17"],
        ],
        expect![[r#"
            $ aepo check nowhere.toml
            error: cannot read recipe nowhere.toml: No such file or directory (os error 2)
            hint: a recipe is a TOML file or one of those inside the program: quickstart, benchmark
            [2]
            $ aepo check broken.toml
            error: broken.toml, line 2: extra `=`, expected nothing
            [2]
            $ aepo check typo.toml
            error: typo.toml, line 3: there is no key `train.learning_rat`; did you mean `train.learning_rate`?
            [2]
            $ aepo check tiny.toml --set rollout.kk=3
            error: --set: there is no key `rollout.kk`; did you mean `rollout.k`?
            [2]
            $ aepo check tiny.toml --set k=3
            error: --set: there is no key `k`; did you mean `rollout.k`?
            [2]
            $ aepo check tiny.toml --set rollout.k=many
            error: --set: `rollout.k` must be a whole number, 0 or more, not "many"
            [2]
            $ aepo check tiny.toml --set rollout.k=1
            error: --set: `rollout.k` is 1 but must be at least 2
            [2]
            $ aepo check tiny.toml --set rollout.k
            error: --set rollout.k: there is no `=`
            hint: write --set section.key=value
            [2]
            $ aepo check tiny.toml --set algorithm.name=gpro
            error: --set: `algorithm.name` must be the name of an algorithm ("aepo", "arpo", "grpo", "reinforce++", "dapo", "cispo", "gppo", "gigpo", "gspo", "ppo", "rloo", …), not "gpro"
            [2]
            $ aepo check tiny.toml --set algorithm.name=grpo --set rollout.beta=0.5
            error: --set: `rollout.beta` has no effect: grpo starts every trajectory at the root and never forks
            [2]
            $ aepo check tiny.toml --set rollout.initial_rollouts=4
            error: --set: `rollout.initial_rollouts` has no effect: rollout.pre_monitor divides rollout.k by entropies
            [2]
            $ aepo check tiny.toml --set train.minibatches=17
            error: --set: `train.minibatches` is 17 but must be at most train.tasks_per_step = 4: a task's group is never divided
            [2]
        "#]],
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
        expect![[r#"
            $ aepo train tiny.toml --out never --set model.init=nowhere
            error: there is no model in DIR/nowhere: no such directory
            hint: name `quickstart`, a run directory, a .gguf file, a directory of config.json, model.safetensors and tokenizer.json, or org/name of the Hugging Face hub
            [2]
            $ aepo train tiny.toml --out never --set model.init=cut
            error: DIR/cut/model.safetensors: damaged or truncated safetensors file (incomplete metadata, file not fully covered)
            [1]
            $ aepo train tiny.toml --out never --set model.init=odd
            error: DIR/odd/model.safetensors: tensor `model.embed_tokens.weight` has shape [2048, 32], config.json asks for [2048, 34]
            [1]
            $ aepo train tiny.toml --out never --set model.init=mute
            error: DIR/mute/tokenizer.json: missing
            [1]
            $ aepo train tiny.toml --out never --set tools.python.interpreter=/nowhere/python3
            error: no Python: /nowhere/python3 did not run (No such file or directory (os error 2)); install python3 (for example: apt-get install python3) or set tools.python.interpreter
            [1]
            $ aepo train tiny.toml --out never --set tasks.source=nowhere.jsonl --set tasks.eval_file=empty.jsonl
            error: opening DIR/nowhere.jsonl: No such file or directory (os error 2)
            [1]
            $ aepo train tiny.toml --out never --set tasks.source=empty.jsonl --set tasks.eval_file=empty.jsonl
            error: DIR/empty.jsonl holds no task
            [1]
            $ aepo train tiny.toml --out never --set tasks.source=wrong.jsonl --set tasks.eval_file=empty.jsonl
            error: DIR/wrong.jsonl, line 2, key question: not a string
            [1]
            $ aepo eval nowhere
            error: there is no model in nowhere: no such directory
            hint: name `quickstart`, a run directory, a .gguf file, a directory of config.json, model.safetensors and tokenizer.json, or org/name of the Hugging Face hub
            [2]
            $ aepo rollout tiny.toml --task 99
            error: --task 99: there are 8 questions, 0 to 7
            [2]
            $ aepo show cold/model
            error: cold/model is no run directory: it has no config.toml
            hint: name a directory that `aepo train` or `aepo sft` made, for example runs/quickstart-seed1
            [2]
        "#]],
    );
    assert!(!place.path("never").exists(), "what cannot start leaves nothing behind");
}

#[test]
fn directories_that_cannot_be_written() {
    let place = place();
    let rows = std::fs::read(place.path("whole/metrics.jsonl")).unwrap();
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
        expect![[r#"
            $ aepo train tiny.toml --out whole
            error: whole is not empty
            hint: --resume goes on with the run in it, --out DIR takes another directory
            [2]
            $ aepo sft tiny.toml --out whole
            error: whole is not empty
            hint: --resume goes on with the run in it, --out DIR takes another directory
            [2]
            $ aepo train tiny.toml --out held --resume
            error: another aepo is at work in held
            hint: wait for it, or take another --out
            [2]
            $ aepo train tiny.toml --out whole --resume --set rollout.beta=0.7
            error: whole/config.toml: `rollout.beta` is 0.5 in this run, and now 0.7 is asked for
            hint: a resumed run keeps its settings; start another with another --out
            [2]
            $ aepo train tiny.toml --out nothing --resume
            error: there is no run to resume in nothing
            hint: leave --resume out to start one, or name its directory with --out
            [2]
            $ aepo train tiny.toml --out tiny.toml/run
            error: tiny.toml/run: Not a directory (os error 20)
            [1]
            $ aepo train tiny.toml --out /proc/aepo/run
            error: cannot make /proc/aepo/run: No such file or directory (os error 2)
            [1]
        "#]],
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
