//! Which numbers does a run come down to? A list: each has a name, a unit, a sentence, and a rule.

use aepo::eval::EvalReport;
use aepo::record::StepRecord;
use serde::Serialize;

use crate::Row;
use crate::diversity::StepDiversity;
use crate::scope::Scope;
use crate::stats::mean_height;

/// What a number counts, which decides how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A share of 1, written in per cent; a difference in percentage points.
    Share,
    /// Nats per token.
    Nats,
    /// A mean count.
    Count,
    /// Tokens, in thousands of them.
    Tokens,
    /// Seconds.
    Secs,
    /// Mebibytes.
    Mib,
}

/// The part of a report in which a measure is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Accuracy on held-out questions, and in training.
    Accuracy,
    /// Token entropy.
    Entropy,
    /// Tool calls.
    Tools,
    /// Chains of high-entropy rounds.
    Chains,
    /// Forks.
    Branches,
    /// Diversity of rollouts.
    Diversity,
    /// What clipping keeps.
    Gradient,
    /// Tokens, time, memory.
    Cost,
}

/// A number per run.
pub struct Measure<'a> {
    /// Its name in `summary.json`.
    pub key: String,
    /// Its name in a table.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// Where it is told.
    pub group: Group,
    /// What it is, over what it is averaged.
    pub about: String,
    /// The number of a run, by its index in the scope; `None` where the run has none.
    pub of: Box<dyn Fn(usize) -> Option<f64> + 'a>,
}

/// A number per step.
pub struct Curve {
    /// Its name in `summary.json`.
    pub key: &'static str,
    /// Its name on an axis.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// The number of a step.
    pub of: fn(&StepRecord) -> f64,
}

/// What is drawn over training.
pub const CURVES: &[Curve] = &[
    Curve { key: "accuracy", name: "training accuracy", unit: Unit::Share, of: |r| r.accuracy },
    Curve { key: "entropy", name: "token entropy", unit: Unit::Nats, of: |r| r.entropy },
    Curve {
        key: "calls_per_trajectory",
        name: "calls per trajectory",
        unit: Unit::Count,
        of: |r| r.calls_per_trajectory,
    },
    Curve { key: "calls_per_step", name: "calls per step", unit: Unit::Count, of: calls },
    Curve { key: "branches_per_tree", name: "branches per tree", unit: Unit::Count, of: branches },
    Curve { key: "grad_share_high", name: "share of gradient", unit: Unit::Share, of: |r| r.update.grad_share_high },
];

/// Tool calls of a step, each call of a tree once.
#[must_use]
pub fn calls(r: &StepRecord) -> f64 {
    r.tool_calls.values().flat_map(|outcomes| outcomes.values()).sum::<usize>() as f64
}

fn branches(r: &StepRecord) -> f64 {
    r.n_branches as f64 / r.n_tasks.max(1) as f64
}

/// High-entropy rounds by the length of their chain: `[n]`, at index i those on chains of length i + 1.
#[must_use]
pub fn rounds_by_chain<'r>(rows: impl IntoIterator<Item = &'r StepRecord>) -> Vec<f64> {
    let mut rounds: Vec<f64> = Vec::new();
    for (i, n_chains) in rows.into_iter().flat_map(|r| r.chain_lengths.iter().enumerate()) {
        rounds.resize(rounds.len().max(i + 1), 0.0);
        rounds[i] += (i + 1) as f64 * *n_chains as f64;
    }
    rounds
}

/// Σ_{l ≥ 2} l·n_l / Σ_l l·n_l; `None` without any high-entropy round.
#[must_use]
pub fn consecutive_share(rounds: &[f64]) -> Option<f64> {
    let total: f64 = rounds.iter().sum();
    (total > 0.0).then(|| 1.0 - rounds[0] / total)
}

/// Every measure of these runs.
#[must_use]
pub fn measures<'a>(scope: &'a Scope<'a>, diversity: &'a [StepDiversity]) -> Vec<Measure<'a>> {
    let mut list = List { scope, measures: Vec::new() };
    accuracy(&mut list);
    behaviour(&mut list);
    ways(&mut list, diversity);
    gradient(&mut list);
    cost(&mut list);
    list.measures
}

struct List<'a> {
    scope: &'a Scope<'a>,
    measures: Vec<Measure<'a>>,
}

/// Name, key, unit and group.
type Head<'s> = (&'s str, &'s str, Unit, Group);

impl<'a> List<'a> {
    fn add(&mut self, (name, key, unit, group): Head<'_>, about: &str, of: impl Fn(usize) -> Option<f64> + 'a) {
        let (name, key, about) = (name.to_owned(), key.to_owned(), about.to_owned());
        self.measures.push(Measure { key, name, unit, group, about, of: Box::new(of) });
    }

    /// From the common rows of a run.
    fn of_rows(&mut self, head: Head<'_>, about: &str, of: impl Fn(&[&Row]) -> Option<f64> + 'a) {
        let scope = self.scope;
        self.add(head, about, move |run| of(&scope.rows(run)));
    }

    /// The mean over steps.
    fn mean(&mut self, head: Head<'_>, about: &str, of: fn(&StepRecord) -> f64) {
        self.of_rows(head, &format!("{about}; mean over steps"), move |rows| mean_of(rows, of));
    }

    /// From the common evaluations of a run.
    fn of_evals(&mut self, head: Head<'_>, about: &str, of: impl Fn(&[&(u64, EvalReport)]) -> Option<f64> + 'a) {
        let scope = self.scope;
        self.add(head, about, move |run| of(&scope.evals(run)));
    }
}

fn mean_of(rows: &[&Row], of: fn(&StepRecord) -> f64) -> Option<f64> {
    let n = rows.len() as f64;
    (n > 0.0).then(|| rows.iter().map(|row| of(&row.record)).sum::<f64>() / n)
}

/// The first or last quarter of the steps, at least one.
fn quarter<'r, 'a>(rows: &'r [&'a Row], is_last: bool) -> &'r [&'a Row] {
    let n = rows.len().div_ceil(4);
    if is_last { &rows[rows.len() - n..] } else { &rows[..n] }
}

fn accuracy(list: &mut List<'_>) {
    use Group::Accuracy;
    use Unit::Share;
    let (first, last) = (list.scope.eval_steps.first().copied(), list.scope.eval_steps.last().copied());
    if let (Some(first), Some(last), Some(n)) = (first, last, list.scope.samples) {
        let mut pass = |name: &str, key: &str, what: &str, of: fn(&EvalReport) -> f64| {
            let head = |when: &str, suffix: &str| (format!("{name} {when}"), format!("{key}_{suffix}"));
            let (n, k) = head("before", "before");
            let about = format!("{what}, after {first} steps");
            list.of_evals((&n, &k, Share, Accuracy), &about, move |e| e.first().map(|(_, r)| of(r)));
            let (n, k) = head("after", "after");
            let about = format!("{what}, after {last} steps");
            list.of_evals((&n, &k, Share, Accuracy), &about, move |e| e.last().map(|(_, r)| of(r)));
            let (n, k) = head("gain", "gain");
            let about = format!("{what}: after {last} steps less after {first}, run by run");
            list.of_evals((&n, &k, Share, Accuracy), &about, move |e| Some(of(&e.last()?.1) - of(&e.first()?.1)));
        };
        pass("Pass@1", "pass_at_1", "Share of right answers to held-out questions", |r| r.pass_at_1);
        if n > 1 {
            let what = format!("Share of held-out questions with a right answer among {n}");
            pass(&format!("Pass@{n}"), "pass_at_n", &what, |r| r.pass_at_samples);
        }
        let about = "Area under the curve of Pass@1 over steps, by trapezia between evaluations, divided by its width: \
            the mean Pass@1 on the way";
        list.of_evals(("Area under Pass@1", "pass_at_1_area", Share, Accuracy), about, |evals| {
            mean_height(&evals.iter().map(|(step, r)| (*step as f64, r.pass_at_1)).collect::<Vec<_>>())
        });
    }
    let about = "Accuracy of training rollouts, mean over the last quarter of the steps";
    list.of_rows(("Training accuracy", "train_accuracy_last", Share, Accuracy), about, |rows| {
        mean_of(quarter(rows, true), |r| r.accuracy)
    });
}

fn behaviour(list: &mut List<'_>) {
    use Group::{Branches, Chains, Entropy, Tools};
    use Unit::{Count, Nats, Share};
    let about = "Entropy of the sampled tokens' distributions, unrolled";
    list.mean(("Entropy", "entropy", Nats, Entropy), about, |r| r.entropy);
    let about = "The same, mean over the last quarter of the steps";
    list.of_rows(("Entropy at the end", "entropy_last", Nats, Entropy), about, |rows| {
        mean_of(quarter(rows, true), |r| r.entropy)
    });
    let about = "The same, last quarter of the steps less the first: below 0 it falls";
    list.of_rows(("Change of entropy", "entropy_change", Nats, Entropy), about, |rows| {
        Some(mean_of(quarter(rows, true), |r| r.entropy)? - mean_of(quarter(rows, false), |r| r.entropy)?)
    });
    let about = "Tool calls on the way from the root to an answer";
    list.mean(("Calls per trajectory", "calls_per_trajectory", Count, Tools), about, |r| r.calls_per_trajectory);
    let about = "Tool calls of a training step, calls before a fork counted once";
    list.mean(("Calls per step", "calls_per_step", Count, Tools), about, calls);
    let about = "Share of rounds after a tool result whose entropy is above that of their trajectory's beginning";
    list.mean(("High-entropy rounds", "high_entropy_rate", Share, Chains), about, |r| r.high_entropy_rate);
    let about = "Share of high-entropy rounds that follow or precede another on their trajectory, over all steps";
    list.of_rows(("Of these consecutive", "consecutive_share", Share, Chains), about, |rows| {
        consecutive_share(&rounds_by_chain(rows.iter().map(|row| &row.record)))
    });
    let about = "Most high-entropy rounds in a row on one trajectory of a run";
    list.of_rows(("Longest chain", "longest_chain", Count, Chains), about, |rows| {
        rows.iter().map(|row| row.record.chain_lengths.len() as f64).reduce(f64::max)
    });
    let about = "Trajectories of a tree, those that a failing tool spoilt included";
    list.mean(("Trajectories (k)", "trajectories_per_tree", Count, Branches), about, |r| {
        (r.n_trajectories + r.n_unavailable) as f64 / r.n_tasks.max(1) as f64
    });
    list.mean(("From the root (m)", "n_global", Count, Branches), "Trajectories begun at the root, per tree", |r| {
        r.n_global
    });
    list.mean(
        ("Branches per tree", "branches_per_tree", Count, Branches),
        "Trajectories of a tree that do not start at the root",
        branches,
    );
    let about = "Trajectories of a tree that forked themselves at least once";
    list.mean(("That forked", "forking", Count, Branches), about, |r| r.forking);
    let about = "Trajectories of a tree with any fork between the root and their end";
    list.mean(("On a fork", "on_fork", Count, Branches), about, |r| r.on_fork);
}

fn ways<'a>(list: &mut List<'a>, diversity: &'a [StepDiversity]) {
    for d in diversity {
        let (step, n_tasks) = (d.step, d.n_tasks);
        let about = |what: &str| format!("{what} the rollouts of step {step} for {n_tasks} questions, per run");
        let key = |name: &str| format!("{name}_step_{step}");
        let head = (format!("Clusters, step {step}"), key("clusters"));
        let about_clusters = about("DBSCAN clusters among");
        list.add((&head.0, &head.1, Unit::Count, Group::Diversity), &about_clusters, move |run| {
            d.runs[run].as_ref().map(|r| r.n_clusters as f64)
        });
        let head = (format!("Noise, step {step}"), key("noise"));
        list.add((&head.0, &head.1, Unit::Count, Group::Diversity), &about("In no cluster among"), move |run| {
            d.runs[run].as_ref().map(|r| r.n_noise as f64)
        });
    }
}

fn gradient(list: &mut List<'_>) {
    use Group::Gradient;
    use Unit::Share;
    let about = "Share of the surrogate's gradient Σ|∂L/∂logp| on tokens sampled at more entropy than four fifths of the \
        batch's tokens";
    list.mean(("Gradient on high entropy", "grad_share_high", Share, Gradient), about, |r| r.update.grad_share_high);
    let about = "Share of the gradient of those tokens that clipping took away: 1 − Σ|∂L/∂logp| / Σ|r·A|";
    list.mean(("Lost, high entropy", "grad_lost_high", Share, Gradient), about, |r| r.update.grad_lost_high);
    let about = "The same of all other tokens";
    list.mean(("Lost, other tokens", "grad_lost_rest", Share, Gradient), about, |r| r.update.grad_lost_rest);
    let about = "Share of trained tokens clipped above (A > 0)";
    list.mean(("Clipped above", "clip_frac_high", Share, Gradient), about, |r| r.update.clip_frac_high);
    let about = "Share of trained tokens clipped below (A < 0)";
    list.mean(("Clipped below", "clip_frac_low", Share, Gradient), about, |r| r.update.clip_frac_low);
    let about = "Share of trained tokens clipped by the dual clip";
    list.mean(("Dual clip", "clip_frac_dual", Share, Gradient), about, |r| r.update.clip_frac_dual);
}

fn cost(list: &mut List<'_>) {
    use Group::Cost;
    use Unit::{Mib, Secs, Tokens};
    let about = "Tokens the model sampled in a step, each once";
    list.mean(("Sampled", "sampled_tokens", Tokens, Cost), about, |r| r.n_sampled_tokens as f64);
    let about = "Tokens of a step's trees, prompts and results included, each once: those that are computed";
    list.mean(("Unique", "unique_tokens", Tokens, Cost), about, |r| r.n_unique_tokens as f64);
    let about = "Tokens of a step's trajectories, each trajectory on its own: what would be computed without sharing";
    list.mean(("Unrolled", "unrolled_tokens", Tokens, Cost), about, |r| r.n_unrolled_tokens as f64);
    let about = "Wall time of a step, evaluations apart; mean over steps";
    list.of_rows(("Time per step", "secs_per_step", Secs, Cost), about, |rows| {
        let secs: Option<Vec<f64>> = rows.iter().map(|row| row.times.get("secs_total").copied()).collect();
        secs.filter(|secs| !secs.is_empty()).map(|secs| secs.iter().sum::<f64>() / secs.len() as f64)
    });
    // Of whole runs: not to be compared when one went further than another.
    if list.scope.is_even() {
        let scope = list.scope;
        let about = "Wall time of a whole run, evaluations included";
        list.add(("Wall time", "seconds", Secs, Cost), about, |run| Some(scope.runs[run].seconds));
        let about = "Processor time of a whole run, all threads and tools";
        list.add(("Processor time", "cpu_secs", Secs, Cost), about, |run| Some(scope.runs[run].cpu_secs));
    }
    let scope = list.scope;
    let about = "The most memory a run held";
    list.add(("Memory", "peak_memory_mb", Mib, Cost), about, |run| Some(scope.runs[run].peak_memory_mb));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::scope;
    use crate::testing::run;

    fn value(key: &str) -> f64 {
        let runs = [run("grpo", 1, 8)];
        let scope = scope("grpo", &runs).unwrap();
        let measures = measures(&scope, &[]);
        let measure = measures.iter().find(|m| m.key == key).unwrap_or_else(|| panic!("no {key}"));
        (measure.of)(0).unwrap()
    }

    #[test]
    fn runs_come_down_to_these_numbers() {
        // `grpo` with seed 1 gains 0.044 a step from 0.4: evaluations 0.4, 0.576, 0.752 after 0, 4, 8 steps.
        for (key, expected) in [
            ("pass_at_1_before", 0.4),
            ("pass_at_1_after", 0.752),
            ("pass_at_1_gain", 0.352),
            ("pass_at_n_after", 1.052),
            ("pass_at_1_area", 0.576),
            ("train_accuracy_last", 0.4 + 0.044 * 6.5),
            ("entropy", 0.2 - 0.01 * 3.5),
            ("entropy_change", -0.06),
            ("calls_per_step", 20.0),
            // 6 chains of length 1, 2 of 2, 1 of 3: 7 of 13 rounds.
            ("consecutive_share", 7.0 / 13.0),
            ("longest_chain", 3.0),
            ("trajectories_per_tree", 4.0),
            ("branches_per_tree", 1.5),
            ("secs_per_step", 3.5),
            ("cpu_secs", 170.0),
        ] {
            assert!((value(key) - expected).abs() < 1e-12, "{key}: {} is not {expected}", value(key));
        }
    }

    #[test]
    fn shares_of_nothing_are_absent() {
        assert_eq!(consecutive_share(&[]), None);
        assert_eq!(consecutive_share(&[0.0, 0.0]), None);
        assert_eq!(consecutive_share(&[3.0]), Some(0.0));
        assert_eq!(consecutive_share(&[0.0, 4.0]), Some(1.0));
    }
}
