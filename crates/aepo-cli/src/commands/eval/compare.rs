//! Which of two evaluations is better? Question by question, from the grades that both wrote down.

use std::collections::BTreeMap;
use std::path::Path;

use aepo_engine::checkpoint::write_whole;
use aepo_report::evaluation::{Evaluation, Scores, versus};
use anyhow::Context as _;

use super::args::CompareEvalArgs;
use super::report::{SCORES, SUMMARY, ScoreRow, read};
use crate::error::usage;
use crate::progress::print;
use crate::run_dir::make;
use crate::table::table;

/// Resamples behind each interval.
const N_RESAMPLES: usize = 10_000;

/// Prints the comparison.
pub fn compare(args: &CompareEvalArgs) -> anyhow::Result<()> {
    let first = evaluation(&args.first)?;
    let second = evaluation(&args.second)?;
    let mut metrics = BTreeMap::new();
    for set in &first.0.sets {
        let other = second.0.sets.iter().find(|other| other.name == set.name);
        if let Some(other) = other.filter(|other| other.metric != set.metric) {
            let message =
                format!("{} was measured by {} in one and by {} in the other", set.title, set.metric, other.metric);
            return Err(usage(message, "grade both in the same way: with the same judge, or without"));
        }
        metrics.insert(set.name.clone(), set.metric.clone());
    }
    let name = |dir: &Path, e: &Evaluation| format!("{} ({})", e.model, dir.display());
    let names = [name(&args.first, &first.0), name(&args.second, &second.0)];
    let versus = versus([&names[0], &names[1]], [&first.1, &second.1], &metrics, N_RESAMPLES);
    if versus.sets.is_empty() {
        return Err(usage("the two evaluations have no question in common", "measure both on the same benchmarks"));
    }
    if let Some(out) = &args.out {
        make(out)?;
        for file in versus.files() {
            write_whole(&out.join(&file.name), file.content.as_bytes())?;
        }
    }
    if args.json {
        return print(&format!("{}\n", serde_json::to_string(&versus)?));
    }
    let (head, rows) = versus.table();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut text = format!("first:  {}\nsecond: {}\n\n{}", versus.first, versus.second, table(&head, &rows));
    text += "\nscores in per cent, differences in points; p from a paired permutation test over questions\n";
    versus.notes.iter().for_each(|note| text += &format!("{note}\n"));
    print(&text)
}

/// What an evaluation says of itself, and the mean worth of each question's answers that count.
fn evaluation(dir: &Path) -> anyhow::Result<(Evaluation, Scores)> {
    let summary =
        serde_json::from_str(&read(dir, SUMMARY)?).with_context(|| dir.join(SUMMARY).display().to_string())?;
    let mut sums: BTreeMap<String, BTreeMap<String, (f64, f64)>> = BTreeMap::new();
    for (i, line) in read(dir, SCORES)?.lines().enumerate() {
        let row: ScoreRow =
            serde_json::from_str(line).with_context(|| format!("{}, line {}", dir.join(SCORES).display(), i + 1))?;
        if row.counts {
            let sum = sums.entry(row.benchmark).or_default().entry(row.id).or_insert((0.0, 0.0));
            *sum = (sum.0 + row.worth, sum.1 + 1.0);
        }
    }
    let mean = |sums: BTreeMap<String, (f64, f64)>| sums.into_iter().map(|(id, (sum, n))| (id, sum / n)).collect();
    Ok((summary, sums.into_iter().map(|(set, sums)| (set, mean(sums))).collect()))
}
