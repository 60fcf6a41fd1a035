//! What can an evaluation be asked for on the command line?

use std::path::PathBuf;

use aepo::eval::agent::Results;
use aepo::eval::paper::Paper;
use clap::{Args, Subcommand, ValueEnum};

use crate::args::{Net, Sets, SplitArg, Telling};
use crate::commands::score::judge::JudgeArgs;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct EvalArgs {
    #[command(subcommand)]
    pub command: Option<EvalCommand>,
    /// `quickstart` (the model inside the program), a model directory, a .gguf file, a checkpoint, a run directory, or
    /// org/name of the Hugging Face hub
    #[arg(required_unless_present = "server")]
    pub model: Option<String>,
    /// Settings to measure under [default: the run's own, else quickstart; of a served model benchmark]
    #[arg(long, value_name = "RECIPE")]
    pub recipe: Option<String>,
    /// Which questions of the recipe
    #[arg(long, value_enum, default_value = "held-out", conflicts_with_all = ["benchmark", "data", "reproduce", "server"])]
    pub split: SplitArg,
    #[command(flatten)]
    pub sets: Sets,
    #[command(flatten)]
    pub net: Net,
    #[command(flatten)]
    pub telling: Telling,
    #[command(flatten)]
    pub benchmarks: BenchmarkArgs,
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub judge: JudgeArgs,
}

/// Which benchmarks, and how much of them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Benchmarks")]
pub struct BenchmarkArgs {
    /// Benchmarks by name, or math, knowledge, deepsearch, all: those of them that are in the data (see `aepo data list`)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub benchmark: Vec<String>,
    /// A benchmark's file, or the folder that holds such files [default: that of AEPO_BENCHMARKS, or ./benchmarks]; without
    /// --benchmark any file of questions (see `aepo data check`)
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Answers per question; stands for eval.samples
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// k of Pass@k and majority@k, at most the answers per question [default: 1 and all answers]
    #[arg(long, value_name = "K", value_delimiter = ',')]
    pub k: Vec<usize>,
    /// Questions of each benchmark, the first ones; all unless set
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Directory of the evaluation [default: runs/eval-MODEL]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the evaluation in its directory: what has an answer is not asked again
    #[arg(long)]
    pub resume: bool,
    /// Evaluate as a paper did, and put its figures beside these
    #[arg(long, value_enum, value_name = "PAPER")]
    pub reproduce: Option<PaperArg>,
}

/// A model that another program serves.
#[derive(Debug, Args)]
#[command(next_help_heading = "Served models")]
pub struct ServerArgs {
    /// OpenAI-compatible address up to and with the version, http://localhost:8000/v1
    #[arg(long, value_name = "URL", requires = "served", conflicts_with = "model")]
    pub server: Option<String>,
    /// The name under which it is served
    #[arg(id = "served", long = "model", value_name = "NAME", requires = "server")]
    pub served: Option<String>,
    /// The variable of the environment that holds its key
    #[arg(long, value_name = "VAR", requires = "server")]
    pub key_env: Option<String>,
    /// Questions at once
    #[arg(long, value_name = "N", requires = "server", default_value_t = 16)]
    pub jobs: usize,
    /// Deadline of one request, its tries included
    #[arg(long, value_name = "S", requires = "server", default_value_t = 600.0)]
    pub request_secs: f64,
    /// Where results of tools are written: in a message of the user, or in the model's own turn, which vLLM and SGLang let
    /// it go on with
    #[arg(long, value_enum, value_name = "WHERE", requires = "server", default_value = "message")]
    pub results: ResultsArg,
}

#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Compare two evaluations on the questions that both have
    Compare(CompareEvalArgs),
}

#[derive(Debug, Args)]
pub struct CompareEvalArgs {
    /// Directory of an evaluation
    pub first: PathBuf,
    /// Directory of another; differences are this one less the first
    pub second: PathBuf,
    /// Write versus.md and versus.html there
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The comparison as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Whose evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PaperArg {
    /// arXiv 2510.14545
    Aepo,
    /// arXiv 2507.19849
    Arpo,
}

impl PaperArg {
    /// The paper.
    pub fn paper(self) -> Paper {
        match self {
            PaperArg::Aepo => Paper::Aepo,
            PaperArg::Arpo => Paper::Arpo,
        }
    }
}

/// Where results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ResultsArg {
    /// A message of the user
    Message,
    /// The model's own turn
    Turn,
}

impl ResultsArg {
    /// As the agent has it.
    pub fn results(self) -> Results {
        match self {
            ResultsArg::Message => Results::Message,
            ResultsArg::Turn => Results::Turn,
        }
    }
}
