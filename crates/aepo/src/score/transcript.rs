//! What do the scorers get to know of a trajectory? What the model wrote and what the supervisor saw, no tool text.

use super::Transcript;
use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::StopReason;
use crate::tool::{Tool, ToolOutcome};

/// Reads it off a trajectory. A path goes on only after a well-formed turn, so one that ended with an answer kept the
/// protocol throughout; only a call that ran to its end counts as made.
#[must_use]
pub fn transcript(trajectory: &Trajectory<'_>) -> Transcript {
    let ran = |tool: Tool| trajectory.calls().any(|c| c.tool == tool && c.outcome == ToolOutcome::Ok);
    let answer = match &trajectory.leaf.stop {
        StopReason::Answered(answer) => Some(answer.clone()),
        _ => None,
    };
    Transcript { well_formed: answer.is_some(), answer, python_ran: ran(Tool::Python), search_ran: ran(Tool::Search) }
}
