//! What can happen to the sandbox itself, and to those who use it beside a hostile program?

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;
use aepo_tools::python::{Backend, Executor, Program};

use crate::suite::{alone, descendants, eventually, honest, patient, start};

const BACKENDS: [Backend; 2] = [Backend::Namespaces, Backend::Landlock];
/// Names the backend for a copy of this program that is there to be killed.
const VICTIM: &str = "AEPO_HOSTILE_VICTIM";

fn printed(executor: &Executor, code: &str) -> String {
    let ran = executor.run(&Program::new(code, Seed(5), &patient()));
    assert_eq!(ran.outcome, ToolOutcome::Ok, "{ran:?}");
    ran.stdout
}

#[test]
fn nothing_passes_from_one_call_to_the_next() {
    for executor in BACKENDS.into_iter().filter_map(|backend| start(backend, 2)) {
        // F4, and everything else that a forked interpreter could hand on.
        let leave = "import builtins, os, random, sys, tempfile\nfor name in ('left', '/tmp/left', '/dev/shm/left', \
                     '/var/tmp/left', '/etc/left'):\n    try: open(name, 'w').write('x')\n    except OSError: \
                     pass\nbuiltins.left = random.left = sys.left = 1\nrandom.seed(0)\nbuiltins.print = \
                     None\nsys.path.insert(0, '/tmp')\nopen('json.py', 'w').write('left = 1')\nos.environ['LEFT'] = \
                     'x'\nos.umask(0)";
        let look = "import builtins, json, os, random, sys\nprint([p for p in ('left', '/tmp/left', '/dev/shm/left', \
                    '/var/tmp/left', '/etc/left') if os.path.exists(p)], os.listdir('.'), [hasattr(m, 'left') for m in \
                    (builtins, random, sys, json)], os.environ.get('LEFT'), os.umask(0o77))";
        let fresh = printed(&executor, look);
        assert!(fresh.starts_with("[] [] [False, False, False, False] None"), "{fresh}");
        for _ in 0..4 {
            let ran = executor.run(&Program::new(leave, Seed(1), &patient()));
            assert_eq!(ran.outcome, ToolOutcome::Ok, "{ran:?}");
            assert_eq!(printed(&executor, look), fresh);
        }
    }
}

#[test]
fn a_bomb_delays_no_other_call_for_ever() {
    for executor in BACKENDS.into_iter().filter_map(|backend| start(backend, 4)) {
        let limits = aepo_tools::python::Limits { wall_secs: 3.0, ..patient() };
        let bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass";
        std::thread::scope(|scope| {
            let bombs: Vec<_> = (0..2)
                .map(|i| {
                    scope.spawn({
                        let (executor, limits) = (&executor, &limits);
                        move || executor.run(&Program::new(bomb, Seed(i), limits))
                    })
                })
                .collect();
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(3) {
                assert_eq!(honest(&executor), None);
            }
            for ran in bombs {
                let ran = ran.join().unwrap();
                assert!(matches!(ran.outcome, ToolOutcome::Timeout | ToolOutcome::Pids), "{ran:?}");
            }
        });
        // F2: one slot's processes are not counted against another's.
        assert_eq!(honest(&executor), None);
    }
}

#[test]
fn dropping_the_sandbox_ends_everything() {
    alone("harness::dropping_the_sandbox_ends_everything", || {
        for backend in BACKENDS {
            let Some(executor) = start(backend, 2) else { continue };
            assert_eq!(honest(&executor), None);
            drop(executor);
            assert!(eventually(|| descendants(std::process::id()).is_empty()), "{:?}", descendants(std::process::id()));
        }
    });
}

/// Runs for ever where it was started to be killed, and otherwise checks that it was not.
#[test]
fn a_victim() {
    let Ok(name) = std::env::var(VICTIM) else { return };
    let backend = BACKENDS.into_iter().find(|backend| backend.name() == name).expect("a backend's name");
    let Some(executor) = start(backend, 2) else { return };
    let limits = patient();
    std::thread::scope(|scope| {
        for code in ["while True: pass", "import os, time\ntry: os.fork()\nexcept OSError: pass\ntime.sleep(1e9)"] {
            let (executor, limits) = (&executor, &limits);
            scope.spawn(move || executor.run(&Program::new(code, Seed(0), limits)));
        }
        println!("\nready");
    });
}

#[test]
fn killing_the_supervisor_leaves_nothing() {
    for backend in BACKENDS {
        if start(backend, 1).is_none() {
            continue;
        }
        let temporary = tempfile::tempdir().unwrap();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "harness::a_victim", "--nocapture"])
            .env(VICTIM, backend.name())
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "ready"), "{}: no call began", backend.name());
        let pid = victim.id();
        assert!(eventually(|| descendants(pid).len() >= 2), "{}: {:?}", backend.name(), descendants(pid));
        // The programs need a moment to begin; before that, killing is easier.
        std::thread::sleep(Duration::from_millis(300));
        let running = descendants(pid);
        victim.kill().unwrap();
        victim.wait().unwrap();
        let alive = || -> Vec<_> {
            let is_same = |(pid, name): &&(u32, String)| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                // A number may be used again, and a zombie may wait for whoever took it in.
                stat.contains(name.split(')').next().unwrap_or("")) && !stat.contains(") Z ")
            };
            running.iter().filter(is_same).collect()
        };
        assert!(eventually(|| alive().is_empty()), "{}: left {:?} of {running:?}", backend.name(), alive());
        if backend == Backend::Namespaces {
            let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().flatten().map(|e| e.path()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
        let executor = start(backend, 1).expect("it started before");
        assert_eq!(honest(&executor), None);
    }
}
