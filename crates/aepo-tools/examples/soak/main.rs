//! Does the sandbox stay as it is over ten thousand calls, one in twenty of them hostile?
//!
//! `cargo run --release -p aepo-tools --example soak [CALLS] [AT_ONCE] [BACKEND]` runs the calls twice, without and with
//! hostile ones, and prints what the process and the sandbox hold before, in the middle and after.

mod run;

use std::process::ExitCode;

use aepo_tools::python::{Backend, Executor, PythonSettings};

use run::{Figures, differences, soak};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let n_calls = args.next().map_or(10_000, |text| text.parse().expect("CALLS is a number"));
    let n_at_once = args.next().map_or(64, |text| text.parse().expect("AT_ONCE is a number"));
    let name = args.next().unwrap_or_else(|| "auto".to_owned());
    let backend = Backend::ALL.into_iter().find(|backend| backend.name() == name).expect("BACKEND is a backend's name");
    let settings = PythonSettings { backend, ..PythonSettings::default() };
    let executor = match Executor::start(&settings, n_at_once, None) {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{n_calls} calls, {n_at_once} at once, level {}", executor.level().name());
    let without = soak(&executor, n_calls, n_at_once, false);
    println!("without hostile calls: {:.1} s", without.wall_secs);
    let with = soak(&executor, n_calls, n_at_once, true);
    println!("with hostile calls: {:.1} s, they ended as {:?}", with.wall_secs, with.hostile);
    println!("largest overrun of a deadline: {:.3} s", with.worst_overrun_secs);
    println!("{:<28} {:>10} {:>10} {:>10}", "", "before", "middle", "after");
    let row = |name: &str, value: fn(&Figures) -> f64| {
        let [before, middle, after] = with.figures.each_ref().map(value);
        println!("{name:<28} {before:>10} {middle:>10} {after:>10}");
    };
    row("descriptors", |f| f.n_descriptors as f64);
    row("descriptors of helpers", |f| f.n_descriptors_below as f64);
    row("processes below", |f| f.n_processes as f64);
    row("mounts", |f| f.n_mounts as f64);
    row("mounts of helpers", |f| f.n_mounts_below as f64);
    row("temporary files", |f| f.n_temporary as f64);
    row("memory, MiB", |f| (f.memory_mb * 10.0).round() / 10.0);
    row("memory of helpers, MiB", |f| (f.memory_below_mb * 10.0).round() / 10.0);
    let differing = differences(&with, &without);
    println!("honest answers that differ between the runs: {}", differing.len());
    for i in differing.iter().take(5) {
        println!("  call {i}: {:?} without, {:?} with", without.honest[*i], with.honest[*i]);
    }
    if differing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
