//! What does this machine offer, does the recipe's sandbox work here, and how could it be better?

use std::fmt::Write as _;

use aepo_tools::ToolsError;
use aepo_tools::probe::sandbox::{self, Works};
use aepo_tools::probe::{self, Finding, Holds, kernel};
use serde_json::json;

use crate::args::Sets;
use crate::machine;
use crate::progress::print;
use crate::recipe;
use crate::world;

#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// `quickstart`, or the path of a recipe: whose sandbox is tried
    #[arg(default_value = "quickstart")]
    pub recipe: String,
    #[command(flatten)]
    pub sets: Sets,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints what was found; fails where the recipe's sandbox does not work.
pub fn doctor(args: &DoctorArgs) -> anyhow::Result<()> {
    let recipe = recipe::find(&args.recipe)?;
    let config = recipe::resolve(&recipe, &recipe::parse_sets(&args.sets)?)?;
    let settings = world::python_settings(&config);
    let kernel_parts = probe::kernel();
    let tried = sandbox::backends(&settings);
    // The recipe may ask for one of them by name, or for a level that they do not have.
    let own = sandbox::works(&settings);
    let best = own.as_ref().ok().or_else(|| tried.iter().find_map(|(_, tried)| tried.as_ref().ok()));
    let python = match (best, tried.iter().find_map(|(_, tried)| tried.as_ref().err())) {
        (Some(works), _) => sandbox::interpreter(works),
        (None, error) => vec![missing(error)],
    };
    let backends: Vec<Finding> = tried.iter().map(|(backend, tried)| sandbox::finding(*backend, tried)).collect();
    if args.json {
        let machine = json!({
            "system": system(), "uid": kernel::uid(), "cores": machine::n_cores(),
            "free_memory_bytes": machine::free_memory().map(|free| free.bytes),
        });
        let (works, error) = (own.as_ref().ok(), own.as_ref().err().map(ToString::to_string));
        let sandbox = json!({ "recipe": recipe.name, "works": works, "error": error });
        let all = json!({
            "machine": machine, "kernel": kernel_parts, "python": python, "backends": backends, "sandbox": sandbox,
        });
        print(&format!("{all}\n"))?;
    } else {
        let mut text = format!("{}; {}; user {}\n", machine::describe(), system(), kernel::uid());
        for (title, findings) in [("Kernel", &kernel_parts), ("Python", &python), ("Sandboxes", &backends)] {
            text += &format!("\n{title}\n");
            findings.iter().for_each(|finding| show(&mut text, finding));
        }
        if let Ok(works) = &own {
            let _ = write!(text, "\nThe sandbox of {} works here: {}.\n", recipe.label, words(works));
        }
        print(&text)?;
    }
    match own {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(anyhow::Error::new(error).context(format!("the sandbox of {} does not work here", recipe.label)))
        }
    }
}

fn words(works: &Works) -> String {
    format!("level {}, {:.1} ms a call", works.level, works.call_ms)
}

/// Why there is nothing to say of an interpreter.
fn missing(error: Option<&ToolsError>) -> Finding {
    let (says, cure) = match error {
        Some(error @ ToolsError::NoPython { .. }) => (error.to_string(), "apt-get install python3"),
        _ => ("no sandbox in which to try it".to_owned(), "see Kernel"),
    };
    Finding { name: "interpreter", holds: Holds::No, says, cure: Some(cure.to_owned()) }
}

fn system() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", release.trim())
}

/// Columns of the screen, and where what was found begins.
const WIDTH: usize = 100;
const INDENT: usize = 26;

fn show(text: &mut String, finding: &Finding) {
    let mark = match finding.holds {
        Holds::Yes => "yes",
        Holds::Partly => "partly",
        Holds::No => "no",
    };
    let mut lines = wrapped(&finding.says);
    lines.extend(finding.cure.iter().flat_map(|cure| wrapped(&format!("→ {cure}"))));
    for (i, line) in lines.iter().enumerate() {
        let _ = match i {
            0 => writeln!(text, "  {mark:<6}  {:<15} {line}", finding.name),
            _ => writeln!(text, "{:INDENT$}{line}", ""),
        };
    }
}

/// Lines of whole words that fit behind the indent, one at least.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            *line = word.to_owned();
        } else if line.chars().count() + 1 + word.chars().count() <= WIDTH - INDENT {
            *line = format!("{line} {word}");
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_lines_that_fit() {
        let mut text = String::new();
        let cure = Some("do this ".repeat(20));
        show(&mut text, &Finding { name: "namespaces", holds: Holds::Partly, says: "user".to_owned(), cure });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  partly  namespaces      user");
        assert!(lines[1].starts_with(&format!("{:INDENT$}→ do this", "")), "{text}");
        assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(wrapped(""), [""]);
    }
}
