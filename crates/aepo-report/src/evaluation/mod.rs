//! What did a model show on benchmarks? One evaluation becomes a report; two become a paired comparison.

mod picture;
mod tell;
mod versus;

use std::collections::BTreeMap;

use aepo::eval::measure::SetSummary;
use aepo::eval::paper::Paper;
use serde::{Deserialize, Serialize};

use crate::{ReportError, ReportFile};

pub use versus::{Scores, SetVersus, Versus, versus};

/// One evaluation, as `summary.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// What was measured.
    pub model: String,
    /// The command that did it.
    pub command: String,
    /// Version of aepo, with the commit where it is known.
    pub version: String,
    /// Processor, cores, memory.
    pub machine: String,
    /// Settings that decide on answers, key and value.
    pub settings: Vec<(String, String)>,
    /// Whose evaluation it repeats.
    pub paper: Option<Paper>,
    /// The model that judged, where one did.
    pub judge: Option<String>,
    /// What was measured, set by set.
    pub sets: Vec<SetSummary>,
    /// Means over the sets of a group that were measured, by the group's name.
    pub groups: BTreeMap<String, GroupMean>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// The mean of several sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupMean {
    /// Which sets.
    pub sets: Vec<String>,
    /// Mean of their scores, each set counted once.
    pub score: f64,
}

/// Makes `report.md`, `report.html` (which needs no other file), `plots/scores.svg` and `summary.json`.
///
/// # Errors
/// When the summary cannot be written as JSON.
pub fn evaluation(evaluation: &Evaluation) -> Result<Vec<ReportFile>, ReportError> {
    crate::files(&tell::document(evaluation), evaluation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aepo::eval::measure::Figure;
    use aepo::tool::ToolName;

    fn figure(value: f64, n_questions: usize) -> Figure {
        Figure { value, interval: [value - 0.05, value + 0.05], n_questions }
    }

    pub fn set(name: &str, value: f64) -> SetSummary {
        SetSummary {
            name: name.to_owned(),
            title: name.to_uppercase(),
            metric: "accuracy".to_owned(),
            n_rows: 200,
            n_asked: 100,
            n_measured: 99,
            samples: 5,
            n_answers: 490,
            n_missing: 3,
            unavailable: BTreeMap::from([("HTTP status 500 <b>".to_owned(), 7)]),
            score: figure(value, 99),
            pass: BTreeMap::from([(1, figure(value, 99)), (5, figure(value + 0.1, 99))]),
            majority: BTreeMap::from([(1, figure(value, 99)), (5, figure(value + 0.05, 99))]),
            format_rate: Some(0.9),
            calls: BTreeMap::from([(ToolName::PYTHON, 1.5)]),
            sampled_tokens: Some(345.6),
            prompt_tokens: None,
            secs: Some(2.5),
            stops: BTreeMap::from([("answered".to_owned(), 480), ("no-action".to_owned(), 10)]),
            kinds: BTreeMap::from([("level 1".to_owned(), figure(0.5, 50)), ("level 2".to_owned(), figure(0.4, 49))]),
        }
    }

    fn example() -> Evaluation {
        Evaluation {
            model: "small|model".to_owned(),
            command: "aepo eval small --benchmark gsm8k,gaia".to_owned(),
            version: "0.1.0".to_owned(),
            machine: "one".to_owned(),
            settings: vec![("eval.temperature".to_owned(), "0.6".to_owned())],
            paper: Some(Paper::Arpo),
            judge: None,
            sets: vec![set("gsm8k", 0.7), set("gaia", 0.3)],
            groups: BTreeMap::from([("math".to_owned(), GroupMean { sets: vec!["gsm8k".to_owned()], score: 0.7 })]),
            notes: vec!["No model judged.".to_owned()],
        }
    }

    fn content<'a>(files: &'a [ReportFile], name: &str) -> &'a str {
        &files.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("no {name}")).content
    }

    #[test]
    fn a_report_says_how_many_how_sure_and_what_the_paper_found() {
        let files = evaluation(&example()).unwrap();
        let markdown = content(&files, "report.md");
        for words in [
            "70.0 (65.0 to 75.0)",
            "100 of 200",
            "small\\|model",
            "7 answers: HTTP status 500 &lt;b&gt;",
            "3 answers are missing",
            "92.2",
            "61.2",
            "table 1",
        ] {
            assert!(markdown.contains(words), "{words}:\n{markdown}");
        }
        let page = content(&files, "report.html");
        assert!(page.contains("<svg") && !page.contains("<b>"));
        roxmltree::Document::parse(content(&files, "plots/scores.svg")).unwrap();
        let back: Evaluation = serde_json::from_str(content(&files, "summary.json")).unwrap();
        assert_eq!(back, example());
        let alone = Evaluation { paper: None, sets: Vec::new(), groups: BTreeMap::new(), ..example() };
        assert!(!content(&evaluation(&alone).unwrap(), "report.md").contains("92.2"));
    }
}
