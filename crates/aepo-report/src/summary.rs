//! What do the seeds say together? Every number of the report, as `summary.json` holds it.

use serde::Serialize;

use crate::Context;
use crate::diversity::StepDiversity;
use crate::measure::{CURVES, Group, Unit, measures, rounds_by_chain};
use crate::scope::Scope;
use crate::stats::{CONFIDENCE, Estimate, smooth};

/// Every number of a report.
#[derive(Clone, Debug, Serialize)]
pub struct Summary<'a> {
    /// Where the runs come from.
    pub context: &'a Context,
    /// The confidence of every interval.
    pub confidence: f64,
    /// Training steps compared: how many.
    pub n_steps: usize,
    /// Evaluations compared, by the steps before them.
    pub eval_steps: &'a [u64],
    /// Answers per question of an evaluation.
    pub samples: Option<usize>,
    /// What is missing or uneven.
    pub notes: &'a [String],
    /// Algorithms and the seeds they ran with.
    pub algorithms: Vec<AlgorithmRuns>,
    /// Every measure.
    pub measures: Vec<MeasureSummary>,
    /// Everything over steps.
    pub curves: Vec<CurveSummary>,
    /// Share of high-entropy rounds by the length of their chain.
    pub chains: Vec<ChainSummary>,
}

/// Which runs there are of an algorithm.
#[derive(Clone, Debug, Serialize)]
pub struct AlgorithmRuns {
    /// Its name.
    pub name: String,
    /// Its seeds.
    pub seeds: Vec<u64>,
}

/// A measure of all algorithms.
#[derive(Clone, Debug, Serialize)]
pub struct MeasureSummary {
    /// Its key.
    pub key: String,
    /// Its name in a table.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// Where it is told.
    pub group: Group,
    /// What it is.
    pub about: String,
    /// `[n_algorithms]`, over seeds.
    pub estimates: Vec<Option<Estimate>>,
    /// `[n_algorithms]`, differences to the baseline on the same seeds; `None` for the baseline itself.
    pub differences: Vec<Option<Difference>>,
}

/// A difference to the baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Over the seeds that both have.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Whether 0 lies in the interval; `None` without an interval.
    pub contains_zero: Option<bool>,
}

/// A number over steps, of all algorithms.
#[derive(Clone, Debug, Serialize)]
pub struct CurveSummary {
    /// Its key.
    pub key: &'static str,
    /// Its name on an axis.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Steps over which a moving mean was taken, centred; 1 is none.
    pub window: usize,
    /// `[n_points]`, training step.
    pub steps: Vec<u64>,
    /// `[n_algorithms][n_points]`, over seeds.
    pub algorithms: Vec<Vec<Option<Band>>>,
}

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Band {
    /// Mean over seeds.
    pub mean: f64,
    /// Its interval.
    pub interval: Option<[f64; 2]>,
}

/// Where an algorithm's high-entropy rounds lie.
#[derive(Clone, Debug, Serialize)]
pub struct ChainSummary {
    /// `[n]`, share of rounds on chains of length index + 1; mean over seeds that have any such round.
    pub shares: Vec<f64>,
}

impl Summary<'_> {
    /// A measure by its key.
    #[must_use]
    pub fn measure(&self, key: &str) -> Option<&MeasureSummary> {
        self.measures.iter().find(|m| m.key == key)
    }

    /// A curve by its key.
    #[must_use]
    pub fn curve(&self, key: &str) -> Option<&CurveSummary> {
        self.curves.iter().find(|c| c.key == key)
    }

    /// Index of the baseline.
    #[must_use]
    pub fn baseline(&self) -> usize {
        self.algorithms.iter().position(|a| a.name == self.context.baseline).unwrap_or(0)
    }
}

/// Brings the runs together.
#[must_use]
pub fn summary<'a>(context: &'a Context, scope: &'a Scope<'a>, diversity: &[StepDiversity]) -> Summary<'a> {
    let measures = measures(scope, diversity).into_iter().map(|measure| {
        let of = |algorithm: &String| {
            let values = scope.of(algorithm).filter_map(|run| Some((scope.runs[run].seed, (measure.of)(run)?)));
            Estimate::of(values)
        };
        let estimates: Vec<Option<Estimate>> = scope.algorithms.iter().map(of).collect();
        let difference = |(i, estimate): (usize, &Option<Estimate>)| {
            let baseline = estimates[scope.baseline].as_ref().filter(|_| i != scope.baseline)?;
            let estimate = estimate.as_ref()?.minus(baseline)?;
            Some(Difference { contains_zero: estimate.contains_zero(), estimate })
        };
        let differences = estimates.iter().enumerate().map(difference).collect();
        let (key, name, unit, group) = (measure.key, measure.name, measure.unit, measure.group);
        MeasureSummary { key, name, unit, group, about: measure.about, estimates, differences }
    });
    let seeds = |algorithm: &String| {
        let mut seeds: Vec<u64> = scope.of(algorithm).map(|run| scope.runs[run].seed).collect();
        seeds.sort_unstable();
        AlgorithmRuns { name: algorithm.clone(), seeds }
    };
    Summary {
        context,
        confidence: CONFIDENCE,
        n_steps: scope.steps.len(),
        eval_steps: &scope.eval_steps,
        samples: scope.samples,
        notes: &scope.notes,
        algorithms: scope.algorithms.iter().map(seeds).collect(),
        measures: measures.collect(),
        curves: curves(scope),
        chains: scope.algorithms.iter().map(|a| chains(scope, a)).collect(),
    }
}

fn curves(scope: &Scope<'_>) -> Vec<CurveSummary> {
    let mut curves = Vec::new();
    if scope.eval_steps.len() > 1 {
        let values = |run: usize| scope.evals(run).iter().map(|(_, r)| r.pass_at_1).collect();
        let (steps, name) = (scope.eval_steps.clone(), "held-out Pass@1");
        let algorithms = bands(scope, steps.len(), values);
        curves.push(CurveSummary { key: "pass_at_1", name, unit: Unit::Share, window: 1, steps, algorithms });
    }
    let n = scope.steps.len();
    // A fifteenth of the steps, made odd: enough to calm single steps, too little to hide a trend.
    let window = n / 30 * 2 + 1;
    for curve in CURVES {
        let values = |run: usize| {
            let rows: Vec<f64> = scope.rows(run).iter().map(|row| (curve.of)(&row.record)).collect();
            smooth(&rows, window)
        };
        let algorithms = bands(scope, n, values);
        let (key, name, unit) = (curve.key, curve.name, curve.unit);
        curves.push(CurveSummary { key, name, unit, window, steps: scope.steps.clone(), algorithms });
    }
    curves
}

fn bands(scope: &Scope<'_>, n_points: usize, values: impl Fn(usize) -> Vec<f64>) -> Vec<Vec<Option<Band>>> {
    let of = |algorithm: &String| {
        let runs: Vec<(u64, Vec<f64>)> = scope.of(algorithm).map(|run| (scope.runs[run].seed, values(run))).collect();
        let at = |i: usize| {
            let estimate = Estimate::of(runs.iter().filter_map(|(seed, v)| Some((*seed, *v.get(i)?))))?;
            Some(Band { mean: estimate.mean, interval: estimate.interval })
        };
        (0..n_points).map(at).collect()
    };
    scope.algorithms.iter().map(of).collect()
}

fn chains(scope: &Scope<'_>, algorithm: &str) -> ChainSummary {
    let mut shares: Vec<f64> = Vec::new();
    let mut n_runs = 0.0;
    for run in scope.of(algorithm) {
        let rounds = rounds_by_chain(scope.rows(run).into_iter().map(|row| &row.record));
        let total: f64 = rounds.iter().sum();
        if total > 0.0 {
            shares.resize(shares.len().max(rounds.len()), 0.0);
            n_runs += 1.0;
            for (share, n) in shares.iter_mut().zip(&rounds) {
                *share += n / total;
            }
        }
    }
    shares.iter_mut().for_each(|share| *share /= n_runs);
    ChainSummary { shares }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::scope;
    use crate::testing::{context, run};

    #[test]
    fn differences_are_paired_by_seed() {
        let runs = [run("grpo", 1, 8), run("aepo-x", 2, 8), run("aepo-x", 1, 8), run("grpo", 2, 8)];
        let (context, scope) = (context(), scope("grpo", &runs).unwrap());
        let summary = summary(&context, &scope, &[]);
        let gain = summary.measure("pass_at_1_gain").unwrap();
        assert_eq!((summary.baseline(), &gain.differences[0]), (0, &None));
        // Quality is 0.01·(length mod 5) + 0.004·seed a step: 4 and 1 for the names, over 8 steps, at either seed.
        let difference = gain.differences[1].as_ref().unwrap();
        assert!((difference.estimate.mean + 0.24).abs() < 1e-12, "{difference:?}");
        assert_eq!(difference.estimate.values.len(), 2);
        assert_eq!(difference.contains_zero, Some(false));
        assert!(gain.estimates[0].as_ref().unwrap().contains_zero().is_some());
        let entropy = summary.measure("entropy").unwrap().differences[1].as_ref().unwrap();
        assert_eq!((entropy.estimate.mean, entropy.contains_zero), (0.0, Some(true)));
    }

    #[test]
    fn chains_add_up_to_all_rounds() {
        let runs = [run("grpo", 1, 3)];
        let (context, scope) = (context(), scope("grpo", &runs).unwrap());
        let chains = &summary(&context, &scope, &[]).chains[0].shares;
        let expected = [6.0 / 13.0, 4.0 / 13.0, 3.0 / 13.0];
        assert!(chains.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12) && chains.len() == 3, "{chains:?}");
    }
}
