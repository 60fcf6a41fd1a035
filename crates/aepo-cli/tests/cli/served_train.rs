//! Does a run whose paths are sampled by servers go as one that samples here, and what becomes of it where it samples ahead?

use std::path::Path;
use std::sync::Arc;

use aepo::seed::Seed;
use aepo_engine::Engine;
use aepo_engine::checkpoint::ADAPTER_CONFIG;
use aepo_engine::setup::{LoraSpec, Setup, Train};
use aepo_remote::fakes::tinker::FakeTinker;
use aepo_remote::fakes::{Fake, FakeSettings, Fault, MakeEngine, Mode, Plays};
use serde_json::Value;

use crate::support::{place, stderr};

/// A server of the tests' own small model, and of what is published of it.
fn fake(plays: Plays) -> Fake {
    let base = place().path("cold/model");
    let make: MakeEngine = Arc::new(move |dir: Option<&Path>| match dir {
        Some(dir) if dir.join(ADAPTER_CONFIG).exists() => {
            let spec = LoraSpec { rank: 4, alpha: 32.0, targets: aepo::config::lora::LoraTargets::all() };
            let setup = Setup { train: Train::Lora(spec), seed: Seed(0), ..Setup::full(1) };
            let mut engine = Engine::load_as(&base, &setup).map_err(|e| e.to_string())?;
            engine.load_adapter(dir).map_err(|e| e.to_string())?;
            Ok(engine)
        }
        dir => Engine::load(dir.unwrap_or(&base), 1).map_err(|e| e.to_string()),
    });
    Fake::start(FakeSettings { plays, make, pieces: Arc::new([]), mode: Mode::Scaled }).unwrap()
}

/// A training command by servers.
fn train(plays: Plays, fakes: &[Fake], out: &str, sets: &[&str]) -> Vec<String> {
    let name = if plays == Plays::Vllm { "vllm" } else { "sglang" };
    let urls: Vec<&str> = fakes.iter().map(|fake| &*fake.url).collect();
    let served = [
        format!("policy.sample.engine={name}"),
        format!("policy.sample.urls={urls:?}"),
        // What needs no entropies needs few log-probabilities, which are most of what goes over the wire.
        "policy.sample.top_logprobs=10".to_owned(),
        GRPO.to_owned(),
    ];
    let sets = served.into_iter().chain(sets.iter().map(|&set| set.to_owned()));
    let words = ["train", "tiny.toml", "--out", out, "--quiet"].map(str::to_owned);
    words.into_iter().chain(sets.flat_map(|set| ["--set".to_owned(), set])).collect()
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

const GRPO: &str = "algorithm.name=grpo";
const LORA: [&str; 2] = ["lora.rank=4", "lora.alpha=32"];

/// The rows of a run that samples in this program.
fn here(out: &str, sets: &[&str]) -> Vec<Value> {
    let sets: Vec<&str> = [GRPO].iter().chain(sets).flat_map(|set| ["--set", set]).collect();
    place().ok(&[&["train", "tiny.toml", "--out", out, "--quiet"][..], &sets].concat());
    place().rows(out)
}

/// What two programs may round differently, to so many digits.
#[track_caller]
fn assert_close(a: &[Value], b: &[Value], keys: &[&str]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        for key in keys {
            let number = |row: &Value| row.pointer(key).and_then(Value::as_f64).unwrap();
            let (a, b) = (number(a), number(b));
            assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{key}: {a} {b}");
        }
    }
}

const SAME: [&str; 5] = ["/reward", "/n_trajectories", "/update/loss", "/update/grad_norm", "/version"];

#[test]
fn a_run_by_servers_is_the_run_of_this_program() {
    let place = place();
    let expected = here("lora-here", &LORA);
    for (plays, out) in [(Plays::Vllm, "lora-vllm"), (Plays::Sglang, "lora-sglang")] {
        let fakes = [fake(plays), fake(plays)];
        fakes[1].fail(&[Fault::HangUp, Fault::Status(503), Fault::Half]);
        place.ok(&words(&train(plays, &fakes, out, &LORA)));
        assert_close(&place.rows(out), &expected, &SAME);
        assert!(place.path(out).join("model/model.safetensors").is_file());
    }
    // All weights at once, by the program that can take them over; the other says that it cannot.
    let expected = here("whole-here", &[]);
    place.ok(&words(&train(Plays::Sglang, &[fake(Plays::Sglang)], "whole-sglang", &[])));
    assert_close(&place.rows("whole-sglang"), &expected, &SAME);
    let refused = place.run(&words(&train(
        Plays::Vllm,
        &[fake(Plays::Vllm)],
        "whole-vllm",
        &["policy.sample.deadline_secs=3", "policy.sample.try_secs=3"],
    )));
    assert_ne!(refused.status.code(), Some(0));
    assert!(stderr(&refused).contains("tie_word_embeddings"), "{}", stderr(&refused));
    assert!(!place.path("whole-vllm").exists());
}

/// That the weights which sampled a step's trees are those of `lag` steps before, or of the last of every `due` steps.
#[track_caller]
fn assert_lags(rows: &[Value], lag: usize, due: usize) {
    let n_applied = |row: &Value| row["update"]["n_applied"].as_u64().unwrap();
    let missed = |i: usize| rows[i.saturating_sub(lag).max(i / due * due)..i].iter().map(n_applied).sum::<u64>();
    let expected: Vec<u64> = (0..rows.len()).map(missed).collect();
    assert!(rows.len() == 6 && expected.iter().any(|&n| n > 0), "{expected:?}");
    let found: Vec<u64> = rows.iter().map(|row| row["staleness"].as_u64().unwrap()).collect();
    assert_eq!(found, expected);
}

#[test]
fn sampling_ahead_lags_as_asked_and_repeats() {
    let place = place();
    let ahead = |out: &str, lag: &str, more: &[&str]| {
        let lag = format!("policy.sample.staleness={lag}");
        let sets = [&LORA[..], &["loss.is_cap=2", &lag], more].concat();
        place.ok(&words(&train(Plays::Vllm, &[fake(Plays::Vllm)], out, &sets)));
        place.rows(out)
    };
    let on = ["train.checkpoint_every=0"];
    let rows = ahead("ahead-2", "2", &on);
    assert_lags(&rows, 2, 6);
    assert_eq!(ahead("ahead-2-again", "2", &on), rows);
    // Before a checkpoint, which the recipe has every two steps, all that was sampled is learned from.
    assert_lags(&ahead("ahead-1", "1", &[]), 1, 2);
}

#[test]
fn servers_sample_and_another_learns() {
    let place = place();
    let settings = aepo_remote::fakes::tinker::FakeSettings::of(place.path("cold/model"));
    let learner = FakeTinker::start(settings).unwrap();
    let url = format!("policy.train.url={}", learner.url);
    let more = ["policy.train.engine=tinker", &url, "train.max_grad_norm=1e6"];
    let run = |out: &str, sets: &[&str]| {
        let sets = [&LORA[..], &more, sets].concat();
        place.ok(&words(&train(Plays::Vllm, &[fake(Plays::Vllm), fake(Plays::Vllm)], out, &sets)));
        place.rows(out)
    };
    let rows = run("apart", &[]);
    // As if the engine sampled for that server.
    assert_close(&rows, &here("apart-here", &[&LORA[..], &more].concat()), &SAME);
    assert!(place.path("apart/model/model.safetensors").is_file());
    let ahead = run("apart-ahead", &["policy.sample.staleness=1", "loss.is_cap=2"]);
    assert_lags(&ahead, 1, 2);
}

#[test]
fn sampling_ahead_is_refused_where_nothing_would_correct_for_it() {
    let place = place();
    let refused = |sets: &[&str]| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let output = place.run(&[&["train", "tiny.toml", "--out", "ahead-never"][..], &sets].concat());
        assert_eq!(output.status.code(), Some(2), "{sets:?}");
        stderr(&output)
    };
    let alone = refused(&["policy.sample.staleness=1", "loss.is_cap=2"]);
    assert!(alone.contains("policy.sample.staleness") && alone.contains("takes turns"), "{alone}");
    let uncorrected = refused(&[
        "policy.sample.engine=vllm",
        "policy.sample.urls=[\"http://127.0.0.1:9\"]",
        "policy.sample.staleness=1",
    ]);
    assert!(uncorrected.contains("loss.is_cap"), "{uncorrected}");
}
