//! Which sandboxes work here, for which Python, and how long does a call take?

use std::path::PathBuf;
use std::time::Instant;

use aepo::seed::Seed;
use aepo::tool::ToolOutcome;

use crate::error::ToolsError;
use crate::fusion::Fusion;
use crate::probe::{Finding, Holds, closed_to_others, kernel};
use crate::python::{Backend, Executor, Level, Limits, Program, PythonSettings};

/// Calls that are timed; the first, which may start helpers, is not among them.
const N_TIMED: usize = 15;

/// A sandbox that works.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Works {
    /// How well it holds programs.
    pub level: &'static str,
    /// Median of a trivial call, milliseconds.
    pub call_ms: f64,
    /// The interpreter's binary.
    pub interpreter: PathBuf,
    /// Its version.
    pub version: String,
    /// Packages that models expect, with their versions; none for one that cannot be imported there.
    pub packages: Vec<(&'static str, Option<String>)>,
}

/// Starts the sandbox of `settings` and makes some calls.
pub fn works(settings: &PythonSettings) -> Result<Works, ToolsError> {
    let executor = Executor::start(settings, 1, None)?;
    let limits = Limits {
        wall_secs: 60.0,
        cpu_secs: 60,
        memory_mb: settings.limits.memory_mb.max(1024),
        ..settings.limits.clone()
    };
    let say = |code: &str| -> Option<String> {
        let ran = executor.run(&Program::new(code, Seed(0), &limits));
        (ran.outcome == ToolOutcome::Ok).then(|| ran.stdout.trim().to_owned())
    };
    let call = |_| -> Result<f64, ToolsError> {
        let began = Instant::now();
        let ran = executor.run(&Program::new("print(sum(range(10)))", Seed(0), &settings.limits));
        if ran.stdout != "45\n" {
            let (interpreter, reason) =
                (executor.interpreter().exe.clone(), format!("{:?}: {}", ran.outcome, ran.text()));
            return Err(ToolsError::SelfTest { interpreter, reason });
        }
        Ok(began.elapsed().as_secs_f64() * 1e3)
    };
    let mut times = (0..=N_TIMED).map(call).collect::<Result<Vec<f64>, _>>()?;
    times.remove(0);
    times.sort_by(f64::total_cmp);
    let package = |name| (name, say(&format!("import {name}\nprint({name}.__version__)")));
    Ok(Works {
        level: executor.level().name(),
        call_ms: times[times.len() / 2],
        interpreter: executor.interpreter().exe.clone(),
        version: say("import sys\nprint('.'.join(map(str, sys.version_info[:3])))").unwrap_or_default(),
        packages: ["numpy", "sympy"].map(package).into(),
    })
}

/// Each backend that holds programs, tried with these settings.
pub fn backends(settings: &PythonSettings) -> Vec<(Backend, Result<Works, ToolsError>)> {
    let tried = |backend| {
        let settings = PythonSettings { backend, min_level: Level::UnsafeLocal, ..settings.clone() };
        (backend, works(&settings))
    };
    [Backend::Namespaces, Backend::Landlock].map(tried).into()
}

/// Makes some calls of a SandboxFusion server: the median, milliseconds, or why there is none.
pub fn server(endpoint: &str, limits: &Limits) -> Result<f64, String> {
    let fusion = Fusion::new(endpoint, limits.max_output_bytes).map_err(|e| e.to_string())?;
    let call = |_| -> Result<f64, String> {
        let began = Instant::now();
        let ran = fusion.run(&Program::new("print(sum(range(10)))", Seed(0), limits));
        match (ran.outcome, ran.stdout.as_str()) {
            (ToolOutcome::Ok, "45\n") => Ok(began.elapsed().as_secs_f64() * 1e3),
            (ToolOutcome::Unavailable, _) => Err(ran.message),
            _ => Err(format!("{endpoint} gave {:?}: {}", ran.outcome, ran.text())),
        }
    };
    let mut times = (0..=N_TIMED).map(call).collect::<Result<Vec<f64>, _>>()?;
    times.remove(0);
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// What there is to say of a backend.
#[must_use]
pub fn finding(backend: Backend, tried: &Result<Works, ToolsError>) -> Finding {
    match tried {
        Ok(works) => Finding {
            name: backend.name(),
            holds: Holds::Yes,
            says: format!("works, {:.1} ms a call", works.call_ms),
            cure: None,
        },
        Err(error) => {
            let cure = match error {
                ToolsError::NoPython { .. } => "see Python",
                _ => "see Kernel for what is missing",
            };
            Finding { name: backend.name(), holds: Holds::No, says: error.to_string(), cure: Some(cure.to_owned()) }
        }
    }
}

/// What there is to say of the interpreter in a sandbox that works.
#[must_use]
pub fn interpreter(works: &Works) -> Vec<Finding> {
    let mut findings = vec![Finding {
        name: "interpreter",
        holds: Holds::Yes,
        says: format!("{} ({})", works.interpreter.display(), works.version),
        cure: None,
    }];
    // The sandbox itself runs it, which is proved; another user, or the sandbox under one, may not be able to.
    match closed_to_others(&works.interpreter) {
        Ok(None) => findings.push(Finding {
            name: "for others",
            holds: Holds::Yes,
            says: "every user can run it".to_owned(),
            cure: None,
        }),
        Ok(Some(part)) => findings.push(Finding {
            name: "for others",
            holds: Holds::Partly,
            says: match kernel::uid() {
                0 => format!("{} is closed to other users: it runs only because aepo runs as root", part.display()),
                _ => format!("{} is closed to other users", part.display()),
            },
            cure: Some(
                "install one for all (apt-get install python3), or name it: tools.python.interpreter".to_owned(),
            ),
        }),
        Err(error) => findings.push(Finding {
            name: "for others",
            holds: Holds::No,
            says: format!("{}: {error}", works.interpreter.display()),
            cure: Some("name one that can be read: tools.python.interpreter".to_owned()),
        }),
    }
    for (name, version) in &works.packages {
        findings.push(match version {
            Some(version) => Finding { name, holds: Holds::Yes, says: version.clone(), cure: None },
            None => Finding {
                name,
                holds: Holds::No,
                says: "not importable in the sandbox".to_owned(),
                cure: Some(format!(
                    "python3 -m venv DIR && DIR/bin/pip install numpy sympy, then tools.python.interpreter = \
                     \"DIR/bin/python\" (models expect {name})"
                )),
            },
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_is_not_there_says_why() {
        let settings = PythonSettings { interpreter: Some("/nonexistent/python3".into()), ..PythonSettings::default() };
        for (backend, tried) in backends(&settings) {
            let finding = finding(backend, &tried);
            assert_eq!((finding.holds, finding.cure.as_deref()), (Holds::No, Some("see Python")), "{finding:?}");
            assert!(finding.says.contains("/nonexistent/python3"), "{finding:?}");
        }
    }

    #[test]
    fn what_works_has_a_version_and_a_time() {
        let works = works(&PythonSettings::default()).unwrap();
        assert!(works.call_ms > 0.0 && works.version.starts_with("3."), "{works:?}");
        let findings = interpreter(&works);
        assert_eq!(findings.len(), 4);
        assert!(findings.iter().all(|f| f.cure.is_none() == (f.holds == Holds::Yes)), "{findings:?}");
    }
}
