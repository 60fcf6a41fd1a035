//! What are the machine's limits, for each number of threads?

use serde::Serialize;

use crate::args::MachineArgs;
use crate::limits::Limits;
use crate::rounds::print;
use crate::row::{COMMIT, machine as describe};

#[derive(Serialize)]
struct MachineRow {
    case: &'static str,
    #[serde(flatten)]
    limits: Limits,
    commit: &'static str,
    machine: String,
}

/// `aepo-bench machine`
pub fn machine(args: &MachineArgs) -> anyhow::Result<()> {
    for &threads in &args.threads {
        let limits = Limits::measure(threads);
        print(&MachineRow { case: "machine", limits, commit: COMMIT, machine: describe() })?;
    }
    Ok(())
}
