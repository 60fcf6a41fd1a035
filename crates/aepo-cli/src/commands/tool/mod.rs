//! What does one tool say, by itself? A command per kind of tool.

mod mcp;
pub mod search;
pub mod serve;
mod visit;

use crate::args::ToolCommand;

/// Runs the tool that was asked for.
pub fn tool(command: &ToolCommand) -> anyhow::Result<()> {
    match command {
        ToolCommand::Search(args) => search::search(args),
        ToolCommand::Serve(args) => serve::serve(args),
        ToolCommand::Mcp(args) => mcp::mcp(args),
        ToolCommand::Visit(args) => visit::visit(args),
    }
}
