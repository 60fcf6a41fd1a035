//! Do servers that others wrote work? Those of npm and PyPI that `.ci/mcp-servers DIR` installs where a network is
//! there; `AEPO_MCP_SERVERS` names that directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aepo::rollout::tree::StopReason;
use aepo::tool::ToolOutcome;
use aepo_tools::mcp::{Mcp, McpFile, McpSettings};
use serde_json::{Value, json};

use crate::agent::{Turn, solve, tool_call};
use crate::{PATIENT, SHORT, SLACK, call};

/// Where the servers are installed, or nothing where they are not.
fn installed() -> Option<PathBuf> {
    let dir = std::env::var_os("AEPO_MCP_SERVERS").map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: AEPO_MCP_SERVERS names no directory that `.ci/mcp-servers DIR` has filled");
    }
    dir
}

fn npm(dir: &Path, name: &str) -> String {
    dir.join("node_modules/.bin").join(name).display().to_string()
}

fn start(servers: Value) -> Mcp {
    let file = McpFile::parse(&json!({ "mcpServers": servers }).to_string(), |_| None).unwrap();
    Mcp::start(&file, McpSettings::default()).unwrap()
}

#[track_caller]
fn answers(mcp: &Mcp, tool: &str, arguments: Value, outcome: ToolOutcome, words: &str) -> String {
    let (found, text) = call(mcp, tool, arguments, PATIENT);
    assert_eq!(found, outcome, "{tool}: {text}");
    assert!(text.contains(words), "{tool}: {text}");
    text
}

/// What `server-everything` offers, over either transport.
fn everything(mcp: &Mcp) {
    use ToolOutcome::{Ok, Raised, Timeout};
    answers(mcp, "all__echo", json!({"message": "schön"}), Ok, "Echo: schön");
    answers(mcp, "all__get-sum", json!({"a": 2, "b": 40}), Ok, "42");
    answers(mcp, "all__get-sum", json!({"a": "two", "b": 40}), Raised, "/a: \"two\" is not of type \"number\"");
    answers(mcp, "all__get-tiny-image", json!({}), Ok, "[image/png, ");
    answers(mcp, "all__get-structured-content", json!({"location": "Chicago"}), Ok, "temperature");
    let began = Instant::now();
    let slow = json!({"duration": 60, "steps": 5});
    let (outcome, text) = call(mcp, "all__trigger-long-running-operation", slow, SHORT);
    assert_eq!(outcome, Timeout, "{text}");
    assert!(began.elapsed() < SHORT + SLACK);
    answers(mcp, "all__echo", json!({"message": "and on"}), Ok, "Echo: and on");
    assert_eq!((mcp.stats()[0].n_starts, mcp.stats()[0].n_changes), (1, 0));
}

#[test]
fn server_everything_over_stdio() {
    let Some(dir) = installed() else { return };
    let server = json!({"command": npm(&dir, "mcp-server-everything"), "args": ["stdio"]});
    let mcp = start(json!({"all": server}));
    everything(&mcp);
    let told = answers(&mcp, "all__get-env", json!({}), ToolOutcome::Ok, "AEPO_MCP_SERVER");
    let variables: Value = serde_json::from_str(&told).unwrap();
    assert!(variables.get("CARGO_MANIFEST_DIR").is_none(), "our environment: {told}");
    // The same tools make the same fingerprint in another run.
    let again = start(json!({"all": server}));
    assert_eq!(mcp.fingerprint(), again.fingerprint());
}

/// Ends with the test, whatever becomes of it.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn server_everything_over_http() {
    let Some(dir) = installed() else { return };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new(npm(&dir, "mcp-server-everything"));
    server.arg("streamableHttp").env("PORT", port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Ends(server.spawn().unwrap());
    let until = Instant::now() + PATIENT;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let mcp = start(json!({"all": {"type": "http", "url": format!("http://127.0.0.1:{port}/mcp")}}));
    everything(&mcp);
}

#[test]
fn server_filesystem_keeps_to_its_directory() {
    use ToolOutcome::{Ok, Raised};
    let Some(dir) = installed() else { return };
    let inside = tempfile::tempdir().unwrap();
    let path = |name: &str| inside.path().join(name).display().to_string();
    std::fs::write(path("a.txt"), "what stands in the file").unwrap();
    let mcp = start(json!({"files": {"command": npm(&dir, "mcp-server-filesystem"), "args": [inside.path()]}}));
    answers(&mcp, "files__read_text_file", json!({"path": path("a.txt")}), Ok, "what stands in the file");
    answers(&mcp, "files__list_directory", json!({"path": inside.path()}), Ok, "a.txt");
    answers(&mcp, "files__write_file", json!({"path": path("b.txt"), "content": "new"}), Ok, "");
    assert_eq!(std::fs::read_to_string(path("b.txt")).unwrap(), "new");
    answers(&mcp, "files__read_text_file", json!({"path": "/etc/passwd"}), Raised, "denied");
    answers(&mcp, "files__read_text_file", json!({"path": path("none.txt")}), Raised, "ENOENT");
    answers(&mcp, "files__read_text_file", json!({}), Raised, "\"path\" is a required property");
}

#[test]
fn mcp_server_time_tells_the_time() {
    use ToolOutcome::{Ok, Raised};
    let Some(dir) = installed() else { return };
    let command = dir.join("venv/bin/mcp-server-time").display().to_string();
    let mcp = start(json!({"time": {"command": command, "args": ["--local-timezone", "UTC"]}}));
    answers(&mcp, "time__get_current_time", json!({"timezone": "Asia/Tokyo"}), Ok, "+09:00");
    let convert = json!({"source_timezone": "UTC", "time": "12:30", "target_timezone": "Asia/Tokyo"});
    answers(&mcp, "time__convert_time", convert, Ok, "21:30:00+09:00");
    answers(&mcp, "time__get_current_time", json!({"timezone": "Atlantis"}), Raised, "Atlantis");
    answers(&mcp, "time__get_current_time", json!({"zone": "UTC"}), Raised, "\"timezone\" is a required property");
}

#[test]
fn an_agent_uses_three_real_servers() {
    let Some(dir) = installed() else { return };
    let inside = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::write(inside.path().join("zone.txt"), "Asia/Tokyo").unwrap();
    let mcp = start(json!({
        "all": {"command": npm(&dir, "mcp-server-everything"), "args": ["stdio"]},
        "files": {"command": npm(&dir, "mcp-server-filesystem"), "args": [inside.path()]},
        "time": {"command": dir.join("venv/bin/mcp-server-time").display().to_string()},
    }));
    // It reads a file named in the question, asks for the time there, adds the digits of the hour, and answers.
    let turn: Turn = |n, read| match n {
        0 => {
            let path = read.split("the zone of the file ").nth(1).and_then(|rest| rest.split('?').next()).unwrap();
            tool_call("files__read_text_file", &json!({"path": path}))
        }
        1 => {
            let zone = if read.contains("Asia/Tokyo") { "Asia/Tokyo" } else { "UTC" };
            let arguments = json!({"source_timezone": "UTC", "time": "12:30", "target_timezone": zone});
            tool_call("time__convert_time", &arguments)
        }
        2 => {
            let hour = read.split("T21:").count() - 1;
            tool_call("all__get-sum", &json!({"a": 2, "b": hour}))
        }
        _ => format!("\\boxed{{{}}}", if read.contains("is 3") { "3" } else { "nothing" }),
    };
    let question =
        format!("What is it when it is 12:30 UTC at the zone of the file {}/zone.txt?", inside.path().display());
    let told = solve(mcp, &question, turn);
    let outcomes: Vec<ToolOutcome> = told.calls.iter().map(|call| call.outcome).collect();
    assert_eq!(outcomes, [ToolOutcome::Ok; 3], "{}", told.text);
    assert_eq!(told.stop, StopReason::Answered("3".to_owned()), "{}", told.text);
}
