//! What does a judging model say? Of every answer to a set that the papers have judged, where a judge is named.

use std::collections::BTreeMap;

use aepo::data::benchmark::Metric;
use aepo::eval::answer::AnswerRecord;
use aepo::eval::measure::graded;
use aepo_tools::judge::{Case, Ruling};

use super::plan::Plan;
use super::sets::Set;
use super::store::Name;
use crate::commands::score::judge::Judging;
use crate::interrupt;
use crate::progress::Teller;

/// Verdicts by answer; `None` where the judge gave none.
pub struct Judged {
    /// The judge.
    pub by: Option<String>,
    /// Its verdicts.
    pub verdicts: BTreeMap<Name, Option<(bool, String)>>,
    /// What a reader must know of them.
    pub notes: Vec<String>,
}

/// Has every answer judged whose set is reported by a judge.
pub fn judge_all(
    judge: Option<&Judging>,
    sets: &[Set],
    plan: &Plan,
    answers: &BTreeMap<Name, AnswerRecord>,
    teller: &mut Teller,
) -> anyhow::Result<Judged> {
    let mut judged = Judged { by: None, verdicts: BTreeMap::new(), notes: Vec::new() };
    let Some(judge) = judge else { return Ok(judged) };
    judged.by = Some(judge.model().to_owned());
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
    for part in cases.chunks(judge.n_at_once().max(1)) {
        if interrupt::asked() {
            judged.notes.push("The judge was interrupted; what it has not judged is left out.".to_owned());
            part.iter().for_each(|(name, ..)| drop(judged.verdicts.insert(name.clone(), None)));
            continue;
        }
        let asked: Vec<Case> = part.iter().map(|(_, case, _)| case.clone()).collect();
        for ((name, _, by_strings), ruling) in part.iter().zip(judge.rulings(&asked)?) {
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
