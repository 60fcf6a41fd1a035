//! Is one evaluation better than another? Paired over the questions that both have.

use std::collections::BTreeMap;

use aepo::eval::paired::{Paired, paired};
use aepo::seed::Seed;
use serde::{Deserialize, Serialize};

use crate::document::{Block, Cell, Document, Table};
use crate::{ReportFile, html, markdown};

/// What two evaluations have in common, set by set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    /// What the first measured.
    pub first: String,
    /// What the second measured.
    pub second: String,
    /// Sets that both have.
    pub sets: Vec<SetVersus>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// One set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetVersus {
    /// Its name.
    pub name: String,
    /// What was compared: the metric of the set.
    pub metric: String,
    /// The differences.
    pub paired: Paired,
    /// p, corrected for the number of sets (Holm, Scandinavian Journal of Statistics 6, 1979).
    pub p_corrected: f64,
}

/// Scores of questions by set and id: mean over a question's answers.
pub type Scores = BTreeMap<String, BTreeMap<String, f64>>;

/// Compares scores by name, metric and what the sets of both say.
#[must_use]
pub fn versus(
    names: [&str; 2],
    scores: [&Scores; 2],
    metrics: &BTreeMap<String, String>,
    n_resamples: usize,
) -> Versus {
    const SEED: Seed = Seed(1);
    let mut notes = Vec::new();
    let mut sets = Vec::new();
    let only = |a: &Scores, b: &Scores| a.keys().filter(|set| !b.contains_key(*set)).cloned().collect::<Vec<String>>();
    for (who, only) in [("first", only(scores[0], scores[1])), ("second", only(scores[1], scores[0]))] {
        if !only.is_empty() {
            notes.push(format!("Measured by the {who} alone: {}.", only.join(", ")));
        }
    }
    for (set, first) in scores[0] {
        let Some(second) = scores[1].get(set) else { continue };
        let pairs: Vec<(f64, f64)> = first.iter().filter_map(|(id, a)| Some((*a, *second.get(id)?))).collect();
        let n_alone = first.len() + second.len() - 2 * pairs.len();
        if n_alone > 0 {
            notes.push(format!("{set}: {n_alone} questions were measured by one alone and are left out."));
        }
        if let Some(paired) = paired(&pairs, n_resamples, SEED) {
            let metric = metrics.get(set).cloned().unwrap_or_default();
            sets.push(SetVersus { name: set.clone(), metric, paired, p_corrected: paired.p_value });
        }
    }
    correct(&mut sets);
    Versus { first: names[0].to_owned(), second: names[1].to_owned(), sets, notes }
}

/// Holm's correction: the i-th smallest of m is multiplied by m − i, and none is below one before it.
fn correct(sets: &mut [SetVersus]) {
    let mut order: Vec<usize> = (0..sets.len()).collect();
    order.sort_by(|a, b| sets[*a].paired.p_value.total_cmp(&sets[*b].paired.p_value));
    let mut least: f64 = 0.0;
    for (i, at) in order.into_iter().enumerate() {
        least = least.max((sets[at].paired.p_value * (sets.len() - i) as f64).min(1.0));
        sets[at].p_corrected = least;
    }
}

impl Versus {
    /// Head and rows of its table.
    #[must_use]
    pub fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let head =
            ["benchmark", "metric", "questions", "first", "second", "difference", "95 % interval", "better", "worse"];
        let mut head: Vec<String> = head.map(str::to_owned).to_vec();
        head.push("p".to_owned());
        let several = self.sets.len() > 1;
        if several {
            head.push("p, corrected".to_owned());
        }
        let row = |s: &SetVersus| {
            let (p, points) = (&s.paired, |x: f64| format!("{:+.1}", 100.0 * x).replace('-', "\u{2212}"));
            let mut row = vec![
                s.name.clone(),
                s.metric.clone(),
                p.n_questions.to_string(),
                format!("{:.1}", 100.0 * p.first),
                format!("{:.1}", 100.0 * p.second),
                points(p.difference),
                format!("{} to {}", points(p.interval[0]), points(p.interval[1])),
                p.n_better.to_string(),
                p.n_worse.to_string(),
                chance(p.p_value),
            ];
            if several {
                row.push(chance(s.p_corrected));
            }
            row
        };
        (head, self.sets.iter().map(row).collect())
    }

    /// The comparison as `versus.md` and `versus.html`.
    #[must_use]
    pub fn files(&self) -> Vec<ReportFile> {
        let (head, rows) = self.table();
        let cell = |text: String| Cell { text, is_strong: false };
        let rows = rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
        let caption =
            format!("First: {}. Second: {}. Scores in per cent, differences in points.", self.first, self.second);
        let mut blocks = vec![Block::Paragraph(METHOD.to_owned()), Block::Table(Table { caption, head, rows })];
        if !self.notes.is_empty() {
            blocks.push(Block::List(self.notes.clone()));
        }
        let document = Document { title: format!("{} against {}", self.second, self.first), blocks };
        let file = |name: &str, content: String| ReportFile { name: name.to_owned(), content };
        vec![file("versus.md", markdown::markdown(&document)), file("versus.html", html::html(&document))]
    }
}

/// A probability; a small one by its bound.
fn chance(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

const METHOD: &str = "Each question is compared with itself: the mean of its answers in the second evaluation less that in \
     the first. The interval is a 95 % bootstrap interval of the mean difference over questions; p is the probability that \
     differences of random signs have a mean as far from 0 (a paired permutation test).";

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(of: &[(&str, &[f64])]) -> Scores {
        let ids = |values: &[f64]| values.iter().enumerate().map(|(i, v)| (i.to_string(), *v)).collect();
        of.iter().map(|(set, values)| ((*set).to_owned(), ids(values))).collect()
    }

    #[test]
    fn common_questions_are_compared_and_the_rest_is_named() {
        let a = scores(&[("x", &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), ("y", &[0.5, 0.5]), ("only", &[1.0])]);
        let b = scores(&[("x", &[1.0, 1.0, 1.0, 1.0, 1.0]), ("y", &[0.5, 0.5]), ("other", &[1.0])]);
        let metrics = BTreeMap::from([("x".to_owned(), "accuracy".to_owned())]);
        let v = versus(["A", "B"], [&a, &b], &metrics, 200);
        assert_eq!(v.sets.len(), 2);
        assert_eq!((v.sets[0].paired.n_questions, v.sets[0].paired.difference), (5, 1.0));
        assert_eq!((v.sets[0].paired.p_value, v.sets[0].p_corrected, v.sets[1].p_corrected), (0.0625, 0.125, 1.0));
        assert_eq!(v.notes.len(), 3, "{:?}", v.notes);
        let files = v.files();
        assert!(files[0].content.contains("+100.0") && files[1].content.contains("0.0625"));
    }
}
