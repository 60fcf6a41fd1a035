//! What can be compared? The steps and evaluations that all runs have, and words about the rest.

use std::collections::BTreeSet;

use aepo::eval::EvalReport;

use crate::{ReportError, Row, RunData};

/// What is compared, and what is not.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// Runs with at least one step, in the order given.
    pub runs: Vec<&'a RunData>,
    /// Algorithms in the order of their first run.
    pub algorithms: Vec<String>,
    /// Index of the baseline among them.
    pub baseline: usize,
    /// Training steps that every run has.
    pub steps: Vec<u64>,
    /// Evaluations, by the steps before them, that every run has.
    pub eval_steps: Vec<u64>,
    /// Answers per question of the evaluations; `None` without any.
    pub samples: Option<usize>,
    /// What a reader must know about runs that are missing, short or uneven: whole sentences.
    pub notes: Vec<String>,
}

impl<'a> Scope<'a> {
    /// Rows of a run at the common steps, in their order.
    #[must_use]
    pub fn rows(&self, run: usize) -> Vec<&'a Row> {
        let rows: &'a [Row] = &self.runs[run].rows;
        let is_common = |row: &&Row| self.steps.binary_search(&row.record.step).is_ok();
        let mut rows: Vec<_> = rows.iter().filter(is_common).collect();
        rows.sort_by_key(|row| row.record.step);
        rows
    }

    /// Evaluations of a run at the common steps, in their order.
    #[must_use]
    pub fn evals(&self, run: usize) -> Vec<&'a (u64, EvalReport)> {
        let evals: &'a [(u64, EvalReport)] = &self.runs[run].evals;
        let mut evals: Vec<_> = evals.iter().filter(|(step, _)| self.eval_steps.contains(step)).collect();
        evals.sort_by_key(|(step, _)| *step);
        evals
    }

    /// Whether every run has exactly the common steps.
    #[must_use]
    pub fn is_even(&self) -> bool {
        self.runs.iter().all(|run| run.rows.len() == self.steps.len())
    }

    /// Runs of an algorithm, as indices.
    pub fn of<'s>(&'s self, algorithm: &'s str) -> impl Iterator<Item = usize> + 's {
        (0..self.runs.len()).filter(move |&i| self.runs[i].algorithm == algorithm)
    }
}

/// Finds what all runs have.
///
/// # Errors
/// When nothing can be compared, or what is given contradicts itself.
pub fn scope<'a>(baseline: &str, all: &'a [RunData]) -> Result<Scope<'a>, ReportError> {
    check(all)?;
    let mut notes = Vec::new();
    let runs: Vec<&RunData> = all.iter().filter(|run| !run.rows.is_empty()).collect();
    for run in all.iter().filter(|run| run.rows.is_empty()) {
        notes.push(format!("{} has no finished step and is left out.", name(run)));
    }
    if runs.is_empty() {
        return Err(ReportError::NoRuns);
    }
    let mut algorithms: Vec<String> = Vec::new();
    for run in &runs {
        if !algorithms.contains(&run.algorithm) {
            algorithms.push(run.algorithm.clone());
        }
    }
    let Some(baseline) = algorithms.iter().position(|a| a == baseline) else {
        return Err(ReportError::NoBaseline { baseline: baseline.to_owned(), algorithms });
    };
    let steps = common(runs.iter().map(|run| run.rows.iter().map(|row| row.record.step).collect()));
    if steps.is_empty() {
        return Err(ReportError::NoCommonStep);
    }
    for run in runs.iter().filter(|run| run.rows.len() > steps.len()) {
        let (n, n_all) = (run.rows.len(), steps.len());
        notes.push(format!("{} has {n} steps, of which the {n_all} that every run has are compared.", name(run)));
    }
    let eval_steps = common(runs.iter().map(|run| run.evals.iter().map(|(step, _)| *step).collect()));
    for run in runs.iter().filter(|run| run.evals.len() > eval_steps.len()) {
        let (n, n_all) = (run.evals.len(), eval_steps.len());
        notes.push(format!("{} has {n} evaluations, of which the {n_all} that every run has are compared.", name(run)));
    }
    let seeds = |algorithm: &str| -> BTreeSet<u64> {
        runs.iter().filter(|run| run.algorithm == algorithm).map(|run| run.seed).collect()
    };
    let of_baseline = seeds(&algorithms[baseline]);
    for algorithm in &algorithms {
        let own = seeds(algorithm);
        if own != of_baseline {
            let list = |s: &BTreeSet<u64>| s.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            notes.push(format!(
                "{algorithm} ran with the seeds {}, the baseline with {}: only seeds that both have are paired.",
                list(&own),
                list(&of_baseline)
            ));
        }
        if own.len() == 1 {
            notes.push(format!("{algorithm} ran with one seed: it has no interval, and its numbers may be luck."));
        }
    }
    let samples = runs.iter().flat_map(|run| &run.evals).map(|(_, report)| report.samples).next();
    if eval_steps.is_empty() {
        notes.push("No evaluation on held-out questions is shared by all runs, so there are none below.".to_owned());
    }
    Ok(Scope { runs, algorithms, baseline, steps, eval_steps, samples, notes })
}

fn name(run: &RunData) -> String {
    format!("{} with seed {}", run.algorithm, run.seed)
}

fn check(runs: &[RunData]) -> Result<(), ReportError> {
    let mut seen = BTreeSet::new();
    let mut samples = None;
    for run in runs {
        let (algorithm, seed) = (run.algorithm.clone(), run.seed);
        if !seen.insert((&run.algorithm, seed)) {
            return Err(ReportError::RepeatedRun { algorithm, seed });
        }
        let repeated = |steps: Vec<u64>| {
            let mut seen = BTreeSet::new();
            steps.into_iter().find(|step| !seen.insert(*step))
        };
        let rows = repeated(run.rows.iter().map(|row| row.record.step).collect()).map(|step| ("rows", step));
        let evals = repeated(run.evals.iter().map(|(step, _)| *step).collect()).map(|step| ("evaluations", step));
        if let Some((what, step)) = rows.or(evals) {
            return Err(ReportError::RepeatedStep { algorithm, seed, what, step });
        }
        for (_, report) in &run.evals {
            let expected = *samples.get_or_insert(report.samples);
            if expected != report.samples {
                return Err(ReportError::Samples { algorithm, seed, expected, found: report.samples });
            }
        }
    }
    Ok(())
}

fn common(sets: impl Iterator<Item = BTreeSet<u64>>) -> Vec<u64> {
    sets.reduce(|a, b| &a & &b).unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{empty_run, run};

    #[test]
    fn only_what_all_have_is_compared_and_the_rest_is_named() {
        let runs = [run("aepo", 1, 6), run("grpo", 1, 4), run("grpo", 2, 6), empty_run("aepo", 2)];
        let scope = scope("grpo", &runs).unwrap();
        assert_eq!(scope.steps, [0, 1, 2, 3]);
        assert_eq!(scope.eval_steps, [0, 4], "an evaluation after every second pair of steps");
        assert_eq!((scope.runs.len(), scope.baseline, scope.is_even()), (3, 1, false));
        assert_eq!(scope.rows(0).len(), 4);
        let notes = scope.notes.join("\n");
        for expected in [
            "aepo with seed 2 has no finished step and is left out.",
            "aepo with seed 1 has 6 steps, of which the 4 that every run has are compared.",
            "aepo ran with the seeds 1, the baseline with 1, 2: only seeds that both have are paired.",
            "aepo ran with one seed",
        ] {
            assert!(notes.contains(expected), "{expected} is not in:\n{notes}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let found = |baseline: &str, runs: &[RunData]| scope(baseline, runs).unwrap_err();
        assert_eq!(found("grpo", &[]), ReportError::NoRuns);
        assert_eq!(found("grpo", &[empty_run("grpo", 1)]), ReportError::NoRuns);
        let algorithms = vec!["aepo".to_owned()];
        assert_eq!(
            found("grpo", &[run("aepo", 1, 2)]),
            ReportError::NoBaseline { baseline: "grpo".to_owned(), algorithms }
        );
        let algorithm = || "grpo".to_owned();
        assert_eq!(
            found("grpo", &[run("grpo", 7, 2), run("grpo", 7, 3)]),
            ReportError::RepeatedRun { algorithm: algorithm(), seed: 7 }
        );
        let mut twice = run("grpo", 1, 3);
        twice.rows.push(twice.rows[1].clone());
        assert_eq!(
            found("grpo", &[twice]),
            ReportError::RepeatedStep { algorithm: algorithm(), seed: 1, what: "rows", step: 1 }
        );
        let mut late = run("grpo", 2, 3);
        late.rows.iter_mut().for_each(|row| row.record.step += 10);
        assert_eq!(found("grpo", &[run("grpo", 1, 3), late]), ReportError::NoCommonStep);
        let mut other = run("grpo", 2, 3);
        other.evals[0].1.samples = 9;
        let expected = ReportError::Samples { algorithm: algorithm(), seed: 2, expected: 5, found: 9 };
        assert_eq!(found("grpo", &[run("grpo", 1, 3), other]), expected);
    }
}
