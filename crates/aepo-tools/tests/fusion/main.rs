//! Does the SandboxFusion API hold both ways? Pairs of requests and answers in its documented form: our server gives
//! these answers, our client reads them, and both meet.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::OnceLock;

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;
use aepo_tools::fusion::{Fusion, wire};
use aepo_tools::python::{Cell, Execution, Limits, Program};
use aepo_tools::serve::{Gate, Server, run_code};
use aepo_tools::{Executor, PythonSettings};
use serde_json::{Value, json};

const PAIRS: &str = include_str!("pairs.json");

fn executor() -> &'static Executor {
    static EXECUTOR: OnceLock<Executor> = OnceLock::new();
    EXECUTOR.get_or_init(|| Executor::start(&PythonSettings::default(), 2, None).unwrap_or_else(|e| panic!("{e}")))
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start("127.0.0.1:0", run_code::route(executor().clone(), Gate::new(2))).unwrap())
}

/// Status and body of a request, as any program would send it.
fn post(body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(server().address).unwrap();
    let head = "POST /run_code HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

fn fusion() -> Fusion {
    Fusion::new(&format!("http://{}", server().address), 8192).unwrap()
}

fn patient() -> Limits {
    Limits { wall_secs: 60.0, cpu_secs: 30, ..Limits::default() }
}

#[test]
fn our_server_gives_these_answers() {
    for pair in serde_json::from_str::<Vec<Value>>(PAIRS).unwrap() {
        let (status, mut answer) = post(&pair["request"].to_string());
        assert_eq!(status, 200, "{}", pair["name"]);
        if let Some(run) = answer["run_result"].as_object_mut() {
            let secs = run["execution_time"].as_f64().unwrap();
            assert!(secs > 0.0, "{}", pair["name"]);
            run["execution_time"] = json!(0);
            // How much of the source a traceback shows differs between versions of Python.
            let stderr = run["stderr"].as_str().unwrap();
            let kept = stderr.lines().filter(|line| !line.starts_with("    ") || pair["outcome"] == "syntax");
            run["stderr"] = json!(kept.map(|line| format!("{line}\n")).collect::<String>());
        }
        assert_eq!(answer, pair["answer"], "{}", pair["name"]);
    }
}

#[test]
fn our_client_reads_these_answers() {
    for pair in serde_json::from_str::<Vec<Value>>(PAIRS).unwrap() {
        let answer = serde_json::from_value(pair["answer"].clone()).unwrap();
        let ran = wire::execution(answer, 1.0);
        assert_eq!(
            (json!(ran.outcome), json!(ran.text())),
            (pair["outcome"].clone(), pair["text"].clone()),
            "{}",
            pair["name"]
        );
    }
}

#[test]
fn a_request_of_another_form_is_refused() {
    for body in ["", "{", "[]", "{\"code\": \"1\"}", "{\"code\": 1, \"language\": \"python\"}"] {
        let (status, answer) = post(body);
        assert_eq!(status, 422, "{body}");
        assert!(answer["detail"].is_string(), "{answer}");
    }
    for bad in [
        json!({"run_timeout": 0}),
        json!({"run_timeout": 1e9}),
        json!({"memory_limit_MB": 1}),
        json!({"files": {"/etc/x": "eA=="}}),
        json!({"files": {"a\u{0}b": "eA=="}}),
        json!({"files": {"a": "no base64!"}}),
        json!({"fetch_files": ["x".repeat(5000)]}),
        json!({"fetch_files": vec!["x"; 1000]}),
    ] {
        let mut request = json!({"code": "print('ran')", "language": "python"});
        request.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        let (status, answer) = post(&request.to_string());
        assert_eq!((status, &answer["status"]), (200, &json!("SandboxError")), "{bad}");
        assert!(!answer["message"].as_str().unwrap().is_empty() && answer["run_result"].is_null(), "{bad}");
    }
}

/// What a program leaves under a name that is fetched: links, pipes, directories and too much are no files.
#[test]
fn nothing_but_files_of_the_program_is_fetched() {
    let canary = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(canary.path(), "canary").unwrap();
    let code = r#"
import os
def attempt(act, *args):
    try: act(*args)
    except OSError: pass
attempt(os.symlink, "/etc/passwd", "link")
attempt(os.symlink, CANARY, "canary")
attempt(os.symlink, "..", "up")
attempt(os.symlink, "good", "indirect")
attempt(os.link, CANARY, "hard")
attempt(os.mkfifo, "fifo")
attempt(os.mkdir, "folder")
open("good", "w").write("good")
f = open("large", "w"); f.truncate(12 << 20)
"#;
    let names = ["link", "canary", "up/etc/passwd", "indirect", "hard", "fifo", "folder", "large", "good/x", "good"];
    let code = code.replace("CANARY", &format!("{:?}", canary.path()));
    let (_, answer) = post(&json!({"code": code, "language": "python", "fetch_files": names}).to_string());
    assert_eq!(answer["files"], json!({"good": "Z29vZA=="}), "{answer}");
    // A program that tampers with what reads them gains nothing but files of its own making.
    let code = "import os\nos.open = lambda *a, **k: 0\nos.fstat = None\nopen('good', 'w').write('x')";
    let (status, answer) = post(&json!({"code": code, "language": "python", "fetch_files": ["good"]}).to_string());
    assert_eq!((status, &answer["files"]), (200, &json!({})), "{answer}");
}

#[test]
fn the_client_runs_cells_on_a_server_that_knows_only_scripts() {
    let (here, there) = (executor(), fusion());
    let limits = patient();
    let same = |program: &Program| {
        let of = |ran: Execution| (ran.outcome, ran.text());
        assert_eq!(of(there.run(program)), of(here.run(program)), "{}", program.code);
    };
    for code in [
        "print('é')\n1 + 1",
        "'a'",
        "None",
        "",
        "import random\nrandom.random(), random.getrandbits(64)",
        "print('before')\n1/0",
        "class E(Exception): pass\nraise E('why')",
        "x = = 1",
        "import sys\nsys.exit(3)",
        "import sys\nsys.exit('reason')",
        "import sys\nsys.stderr.write('warning\\n')\nprint('out')",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nprint(P(1), __name__)",
        "x = '\"\\\\\\'\\u2028 \\x00'\nx",
        "import sys\nsys.stdin.read()",
    ] {
        same(&Program::new(code, Seed(7), &limits));
    }
    let earlier = [
        Cell { code: "import random\nx = [random.random()]\nprint('unheard')".to_owned(), seed: Seed(1) },
        Cell { code: "x.append(random.random())\n1/0".to_owned(), seed: Seed(2) },
    ];
    let going_on = Program { earlier: &earlier, ..Program::new("x, random.random()", Seed(3), &limits) };
    same(&going_on);
    assert_eq!(there.run(&going_on).outcome, ToolOutcome::Ok);
    same(&Program { stdin: b"line\n", ..Program::new("input()", Seed(3), &limits) });
    let hasty = Limits { wall_secs: 1.0, ..Limits::default() };
    same(&Program::new("while True: pass", Seed(7), &hasty));
    assert_eq!(there.run(&Program::new("'x' * 10**7", Seed(7), &limits)).outcome, ToolOutcome::Output);
    assert_eq!(there.run(&Program::new("print('x' * 100000)", Seed(7), &limits)).outcome, ToolOutcome::Output);
}

/// Answers each connection with one of these, then closes.
fn plays(answers: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (i, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 1 << 16];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answers[i.min(answers.len() - 1)].as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn a_server_in_trouble_is_our_fault_and_never_the_programs() {
    let limits = Limits { wall_secs: 1.0, ..Limits::default() };
    for answers in [
        &["HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\n\r\n"][..],
        &["HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops"],
        &["HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 15\r\n\r\n{\"detail\":\"no\"}"],
        &["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"],
        &["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]"],
        &["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnot json!"],
        &["HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{"],
        &["nonsense"],
        &[""],
    ] {
        let fusion = Fusion::new(&plays(answers), 8192).unwrap();
        let ran = fusion.run(&Program::new("1", Seed(0), &limits));
        assert_eq!(ran.outcome, ToolOutcome::Unavailable, "{answers:?}: {ran:?}");
        assert!(ran.text().starts_with("tool unavailable: "), "{answers:?}: {ran:?}");
    }
    const FINE: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"status\":\"Success\",\"run_result\":{\"status\":\"Finished\",\"return_code\":0,\"stdout\":\"2\\n\"}}";
    let fusion =
        Fusion::new(&plays(&["HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\n\r\n", FINE]), 8192).unwrap();
    let ran = fusion.run(&Program::new("1 + 1", Seed(0), &limits));
    assert_eq!((ran.outcome, ran.text()), (ToolOutcome::Ok, "2".to_owned()), "{}", ran.message);
}
