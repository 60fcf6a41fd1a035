//! How is an evaluation told? Sentences and tables about its sets.

use std::collections::BTreeSet;

use aepo::eval::measure::{Figure, SetSummary};
use aepo::eval::paper::{Paper, Published};

use super::{Evaluation, picture};
use crate::document::{Block, Cell, Document, Table};
use crate::words;

/// Puts the report of an evaluation together.
pub(super) fn document(e: &Evaluation) -> Document {
    let names: Vec<String> = e.sets.iter().map(|s| s.title.clone()).collect();
    let title = match names.len() {
        0 => e.model.clone(),
        1..=4 => format!("{} on {}", e.model, words::list(&names)),
        n => format!("{} on {n} benchmarks", e.model),
    };
    let mut blocks = vec![Block::Paragraph(about(e)), Block::List(e.sets.iter().map(coverage).collect())];
    if !e.notes.is_empty() {
        blocks.push(Block::List(e.notes.clone()));
    }
    blocks.push(Block::Heading("Scores".to_owned()));
    blocks.push(Block::Table(scores(e)));
    blocks.extend(groups(e).map(Block::Table));
    blocks.extend(picture::scores(e).map(Block::Figure));
    if let Some(paper) = e.paper {
        blocks.push(Block::Heading("Beside the paper".to_owned()));
        blocks.extend(beside(e, paper));
    }
    if e.sets.iter().any(|s| !s.kinds.is_empty()) {
        blocks.push(Block::Heading("By kind".to_owned()));
        blocks.push(Block::Table(kinds(e)));
    }
    blocks.push(Block::Heading("Cost".to_owned()));
    blocks.push(Block::Table(cost(e)));
    blocks.push(Block::Heading("How answers ended".to_owned()));
    blocks.push(Block::Table(stops(e)));
    blocks.push(Block::Heading("What was done".to_owned()));
    blocks.push(Block::Code(e.command.clone()));
    blocks.push(Block::Table(Table {
        caption: "Settings that decide on answers.".to_owned(),
        head: vec!["setting".to_owned(), "value".to_owned()],
        rows: e.settings.iter().map(|(key, value)| vec![cell(key), cell(value)]).collect(),
    }));
    blocks.push(Block::Paragraph(format!("aepo {}; {}.", e.version, e.machine)));
    blocks.push(Block::Heading("What each number is".to_owned()));
    blocks.push(Block::List(METHODS.iter().map(|line| (*line).to_owned()).collect()));
    Document { title, blocks }
}

const METHODS: &[&str] = &[
    "The score of a question is the mean over its answers, that of a set the mean over its questions: the share of right \
     answers, or where the metric is F1 their token F1.",
    "Pass@k is the probability that one of k answers is right, without bias from the n that were drawn: 1 − C(n−c, k) / \
     C(n, k) for c right ones (arXiv 2107.03374). Pass@1 is the mean over samples.",
    "Majority@k is what the most frequent of k answers is worth, in expectation over all choices of k of the n; answers \
     are the same where the grader says so, ties share, and a missing answer votes for nothing.",
    "Intervals are 95 % bootstrap intervals over questions, bias-corrected and accelerated, widened for few questions. They \
     speak of other questions of the same sort, not of other runs of training.",
    "Answers that a failing tool or server spoilt are left out and counted; they are never wrong answers.",
    "An answer counts where the model gave one in a box, in the form of the protocol or without; how often it kept the \
     form stands beside it.",
];

fn cell(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), is_strong: false }
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// `70.0 (65.0 to 75.0)`
pub(super) fn told(figure: &Figure) -> String {
    match figure.n_questions {
        0 => "–".to_owned(),
        1 => percent(figure.value),
        _ => {
            let [low, high] = figure.interval;
            format!("{} ({} to {})", percent(figure.value), percent(low), percent(high))
        }
    }
}

fn about(e: &Evaluation) -> String {
    let n: usize = e.sets.iter().map(|s| s.n_answers).sum();
    let judged = match &e.judge {
        Some(judge) => format!(" Where the metric is a judge, {judge} judged."),
        None => String::new(),
    };
    format!(
        "{} to {} on {}. Scores are in per cent, with their 95 % intervals.{judged}",
        words::count(n, "answer"),
        words::count(e.sets.iter().map(|s| s.n_measured).sum(), "question"),
        words::count(e.sets.len(), "benchmark")
    )
}

/// How much of a set was measured.
fn coverage(s: &SetSummary) -> String {
    let all = match s.n_asked == s.n_rows {
        true => format!("{}: all {} questions", s.title, s.n_rows),
        false => format!("{}: {} of {} questions", s.title, s.n_asked, s.n_rows),
    };
    let mut line = format!("{all}, {} each", words::count(s.samples, "answer"));
    if s.n_missing > 0 {
        line += &format!("; {} missing, the evaluation has not ended", are(s.n_missing));
    }
    let n_lost: usize = s.unavailable.values().sum();
    if n_lost > 0 {
        let why: Vec<String> =
            s.unavailable.iter().map(|(why, n)| format!("{}: {why}", words::count(*n, "answer"))).collect();
        line += &format!("; {n_lost} left out because a tool or the server failed ({})", why.join("; "));
    }
    line + "."
}

fn are(n: usize) -> String {
    if n == 1 { "1 answer is".to_owned() } else { format!("{n} answers are") }
}

fn scores(e: &Evaluation) -> Table {
    let ks: BTreeSet<usize> = e.sets.iter().flat_map(|s| s.pass.keys().copied()).collect();
    let more = || ks.iter().filter(|k| **k > 1);
    let mut head = vec!["benchmark".to_owned(), "questions".to_owned(), "metric".to_owned(), "score".to_owned()];
    head.extend(ks.iter().map(|k| format!("Pass@{k}")));
    head.extend(more().map(|k| format!("majority@{k}")));
    head.push("format kept".to_owned());
    let row = |s: &SetSummary| {
        let questions = match s.n_asked == s.n_rows {
            true => s.n_rows.to_string(),
            false => format!("{} of {}", s.n_asked, s.n_rows),
        };
        let mut row = vec![cell(s.title.as_str()), cell(questions), cell(s.metric.as_str())];
        row.push(Cell { text: told(&s.score), is_strong: true });
        // Pass@1 and its interval are the score wherever the metric is all or nothing.
        let brief = |k: usize, f: &Figure| if k == 1 && f.n_questions > 0 { percent(f.value) } else { told(f) };
        row.extend(ks.iter().map(|k| cell(s.pass.get(k).map_or_else(|| "–".to_owned(), |f| brief(*k, f)))));
        row.extend(more().map(|k| cell(s.majority.get(k).map_or_else(|| "–".to_owned(), told))));
        row.push(cell(s.format_rate.map_or_else(|| "–".to_owned(), percent)));
        row
    };
    let caption = "Scores in per cent, and the 95 % interval over questions.".to_owned();
    Table { caption, head, rows: e.sets.iter().map(row).collect() }
}

fn groups(e: &Evaluation) -> Option<Table> {
    let row = |(name, group): (&String, &super::GroupMean)| {
        vec![cell(name.as_str()), cell(group.sets.join(", ")), cell(percent(group.score))]
    };
    let rows: Vec<Vec<Cell>> = e.groups.iter().filter(|(_, g)| g.sets.len() > 1).map(row).collect();
    let head = ["group", "benchmarks", "mean score"].map(str::to_owned).to_vec();
    let caption = "Means over the benchmarks of a group, each counted once.".to_owned();
    (!rows.is_empty()).then_some(Table { caption, head, rows })
}

fn beside(e: &Evaluation, paper: Paper) -> Vec<Block> {
    let is_here = |f: &Published| e.sets.iter().any(|s| s.name == f.benchmark);
    let figures: Vec<Published> = paper.figures().filter(is_here).collect();
    if figures.is_empty() {
        return vec![Block::Paragraph(format!("{} has no figure of these benchmarks.", paper.cite()))];
    }
    // A row per benchmark and k, a column per model.
    let mut models: Vec<&str> = Vec::new();
    figures.iter().for_each(|f| {
        if !models.contains(&f.model) {
            models.push(f.model)
        }
    });
    let mut ks: Vec<usize> = figures.iter().map(|f| f.k).collect();
    ks.sort_unstable();
    ks.dedup();
    let row = |set: &SetSummary, k: usize| {
        let of_row: Vec<&Published> = figures.iter().filter(|f| f.benchmark == set.name && f.k == k).collect();
        let (what, own) = match k {
            1 => (set.metric.clone(), Some(&set.score)),
            k => (format!("Pass@{k}"), set.pass.get(&k)),
        };
        let here = own.map_or_else(|| "not measured".to_owned(), told);
        let mut row = vec![cell(set.title.as_str()), cell(what), Cell { text: here, is_strong: true }];
        row.extend(models.iter().map(|model| {
            let figure = of_row.iter().find(|f| f.model == *model);
            cell(figure.map_or_else(|| "–".to_owned(), |f| format!("{:.1}", f.percent)))
        }));
        (!of_row.is_empty()).then_some(row)
    };
    let mut head = ["benchmark", "figure", "here"].map(str::to_owned).to_vec();
    head.extend(models.iter().map(|model| format!("paper: {model}")));
    let rows = e.sets.iter().flat_map(|set| ks.iter().filter_map(|k| row(set, *k)).collect::<Vec<_>>()).collect();
    let mut places: Vec<&str> = figures.iter().map(|f| f.place).collect();
    places.dedup();
    let caption = format!(
        "These figures, in per cent, and those of {} ({}).",
        paper.cite(),
        words::list(&places.iter().map(|place| (*place).to_owned()).collect::<Vec<String>>())
    );
    let about = "The paper's models were trained by its own algorithm and asked with a web search and a browser; its figures \
                 come without intervals, and of everything but the multi-hop sets a large model judged the answers. A \
                 difference to them is a difference of models, tools and graders together.";
    vec![Block::Paragraph(about.to_owned()), Block::Table(Table { caption, head, rows })]
}

fn kinds(e: &Evaluation) -> Table {
    let rows = e.sets.iter().flat_map(|s| {
        s.kinds
            .iter()
            .map(|(kind, f)| vec![cell(format!("{}: {kind}", s.title)), cell(f.n_questions.to_string()), cell(told(f))])
    });
    let head = ["kind", "questions", "score"].map(str::to_owned).to_vec();
    Table { caption: "Scores by the kind of question.".to_owned(), head, rows: rows.collect() }
}

fn cost(e: &Evaluation) -> Table {
    let tools: BTreeSet<_> = e.sets.iter().flat_map(|s| s.calls.keys()).collect();
    let mut head = vec!["benchmark".to_owned(), "answers".to_owned()];
    head.extend(tools.iter().map(|tool| format!("{tool} calls")));
    head.extend(["tokens written", "tokens read", "seconds"].map(str::to_owned));
    let row = |s: &SetSummary| {
        let tokens = |n: Option<f64>| cell(n.map_or_else(|| "not counted".to_owned(), |n| format!("{n:.0}")));
        let mut row = vec![cell(s.title.as_str()), cell(s.n_answers.to_string())];
        row.extend(tools.iter().map(|tool| cell(format!("{:.2}", s.calls.get(tool).copied().unwrap_or(0.0)))));
        let secs = s.secs.map_or_else(|| "–".to_owned(), |secs| format!("{secs:.2}"));
        row.extend([tokens(s.sampled_tokens), tokens(s.prompt_tokens), cell(secs)]);
        row
    };
    let caption = "Per answer. Tokens read are counted again in every turn.".to_owned();
    Table { caption, head, rows: e.sets.iter().map(row).collect() }
}

fn stops(e: &Evaluation) -> Table {
    let names: BTreeSet<&String> = e.sets.iter().flat_map(|s| s.stops.keys()).collect();
    let mut head = vec!["benchmark".to_owned()];
    head.extend(names.iter().map(|name| (*name).clone()));
    let row = |s: &SetSummary| {
        let n = |name: &&String| cell(s.stops.get(*name).copied().unwrap_or(0).to_string());
        std::iter::once(cell(s.title.as_str())).chain(names.iter().map(n)).collect()
    };
    Table { caption: "Answers by the way they ended.".to_owned(), head, rows: e.sets.iter().map(row).collect() }
}
