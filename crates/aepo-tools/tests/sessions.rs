//! Does a program go on where its path's earlier ones ended? Live, cloned and rebuilt alike.

mod common;

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;
use aepo_tools::python::{Backend, Cell, Execution, Executor, Limits, Program, PythonSettings, SessionCounts};

fn start(backend: Backend, n_slots: usize, limits: Limits) -> Executor {
    let settings = PythonSettings { backend, sessions: true, limits, ..PythonSettings::default() };
    Executor::start(&settings, n_slots, None).unwrap_or_else(|e| panic!("{e}"))
}

fn limits() -> Limits {
    Limits { wall_secs: 30.0, cpu_secs: 20, ..Limits::default() }
}

/// A path of calls, as a rollout makes them: each goes on from those that ran.
#[derive(Clone)]
struct Path {
    earlier: Vec<Cell>,
}

impl Path {
    fn new() -> Path {
        Path { earlier: Vec::new() }
    }

    fn ask(&mut self, executor: &Executor, code: &str, shared: bool) -> Execution {
        let seed = Seed(self.earlier.len() as u64);
        let program = Program { earlier: &self.earlier, shared, ..Program::new(code, seed, executor.limits()) };
        let ran = executor.run(&program);
        if matches!(ran.outcome, ToolOutcome::Ok | ToolOutcome::Raised) {
            self.earlier.push(Cell { code: code.to_owned(), seed });
        }
        ran
    }

    #[track_caller]
    fn check(&mut self, executor: &Executor, code: &str, shared: bool, text: &str) {
        let ran = self.ask(executor, code, shared);
        assert_eq!(ran.text(), text, "{code}: {ran:?}");
    }
}

#[test]
fn variables_files_and_modules_stay() {
    for backend in common::HELD {
        let executor = &start(backend, 2, limits());
        let mut path = Path::new();
        path.check(executor, "import math\nx = [1]\ndef f(): return len(x)", false, "");
        path.check(executor, "x.append(2); f()", false, "2");
        path.check(executor, "x.append(3)\n1/0", false, "ZeroDivisionError: division by zero (line 2)");
        path.check(executor, "f(), math.floor(2.5)", false, "(3, 2)");
        path.check(executor, "x.append(4) +", false, "SyntaxError: invalid syntax (line 1)");
        path.check(executor, "f(); open('kept', 'w').write('text')", false, "4");
        path.check(executor, "open('kept').read(), f(), _", false, "('text', 3, 4)");
        if backend == Backend::Namespaces {
            let SessionCounts { continued, cloned, rebuilt } = executor.session_counts();
            assert_eq!((continued, cloned, rebuilt), (6, 0, 0));
        }
        let mut other = Path::new();
        other.check(executor, "import os; os.listdir('.'), 'x' in globals()", false, "([], False)");
    }
}

#[test]
fn a_branch_goes_on_from_the_same_state_and_changes_it_for_nobody() {
    for backend in common::HELD {
        let executor = &start(backend, 4, limits());
        let mut root = Path::new();
        root.check(executor, "state = {'n': 1}\nprint('started')", false, "started");
        let mut branches: Vec<Path> = (0..4).map(|_| root.clone()).collect();
        for (i, branch) in branches.iter_mut().enumerate() {
            branch.check(executor, &format!("state['n'] += {i}; state['n']"), true, &format!("{}", i + 1));
        }
        for (i, branch) in branches.iter_mut().enumerate() {
            branch.check(executor, "state['n'] *= 10; state['n']", false, &format!("{}", 10 * (i + 1)));
        }
        root.check(executor, "state", false, "{'n': 1}");
        // Branches of a branch, whose own state is gone by now from where it began.
        let mut twig = branches[2].clone();
        twig.check(executor, "state['n'] += 1; state['n']", true, "31");
        branches[2].check(executor, "state['n']", false, "30");
        if backend == Backend::Namespaces {
            let SessionCounts { continued, cloned, rebuilt } = executor.session_counts();
            assert_eq!((continued, cloned, rebuilt), (6, 5, 0));
        }
    }
}

#[test]
fn branches_do_not_see_the_files_and_processes_of_each_other() {
    let executor = &start(Backend::Namespaces, 4, limits());
    let mut root = Path::new();
    root.check(executor, "import os, threading, time\nx = 1", false, "");
    let mut one = root.clone();
    one.check(
        executor,
        "open('mine', 'w').write('one'); os.listdir('.')",
        true,
        "3\n['mine']".trim_start_matches("3\n"),
    );
    let mut two = root.clone();
    two.check(executor, "os.listdir('.')", true, "[]");
    one.check(executor, "os.listdir('.')", false, "['mine']");
    // Branching off a state with a file: rebuilt, with a file of its own.
    let mut three = one.clone();
    three.check(executor, "open('mine', 'a').write('three'); open('mine').read()", true, "'onethree'");
    one.check(executor, "open('mine').read()", true, "'one'");
    let mut four = root.clone();
    four.check(executor, "t = threading.Thread(target=time.sleep, args=(60,), daemon=True); t.start()", true, "");
    two.check(executor, "threading.active_count()", false, "1");
    let mut five = root.clone();
    five.check(executor, "if os.fork() == 0: time.sleep(60)", true, "");
    two.check(executor, "x", false, "1");
}

#[test]
fn a_killed_call_leaves_the_session_as_it_was() {
    let executor = &start(Backend::Namespaces, 2, limits());
    let mut path = Path::new();
    path.check(executor, "x = 1", false, "");
    let hasty = Limits { wall_secs: 0.5, ..limits() };
    for (code, outcome) in [
        ("x = 2\nwhile True: pass", ToolOutcome::Timeout),
        ("x = 3\nwhile True: print('flood' * 100)", ToolOutcome::Output),
        ("x = 4\ny = 'a' * 10**11", ToolOutcome::Memory),
        ("x = 5\nimport os; os.abort()", ToolOutcome::Signal),
    ] {
        for shared in [true, false] {
            let program = Program { earlier: &path.earlier, shared, ..Program::new(code, Seed(3), &hasty) };
            let ran = executor.run(&program);
            assert_eq!(ran.outcome, outcome, "{code}: {ran:?}");
            path.clone().check(executor, "x", true, "1");
        }
    }
    let brief = Limits { cpu_secs: 1, ..limits() };
    for shared in [true, false] {
        let program = Program { earlier: &path.earlier, shared, ..Program::new("while True: pass", Seed(4), &brief) };
        assert_eq!(executor.run(&program).text(), "killed: processor time limit of 1 s");
    }
    // A cell that ends its interpreter by itself is one of those that ran, and takes its changes along.
    for shared in [true, false] {
        let mut other = path.clone();
        other.check(executor, "x = 6\nimport os; os._exit(0)", shared, "");
        other.check(executor, "x = 7\nimport os; os._exit(3)", shared, "exit code 3");
        other.check(executor, "x += 1; x", shared, "2");
        other.check(executor, "import sys; x += 1; sys.exit(2)", shared, "SystemExit: 2");
        other.check(executor, "x", shared, "3");
    }
}

#[test]
fn a_rebuilt_state_has_the_same_random_numbers() {
    let draw = "import random; random.random(), random.getrandbits(32)";
    let cells = ["import random\nr = random.Random(1)", draw, "random.random(), r.random()"];
    let run = |executor: &Executor, shared: bool| -> Vec<String> {
        let mut path = Path::new();
        cells.iter().map(|code| path.ask(executor, code, shared).text()).collect()
    };
    let live = run(&start(Backend::Namespaces, 1, limits()), false);
    assert_eq!(live, run(&start(Backend::Namespaces, 1, limits()), true));
    assert_eq!(live, run(&start(Backend::Landlock, 1, limits()), false));
    assert_ne!(live[1], live[2]);
}

#[test]
fn many_branches_at_once_and_states_that_were_evicted_answer_the_same() {
    // One slot keeps few interpreters: most states are rebuilt.
    let executor = &start(Backend::Namespaces, 4, limits());
    let mut root = Path::new();
    root.check(executor, "seen = []", false, "");
    let texts: Vec<Vec<String>> = std::thread::scope(|scope| {
        let branches: Vec<_> = (0..8)
            .map(|i| {
                let mut path = root.clone();
                scope.spawn(move || {
                    (0..6)
                        .map(|j| path.ask(executor, &format!("seen.append({i} * 10 + {j}); seen"), j < 2).text())
                        .collect()
                })
            })
            .collect();
        branches.into_iter().map(|branch| branch.join().unwrap()).collect()
    });
    for (i, texts) in texts.iter().enumerate() {
        for (j, text) in texts.iter().enumerate() {
            let seen: Vec<usize> = (0..=j).map(|j| i * 10 + j).collect();
            assert_eq!(*text, format!("{seen:?}"));
        }
    }
}

#[test]
fn idle_interpreters_take_no_more_memory_than_those_at_work_may() {
    let limits = Limits { total_memory_mb: 150, ..limits() };
    let executor = &start(Backend::Namespaces, 1, limits);
    let mut paths = [Path::new(), Path::new()];
    for (path, name) in paths.iter_mut().zip(["a", "b"]) {
        path.check(executor, &format!("{name} = b'x' * (100 << 20)"), false, "");
    }
    // The first had to make room for the second.
    let [first, second] = &mut paths;
    second.check(executor, "len(b) >> 20", false, "100");
    assert_eq!(executor.session_counts(), SessionCounts { continued: 1, cloned: 0, rebuilt: 0 });
    first.check(executor, "len(a) >> 20", false, "100");
    assert_eq!(executor.session_counts(), SessionCounts { continued: 1, cloned: 0, rebuilt: 1 });
}
