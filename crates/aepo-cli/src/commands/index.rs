//! How does a corpus become an index, and is an index whole?

use std::ops::ControlFlow;
use std::path::PathBuf;

use aepo_tools::search::disk::{BuildSettings, Built, DiskIndex, Fields, IndexError, Phase, build};
use clap::{Subcommand, ValueEnum};

use crate::args::Telling;
use crate::error::Interrupted;
use crate::interrupt;
use crate::machine::Clock;
use crate::progress::{Teller, print};
use crate::table::bytes;

#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Make an index of the texts in a file, or go on with one that was stopped
    #[command(after_help = "\
Examples:
  aepo index build wiki.jsonl
  aepo index build wiki-18.parquet --out wiki-18.index
  aepo index build notes.jsonl --id-field \"\" --title-field name --text-field body

A row is {\"id\", \"title\", \"text\"}, or {\"id\", \"contents\"} as Search-R1 has them, with the title in quotes on the first
line. The index grows in DIR.building and gets its name when it is whole. Work is kept every few seconds: after Ctrl-C,
a crash or a power cut the same command goes on.")]
    Build(IndexBuildArgs),
    /// Compare every file of an index with the sums that were taken when it was built
    Check(IndexCheckArgs),
}

#[derive(Debug, clap::Args)]
pub struct IndexBuildArgs {
    /// JSON lines (.jsonl) or Parquet (.parquet)
    pub corpus: PathBuf,
    /// Directory of the index [default: the corpus's name with .index]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Field that names a document; \"\" numbers the rows
    #[arg(long, value_name = "NAME", default_value = "id")]
    pub id_field: String,
    /// Field of the title, which a row may lack
    #[arg(long, value_name = "NAME", default_value = "title")]
    pub title_field: String,
    /// Field of the text; `contents` holds title and text [default: text, or else contents]
    #[arg(long, value_name = "NAME")]
    pub text_field: Option<String>,
    /// What to do with a row that is no document
    #[arg(long, value_enum, default_value = "stop")]
    pub on_bad_row: OnBadRow,
    #[command(flatten)]
    pub telling: Telling,
}

/// What to do with a bad row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnBadRow {
    /// Refuse the corpus, naming the row
    Stop,
    /// Leave it out and count it
    Skip,
}

#[derive(Debug, clap::Args)]
pub struct IndexCheckArgs {
    /// Directory of the index
    pub index: PathBuf,
}

pub fn index(command: &IndexCommand) -> anyhow::Result<()> {
    match command {
        IndexCommand::Build(args) => make(args),
        IndexCommand::Check(args) => check(args),
    }
}

fn make(args: &IndexBuildArgs) -> anyhow::Result<()> {
    let out = args.out.clone().unwrap_or_else(|| args.corpus.with_extension("index"));
    let mut settings = BuildSettings::new(args.corpus.clone(), out);
    let (id, title, text) = (args.id_field.clone(), args.title_field.clone(), args.text_field.clone());
    settings.fields = Fields { id, title, text };
    settings.skip_bad_rows = args.on_bad_row == OnBadRow::Skip;
    interrupt::install()?;
    let mut teller = Teller::new(args.telling);
    let clock = Clock::start();
    let mut began = None;
    let built = build(&settings, |phase| {
        tell(&mut teller, &mut began, phase);
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    teller.end();
    let built = match built {
        Err(IndexError::Stopped { n_rows }) => {
            let hint = format!("{n_rows} documents are kept; the same command goes on from there");
            return Err(Interrupted { hint: Some(hint) }.into());
        }
        other => other?,
    };
    for (row, why) in &built.skipped {
        teller.warn(&format!("{}:{row}: {why}", args.corpus.display()));
    }
    finish(&mut teller, args, &settings, &built, clock.secs())
}

/// Shows how far a build is. A phase begins a stretch of work when another kind of phase was there before.
fn tell(teller: &mut Teller, began: &mut Option<&'static str>, phase: Phase) {
    let (name, n, at, inside) = match phase {
        Phase::Checking(n) => ("sum of the corpus", None, 0, bytes(n)),
        Phase::Indexing { n_rows, share, .. } => {
            ("indexing, percent", Some(100), (share * 100.0) as u64, format!("{n_rows} documents"))
        }
        Phase::Merging(n_rows) => ("merging", None, 0, format!("{n_rows} documents")),
        Phase::Summing => ("sums of the index", None, 0, String::new()),
    };
    if *began != Some(name) {
        teller.end();
        match n {
            Some(n) => teller.begin(name, n, at),
            None => teller.note(&format!("{name} …")),
        }
        *began = Some(name);
    }
    teller.at(at);
    teller.inside(inside);
    if let Phase::Indexing { n_rows, n_committed, share } = phase {
        teller.event("indexing", &serde_json::json!({ "n_rows": n_rows, "n_kept": n_committed, "share": share }));
    }
}

fn finish(
    teller: &mut Teller,
    args: &IndexBuildArgs,
    settings: &BuildSettings,
    built: &Built,
    secs: f64,
) -> anyhow::Result<()> {
    let manifest = &built.manifest;
    let n_bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    teller.event(
        "built",
        &serde_json::json!({
            "index": settings.out, "n_rows": manifest.n_rows, "n_skipped": manifest.n_skipped,
            "n_resumed": built.n_resumed, "n_bytes": n_bytes, "secs": secs,
        }),
    );
    if !teller.for_people() || args.telling.quiet {
        return Ok(());
    }
    let mut text =
        format!("{}: {} documents, {} in {secs:.1} s\n", settings.out.display(), manifest.n_rows, bytes(n_bytes));
    if built.n_resumed > 0 {
        text += &format!("{} of them were there already\n", built.n_resumed);
    }
    if manifest.n_skipped > 0 {
        text += &format!("{} rows left out\n", manifest.n_skipped);
    }
    print(&text)
}

fn check(args: &IndexCheckArgs) -> anyhow::Result<()> {
    let manifest = DiskIndex::check(&args.index, |_| ())?;
    let n_bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let (name, n_files) = (args.index.display(), manifest.files.len());
    let plan = &manifest.plan;
    print(&format!(
        "{name} is whole: {} documents, {n_files} files, {}\ncorpus sha256 {}, engine {}\n",
        manifest.n_rows,
        bytes(n_bytes),
        plan.corpus_sha256,
        plan.engine
    ))
}
