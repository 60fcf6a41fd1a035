//! How do other programs use these tools over HTTP?

use std::time::Duration;

use aepo_tools::serve::{Server, run_code};
use aepo_tools::{Executor, PythonSettings};
use anyhow::Context as _;

use crate::error::usage;
use crate::interrupt;
use crate::machine::n_cores;
use crate::progress::print;

#[derive(Debug, clap::Args)]
pub struct ToolServeArgs {
    /// Offer the sandbox as SandboxFusion does: POST /run_code
    #[arg(long)]
    pub sandbox: bool,
    /// Address and port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Requests worked on at once, 0 for every core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub workers: usize,
}

/// How often a signal is looked for.
const TICK: Duration = Duration::from_millis(100);

/// Serves until it is interrupted.
pub fn serve(args: &ToolServeArgs) -> anyhow::Result<()> {
    if !args.sandbox {
        return Err(usage("nothing to serve", "--sandbox offers POST /run_code"));
    }
    let address = args
        .listen
        .parse()
        .map_err(|e| usage(format!("--listen {}: {e}", args.listen), "write HOST:PORT, in numbers"))?;
    let n_workers = if args.workers == 0 { n_cores() } else { args.workers };
    let executor = Executor::start(&PythonSettings::default(), n_workers, None)?;
    let level = executor.level().name();
    interrupt::install()?;
    let server = Server::start(address, run_code::routes(executor, n_workers)).context("serving")?;
    let address = server.address;
    print(&format!("http://{address}/run_code: programs in a sandbox of level {level}, {n_workers} at once\n"))?;
    while !interrupt::asked() {
        if server.has_ended() {
            anyhow::bail!("the server on {address} has ended");
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}
