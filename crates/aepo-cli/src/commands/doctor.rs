//! What does this machine offer, does the recipe's sandbox work here, and how could it be better?

use std::fmt::Write as _;

use aepo::config::Config;
use aepo::config::tools::Sandbox;
use aepo_remote::tinker::TinkerSettings;
use aepo_remote::tinker::api::Api;
use aepo_remote::tinker::probe::{LOSS, Reduction, probe};
use aepo_tools::probe as machine_probe;
use aepo_tools::probe::sandbox::{self, Works};
use aepo_tools::probe::{Finding, Holds, kernel};
use aepo_tools::{PythonSettings, ToolsError};
use anyhow::Context as _;
use serde_json::json;

use crate::args::Sets;
use crate::machine;
use crate::progress::print;
use crate::recipe;
use crate::toolbox;

#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// `quickstart`, or the path of a recipe: whose sandbox is tried
    #[arg(default_value = "quickstart")]
    pub recipe: String,
    /// Address of a server that trains (the Tinker protocol): what it can do is found out and printed instead
    #[arg(long, value_name = "URL", conflicts_with = "sets")]
    pub engine: Option<String>,
    /// With --engine: the name under which the server knows the model; its only one unless given
    #[arg(long, value_name = "NAME", requires = "engine")]
    pub base_model: Option<String>,
    /// With --engine: the variable of the environment that holds the server's key
    #[arg(long, value_name = "VARIABLE", requires = "engine")]
    pub key_env: Option<String>,
    #[command(flatten)]
    pub sets: Sets,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints what was found; fails where the recipe's sandbox does not work.
pub fn doctor(args: &DoctorArgs) -> anyhow::Result<()> {
    if let Some(url) = &args.engine {
        return server(url, args);
    }
    let recipe = recipe::find(&args.recipe)?;
    let config = recipe::resolve(&recipe, &recipe::parse_sets(&args.sets)?)?;
    let settings = toolbox::python(&config);
    let kernel_parts = machine_probe::kernel();
    let tried = sandbox::backends(&settings);
    // The recipe may ask for one of them by name, or for a level that they do not have.
    let own = own(&config, &settings);
    let best = own
        .as_ref()
        .ok()
        .and_then(|own| own.works.as_ref())
        .or_else(|| tried.iter().find_map(|(_, tried)| tried.as_ref().ok()));
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
        let error = own.as_ref().err().map(|error| format!("{error:#}"));
        let sandbox = json!({
            "recipe": recipe.name, "is": own.as_ref().ok().map(|own| &own.is),
            "call_ms": own.as_ref().ok().map(|own| own.call_ms), "error": error,
        });
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
        if let Ok(own) = &own {
            let _ =
                write!(text, "\nThe sandbox of {} works: {}, {:.1} ms a call.\n", recipe.label, own.is, own.call_ms);
        }
        print(&text)?;
    }
    own.map(|_| ()).with_context(|| format!("the sandbox of {} does not work here", recipe.label))
}

/// Rank of the model that is made to find out; the least that every server has.
const PROBE_RANK: usize = 1;

/// Prints what a server can do. It makes a model there, learns nothing with it, and unloads it.
fn server(url: &str, args: &DoctorArgs) -> anyhow::Result<()> {
    let (key_env, model) = (args.key_env.clone(), args.base_model.clone());
    let settings = TinkerSettings { key_env, model, ..TinkerSettings::of(url, PROBE_RANK) };
    let can = probe(&Api::new(&settings)?, &settings)?;
    if args.json {
        return print(&format!("{}\n", json!({ "server": can })));
    }
    let line = |name: &'static str, holds: Holds, says: String| Finding { name, holds, says, cure: None };
    let either = |yes: bool| if yes { Holds::Yes } else { Holds::No };
    let context = can.context_len.map_or("a context it does not tell".to_owned(), |n| format!("{n} tokens of context"));
    let findings = [
        line("model", Holds::Yes, format!("{}, {context}", can.model)),
        line("batches", Holds::Yes, format!("as {}", can.dialect)),
        line("losses", either(can.losses.contains(&LOSS)), can.losses.join(", ")),
        line(
            "adding up",
            Holds::Yes,
            match can.reduction {
                Reduction::Sum => "coefficients are added up".to_owned(),
                Reduction::MeanOfMeans => {
                    "sequences are averaged, then a step's sequences; that is undone here".to_owned()
                }
            },
        ),
        line(
            "repeats",
            either(can.numbered),
            match can.numbered {
                true => "a request whose answer was lost is sent again and counts once".to_owned(),
                false => "a lost answer ends a run, which goes on from its last checkpoint".to_owned(),
            },
        ),
        line(
            "clipping",
            either(can.clips),
            match can.clips {
                true => "gradients are clipped to train.max_grad_norm".to_owned(),
                false => "gradients are not clipped: set train.max_grad_norm to 1e6".to_owned(),
            },
        ),
        line("all weights", Holds::No, "LoRA's matrices only (set lora.rank)".to_owned()),
        line("entropies", Holds::No, "none come back (leave loss.entropy_coef at 0)".to_owned()),
    ];
    let mut text = format!("{} speaks the Tinker protocol\n\n", can.host);
    findings.iter().for_each(|finding| show(&mut text, finding));
    print(&text)
}

/// What runs a recipe's programs.
struct Own {
    is: String,
    call_ms: f64,
    /// None where it is a server elsewhere.
    works: Option<Works>,
}

fn own(config: &Config, settings: &PythonSettings) -> anyhow::Result<Own> {
    if let (Sandbox::SandboxFusion, Some(endpoint)) = (config.python.backend, &config.python.endpoint) {
        let call_ms = sandbox::server(endpoint, &settings.limits).map_err(anyhow::Error::msg)?;
        return Ok(Own { is: format!("the server at {endpoint}"), call_ms, works: None });
    }
    let works = sandbox::works(settings)?;
    Ok(Own { is: format!("level {}", works.level), call_ms: works.call_ms, works: Some(works) })
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
