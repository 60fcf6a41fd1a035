//! How long did the parts of a step take? The binary holds the clock; this adds up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tool::ToolName;

/// A stage of a step, for whoever takes times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Policy and tools grow trees.
    Rollout,
    /// Rewards, advantages and records.
    Score,
    /// Scoring under the weights at the start of the step.
    OldLogprobs,
    /// Scoring under the reference policy.
    RefLogprobs,
    /// Forward, loss, backward, optimiser.
    Optimise,
}

/// Seconds per stage and per tool of one step; the row's part that does not repeat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// By stage.
    pub stage_secs: BTreeMap<Stage, f64>,
    /// By tool, summed over calls, which overlap.
    pub tool_secs: BTreeMap<ToolName, f64>,
    #[serde(skip)]
    current: Option<(Stage, f64)>,
}

impl Timings {
    /// A stage begins at `now_secs` of any clock; the one before it ends.
    pub fn begin(&mut self, stage: Stage, now_secs: f64) {
        self.end(now_secs);
        self.current = Some((stage, now_secs));
    }

    /// The last stage ends.
    pub fn end(&mut self, now_secs: f64) {
        if let Some((stage, since)) = self.current.take() {
            *self.stage_secs.entry(stage).or_insert(0.0) += now_secs - since;
        }
    }

    /// Seconds of all stages.
    #[must_use]
    pub fn total_secs(&self) -> f64 {
        self.stage_secs.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_come_twice_add_up() {
        use Stage;
        let mut t = Timings::default();
        t.begin(Stage::Rollout, 1.0);
        t.begin(Stage::Score, 3.0);
        t.begin(Stage::Rollout, 3.5);
        t.end(4.0);
        assert_eq!(t.stage_secs, [(Stage::Rollout, 2.5), (Stage::Score, 0.5)].into());
        assert_eq!(t.total_secs(), 3.0);
    }
}
