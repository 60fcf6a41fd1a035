//! What does a judging model say? Of every answer to a set that the papers have judged, where a judge is named.

use std::collections::BTreeMap;
use std::path::Path;

use aepo::data::benchmark::Metric;
use aepo::eval::answer::AnswerRecord;
use aepo::eval::measure::graded;
use aepo_tools::judge::{Case, Judge, JudgeSettings, Ruling};
use aepo_tools::llm::LlmSettings;

use super::args::JudgeArgs;
use super::plan::Plan;
use super::sets::Set;
use super::store::Name;
use crate::error::usage;
use crate::interrupt;
use crate::machine::certificates;
use crate::progress::Teller;

/// Where verdicts are kept in the directory of an evaluation, so that none is asked for twice.
const VERDICTS: &str = "verdicts.redb";
/// Time for a verdict, seconds.
const SECS: f64 = 120.0;
/// Cases between two looks at who asked to stop.
const AT_ONCE: usize = 64;

/// Verdicts by answer; `None` where the judge gave none.
pub struct Judged {
    /// The judge.
    pub by: Option<String>,
    /// Its verdicts.
    pub verdicts: BTreeMap<Name, Option<(bool, String)>>,
    /// What a reader must know of them.
    pub notes: Vec<String>,
}

/// A judge that was named, ready to be asked; `None` without one. A key that is missing is found here, before anything else
/// is asked.
pub fn judge(args: &JudgeArgs, dir: &Path) -> anyhow::Result<Option<Judge>> {
    let Some(url) = &args.judge else { return Ok(None) };
    let llm = LlmSettings {
        key_env: args.judge_key_env.clone(),
        certificates: certificates(),
        ..LlmSettings::of(url.clone(), args.judge_model.clone().unwrap_or_default())
    };
    let cache = Some(dir.join(VERDICTS));
    let settings = JudgeSettings { llm, secs: SECS, n_at_once: args.judge_jobs.max(1), cache };
    Judge::new(&settings).map(Some).map_err(|e| usage(format!("--judge {url}: {e}"), ""))
}

/// Has every answer judged whose set is reported by a judge.
pub fn judge_all(
    judge: Option<&Judge>,
    args: &JudgeArgs,
    sets: &[Set],
    plan: &Plan,
    answers: &BTreeMap<Name, AnswerRecord>,
    teller: &mut Teller,
) -> anyhow::Result<Judged> {
    let mut judged = Judged { by: None, verdicts: BTreeMap::new(), notes: Vec::new() };
    let Some(judge) = judge else { return Ok(judged) };
    judged.by = args.judge_model.clone();
    let mut cases: Vec<(Name, Case, bool)> = Vec::new();
    for set in sets.iter().filter(|set| set.metric == Metric::Judge) {
        for (task, sample) in set.tasks.iter().flat_map(|task| (0..plan.samples).map(move |sample| (task, sample))) {
            let name = (set.name.clone(), task.id.clone(), sample);
            let Some(record) = answers.get(&name).filter(|record| record.counts()) else { continue };
            let Some(answer) = &record.answer else { continue };
            let by_strings = graded(Metric::Accuracy, task, record).0.is_right;
            let case =
                Case { question: task.question.clone(), prediction: answer.clone(), references: task.answers.clone() };
            cases.push((name, case, by_strings));
        }
    }
    // Both right, the judge alone, the strings alone, both wrong.
    let mut agreement = [0usize; 4];
    let mut n_failed = 0;
    let mut last = String::new();
    teller.begin("verdicts", cases.len() as u64, 0);
    let mut n_done = 0;
    for part in cases.chunks(AT_ONCE) {
        if interrupt::asked() {
            judged.notes.push("The judge was interrupted; what it has not judged is left out.".to_owned());
            part.iter().for_each(|(name, ..)| drop(judged.verdicts.insert(name.clone(), None)));
            continue;
        }
        let asked: Vec<Case> = part.iter().map(|(_, case, _)| case.clone()).collect();
        for ((name, _, by_strings), ruling) in part.iter().zip(judge.judge(&asked)?) {
            let verdict = match ruling {
                Ruling::Verdict { correct, reason, .. } => {
                    agreement[2 * usize::from(!correct) + usize::from(correct != *by_strings)] += 1;
                    Some((correct, reason))
                }
                Ruling::NoVerdict { why } => {
                    n_failed += 1;
                    last = why;
                    None
                }
            };
            judged.verdicts.insert(name.clone(), verdict);
        }
        n_done += part.len() as u64;
        teller.at(n_done);
    }
    teller.end();
    judged.notes.dedup();
    let [both, judge_alone, neither, strings_alone] = agreement;
    let by = judged.by.as_deref().unwrap_or_default();
    judged.notes.push(format!(
        "{by} judged {} answers: {both} are right by it and by the grader of strings, {judge_alone} by it alone, \
         {strings_alone} by the strings alone, {neither} by neither.",
        agreement.iter().sum::<usize>()
    ));
    if n_failed > 0 {
        judged.notes.push(format!(
            "{by} gave no verdict on {n_failed} answers, which are left out; --resume asks it again. The last: {last}."
        ));
    }
    Ok(judged)
}
