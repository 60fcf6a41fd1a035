//! How good is a policy? The training prompts, tools, trees and scorers, without forks and without learning.

pub mod agent;
pub mod answer;
pub mod interval;
pub mod measure;
pub mod paired;
pub mod paper;
pub mod pass;
pub mod quantiles;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::data::task::Task;
use crate::eval::interval::bootstrap;
use crate::policy::{PolicyVersion, Sampler};
use crate::prompt::Renderer;
use crate::record::reasons;
use crate::rollout::drive::{DriveSettings, Reasons, RolloutError};
use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::RolloutTree;
use crate::run::{Event, Stage, rollout, rollout_from, score_trees};
use crate::score::Score;
use crate::seed::Seed;
use crate::tool::Toolset;
use crate::train::advantage::mean_std;

/// How to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalPlan {
    /// Independent samples from the root.
    pub drive: DriveSettings,
    /// The same seed draws the same numbers whatever the weights, so two evaluations differ by the weights.
    pub seed: Seed,
    /// Resamples of the questions behind the interval.
    pub n_bootstrap: usize,
}

impl EvalPlan {
    /// As the recipe says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        const EVAL: u64 = 4;
        let seed = Seed(config.train.seed).child(EVAL);
        EvalPlan { drive: config.eval_drive_settings(), seed, n_bootstrap: 2000 }
    }
}

/// What was measured. Answers of trajectories that a failing tool spoilt are left out; a question without any other
/// is, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// The weights.
    pub version: PolicyVersion,
    /// Questions measured.
    pub n_questions: usize,
    /// Answers per question.
    pub samples: usize,
    /// Answers left out because a tool failed.
    pub n_unavailable: usize,
    /// Why tools were unavailable; absent where all were there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub unavailable: Reasons,
    /// Share of answers that are right (accuracy 1): mean over questions of the mean over a question's answers.
    pub pass_at_1: f64,
    /// 95 % bootstrap interval of `pass_at_1` over questions.
    pub pass_at_1_interval: [f64; 2],
    /// Share of questions with at least one right answer.
    pub pass_at_samples: f64,
    /// Mean accuracy, partial credit included.
    pub accuracy: f64,
    /// Mean reward.
    pub reward: f64,
    /// Share of answers that kept the protocol.
    pub format_rate: f64,
    /// Tool calls per answer.
    pub calls_per_answer: f64,
    /// Sampled tokens per answer.
    pub tokens_per_answer: f64,
    /// By kind of question.
    pub kinds: BTreeMap<String, KindReport>,
    /// Answers by the way they ended.
    pub stops: BTreeMap<String, usize>,
}

/// What was measured of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindReport {
    /// Questions measured.
    pub n_questions: usize,
    /// Share of right answers.
    pub pass_at_1: f64,
    /// Tool calls per answer.
    pub calls_per_answer: f64,
}

/// One answer, reduced to what is reported.
struct Answer {
    score: Score,
    n_calls: f64,
    n_sampled: f64,
}

impl Answer {
    fn right(&self) -> f64 {
        f64::from(u8::from(self.score.accuracy >= 1.0))
    }
}

/// Measures a policy on `tasks`.
///
/// # Errors
/// When the policy fails, the toolset breaks its protocol, or tools are unavailable to every answer.
pub fn evaluate(
    policy: &mut dyn Sampler,
    tools: &mut dyn Toolset,
    renderer: &Renderer,
    tasks: &[Task],
    plan: &EvalPlan,
    on: &mut dyn FnMut(Event),
) -> Result<EvalReport, RolloutError> {
    let version = policy.version();
    let tasks: Vec<&Task> = tasks.iter().collect();
    on(Event::Stage(Stage::Rollout));
    let trees = rollout(policy, tools, renderer, &tasks, &plan.drive, plan.seed, on)?;
    on(Event::Stage(Stage::Score));
    let trees = score_trees(&tasks, trees);

    let mut stops = BTreeMap::new();
    let mut questions: Vec<(&str, Vec<Answer>)> = Vec::new();
    for (task, scored) in tasks.iter().zip(&trees) {
        let mut answers = Vec::new();
        for (t, score) in Trajectory::all(&scored.tree).iter().zip(&scored.scores) {
            *stops.entry(t.leaf.stop.name().to_owned()).or_insert(0) += 1;
            if t.counts() {
                let (n_calls, n_sampled) = (t.calls().count() as f64, t.n_sampled() as f64);
                answers.push(Answer { score: *score, n_calls, n_sampled });
            }
        }
        if !answers.is_empty() {
            questions.push((&task.kind, answers));
        }
    }
    let n_answers: usize = questions.iter().map(|(_, a)| a.len()).sum();
    if n_answers == 0 && !tasks.is_empty() {
        return Err(RolloutError::NothingMeasured { n: tasks.len() * plan.drive.k, reasons: reasons(&trees) });
    }
    let by_question = |f: &dyn Fn(&Answer) -> f64| per_question(questions.iter().map(|(_, a)| a), f);
    let mean = |f: &dyn Fn(&Answer) -> f64| mean_std(by_question(f).into_iter()).0;
    let rights = by_question(&Answer::right);
    let mut kinds = BTreeMap::new();
    for kind in questions.iter().map(|(kind, _)| *kind) {
        let of_kind = || questions.iter().filter(|(k, _)| *k == kind).map(|(_, a)| a);
        let mean = |f: &dyn Fn(&Answer) -> f64| mean_std(per_question(of_kind(), f).into_iter()).0;
        kinds.entry(kind.to_owned()).or_insert_with(|| KindReport {
            n_questions: of_kind().count(),
            pass_at_1: mean(&Answer::right),
            calls_per_answer: mean(&|a| a.n_calls),
        });
    }
    Ok(EvalReport {
        version,
        n_questions: questions.len(),
        samples: plan.drive.k,
        n_unavailable: tasks.len() * plan.drive.k - n_answers,
        unavailable: reasons(&trees),
        pass_at_1: mean(&Answer::right),
        pass_at_1_interval: bootstrap(&rights, plan.n_bootstrap, plan.seed),
        pass_at_samples: mean_std(rights.iter().map(|&r| f64::from(u8::from(r > 0.0)))).0,
        accuracy: mean(&|a| a.score.accuracy),
        reward: mean(&|a| a.score.reward),
        format_rate: mean(&|a| f64::from(u8::from(a.score.format_ok))),
        calls_per_answer: mean(&|a| a.n_calls),
        tokens_per_answer: mean(&|a| a.n_sampled),
        kinds,
        stops,
    })
}

/// Samples answers to some questions of a benchmark, each from a seed of its own: what is sampled depends neither on the
/// other questions nor on how many there are, so an evaluation can be cut between any two of them.
///
/// # Errors
/// When the policy fails, a prompt does not fit, or the toolset breaks its protocol.
pub fn sample(
    policy: &mut dyn Sampler,
    tools: &mut dyn Toolset,
    renderer: &Renderer,
    asked: &[(&Task, Seed)],
    settings: &DriveSettings,
    on: &mut dyn FnMut(Event),
) -> Result<Vec<RolloutTree>, RolloutError> {
    let (tasks, seeds): (Vec<&Task>, Vec<Seed>) = asked.iter().copied().unzip();
    rollout_from(policy, tools, renderer, &tasks, settings, &seeds, on)
}

fn per_question<'a>(questions: impl Iterator<Item = &'a Vec<Answer>>, f: &dyn Fn(&Answer) -> f64) -> Vec<f64> {
    questions.map(|answers| mean_std(answers.iter().map(f)).0).collect()
}
