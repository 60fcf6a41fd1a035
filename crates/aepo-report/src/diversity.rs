//! How many different ways did the rollouts of a step go? Clusters per run, and a picture of all runs in one plane.

use linfa::traits::Transformer as _;
use linfa_clustering::Dbscan;
use linfa_nn::CommonNearestNeighbour::LinearSearch;
use linfa_nn::distance::L2Dist;
use ndarray::{Array2, Axis};

use crate::embed::{embed, principal_plane};
use crate::{ReportError, RunData};

/// Rollouts nearer than this on the unit sphere go the same way: a cosine above 1 − 0.7²/2 = 0.755. Rollouts of
/// different questions are about 1.0 apart and more (half of all pairs 1.25), the same way with another name or number
/// 0.1 to 0.6, so the threshold lies in the gap between.
pub const EPS: f64 = 0.7;

/// Two rollouts that agree are a cluster. A question has only k of them, so a way that was gone twice is no accident;
/// a rollout that agrees with no other is noise, and counted apart.
pub const MIN_POINTS: usize = 2;

/// The rollouts of one step, all runs together.
#[derive(Clone, Debug)]
pub struct StepDiversity {
    /// Training step.
    pub step: u64,
    /// Tasks that were looked at: as many as every run has, so that counts can be compared.
    pub n_tasks: usize,
    /// Per run of the report, in its order; `None` for a run without rollouts of this step.
    pub runs: Vec<Option<RunClusters>>,
    /// Share of the variance along the two axes of the picture.
    pub explained: [f64; 2],
}

/// The rollouts of one run and step.
#[derive(Clone, Debug)]
pub struct RunClusters {
    /// Clusters.
    pub n_clusters: usize,
    /// Rollouts in none.
    pub n_noise: usize,
    /// `[n_rollouts]`, where each lies in the plane of the step.
    pub points: Vec<[f64; 2]>,
    /// `[n_rollouts]`, whether it is in a cluster.
    pub clustered: Vec<bool>,
}

/// Embeds, clusters and projects the rollouts of every step at which all `runs` have some.
pub fn diversity(runs: &[&RunData]) -> Result<Vec<StepDiversity>, ReportError> {
    let mut steps: Vec<u64> = runs.iter().flat_map(|r| &r.rollouts).map(|r| r.step).collect();
    steps.sort_unstable();
    steps.dedup();
    let all_have = |step: &u64| runs.iter().all(|run| run.rollouts.iter().any(|r| r.step == *step));
    steps.into_iter().filter(all_have).map(|step| at_step(step, runs)).collect()
}

/// What of the rollouts could not be compared: whole sentences.
#[must_use]
pub fn notes(runs: &[&RunData], steps: &[StepDiversity]) -> Vec<String> {
    if steps.is_empty() {
        return vec!["No training step has rollouts of every run, so their diversity is not compared.".to_owned()];
    }
    let given = |step: u64| runs.iter().flat_map(|run| &run.rollouts).filter(move |r| r.step == step).count();
    let taken = |d: &StepDiversity| d.runs.iter().flatten().map(|run| run.points.len()).sum::<usize>();
    let cut = |d: &&StepDiversity| given(d.step) > taken(d);
    let note = |d: &StepDiversity| {
        let (step, n_tasks) = (d.step, d.n_tasks);
        format!("Of step {step}, the rollouts for its first {n_tasks} questions are compared: some run has no more.")
    };
    steps.iter().filter(cut).map(note).collect()
}

fn at_step(step: u64, runs: &[&RunData]) -> Result<StepDiversity, ReportError> {
    let of_step = |run: &&RunData| run.rollouts.iter().filter(|r| r.step == step).map(|r| r.task + 1).max();
    let n_tasks = runs.iter().filter_map(of_step).min().unwrap_or(0);
    let taken = |run: &&RunData| -> Vec<Vec<u32>> {
        let taken = run.rollouts.iter().filter(|r| r.step == step && r.task < n_tasks);
        taken.map(|r| r.tokens.clone()).collect()
    };
    let tokens: Vec<Vec<Vec<u32>>> = runs.iter().map(taken).collect();
    let flat: Vec<&[u32]> = tokens.iter().flatten().map(Vec::as_slice).collect();
    let rows = embed(&flat);
    let plane = principal_plane(&rows)?;
    let mut start = 0;
    let mut clusters = Vec::with_capacity(runs.len());
    for run in &tokens {
        let range = start..start + run.len();
        start = range.end;
        let own = rows.select(Axis(0), &range.clone().collect::<Vec<_>>());
        let labels = cluster(&own)?;
        clusters.push((!run.is_empty()).then(|| RunClusters {
            n_clusters: labels.iter().flatten().max().map_or(0, |last| last + 1),
            n_noise: labels.iter().filter(|label| label.is_none()).count(),
            points: plane.points[range].to_vec(),
            clustered: labels.iter().map(Option::is_some).collect(),
        }));
    }
    Ok(StepDiversity { step, n_tasks, runs: clusters, explained: plane.explained })
}

/// `[n]`, the cluster of each row, from 0; `None` for noise.
fn cluster(rows: &Array2<f64>) -> Result<Vec<Option<usize>>, ReportError> {
    let dbscan = Dbscan::params_with(MIN_POINTS, L2Dist, LinearSearch).tolerance(EPS);
    let labels = dbscan.transform(rows).map_err(|e| ReportError::Clusters(e.to_string()))?;
    Ok(labels.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rollout;

    fn run(seed: u64, rollouts: &[(u64, usize, &[u32])]) -> RunData {
        let rollout = |&(step, task, tokens): &(u64, usize, &[u32])| Rollout { step, task, tokens: tokens.to_vec() };
        let rollouts = rollouts.iter().map(rollout).collect();
        RunData { rollouts, ..crate::testing::empty_run("aepo", seed) }
    }

    #[test]
    fn ways_are_counted() {
        let a: Vec<u32> = (1..=40).collect();
        // The same way with another number in it.
        let varied: Vec<u32> = a.iter().map(|&t| if t == 9 { 99 } else { t }).collect();
        let (a, varied, b): (&[u32], &[u32], &[u32]) = (&a, &varied, &[10, 20, 30, 40, 50]);
        let varied = run(1, &[(0, 0, a), (0, 0, varied), (0, 1, b), (0, 1, b), (0, 1, &[91, 92, 93])]);
        let alike = run(2, &[(0, 0, a), (0, 0, a), (0, 0, a), (0, 0, a), (0, 1, a)]);
        let steps = diversity(&[&varied, &alike]).unwrap();
        let counts: Vec<_> = steps[0].runs.iter().flatten().map(|r| (r.n_clusters, r.n_noise)).collect();
        assert_eq!(counts, [(2, 1), (1, 0)]);
        let varied = steps[0].runs[0].as_ref().unwrap();
        assert_eq!(varied.clustered, [true, true, true, true, false]);
        // The plane is the same for both runs.
        assert_eq!(varied.points[0], steps[0].runs[1].as_ref().unwrap().points[0]);
    }

    #[test]
    fn only_what_all_runs_have_is_compared() {
        let long = run(1, &[(0, 0, &[1, 2]), (0, 1, &[3, 4]), (0, 2, &[5, 6]), (9, 0, &[1, 2])]);
        let short = run(2, &[(0, 0, &[1, 2]), (0, 1, &[3, 4])]);
        let steps = diversity(&[&long, &short]).unwrap();
        assert_eq!((steps.len(), steps[0].n_tasks), (1, 2));
        assert_eq!(steps[0].runs[0].as_ref().unwrap().points.len(), 2);
        assert!(notes(&[&long, &short], &steps)[0].contains("its first 2 questions"));
        assert!(diversity(&[&run(1, &[])]).unwrap().is_empty());
    }
}
