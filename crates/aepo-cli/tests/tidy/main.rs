//! Does the source tree keep the house rules? `CONTRIBUTING.md` states them, `rules` checks them; here they meet the
//! tree, and each meets a text that breaks it.

mod rules;
mod source;

use std::path::Path;

use rules::*;
use source::Source;

/// Reads the text files below `dir`; build outputs, run directories and hidden folders are left out.
fn walk(root: &Path, dir: &Path, out: &mut Vec<Source>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "runs" {
                walk(root, &path, out);
            }
        } else if [".rs", ".toml", ".md", ".py"].iter().any(|end| name.ends_with(end)) {
            let inside = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{inside}: {e}"));
            out.push(Source::new(&inside, &text));
        }
    }
}

#[test]
fn the_tree_keeps_every_rule() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Vec::new();
    walk(&root, &root, &mut sources);
    assert!(sources.iter().any(|f| f.path == "crates/aepo/src/lib.rs"), "the walk did not reach the sources");
    let found = sources.iter().flat_map(|f| RULES.iter().flat_map(move |rule| rule(f)));
    let mut faults: Vec<String> = found.map(|fault| fault.to_string()).collect();
    faults.sort();
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// The lines on which `rule` finds fault with `text` at `path`.
#[track_caller]
fn check(rule: Rule, path: &str, text: &str, expected: &[usize]) {
    let lines: Vec<usize> = rule(&Source::new(path, text)).iter().map(|f| f.line).collect();
    assert_eq!(lines, expected, "{path}\n{text}");
}

#[test]
fn a_file_without_a_question_is_found() {
    check(says_its_question, "crates/aepo/src/a.rs", "// What?\n//! Late.", &[1]);
    check(says_its_question, "crates/aepo/src/a.rs", "//! What?", &[]);
}

#[test]
fn a_long_file_is_found() {
    check(is_short, "crates/aepo/src/a.rs", &"\n".repeat(601), &[601]);
    check(is_short, "crates/aepo/src/a.rs", &"\n".repeat(600), &[]);
}

#[test]
fn a_forward_import_is_found() {
    let rule = imports_look_backwards;
    check(rule, "crates/aepo/src/rollout/a.rs", "\nuse crate::train::loss;", &[2]);
    check(rule, "crates/aepo/src/data/a.rs", "use crate::{\n  seed::Seed,\n  score::{math, qa},\n};", &[3, 3]);
    check(rule, "crates/aepo/src/score/mod.rs", "fn f() { crate::config::Config::default(); }", &[1]);
    check(rule, "crates/aepo/src/policy.rs", "use crate::train::batch::TreeBatch;\nuse crate::train::loss;", &[2]);
    check(rule, "crates/aepo/src/data/mod.rs", "use super::train;", &[1]);
    check(rule, "crates/aepo/src/data/a.rs", "use super::super::train;", &[1]);
    check(rule, "crates/aepo/src/data/a.rs", "mod tests {\n    use super::super::{b, super::train};\n}", &[2]);
    check(rule, "crates/aepo/src/tool.rs", "mod tests {\n    use super::*;\n}\nuse super::policy::Policy;", &[4]);
    check(rule, "crates/aepo/src/novel.rs", "", &[1]);
    let good = "//! See crate::train.\nuse crate::prompt::render;\nuse crate::rollout::{self, tree};\nuse super::tree;";
    check(rule, "crates/aepo/src/rollout/a.rs", good, &[]);
    check(rule, "crates/aepo/src/run.rs", "use crate::train::loss;", &[]);
}

#[test]
fn an_outward_dependency_is_found() {
    let rule = crates_depend_inwards;
    let bad = "[package]\nname = \"aepo\"\n[dev-dependencies]\naepo-tools.workspace = true";
    check(rule, "crates/aepo/Cargo.toml", bad, &[4]);
    check(rule, "crates/aepo-tools/Cargo.toml", "[dependencies.aepo-engine]\npath = \"x\"", &[1]);
    check(rule, "crates/aepo-engine/Cargo.toml", "[dependencies]\naepo.workspace = true\naepo-cli = \"1\"", &[3]);
    let own = "[dependencies]\naepo-tools.workspace = true\n[dev-dependencies]\naepo-tools = { path = \".\" }";
    check(rule, "crates/aepo-tools/Cargo.toml", own, &[2]);
    check(rule, "crates/novel/Cargo.toml", "", &[1]);
    check(rule, "crates/aepo-cli/Cargo.toml", "[dependencies]\naepo-engine = { path = \"x\" }", &[]);
}

#[test]
fn io_in_the_pipeline_is_found() {
    let rule = pipeline_does_no_io;
    let bad = "use std::{io, fs};\nasync fn f() {}\nuse std::time::{Duration, Instant};\nuse std::net::*;\nprintln!();";
    check(rule, "crates/aepo/src/a.rs", bad, &[1, 2, 3, 4, 5]);
    check(rule, "crates/aepo/src/a.rs", "use std::time::{self, Duration};", &[1]);
    check(rule, "crates/aepo/src/a.rs", "use std::time::Duration; // not std::fs", &[]);
    check(rule, "crates/aepo-engine/src/a.rs", "use std::fs;", &[]);
}

#[test]
fn a_process_started_elsewhere_is_found() {
    let rule = only_tools_open_processes;
    check(rule, "crates/aepo-cli/src/a.rs", "use std::process::{Command, ExitCode};", &[1]);
    check(rule, "crates/aepo-engine/src/a.rs", "\nlet pid = unsafe { libc::fork() };", &[2]);
    check(rule, "crates/aepo-cli/src/a.rs", "use std::process::ExitCode;\nuse clap::Command;", &[]);
    check(rule, "crates/aepo-tools/src/a.rs", "use std::process::Command;", &[]);
}

#[test]
fn a_socket_opened_elsewhere_is_found() {
    let bad = "fn f() {\n    let s = std::net::TcpStream::connect(a);\n}";
    check(only_tools_open_sockets, "crates/aepo-cli/src/a.rs", bad, &[2]);
    check(only_tools_open_sockets, "crates/aepo-tools/src/a.rs", bad, &[]);
}

#[test]
fn printing_elsewhere_is_found() {
    let bad = "fn f() {\n    println!(\"x\");\n    writeln!(std::io::stderr(), \"x\");\n}";
    check(only_cli_prints, "crates/aepo-engine/src/a.rs", bad, &[2, 3]);
    check(only_cli_prints, "crates/aepo-cli/src/a.rs", bad, &[]);
    check(only_cli_prints, "crates/aepo-engine/examples/a.rs", bad, &[]);
}

#[test]
fn unfinished_work_and_ignored_tests_are_found() {
    let bad = "fn f() {\n    todo!()\n}\n#[ignore = \"slow\"]\nfn g() { dbg!(1); }";
    check(nothing_is_unfinished, "crates/aepo/src/a.rs", bad, &[2, 5]);
    check(no_test_is_ignored, "crates/aepo/src/a.rs", bad, &[4]);
    check(no_test_is_ignored, "crates/aepo/src/a.rs", "#[cfg_attr(unix, ignore)]", &[1]);
    check(nothing_is_unfinished, "crates/aepo/src/a.rs", "// todo!\nlet todo = a; if todo != b {}", &[]);
}

#[test]
fn unsafe_outside_its_files_is_found() {
    let rule = unsafe_is_where_it_is_listed;
    check(rule, "crates/aepo/src/a.rs", "\nfn f() { unsafe { g() } }", &[2]);
    check(rule, "crates/aepo/src/a.rs", "#![deny(unsafe_op_in_unsafe_fn)] // unsafe", &[]);
    for listed in UNSAFE_FILES {
        check(rule, listed, "unsafe fn f() {}", &[]);
        check(rule, listed, "fn f() {}", &[1]);
    }
}

#[test]
fn denied_text_is_found() {
    for denied in DENIED_TEXT {
        check(no_denied_text, "README.md", &format!("fine\nsee {denied}x"), &[2]);
    }
}
