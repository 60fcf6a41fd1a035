//! How does a command fail? Wrong use, an interruption, or anything else: exit codes 2, 130 and 1.

use std::fmt;
use std::process::ExitCode;

use aepo::config::ConfigError;

/// The command line asks for something that cannot be done as it is written. Exit code 2.
#[derive(Debug)]
pub struct Usage {
    /// What is wrong, naming the argument, file or key.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Stopped by Ctrl-C or a signal. Exit code 130.
#[derive(Debug)]
pub struct Interrupted {
    /// How to go on.
    pub hint: Option<String>,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Usage {}
impl std::error::Error for Interrupted {}

/// A [`Usage`] error with a hint.
pub fn usage(message: impl Into<String>, hint: &str) -> anyhow::Error {
    Usage { message: message.into(), hint: (!hint.is_empty()).then(|| hint.to_owned()) }.into()
}

/// Tells what went wrong on stderr and gives the exit code. A reader that has closed its end of a pipe (`| head`) has
/// what it wanted: that is no failure.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let broken_pipe = |e: &(dyn std::error::Error + 'static)| {
        e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        return ExitCode::SUCCESS;
    }
    if let Some(stop) = error.downcast_ref::<Interrupted>() {
        match &stop.hint {
            Some(hint) => eprintln!("interrupted: {hint}"),
            None => eprintln!("interrupted"),
        }
        return ExitCode::from(130);
    }
    eprintln!("error: {}", with_causes(error));
    let misuse = error.downcast_ref::<Usage>();
    if let Some(hint) = misuse.and_then(|u| u.hint.as_deref()) {
        eprintln!("hint: {hint}");
    }
    let wrong_use = misuse.is_some() || error.downcast_ref::<ConfigError>().is_some();
    ExitCode::from(if wrong_use { 2 } else { 1 })
}

/// The message and its causes, without a cause that the message before it has already told.
fn with_causes(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.ends_with(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}
