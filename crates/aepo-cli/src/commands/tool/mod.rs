//! What does one tool say, by itself? A command per kind of tool.

pub mod search;
pub mod serve;

use crate::args::ToolCommand;

/// Runs the tool that was asked for.
pub fn tool(command: &ToolCommand) -> anyhow::Result<()> {
    match command {
        ToolCommand::Search(args) => search::search(args),
        ToolCommand::Serve(args) => serve::serve(args),
    }
}
