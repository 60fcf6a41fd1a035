//! Does a comparison train what `aepo train` would, survive being stopped, and report what is there?

use std::process::{Command, Stdio};

use expect_test::expect;

use crate::support::{place, signal, stderr};

const TINY: [&str; 5] = ["compare", "tiny.toml", "--steps", "2", "--quiet"];

fn compare(args: &[&'static str]) -> Vec<&'static str> {
    [&TINY[..], args].concat()
}

/// Numbers of a table that are different on every machine.
fn without_times(table: &str) -> String {
    let is_time = |word: &str| word.len() == 4 && word.as_bytes()[1] == b':';
    let shown = |word| if is_time(word) { "0:00" } else { word };
    table.lines().map(|line| line.split_whitespace().map(shown).collect::<Vec<_>>().join(" ") + "\n").collect()
}

#[test]
fn runs_are_those_of_train_and_more_can_be_added() {
    let place = place();
    // Grpo has no use for this setting, and is not told of it.
    let added = |args: &[&'static str]| compare(&[&["--out", "added", "--set", "rollout.gamma=0.3"], args].concat());
    let first = place.ok(&added(&["--algos", "grpo,aepo", "--seeds", "1"]));
    assert!(first.contains("the report is added/report.html"), "{first}");
    let sets = ["--set", "algorithm.name=grpo", "--set", "eval.every=1", "--set", "eval.samples=5"];
    let train = ["train", "tiny.toml", "--steps", "2", "--quiet", "--out", "alone"];
    place.ok(&[&train[..], &sets].concat());
    assert_eq!(place.rows("added/runs/grpo/seed1"), place.rows("alone"));
    let evals = |run: &str| ["000000", "000001", "000002"].map(|n| place.json(&format!("{run}/evals/step-{n}.json")));
    assert_eq!(evals("added/runs/grpo/seed1"), evals("alone"));

    // What is finished is kept; another algorithm and another seed come to it, in the order of seeds.
    let summary = |run: &str| std::fs::read_to_string(place.path(run).join("summary.json")).unwrap();
    let before = summary("added/runs/aepo/seed1");
    let more: Vec<&str> = added(&["--algos", "grpo,dapo", "--seeds", "2", "--jobs", "2"]);
    let output = place.run(&more.into_iter().filter(|arg| *arg != "--quiet").collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("in 4 runs of 2 steps, 1 of them done"), "{}", stderr(&output));
    assert!(stderr(&output).contains("--set rollout.gamma means nothing to grpo, dapo"), "{}", stderr(&output));
    assert_eq!(summary("added/runs/aepo/seed1"), before);
    assert!(!place.path("added/runs/aepo/seed2").exists() && place.path("added/runs/dapo/seed2").exists());
    expect![[r#"
        algorithm runs pass@1 before after less grpo time of processors
        grpo 2 0.0 ± 0.0 % 0.0 ± 0.0 % – 0:00 0:00
        aepo 1 0.0 % 0.0 % +0.0 points 0:00 0:00
        dapo 2 0.0 ± 0.0 % 0.0 ± 0.0 % +0.0 ± 0.0 points 0:00 0:00
        Means over runs, ± half of the 95 % interval over seeds.
        5 of 6 runs are finished; the report is added/report.html
    "#]]
    .assert_eq(&without_times(&String::from_utf8(output.stdout).unwrap()));

    // Nothing is left to train, and the report does not change.
    let report = || std::fs::read_to_string(place.path("added/report.html")).unwrap();
    let told = report();
    assert!(
        told.contains("<svg") && told.contains("aepo compare tiny.toml --algos grpo,aepo,dapo --seeds 2"),
        "{told}"
    );
    std::fs::remove_file(place.path("added/report.html")).unwrap();
    place.ok(&["compare", "--report-only", "--out", "added", "--quiet"]);
    assert_eq!(report(), told);
    let states = || std::fs::metadata(place.path("added/runs/dapo/seed2/metrics.jsonl")).unwrap().modified().unwrap();
    let touched = states();
    place.ok(&added(&["--algos", "grpo,dapo", "--seeds", "2"]));
    assert_eq!((states(), report()), (touched, told));
    assert!(!place.path("added/.report.tmp").exists());

    // Another baseline, and an older comparison's settings.
    let other = place.ok(&["compare", "--report-only", "--out", "added", "--baseline", "aepo", "--json"]);
    let other: serde_json::Value = serde_json::from_str(&other).unwrap();
    assert_eq!((&other["event"], &other["finished"]), (&"report".into(), &5.into()));
    assert!(other["algorithms"][1]["difference"].is_null() && !other["algorithms"][0]["difference"].is_null());
    for (args, expected) in [
        (&["--set", "rollout.k=3"][..], "added/compare.json: `rollout.k` is 4 in this comparison, and now 3"),
        (&["--threads", "1"], "added/compare.json: `train.threads` is 2 in this comparison, and now 1"),
        (&["--set", "eval.every=2"], "added/compare.json: `eval.every` is 1 in this comparison, and now 2"),
    ] {
        let output = place.run(&added(&[&["--algos", "gppo"], args].concat()));
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    assert!(!place.path("added/runs/gppo").exists());
}

#[test]
fn a_stopped_comparison_stops_its_runs_and_goes_on_as_if_nothing_had_happened() {
    let place = place();
    let args = ["compare", "tiny.toml", "--algos", "aepo", "--seeds", "1", "--out", "halted"];
    let args = [&args[..], &["--set", "eval.every=0", "--set", "eval.samples=2"]].concat();
    let json = [&args[..], &["--json"]].concat();
    // Only the comparison is told to stop; its run hears of it by itself.
    let child = place.start_and_wait(&json, 1);
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let n_rows = place.rows("halted/runs/aepo/seed1").len();
    let state = place.json(&format!("halted/runs/aepo/seed1/checkpoints/step-{n_rows:06}/state.json"));
    assert_eq!(state["step"], n_rows);
    assert!(state["cpu_secs"].as_f64() > Some(0.0));
    // Killed, it can tell nobody; the next one waits until the run has come to its checkpoint.
    let mut child = place.start_and_wait(&json, 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = place.run(&args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(place.rows("halted/runs/aepo/seed1"), place.rows("whole"));
    let result = |file: &str| place.json(file)["eval_after"].clone();
    assert_eq!(result("halted/runs/aepo/seed1/summary.json"), result("whole/summary.json"));
}

#[test]
fn a_run_that_fails_stops_no_other() {
    let place = place();
    // Checkpoints do not fit, in any run: each fails for itself, with its own words.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_aepo")])
        .args(compare(&["--algos", "grpo,aepo", "--seeds", "1", "--out", "failing"]))
        .current_dir(&place.dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for run in ["grpo", "aepo"] {
        let why = format!("cannot write checkpoint failing/runs/{run}/seed1/checkpoints/step-000001");
        assert!(said.contains(&format!("warning: {run} seed 1 failed: {why}")), "{said}");
        let log = std::fs::read_to_string(place.path(&format!("failing/runs/{run}/seed1.log"))).unwrap();
        assert!(log.contains(&why), "{log}");
    }
    assert!(said.contains("error: 2 of 2 runs failed; the same command tries them again"), "{said}");
    let text = place.ok(&compare(&["--algos", "grpo,aepo", "--seeds", "1", "--out", "failing"]));
    assert!(text.contains("the report is failing/report.html"), "{text}");
    assert!(!place.path("failing/runs/grpo/seed1.log").exists());
}

#[test]
fn what_cannot_be_compared_is_said_before_anything_is_written() {
    let place = place();
    let mut text = String::new();
    for args in [
        &["--algos", "aepo,gpro"][..],
        &["--algos", "grpo,aepo,grpo"],
        &["--algos", "grpo", "--seeds", "0"],
        &["--algos", "grpo", "--jobs", "0"],
        &["--algos", "grpo,aepo", "--baseline", "dapo"],
        &["--algos", "grpo", "--set", "algorithm.name=aepo"],
        &["--algos", "grpo", "--set", "train.seed=4"],
        &["--algos", "grpo,ppo", "--set", "rollout.beta=3"],
        &["--algos", "grpo,dapo", "--set", "rollout.k=1"],
        &["--algos", "grpo", "--set", "model.init=nowhere"],
        &["--algos", "grpo", "--report-only"],
    ] {
        let output = place.run(&compare(&[args, &["--out", "unborn"]].concat()));
        text += &format!("$ … {}\n{}[{}]\n", args.join(" "), stderr(&output), output.status.code().unwrap());
    }
    expect![[r#"
        $ … --algos aepo,gpro
        error: --algos: there is no algorithm `gpro`
        hint: one of aepo, aepo-reference, arpo, arpo-reference, grpo, reinforce++, dapo, cispo, gppo, gigpo, gspo, ppo, rloo, tree-grpo, at2po
        [2]
        $ … --algos grpo,aepo,grpo
        error: --algos: `grpo` is named twice
        [2]
        $ … --algos grpo --seeds 0
        error: --seeds 0: there is nothing to train
        hint: --seeds N takes the seeds 1 to N
        [2]
        $ … --algos grpo --jobs 0
        error: --jobs 0: no run could ever start
        [2]
        $ … --algos grpo,aepo --baseline dapo
        error: --baseline: `dapo` is not compared
        hint: one of grpo, aepo
        [2]
        $ … --algos grpo --set algorithm.name=aepo
        error: --set algorithm.name: a comparison takes it from --algos
        [2]
        $ … --algos grpo --set train.seed=4
        error: --set train.seed: a comparison takes it from --seeds
        [2]
        $ … --algos grpo,ppo --set rollout.beta=3
        error: --set: `rollout.beta` has no effect: grpo starts every trajectory at the root and never forks
        [2]
        $ … --algos grpo,dapo --set rollout.k=1
        error: algorithm grpo: --set: `rollout.k` is 1 but must be at least 2
        [2]
        $ … --algos grpo --set model.init=nowhere
        error: there is no model in DIR/nowhere: no such directory
        hint: name `quickstart`, a run directory, a .gguf file, a directory of config.json, model.safetensors and tokenizer.json, or org/name of the Hugging Face hub
        [2]
        $ … --algos grpo --report-only
        error: there is no comparison in unborn
        hint: name its directory with --out DIR
        [2]
    "#]].assert_eq(&text.replace(place.dir.to_str().unwrap(), "DIR"));
    assert!(!place.path("unborn").exists());
    let output = place.run(&compare(&["--algos", "grpo", "--out", "whole"]));
    assert_eq!((output.status.code(), place.path("whole/runs").exists()), (Some(2), false), "{}", stderr(&output));
}

#[test]
fn help_teaches() {
    expect![[r#"
        Train several algorithms on the same tasks, budget and seeds, and report how they differ

        Usage: aepo compare [OPTIONS] [RECIPE]

        Arguments:
          [RECIPE]  `quickstart`, or the path of a recipe

        Options:
              --algos <NAMES>    Algorithms, separated by commas (see `aepo algo list`)
              --seeds <N>        Seeds 1 to N, the same for every algorithm [default: 3]
              --baseline <NAME>  The algorithm that the others are compared with [default: grpo where it is one of them, else the first]
              --out <DIR>        Directory of the comparison [default: runs/compare-RECIPE]
              --set <KEY=VALUE>  Change a setting of the recipe, `section.key=value`; may be repeated (see `aepo check`)
              --steps <N>        Training steps; stands for train.steps
              --jobs <J>         Runs at once [default: 1]
              --threads <N>      Threads of each run's engine; stands for train.threads [default: the recipe's, else cores / jobs]
              --report-only      Train nothing: write the report of what is there
              --offline          Use no network: a model of the hub must be in the cache (so does HF_HUB_OFFLINE=1)
          -q, --quiet            No progress, only the result
              --json             One JSON object per line on stdout, and nothing else
          -h, --help             Print help

        Examples:
          aepo compare quickstart --algos aepo,grpo --seeds 3
          aepo compare quickstart --algos aepo,arpo,grpo,dapo --seeds 5 --steps 20 --jobs 2 --out runs/study
          aepo compare --report-only --out runs/study

        Each run is an `aepo train` of its own, in DIR/runs/ALGORITHM/seedN. Seed 1 of every algorithm comes first, so that a
        comparison is balanced at every moment. The same command run again keeps what is finished and goes on with the rest;
        more algorithms and more seeds can be asked for at any time, other settings need another --out. A run that fails stops
        no other: its last words stand in DIR/runs/ALGORITHM/seedN.log.

        DIR/report.html (and report.md, summary.json, plots/) tells what the finished runs showed: means over seeds with 95 %
        intervals, and differences to the baseline with the same seed.

        Where the recipe measures only before and after training, a comparison measures after each quarter of it, with five
        answers per question at least; --set eval.every=N and --set eval.samples=N decide otherwise. A --set that means nothing
        to some of the algorithms is set for the others.
    "#]].assert_eq(&place().ok(&["compare", "--help"]));
}
