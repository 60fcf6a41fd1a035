//! Does `aepo cache` count, take over and refuse?

use std::process::Command;

use expect_test::expect;

fn run(dir: &std::path::Path, args: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_aepo")).args(args.split(' ')).current_dir(dir).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    format!("$ aepo {args}\n{}[{}]\n", String::from_utf8(text).unwrap(), output.status.code().unwrap())
}

#[test]
fn a_search_cache_is_taken_over_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let object = r#"{"capital of France": "Page 1: Paris", "who is it": ["a", "b"], "failed": ""}"#;
    std::fs::write(dir.path().join("arpo.json"), object).unwrap();
    let commands = [
        "cache show cache.redb",
        "cache import arpo.json cache.redb --as no/tool",
        "cache show arpo.json",
        "cache import arpo.json cache.redb --as search",
        "cache import arpo.json cache.redb",
        "cache import cache.redb cache.redb",
    ];
    let session: String = commands.iter().map(|args| run(dir.path(), args)).collect();
    expect![[r#"
        $ aepo cache show cache.redb
        error: there is no cache cache.redb; record one with tools.cache.mode = "record" first
        [1]
        $ aepo cache import arpo.json cache.redb --as no/tool
        error: --as: "no/tool" cannot name a tool: 1 to 64 ASCII letters, digits, `_` and `-` can
        [2]
        $ aepo cache show arpo.json
        error: arpo.json is no cache of tool results: it does not begin like one; it was left as it is
        [1]
        $ aepo cache import arpo.json cache.redb --as search
        2 answers of search taken over into cache.redb
        1 left out: their text is empty
        [0]
        $ aepo cache import arpo.json cache.redb
        0 answers of search taken over into cache.redb
        2 were there already
        1 left out: their text is empty
        [0]
        $ aepo cache import cache.redb cache.redb
        error: cache.redb: not one JSON object of queries and texts: expected value at line 1 column 1
        [1]
    "#]]
    .assert_eq(&session);
    let shown = run(dir.path(), "cache show cache.redb");
    for part in
        ["cache.redb: 2 answers, 16 B of text in a file of ", "tool    outcome  answers\nsearch       ok        2\n"]
    {
        assert!(shown.contains(part), "{shown}");
    }
    let shown = run(dir.path(), "cache show cache.redb --json");
    assert!(shown.contains(r#""entries":[{"tool":"search","outcome":"ok","n":2}]"#), "{shown}");
}
