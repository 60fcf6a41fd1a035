//! Do `aepo index`, `aepo tool search` and `aepo tool serve` what they say?

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aepo_tools::http::{Client, Limits, Request};
use expect_test::expect;

fn aepo(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aepo"));
    command.args(args).current_dir(dir);
    for variable in ["SERPER_API_KEY", "BRIGHTDATA_API_KEY"] {
        command.env_remove(variable);
    }
    command
}

/// What a command prints, and its exit code; how long it took is left out.
fn run(dir: &Path, args: &[&str]) -> String {
    let output = aepo(dir, args).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let timed = |line: &str| match line.split_once(" documents, ") {
        Some((before, rest)) if rest.contains(" in ") => format!("{before} documents, …"),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(timed).collect();
    format!("$ aepo {}\n{}\n[{}]\n", args.join(" "), lines.join("\n"), output.status.code().unwrap())
}

const CORPUS: &str = r#"{"id": "moon", "contents": "\"Moon\"\nThe Moon is Earth's only natural satellite."}
{"id": "mars", "title": "Mars", "text": "Mars has two moons, Phobos and Deimos."}
"#;

#[test]
fn an_index_is_built_checked_and_searched() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("wiki.jsonl"), CORPUS).unwrap();
    std::fs::write(dir.join("bad.jsonl"), format!("{CORPUS}{{\"id\": 5}}\n")).unwrap();
    let commands: [&[&str]; 11] = [
        &["index", "build", "wiki.jsonl", "--quiet"],
        &["index", "build", "wiki.jsonl", "--quiet"],
        &["tool", "search", "--index", "wiki.index", "Phobos and (the \"moon", "-n", "2"],
        &["tool", "search", "--index", "wiki.index", "zebra"],
        &["tool", "search", "--index", "wiki.index", "satellite", "--json"],
        &["tool", "search", "--index", "absent", "x"],
        &["tool", "search", "--source", "serper", "x"],
        &["tool", "search", "x", "-n", "0"],
        &["index", "build", "bad.jsonl", "--quiet"],
        &["index", "build", "bad.jsonl", "--quiet", "--out", "other", "--on-bad-row", "skip"],
        &["index", "build", "absent.jsonl", "--quiet"],
    ];
    let session: String = commands.iter().map(|args| run(dir, args)).collect();
    expect![[r#"
        $ aepo index build wiki.jsonl --quiet

        [0]
        $ aepo index build wiki.jsonl --quiet
        error: wiki.index is there already: remove it, or choose another --out
        [1]
        $ aepo tool search --index wiki.index Phobos and (the "moon -n 2
        1. Moon  [1.892]
        The Moon is Earth's only natural satellite.

        2. Mars  [1.613]
        Mars has two moons, Phobos and Deimos.
        [0]
        $ aepo tool search --index wiki.index zebra
        No results.
        [0]
        $ aepo tool search --index wiki.index satellite --json
        {"query":"satellite","results":[{"id":"moon","title":"Moon","text":"The Moon is Earth's only natural satellite.","url":null,"score":0.6747450828552246}]}
        [0]
        $ aepo tool search --index absent x
        error: absent is no index, or not a whole one (manifest.json: No such file or directory (os error 2)); `aepo index build` makes one
        [1]
        $ aepo tool search --source serper x
        error: environment variable SERPER_API_KEY: is not set; put the key into it
        [1]
        $ aepo tool search x -n 0
        error: -n must be at least 1
        [2]
        $ aepo index build bad.jsonl --quiet
        error: bad.jsonl:3: no field `text` or `contents`; --text-field names it (--on-bad-row skip leaves such rows out and counts them)
        [1]
        $ aepo index build bad.jsonl --quiet --out other --on-bad-row skip
        warning: bad.jsonl:3: no field `text` or `contents`; --text-field names it
        [0]
        $ aepo index build absent.jsonl --quiet
        error: opening absent.jsonl: No such file or directory (os error 2)
        [1]
    "#]].assert_eq(&session);

    let checked = run(dir, &["index", "check", "wiki.index"]);
    assert!(checked.contains("wiki.index is whole: ") && checked.ends_with("[0]\n"), "{checked}");
    let quickstart = run(dir, &["tool", "search", "area of Peru", "-n", "1"]);
    assert!(quickstart.contains("Peru") && quickstart.ends_with("[0]\n"), "{quickstart}");
    std::fs::write(dir.join("wiki.index/meta.json"), "{}").unwrap();
    let damaged = run(dir, &["index", "check", "wiki.index"]);
    assert!(damaged.contains("meta.json is damaged") && damaged.ends_with("[1]\n"), "{damaged}");
}

#[test]
fn an_index_is_served_until_somebody_asks_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("wiki.jsonl"), CORPUS).unwrap();
    run(dir, &["index", "build", "wiki.jsonl", "--quiet"]);
    let args = ["tool", "serve", "--index", "wiki.index", "--listen", "127.0.0.1:0"];
    let mut child = aepo(dir, &args).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.next().unwrap().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "POST /retrieve: 2 documents of wiki.index");
    let body = serde_json::json!({"queries": ["satellite"], "topk": null});
    let url = format!("{address}/retrieve");
    let request = Request { url: &url, query: &[], key: None, body: Some(&body) };
    let client = Client::new(Limits::default()).unwrap();
    let answer = client.json(request, Instant::now() + Duration::from_secs(60)).unwrap();
    assert_eq!(answer["result"][0][0]["contents"], "\"Moon\"\nThe Moon is Earth's only natural satellite.");
    let stopped = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn settings_of_the_network_mean_nothing_to_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let set = |pairs: &[&str]| {
        let mut args = vec!["check", "quickstart"];
        pairs.iter().for_each(|pair| args.extend(["--set", pair]));
        let said = run(folder.path(), &args);
        said.lines().filter(|line| line.starts_with("error") || line.starts_with('[')).collect::<Vec<_>>().join("\n")
    };
    let said = set(&["tools.search.per_second=5"]);
    assert!(said.contains("tools.search.per_second") && said.contains("on this machine"), "{said}");
    assert!(said.ends_with("[2]"), "{said}");
    let both = ["tools.search.source=serper", "tools.search.calls_per_run=5", "tools.search.per_second=2.5"];
    assert!(set(&both).ends_with("[0]"), "{}", set(&both));
}
