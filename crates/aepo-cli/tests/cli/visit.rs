//! Does `aepo tool visit` print what a model would read?

use std::process::Command;

use expect_test::expect;

use crate::page_server::{Server, html, typed};
use crate::support::{place, stderr};

fn run(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_aepo")).args(["tool", "visit"]).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    format!("{}[{}]\n", String::from_utf8(text).unwrap(), output.status.code().unwrap())
}

#[test]
fn refusals_say_what_is_wrong() {
    let session = [
        run(&["http://127.0.0.1/"]),
        run(&["http://0x7f.1/", "--allow-host", "localhost"]),
        run(&["example.org"]),
        run(&["file:///etc/passwd"]),
        run(&["https://example.org:8443/"]),
        run(&["http://[::ffff:169.254.169.254]/", "--json"]),
        run(&["https://example.org/", "--allow-host", "a/b"]),
        run(&["https://example.org/", "--timeout-secs", "0"]),
        run(&["https://example.org/", "--max-chars", "0"]),
    ];
    expect![[r#"
        error: 127.0.0.1 is a loopback address, and pages are read from the public internet alone
        [1]
        error: 127.0.0.1 is a loopback address, and pages are read from the public internet alone
        [1]
        error: `example.org` is no address of a page: it does not begin with http:// or https://; write a whole one, for example https://example.org/page
        [1]
        error: `file:///etc/passwd` is no address of a page: only http and https are read; write a whole one, for example https://example.org/page
        [1]
        error: port 8443 of example.org is not read; pages have ports 80 and 443
        [1]
        {"outcome":"raised","shown":"[::ffff:a9fe:a9fe] is a metadata address, and pages are read from the public internet alone","page":null}
        [0]
        error: allow_hosts holds `a/b`: write `host`, `host:port`, `[IPv6 address]` or `[IPv6 address]:port`
        [2]
        error: --timeout-secs must be more than 0 and at most 3600
        [2]
        error: max_chars = 0: must be at least 1
        [2]
    "#]].assert_eq(&session.concat());
}

#[test]
fn a_page_is_printed_as_a_model_would_read_it() {
    let said = br#"{"choices": [{"message": {"content": "It says some words."}}]}"#;
    let server = Server::start(vec![
        ("/a", html("<title>A title</title><p>Some <b>words</b> of a page.")),
        ("/v1/chat/completions", typed("application/json", said)),
    ]);
    let (url, allowed) = (server.url("/a"), format!("--allow-host={}", server.host));
    let heading = format!("Title: A title\nAddress: {url}\n\n");
    assert_eq!(run(&[&url, &allowed]), format!("{heading}Some **words** of a page.\n[0]\n"));
    let json = run(&[&url, &allowed, "--json", "--max-chars", "4"]);
    let json: serde_json::Value = serde_json::from_str(json.strip_suffix("[0]\n").unwrap()).unwrap();
    assert_eq!(json["outcome"], "ok");
    assert_eq!(json["shown"], format!("{heading}Some\n\n(These are the first 4 of 25 characters.)"));
    assert_eq!(json["page"]["text"], "Some **words** of a page.");
    let (endpoint, goal) = (server.url("/v1"), ["--goal", "words", "--model", "m", "--endpoint"]);
    let summary = run(&[&[url.as_str(), &allowed], &goal[..], &[&endpoint]].concat());
    assert_eq!(summary, format!("{heading}It says some words.\n[0]\n"));
}

#[test]
fn a_recipe_names_the_model_that_reads_pages() {
    let set = |sets: &[&str]| {
        let visit = ["tools.offer=['visit']", "prompt.protocol=hermes", "tools.visit.summary_model=m"];
        let sets = visit.iter().chain(sets).flat_map(|set| ["--set", set]);
        let args: Vec<&str> = ["train", "tiny.toml", "--out", "pageless"].into_iter().chain(sets).collect();
        stderr(&place().run(&args))
    };
    let said = set(&["tools.visit.summary_endpoint=host/v1"]);
    assert!(said.contains("error: tools.visit (summaries by m): not an address of the form"), "{said}");
    let here = "tools.visit.summary_endpoint=http://127.0.0.1:9/v1";
    let said = set(&[here, "tools.visit.summary_key_env=AEPO_TEST_NO_SUCH_VARIABLE"]);
    assert!(said.contains("variable AEPO_TEST_NO_SUCH_VARIABLE: is not set"), "{said}");
    // With both right the tools start, and it is the model of the run that lacks something.
    let said = set(&[here]);
    assert!(said.contains("holds no chat template"), "{said}");
}
