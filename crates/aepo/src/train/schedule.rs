//! What is the learning rate of a step? A pure function of its number.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It does not.
    Constant,
    /// Along a line to 0 at the end.
    Linear,
    /// Along half a cosine to 0 at the end.
    Cosine,
}

/// The learning rate of step `step` (from 0) out of `n_steps`: `peak · (step + 1) / warmup_steps` during the warm-up,
/// so that no step is wasted at 0, then the schedule over the remaining steps.
#[must_use]
pub fn learning_rate(schedule: Schedule, peak: f64, step: u64, n_steps: u64, warmup_steps: u64) -> f64 {
    if step < warmup_steps {
        return peak * (step + 1) as f64 / warmup_steps as f64;
    }
    let left = n_steps.saturating_sub(warmup_steps).max(1);
    let done = ((step - warmup_steps) as f64 / left as f64).min(1.0);
    match schedule {
        Schedule::Constant => peak,
        Schedule::Linear => peak * (1.0 - done),
        Schedule::Cosine => peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_values() {
        let at = |s, step| learning_rate(s, 2.0, step, 10, 2);
        assert_eq!([at(Schedule::Constant, 0), at(Schedule::Constant, 1), at(Schedule::Constant, 9)], [1.0, 2.0, 2.0]);
        assert_eq!([at(Schedule::Linear, 2), at(Schedule::Linear, 6), at(Schedule::Linear, 10)], [2.0, 1.0, 0.0]);
        assert!((at(Schedule::Cosine, 6) - 1.0).abs() < 1e-12);
        assert!(at(Schedule::Cosine, 9) > 0.0);
        assert_eq!(at(Schedule::Linear, 99), 0.0);
    }
}
