//! How fast is the sandbox here? Trivial and symbolic programs, beside a plain interpreter per program, in one run.
use std::process::ExitCode;

use aepo::seed::Seed;
use aepo_tools::python::{Backend, Executor, Program, PythonSettings};

fn main() -> ExitCode {
    let settings = PythonSettings { backend: Backend::Namespaces, ..PythonSettings::default() };
    let executor = match Executor::start(&settings, 2, None) {
        Ok(executor) => executor,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    let code = std::env::args().nth(1).unwrap_or_default();
    let ran = executor.run(&Program::new(&code, Seed(1), executor.limits()));
    let ask = |code: &str, n: usize| {
        let mut secs: Vec<f64> =
            (0..n).map(|i| executor.run(&Program::new(code, Seed(i as u64), executor.limits())).wall_secs).collect();
        secs.sort_by(f64::total_cmp);
        println!("{code}: p50 {:.2} ms, p90 {:.2} ms", 1e3 * secs[n / 2], 1e3 * secs[n * 9 / 10]);
    };
    ask("print(sum(range(10)))", 200);
    ask("import sympy; x = sympy.Symbol('x'); sympy.factor(x**2 - 1)", 50);
    println!("{ran:?}\n{}", ran.text());
    ExitCode::SUCCESS
}
