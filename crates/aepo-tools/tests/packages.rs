//! Do numpy and sympy work in every sandbox, with random numbers that follow from the seed? They are no part of this
//! project: `AEPO_PYTHON` names an interpreter that has them.

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;
use aepo_tools::python::{Backend, Limits, Program};
use aepo_tools::{Executor, PythonSettings, ToolsError};

fn executors() -> Vec<Executor> {
    let Some(interpreter) = std::env::var_os("AEPO_PYTHON") else {
        eprintln!("skipped: AEPO_PYTHON names no interpreter with numpy and sympy");
        return Vec::new();
    };
    let start = |backend: Backend| {
        let settings =
            PythonSettings { backend, interpreter: Some((&interpreter).into()), ..PythonSettings::default() };
        match Executor::start(&settings, 2, None) {
            Ok(executor) => Some(executor),
            Err(error @ ToolsError::NoPython { .. }) => panic!("{error}"),
            Err(error) => {
                eprintln!("skipped: {}: {error}", backend.name());
                None
            }
        }
    };
    [Backend::Namespaces, Backend::Landlock].into_iter().filter_map(start).collect()
}

#[test]
fn numbers_and_symbols_are_right() {
    let limits = Limits { wall_secs: 60.0, cpu_secs: 60, memory_mb: 2048, total_memory_mb: 2048, ..Limits::default() };
    for executor in executors() {
        let said = |code: &str, seed| {
            let ran = executor.run(&Program::new(code, Seed(seed), &limits));
            assert_eq!(ran.outcome, ToolOutcome::Ok, "{}: {code}: {}", executor.level().name(), ran.text());
            ran.text()
        };
        assert_eq!(said("import sympy\nx = sympy.symbols('x')\nsympy.factor(x**2 - 1)", 1), "(x - 1)*(x + 1)");
        assert_eq!(said("import sympy\nsympy.integrate(sympy.sin(sympy.Symbol('x')))", 1), "-cos(x)");
        assert_eq!(said("import numpy as np\nprint((np.eye(200) @ np.ones(200)).sum())", 1), "200.0");
        // F7: a forked numpy would draw the same numbers in every call.
        let draw = "import numpy as np, random\nprint(np.random.rand(), np.random.randint(10**9), random.random())";
        assert_eq!(said(draw, 1), said(draw, 1));
        assert_ne!(said(draw, 1), said(draw, 2));
    }
}
