//! How is one tool used by hand, or offered to other programs?

mod python;
mod serve;
mod session;

use crate::args::ToolCommand;

/// Does what was asked for.
pub fn tool(command: &ToolCommand) -> anyhow::Result<()> {
    match command {
        ToolCommand::Python(args) => python::python(args),
        ToolCommand::Serve(args) => serve::serve(args),
    }
}
