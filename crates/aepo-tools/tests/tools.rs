//! Does every call come back, and does nothing stay behind?

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aepo::tool::{CallId, ToolName, ToolOutcome, ToolSpec, Toolset};
use aepo_tools::python::{Backend, Limits};
use aepo_tools::{Document, PythonSettings, SearchIndex, SearchSettings, Tools};
use common::{call, hasty, limited, patient, python};

fn articles() -> SearchIndex {
    let doc = |id: &str, title: &str, text: &str| Document { id: id.into(), title: title.into(), text: text.into() };
    let documents = vec![doc("1", "Moon", "The Moon circles the Earth.")];
    SearchIndex::build(documents, SearchSettings::default()).unwrap()
}

#[test]
fn a_stuck_call_delays_no_other() {
    let settings = limited(Limits { wall_secs: 3600.0, cpu_secs: 3600, ..Limits::default() });
    let mut tools = Tools::start(2, Some(settings), Some(articles())).unwrap();
    assert_eq!(tools.tools(), ToolSpec::python_and_search());
    tools.submit(call(0, ToolName::PYTHON, "import time; time.sleep(3000)"));
    for id in 1..=10 {
        tools.submit(call(id, ToolName::PYTHON, &format!("{id}")));
    }
    tools.submit(call(11, ToolName::SEARCH, "moon"));
    let mut answered = BTreeMap::new();
    while answered.len() < 11 {
        answered.extend(tools.poll(true).into_iter().map(|result| (result.id.0, result.text)));
    }
    assert_eq!(answered[&7], "7");
    assert_eq!(answered[&11], "Moon\nThe Moon circles the Earth.");
    assert!(tools.poll(false).is_empty());
}

#[test]
fn searches_run_while_every_python_worker_is_stuck() {
    let settings = limited(Limits { wall_secs: 3600.0, cpu_secs: 3600, ..Limits::default() });
    let mut tools = Tools::start(1, Some(settings), Some(articles())).unwrap();
    tools.submit(call(0, ToolName::PYTHON, "import time; time.sleep(3000)"));
    tools.submit(call(1, ToolName::SEARCH, "earth"));
    assert_eq!(tools.poll(true)[0].id, CallId(1));
}

/// This test binary again, running one inner test alone with temporary files under `private`.
fn alone(test: &str, private: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("TMPDIR", private).env("AEPO_TEST_ALONE", "1");
    command
}

/// Processes started by `pid` and not yet reaped.
fn children(pid: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn two_hundred_mixed_calls_leave_nothing_behind() {
    let private = tempfile::tempdir().unwrap();
    let output = alone("inner_two_hundred", private.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    assert_eq!(std::fs::read_dir(private.path()).unwrap().count(), 0, "a temporary directory stayed");
}

/// The body of the test above; alone in its process it can count all descriptors and children.
#[test]
fn inner_two_hundred() {
    if std::env::var_os("AEPO_TEST_ALONE").is_none() {
        return;
    }
    let count = |path: String| std::fs::read_dir(path).unwrap().count();
    let n_fds = || count("/proc/self/fd".to_owned());
    let before = n_fds();
    // At this level a program is a child of ours, which can be counted.
    let own = |settings| PythonSettings { backend: Backend::Landlock, ..settings };
    let mut tools = python(3, own(hasty()));
    let running = n_fds();
    let kinds = [
        ("print(1)", ToolOutcome::Ok),
        ("1/0", ToolOutcome::Raised),
        ("(", ToolOutcome::Syntax),
        ("while True: print('x' * 100)", ToolOutcome::Output),
        ("'a' * 10**10", ToolOutcome::Memory),
        ("import os; os.abort()", ToolOutcome::Signal),
        ("open('left', 'w').write('x')", ToolOutcome::Ok),
        ("import socket; socket.socket()", ToolOutcome::Raised),
    ];
    for id in 0..200 {
        let code = if id % 100 == 50 { "while True: pass" } else { kinds[id as usize % kinds.len()].0 };
        // Equal calls under way would be one.
        tools.submit(call(id, ToolName::PYTHON, &format!("{code}\n# {id}")));
    }
    let mut n_results = 0;
    while n_results < 200 {
        for result in tools.poll(true) {
            n_results += 1;
            let id = result.id.0 as usize;
            let wanted = if id % 100 == 50 { ToolOutcome::Timeout } else { kinds[id % kinds.len()].1 };
            assert_eq!(result.outcome, wanted, "{id}: {}", result.text);
            assert!(result.wall_secs > 0.0);
        }
    }
    assert_eq!(n_fds(), running);
    assert!(children("self").is_empty());
    drop(tools);
    assert_eq!(n_fds(), before);

    // Dropped in the middle of calls that would last an hour, with more in the queue.
    let mut tools = python(2, own(limited(Limits { wall_secs: 3600.0, cpu_secs: 3600, ..Limits::default() })));
    for id in 0..5 {
        tools.submit(call(id, ToolName::PYTHON, &format!("while True: pass # {id}")));
    }
    while children("self").len() < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(tools);
    assert!(children("self").is_empty());
    assert_eq!(n_fds(), before);
}

#[test]
fn a_killed_trainer_takes_its_programs_along() {
    let private = tempfile::tempdir().unwrap();
    let mut trainer = alone("inner_endless", private.path()).stdout(Stdio::null()).spawn().unwrap();
    let ready = || {
        let roots = std::fs::read_dir(private.path()).unwrap().flatten();
        roots.map(|root| root.path().join("worker-0/ready")).any(|path| path.exists())
    };
    while !ready() {
        assert!(trainer.try_wait().unwrap().is_none(), "it ended before its program ran");
        std::thread::sleep(Duration::from_millis(5));
    }
    let programs = children(&trainer.id().to_string());
    assert_eq!(programs.len(), 1);
    trainer.kill().unwrap();
    trainer.wait().unwrap();
    // Gone, or dead and waiting for its new parent to take note.
    let is_dead = || match std::fs::read_to_string(format!("/proc/{}/stat", programs[0])) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    };
    let died = (0..2000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        is_dead()
    });
    assert!(died, "the program lives on");
}

/// The trainer of the test above.
#[test]
fn inner_endless() {
    if std::env::var_os("AEPO_TEST_ALONE").is_none() {
        return;
    }
    let settings = limited(Limits { wall_secs: 3600.0, cpu_secs: 3600, ..Limits::default() });
    let mut tools = python(1, PythonSettings { backend: Backend::Landlock, ..settings });
    tools.submit(call(0, ToolName::PYTHON, "import time\nopen('ready', 'w').close()\ntime.sleep(3000)"));
    tools.poll(true);
}

#[test]
fn results_do_not_depend_on_the_number_of_workers() {
    let programs: Vec<String> = (0..20).map(|i| format!("import random; {i}, random.random()")).collect();
    let run = |n_workers: usize| {
        let mut tools = python(n_workers, patient());
        for (id, code) in programs.iter().enumerate() {
            tools.submit(call(id as u64, ToolName::PYTHON, code));
        }
        let mut answers = BTreeMap::new();
        while answers.len() < programs.len() {
            answers.extend(tools.poll(true).into_iter().map(|result| (result.id.0, result.text)));
        }
        answers
    };
    assert_eq!(run(1), run(3));
}
