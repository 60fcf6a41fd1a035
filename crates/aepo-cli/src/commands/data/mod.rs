//! What do files of questions hold? They are listed, checked, and converted into our own form.

mod check;
mod convert;
mod list;
mod report;

use std::path::PathBuf;

use aepo::data::benchmark;
use aepo::data::files::fields::GraderField;
use aepo::data::files::{Fields, Shape};
use aepo::data::task::Grader;
use clap::Subcommand;

use crate::error::usage;

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Show the benchmarks that are known, with their graders, metrics, tools and sizes
    List(ListArgs),
    /// Say what a file of questions holds and what is wrong with it
    #[command(after_help = "\
Examples:
  aepo data check gsm8k.jsonl
  aepo data check train.parquet --against aime24.jsonl --against math500.jsonl
  aepo data check questions.csv --question prompt --answers answer --grader qa

A file is JSON lines, a JSON list, CSV, TSV or Parquet. Its layout is our own ({\"id\", \"kind\", \"question\", \"answers\",
\"grader\"}), verl's, or a benchmark's, told by its fields and its name; --benchmark or --question and --answers say otherwise.
A name with a dot goes into an object.

Wrong are: rows that are no questions, rows without an answer, questions that are there twice, answers that do not grade as
right against themselves, and with --against questions of the other file. What was put right or left out is told.
Exit codes: 0 nothing is wrong; 1 something is; 2 wrong command line.")]
    Check(CheckArgs),
    /// Write the questions of a file as JSON lines in our own layout
    #[command(after_help = "\
Examples:
  aepo data convert train_10k.parquet --out train.jsonl
  aepo data convert hle.parquet --benchmark hle --out hle.jsonl
  aepo data convert questions.tsv --question Prompt --answers Answer --grader qa --out questions.jsonl

The file is written whole or not at all.")]
    Convert(ConvertArgs),
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// One JSON object per benchmark and line
    #[arg(long)]
    pub json: bool,
}

/// How the rows of a file are laid out.
#[derive(Debug, clap::Args)]
pub struct LayoutArgs {
    /// Rows are laid out as in this benchmark (see `aepo data list`)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["question", "grader"])]
    pub benchmark: Option<String>,
    /// Field of the question
    #[arg(long, value_name = "FIELD", requires = "answers")]
    pub question: Option<String>,
    /// Field of the accepted answer, or of a list of them
    #[arg(long, value_name = "FIELD", requires = "question")]
    pub answers: Option<String>,
    /// Field that names a row [default: rows are numbered]
    #[arg(long = "id", value_name = "FIELD", requires = "question")]
    pub id_field: Option<String>,
    /// Field under which results are also reported
    #[arg(long = "kind", value_name = "FIELD", requires = "question")]
    pub kind_field: Option<String>,
    /// How answers are compared: math, qa, choice or gaia; with verl's layout, instead of what its rows say
    #[arg(long, value_name = "NAME", conflicts_with = "grader_field")]
    pub grader: Option<String>,
    /// Field that says how a row's answers are compared
    #[arg(long, value_name = "FIELD", requires = "question")]
    pub grader_field: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Files of questions
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// A file whose questions must not be in them; may be repeated. Its name or fields tell its layout
    #[arg(long, value_name = "FILE")]
    pub against: Vec<PathBuf>,
    #[command(flatten)]
    pub layout: LayoutArgs,
    /// One JSON object per file and line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct ConvertArgs {
    /// File of questions
    pub file: PathBuf,
    /// File to write, which is not there yet
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub layout: LayoutArgs,
    /// Say nothing but what is wrong
    #[arg(long, short)]
    pub quiet: bool,
}

pub fn data(command: &DataCommand) -> anyhow::Result<()> {
    match command {
        DataCommand::List(args) => list::list(args),
        DataCommand::Check(args) => check::check(args),
        DataCommand::Convert(args) => convert::convert(args),
    }
}

impl LayoutArgs {
    /// The layout that was asked for; `None` leaves it to the file.
    fn shape(&self) -> anyhow::Result<Option<Shape>> {
        if let Some(name) = &self.benchmark {
            let benchmark = benchmark::find(name).ok_or_else(|| {
                let known: Vec<&str> = benchmark::BENCHMARKS.iter().map(|b| b.name).collect();
                usage(
                    format!("--benchmark {name}: there is no such benchmark"),
                    &format!("known are {}", known.join(", ")),
                )
            })?;
            return Ok(Some(Shape::Benchmark(benchmark)));
        }
        let grader = match &self.grader {
            None => None,
            Some(name) => match Grader::named(name) {
                None => return Err(usage(format!("--grader {}", Grader::expected(name)), "")),
                grader => grader,
            },
        };
        let (Some(question), Some(answers)) = (&self.question, &self.answers) else {
            return Ok(grader.map(|grader| Shape::Verl { grader: Some(grader) }));
        };
        let grader = match (grader, &self.grader_field) {
            (Some(grader), _) => GraderField::Always(grader),
            (None, Some(field)) => GraderField::In(field.clone()),
            (None, None) => {
                let hint = "--grader math, qa, choice or gaia for all rows, or --grader-field FIELD";
                return Err(usage("--question needs to know how answers are compared", hint));
            }
        };
        let (id, kind) = (self.id_field.clone(), self.kind_field.clone());
        Ok(Some(Shape::Fields(Fields { question: question.clone(), answers: answers.clone(), id, kind, grader })))
    }
}
