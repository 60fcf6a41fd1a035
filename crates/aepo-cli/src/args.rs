//! What can be asked for on the command line?

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands::cache::CacheCommand;
use crate::commands::data::DataCommand;
use crate::commands::doctor::DoctorArgs;
use crate::commands::eval::args::EvalArgs;
use crate::commands::index::IndexCommand;
use crate::commands::score::ScoreArgs;
use crate::commands::serve::args::{HELP, ServeArgs};
use crate::commands::tool::python::ToolPythonArgs;
use crate::commands::tool::search::ToolSearchArgs;
use crate::commands::tool::serve::ToolServeArgs;

/// Train, evaluate and inspect tool-using language-model agents with AEPO (arXiv 2510.14545).
#[derive(Debug, Parser)]
#[command(
    name = "aepo",
    version,
    after_help = "\
Start here:
  aepo train quickstart              train a small agent on this machine's CPU; ends with a before/after table
  aepo show runs/quickstart-seed1    what happened, step by step
  aepo rollout quickstart            one tree of trajectories: forks, entropies, tool calls, rewards
  aepo check quickstart              every setting, what it means and where it comes from

A recipe is `quickstart` or the path of a TOML file; any setting of it can be changed by --set, for example
  aepo train quickstart --set algorithm.name=grpo --set train.learning_rate=1e-4

Exit codes: 0 done, 1 failed while running, 2 wrong command line or recipe, 130 interrupted."
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train an agent by reinforcement learning and measure it before and after
    #[command(after_help = "\
Examples:
  aepo train quickstart
  aepo train quickstart --seed 2 --set rollout.k=16
  aepo train my-recipe.toml --out runs/mine
  aepo train quickstart --resume            go on after Ctrl-C, a crash or a power cut

Ctrl-C stops at a safe point, writes a checkpoint and says how to resume; the resumed run gives the numbers that an
uninterrupted one would have given. A second Ctrl-C stops at once and loses only the steps since the last checkpoint.")]
    Train(TrainArgs),
    /// Teach a model by example: generated demonstrations or a file of conversations (the cold start)
    #[command(after_help = "\
Examples:
  aepo sft quickstart --out runs/cold
  aepo train quickstart --set model.init=runs/cold/model

  aepo sft my-recipe.toml --set sft.init=my-model --set sft.source=chats.jsonl --set prompt.protocol=hermes

A model begins with random weights in the shape of [model.shape], or where sft.init says. A file of conversations is JSON
lines or one JSON list, in the ShareGPT layout ({\"conversations\": [{\"from\", \"value\"}]}) or in OpenAI's
({\"messages\": [{\"role\", \"content\", \"tool_calls\"}]}); what the assistant writes is learned, everything else is read.")]
    Sft(SftArgs),
    /// Train several algorithms on the same tasks, budget and seeds, and report how they differ
    #[command(after_help = "\
Examples:
  aepo compare quickstart --algos aepo,grpo --seeds 3
  aepo compare quickstart --algos aepo,arpo,grpo,dapo --seeds 5 --steps 20 --jobs 2 --out runs/study
  aepo compare --report-only --out runs/study

Each run is an `aepo train` of its own, in DIR/runs/ALGORITHM/seedN. Seed 1 of every algorithm comes first, so that a
comparison is balanced at every moment. The same command run again keeps what is finished and goes on with the rest;
more algorithms and more seeds can be asked for at any time, other settings need another --out. A run that fails stops
no other: its last words stand in DIR/runs/ALGORITHM/seedN.log.

DIR/report.html (and report.md, summary.json, plots/) tells what the finished runs showed: means over seeds with 95 %
intervals, and differences to the baseline with the same seed.

Where the recipe measures only before and after training, a comparison measures after each quarter of it, with five
answers per question at least; --set eval.every=N and --set eval.samples=N decide otherwise. A --set that means nothing
to some of the algorithms is set for the others.")]
    Compare(CompareArgs),
    /// Measure a model on questions, or on benchmarks
    #[command(after_help = "\
Examples:
  aepo eval quickstart                      the model inside the program, held-out questions
  aepo eval runs/quickstart-seed1           the newest checkpoint of a run, under the run's own settings
  aepo eval my-model --recipe my-recipe.toml --split train

  aepo eval my-model --recipe my-recipe.toml --benchmark gsm8k,math500 --data benchmarks --samples 5 --k 1,5
  aepo eval --server http://localhost:8000/v1 --model Qwen3-8B --benchmark math --data benchmarks
  aepo eval --server http://localhost:8000/v1 --model Qwen3-14B --reproduce aepo --benchmark deepsearch --data benchmarks
  aepo eval compare runs/eval-before runs/eval-after

With --data, answers go to DIR/answers.jsonl, each before the next is asked; the same command with --resume asks only what
has no answer yet. DIR/report.html (and report.md, summary.json, scores.jsonl) tells what was measured.")]
    Eval(Box<EvalArgs>),
    /// Grade predictions from standard input
    Score(ScoreArgs),
    /// Offer a model to other programs over OpenAI's API, until interrupted
    #[command(after_help = HELP)]
    Serve(Box<ServeArgs>),
    /// Sample one tree of trajectories and print it
    #[command(after_help = "\
Examples:
  aepo rollout quickstart --task 3
  aepo rollout runs/quickstart-seed1 --question \"Find the area of Peru.\"")]
    Rollout(RolloutArgs),
    /// Show how a run went
    Show(ShowArgs),
    /// Print every setting of a recipe with its meaning, or say what is wrong with it
    Check(CheckArgs),
    /// Say what this machine offers to a sandbox, and how it could offer more
    #[command(after_help = "\
Everything is tried, nothing is changed. Exit code 0 where the recipe's sandbox works, 1 where it does not.")]
    Doctor(DoctorArgs),
    /// Use one tool by itself, as an agent would, or offer tools to other programs
    #[command(subcommand)]
    Tool(ToolCommand),
    /// Make an index of texts to search in, or verify one
    #[command(subcommand)]
    Index(IndexCommand),
    /// List benchmarks, check files of questions, or convert them
    #[command(subcommand)]
    Data(DataCommand),
    /// Show what each algorithm computes, and compute it on numbers
    #[command(
        subcommand,
        after_help = "\
Examples:
  aepo algo list
  aepo algo show dapo
  aepo algo apply --algo cispo --set loss.clip_high=0.3 < batch.json
  aepo algo budget --algo aepo --k 16 --root-entropy 0.9 --tool-entropy 0.4
  aepo algo branch --algo aepo --entropy-delta 0.8 --consecutive 2"
    )]
    Algo(AlgoCommand),
    /// Look into a cache of tool results, or take over answers from elsewhere
    #[command(
        subcommand,
        after_help = "\
Examples:
  aepo cache show runs/cache.redb
  aepo cache import search_cache.json runs/cache.redb --as search"
    )]
    Cache(CacheCommand),
}

#[derive(Debug, Subcommand)]
pub enum ToolCommand {
    /// List the tools of MCP servers, or call one
    #[command(after_help = "\
FILE is what other clients of the Model Context Protocol read, too:
  {\"mcpServers\": {\"time\": {\"command\": \"uvx\", \"args\": [\"mcp-server-time\"], \"env\": {}, \"cwd\": \"/tmp\"},
                  \"docs\": {\"url\": \"https://docs.example/mcp\", \"headers\": {\"Authorization\": \"Bearer ${DOCS_KEY}\"}}}}

A program gets PATH, LANG, a private HOME and what `env` says, nothing else. ${VAR} in `env` and `headers` is a variable
of this environment, so that keys need not be written down.

Examples:
  aepo tool mcp servers.json
  aepo tool mcp servers.json --call time__get_current_time --arguments '{\"timezone\": \"Asia/Tokyo\"}'")]
    Mcp(ToolMcpArgs),
    /// Run a program from standard input in the sandbox and print one JSON object
    #[command(after_help = "\
Examples:
  echo 'sum(range(10))' | aepo tool python
  echo 'x = 1' | aepo tool python --session s.jsonl && echo 'x + 1' | aepo tool python --session s.jsonl

Output: {\"outcome\",\"value\",\"stdout\",\"stderr\",\"exit_code\",\"truncated\",\"wall_secs\",\"cpu_secs\",\"max_rss_mb\"}
  outcome is ok, raised, syntax, timeout, memory, output, pids, signal or unavailable; value is that of a last
  expression. The last line of stderr tells what ended a program.
Exit codes: 0 the program was run, whatever it did; 1 it could not be run; 2 wrong command line.")]
    Python(ToolPythonArgs),
    /// Read a page of the web and print what a model would read
    #[command(after_help = "\
Examples:
  aepo tool visit https://example.org/
  aepo tool visit https://example.org/ --json
  aepo tool visit http://localhost:8080/notes --allow-host localhost:8080
  aepo tool visit https://example.org/ --goal \"who may use the name\" --endpoint http://localhost:8000/v1 --model Qwen3-8B

Pages come from public addresses and ports 80 and 443 alone, unless --allow-host names their host. SSL_CERT_FILE names
certificates to trust instead of those of the public web.

Exit codes: 0 there is a page, or with --json any answer; 1 there is none; 2 wrong command line.")]
    Visit(ToolVisitArgs),
    /// Look a query up, in the quickstart's articles unless told otherwise
    #[command(after_help = "\
Examples:
  aepo tool search \"highest point of Peru\"
  aepo tool search --index wiki.index \"who walked on the moon\" -n 5
  SERPER_API_KEY=… aepo tool search --source serper \"weather in Lima\" --json

Keys are read from the environment: SERPER_API_KEY, BRAVE_API_KEY, EXA_API_KEY, TAVILY_API_KEY, and for Bright Data
BRIGHTDATA_API_KEY and BRIGHTDATA_SERP_ZONE.")]
    Search(ToolSearchArgs),
    /// Offer tools to other programs over HTTP, until interrupted
    #[command(after_help = "\
Examples:
  aepo tool serve --index wiki.index --sandbox
  curl -s localhost:8000/retrieve -H 'content-type: application/json' \\
    -d '{\"queries\": [\"who walked on the moon\"], \"topk\": 3, \"return_scores\": true}'
  curl -s localhost:8000/run_code -H 'content-type: application/json' \\
    -d '{\"code\": \"print(1)\", \"language\": \"python\"}'

With --index it answers POST /retrieve as the retrievers of Search-R1, verl and ARPO do, with --sandbox POST /run_code as
SandboxFusion does. Nobody is asked for a password: listen on another address than this machine's own only where everybody
may use it.")]
    Serve(ToolServeArgs),
}

#[derive(Debug, clap::Args)]
pub struct ToolVisitArgs {
    /// The whole address, beginning with http:// or https://
    pub url: String,
    /// One JSON object with the page, its text, and how it was read
    #[arg(long)]
    pub json: bool,
    /// Characters to show
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub max_chars: usize,
    /// Deadline of the call
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    pub timeout_secs: f64,
    /// A host that may have a private address, or with `:PORT` that port; may be repeated
    #[arg(long = "allow-host", value_name = "HOST[:PORT]")]
    pub allow_hosts: Vec<String>,
    /// Have a served model read the page, and print what it says towards this
    #[arg(long, value_name = "TEXT", requires_all = ["endpoint", "model"])]
    pub goal: Option<String>,
    /// OpenAI-compatible address of that model, up to and with the version
    #[arg(long, value_name = "URL", requires = "goal")]
    pub endpoint: Option<String>,
    /// The name under which it is served
    #[arg(long, value_name = "NAME", requires = "goal")]
    pub model: Option<String>,
    /// The variable of the environment that holds its key
    #[arg(long, value_name = "VAR", requires = "goal")]
    pub key_env: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct ToolMcpArgs {
    /// File of servers
    pub file: PathBuf,
    /// Call this tool (SERVER__TOOL) and print outcome, text and time as one JSON object
    #[arg(long, value_name = "NAME")]
    pub call: Option<String>,
    /// Arguments of the call, a JSON object
    #[arg(long, value_name = "JSON", requires = "call", default_value = "{}")]
    pub arguments: String,
    /// Deadline of the call
    #[arg(long, value_name = "S", requires = "call", default_value_t = 60.0)]
    pub timeout_secs: f64,
    /// For a server to start, and as long again to list its tools
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    pub start_secs: f64,
    /// Print the list as one JSON object, with the schemas
    #[arg(long, conflicts_with = "call")]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum AlgoCommand {
    /// Name every algorithm with the rules that tell it apart
    List,
    /// Explain one algorithm: rules, formulas, constants, source
    Show(AlgoShowArgs),
    /// Compute advantages, loss and gradient of a batch in JSON on standard input
    #[command(after_help = "\
Input (lists hold one value per token; `turns`, `ref_logp`, `rollout_logp`, `parent` and `shared` may be left out):
  {\"groups\":[{\"task\":\"q1\",\"trajectories\":[{\"reward\":1.0,\"mask\":[0,1],\"logp\":[-1,-2],\"old_logp\":[-1,-2],
    \"entropy\":[0.1,0.9],\"turns\":[{\"start\":1,\"end\":2,\"anchor\":\"s0\"}],\"parent\":0,\"shared\":1}]}]}
Output: {\"loss\":…,\"metrics\":{…},\"groups\":[{\"task\":…,\"trajectories\":[{\"advantage\":[…],\"dloss_dlogp\":[…]}]}]}
  Metrics are means over sampled tokens: kl_k3 is the divergence from ref_logp (0 without one), old_kl_k3 the drift of
  logp from old_logp, nats.")]
    Apply(AlgoApplyArgs),
    /// Divide k trajectories into global samples and branches
    Budget(AlgoBudgetArgs),
    /// Decide on a fork after a tool result
    Branch(AlgoBranchArgs),
}

#[derive(Debug, clap::Args)]
pub struct AlgoShowArgs {
    /// Name of the algorithm (see `aepo algo list`)
    pub name: String,
}

#[derive(Debug, clap::Args)]
pub struct AlgoApplyArgs {
    /// Name of the algorithm
    #[arg(long, value_name = "NAME")]
    pub algo: String,
    #[command(flatten)]
    pub sets: Sets,
}

#[derive(Debug, clap::Args)]
pub struct AlgoBudgetArgs {
    /// Name of the algorithm
    #[arg(long, value_name = "NAME")]
    pub algo: String,
    /// Trajectories of the task
    #[arg(long, value_name = "N")]
    pub k: usize,
    /// H_root: mean entropy at the start of the first trajectory, nats per token
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub root_entropy: f64,
    /// H̄_tool: mean entropy after its tool results, nats per token
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub tool_entropy: f64,
    #[command(flatten)]
    pub sets: Sets,
}

#[derive(Debug, clap::Args)]
pub struct AlgoBranchArgs {
    /// Name of the algorithm
    #[arg(long, value_name = "NAME")]
    pub algo: String,
    /// ΔH: entropy after the tool result less that at the start, nats per token
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub entropy_delta: f64,
    /// l: forks in a row before this one
    #[arg(long, value_name = "L", default_value_t = 0)]
    pub consecutive: u32,
    #[command(flatten)]
    pub sets: Sets,
}

/// What to set.
#[derive(Debug, clap::Args)]
pub struct Sets {
    /// Change a setting of the recipe, `section.key=value`; may be repeated (see `aepo check`)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// Where models come from.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Net {
    /// Use no network: a model of the hub must be in the cache (so does HF_HUB_OFFLINE=1)
    #[arg(long)]
    pub offline: bool,
}

/// How to tell what happens.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Telling {
    /// No progress, only the result
    #[arg(long, short, conflicts_with = "json")]
    pub quiet: bool,
    /// One JSON object per line on stdout, and nothing else
    #[arg(long)]
    pub json: bool,
}

/// What every run that trains is told.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// `quickstart`, or the path of a recipe
    pub recipe: String,
    #[command(flatten)]
    pub sets: Sets,
    /// Threads of the engine, 0 for every core; stands for train.threads
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Go on with the run in its directory
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub net: Net,
    #[command(flatten)]
    pub telling: Telling,
}

#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// Seed of the run; stands for train.seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Training steps; stands for train.steps
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Run directory [default: runs/RECIPE-seedN]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArgs,
    /// Stop as after Ctrl-C when standard input ends: for a program that looks after this one
    #[arg(long)]
    pub stop_on_eof: bool,
}

#[derive(Debug, clap::Args)]
pub struct SftArgs {
    /// Seed of weights, demonstrations and the order of a file; stands for sft.seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Run directory [default: runs/RECIPE-sft-seedN]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// `quickstart`, or the path of a recipe
    #[arg(required_unless_present = "report_only")]
    pub recipe: Option<String>,
    /// Algorithms, separated by commas (see `aepo algo list`)
    #[arg(long, value_name = "NAMES", value_delimiter = ',', required_unless_present = "report_only")]
    pub algos: Vec<String>,
    /// Seeds 1 to N, the same for every algorithm
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub seeds: u64,
    /// The algorithm that the others are compared with [default: grpo where it is one of them, else the first]
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Directory of the comparison [default: runs/compare-RECIPE]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub sets: Sets,
    /// Training steps; stands for train.steps
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Runs at once
    #[arg(long, value_name = "J", default_value_t = 1)]
    pub jobs: usize,
    /// Threads of each run's engine; stands for train.threads [default: the recipe's, else cores / jobs]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Train nothing: write the report of what is there
    #[arg(long)]
    pub report_only: bool,
    #[command(flatten)]
    pub net: Net,
    #[command(flatten)]
    pub telling: Telling,
}

/// Which questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    /// Those that training uses
    Train,
    /// Those it never sees
    HeldOut,
}

#[derive(Debug, clap::Args)]
pub struct RolloutArgs {
    /// `quickstart`, the path of a recipe, or a run directory (its newest checkpoint)
    pub from: String,
    /// Which question of the split, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub task: usize,
    /// Ask this instead; without a known answer there is no reward
    #[arg(long, value_name = "TEXT", conflicts_with = "task")]
    pub question: Option<String>,
    /// Which questions
    #[arg(long, value_enum, default_value = "held-out")]
    pub split: SplitArg,
    #[command(flatten)]
    pub sets: Sets,
    /// Seed of the run; stands for train.seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// The tree as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub net: Net,
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Run directory
    pub run: PathBuf,
    /// Rows of the table; steps are left out evenly where there are more
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub rows: usize,
}

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// `quickstart`, or the path of a recipe
    pub recipe: String,
    #[command(flatten)]
    pub sets: Sets,
    #[command(flatten)]
    pub net: Net,
}
