//! Does a tool used by hand print one JSON object, and does `aepo doctor` tell what is here?

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn aepo(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aepo"));
    command.args(args).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command line that is refused is refused before anything is read.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Runs a program and gives its object; exactly one line was printed.
#[track_caller]
fn python(dir: &Path, args: &[&str], code: &str) -> Value {
    let patient = ["tool", "python", "--timeout-secs", "60"];
    let done = aepo(dir, &[&patient, args].concat(), code.as_bytes());
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_program_is_one_object() {
    let dir = tempfile::tempdir().unwrap();
    let ran = python(dir.path(), &[], "print('out')\nimport sys\nsys.stderr.write('err')\n6 * 7");
    let keys: Vec<&String> = ran.as_object().unwrap().keys().collect();
    let expected =
        ["outcome", "value", "stdout", "stderr", "exit_code", "truncated", "wall_secs", "cpu_secs", "max_rss_mb"];
    assert_eq!(keys, expected);
    assert_eq!((&ran["outcome"], &ran["value"], &ran["stdout"]), (&"ok".into(), &"42".into(), &"out\n".into()));
    assert_eq!((&ran["stderr"], &ran["exit_code"], &ran["truncated"]), (&"err".into(), &0.into(), &false.into()));
    assert!(ran["wall_secs"].as_f64().unwrap() > 0.0 && ran["max_rss_mb"].as_f64().unwrap() > 0.0, "{ran}");
    let outcome = |args: &[&str], code: &str| python(dir.path(), args, code)["outcome"].as_str().unwrap().to_owned();
    assert_eq!(outcome(&[], "1 / 0"), "raised");
    assert_eq!(outcome(&[], "x = = 1"), "syntax");
    assert_eq!(outcome(&[], "bytearray(1 << 40)"), "memory");
    assert_eq!(outcome(&[], "import os; os.abort()"), "signal");
    assert_eq!(outcome(&["--max-output-bytes", "100"], "while True: print('x')"), "output");
    let late = aepo(dir.path(), &["tool", "python", "--timeout-secs", "0.5"], b"while True: pass");
    assert_eq!(late.status.code(), Some(0));
    assert_eq!(serde_json::from_slice::<Value>(&late.stdout).unwrap()["outcome"], "timeout");
    let wrong = aepo(dir.path(), &["tool", "python"], b"print('\xff')");
    assert_eq!(serde_json::from_slice::<Value>(&wrong.stdout).unwrap()["outcome"], "syntax");
}

#[test]
fn a_session_goes_on_from_what_ran() {
    let dir = tempfile::tempdir().unwrap();
    let session = ["--session", "s.jsonl"];
    let value = |code: &str| python(dir.path(), &session, code)["value"].clone();
    assert_eq!(value("import random\nx = [random.random()]\nprint('once')"), Value::Null);
    let first = value("x.append(2)\nx");
    assert_eq!(python(dir.path(), &session, "raise ValueError(x.pop())")["outcome"], "raised");
    assert_eq!(python(dir.path(), &session, "x.append(3); import os; os.abort()")["outcome"], "signal");
    let second = value("x");
    assert_eq!(format!("[{}, 2]", second.as_str().unwrap().trim_matches(['[', ']'])), first.as_str().unwrap());
    assert_eq!(std::fs::read_to_string(dir.path().join("s.jsonl")).unwrap().lines().count(), 4);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the session is left");
}

#[test]
fn misuse_is_2_and_what_cannot_run_is_1() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("other"), "no session\n").unwrap();
    for (args, word) in [
        (&["--timeout-secs", "0"][..], "--timeout-secs 0"),
        (&["--timeout-secs", "nan"], "--timeout-secs NaN"),
        (&["--memory-mb", "1"], "--memory-mb 1"),
        (&["--max-output-bytes", "0"], "--max-output-bytes 0"),
        (&["--backend", "best"], "--backend"),
        (&["--backend", "sandboxfusion"], "--endpoint"),
        (&["--endpoint", "http://127.0.0.1:9"], "--endpoint"),
        (&["--session", "other"], "other:1"),
    ] {
        let done = aepo(dir.path(), &[&["tool", "python"], args].concat(), b"1");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!((done.status.code(), done.stdout.len()), (Some(2), 0), "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
    }
    for args in [
        &["--interpreter", "/nonexistent/python3"][..],
        &["--backend", "sandboxfusion", "--endpoint", "http://127.0.0.1:9"],
    ] {
        let done = aepo(dir.path(), &[&["tool", "python"], args].concat(), b"1");
        assert_eq!(done.status.code(), Some(1), "{args:?}");
        assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap()["outcome"], "unavailable");
    }
    assert_eq!(aepo(dir.path(), &["tool", "serve"], b"").status.code(), Some(2));
    assert_eq!(aepo(dir.path(), &["tool", "serve", "--sandbox", "--listen", "here"], b"").status.code(), Some(2));
}

#[test]
fn the_doctor_says_what_is_here() {
    let dir = tempfile::tempdir().unwrap();
    let done = aepo(dir.path(), &["doctor"], b"");
    let screen = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{screen}");
    for word in
        ["Kernel", "Landlock", "cgroup v2", "interpreter", "numpy", "Sandboxes", "ms a call", "quickstart works"]
    {
        assert!(screen.contains(word), "{word}: {screen}");
    }
    let done = aepo(dir.path(), &["doctor", "--json"], b"");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(told["sandbox"]["call_ms"].as_f64().unwrap() > 0.0, "{told}");
    assert_eq!(told["kernel"].as_array().unwrap().len(), 6);
    let away = ["tools.python.backend=sandboxfusion", "tools.python.endpoint=http://127.0.0.1:9"];
    let done = aepo(dir.path(), &["doctor", "--set", away[0], "--set", away[1]], b"");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!((done.status.code(), said.contains("127.0.0.1:9 cannot be reached")), (Some(1), true), "{said}");
    assert_eq!(aepo(dir.path(), &["doctor", "--set", away[0]], b"").status.code(), Some(2));
    let missing = ["doctor", "--set", "tools.python.interpreter=/nonexistent/python3"];
    let done = aepo(dir.path(), &missing, b"");
    assert_eq!(done.status.code(), Some(1));
    let screen = String::from_utf8(done.stdout).unwrap();
    assert!(screen.contains("apt-get install python3"), "{screen}");
}
