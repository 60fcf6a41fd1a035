//! Which tools do the MCP servers of a file have, and what does one of them answer?

use std::time::{Duration, Instant};

use aepo_tools::mcp::{Mcp, McpError, McpFile, McpSettings};
use serde_json::json;

use crate::args::ToolMcpArgs;
use crate::error::usage;
use crate::progress::print;

/// Lists the tools, or calls one.
pub fn mcp(args: &ToolMcpArgs) -> anyhow::Result<()> {
    if !(args.timeout_secs > 0.0 && args.timeout_secs <= 86_400.0) {
        return Err(usage("--timeout-secs must be more than 0 and at most 86400", ""));
    }
    let hint = "`aepo tool mcp --help` shows what such a file looks like";
    let file = McpFile::read(&args.file).map_err(|e| usage(e.to_string(), hint))?;
    let settings = McpSettings { start_secs: args.start_secs, ..McpSettings::default() };
    let mcp = Mcp::start(&file, settings).map_err(|error| match error {
        McpError::Setting { .. } => usage(error.to_string(), ""),
        other => other.into(),
    })?;
    if let Some(name) = &args.call {
        return call(&mcp, name, args);
    }
    if args.json {
        let tools: Vec<_> = mcp
            .tools()
            .map(|tool| json!({"name": tool.name, "server": tool.server, "description": tool.description, "input": tool.schema}))
            .collect();
        return print(&format!("{:#}\n", json!({"fingerprint": mcp.fingerprint(), "tools": tools})));
    }
    let mut text = String::new();
    for (name, plan) in &file.servers {
        text.push_str(&format!("{name}: {}\n", plan.address()));
        for tool in mcp.tools().filter(|tool| tool.server == *name) {
            // A server's words could move the cursor of a terminal.
            let line = tool.description.lines().next().unwrap_or_default();
            let about: String = line.chars().filter(|c| !c.is_control()).collect();
            text.push_str(&format!("  {}  {about}\n", tool.name));
        }
    }
    print(&format!("{text}fingerprint {}\n", mcp.fingerprint()))
}

fn call(mcp: &Mcp, name: &str, args: &ToolMcpArgs) -> anyhow::Result<()> {
    if mcp.tools().all(|tool| tool.name != name) {
        let there: Vec<&str> = mcp.tools().map(|tool| tool.name.as_str()).collect();
        return Err(usage(format!("no server has the tool {name}"), &format!("there are {}", there.join(", "))));
    }
    let began = Instant::now();
    let answer = mcp.client().call(name, &args.arguments, began + Duration::from_secs_f64(args.timeout_secs));
    let wall_secs = began.elapsed().as_secs_f64();
    print(&format!("{}\n", json!({"outcome": answer.outcome, "text": answer.text, "wall_secs": wall_secs})))
}
