//! How does a file of questions become one in our own layout?

use std::io::Write as _;
use std::path::Path;

use aepo_tools::rows::read_tasks;
use anyhow::Context as _;

use super::ConvertArgs;
use crate::error::usage;
use crate::progress::print;

/// Reads a file and writes its tasks: whole, or not at all.
pub fn convert(args: &ConvertArgs) -> anyhow::Result<()> {
    let shape = args.layout.shape()?;
    let out = &args.out;
    if out.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("jsonl")) {
        return Err(usage(format!("--out {}: JSON lines are written; end the name in .jsonl", out.display()), ""));
    }
    if out.exists() {
        return Err(usage(format!("{} is there already", out.display()), "remove it, or choose another --out"));
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(usage(format!("--out {}: {} is no directory", out.display(), folder.display()), ""));
    }
    let found = read_tasks(&args.file, shape.as_ref())?;
    let writing = || format!("writing {}", out.display());
    let mut beside = tempfile::NamedTempFile::new_in(folder).with_context(writing)?;
    let mut lines = std::io::BufWriter::new(&mut beside);
    for task in &found.tasks {
        serde_json::to_writer(&mut lines, task).with_context(writing)?;
        lines.write_all(b"\n").with_context(writing)?;
    }
    lines.flush().with_context(writing)?;
    drop(lines);
    beside.as_file().sync_all().with_context(writing)?;
    // A file that somebody else has put there meanwhile is not written over.
    beside.persist_noclobber(out).with_context(writing)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(writing)?;
    if args.quiet {
        return Ok(());
    }
    let (name, n) = (found.shape.name(), found.tasks.len());
    let mut text = format!("{}: {n} questions of {} rows ({name})\n", out.display(), found.n_rows);
    found.notes().iter().for_each(|note| text += &format!("{note}\n"));
    print(&text)
}
