//! What keeps the tools of MCP servers from being offered? Trouble inside a call is an outcome, never one of these.

use std::path::PathBuf;

/// Why the servers of a file are not at work.
#[derive(Debug, thiserror::Error)]
pub enum McpError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file of servers.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file of servers.
        path: PathBuf,
        /// Which key is wrong, and what it should be.
        reason: String,
    },
    /// A server did not start, or did not say which tools it has.
    #[error("the MCP server {server} did not start: {reason}")]
    Start {
        /// Its name in the file.
        server: String,
        /// What it did instead, with its last words on standard error.
        reason: String,
    },
    /// A server offers something that cannot be shown to a model.
    #[error("the tool {tool} of the MCP server {server} cannot be offered: {reason}")]
    Tool {
        /// The server's name in the file.
        server: String,
        /// The tool's name at the server.
        tool: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two tools have the same name once it is written with the characters that every dialect of tool calls can take.
    #[error("{first} and {second} would both be offered as {name}: rename one of the servers in the file")]
    SameName {
        /// The name both would have.
        name: String,
        /// Server and tool.
        first: String,
        /// Server and tool.
        second: String,
    },
    /// A tool was asked for that no server has.
    #[error("no MCP server has the tool {name}; there are: {there}")]
    NoSuchTool {
        /// What was asked for.
        name: String,
        /// The names of all tools.
        there: String,
    },
    /// A limit that nothing can keep.
    #[error("{name} = {value}: {rule}")]
    Setting {
        /// The field of `McpSettings`.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The operating system refused something ordinary.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}
