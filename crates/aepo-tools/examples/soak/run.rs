//! What do thousands of calls, some of them hostile, leave behind? Run by the example, and in a short form by a test.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;
use aepo_tools::python::{Executor, Limits, Program};

/// One in so many calls is hostile, in a run with hostile ones.
pub const ONE_IN: usize = 20;

/// One of each kind of trouble.
const HOSTILE: [&str; 14] = [
    "while True: pass",
    "import time; time.sleep(1e9)",
    "x = []\nwhile True: x.append('a' * 1000)",
    "import os\nwhile True: os.fork()",
    "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1e9)",
    "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(1e9,)).start()",
    "while True: print('x')",
    "import os\nos.kill(os.getppid(), 9)\nos.killpg(0, 9)",
    "i = 0\nwhile True:\n    with open(f'f{i}', 'wb') as f: f.write(b'x' * 1000000)\n    i += 1",
    "import os\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')",
    "import ctypes; ctypes.string_at(0)",
    "import os\nfor fd in range(3, 64):\n    try: os.write(fd, os.urandom(100))\n    except OSError: pass\nos._exit(9)",
    "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except Exception: pass\nwhile True: pass",
];

/// An honest program; what it prints depends on `i` alone.
fn honest(i: usize) -> String {
    match i % 4 {
        0 => format!("print(sum(n * n for n in range({})))", i % 1000),
        1 => format!("import random\nprint({i}, random.random(), random.getrandbits(64), hash('a word'))"),
        2 => format!("with open('f', 'w') as f: f.write('{i}')\nimport os\nprint(open('f').read(), os.listdir('.'))"),
        _ => format!("print({i})\n1 / ({i} % 3)"),
    }
}

/// What this process and the sandbox's helpers hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Open descriptors of this process.
    pub n_descriptors: usize,
    /// Open descriptors of what descends from it.
    pub n_descriptors_below: usize,
    /// Processes that descend from it.
    pub n_processes: usize,
    /// Mounts that this process sees.
    pub n_mounts: usize,
    /// Mounts that the first process below it sees.
    pub n_mounts_below: usize,
    /// Resident memory of this process, MiB.
    pub memory_mb: f64,
    /// Resident memory of what descends from it, MiB.
    pub memory_below_mb: f64,
    /// Entries in the temporary directory.
    pub n_temporary: usize,
}

impl Figures {
    /// As of now.
    pub fn now() -> Figures {
        let entries = |path: String| std::fs::read_dir(path).map_or(0, Iterator::count);
        let mounts =
            |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).map_or(0, |t| t.lines().count());
        let memory = |pid: &str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let kib =
                status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
            kib.unwrap_or(0.0) / 1024.0
        };
        let below = below(std::process::id());
        Figures {
            n_descriptors: entries("/proc/self/fd".to_owned()),
            n_descriptors_below: below.iter().map(|pid| entries(format!("/proc/{pid}/fd"))).sum(),
            n_processes: below.len(),
            n_mounts: mounts("self"),
            n_mounts_below: below.first().map_or(0, |pid| mounts(&pid.to_string())),
            memory_mb: memory("self"),
            memory_below_mb: below.iter().map(|pid| memory(&pid.to_string())).fold(0.0, |sum, mb| sum + mb),
            n_temporary: entries(std::env::temp_dir().display().to_string()),
        }
    }

    /// After waiting for what is still ending: a killed process needs a moment, and the server closes its end of a call
    /// just after it has told of it.
    pub fn settled(before: &Figures) -> Figures {
        let began = Instant::now();
        loop {
            let now = Figures::now();
            let is_quiet =
                now.n_processes <= before.n_processes && now.n_descriptors_below <= before.n_descriptors_below;
            if is_quiet || began.elapsed().as_secs() >= 20 {
                return now;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Process ids of everything that descends from `root`, the oldest first.
fn below(root: u32) -> Vec<u32> {
    let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let (mut found, mut at) = (vec![root], 0);
    while at < found.len() {
        let children = parents.iter().filter(|(_, parent)| *parent == found[at]).map(|(pid, _)| *pid);
        found.extend(children.collect::<Vec<_>>());
        at += 1;
    }
    found.split_off(1)
}

/// What a run showed.
pub struct Soak {
    /// Outcome and text of every honest call, by its number; `None` for hostile ones.
    pub honest: Vec<Option<(ToolOutcome, String)>>,
    /// How hostile calls ended, and how many did.
    pub hostile: BTreeMap<String, usize>,
    /// By how much the slowest call overran its deadline, seconds; negative if none did.
    pub worst_overrun_secs: f64,
    /// Before, in the middle, after.
    pub figures: [Figures; 3],
    /// The whole run, seconds.
    pub wall_secs: f64,
}

/// Runs `n_calls` calls, `n_at_once` at a time, with a pause in the middle in which nothing runs.
pub fn soak(executor: &Executor, n_calls: usize, n_at_once: usize, with_hostile: bool) -> Soak {
    let began = Instant::now();
    let base = executor.limits();
    let patient = Limits { wall_secs: 120.0, cpu_secs: 60, ..base.clone() };
    let hasty =
        Limits { wall_secs: 1.0, cpu_secs: 5, scratch_mb: 16, memory_mb: 256, total_memory_mb: 384, ..base.clone() };
    let honest_calls = Mutex::new(vec![None; n_calls]);
    let hostile_calls = Mutex::new(BTreeMap::new());
    let worst = Mutex::new(f64::NEG_INFINITY);
    // What starts only with the first call is there before anything is counted.
    let _ = executor.run(&Program::new("", Seed(0), &patient));
    let mut figures = [Figures::now(); 3];
    let next = AtomicUsize::new(0);
    for (half, end) in [(1, n_calls / 2), (2, n_calls)] {
        next.store(if half == 1 { 0 } else { n_calls / 2 }, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for _ in 0..n_at_once {
                scope.spawn(|| {
                    loop {
                        let i = next.fetch_add(1, Ordering::SeqCst);
                        if i >= end {
                            break;
                        }
                        let is_hostile = with_hostile && i % ONE_IN == ONE_IN / 2;
                        let (code, limits) = match is_hostile {
                            true => (HOSTILE[i / ONE_IN % HOSTILE.len()].to_owned(), &hasty),
                            false => (honest(i), &patient),
                        };
                        let ran = executor.run(&Program::new(&code, Seed(i as u64), limits));
                        let overrun = ran.wall_secs - limits.wall_secs;
                        let mut worst = worst.lock().unwrap_or_else(|e| e.into_inner());
                        *worst = worst.max(overrun);
                        drop(worst);
                        if is_hostile {
                            let mut counts = hostile_calls.lock().unwrap_or_else(|e| e.into_inner());
                            *counts.entry(format!("{:?}", ran.outcome)).or_insert(0) += 1;
                        } else {
                            let answer = (ran.outcome, ran.text());
                            honest_calls.lock().unwrap_or_else(|e| e.into_inner())[i] = Some(answer);
                        }
                    }
                });
            }
        });
        figures[half] = Figures::settled(&figures[0]);
    }
    Soak {
        honest: honest_calls.into_inner().unwrap_or_else(|e| e.into_inner()),
        hostile: hostile_calls.into_inner().unwrap_or_else(|e| e.into_inner()),
        worst_overrun_secs: worst.into_inner().unwrap_or_else(|e| e.into_inner()),
        figures,
        wall_secs: began.elapsed().as_secs_f64(),
    }
}

/// Numbers of honest calls that both runs have and that answered differently.
pub fn differences(with: &Soak, without: &Soak) -> Vec<usize> {
    let pairs = with.honest.iter().zip(&without.honest).enumerate();
    pairs.filter(|(_, (a, b))| a.is_some() && a != b).map(|(i, _)| i).collect()
}
