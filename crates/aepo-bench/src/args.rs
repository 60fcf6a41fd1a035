//! What can be asked for? Cases, and what all of them share.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::cases::simulate::Table;
use crate::cases::step::Recipe;
use crate::shapes::Shape;

/// Measures the engine on this machine. Each case prints one JSON line.
#[derive(Parser)]
#[command(name = "aepo-bench", version)]
pub struct Args {
    /// What is measured.
    #[command(subcommand)]
    pub case: Case,
}

/// What is measured.
#[derive(Subcommand)]
pub enum Case {
    /// The machine's limits alone.
    Machine(MachineArgs),
    /// A training step over linear sequences: forward, backward, AdamW.
    Train(TrainArgs),
    /// A training step over the trees of a run, or over their trajectories unrolled.
    Trees(TreesArgs),
    /// Sampling along live paths that share a prompt, with log-probability and entropy of every token.
    Decode(DecodeArgs),
    /// Reading a prompt.
    Prefill(PrefillArgs),
    /// Training steps over one tree that grows, or over one long trajectory.
    Scale(ScaleArgs),
    /// What is neither model nor tool: driver, records, losses around turns that are ready.
    Controller(ControllerArgs),
    /// A whole step of reinforcement learning by a recipe, with tools that answer at once.
    Step(StepArgs),
    /// Many replicas and trajectories on a clock that is not the world's: the real driver and router, and servers that are
    /// formulas with assumed numbers.
    Simulate(SimulateArgs),
    /// Writes a model directory of random weights, so that other programs measure the same model.
    Weights(WeightsArgs),
}

/// What every measured case takes.
#[derive(clap::Args, Clone)]
pub struct Common {
    /// Threads of the engine; the machine's limits are measured on as many.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Numbers that matrices are multiplied in, and that weights are kept in where nothing is trained.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// Rounds measured, of which the median is told.
    #[arg(long, default_value_t = 5)]
    pub median_of: usize,
    /// Rounds before that, which are not counted.
    #[arg(long, default_value_t = 1)]
    pub warm_up: usize,
    /// Measures a round for each line `go` on standard input and prints a line for it, until the input ends.
    #[arg(long)]
    pub on_request: bool,
    /// A model directory to measure instead of random weights of the shape.
    #[arg(long)]
    pub weights: Option<PathBuf>,
}

/// Numbers of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32 bits.
    F32,
    /// The upper 16 of them, summed in 32.
    Bf16,
}

impl Precision {
    /// As rows and options write it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }

    /// Bytes of a stored number.
    pub fn n_bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }
}

/// Options of `machine`.
#[derive(clap::Args)]
pub struct MachineArgs {
    /// Thread counts, each measured alone.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    pub threads: Vec<usize>,
}

/// Options of `train`.
#[derive(clap::Args)]
pub struct TrainArgs {
    /// Which model.
    #[arg(long, value_enum, default_value_t = Shape::M15)]
    pub model: Shape,
    /// Sequences of a step.
    #[arg(long, default_value_t = 8)]
    pub sequences: usize,
    /// Tokens of a sequence.
    #[arg(long, default_value_t = 256)]
    pub len: usize,
    /// Forward and backward passes that the sequences are cut into before the optimiser's step.
    #[arg(long, default_value_t = 1)]
    pub passes: usize,
    /// What every case takes.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `trees`.
#[derive(clap::Args)]
pub struct TreesArgs {
    /// Which model.
    #[arg(long, value_enum, default_value_t = Shape::M15)]
    pub model: Shape,
    /// A file `trees/step-*.jsonl` of a run. Its token ids are folded into the model's vocabulary.
    #[arg(long)]
    pub trees: PathBuf,
    /// Trees of a step, from the file's first on.
    #[arg(long, default_value_t = 1)]
    pub n_trees: usize,
    /// Every trajectory as a sequence of its own.
    #[arg(long)]
    pub unrolled: bool,
    /// What every case takes.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `decode`.
#[derive(clap::Args)]
pub struct DecodeArgs {
    /// Which model.
    #[arg(long, value_enum, default_value_t = Shape::M15)]
    pub model: Shape,
    /// Live paths.
    #[arg(long, default_value_t = 1)]
    pub paths: usize,
    /// Tokens of the prompt that they share, which is read before the clock starts.
    #[arg(long, default_value_t = 128)]
    pub prompt: usize,
    /// Tokens sampled on each path.
    #[arg(long, default_value_t = 64)]
    pub tokens: usize,
    /// What every case takes.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `prefill`.
#[derive(clap::Args)]
pub struct PrefillArgs {
    /// Which model.
    #[arg(long, value_enum, default_value_t = Shape::M15)]
    pub model: Shape,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 512)]
    pub tokens: usize,
    /// What every case takes.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `scale`.
#[derive(clap::Args)]
pub struct ScaleArgs {
    /// Which model.
    #[arg(long, value_enum, default_value_t = Shape::M15)]
    pub model: Shape,
    /// Tokens of the tree, or of the trajectory.
    #[arg(long, default_value_t = 1024)]
    pub tokens: usize,
    /// One trajectory instead of a tree of 16 leaves.
    #[arg(long)]
    pub linear: bool,
    /// Keeps only the input of each block and computes blocks again in the backward pass.
    #[arg(long)]
    pub recompute: bool,
    /// What every case takes.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `controller`.
#[derive(clap::Args)]
pub struct ControllerArgs {
    /// Trajectories of a step, each number measured alone; somewhat more than half of them are open at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 18_000])]
    pub paths: Vec<usize>,
    /// Leaves of each tree.
    #[arg(long, default_value_t = 8)]
    pub k: usize,
    /// Rounds measured, of which the median is told.
    #[arg(long, default_value_t = 5)]
    pub median_of: usize,
}

/// Options of `step`.
#[derive(clap::Args)]
pub struct StepArgs {
    /// Whose step.
    #[arg(long, value_enum, default_value_t = Recipe::Quickstart)]
    pub recipe: Recipe,
    /// Questions of a step, instead of the recipe's number.
    #[arg(long)]
    pub tasks: Option<usize>,
    /// Optimiser steps of a step, instead of the recipe's number.
    #[arg(long)]
    pub minibatches: Option<usize>,
    /// What every case takes.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `simulate`.
#[derive(clap::Args)]
pub struct SimulateArgs {
    /// What is asked.
    #[arg(value_enum)]
    pub table: Table,
    /// Everything is drawn with this; the same lines come out each time.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A picture of the table is written here too, as SVG.
    #[arg(long)]
    pub figure: Option<PathBuf>,
}

/// Options of `weights`.
#[derive(clap::Args)]
pub struct WeightsArgs {
    /// Which model.
    #[arg(value_enum)]
    pub model: Shape,
    /// The directory, which is made.
    pub dir: PathBuf,
    /// Seed of the weights.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}
