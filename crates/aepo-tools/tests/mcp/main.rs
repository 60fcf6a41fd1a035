//! Does every way in which an MCP server can fail end in an answer, within the deadline and within bounds?

mod agent;
mod http;
mod real;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aepo::tool::ToolOutcome;
use aepo_tools::mcp::{Mcp, McpError, McpFile, McpSettings};
use serde_json::{Value, json};

/// A busy machine may be this late; the exact figures are measured elsewhere.
const SLACK: Duration = Duration::from_secs(8);
/// For calls that are expected to be answered.
const PATIENT: Duration = Duration::from_secs(30);
/// For calls that run into their deadline.
const SHORT: Duration = Duration::from_millis(2500);

/// The interpreter itself: what stands in `PATH` may be a script that adds to the environment.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let found = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().trim().to_owned()
    })
}

/// Where the fakes count their starts.
struct Fake {
    dir: tempfile::TempDir,
    mode: &'static str,
}

impl Fake {
    fn new(mode: &'static str) -> Fake {
        Fake { dir: tempfile::tempdir().unwrap(), mode }
    }

    fn file(&self, env: Value) -> McpFile {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/server.py");
        let args =
            [script.to_str().unwrap(), self.mode, self.dir.path().join("starts").to_str().unwrap()].map(str::to_owned);
        let text = json!({"mcpServers": {"fake": {"command": python(), "args": args, "env": env}}}).to_string();
        let lookup = |name: &str| (name == "SECRET").then(|| "s3cr3t-k3y".to_owned());
        McpFile::parse(&text, lookup).unwrap()
    }

    fn start_with(&self, settings: McpSettings) -> Result<Mcp, McpError> {
        Mcp::start(&self.file(json!({})), settings)
    }

    fn start(&self) -> Mcp {
        self.start_with(McpSettings::default()).unwrap()
    }
}

fn call(mcp: &Mcp, tool: &str, arguments: Value, within: Duration) -> (ToolOutcome, String) {
    let answer = mcp.client().call(tool, &arguments.to_string(), Instant::now() + within);
    (answer.outcome, answer.text)
}

fn act(mcp: &Mcp, within: Duration) -> (ToolOutcome, String) {
    call(mcp, "fake__act", json!({"what": "now"}), within)
}

#[track_caller]
fn echoes(mcp: &Mcp) {
    let (outcome, text) = call(mcp, "fake__echo", json!({"text": "still here"}), PATIENT);
    assert_eq!((outcome, text.as_str()), (ToolOutcome::Ok, "still here"));
}

/// Memory of this process, MiB.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Calls `act` of a server in `mode` and expects that outcome with that text; the next call must succeed, after as many
/// starts as are given.
#[track_caller]
fn check(mode: &'static str, within: Duration, outcome: ToolOutcome, words: &str, n_starts: u64) {
    let fake = Fake::new(mode);
    let mcp = fake.start();
    echoes(&mcp);
    let (before, began) = (resident_mb(), Instant::now());
    let (found, text) = act(&mcp, within);
    assert!(began.elapsed() < within + SLACK, "{mode}: {:?}", began.elapsed());
    assert!(resident_mb() - before < 150.0, "{mode}: {before} MiB before, {} MiB after", resident_mb());
    assert_eq!(found, outcome, "{mode}: {text}");
    assert!(text.contains(words), "{mode}: {text}");
    assert!(text.len() < 100_000, "{mode}: {} bytes", text.len());
    if outcome == ToolOutcome::Unavailable {
        assert!(text.contains("the MCP server fake: "), "{text}");
    }
    echoes(&mcp);
    assert_eq!(mcp.stats()[0].n_starts, n_starts, "{mode}");
}

#[test]
fn silent_servers_are_unavailable_and_slow_tools_time_out() {
    check("silence", SHORT, ToolOutcome::Unavailable, "it answered neither the call nor a ping", 2);
    check("slow", SHORT, ToolOutcome::Timeout, "no result within 2.5 s", 1);
}

#[test]
fn what_is_no_message_ends_the_connection_at_once() {
    use ToolOutcome::{Ok, Unavailable};
    check("garbage", PATIENT, Unavailable, "a broken message", 2);
    check("noise", PATIENT, Unavailable, "lines that are no messages, at last: more noise", 2);
    check("not-a-message", PATIENT, Unavailable, "no JSON-RPC message: {\"hello\"", 2);
    check("deep", PATIENT, Unavailable, "a broken message (recursion limit exceeded", 2);
    check("utf8", PATIENT, Unavailable, "a broken message (invalid unicode", 2);
    check("banner", PATIENT, Ok, "after the noise", 1);
}

#[test]
fn answers_to_nothing_end_the_connection_at_once() {
    check("wrong-id", PATIENT, ToolOutcome::Unavailable, "that was never made", 2);
    check("string-id", PATIENT, ToolOutcome::Unavailable, "that was never made", 2);
    check("bad-result", PATIENT, ToolOutcome::Unavailable, "", 1);
}

#[test]
fn floods_and_long_lines_are_bounded() {
    check("long-line", PATIENT, ToolOutcome::Unavailable, "a message of more than 4194304 bytes", 2);
    check("flood", PATIENT, ToolOutcome::Unavailable, "messages in a row that answer nothing", 2);
    check("requests", PATIENT, ToolOutcome::Unavailable, "messages in a row that answer nothing", 2);
    check("long-result", PATIENT, ToolOutcome::Ok, "[cut: the first 20000 of 3000000 characters]", 1);
}

#[test]
fn a_server_that_dies_is_named_with_its_last_words_and_comes_back() {
    check("die", PATIENT, ToolOutcome::Unavailable, "its program ended with exit code 3", 2);
    check("die", PATIENT, ToolOutcome::Unavailable, "out of cheese", 2);
    check("die-by-signal", PATIENT, ToolOutcome::Unavailable, "its program was ended by signal: 11", 2);
    check("hang-up", PATIENT, ToolOutcome::Unavailable, "it closed its output", 2);
}

#[test]
fn what_a_tool_says_no_to_is_the_models_to_read() {
    use ToolOutcome::{Raised, Unavailable};
    check("error-result", PATIENT, Raised, "there is no such city", 1);
    check("error-params", PATIENT, Raised, "there is no tool of that name", 1);
    check("input-required", PATIENT, Raised, "only a person", 1);
    check("error-internal", PATIENT, Unavailable, "my disk is full (error -32603)", 1);
}

#[test]
fn arguments_that_do_not_fit_never_reach_the_server() {
    let fake = Fake::new("die");
    let mcp = fake.start();
    for (arguments, words) in [
        (json!({}), "\"what\" is a required property"),
        (json!({"what": 3}), "/what: 3 is not of type \"string\""),
        (json!({"what": "a", "when": "b"}), "'when' was unexpected"),
        (json!(["what"]), "is not of type \"object\""),
    ] {
        let (outcome, text) = call(&mcp, "fake__act", arguments, PATIENT);
        assert_eq!(outcome, ToolOutcome::Raised, "{text}");
        assert!(text.contains(words), "{text}");
    }
    let (outcome, text) = call(&mcp, "fake__other", json!({}), PATIENT);
    assert_eq!((outcome, text.contains("fake__other")), (ToolOutcome::Unavailable, true), "{text}");
    echoes(&mcp);
    assert_eq!(mcp.stats()[0].n_starts, 1);
}

#[test]
fn a_server_that_goes_on_dying_is_left_alone_for_longer_and_longer() {
    let fake = Fake::new("die");
    let mcp = fake.start();
    let mut was_waited_for = false;
    for _ in 0..6 {
        // The time of a call does not last for the later restarts.
        let (outcome, text) = act(&mcp, Duration::from_millis(1500));
        assert_eq!(outcome, ToolOutcome::Unavailable, "{text}");
        was_waited_for |= text.contains("it is down and will be started again in");
    }
    assert!(was_waited_for, "no call was refused at once");
    echoes(&mcp);
    assert!(mcp.stats()[0].n_starts < 7);
}

#[test]
fn tools_that_change_are_noticed() {
    let fake = Fake::new("changes");
    let mcp = fake.start();
    let fingerprint = mcp.fingerprint().to_owned();
    echoes(&mcp);
    for _ in 0..2 {
        let (outcome, text) = act(&mcp, PATIENT);
        assert_eq!(outcome, ToolOutcome::Unavailable, "{text}");
        assert!(text.contains("its tools changed since the run began: echo is described otherwise"), "{text}");
    }
    assert_eq!(call(&mcp, "fake__echo", json!({"text": "a"}), PATIENT).0, ToolOutcome::Unavailable);
    assert_eq!((mcp.stats()[0].n_changes, mcp.stats()[0].n_starts), (1, 1));
    assert_eq!(mcp.fingerprint(), fingerprint, "it is that of the beginning");
    check("says-changed", PATIENT, ToolOutcome::Ok, "the answer of the same tool", 1);

    // The second time it has one tool fewer; the third time it is itself again, but nobody looks.
    let fake = Fake::new("other-after-restart");
    let mcp = fake.start();
    assert_eq!(act(&mcp, PATIENT).0, ToolOutcome::Unavailable);
    let (outcome, text) = call(&mcp, "fake__echo", json!({"text": "a"}), PATIENT);
    assert_eq!(outcome, ToolOutcome::Unavailable, "{text}");
    assert!(text.contains("act is gone"), "{text}");
    assert_eq!((mcp.stats()[0].n_changes, mcp.stats()[0].n_starts), (1, 2));
}

#[test]
fn what_keeps_a_server_from_starting_is_told() {
    let check = |mode: &'static str, words: &str| {
        let fake = Fake::new(mode);
        let settings = McpSettings { start_secs: 3.0, ..McpSettings::default() };
        let began = Instant::now();
        let error = fake.start_with(settings).err().unwrap_or_else(|| panic!("{mode} started")).to_string();
        assert!(error.contains(words), "{mode}: {error}");
        assert!(began.elapsed() < Duration::from_secs(6) + SLACK, "{mode}: {:?}", began.elapsed());
    };
    check("dies-at-start", "its program ended with exit code 7");
    check("dies-at-start", "its last words: no configuration");
    check("silent-start", "it did not answer within 3 s");
    check("garbage-start", "lines that are no messages");
    check("bad-start", "it answered initialize with something else");
    check("bad-list", "something that is no list of tools");
    check("bad-schema", "the tool echo of the MCP server fake cannot be offered: its input schema cannot be used");
    check("remote-schema", "its input schema cannot be used");
    check("many-tools", "more than 256 tools");
    check("huge-tool", "at most 65536 are taken");
    check("endless-list", "more than 100 pages");
    check("same-names", "would both be offered as fake__a_b");
    let text = r#"{"mcpServers": {"x": {"command": "no-such-program"}}}"#;
    let error = Mcp::start(&McpFile::parse(text, |_| None).unwrap(), McpSettings::default()).err().unwrap().to_string();
    assert!(error.contains("the MCP server x did not start: no-such-program cannot be started"), "{error}");
}

#[test]
fn a_list_may_have_pages_and_only_what_is_asked_for_is_offered() {
    let fake = Fake::new("two-pages");
    let names = |mcp: &Mcp| mcp.tools().map(|tool| tool.name.clone()).collect::<Vec<_>>();
    let all = fake.start();
    assert_eq!(names(&all), ["fake__act", "fake__echo"]);
    let settings = McpSettings { offer: vec!["fake__echo".to_owned()], ..McpSettings::default() };
    let one = fake.start_with(settings).unwrap();
    assert_eq!(names(&one), ["fake__echo"]);
    assert_ne!(all.fingerprint(), one.fingerprint());
    assert_eq!(all.fingerprint(), Fake::new("slow").start().fingerprint(), "the same tools on one page");
    let settings = McpSettings { offer: vec!["fake__none".to_owned()], ..McpSettings::default() };
    let error = fake.start_with(settings).err().unwrap().to_string();
    assert_eq!(error, "no MCP server has the tool fake__none; there are: ");
}

#[test]
fn the_environment_is_what_it_was_given() {
    let fake = Fake::new("env");
    let mcp = Mcp::start(&fake.file(json!({"KEY": "${SECRET}", "PLAIN": "1"})), McpSettings::default()).unwrap();
    let (_, text) = act(&mcp, PATIENT);
    let told: Value = serde_json::from_str(&text).unwrap();
    let mut names: Vec<&str> = told["env"].as_object().unwrap().keys().map(String::as_str).collect();
    // Python adds this for a locale that is not UTF-8.
    names.retain(|name| *name != "LC_CTYPE" && *name != "LANG");
    names.sort_unstable();
    assert_eq!(names, ["AEPO_MCP_SERVER", "HOME", "KEY", "PATH", "PLAIN"]);
    assert_eq!(told["env"]["KEY"], "s3cr3t-k3y");
    assert_eq!(told["sid"], told["pid"], "a session of its own");
    let home = PathBuf::from(told["env"]["HOME"].as_str().unwrap());
    assert_eq!(told["cwd"].as_str(), home.to_str());
    assert!(home.is_dir());
    drop(mcp);
    assert!(!home.exists());
}

#[test]
fn keys_are_not_repeated() {
    let fake = Fake::new("key");
    let mcp = Mcp::start(&fake.file(json!({"KEY": "${SECRET}"})), McpSettings::default()).unwrap();
    let (outcome, text) = act(&mcp, PATIENT);
    assert_eq!(outcome, ToolOutcome::Unavailable);
    assert!(text.contains("my key is ***") && !text.contains("s3cr3t"), "{text}");
    assert!(!mcp.client().identity().contains("s3cr3t"));
}

/// The processes whose command line or environment names this directory.
fn processes_of(dir: &Path) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let names = |pid: &u32| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let needle = dir.as_os_str().as_encoded_bytes();
        [read("cmdline"), read("environ")].iter().any(|text| text.windows(needle.len()).any(|window| window == needle))
    };
    pids.filter(|pid| *pid != std::process::id()).filter(names).collect()
}

#[test]
fn a_server_ends_with_all_that_it_started() {
    for mode in ["orphans", "ignores-end"] {
        let fake = Fake::new(mode);
        // The mark by which the test finds the descendants is not the one by which they are killed.
        let env = json!({"TEST_MARK": fake.dir.path()});
        let mcp = Mcp::start(&fake.file(env), McpSettings::default()).unwrap();
        assert_eq!(act(&mcp, PATIENT).0, ToolOutcome::Ok);
        let n = processes_of(fake.dir.path()).len();
        assert_eq!(n, if mode == "orphans" { 4 } else { 1 }, "{mode}");
        let began = Instant::now();
        drop(mcp);
        assert!(began.elapsed() < SLACK, "{mode}: {:?}", began.elapsed());
        assert_eq!(processes_of(fake.dir.path()), [0u32; 0], "{mode}");
    }
}

/// Set for the copy of this program that is killed in the test below, to the directory of its fake.
const HOLDS: &str = "AEPO_TEST_HOLDS_SERVERS";

#[test]
fn servers_end_when_we_are_killed() {
    if let Some(dir) = std::env::var_os(HOLDS) {
        let fake = Fake { dir: tempfile::tempdir_in(&dir).unwrap(), mode: "orphans" };
        let mcp = Mcp::start(&fake.file(json!({"TEST_MARK": dir.to_str()})), McpSettings::default()).unwrap();
        let (outcome, text) = act(&mcp, PATIENT);
        let ready = Path::new(&dir).join("ready");
        std::fs::write(ready.with_extension("part"), format!("{outcome:?} {text}")).unwrap();
        std::fs::rename(ready.with_extension("part"), ready).unwrap();
        loop {
            std::thread::park();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut copy = Command::new(std::env::current_exe().unwrap());
    copy.args(["--exact", "servers_end_when_we_are_killed", "--nocapture"]).env(HOLDS, dir.path());
    copy.env("TMPDIR", dir.path());
    let mut copy = copy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + PATIENT;
    while !dir.path().join("ready").exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(std::fs::read_to_string(dir.path().join("ready")).unwrap().starts_with("Ok"));
    // The copy, its server, what watches over both, and three that the server started.
    let n = processes_of(dir.path()).len();
    copy.kill().unwrap();
    copy.wait().unwrap();
    let until = Instant::now() + SLACK;
    while !processes_of(dir.path()).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((n, processes_of(dir.path())), (6, vec![]));
    let homes = || {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("aepo-mcp-")).count()
    };
    while homes() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(homes(), 0, "a home was left behind");
}

#[test]
fn calls_in_flight_are_answered_when_the_servers_end() {
    let fake = Fake::new("slow");
    let mcp = fake.start();
    let client = mcp.client();
    let waiting = std::thread::spawn(move || {
        let answer = client.call("fake__act", r#"{"what": "now"}"#, Instant::now() + Duration::from_secs(600));
        (answer, client)
    });
    // It is on its way once another call has been answered; if not, it is answered all the more.
    echoes(&mcp);
    drop(mcp);
    let (answer, client) = waiting.join().unwrap();
    assert_eq!(answer.outcome, ToolOutcome::Unavailable, "{}", answer.text);
    let answer = client.call("fake__echo", r#"{"text": "a"}"#, Instant::now() + PATIENT);
    assert_eq!(answer.outcome, ToolOutcome::Unavailable);
    assert!(answer.text.contains("it has been ended"), "{}", answer.text);
}

#[test]
fn many_calls_at_once_all_come_back_with_their_own_answers() {
    let fake = Fake::new("slow");
    let mcp = fake.start();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let client = mcp.client();
            scope.spawn(move || {
                for n in 0..50 {
                    let text = format!("{worker}.{n}");
                    let arguments = json!({"text": text}).to_string();
                    let answer = client.call("fake__echo", &arguments, Instant::now() + PATIENT);
                    assert_eq!(answer.text, text);
                }
            });
        }
    });
    assert_eq!(mcp.stats()[0].n_starts, 1);
}
