//! What is told of a step? Its row in `metrics.jsonl`, and one line for people.

use std::collections::BTreeMap;

use aepo::record::{StepRecord, Timings};
use aepo::rollout::drive::told;
use aepo::run::Stage;
use aepo::tool::ToolOutcome;
use serde::Serialize;

use crate::machine::peak_memory_mb;
use crate::table::percent;

/// A row of `metrics.jsonl`: what repeats bit for bit, and then times and memory, which do not.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    /// What repeats.
    #[serde(flatten)]
    pub record: &'a StepRecord,
    #[serde(flatten)]
    /// Seconds (`secs_`) and tokens per second (`tokens_per_sec_`) by what they were spent on.
    pub times: BTreeMap<String, f64>,
    /// The most memory this process has held so far, MiB.
    pub peak_memory_mb: f64,
}

impl<'a> Row<'a> {
    /// Puts a step's numbers and times together.
    pub fn new(record: &'a StepRecord, timings: &Timings, total_secs: f64) -> Row<'a> {
        let mut times = BTreeMap::new();
        for (stage, secs) in &timings.stage_secs {
            times.insert(format!("secs_{}", stage_key(*stage)), *secs);
        }
        for (tool, secs) in &timings.tool_secs {
            times.insert(format!("secs_tool_{}", tool), *secs);
        }
        let secs = |stages: &[Stage]| -> f64 { stages.iter().filter_map(|s| timings.stage_secs.get(s)).sum() };
        let mut rate = |name: &str, n_tokens: usize, secs: f64| {
            if secs > 0.0 {
                times.insert(format!("tokens_per_sec_{name}"), n_tokens as f64 / secs);
            }
        };
        let scoring = [Stage::OldLogprobs, Stage::RefLogprobs].map(|s| secs(&[s])).iter().filter(|s| **s > 0.0).count();
        rate("rollout", record.n_sampled_tokens, secs(&[Stage::Rollout]));
        rate("optimise", record.update.n_unique_tokens, secs(&[Stage::Optimise]));
        let scored = record.update.n_unique_tokens * scoring;
        rate("scoring", scored, secs(&[Stage::OldLogprobs, Stage::RefLogprobs]));
        times.insert("secs_total".to_owned(), total_secs);
        Row { record, times, peak_memory_mb: peak_memory_mb() }
    }
}

fn stage_key(stage: Stage) -> &'static str {
    match stage {
        Stage::Rollout => "rollout",
        Stage::Score => "score",
        Stage::OldLogprobs => "old_logprobs",
        Stage::RefLogprobs => "ref_logprobs",
        Stage::Optimise => "optimise",
    }
}

/// What a stage is called on a progress bar.
pub fn stage_words(stage: Stage) -> &'static str {
    match stage {
        Stage::Rollout => "rollout",
        Stage::Score => "scoring",
        Stage::OldLogprobs => "old log-probabilities",
        Stage::RefLogprobs => "reference log-probabilities",
        Stage::Optimise => "update",
    }
}

/// Which share of each tool's calls ended well: "python 98 %, search 100 %"; empty without calls.
fn ok_rates(record: &StepRecord) -> String {
    let rates = record.tool_calls.iter().map(|(tool, outcomes)| {
        let n_ok = outcomes.get(&ToolOutcome::Ok).copied().unwrap_or(0);
        let n: usize = outcomes.values().sum();
        format!("{tool} {:.0} %", 100.0 * n_ok as f64 / n.max(1) as f64)
    });
    rates.collect::<Vec<String>>().join(", ")
}

/// Why trajectories of a step are left out, in one line; `None` when none are.
pub fn left_out(record: &StepRecord) -> Option<String> {
    let (n, all) = (record.n_unavailable, record.n_unavailable + record.n_trajectories);
    let why = told(&record.unavailable);
    (n > 0).then(|| format!("step {}: {n} of {all} trajectories left out, a tool failed. {why}", record.step + 1))
}

/// A step in one line.
pub fn step_line(row: &Row<'_>, steps: u64) -> String {
    let r = row.record;
    format!(
        "step {:>3}/{steps}  reward {:>6.3}  accuracy {:>6}  format {:>6}  H {:.3}  forks {:>3}  calls {:.2}  ok {}  tokens {}/{}  {:.1} s",
        r.step + 1,
        r.reward,
        percent(r.accuracy),
        percent(r.format_rate),
        r.entropy,
        r.n_branches,
        r.calls_per_trajectory,
        ok_rates(r),
        r.n_unique_tokens,
        r.n_unrolled_tokens,
        row.times.get("secs_total").copied().unwrap_or(0.0),
    )
}
