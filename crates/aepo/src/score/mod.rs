//! What was a trajectory worth?

pub mod choice;
pub mod format;
pub mod gaia;
pub mod grade;
pub mod math;
pub mod qa;
pub mod reward;
pub mod solution;
pub mod text;

pub use grade::{Verdict, grade};
pub use reward::{overlong_punishment, score};

/// What the scorers need to know of a finished trajectory. All of it comes from model-written tokens and from the
/// supervisor's own knowledge of its tool calls, never from tool text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// The boxed answer, when the trajectory ended with one.
    pub answer: Option<String>,
    /// Every turn followed the protocol and the last one answered.
    pub well_formed: bool,
    /// At least one Python call ran to its end.
    pub python_ran: bool,
    /// At least one search call returned.
    pub search_ran: bool,
}

/// The verdict on one trajectory.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Score {
    /// What the algorithms maximise.
    pub reward: f64,
    /// In [0, 1]; the evaluation's measure.
    pub accuracy: f64,
    /// Whether the protocol was kept.
    pub format_ok: bool,
}
