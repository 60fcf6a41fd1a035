//! What is kept of one answer? The same for the engine inside and for a served model; what it is worth is decided later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::boxed::last_boxed;
use crate::policy::SampledToken;
use crate::prompt::Renderer;
use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::{NodeKind, StopReason};
use crate::tool::ToolName;

/// One finished answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// Set of questions.
    pub benchmark: String,
    /// The question, by its id within the set.
    pub id: String,
    /// Which of the question's answers, from 0.
    pub sample: usize,
    /// Every draw of it followed from this; a served model may not have taken it.
    pub seed: u64,
    /// Why it ended: a name of [`StopReason`], or [`SERVER_UNAVAILABLE`].
    pub stop: String,
    /// The answer, where there is one.
    pub answer: Option<String>,
    /// Whether every turn kept the protocol and the last one answered.
    pub format_ok: bool,
    /// Tool calls by tool.
    pub calls: BTreeMap<ToolName, usize>,
    /// Tokens the model read, over all its turns; `None` where the server does not count.
    pub n_prompt_tokens: Option<u64>,
    /// Tokens the model sampled; `None` where the server does not count.
    pub n_sampled_tokens: Option<u64>,
    /// Wall time, seconds; of the engine inside, which samples many at once, its share of theirs.
    pub secs: f64,
    /// Why it was not measured, where a tool or the server failed.
    pub error: Option<String>,
    /// Everything behind the question, results of tools included.
    pub text: String,
}

/// How an answer ended whose server could not be asked. It is left out of every figure, and asked for again when the
/// evaluation goes on.
pub const SERVER_UNAVAILABLE: &str = "server-unavailable";

impl AnswerRecord {
    /// One that ended before anything was asked.
    #[must_use]
    pub fn without(name: &AnswerName<'_>, stop: &str) -> AnswerRecord {
        AnswerRecord {
            benchmark: name.benchmark.to_owned(),
            id: name.id.to_owned(),
            sample: name.sample,
            seed: name.seed,
            stop: stop.to_owned(),
            answer: None,
            format_ok: false,
            calls: BTreeMap::new(),
            n_prompt_tokens: Some(0),
            n_sampled_tokens: Some(0),
            secs: 0.0,
            error: None,
            text: String::new(),
        }
    }

    /// False when the tool or the server failed through no fault of the model.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.stop != SERVER_UNAVAILABLE && self.stop != StopReason::ToolUnavailable.name()
    }
}

/// The answer of a turn that ended by itself without the form that the protocol asks for: what stands in its last box,
/// behind its thoughts. A benchmark asks what a model knows; whether it kept the form is reported beside it.
#[must_use]
pub fn informal_answer(turn: &str) -> Option<String> {
    last_boxed(turn.rsplit_once("</think>").map_or(turn, |(_, said)| said))
}

/// A trajectory of the engine inside as an answer; `secs` is its share of the time.
#[must_use]
pub fn of_trajectory(t: &Trajectory<'_>, renderer: &Renderer, name: &AnswerName<'_>, secs: f64) -> AnswerRecord {
    let mut calls = BTreeMap::new();
    t.calls().for_each(|call| *calls.entry(call.tool.clone()).or_insert(0) += 1);
    let ids: Vec<u32> = t.kinds().skip(1).flat_map(NodeKind::ids).collect();
    let last_turn = || {
        let kind = t.kinds().filter(|kind| !kind.sampled().is_empty()).last()?;
        let ids: Vec<u32> = kind.sampled().iter().map(|token: &SampledToken| token.token).collect();
        informal_answer(&renderer.decode(&ids))
    };
    let (answer, format_ok) = match &t.leaf.stop {
        StopReason::Answered(answer) => (Some(answer.clone()), true),
        StopReason::Malformed(_) => (last_turn(), false),
        _ => (None, false),
    };
    let reason = t.calls().filter_map(|call| call.reason.as_ref().map(|why| format!("{}: {why}", call.tool))).last();
    AnswerRecord {
        benchmark: name.benchmark.to_owned(),
        id: name.id.to_owned(),
        sample: name.sample,
        seed: name.seed,
        stop: t.leaf.stop.name().to_owned(),
        answer,
        format_ok,
        calls,
        n_prompt_tokens: Some((t.n_tokens() - t.n_sampled()) as u64),
        n_sampled_tokens: Some(t.n_sampled() as u64),
        secs,
        error: reason.filter(|_| !t.counts()),
        text: renderer.decode(&ids),
    }
}

/// What tells an answer from all others of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerName<'a> {
    /// Set of questions.
    pub benchmark: &'a str,
    /// The question.
    pub id: &'a str,
    /// Which of its answers, from 0.
    pub sample: usize,
    /// Its seed.
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_counts_where_the_form_was_not_kept_but_no_thought_does() {
        let table = [
            ("It is \\boxed{5}.", Some("5")),
            ("<think>\\boxed{4}</think> so \\boxed{5}", Some("5")),
            ("<think>\\boxed{4}</think> so 5", None),
            ("5", None),
        ];
        for (turn, expected) in table {
            assert_eq!(informal_answer(turn).as_deref(), expected, "{turn}");
        }
    }
}
