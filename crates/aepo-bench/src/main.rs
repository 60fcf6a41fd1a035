//! The `aepo-bench` binary: which case was asked for? One JSON line per case and model, on standard output.
//!
//! `cargo run --release -p aepo-bench -- CASE [options]`

mod agent;
mod args;
mod cases;
mod flops;
mod limits;
mod memory;
mod peaks;
mod rounds;
mod row;
mod script;
mod shapes;
mod simulate;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Case};

fn main() -> ExitCode {
    let done = match Args::parse().case {
        Case::Machine(args) => cases::machine::machine(&args),
        Case::Train(args) => cases::train::train(&args),
        Case::Trees(args) => cases::trees::trees(&args),
        Case::Decode(args) => cases::decode::decode(&args),
        Case::Prefill(args) => cases::prefill::prefill(&args),
        Case::Scale(args) => cases::scale::scale(&args),
        Case::Controller(args) => cases::controller::controller(&args),
        Case::Step(args) => cases::step::step(&args),
        Case::Simulate(args) => cases::simulate::simulate(&args),
        Case::Weights(args) => cases::weights::weights(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
