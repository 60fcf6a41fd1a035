//! Does a run repeat, survive being killed, and stop when asked?

use std::process::{Command, Stdio};

use crate::support::{place, signal, stderr};

/// Two runs left the same behind: rows, trees, measurements, weights.
#[track_caller]
fn assert_same_runs(a: &str, b: &str) {
    let place = place();
    assert_eq!(place.rows(a), place.rows(b));
    for file in
        ["evals/step-000000.json", "evals/step-000006.json", "trees/step-000000.jsonl", "trees/step-000005.jsonl"]
    {
        let read = |run: &str| std::fs::read_to_string(place.path(run).join(file)).unwrap();
        assert!(read(a) == read(b), "{file} differs");
    }
    for file in ["model.safetensors", "optimizer.state"] {
        let read = |run: &str| std::fs::read(place.path(run).join("checkpoints/step-000006").join(file)).unwrap();
        assert!(read(a) == read(b), "{file} differs");
    }
}

#[test]
fn a_run_leaves_what_was_promised() {
    let place = place();
    let rows = place.rows("whole");
    assert_eq!(rows.iter().map(|row| row["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    // Training has done something, and the trees are cheaper than their paths.
    assert!(rows.iter().any(|row| row["update"]["n_applied"] == 2 && row["update"]["grad_norm"].as_f64() > Some(0.0)));
    assert!(rows.iter().all(|row| row["n_unique_tokens"].as_u64() < row["n_unrolled_tokens"].as_u64()));
    let text = std::fs::read_to_string(place.path("whole/metrics.jsonl")).unwrap();
    for key in ["secs_rollout", "secs_optimise", "secs_total", "tokens_per_sec_rollout", "peak_memory_mb"] {
        assert!(text.lines().any(|line| line.contains(key)), "{key}");
    }
    let summary = place.json("whole/summary.json");
    for key in ["eval_before", "eval_after"] {
        assert_eq!(summary[key]["n_questions"], 8);
        assert!(summary[key]["pass_at_1"].is_f64());
    }
    let python = |key: &str| summary["tools"]["python"][key].as_u64().unwrap();
    let answered: u64 = ["n_made", "n_hits", "n_joined", "n_refused"].map(python).iter().sum();
    assert!(python("n_calls") > 0 && python("n_calls") == answered && python("n_hits") == 0, "{}", summary["tools"]);
    assert!(summary["seconds"].as_f64() > Some(0.0) && summary["peak_memory_mb"].as_f64() > Some(1.0));
    let kept = std::fs::read_dir(place.path("whole/checkpoints")).unwrap();
    let mut kept: Vec<String> = kept.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    kept.sort();
    assert_eq!(kept, ["step-000004", "step-000006"]);
    assert!(std::fs::read_to_string(place.path("whole/config.toml")).unwrap().contains("threads = 2"));
}

#[test]
fn the_same_seed_gives_the_same_rows_and_another_seed_others() {
    let place = place();
    place.ok(&["train", "tiny.toml", "--out", "again", "--quiet", "--steps", "2"]);
    assert_eq!(place.rows("again"), place.rows("whole")[..2]);
    place.ok(&["train", "tiny.toml", "--out", "other", "--quiet", "--steps", "2", "--seed", "2"]);
    assert_ne!(place.rows("other"), place.rows("again"));
    // A finished run can be made longer where nothing else depends on its length.
    place.ok(&["train", "tiny.toml", "--out", "again", "--quiet", "--resume"]);
    assert_same_runs("again", "whole");
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    let place = place();
    let mut child = place.start_and_wait(&["train", "tiny.toml", "--out", "killed", "--json"], 3);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!place.path("killed/summary.json").exists());
    // A row that was being written when the power went.
    let rows = place.path("killed/metrics.jsonl");
    let torn = std::fs::read_to_string(&rows).unwrap() + "{\"step\":3,\"rew";
    std::fs::write(&rows, torn).unwrap();
    place.ok(&["train", "tiny.toml", "--out", "killed", "--quiet", "--resume"]);
    assert_same_runs("killed", "whole");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_named() {
    let place = place();
    place.copy("whole", "damaged");
    let weights = place.path("damaged/checkpoints/step-000006/model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let output = place.run(&["train", "tiny.toml", "--out", "damaged", "--resume"]);
    assert_eq!(output.status.code(), Some(0));
    let said = stderr(&output);
    assert!(said.contains("step-000006 is damaged and passed over: model.safetensors has"), "{said}");
    assert!(said.contains("resuming damaged after step 4"), "{said}");
    assert_same_runs("damaged", "whole");
}

#[test]
fn an_interrupted_run_writes_a_checkpoint_and_says_how_to_go_on() {
    let place = place();
    let child = place.start_and_wait(&["train", "tiny.toml", "--out", "stopped", "--json"], 1);
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
    let n_rows = place.rows("stopped").len();
    assert!((1..6).contains(&n_rows), "{n_rows}");
    let state = place.json(&format!("stopped/checkpoints/step-{n_rows:06}/state.json"));
    assert_eq!(state["step"], n_rows);
    let output = place.run(&["train", "tiny.toml", "--out", "stopped", "--resume"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains(&format!("resuming stopped after step {n_rows}")), "{}", stderr(&output));
    assert_same_runs("stopped", "whole");
}

#[test]
fn an_interrupted_cold_start_goes_on_to_the_same_model() {
    let place = place();
    let child = place.start_and_wait(&["sft", "tiny.toml", "--out", "cold-stopped", "--json"], 2);
    signal(&child, "TERM");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert!(!place.path("cold-stopped/model").exists());
    let output = place.run(&["sft", "tiny.toml", "--out", "cold-stopped", "--resume"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(place.rows("cold-stopped"), place.rows("cold"));
    let model = |run: &str| std::fs::read(place.path(run).join("model/model.safetensors")).unwrap();
    assert!(model("cold-stopped") == model("cold"));
}

#[test]
fn a_full_disk_stops_a_run_and_spoils_nothing() {
    let place = place();
    // No file may grow beyond 200 KiB: rows and trees fit, the weights of a checkpoint do not.
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_aepo")])
        .args(["train", "tiny.toml", "--out", "full", "--quiet"])
        .current_dir(&place.dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(limited.status.code(), Some(1));
    let said = stderr(&limited);
    assert!(said.starts_with("error: cannot write checkpoint full/checkpoints/step-000002: "), "{said}");
    assert!(said.contains("model.safetensors") && said.contains("File too large"), "{said}");
    assert_eq!(std::fs::read_dir(place.path("full/checkpoints")).unwrap().count(), 0, "nothing half done is left");
    assert_eq!(place.rows("full"), place.rows("whole")[..2]);
    place.ok(&["train", "tiny.toml", "--out", "full", "--quiet", "--resume"]);
    assert_same_runs("full", "whole");
}

#[test]
fn the_newest_checkpoint_measures_as_the_run_did() {
    let place = place();
    let text = place.ok(&["eval", "whole", "--json"]);
    let mut report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report.as_object_mut().unwrap().remove("event").unwrap(), "eval");
    assert_eq!(report, place.json("whole/summary.json")["eval_after"]);
}
