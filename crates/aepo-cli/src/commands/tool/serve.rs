//! How do other programs use these tools? Over HTTP, until somebody asks to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aepo_tools::search::disk::DiskIndex;
use aepo_tools::serve::{Gate, ServeError, Server, retrieve, routes, run_code};
use aepo_tools::{Executor, PythonSettings};

use crate::error::usage;
use crate::interrupt;
use crate::machine::n_cores;
use crate::progress::print;

#[derive(Debug, clap::Args)]
pub struct ToolServeArgs {
    /// Directory of an index, offered as POST /retrieve
    #[arg(long, value_name = "DIR", required_unless_present = "sandbox")]
    pub index: Option<PathBuf>,
    /// Documents per query where a request does not say
    #[arg(long, value_name = "N", default_value_t = 3, requires = "index")]
    pub topk: usize,
    /// Offer the sandbox as SandboxFusion does: POST /run_code
    #[arg(long)]
    pub sandbox: bool,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub listen: String,
    /// Requests that are worked on at once [default: one per core]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
}

pub fn serve(args: &ToolServeArgs) -> anyhow::Result<()> {
    let n_workers = args.workers.unwrap_or_else(n_cores);
    if args.topk == 0 || n_workers == 0 {
        return Err(usage("--topk and --workers must be at least 1", ""));
    }
    let gate = Gate::new(n_workers);
    let mut offered = routes();
    let mut lines = Vec::new();
    if let Some(directory) = &args.index {
        let index = Arc::new(DiskIndex::open(directory)?);
        lines.push(format!("POST /retrieve: {} documents of {}", index.manifest().n_rows, directory.display()));
        offered = offered.merge(retrieve::route(index, gate.clone(), args.topk));
    }
    if args.sandbox {
        let executor = Executor::start(&PythonSettings::default(), n_workers, None)?;
        lines.push(format!("POST /run_code: programs in a sandbox of level {}", executor.level().name()));
        offered = offered.merge(run_code::route(executor, gate));
    }
    interrupt::install()?;
    let server = Server::start(&args.listen, offered).map_err(|e| match e {
        ServeError::Address { .. } => usage(format!("--listen: {e}"), ""),
        e => e.into(),
    })?;
    print(&format!("http://{}\n{}\n", server.address, lines.join("\n")))?;
    while !interrupt::asked() && !server.has_ended() {
        // Nothing happens here; the server has threads of its own.
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
