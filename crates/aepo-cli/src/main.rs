//! The `aepo` binary: which command was asked for, and how did it end?

mod args;
mod assets;
mod benchmarks;
mod checkpoint;
mod commands;
mod error;
mod export;
mod interrupt;
mod machine;
mod progress;
mod recipe;
mod room;
mod row;
mod run_dir;
mod served;
mod source;
mod table;
mod toolbox;
mod trained;
mod world;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Train(args) => commands::train::train(&args),
        Command::Sft(args) => commands::sft::sft(&args),
        Command::Compare(args) => commands::compare::compare(&args),
        Command::Eval(args) => commands::eval::eval(&args),
        Command::Score(args) => commands::score::score(&args),
        Command::Serve(args) => commands::serve::serve(&args),
        Command::Rollout(args) => commands::rollout::rollout(&args),
        Command::Show(args) => commands::show::show(&args),
        Command::Check(args) => commands::check::check(&args),
        Command::Doctor(args) => commands::doctor::doctor(&args),
        Command::Tool(command) => commands::tool::tool(&command),
        Command::Data(command) => commands::data::data(&command),
        Command::Index(command) => commands::index::index(&command),
        Command::Algo(command) => commands::algo::algo(&command),
        Command::Cache(command) => commands::cache::cache(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
    }
}
