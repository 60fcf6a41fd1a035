//! Does the fork server keep its word? Its programs' world, their ends, its own end, and nothing left of either.

mod common;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;
use aepo_tools::python::{Backend, Execution, Executor, Level, Limits, Program, PythonSettings};

fn limits() -> Limits {
    Limits { wall_secs: 30.0, cpu_secs: 20, ..Limits::default() }
}

fn executor(limits: Limits) -> Executor {
    let settings = PythonSettings { backend: Backend::Namespaces, limits, ..PythonSettings::default() };
    Executor::start(&settings, 4, None).unwrap_or_else(|e| panic!("{e}"))
}

fn run(executor: &Executor, code: &str) -> Execution {
    executor.run(&Program::new(code, Seed(7), executor.limits()))
}

#[track_caller]
fn check(executor: &Executor, code: &str, outcome: ToolOutcome, text: &str) {
    let ran = run(executor, code);
    assert_eq!((ran.outcome, ran.text().as_str()), (outcome, text), "{code}");
}

#[test]
fn the_best_level_is_taken_and_less_is_refused_where_more_is_demanded() {
    let best = Executor::start(&PythonSettings::default(), 1, None).unwrap();
    assert_eq!((best.level(), best.why_not_more()), (Level::Namespaces, ""));
    let backend = Backend::Landlock;
    let settings = PythonSettings { backend, min_level: Level::Namespaces, ..PythonSettings::default() };
    let error = Executor::start(&settings, 1, None).err().unwrap().to_string();
    assert!(error.contains("min_level = namespaces") && error.contains("landlock"), "{error}");
    let settings = PythonSettings { backend: Backend::UnsafeLocal, ..PythonSettings::default() };
    let open = Executor::start(&settings, 1, None).unwrap();
    assert_eq!(open.level(), Level::UnsafeLocal);
    check(&open, "import os; os.path.exists('/etc/passwd')", ToolOutcome::Ok, "True");
}

#[test]
fn streams_values_and_input_are_told_apart() {
    let executor = executor(limits());
    let limits = executor.limits().clone();
    let program = Program {
        stdin: b"first\nsecond",
        ..Program::new(
            "import sys\nprint(input())\nsys.stderr.write('warned')\nlen(sys.stdin.read())",
            Seed(1),
            &limits,
        )
    };
    let ran = executor.run(&program);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.value.as_deref()), ("first\n", "warned", Some("6")));
    assert_eq!((ran.outcome, ran.exit_code, ran.truncated), (ToolOutcome::Ok, Some(0), false));
    assert!(ran.wall_secs > 0.0 && ran.cpu_secs > 0.0 && ran.max_rss_mb > 1.0, "{ran:?}");
    let own = Limits { wall_secs: 0.3, ..limits };
    let ran = executor.run(&Program::new("print('kept')\nwhile True: pass", Seed(1), &own));
    assert_eq!((ran.outcome, ran.exit_code), (ToolOutcome::Timeout, None));
    assert_eq!(ran.text(), "kept\nkilled: time limit of 0.3 s");
}

#[test]
fn a_program_has_processes_and_files_of_its_own() {
    let executor = executor(limits());
    let tree = "import os, subprocess, sys\nout = subprocess.run([sys.executable, '-c', 'print(6*7)'], capture_output=True)\nout.stdout";
    check(&executor, tree, ToolOutcome::Ok, "b'42\\n'");
    let pool = "import multiprocessing as m\nwith m.get_context('fork').Pool(3) as p: print(p.map(abs, [-1, -2, -3]))";
    check(&executor, pool, ToolOutcome::Ok, "[1, 2, 3]");
    check(&executor, "open('/tmp/kept', 'w').write('x')", ToolOutcome::Ok, "1");
    check(&executor, "import os; os.listdir('/tmp'), os.listdir('/dev/shm')", ToolOutcome::Ok, "([], [])");
    check(
        &executor,
        "open('/usr/lib/x', 'w')",
        ToolOutcome::Raised,
        "OSError: [Errno 30] Read-only file system: '/usr/lib/x' (line 1)",
    );
    let full = "f = open('f', 'wb')\nwhile True: f.write(bytes(1 << 20))";
    assert_eq!(run(&executor, full).outcome, ToolOutcome::Raised);
    let daemon = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)\nos.wait()\n'left'";
    let began = Instant::now();
    check(&executor, daemon, ToolOutcome::Ok, "'left'");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn limits_on_processes_and_on_their_memory_in_total_hold() {
    let executor = executor(Limits { total_memory_mb: 400, memory_mb: 300, max_processes: 12, ..limits() });
    let bomb = "import os\nwhile True:\n    if os.fork() == 0:\n        while True: pass";
    let ran = run(&executor, bomb);
    assert_eq!(ran.outcome, ToolOutcome::Pids, "{}", ran.text());
    let threads = "import threading, time\nthreading.stack_size(65536)\nwhile True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()";
    assert_eq!(run(&executor, threads).outcome, ToolOutcome::Pids);
    assert_eq!(run(&executor, "x = bytearray(1 << 40)").outcome, ToolOutcome::Memory);
    let together = "import os, time\nfor i in range(8):\n    if os.fork() == 0:\n        x = bytearray(100 << 20)\n        time.sleep(100)\ntime.sleep(100)";
    let ran = run(&executor, together);
    assert_eq!((ran.outcome, ran.text().as_str()), (ToolOutcome::Memory, "killed: memory limit of 400 MiB in total"));
    check(&executor, "'alive'", ToolOutcome::Ok, "'alive'");
}

#[test]
fn ends_are_told_apart_and_cannot_be_forged() {
    let executor = executor(Limits { cpu_secs: 1, ..limits() });
    check(&executor, "import os; os.abort()", ToolOutcome::Signal, "killed by signal 6");
    check(&executor, "import ctypes; ctypes.string_at(0)", ToolOutcome::Signal, "killed by signal 11");
    check(
        &executor,
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        ToolOutcome::Signal,
        "killed by signal 9",
    );
    check(&executor, "import os; os.kill(os.getppid(), 9)", ToolOutcome::Signal, "killed by signal 9");
    check(&executor, "import os; os._exit(247)", ToolOutcome::Raised, "exit code 247");
    check(&executor, "import os; os.write(4, b'X lies'); os._exit(125)", ToolOutcome::Raised, "exit code 125");
    check(&executor, "while True: pass", ToolOutcome::Timeout, "killed: processor time limit of 1 s");
    let immune = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass";
    check(&executor, immune, ToolOutcome::Timeout, "killed: processor time limit of 1 s");
}

/// Processes whose command line holds the server's program, with their parents: all that a machine's user can see.
fn processes_below(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut todo = vec![pid];
    while let Some(pid) = todo.pop() {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            found.extend(&children);
            todo.extend(&children);
        }
    }
    found
}

/// The kernel's letter for what a process is doing.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| !"ZX".contains(state))
}

/// This test binary again, running one inner test alone with temporary files under `private`.
fn alone(test: &str, private: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("TMPDIR", private).env("AEPO_TEST_ALONE", "1");
    command
}

#[test]
fn a_killed_trainer_takes_its_server_and_programs_along() {
    let private = tempfile::tempdir().unwrap();
    let mut trainer = alone("inner_endless", private.path()).stdout(Stdio::null()).process_group(0).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    // The server's outer and inner half, the first process of a namespace, and the program.
    let mut below = Vec::new();
    while below.len() < 4 {
        assert!(trainer.try_wait().unwrap().is_none() && Instant::now() < deadline, "no program ran: {below:?}");
        std::thread::sleep(Duration::from_millis(5));
        below = processes_below(trainer.id());
    }
    trainer.kill().unwrap();
    trainer.wait().unwrap();
    while below.iter().any(|&pid| is_alive(pid)) {
        assert!(Instant::now() < deadline, "{below:?} live on");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(std::fs::read_dir(private.path()).unwrap().count(), 0, "a temporary directory stayed");
}

/// The trainer of the test above.
#[test]
fn inner_endless() {
    if std::env::var_os("AEPO_TEST_ALONE").is_none() {
        return;
    }
    let executor = executor(Limits { wall_secs: 3600.0, cpu_secs: 3600, ..Limits::default() });
    run(&executor, "import time\ntime.sleep(3000)");
}

#[test]
fn a_lost_server_is_replaced_and_nothing_stays_behind() {
    let private = tempfile::tempdir().unwrap();
    let output = alone("inner_lost_server", private.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

/// The body of the test above; alone in its process it can count all descriptors and children.
#[test]
fn inner_lost_server() {
    if std::env::var_os("AEPO_TEST_ALONE").is_none() {
        return;
    }
    let n_fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let me = std::process::id();
    let before = n_fds();
    let executor = executor(limits());
    let running = n_fds();
    let servers = processes_below(me);
    assert_eq!(servers.len(), 2);
    for i in 0..50 {
        check(&executor, &format!("{i}"), ToolOutcome::Ok, &format!("{i}"));
    }
    assert_eq!((n_fds(), processes_below(me)), (running, servers.clone()));
    // Between two calls: the next one notices, and runs on a new server.
    assert!(Command::new("kill").args(["-9", &servers[1].to_string()]).status().unwrap().success());
    check(&executor, "'again'", ToolOutcome::Ok, "'again'");
    // In the middle of one: nobody knows how far it came.
    let ran = std::thread::scope(|scope| {
        let stuck = scope.spawn(|| run(&executor, "import time; time.sleep(1000)"));
        let deadline = Instant::now() + Duration::from_secs(60);
        // The server sleeps once it has told of the program; one that is lost before that is replaced without a word.
        let server = loop {
            assert!(Instant::now() < deadline, "no program began");
            let below = if processes_below(me).len() == 4 { processes_below(me) } else { Vec::new() };
            let server = below.into_iter().find(|&pid| processes_below(pid).len() == 2);
            if let Some(server) = server.filter(|&pid| state(pid) == Some('S')) {
                break server;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(Command::new("kill").args(["-9", &server.to_string()]).status().unwrap().success());
        stuck.join().unwrap()
    });
    assert_eq!(ran.outcome, ToolOutcome::Unavailable, "{}", ran.text());
    check(&executor, "'still'", ToolOutcome::Ok, "'still'");
    drop(executor);
    assert_eq!(n_fds(), before);
    assert!(processes_below(me).is_empty());
}

#[test]
fn cancelled_programs_end_at_once() {
    let (cancelled, cancel) = std::io::pipe().unwrap();
    let limits = Limits { wall_secs: 3600.0, cpu_secs: 3600, ..Limits::default() };
    let settings = PythonSettings { backend: Backend::Namespaces, limits, ..PythonSettings::default() };
    let executor = Executor::start(&settings, 2, Some(std::sync::Arc::new(cancelled.into()))).unwrap();
    let ran = std::thread::scope(|scope| {
        let stuck = scope.spawn(|| run(&executor, "import time; time.sleep(3000)"));
        std::thread::sleep(Duration::from_millis(300));
        drop(cancel);
        stuck.join().unwrap()
    });
    assert_eq!(ran.outcome, ToolOutcome::Unavailable);
}
