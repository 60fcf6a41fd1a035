//! What did an evaluation show? Its answers graded, its files written, and a table for the terminal.

use std::collections::BTreeMap;
use std::path::Path;

use aepo::config::Config;
use aepo::data::benchmark::{Group, Metric};
use aepo::eval::answer::AnswerRecord;
use aepo::eval::measure::{Figure, Graded, Question, SetPlan, SetSummary, graded, judged as by_judge, measure};
use aepo::seed::Seed;
use aepo_engine::checkpoint::write_whole;
use aepo_report::evaluation::{Evaluation, GroupMean};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::judged::Judged;
use super::plan::Plan;
use super::sets::Set;
use super::store::Name;
use crate::machine;
use crate::run_dir::make;
use crate::table::table;

/// Grades of every answer, a line each.
pub const SCORES: &str = "scores.jsonl";
/// The numbers of the report.
pub const SUMMARY: &str = "summary.json";

/// What an answer was worth.
#[derive(Debug, Serialize, Deserialize)]
pub struct ScoreRow {
    /// Set of questions.
    pub benchmark: String,
    /// The question.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Which of its answers.
    pub sample: usize,
    /// What it is worth under the metric of the set, in [0, 1].
    pub worth: f64,
    /// Whether it is right.
    pub right: bool,
    /// Why, in the grader's or the judge's words.
    pub why: String,
    /// False where it is left out: a tool or the server failed.
    pub counts: bool,
    /// How it ended.
    pub stop: String,
    /// What was answered.
    pub answer: Option<String>,
}

/// What there is to tell.
pub struct Told {
    /// For people.
    pub text: String,
    /// For programs.
    pub evaluation: Evaluation,
}

/// Settings that a report names.
const NAMED: &[&str] = &[
    "prompt.protocol",
    "prompt.system",
    "rollout.call_limit",
    "eval.python_calls",
    "eval.search_calls",
    "rollout.max_equal_calls",
    "rollout.max_response_tokens",
    "rollout.max_turn_tokens",
    "rollout.max_result_tokens",
    "eval.samples",
    "eval.temperature",
    "eval.top_p",
    "train.seed",
    "tools.offer",
    "tools.search.source",
    "tools.search.n_results",
    "tools.python.wall_secs",
];

/// Grades what is there and writes `scores.jsonl`, `summary.json`, `report.md`, `report.html` and `plots/`.
pub fn write(
    dir: &Path,
    plan: &Plan,
    config: &Config,
    sets: &[Set],
    missing: &[&str],
    answers: &BTreeMap<Name, AnswerRecord>,
    judged: &Judged,
) -> anyhow::Result<Told> {
    let (mut summaries, mut lines) = (Vec::new(), Vec::new());
    let mut notes: Vec<String> = sets.iter().flat_map(|set| set.notes.clone()).collect();
    for set in sets {
        let metric = metric(set, judged);
        let mut questions = Vec::new();
        for task in &set.tasks {
            let mut of_task: Vec<Graded<'_>> = Vec::new();
            for sample in 0..plan.samples {
                let name = (set.name.clone(), task.id.clone(), sample);
                let Some(record) = answers.get(&name) else { continue };
                let (graded, why) = match judged.verdicts.get(&name).filter(|_| metric == Metric::Judge) {
                    Some(Some((right, why))) => (by_judge(record, *right), why.clone()),
                    // Without a verdict it is neither right nor wrong.
                    Some(None) => continue,
                    None => graded(metric, task, record),
                };
                serde_json::to_writer(&mut lines, &row(set, &task.kind, &graded, why))?;
                lines.push(b'\n');
                of_task.push(graded);
            }
            questions.push(Question { task, answers: of_task });
        }
        let set_plan = SetPlan {
            name: &set.name,
            title: &set.title,
            metric,
            n_rows: set.n_rows,
            samples: plan.samples,
            ks: &plan.ks,
            n_resamples: 4000,
            seed: Seed(config.train.seed),
        };
        summaries.push(measure(&set_plan, &questions));
    }
    let unjudged = sets.iter().filter(|set| set.metric == Metric::Judge && judged.by.is_none());
    let unjudged: Vec<&str> = unjudged.map(|set| set.title.as_str()).collect();
    if !unjudged.is_empty() {
        notes.push(format!(
            "No model judged. The papers have one judge the answers to {}; the grader of strings, which decided here, takes \
             fewer for right.",
            unjudged.join(", ")
        ));
    }
    if !missing.is_empty() {
        notes.push(format!("Not measured, because there is no file of them: {}.", missing.join(", ")));
    }
    notes.extend(judged.notes.iter().cloned());
    let evaluation = Evaluation {
        model: plan.model.clone(),
        command: plan.command.clone(),
        version: format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("AEPO_COMMIT")),
        machine: machine::describe(),
        settings: named(config, plan),
        paper: plan.paper,
        judge: judged.by.clone(),
        groups: groups(sets, &summaries),
        sets: summaries,
        notes,
    };
    write_whole(&dir.join(SCORES), &lines)?;
    for file in aepo_report::evaluation::evaluation(&evaluation)? {
        let path = dir.join(&file.name);
        path.parent().map(make).transpose()?;
        write_whole(&path, file.content.as_bytes())?;
    }
    let text = format!("{}\nthe report is {}\n", for_people(&evaluation), dir.join("report.html").display());
    Ok(Told { text, evaluation })
}

/// What is reported of a set: a judge's verdicts only where there are any.
fn metric(set: &Set, judged: &Judged) -> Metric {
    match (set.metric, &judged.by) {
        (Metric::Judge, None) => Metric::Accuracy,
        (metric, _) => metric,
    }
}

fn row(set: &Set, kind: &str, graded: &Graded<'_>, why: String) -> ScoreRow {
    let r = graded.record;
    ScoreRow {
        benchmark: set.name.clone(),
        id: r.id.clone(),
        kind: kind.to_owned(),
        sample: r.sample,
        worth: graded.worth,
        right: graded.is_right,
        why,
        counts: r.counts(),
        stop: r.stop.clone(),
        answer: r.answer.clone(),
    }
}

fn named(config: &Config, plan: &Plan) -> Vec<(String, String)> {
    let explained = config.explain();
    let value = |key: &&str| {
        let line = explained.iter().find(|line| line.key == **key)?;
        let value = line.value.as_ref().filter(|_| line.no_effect.is_none())?;
        Some(((*key).to_owned(), value.to_string()))
    };
    let mut settings: Vec<(String, String)> = NAMED.iter().filter_map(value).collect();
    settings.extend(plan.server.clone().map(|server| ("server".to_owned(), server)));
    settings.extend(plan.results.clone().map(|results| ("results of tools".to_owned(), format!("in a {results}"))));
    settings
}

fn groups(sets: &[Set], summaries: &[SetSummary]) -> BTreeMap<String, GroupMean> {
    let mean = |group: Group| {
        let of = sets.iter().zip(summaries).filter(|(set, s)| set.groups.first() == Some(&group) && s.n_measured > 0);
        let of: Vec<&SetSummary> = of.map(|(_, s)| s).collect();
        let score = of.iter().map(|s| s.score.value).sum::<f64>() / of.len().max(1) as f64;
        let sets: Vec<String> = of.iter().map(|s| s.title.clone()).collect();
        (!sets.is_empty()).then(|| (group.name().to_owned(), GroupMean { sets, score }))
    };
    Group::ALL.into_iter().filter_map(mean).collect()
}

/// A row per set, and what is missing.
fn for_people(e: &Evaluation) -> String {
    let share = |f: &Figure| if f.n_questions == 0 { "–".to_owned() } else { format!("{:.1}", 100.0 * f.value) };
    let told = |f: &Figure| match f.n_questions {
        0 | 1 => share(f),
        _ => format!("{} ({:.1} to {:.1})", share(f), 100.0 * f.interval[0], 100.0 * f.interval[1]),
    };
    let ks: Vec<usize> = e.sets.first().map(|s| s.pass.keys().copied().collect()).unwrap_or_default();
    let more: Vec<usize> = ks.into_iter().filter(|k| *k > 1).collect();
    let mut header: Vec<String> = ["", "questions", "metric", "score"].map(str::to_owned).to_vec();
    header.extend(more.iter().flat_map(|k| [format!("pass@{k}"), format!("maj@{k}")]));
    header.extend(["format", "calls", "tokens", "secs"].map(str::to_owned));
    let row = |s: &SetSummary| {
        let mut row =
            vec![s.title.clone(), format!("{} of {}", s.n_measured, s.n_rows), s.metric.clone(), told(&s.score)];
        let of = |figures: &BTreeMap<usize, Figure>, k| figures.get(k).map_or_else(String::new, &share);
        row.extend(more.iter().flat_map(|k| [of(&s.pass, k), of(&s.majority, k)]));
        let or_none = |x: Option<f64>, decimals: usize| x.map_or_else(|| "–".to_owned(), |x| format!("{x:.decimals$}"));
        let n_calls = s.calls.values().fold(0.0, |sum, n| sum + n);
        row.push(or_none(s.format_rate.map(|rate| 100.0 * rate), 1));
        row.push(or_none((s.n_answers > 0).then_some(n_calls), 2));
        row.push(or_none(s.sampled_tokens, 0));
        row.push(or_none(s.secs, 2));
        row
    };
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut text = table(&header, &e.sets.iter().map(row).collect::<Vec<_>>()).trim_start_matches('\n').to_owned();
    text += "\nper cent, with 95 % intervals over questions; calls, tokens and seconds per answer\n";
    for s in &e.sets {
        let n_lost: usize = s.unavailable.values().sum();
        if n_lost > 0 {
            let why: Vec<&str> = s.unavailable.keys().take(2).map(String::as_str).collect();
            text +=
                &format!("{}: {n_lost} answers left out, a tool or the server failed: {}\n", s.title, why.join("; "));
        }
        if s.n_missing > 0 {
            text += &format!("{}: {} answers are missing\n", s.title, s.n_missing);
        }
    }
    e.notes.iter().for_each(|note| text += &format!("{note}\n"));
    text
}

/// Reads a file of an evaluation that must be there.
pub fn read(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    std::fs::read_to_string(&path)
        .with_context(|| format!("{} is no finished evaluation: {}", dir.display(), path.display()))
}
