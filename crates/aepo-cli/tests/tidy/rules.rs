//! What are the house rules? Each is one function over one file, from the tables below.

use crate::source::{Fault, Mention, Source, mentions};

/// No source file is longer.
pub const MAX_LINES: usize = 600;

/// What each module of `crates/aepo/src` may import from its crate, in the order of the data's path; `batch` is
/// `train::batch`, in which `policy` speaks. A score knows what a transcript is and a rollout fills one in, so `score`
/// comes before `rollout` here.
pub const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("seed", &[]),
    ("tool", &["seed"]),
    ("batch", &[]),
    ("stop", &[]),
    ("policy", &["seed", "stop", "batch"]),
    ("data", &["seed"]),
    ("prompt", &["data", "tool", "seed", "stop"]),
    ("score", &["data", "prompt", "tool"]),
    ("rollout", &["data", "prompt", "score", "policy", "batch", "stop", "tool", "seed"]),
    ("train", &["rollout", "score", "policy", "seed", "batch"]),
];

/// Modules of `crates/aepo/src` that see the path whole; nothing in [`MAY_IMPORT`] may import them.
pub const SEE_ALL: &[&str] = &["lib", "algo", "apply", "config", "record", "run", "eval", "sft", FOR_TESTS];

/// What only tests are compiled with: they may import it from everywhere.
pub const FOR_TESTS: &str = "testing";

/// Which workspace crates a crate may depend on.
pub const MAY_DEPEND: &[(&str, &[&str])] = &[
    ("aepo", &[]),
    ("aepo-engine", &["aepo"]),
    ("aepo-tools", &["aepo"]),
    ("aepo-remote", &["aepo", "aepo-engine", "aepo-tools"]),
    ("aepo-report", &["aepo"]),
    ("aepo-cli", &["aepo", "aepo-engine", "aepo-remote", "aepo-tools", "aepo-report"]),
    ("aepo-bench", &["aepo", "aepo-engine", "aepo-remote", "aepo-report", "aepo-tools"]),
];

/// Paths (and what lies below them) that the pipeline and report crates may not name: they do no IO and read no clock.
pub const NOT_IN_PIPELINE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::*",
    "async",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
];

/// Files outside `aepo-tools` that start processes. A comparison runs each training in a process of its own, so that
/// one that fails takes no other with it, memory and processor time are each one's own, and what is compared is what
/// `aepo train` does. Builds ask git for the commit.
pub const STARTS_PROCESS: &[&str] =
    &["crates/aepo-cli/src/commands/compare/children.rs", "crates/aepo-cli/build.rs", "crates/aepo-bench/build.rs"];

/// Starting processes: `aepo-tools`, [`STARTS_PROCESS`], and tests that run the binary.
pub const OPENS_PROCESS: &[&str] = &[
    "std::process::Command",
    "process::Command",
    "libc::fork",
    "libc::vfork",
    "libc::clone",
    "libc::execv",
    "libc::execve",
    "libc::execvp",
    "libc::posix_spawn",
    "libc::system",
];

/// Opening sockets: `aepo-tools` and `aepo-remote` alone.
pub const OPENS_SOCKET: &[&str] = &[
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::net::*",
    "std::os::unix::net",
    "libc::socket",
    "ureq",
];

/// Printing: `aepo-cli` and `aepo-bench` alone, and examples, which are programs of their own.
pub const PRINTS: &[&str] =
    &["println!", "eprintln!", "print!", "eprint!", "std::io::stdout", "std::io::stderr", "io::stdout", "io::stderr"];

/// Unfinished work.
pub const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

/// Files that may hold `unsafe`, and do.
pub const UNSAFE_FILES: &[&str] = &[
    "crates/aepo-bench/src/peaks.rs",
    "crates/aepo-engine/src/attend/alone/avx512.rs",
    "crates/aepo-engine/src/checkpoint/map.rs",
    "crates/aepo-engine/src/gemm/kernel.rs",
    "crates/aepo-engine/src/gemm/mod.rs",
    "crates/aepo-engine/src/gemm/pack.rs",
    "crates/aepo-engine/src/gemm/tests.rs",
    "crates/aepo-engine/src/huge.rs",
    "crates/aepo-engine/src/kernels/lanes/avx512.rs",
    "crates/aepo-engine/src/team.rs",
    "crates/aepo-engine/tests/allocations.rs",
    "crates/aepo-tools/src/probe/kernel.rs",
    "crates/aepo-tools/src/python/message.rs",
    "crates/aepo-tools/src/mcp/process.rs",
    "crates/aepo-tools/src/python/sandbox.rs",
];

/// Text that belongs to one machine or one moment. Split, so that this file does not contain it.
pub const DENIED_TEXT: &[&str] = &[concat!("/ho", "me/"), concat!("/Use", "rs/"), concat!("FIX", "ME")];

pub fn says_its_question(f: &Source) -> Vec<Fault> {
    if !f.path.ends_with(".rs") || f.text.starts_with("//!") {
        return vec![];
    }
    vec![f.fault(1, "the first line is not `//!`: say which question the file answers".to_string())]
}

pub fn is_short(f: &Source) -> Vec<Fault> {
    let n_lines = f.text.lines().count();
    if !f.path.ends_with(".rs") || n_lines <= MAX_LINES {
        return vec![];
    }
    vec![f.fault(MAX_LINES + 1, format!("{n_lines} lines: divide it, {MAX_LINES} is the limit"))]
}

/// The unit of [`MAY_IMPORT`] or [`SEE_ALL`] to which a path below `crate::` belongs.
pub fn unit(path: &str) -> &str {
    let mut parts = path.split("::");
    match (parts.next(), parts.next()) {
        (Some("train"), Some("batch")) => "batch",
        (first, _) => first.unwrap_or(""),
    }
}

pub fn imports_look_backwards(f: &Source) -> Vec<Fault> {
    let Some(inside) = f.path.strip_prefix("crates/aepo/src/").filter(|p| p.ends_with(".rs")) else { return vec![] };
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    let module: Vec<&str> = inside.split('/').collect();
    let from = unit(&module.join("::")).to_string();
    if SEE_ALL.contains(&from.as_str()) {
        return vec![];
    }
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(unit, _)| *unit == from) else {
        return vec![f.fault(1, format!("the module `{from}` is in no table of {}", file!()))];
    };
    let mut faults = Vec::new();
    for m in &f.mentions {
        let Some(path) = below_root(&module, m) else { continue };
        let to = unit(&path);
        if to != from && to != FOR_TESTS && !allowed.contains(&to) {
            faults.push(f.fault(m.line, format!("`{from}` may not import `{}`", m.path)));
        }
    }
    faults
}

/// A path of this crate, written from the crate's root; `None` for what is found from the file itself or elsewhere.
fn below_root(module: &[&str], m: &Mention) -> Option<String> {
    if let Some(path) = m.path.strip_prefix("crate::") {
        return Some(path.to_string());
    }
    let n_up = m.path.split("::").take_while(|part| *part == "super").count();
    let n_left = (module.len() + m.n_inline_mods).checked_sub(n_up)?;
    // Still inside this file, or `super` alone (as in `pub(super)`), which names nothing of another module.
    if n_up == 0 || n_left >= module.len() || m.path.ends_with("super") {
        return None;
    }
    let rest = m.path.split("::").skip(n_up);
    Some(module[..n_left].iter().copied().chain(rest).collect::<Vec<_>>().join("::"))
}

pub fn crates_depend_inwards(f: &Source) -> Vec<Fault> {
    let Some(name) = f.krate().filter(|name| f.path == format!("crates/{name}/Cargo.toml")) else { return vec![] };
    let Some((_, allowed)) = MAY_DEPEND.iter().find(|(krate, _)| *krate == name) else {
        return vec![f.fault(1, format!("the crate `{name}` is not in the table of {}", file!()))];
    };
    let mut section = "";
    let mut faults = Vec::new();
    for (i, line) in f.text.lines().enumerate() {
        let mut key = line.split(['.', '=', ' ']).next().unwrap_or("");
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end().trim_end_matches(']');
            // `[dependencies.name]` is a dependency too.
            key = section.rsplit_once("dependencies.").map_or("", |(_, name)| name);
        }
        let is_ours = key == "aepo" || key.starts_with("aepo-");
        // A crate that depends on itself turns its own features on for its tests.
        let may = allowed.contains(&key) || (key == name && section == "dev-dependencies");
        if section.contains("dependencies") && is_ours && !may {
            faults.push(f.fault(i + 1, format!("`{name}` may not depend on `{key}`")));
        }
    }
    faults
}

pub fn pipeline_does_no_io(f: &Source) -> Vec<Fault> {
    // The tests beside the sources read golden files.
    if !["crates/aepo/src/", "crates/aepo-report/src/"].iter().any(|pure| f.path.starts_with(pure)) {
        return vec![];
    }
    let mut faults = f.forbid(NOT_IN_PIPELINE, "the pipeline and reports do no IO and read no clock");
    let whole_module = f.mentions.iter().filter(|m| m.path == "std::time");
    faults.extend(whole_module.map(|m| f.fault(m.line, "`std::time`: import `Duration` alone".to_string())));
    faults
}

pub fn only_tools_open_processes(f: &Source) -> Vec<Fault> {
    if f.krate() == Some("aepo-tools") || f.path.starts_with("crates/aepo-cli/tests/") {
        return vec![];
    }
    let found = f.forbid(OPENS_PROCESS, "only aepo-tools and `compare` start processes");
    match (STARTS_PROCESS.contains(&f.path.as_str()), found.is_empty()) {
        (true, true) => vec![f.fault(1, format!("starts no process any more: take it off the list of {}", file!()))],
        (true, false) => vec![],
        (false, _) => found,
    }
}

pub fn only_tools_open_sockets(f: &Source) -> Vec<Fault> {
    if matches!(f.krate(), Some("aepo-tools" | "aepo-remote")) {
        return vec![];
    }
    f.forbid(OPENS_SOCKET, "only aepo-tools and aepo-remote open sockets")
}

/// Tests against something that is not part of this project say so when it is not there.
pub const SAYS_SKIPPED: &[&str] = &[
    "crates/aepo/tests/grading/benchmarks.rs",
    "crates/aepo-engine/tests/smollm2.rs",
    "crates/aepo-tools/tests/hostile/suite.rs",
    "crates/aepo-tools/tests/hostile/harness.rs",
    "crates/aepo-tools/tests/packages.rs",
    "crates/aepo-tools/tests/mcp/real.rs",
    "crates/aepo-tools/tests/rows/shared.rs",
    "crates/aepo-remote/tests/tinker/real.rs",
];

pub fn only_cli_prints(f: &Source) -> Vec<Fault> {
    let may = f.path.contains("/examples/") || SAYS_SKIPPED.contains(&f.path.as_str());
    if matches!(f.krate(), Some("aepo-cli" | "aepo-bench")) || may {
        return vec![];
    }
    f.forbid(PRINTS, "only aepo-cli and aepo-bench print")
}

pub fn nothing_is_unfinished(f: &Source) -> Vec<Fault> {
    f.forbid(UNFINISHED, "finish it")
}

pub fn no_test_is_ignored(f: &Source) -> Vec<Fault> {
    let in_attribute = |line: &str| line.contains("#[") && mentions(line).iter().any(|m| m.path == "ignore");
    let lines = f.code.lines().enumerate().filter(|(_, line)| in_attribute(line));
    lines.map(|(i, _)| f.fault(i + 1, "an ignored test proves nothing: run it or remove it".to_string())).collect()
}

pub fn unsafe_is_where_it_is_listed(f: &Source) -> Vec<Fault> {
    let found = f.forbid(&["unsafe"], "this file is not on the list of those that may hold it");
    match (UNSAFE_FILES.contains(&f.path.as_str()), found.is_empty()) {
        (true, true) => vec![f.fault(1, format!("holds no `unsafe` any more: take it off the list of {}", file!()))],
        (true, false) => vec![],
        (false, _) => found,
    }
}

pub fn no_denied_text(f: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (i, line) in f.text.lines().enumerate() {
        for denied in DENIED_TEXT.iter().filter(|denied| line.contains(**denied)) {
            faults.push(f.fault(i + 1, format!("`{denied}` belongs to one machine or one moment")));
        }
    }
    faults
}

pub type Rule = fn(&Source) -> Vec<Fault>;

pub const RULES: &[Rule] = &[
    says_its_question,
    is_short,
    imports_look_backwards,
    crates_depend_inwards,
    pipeline_does_no_io,
    only_tools_open_processes,
    only_tools_open_sockets,
    only_cli_prints,
    nothing_is_unfinished,
    no_test_is_ignored,
    unsafe_is_where_it_is_listed,
    no_denied_text,
];
