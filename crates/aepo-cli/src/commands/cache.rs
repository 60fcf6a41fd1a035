//! What does a cache of tool results hold, and how do answers from elsewhere come into one?

use std::path::PathBuf;

use aepo_tools::cache::{Cache, CacheSettings, Mode, import_arpo};
use clap::{Args, Subcommand};

use crate::error::usage;
use crate::progress::print;
use crate::table::{bytes, table};

#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Count what a cache holds, verifying every entry
    Show(CacheShowArgs),
    /// Take over a search cache of ARPO: one JSON object of queries and result texts
    #[command(after_help = "\
Example:
  aepo cache import search_cache.json runs/cache.redb --as search

An entry answers calls of that tool whoever would be asked, unless --identity names one provider. What is in the cache
already stays as it is. Queries whose text is empty are left out: that is how a failed search was written down.")]
    Import(CacheImportArgs),
}

#[derive(Debug, Args)]
pub struct CacheShowArgs {
    /// The cache's file
    pub cache: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CacheImportArgs {
    /// The JSON file
    pub file: PathBuf,
    /// The cache's file; made when it is not there
    pub cache: PathBuf,
    /// The tool whose calls the entries answer
    #[arg(long = "as", value_name = "TOOL", default_value = "search")]
    pub tool: String,
    /// The provider whose calls alone they answer
    #[arg(long)]
    pub identity: Option<String>,
}

pub fn cache(command: &CacheCommand) -> anyhow::Result<()> {
    match command {
        CacheCommand::Show(args) => show(args),
        CacheCommand::Import(args) => import(args),
    }
}

fn open(path: &std::path::Path, mode: Mode) -> anyhow::Result<Cache> {
    Ok(Cache::open(&CacheSettings { path: path.to_path_buf(), mode, negative_secs: 0 })?)
}

fn show(args: &CacheShowArgs) -> anyhow::Result<()> {
    let contents = open(&args.cache, Mode::Replay)?.contents()?;
    let n_entries: u64 = contents.n_entries.values().sum();
    if args.json {
        let counts: Vec<_> = contents
            .n_entries
            .iter()
            .map(|((tool, outcome), n)| serde_json::json!({ "tool": tool, "outcome": outcome.name(), "n": n }))
            .collect();
        let (oldest, newest) = contents.created_secs.unzip();
        let object = serde_json::json!({
            "n_entries": n_entries,
            "n_negative": contents.n_negative,
            "n_text_bytes": contents.n_text_bytes,
            "n_file_bytes": contents.n_file_bytes,
            "oldest_secs": oldest,
            "newest_secs": newest,
            "entries": counts,
        });
        return print(&format!("{object}\n"));
    }
    let (file, text) = (bytes(contents.n_file_bytes), bytes(contents.n_text_bytes));
    let mut out = format!("{}: {n_entries} answers, {text} of text in a file of {file}\n", args.cache.display());
    if contents.n_negative > 0 {
        out += &format!("{} of them are failures that hold for a short time only\n", contents.n_negative);
    }
    if n_entries > 0 {
        let row = |((tool, outcome), n): (&(String, aepo::tool::ToolOutcome), &u64)| {
            vec![tool.clone(), outcome.name().to_owned(), n.to_string()]
        };
        let rows: Vec<Vec<String>> = contents.n_entries.iter().map(row).collect();
        out += &format!("\n{}", table(&["tool", "outcome", "answers"], &rows));
    }
    print(&out)
}

fn import(args: &CacheImportArgs) -> anyhow::Result<()> {
    aepo::tool::ToolName::new(&args.tool).map_err(|e| usage(format!("--as: {e}"), ""))?;
    let cache = open(&args.cache, Mode::Record)?;
    let done = import_arpo(&cache, &args.file, &args.tool, args.identity.as_deref())?;
    let mut out = format!("{} answers of {} taken over into {}\n", done.n_kept, args.tool, args.cache.display());
    if done.n_known > 0 {
        out += &format!("{} were there already\n", done.n_known);
    }
    if done.n_empty > 0 {
        out += &format!("{} left out: their text is empty\n", done.n_empty);
    }
    print(&out)
}
