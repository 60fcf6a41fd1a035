//! From which commit is the program built? Git is asked; where it has no answer the rows say so.

use std::path::Path;
use std::process::Command;

fn main() {
    // `-dirty` where tracked files differ from the commit.
    let commit = git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    println!("cargo::rustc-env=AEPO_COMMIT={}", commit.unwrap_or_else(|| "unknown".to_owned()));
    // Asked again after a commit, and whenever sources change. A path that is missing would count as changed always.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    let sources = ["aepo", "aepo-engine", "aepo-bench"].map(|name| format!("../{name}/src"));
    for path in sources.into_iter().chain(log).chain(["../../Cargo.lock".to_owned()]) {
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// What git says in one line; `None` without git, and outside a repository.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
