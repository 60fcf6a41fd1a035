//! How is one tool used by itself, as an agent would, or offered to other programs?

mod mcp;
pub mod python;
pub mod search;
pub mod serve;
mod session;
mod visit;

use crate::args::ToolCommand;

/// Runs the tool that was asked for.
pub fn tool(command: &ToolCommand) -> anyhow::Result<()> {
    match command {
        ToolCommand::Search(args) => search::search(args),
        ToolCommand::Mcp(args) => mcp::mcp(args),
        ToolCommand::Python(args) => python::python(args),
        ToolCommand::Serve(args) => serve::serve(args),
        ToolCommand::Visit(args) => visit::visit(args),
    }
}
