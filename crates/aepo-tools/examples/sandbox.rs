//! How fast is the sandbox here? Trivial and symbolic programs, sessions and their branches, and how late a deadline is,
//! beside a plain interpreter per program, all in one run.
//!
//! `cargo run --release -p aepo-tools --example sandbox [-- INTERPRETER]`; sympy is measured where the interpreter has it.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;
use aepo_tools::python::{Backend, Cell, Executor, Limits, Program, PythonSettings};

const TRIVIAL: &str = "print(sum(range(10)))";
const SYMPY: &str = "import sympy\nx = sympy.Symbol('x')\nprint(sympy.factor(x**2 - 1))";

fn main() -> ExitCode {
    let interpreter = std::env::args().nth(1).map(PathBuf::from);
    match measure(interpreter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn measure(interpreter: Option<PathBuf>) -> Result<(), String> {
    let settings = |backend, sessions| PythonSettings {
        interpreter: interpreter.clone(),
        backend,
        sessions,
        limits: Limits { wall_secs: 60.0, cpu_secs: 60, ..Limits::default() },
        ..PythonSettings::default()
    };
    let start = |backend, sessions| Executor::start(&settings(backend, sessions), 2, None).map_err(|e| e.to_string());
    let forked = start(Backend::Namespaces, false)?;
    let caged = start(Backend::Landlock, false)?;
    let exe = &forked.interpreter().exe;
    println!("interpreter {}", exe.display());

    // In turns, so that whatever else the machine does meets all alike.
    let (mut plain_ms, mut forked_ms, mut caged_ms) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..200 {
        plain_ms.push(timed(|| plain(exe, TRIVIAL))?);
        forked_ms.push(timed(|| run(&forked, TRIVIAL))?);
        caged_ms.push(timed(|| run(&caged, TRIVIAL))?);
    }
    show("trivial, python3 -c", &mut plain_ms);
    show("trivial, namespaces", &mut forked_ms);
    show("trivial, landlock", &mut caged_ms);
    for (name, act) in [
        ("python3 -c", &(|| plain(exe, TRIVIAL)) as &(dyn Fn() -> Result<(), String> + Sync)),
        ("namespaces", &|| run(&forked, TRIVIAL)),
        ("landlock", &|| run(&caged, TRIVIAL)),
    ] {
        println!("{name:<24} {:>6.0} calls/s, 2 callers", throughput(act)?);
    }

    if plain(exe, "import sympy").is_ok() || run(&forked, "import sympy").is_ok() {
        run(&forked, SYMPY)?;
        let mut ms = (0..50).map(|_| timed(|| run(&forked, SYMPY))).collect::<Result<Vec<_>, _>>()?;
        show("sympy, namespaces", &mut ms);
        let mut ms = (0..10).map(|_| timed(|| run(&caged, SYMPY))).collect::<Result<Vec<_>, _>>()?;
        show("sympy, landlock", &mut ms);
    } else {
        println!("sympy: not installed");
    }

    let live = start(Backend::Namespaces, true)?;
    for megabytes in [0, 100, 300] {
        let first = Cell { code: format!("x = b'x' * ({megabytes} << 20); n = 0"), seed: Seed(1) };
        ask(&live, &[], &first.code, Seed(1), false)?;
        let earlier = [first];
        let mut ms = (0..50)
            .map(|i| timed(|| ask(&live, &earlier, &format!("n += {i}; len(x)"), Seed(2), true)))
            .collect::<Result<Vec<_>, _>>()?;
        show(&format!("branch, {megabytes} MiB of state"), &mut ms);
    }
    let mut earlier = Vec::new();
    let mut ms = Vec::new();
    for i in 0..100 {
        let cell = Cell { code: format!("x = {i}"), seed: Seed(i) };
        ms.push(timed(|| ask(&live, &earlier, &cell.code, cell.seed, false))?);
        earlier.push(cell);
    }
    show("next cell of a session", &mut ms);

    let hasty = Limits { wall_secs: 0.5, ..forked.limits().clone() };
    let mut late = Vec::new();
    for code in [
        "while True: pass",
        "import time; time.sleep(1e9)",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    ] {
        for _ in 0..5 {
            let ran = forked.run(&Program::new(code, Seed(1), &hasty));
            if ran.outcome != ToolOutcome::Timeout {
                return Err(format!("{code}: {ran:?}"));
            }
            late.push(1e3 * (ran.wall_secs - hasty.wall_secs));
        }
    }
    show("after a deadline", &mut late);
    Ok(())
}

fn plain(exe: &std::path::Path, code: &str) -> Result<(), String> {
    let ended = Command::new(exe).args(["-c", code]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match ended.map_err(|e| e.to_string())? {
        status if status.success() => Ok(()),
        status => Err(format!("python3 -c: {status}")),
    }
}

fn run(executor: &Executor, code: &str) -> Result<(), String> {
    ask(executor, &[], code, Seed(1), false)
}

fn ask(executor: &Executor, earlier: &[Cell], code: &str, seed: Seed, shared: bool) -> Result<(), String> {
    let ran = executor.run(&Program { earlier, shared, ..Program::new(code, seed, executor.limits()) });
    if ran.outcome == ToolOutcome::Ok { Ok(()) } else { Err(format!("{code}: {ran:?}")) }
}

/// Milliseconds.
fn timed(act: impl Fn() -> Result<(), String>) -> Result<f64, String> {
    let began = Instant::now();
    act()?;
    Ok(1e3 * began.elapsed().as_secs_f64())
}

/// Calls a second of two threads.
fn throughput(act: &(dyn Fn() -> Result<(), String> + Sync)) -> Result<f64, String> {
    const N_CALLS: usize = 300;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..2).map(|_| scope.spawn(|| (0..N_CALLS).try_for_each(|_| act()))).collect();
        callers.into_iter().try_for_each(|caller| caller.join().map_err(|_| "a caller panicked".to_owned())?)
    })?;
    Ok(2.0 * N_CALLS as f64 / began.elapsed().as_secs_f64())
}

fn show(name: &str, ms: &mut [f64]) {
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| ms[((ms.len() - 1) as f64 * share) as usize];
    println!("{name:<24} p50 {:>7.2} ms  p90 {:>7.2}  p99 {:>7.2}", at(0.5), at(0.9), at(0.99));
}
