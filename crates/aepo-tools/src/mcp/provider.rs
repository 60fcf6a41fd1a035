//! How do the tools of servers stand behind the workers of a run? Every worker has a client; the servers end first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aepo::tool::{ToolCall, ToolInput, ToolName, ToolSpec};

use super::error::McpError;
use super::{Mcp, McpClient};
use crate::toolset::provider::{Answer, Limits, Offer, Provider};

/// How long before a worker's deadline a server must have answered, so that what came of the call is still heard.
const MARGIN: Duration = Duration::from_millis(100);

/// The tools of all servers as one provider. The number of workers bounds the calls under way at all servers together.
///
/// # Errors
/// When a tool has a name that a model cannot call.
pub fn offer(mcp: Mcp, limits: Limits) -> Result<Offer, McpError> {
    let spec = |tool: &super::McpTool| {
        let name = ToolName::new(&tool.name).map_err(|e| McpError::Tool {
            server: tool.server.clone(),
            tool: tool.remote.clone(),
            reason: e.to_string(),
        })?;
        let input = ToolInput::Arguments(tool.schema.clone());
        Ok(ToolSpec { name, description: tool.description.clone(), input })
    };
    let specs: Arc<[ToolSpec]> = mcp.tools().map(spec).collect::<Result<_, McpError>>()?;
    let client = mcp.client();
    let make = move || {
        let provider: Box<dyn Provider> = Box::new(McpProvider { client: client.clone(), specs: Arc::clone(&specs) });
        Ok(provider)
    };
    Ok(Offer { make: Arc::new(make), limits, until: Some(Box::new(mcp)) })
}

/// What one worker holds. What a tool answers follows from the world: nothing is said of its basis here.
struct McpProvider {
    client: McpClient,
    specs: Arc<[ToolSpec]>,
}

impl Provider for McpProvider {
    fn specs(&self) -> &[ToolSpec] {
        &self.specs
    }

    fn identity(&self) -> String {
        self.client.identity()
    }

    fn call(&mut self, call: &ToolCall, deadline: Instant) -> Answer {
        self.client.call(call.tool.as_str(), &call.input, deadline.checked_sub(MARGIN).unwrap_or(deadline))
    }
}
