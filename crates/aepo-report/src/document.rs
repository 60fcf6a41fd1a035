//! What does the report say? Headings, sentences, tables and pictures, before they are written in any language.

use crate::diversity::{EPS, MIN_POINTS};
use crate::embed::N_DIMENSIONS;
use crate::figures::Figure;
use crate::layout::with_unit;
use crate::measure::Group;
use crate::summary::{Difference, MeasureSummary, Summary};
use crate::words;

/// A report.
pub struct Document {
    /// Its title.
    pub title: String,
    /// Its parts.
    pub blocks: Vec<Block>,
}

/// A part of a report. All text is plain: whoever writes it escapes it.
pub enum Block {
    /// Begins a section.
    Heading(String),
    /// Sentences.
    Paragraph(String),
    /// One below the other.
    List(Vec<String>),
    /// Something to copy.
    Code(String),
    /// Numbers.
    Table(Table),
    /// A picture.
    Figure(Figure),
}

/// Rows of cells; the first column names the row.
pub struct Table {
    /// What it holds.
    pub caption: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// Rows.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell.
pub struct Cell {
    /// Its text.
    pub text: String,
    /// Whether it stands out.
    pub is_strong: bool,
}

impl Document {
    /// Its pictures, in their order.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Figure(figure) => Some(figure),
            _ => None,
        })
    }
}

fn cell(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), is_strong: false }
}

/// Puts a report together.
pub fn document(summary: &Summary<'_>, figures: Vec<Figure>) -> Document {
    let names: Vec<String> = summary.algorithms.iter().map(|a| a.name.clone()).collect();
    let title = format!("{} on {}", words::list(&names), summary.context.recipe);
    let mut blocks = glance(summary);
    blocks.push(Block::Heading("Beside the paper".to_owned()));
    blocks.extend(beside_the_paper(summary));
    let mut figures = figures;
    for (group, heading, about) in SECTIONS {
        let of_group: Vec<&MeasureSummary> = summary.measures.iter().filter(|m| m.group == *group).collect();
        let (own, rest): (Vec<Figure>, Vec<Figure>) = figures.into_iter().partition(|f| f.group == *group);
        figures = rest;
        if of_group.is_empty() && own.is_empty() {
            continue;
        }
        blocks.push(Block::Heading((*heading).to_owned()));
        blocks.push(Block::Paragraph((*about).to_owned()));
        blocks.push(Block::Table(values(summary, &of_group)));
        blocks.extend(differences(summary, &of_group).map(Block::Table));
        blocks.extend(own.into_iter().map(Block::Figure));
    }
    blocks.push(Block::Heading("What each number is".to_owned()));
    blocks.extend(methods(summary));
    Document { title, blocks }
}

const SECTIONS: &[(Group, &str, &str)] = &[
    (Group::Accuracy, "Accuracy", "Held-out questions are the same for every run and every evaluation."),
    (Group::Entropy, "Entropy", "How undecided the policy is while it samples, and whether that lasts."),
    (Group::Tools, "Tool calls", "How often tools are asked."),
    (
        Group::Chains,
        "Chains of high-entropy rounds",
        "A round is what the model writes after a tool result. It is a high-entropy round when its entropy is above that \
         of the beginning of its trajectory, whatever rule the algorithm itself forks by.",
    ),
    (Group::Branches, "Branches", "Where trees fork, and how many of their trajectories that reaches."),
    (
        Group::Diversity,
        "Diversity of rollouts",
        "Whether rollouts go different ways: clusters of trajectories under one embedding, described at the end.",
    ),
    (
        Group::Gradient,
        "Gradient and clipping",
        "Which tokens the update learns from, and what clipping takes away. The tokens with the highest entropy are \
         the fifth of a batch's sampled tokens.",
    ),
    (Group::Cost, "Cost", "What was computed, and what it took."),
];

fn glance(summary: &Summary<'_>) -> Vec<Block> {
    let context = summary.context;
    let mut blocks = Vec::new();
    let n_runs: usize = summary.algorithms.iter().map(|a| a.seeds.len()).sum();
    blocks.push(Block::Paragraph(format!(
        "{} of {} on the recipe {}, compared over {}{}. Every number is a mean over seeds, ± half of its 95 % interval \
         (Student's t with n − 1 degrees of freedom); a difference is to {} with the same seed, and its interval is that \
         of the differences. With one seed there is no interval.",
        words::count(n_runs, "run"),
        words::count(summary.algorithms.len(), "algorithm"),
        context.recipe,
        words::count(summary.n_steps, "training step"),
        match summary.eval_steps.len() {
            0 => String::new(),
            n => format!(" and {}", words::count(n, "evaluation")),
        },
        context.baseline,
    )));
    if !summary.notes.is_empty() {
        blocks.push(Block::Heading("What is missing or uneven".to_owned()));
        blocks.push(Block::List(summary.notes.to_vec()));
    }
    blocks.push(Block::Heading("At a glance".to_owned()));
    blocks.push(Block::List(at_a_glance(summary)));
    blocks.push(Block::Paragraph(by_chance(summary)));
    blocks.push(Block::Heading("Where it comes from".to_owned()));
    blocks.push(Block::Code(context.command.clone()));
    let seeds = |a: &crate::summary::AlgorithmRuns| {
        let seeds: Vec<String> = a.seeds.iter().map(u64::to_string).collect();
        format!("{}: {} {}", a.name, if seeds.len() == 1 { "seed" } else { "seeds" }, words::list(&seeds))
    };
    let mut facts = vec![
        format!(
            "aepo {}, {}",
            context.version,
            context
                .commit
                .as_deref()
                .map_or_else(|| "commit not known".to_owned(), |commit| format!("commit {commit}"))
        ),
        format!("Machine: {}", context.machine),
    ];
    facts.extend(summary.algorithms.iter().map(seeds));
    facts.push(match context.settings.as_slice() {
        [] => "No setting differs from the recipe, the algorithm apart.".to_owned(),
        settings => {
            let settings: Vec<String> = settings.iter().map(|(k, v)| format!("{k} = {v}")).collect();
            format!("Differs from the recipe: {}", settings.join("; "))
        }
    });
    blocks.push(Block::List(facts));
    blocks
}

fn at_a_glance(summary: &Summary<'_>) -> Vec<String> {
    let Some(measure) = summary.measure("pass_at_1_after") else {
        return vec!["No evaluation is shared by all runs: there is no held-out accuracy to compare.".to_owned()];
    };
    let before = summary.measure("pass_at_1_before");
    let line = |i: usize| {
        let name = &summary.algorithms[i].name;
        let Some(after) = &measure.estimates[i] else { return format!("{name}: no evaluation.") };
        let before = before.and_then(|m| m.estimates[i].as_ref());
        let before = before.map_or(String::new(), |b| words::number(measure.unit, b.mean, false));
        let after_text = words::estimate(measure.unit, after, false);
        let told = match &measure.differences[i] {
            None if i == summary.baseline() => "the baseline".to_owned(),
            None => "no seed in common with the baseline".to_owned(),
            Some(Difference { estimate, contains_zero }) => {
                let text = words::estimate(measure.unit, estimate, true);
                let baseline = &summary.context.baseline;
                let pairs = words::count(estimate.values.len(), "pair");
                match contains_zero {
                    None => format!("{text} points against {baseline} on one seed, which is no evidence"),
                    Some(true) => format!("{text} points against {baseline} over {pairs}; the interval contains 0"),
                    Some(false) => format!("{text} points against {baseline} over {pairs}; the interval excludes 0"),
                }
            }
        };
        format!("{name}: held-out Pass@1 from {before} to {after_text} %: {told}.")
    };
    (0..summary.algorithms.len()).map(line).collect()
}

/// How many intervals would exclude 0 without any effect.
fn by_chance(summary: &Summary<'_>) -> String {
    let all = summary.measures.iter().flat_map(|m| &m.differences).flatten();
    let wide: Vec<&Difference> = all.filter(|d| d.estimate.half_width().is_some_and(|half| half > 0.0)).collect();
    let n = wide.len();
    let n_excluding = wide.iter().filter(|d| d.contains_zero == Some(false)).count();
    if n == 0 {
        return "There is no interval of a difference in this report: one seed cannot give any.".to_owned();
    }
    let chance = 0.05 * n as f64;
    format!(
        "Of the {n} differences with an interval in this report, {n_excluding} exclude 0. Were all algorithms the same, \
         about {chance:.0} would by chance alone: each does with a probability of 5 %, and none is corrected for being \
         one of many."
    )
}

fn values(summary: &Summary<'_>, measures: &[&MeasureSummary]) -> Table {
    let mut head = vec!["algorithm".to_owned()];
    head.extend(measures.iter().map(|m| with_unit(&m.name, m.unit, false)));
    let row = |i: usize| {
        let mut row = vec![cell(summary.algorithms[i].name.clone())];
        row.extend(measures.iter().map(|m| match &m.estimates[i] {
            Some(estimate) => cell(words::estimate(m.unit, estimate, false)),
            None => cell("–"),
        }));
        row
    };
    let rows = (0..summary.algorithms.len()).map(row).collect();
    Table { caption: "Mean over seeds ± half of the 95 % interval.".to_owned(), head, rows }
}

/// `None` where nothing differs or there is nobody to differ.
fn differences(summary: &Summary<'_>, measures: &[&MeasureSummary]) -> Option<Table> {
    let differs = |d: &Difference| d.estimate.mean != 0.0 || d.estimate.half_width().is_some_and(|half| half > 0.0);
    let told: Vec<&&MeasureSummary> = measures.iter().filter(|m| m.differences.iter().flatten().any(differs)).collect();
    if told.is_empty() {
        return None;
    }
    let mut head = vec!["algorithm".to_owned()];
    head.extend(told.iter().map(|m| with_unit(&m.name, m.unit, true)));
    let row = |i: usize| {
        let mut row = vec![cell(summary.algorithms[i].name.clone())];
        row.extend(told.iter().map(|m| match &m.differences[i] {
            Some(d) => Cell { text: words::difference(m.unit, d), is_strong: d.contains_zero == Some(false) },
            None => cell("–"),
        }));
        row
    };
    let rows = (0..summary.algorithms.len()).filter(|i| *i != summary.baseline()).map(row).collect();
    let left_out = if told.len() < measures.len() { " Columns in which nothing differs are left out." } else { "" };
    let caption = format!(
        "Less {} with the same seed; bold where the 95 % interval excludes 0.{left_out}",
        summary.context.baseline
    );
    Some(Table { caption, head, rows })
}

fn beside_the_paper(summary: &Summary<'_>) -> Vec<Block> {
    let about = "The seed paper (arXiv 2510.14545) trains models of 8 to 14 billion parameters on web search and \
        mathematics; these runs are another model, other questions and other budgets. Its figures stand here to be \
        looked at, not as something these runs could confirm or refute at that scale.";
    let last_clusters = summary.measures.iter().rev().find(|m| m.key.starts_with("clusters_step_"));
    let rows: [(&str, &str, Option<&MeasureSummary>, bool); 8] = [
        ("Pass@1 less GRPO", "about +5 (AEPO)", summary.measure("pass_at_1_after"), true),
        ("High-entropy rounds that are consecutive", "56.5 %", summary.measure("consecutive_share"), false),
        ("Longest chain of them", "up to 6", summary.measure("longest_chain"), false),
        ("Trajectories that forked", "2–3 of 8 (ARPO), 8 of 8 (AEPO)", summary.measure("forking"), false),
        ("Trajectories on a fork", "the same", summary.measure("on_fork"), false),
        ("Clusters of rollouts, last step", "54 → 62 (AEPO)", last_clusters, false),
        ("Entropy, last quarter less first", "high and stable (AEPO)", summary.measure("entropy_change"), false),
        ("Tool calls per step", "250–300 (AEPO), 400–450 (GRPO)", summary.measure("calls_per_step"), false),
    ];
    let mut columns: Vec<usize> = (0..summary.algorithms.len())
        .filter(|i| {
            *i == summary.baseline() || ["aepo", "arpo", "grpo"].contains(&summary.algorithms[*i].name.as_str())
        })
        .collect();
    if columns.len() == 1 {
        columns = (0..summary.algorithms.len()).collect();
    }
    let k = summary.measure("trajectories_per_tree");
    let told = |measure: &MeasureSummary, i: usize, is_difference: bool| -> Cell {
        let signed = is_difference || measure.key == "entropy_change";
        let estimate = if is_difference {
            measure.differences[i].as_ref().map(|d| &d.estimate)
        } else {
            measure.estimates[i].as_ref()
        };
        let Some(estimate) = estimate else { return cell("–") };
        let text = words::estimate(measure.unit, estimate, signed);
        let k = k
            .and_then(|k| k.estimates[i].as_ref())
            .filter(|_| measure.key.ends_with("fork") || measure.key == "forking");
        cell(k.map_or(text.clone(), |k| format!("{text} of {:.0}", k.mean)))
    };
    let mut head = vec!["figure".to_owned(), "paper".to_owned()];
    head.extend(columns.iter().map(|i| format!("{} here", summary.algorithms[*i].name)));
    let rows = rows.into_iter().filter_map(|(what, paper, measure, is_difference)| {
        let measure = measure?;
        let mut row = vec![cell(with_unit(what, measure.unit, is_difference)), cell(paper)];
        row.extend(columns.iter().map(|i| told(measure, *i, is_difference)));
        Some(row)
    });
    let caption = format!("The paper's figures and these runs'. Differences are to {}.", summary.context.baseline);
    vec![Block::Paragraph(about.to_owned()), Block::Table(Table { caption, head, rows: rows.collect() })]
}

fn methods(summary: &Summary<'_>) -> Vec<Block> {
    let embedding = format!(
        "Embedding of a trajectory: counts of its sampled tokens and of pairs of neighbouring ones (1-grams and 2-grams; \
         no prompt, no tool result), hashed into {N_DIMENSIONS} numbers, weighted by ln((1 + N)/(1 + df)) + 1 over all N \
         rollouts of that step of all runs, and scaled to length 1. It sees wording, not meaning. Clusters: DBSCAN on \
         these points, per run and step, Euclidean distance {EPS}, at least {MIN_POINTS} rollouts; a rollout without a \
         neighbour is noise and in no cluster. Picture: the first two principal components of the rollouts of that step \
         of all runs together."
    );
    let definitions = summary.measures.iter().map(|m| format!("{}: {}.", with_unit(&m.name, m.unit, false), m.about));
    vec![
        Block::Paragraph(
            "One number per run, as described here; then its mean and interval over seeds. The interval speaks of other \
             seeds with the same questions, model and settings, and of nothing else."
                .to_owned(),
        ),
        Block::List(definitions.collect()),
        Block::Paragraph(embedding),
    ]
}
