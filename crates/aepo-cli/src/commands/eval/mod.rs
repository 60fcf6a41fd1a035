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

use crate::error::usage;

/// Measures a model, or compares what was measured.
pub fn eval(args: &EvalArgs) -> anyhow::Result<()> {
    let b = &args.benchmarks;
    let is_benchmark =
        !b.benchmark.is_empty() || b.data.is_some() || b.reproduce.is_some() || args.server.server.is_some();
    match (&args.command, &args.model) {
        (Some(EvalCommand::Compare(args)), _) => compare::compare(args),
        (None, Some(model)) if !is_benchmark => {
            let is_set = [
                ("--samples", b.samples.is_some()),
                ("--k", !b.k.is_empty()),
                ("--limit", b.limit.is_some()),
                ("--out", b.out.is_some()),
                ("--resume", b.resume),
                ("--judge", args.judge.url.is_some()),
            ];
            match is_set.iter().find(|(_, is_set)| *is_set) {
                None => held_out::eval(model, args),
                Some((name, _)) => {
                    let hint = "name benchmarks with --benchmark, or a file of questions with --data; the questions of a \
                                recipe are measured by its own eval.samples and eval.n_tasks";
                    Err(usage(format!("{name} is for benchmarks, and none is named"), hint))
                }
            }
        }
        (None, model) => run::run(model.as_deref(), args),
    }
}
