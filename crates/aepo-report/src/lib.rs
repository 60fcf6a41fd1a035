//! What did the runs show? Many training runs become one report: intervals over seeds, paired differences, pictures.
//!
//! [`comparison`] is pure: run data in, files out. Its stages are [`scope`] (what can be compared at all), [`measure`]
//! (one number per run and measure), [`summary`] (what the seeds say together), `figures` and `document` (the same
//! numbers drawn and told), `markdown` and `html` (the document written).
mod bars;
pub mod diversity;
mod document;
mod dots;
pub mod embed;
pub mod evaluation;
mod figures;
mod html;
pub mod layout;
mod lines;
mod markdown;
pub mod measure;
mod scatter;
pub mod scope;
pub mod stats;
pub mod summary;
pub mod svg;
mod words;

#[cfg(test)]
mod testing;

use std::collections::BTreeMap;

use aepo::eval::EvalReport;
use aepo::record::StepRecord;
use serde::{Deserialize, Serialize};

/// A row of `metrics.jsonl` as it is read back.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// What repeats.
    #[serde(flatten)]
    pub record: StepRecord,
    /// Seconds, rates and memory, which do not: `secs_total`, `secs_rollout`, `peak_memory_mb`, ….
    #[serde(flatten)]
    pub times: BTreeMap<String, f64>,
}

/// One training run.
#[derive(Clone, Debug)]
pub struct RunData {
    /// Algorithm, or whatever else tells the compared settings apart.
    pub algorithm: String,
    /// Run seed. Runs of the same seed are paired.
    pub seed: u64,
    /// Steps, in their order.
    pub rows: Vec<Row>,
    /// What was measured on held-out questions, after how many steps.
    pub evals: Vec<(u64, EvalReport)>,
    /// Trajectories of some steps, for their diversity.
    pub rollouts: Vec<Rollout>,
    /// Wall time of the whole run, seconds.
    pub seconds: f64,
    /// Processor time of the whole run, seconds.
    pub cpu_secs: f64,
    /// The most memory the run held, MiB.
    pub peak_memory_mb: f64,
}

/// The sampled tokens of one trajectory of a training step.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Training step.
    pub step: u64,
    /// Index of the task in the step.
    pub task: usize,
    /// Sampled tokens, in their order.
    pub tokens: Vec<u32>,
}

/// Where the runs come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Context {
    /// Recipe.
    pub recipe: String,
    /// The command that made the runs.
    pub command: String,
    /// Version of aepo.
    pub version: String,
    /// Commit, where it is known.
    pub commit: Option<String>,
    /// Processor, cores, memory.
    pub machine: String,
    /// Settings that differ from the recipe, key and value.
    pub settings: Vec<(String, String)>,
    /// The algorithm that every difference is taken to.
    pub baseline: String,
}

/// A file of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    /// Path inside the report, with `/`: only names of this crate's choosing.
    pub name: String,
    /// Its text.
    pub content: String,
}

/// Why runs cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReportError {
    /// Nothing was run.
    #[error("there is no run with a finished step")]
    NoRuns,
    /// The baseline was not run.
    #[error("no run of the baseline {baseline:?}; there are runs of {}", algorithms.join(", "))]
    NoBaseline {
        /// The baseline asked for.
        baseline: String,
        /// Algorithms with runs.
        algorithms: Vec<String>,
    },
    /// The same run twice.
    #[error("two runs of {algorithm:?} with seed {seed}")]
    RepeatedRun {
        /// Algorithm.
        algorithm: String,
        /// Run seed.
        seed: u64,
    },
    /// A step or an evaluation twice.
    #[error("{algorithm:?} with seed {seed} has two {what} of step {step}")]
    RepeatedStep {
        /// Algorithm.
        algorithm: String,
        /// Run seed.
        seed: u64,
        /// "rows" or "evaluations".
        what: &'static str,
        /// Training step.
        step: u64,
    },
    /// Nothing to compare over.
    #[error("the runs have no step in common")]
    NoCommonStep,
    /// Pass@n for different n.
    #[error("{algorithm:?} with seed {seed} was evaluated with {found} answers per question, others with {expected}")]
    Samples {
        /// Algorithm.
        algorithm: String,
        /// Run seed.
        seed: u64,
        /// Answers per question of the runs before.
        expected: usize,
        /// Answers per question of this one.
        found: usize,
    },
    /// No clusters.
    #[error("clustering the rollouts failed: {0}")]
    Clusters(String),
    /// No principal components.
    #[error("principal components of the rollouts failed: {0}")]
    Components(String),
    /// The summary could not be written.
    #[error("the summary cannot be written as JSON: {0}")]
    Summary(String),
}

/// Makes the files of a report: `report.md`, `report.html` (which needs no other file), `plots/*.svg`, `summary.json`.
///
/// Runs may have different numbers of steps: what all have is compared, and the report says what was left out.
///
/// # Errors
/// When the runs cannot be compared; see [`ReportError`].
pub fn comparison(context: &Context, runs: &[RunData]) -> Result<Vec<ReportFile>, ReportError> {
    let mut scope = scope::scope(&context.baseline, runs)?;
    let diversity = diversity::diversity(&scope.runs)?;
    scope.notes.extend(diversity::notes(&scope.runs, &diversity));
    let summary = summary::summary(context, &scope, &diversity);
    let figures = figures::figures(&summary, &scope, &diversity);
    let document = document::document(&summary, figures);
    files(&document, &summary)
}

/// A document as Markdown, as one page and as its plots, and the numbers behind it.
fn files(document: &document::Document, summary: &impl serde::Serialize) -> Result<Vec<ReportFile>, ReportError> {
    let mut json = serde_json::to_string_pretty(summary).map_err(|e| ReportError::Summary(e.to_string()))?;
    json.push('\n');
    let file = |name: &str, content: String| ReportFile { name: name.to_owned(), content };
    let mut files = vec![
        file("report.md", markdown::markdown(document)),
        file("report.html", html::html(document)),
        file("summary.json", json),
    ];
    files.extend(document.figures().map(|f| file(&f.path(), f.svg.standalone())));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, run};

    const SVG: &str = "http://www.w3.org/2000/svg";

    fn many(names: &[&str], n_seeds: u64) -> Vec<RunData> {
        names.iter().flat_map(|name| (1..=n_seeds).map(|seed| run(name, seed, 8))).collect()
    }

    fn file<'a>(files: &'a [ReportFile], name: &str) -> &'a str {
        &files.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("no {name}")).content
    }

    #[test]
    fn a_report_is_whole() {
        let names = ["grpo", "aepo", "arpo", "dapo", "cispo", "gppo", "gigpo", "reinforce++", "gspo"];
        for (n_algorithms, n_seeds) in [(1, 1), (2, 1), (3, 3), (9, 2)] {
            let files = comparison(&context(), &many(&names[..n_algorithms], n_seeds)).unwrap();
            let page = file(&files, "report.html");
            let plots: Vec<&ReportFile> = files.iter().filter(|f| f.name.ends_with(".svg")).collect();
            assert!(plots.len() >= 14, "{}", plots.len());
            assert_eq!(page.matches("<svg").count(), plots.len());
            assert_eq!(page.matches("<figure").count(), plots.len());
            for plot in &plots {
                assert!(file(&files, "report.md").contains(&format!("]({})", plot.name)), "{}", plot.name);
                let document = roxmltree::Document::parse(&plot.content).unwrap();
                assert!(document.root_element().has_tag_name((SVG, "svg")));
                assert_eq!(plot.content.matches("http").count(), 1, "the namespace and nothing else");
                let is_whole = |text: &str| !text.contains("NaN") && !text.contains("inf");
                let attributes = document.descendants().flat_map(|n| n.attributes());
                for attribute in attributes.filter(|a| !["class", "font-family"].contains(&a.name())) {
                    assert!(is_whole(attribute.value()), "{}: {attribute:?}", plot.name);
                }
                let title = document.descendants().find(|n| n.has_tag_name((SVG, "title"))).unwrap();
                assert!(page.contains(&svg::escape(title.text().unwrap())));
            }
            assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<script"));
            assert!(!page.contains("NaN"));
            let summary: serde_json::Value = serde_json::from_str(file(&files, "summary.json")).unwrap();
            assert_eq!(summary["algorithms"].as_array().unwrap().len(), n_algorithms);
            assert_eq!(page.contains("one seed, so there is no interval"), n_seeds == 1);
            assert_eq!(page.contains("contains 0") || page.contains("excludes 0"), n_algorithms > 1 && n_seeds > 1);
        }
    }

    /// Every number of a table stands in the summary, and the tables are those of the page.
    #[test]
    fn the_same_runs_give_the_same_files_with_these_numbers() {
        let files = comparison(&context(), &many(&["grpo", "cispo"], 3)).unwrap();
        assert_eq!(files, comparison(&context(), &many(&["grpo", "cispo"], 3)).unwrap());
        // Quality 0.04 + 0.004·(seed mod 3) a step over 8 steps from 0.4: 0.752, 0.784, 0.72 for grpo, and for cispo
        // (five letters) 0.32 less. The half-width is 4.303·0.032/√3.
        for name in ["report.md", "report.html"] {
            let text = file(&files, name);
            assert!(text.contains("75.2 ± 7.9"), "{name}");
            assert!(text.contains("\u{2212}32.0 ± 0.0"), "{name}");
            assert!(text.contains("over 3 pairs; the interval excludes 0"), "{name}");
        }
        let summary: serde_json::Value = serde_json::from_str(file(&files, "summary.json")).unwrap();
        let measures = summary["measures"].as_array().unwrap();
        let after = measures.iter().find(|m| m["key"] == "pass_at_1_after").unwrap();
        assert!((after["estimates"][0]["mean"].as_f64().unwrap() - 0.752).abs() < 1e-12);
        assert_eq!(after["differences"][1]["contains_zero"], false);
        assert_eq!(after["differences"][0], serde_json::Value::Null);
    }

    #[test]
    fn hostile_names_stay_names() {
        let hostile = "</title><script src='http://x'>alert(1)</script>|**b**\u{7}]]>";
        let mut context = context();
        context.baseline = hostile.to_owned();
        context.machine = hostile.to_owned();
        context.command = format!("aepo ``` {hostile}");
        context.settings = vec![(hostile.to_owned(), hostile.to_owned())];
        let files = comparison(&context, &many(&[hostile, "aepo"], 2)).unwrap();
        let page = file(&files, "report.html");
        assert!(!page.contains("<script") && page.contains("&lt;script"));
        let text = file(&files, "report.md");
        let fenced: Vec<&str> = text.split("````").collect();
        assert!(fenced.len() == 3 && fenced[1].contains(hostile.split('|').next().unwrap()), "the command is a block");
        assert!([fenced[0], fenced[2]].iter().all(|part| !part.contains("<script") && !part.contains("|**b")));
        for plot in files.iter().filter(|f| f.name.ends_with(".svg")) {
            let document = roxmltree::Document::parse(&plot.content).unwrap();
            assert!(document.descendants().all(|n| n.tag_name().name() != "script"));
            assert!(plot.name.chars().all(|c| c.is_ascii_alphanumeric() || "/-.".contains(c)), "{}", plot.name);
        }
    }

    #[test]
    fn runs_without_evaluations_and_rollouts_have_a_report() {
        let mut runs = many(&["grpo", "aepo"], 2);
        runs[0].evals.clear();
        runs[1].rollouts.clear();
        runs[2].rows.truncate(3);
        let files = comparison(&context(), &runs).unwrap();
        let page = file(&files, "report.html");
        assert!(page.contains("No evaluation on held-out questions is shared by all runs"));
        assert!(page.contains("No training step has rollouts of every run"));
        assert!(page.contains("grpo with seed 1 has 8 steps, of which the 3 that every run has are compared."));
        assert!(!files.iter().any(|f| f.name.contains("rollouts") || f.name.contains("learning-curves")));
    }

    #[test]
    fn rows_are_read_as_runs_write_them() {
        let row = testing::row(3, 0.0);
        let mut json = serde_json::to_value(&row.record).unwrap();
        json["secs_total"] = 3.5.into();
        json["peak_memory_mb"] = 700.0.into();
        let read: Row = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(read.record, row.record);
        assert_eq!(read.times, [("secs_total".to_owned(), 3.5), ("peak_memory_mb".to_owned(), 700.0)].into());
        json.as_object_mut().unwrap().remove("on_fork");
        assert!(serde_json::from_value::<Row>(json).unwrap_err().to_string().contains("on_fork"));
    }
}
