//! How good is a model? On the questions of its recipe, as a run measures it, or on benchmarks.

pub mod args;
mod compare;
mod embedded;
mod held_out;
mod judged;
mod plan;
mod report;
mod run;
mod served;
mod sets;
mod store;

pub use held_out::{answers_left_out, before_after, run_recipe, split};

use args::{EvalArgs, EvalCommand};

/// Measures a model, or compares what was measured.
pub fn eval(args: &EvalArgs) -> anyhow::Result<()> {
    match (&args.command, &args.model, &args.benchmarks.data) {
        (Some(EvalCommand::Compare(args)), ..) => compare::compare(args),
        (None, Some(model), None) => held_out::eval(model, args),
        // Every option of benchmarks and servers asks for the data.
        (None, model, data) => run::run(model.as_deref(), data.as_deref(), args),
    }
}
