//! What is written down of a step? Numbers that repeat bit for bit under the same seed, and apart from them the times.

mod step;
mod timing;
mod tree;

pub use step::{DecisionCounts, StepFacts, StepRecord, UpdateRecord, reasons, step_record, tool_secs, update_record};
pub use timing::{Stage, Timings};
pub use tree::{CallLine, LeafRecord, NodeRecord, TreeRecord, tree_record};
