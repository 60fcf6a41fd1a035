//! What was measured on a set of questions? Figures with intervals, from answers that were graded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::benchmark::Metric;
use crate::data::task::{Grader, Task};
use crate::eval::answer::AnswerRecord;
use crate::eval::interval::bootstrap;
use crate::eval::pass::{MAX_EXACT_SAMPLES, Votes, majority_at_k, pass_at_k};
use crate::score::{grade, qa};
use crate::seed::Seed;
use crate::tool::ToolName;

/// An answer and what it is worth.
#[derive(Clone, Copy, Debug)]
pub struct Graded<'a> {
    /// The answer.
    pub record: &'a AnswerRecord,
    /// What it is worth under the metric of the set, in [0, 1].
    pub worth: f64,
    /// Whether it is right, for Pass@k.
    pub is_right: bool,
}

/// A question with all its answers, those that count and those that do not.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// What was asked.
    pub task: &'a Task,
    /// In the order of the samples.
    pub answers: Vec<Graded<'a>>,
}

/// A mean over questions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The mean.
    pub value: f64,
    /// Its 95 % bootstrap interval.
    pub interval: [f64; 2],
    /// Questions it is a mean over.
    pub n_questions: usize,
}

/// What was measured on one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetSummary {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What is reported of it: "accuracy", "F1", "exact match" or "judge".
    pub metric: String,
    /// Questions in the file.
    pub n_rows: usize,
    /// Questions that were asked.
    pub n_asked: usize,
    /// Questions with an answer that counts.
    pub n_measured: usize,
    /// Answers that were asked for, per question.
    pub samples: usize,
    /// Answers that count.
    pub n_answers: usize,
    /// Answers that are missing: the evaluation ended before.
    pub n_missing: usize,
    /// Answers left out because a tool or the server failed, by what was said; at most ten different reasons.
    pub unavailable: BTreeMap<String, usize>,
    /// Mean score: of the answers of a question, then of questions.
    pub score: Figure,
    /// Share of questions that k answers solve, by k. Pass@1 is the mean over samples.
    pub pass: BTreeMap<usize, Figure>,
    /// Worth of the most frequent of k answers, by k.
    pub majority: BTreeMap<usize, Figure>,
    /// Share of answers that kept the protocol; `None` without answers.
    pub format_rate: Option<f64>,
    /// Tool calls per answer, by tool.
    pub calls: BTreeMap<ToolName, f64>,
    /// Sampled tokens per answer, of those whose tokens were counted.
    pub sampled_tokens: Option<f64>,
    /// Tokens read per answer, of those whose tokens were counted.
    pub prompt_tokens: Option<f64>,
    /// Wall time per answer, seconds; `None` without answers.
    pub secs: Option<f64>,
    /// Answers by the way they ended.
    pub stops: BTreeMap<String, usize>,
    /// By kind of question, where there are several.
    pub kinds: BTreeMap<String, Figure>,
}

/// What is to be measured of a set.
#[derive(Clone, Copy, Debug)]
pub struct SetPlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// What people call it.
    pub title: &'a str,
    /// What is reported of it.
    pub metric: Metric,
    /// Questions in the file.
    pub n_rows: usize,
    /// Answers per question.
    pub samples: usize,
    /// k of Pass@k and majority@k; 1 is always measured.
    pub ks: &'a [usize],
    /// Resamples behind each interval.
    pub n_resamples: usize,
    /// Decides which questions they draw.
    pub seed: Seed,
}

/// Reasons that are told apart.
const MAX_REASONS: usize = 10;

/// Grades an answer by its task's grader, and says why. It is right where it says what an accepted answer says; what it
/// is worth is its token F1 or exact match by definition where that is the metric of a set of texts, and else whether it
/// is right. No answer is worth nothing.
#[must_use]
pub fn graded<'a>(metric: Metric, task: &Task, record: &'a AnswerRecord) -> (Graded<'a>, String) {
    let Some(answer) = record.answer.as_deref() else {
        return (Graded { record, worth: 0.0, is_right: false }, "no answer".to_owned());
    };
    let verdict = grade(task.grader, answer, &task.answers);
    let worth = match (metric, task.grader) {
        (Metric::F1, Grader::Qa) => qa::best_f1(answer, &task.answers),
        (Metric::ExactMatch, Grader::Qa) => f64::from(u8::from(qa::any_exact_match(answer, &task.answers))),
        _ => f64::from(u8::from(verdict.exact)),
    };
    (Graded { record, worth, is_right: verdict.exact }, verdict.why)
}

/// What a judge said of an answer.
#[must_use]
pub fn judged(record: &AnswerRecord, is_right: bool) -> Graded<'_> {
    Graded { record, worth: f64::from(u8::from(is_right)), is_right }
}

/// Puts the answers of a set together.
#[must_use]
pub fn measure(plan: &SetPlan<'_>, questions: &[Question<'_>]) -> SetSummary {
    let counted: Vec<(&Task, Vec<Graded<'_>>)> = questions
        .iter()
        .map(|q| (q.task, q.answers.iter().copied().filter(|a| a.record.counts()).collect()))
        .filter(|(_, answers): &(_, Vec<_>)| !answers.is_empty())
        .collect();
    let answers: Vec<Graded<'_>> = counted.iter().flat_map(|(_, answers)| answers.iter().copied()).collect();
    let mean = |f: &dyn Fn(&Graded<'_>) -> f64| {
        (!answers.is_empty()).then(|| answers.iter().map(f).sum::<f64>() / answers.len() as f64)
    };
    let mean_known = |f: &dyn Fn(&AnswerRecord) -> Option<u64>| {
        let known: Vec<u64> = answers.iter().filter_map(|a| f(a.record)).collect();
        (!known.is_empty()).then(|| known.iter().map(|n| *n as f64).sum::<f64>() / known.len() as f64)
    };
    let figure = |values: &[f64]| Figure {
        // The sum of nothing is −0.
        value: values.iter().fold(0.0, |sum, v| sum + v) / values.len().max(1) as f64,
        interval: bootstrap(values, plan.n_resamples, plan.seed),
        n_questions: values.len(),
    };
    let of_question = |answers: &[Graded<'_>]| answers.iter().map(|a| a.worth).sum::<f64>() / answers.len() as f64;
    let scores: Vec<f64> = counted.iter().map(|(_, answers)| of_question(answers)).collect();

    let (mut stops, mut calls, mut unavailable) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut kinds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for ((task, _), score) in counted.iter().zip(&scores) {
        kinds.entry(&task.kind).or_default().push(*score);
    }
    for answer in questions.iter().flat_map(|q| &q.answers) {
        *stops.entry(answer.record.stop.clone()).or_insert(0) += 1;
        if !answer.record.counts() {
            let why = answer.record.error.as_deref().unwrap_or("no reason given");
            let room = unavailable.len() < MAX_REASONS || unavailable.contains_key(why);
            *unavailable.entry(if room { why } else { "other reasons" }.to_owned()).or_insert(0) += 1;
        }
    }
    for answer in &answers {
        for (tool, n) in &answer.record.calls {
            *calls.entry(tool.clone()).or_insert(0) += *n;
        }
    }
    let ks = || std::iter::once(1).chain(plan.ks.iter().copied()).filter(|k| *k >= 1 && *k <= plan.samples);
    let over = |f: &dyn Fn(&Task, &[Graded<'_>]) -> Option<f64>| {
        figure(&counted.iter().filter_map(|(task, answers)| f(task, answers)).collect::<Vec<f64>>())
    };
    let n_right = |answers: &[Graded<'_>]| answers.iter().filter(|a| a.is_right).count();
    let n_given: usize = questions.iter().map(|q| q.answers.len()).sum();
    SetSummary {
        name: plan.name.to_owned(),
        title: plan.title.to_owned(),
        metric: plan.metric.name().to_owned(),
        n_rows: plan.n_rows,
        n_asked: questions.len(),
        n_measured: counted.len(),
        samples: plan.samples,
        n_answers: answers.len(),
        n_missing: (questions.len() * plan.samples).saturating_sub(n_given),
        unavailable,
        score: figure(&scores),
        pass: ks().map(|k| (k, over(&|_, answers| pass_at_k(answers.len(), n_right(answers), k)))).collect(),
        majority: ks().map(|k| (k, over(&|task, answers| majority(task, answers, k)))).collect(),
        format_rate: mean(&|a| f64::from(u8::from(a.record.format_ok))),
        calls: calls.into_iter().map(|(tool, n)| (tool, n as f64 / answers.len() as f64)).collect(),
        sampled_tokens: mean_known(&|r| r.n_sampled_tokens),
        prompt_tokens: mean_known(&|r| r.n_prompt_tokens),
        secs: mean(&|a| a.record.secs),
        stops,
        kinds: match kinds.len() {
            1 => BTreeMap::new(),
            _ => kinds.into_iter().map(|(kind, scores)| (kind.to_owned(), figure(&scores))).collect(),
        },
    }
}

/// Majority@k of one question. Of more answers than can be computed exactly, the first ones are taken; answers are the
/// same where the grader says so of either to the other.
fn majority(task: &Task, answers: &[Graded<'_>], k: usize) -> Option<f64> {
    let mut groups: Vec<(&str, Votes)> = Vec::new();
    let mut n_silent = 0;
    for answer in &answers[..answers.len().min(MAX_EXACT_SAMPLES)] {
        let Some(said) = answer.record.answer.as_deref() else {
            n_silent += 1;
            continue;
        };
        let worth = answer.worth;
        match groups.iter_mut().find(|(other, _)| same(task.grader, said, other)) {
            // The mean of what the members are worth.
            Some((_, votes)) => {
                votes.worth = (votes.worth * votes.n as f64 + worth) / (votes.n + 1) as f64;
                votes.n += 1;
            }
            None => groups.push((said, Votes { n: 1, worth })),
        }
    }
    let votes: Vec<Votes> = groups.into_iter().map(|(_, votes)| votes).collect();
    majority_at_k(&votes, n_silent, k)
}

/// Whether the grader takes one answer for the other.
fn same(grader: Grader, a: &str, b: &str) -> bool {
    let takes = |answer: &str, reference: &str| grade(grader, answer, &[reference.to_owned()]).exact;
    a == b || takes(a, b) || takes(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, answer: &str, grader: Grader) -> Task {
        let (kind, question) = (format!("kind {}", id.len() % 2), String::new());
        Task { id: id.to_owned(), kind, question, answers: vec![answer.to_owned()], grader }
    }

    fn record(id: &str, sample: usize, answer: Option<&str>, stop: &str) -> AnswerRecord {
        AnswerRecord {
            benchmark: "s".to_owned(),
            id: id.to_owned(),
            sample,
            seed: 0,
            stop: stop.to_owned(),
            answer: answer.map(str::to_owned),
            format_ok: answer.is_some(),
            calls: BTreeMap::from([(ToolName::PYTHON, sample)]),
            n_prompt_tokens: Some(10),
            n_sampled_tokens: (sample != 1).then_some(8),
            secs: 2.0,
            error: (stop == "tool-unavailable").then(|| "python: away".to_owned()),
            text: String::new(),
        }
    }

    fn plan(metric: Metric, samples: usize, ks: &[usize]) -> SetPlan<'_> {
        SetPlan { name: "s", title: "S", metric, n_rows: 9, samples, ks, n_resamples: 200, seed: Seed(1) }
    }

    #[test]
    fn figures_are_those_of_the_hand() {
        let tasks = [task("1", "5", Grader::Math), task("22", "7", Grader::Math)];
        let records = [
            [record("1", 0, Some("5"), "answered"), record("1", 1, Some("5.0"), "answered")].to_vec(),
            [
                record("22", 0, Some("7"), "answered"),
                record("22", 1, Some("3"), "answered"),
                record("22", 2, None, "tool-unavailable"),
            ]
            .to_vec(),
        ];
        let questions: Vec<Question<'_>> = tasks
            .iter()
            .zip(&records)
            .map(|(task, records)| {
                let answers = records.iter().map(|r| graded(Metric::Accuracy, task, r).0).collect();
                Question { task, answers }
            })
            .collect();
        let s = measure(&plan(Metric::Accuracy, 3, &[2, 3, 4]), &questions);
        assert_eq!((s.n_rows, s.n_asked, s.n_measured, s.n_answers, s.n_missing), (9, 2, 2, 4, 1));
        assert_eq!((s.score.value, s.pass[&1].value, s.pass[&2].value), (0.75, 0.75, 1.0));
        assert_eq!(s.pass.keys().copied().collect::<Vec<_>>(), [1, 2, 3], "no k above the samples");
        assert_eq!(s.pass[&3].n_questions, 0, "nobody has three answers that count");
        // Two equal values against one and one: the tie shares.
        assert_eq!(s.majority[&2].value, 0.75);
        assert_eq!(s.unavailable, BTreeMap::from([("python: away".to_owned(), 1)]));
        assert_eq!((s.format_rate, s.calls[&ToolName::PYTHON], s.sampled_tokens), (Some(1.0), 0.5, Some(8.0)));
        assert_eq!((s.kinds.len(), s.kinds["kind 0"].value), (2, 0.5));
        assert_eq!((s.stops["answered"], s.stops["tool-unavailable"]), (4, 1));
    }

    #[test]
    fn f1_is_a_mean_of_shares_and_pass_counts_what_is_right() {
        let task = task("1", "Algerian dinars", Grader::Qa);
        let records = [record("1", 0, Some("dinars"), "answered"), record("1", 1, None, "no-action")];
        let questions =
            |metric| [Question { task: &task, answers: records.iter().map(|r| graded(metric, &task, r).0).collect() }];
        let s = measure(&plan(Metric::F1, 2, &[2]), &questions(Metric::F1));
        assert!((s.score.value - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(s.pass[&2].value, 0.0);
        assert!((s.majority[&2].value - 2.0 / 3.0).abs() < 1e-12, "silence does not vote");
        let strict = measure(&plan(Metric::ExactMatch, 2, &[]), &questions(Metric::ExactMatch));
        assert_eq!(strict.score.value, 0.0);
        let none = measure(&plan(Metric::F1, 2, &[]), &[]);
        assert_eq!((none.score.value, none.score.interval, none.n_measured), (0.0, [0.0, 0.0], 0));
    }
}
