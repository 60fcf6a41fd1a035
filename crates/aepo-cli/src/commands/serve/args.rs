//! What can be said about a server on the command line?

use std::path::PathBuf;

use clap::ValueEnum;

use crate::args::{Net, Sets};

/// Behind the help of `aepo serve`.
pub const HELP: &str = "\
Examples:
  aepo serve quickstart
  aepo serve runs/quickstart-seed1                 the newest checkpoint of a run, in the run's own dialect
  aepo serve Qwen/Qwen3-0.6B --arithmetic bf16     a model of the Hugging Face hub
  AEPO_API_KEY=… aepo serve my-model --host 0.0.0.0

  curl -s localhost:8000/v1/chat/completions -H 'content-type: application/json' \\
    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Find the area of Peru.\"}]}'
  python: OpenAI(base_url=\"http://localhost:8000/v1\", api_key=\"none\").chat.completions.create(…)
  aepo eval --server http://localhost:8000/v1 --model quickstart --benchmark math --data benchmarks

Routes: GET /health, GET /v1/models, POST /v1/completions, POST /v1/chat/completions (tools, streams, log-probabilities).
A field of a request that this server does not know and that would change the answer is an error that names it. The same
seed gives the same answer, streamed or whole, alone or among others. Conversations that begin alike share the cache.

With --rollouts trees of a recipe are served to programs that train elsewhere (docs/verl.md): POST /rollouts with
  {\"group\": NAME, \"index\": 0 to k - 1, \"question\": …, \"answers\": […], \"grader\": …, \"seed\": [step, task]}
answers one trajectory: ids, mask, log-probabilities, entropies, its place in the tree and its reward. The first request
of a group has its tree grown; who asks again for the same index gets the same trajectory. Without an index all are told.

  aepo serve quickstart --rollouts --set rollout.k=8
  aepo serve my-recipe.toml --rollouts --servers vllm

Ctrl-C stops: answers under way have three seconds to end, and streams are told when they do not.";

/// Serve a model, or trajectories of its trees.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// `quickstart`, a run directory, a model directory, a .gguf file, or org/name of the Hugging Face hub; with
    /// --rollouts a recipe or a run directory
    pub model: String,
    /// Address to listen on; any but this machine's own needs a key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub port: u16,
    /// What callers must show as `Authorization: Bearer KEY`. Other users of this machine can read a command line: the
    /// variable AEPO_API_KEY holds a key better
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
    /// Name under which the model is asked for [default: MODEL]
    #[arg(long, value_name = "NAME", conflicts_with = "rollouts")]
    pub name: Option<String>,
    /// How the model calls tools [default: the run's, else what its chat template shows]
    #[arg(long, value_enum, conflicts_with = "rollouts")]
    pub dialect: Option<DialectArg>,
    /// Threads of the engine [default: every core]
    #[arg(long, value_name = "N", conflicts_with = "rollouts")]
    pub threads: Option<usize>,
    /// Numbers that matrices are multiplied in [default: the run's, else f32]
    #[arg(long, value_enum, conflicts_with = "rollouts")]
    pub arithmetic: Option<ArithmeticArg>,
    /// Tokens in the cache, those of answers under way and of conversations that may go on [default: what a quarter of
    /// the free memory holds, at most 131072]
    #[arg(long, value_name = "N", conflicts_with = "rollouts")]
    pub cache_tokens: Option<usize>,
    /// Answers that are sampled at once
    #[arg(long, value_name = "N", default_value_t = 256, conflicts_with = "rollouts")]
    pub max_live: usize,
    /// Requests that may wait for room; more are told to try again later
    #[arg(long, value_name = "N", default_value_t = 256, conflicts_with = "rollouts")]
    pub max_waiting: usize,
    /// Tokens of a message where a request does not say
    #[arg(long, value_name = "N", default_value_t = 2048, conflicts_with = "rollouts")]
    pub max_tokens: usize,
    /// Write the address into this file once requests are answered
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,
    /// Serve trajectories of a recipe's trees instead of answers
    #[arg(long, help_heading = "Trees for others")]
    pub rollouts: bool,
    #[command(flatten)]
    pub sets: Sets,
    /// Each request names the servers of this kind that sample, in its field `servers`
    #[arg(long, value_enum, requires = "rollouts", help_heading = "Trees for others")]
    pub servers: Option<ServersArg>,
    /// Trees that wait, grow or are kept at once; more are told to try again later
    #[arg(long, value_name = "N", default_value_t = 1024, requires = "rollouts", help_heading = "Trees for others")]
    pub max_groups: usize,
    /// A finished tree is kept for so long, and goes earlier where room is needed and all its trajectories were fetched
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3600,
        requires = "rollouts",
        help_heading = "Trees for others"
    )]
    pub keep_secs: u64,
    #[command(flatten)]
    pub net: Net,
}

/// Which program serves the model to those who grow trees of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServersArg {
    /// vLLM
    Vllm,
    /// SGLang
    Sglang,
}

/// How a model calls tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DialectArg {
    /// The quickstart's own tags, each of which is a token; it needs no chat template
    Tags,
    /// The tags of AEPO in the assistant's turn
    Aepo,
    /// <tool_call> and JSON, as Hermes and Qwen models
    Hermes,
    /// JSON alone, as Llama 3 models
    Llama3,
    /// Not at all
    None,
}

/// Numbers that matrices are multiplied in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArithmeticArg {
    /// As they are
    F32,
    /// Rounded to bf16, with sums in f32
    Bf16,
}
