//! Where does the model act? A caged Python interpreter and a search index, behind [`aepo::tool::Toolset`]. And where
//! does it come from? [`hub`] fetches published ones.
//!
//! This is the only crate that opens processes and sockets. It prints nothing: what happened is in a value.

pub mod cache;
pub mod error;
pub mod fusion;
pub mod http;
pub mod hub;
pub mod judge;
pub mod llm;
pub mod mcp;
pub mod pages;
pub mod probe;
pub mod python;
pub mod rows;
pub mod search;
pub mod serve;
pub mod toolset;

pub use error::ToolsError;
pub use mcp::{Mcp, McpFile, McpSettings};
pub use python::{Executor, PythonSettings};
pub use search::{Document, SearchIndex, SearchSettings};
pub use toolset::{Tools, ToolsSettings};
