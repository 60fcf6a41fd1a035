//! How is it told what a file of questions holds?

use std::collections::BTreeSet;
use std::fmt::Write as _;

use aepo::data::files::task_file::{At, TaskFile};
use aepo::data::files::{LeftOut, Repairs, Shape};
use aepo::score::reward::accuracy;
use serde_json::{Value, json};

use super::check::{Against, Look};
use crate::table::table;

/// Of a long list people see as many, and programs the second number.
const FOR_PEOPLE: usize = 5;
const FOR_PROGRAMS: usize = 10_000;

/// What is wrong with a file, in a few words each.
pub fn wrong(look: &Look) -> Vec<String> {
    let count = |n: usize, one: &str, many: &str| match n {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {many}")),
    };
    let n_answerless = answerless(look).len();
    let n_again: usize = look.duplicates.iter().map(|group| group.len() - 1).sum();
    let n_met = |against: &Against| against.meetings.iter().map(|(at, ..)| at).collect::<BTreeSet<_>>().len();
    let n_met: usize = look.against.iter().map(n_met).sum();
    let none = match &look.found {
        Some(found) if !found.tasks.is_empty() => None,
        _ => Some("no question".to_owned()),
    };
    let said = [
        none,
        count(look.faults.len(), "row that is no question", "rows that are no questions"),
        count(n_answerless, "row without an answer", "rows without an answer"),
        count(n_again, "question again", "questions again"),
        count(
            look.ungraded.len(),
            "answer that is not right by its own grader",
            "answers that are not right by their own grader",
        ),
        count(n_met, "question of another file", "questions of other files"),
    ];
    said.into_iter().flatten().collect()
}

fn answerless(look: &Look) -> Vec<At> {
    let left_out = look.found.iter().flat_map(|found| &found.left_out);
    left_out.filter(|(_, why)| matches!(why, LeftOut::NoAnswer { .. })).map(|(at, _)| *at).collect()
}

/// The report for people.
pub fn people(look: &Look) -> String {
    let path = look.path.display();
    let Some(found) = &look.found else {
        let mut text = format!("{path}: no row could be read\n");
        list(
            &mut text,
            "rows that are no questions",
            look.faults.iter().map(|(at, why)| format!("{at}: {why}")).collect(),
        );
        return text;
    };
    let mut text = format!("{path}: {} questions of {} rows, {}\n\n", found.tasks.len(), found.n_rows, layout(found));
    let row = |field: &aepo::data::survey::Field| {
        let types: Vec<&str> = field.types.keys().copied().filter(|kind| *kind != "null").collect();
        let types = if types.is_empty() { "null".to_owned() } else { types.join(" or ") };
        vec![field.name.clone(), field.n_rows.to_string(), field.n_empty.to_string(), types]
    };
    let rows: Vec<Vec<String>> = look.survey.fields.iter().map(row).collect();
    text += &table(&["field", "rows", "empty", "type"], &rows);
    if look.survey.has_more {
        text += "and more fields\n";
    }
    let graders = graders(found).into_iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "\ngraders: {graders}");
    found.notes().iter().for_each(|note| text += &format!("{note}\n"));
    if let Shape::Benchmark(benchmark) = &found.shape {
        let n = found.tasks.len();
        if n != benchmark.n_rows && Some(n) != benchmark.n_paper {
            let paper = benchmark.n_paper.filter(|n| *n != benchmark.n_rows);
            let paper = paper.map_or_else(String::new, |n| format!(", of which the papers take {n}"));
            let _ = writeln!(text, "not the whole set: {} has {} rows{paper}", benchmark.title, benchmark.n_rows);
        }
    }
    list(&mut text, "rows that are no questions", look.faults.iter().map(|(at, why)| format!("{at}: {why}")).collect());
    let again = |group: &Vec<usize>| {
        let places: Vec<String> = group.iter().map(|&i| found.places[i].to_string()).collect();
        let others = if differ(found, group) { ", with other answers" } else { "" };
        format!("{}{others}: {}", places.join(", "), short(&found.tasks[group[0]].question))
    };
    list(&mut text, "questions that are there more than once", look.duplicates.iter().map(again).collect());
    let ungraded = |(i, answer): &(usize, String)| {
        format!("{}: {} by {}", found.places[*i], short(answer), found.tasks[*i].grader.name())
    };
    list(&mut text, "answers that are not right by their own grader", look.ungraded.iter().map(ungraded).collect());
    for against in &look.against {
        let question = |at: &At| {
            let i = found.places.binary_search(at).ok();
            i.map_or_else(String::new, |i| short(&found.tasks[i].question))
        };
        let met = |(here, there, how): &(At, At, _)| {
            let how: aepo::data::same::Meeting = *how;
            format!("{here} {} {there}: {}", how.verb(), question(here))
        };
        let title = format!("questions of {} ({} rows)", against.path.display(), against.n_rows);
        list(&mut text, &title, against.meetings.iter().map(met).collect());
        if against.meetings.is_empty() {
            let _ = writeln!(text, "\nno question of {} ({} rows)", against.path.display(), against.n_rows);
        }
    }
    if wrong(look).is_empty() {
        text += "nothing is wrong\n";
    }
    text
}

/// A title with the first few of its lines.
fn list(text: &mut String, title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}: {}", lines.len());
    lines.iter().take(FOR_PEOPLE).for_each(|line| *text += &format!("  {line}\n"));
    if lines.len() > FOR_PEOPLE {
        let _ = writeln!(text, "  and {} more (--json lists them)", lines.len() - FOR_PEOPLE);
    }
}

fn layout(found: &TaskFile) -> String {
    match &found.shape {
        Shape::Tasks => "in our own layout".to_owned(),
        Shape::Verl { .. } => "in verl's layout".to_owned(),
        Shape::Benchmark(benchmark) => format!("laid out as {}", benchmark.title),
        Shape::Fields(_) => "by the fields that were named".to_owned(),
    }
}

fn graders(found: &TaskFile) -> Vec<(&'static str, usize)> {
    let count = |grader| found.tasks.iter().filter(|task| task.grader == grader).count();
    let all = aepo::data::task::Grader::ALL.into_iter().map(|grader| (grader.name(), count(grader)));
    all.filter(|(_, n)| *n > 0).collect()
}

/// Whether the same question has an accepted answer somewhere that is not right where it stands first.
fn differ(found: &TaskFile, group: &[usize]) -> bool {
    let first = &found.tasks[group[0]];
    group.iter().any(|&i| found.tasks[i].answers.iter().any(|answer| accuracy(first, answer) < 1.0))
}

/// The beginning of a text, on one line.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(70).collect();
    if cut.len() < line.len() { format!("\"{cut}…\"") } else { format!("\"{line}\"") }
}

/// The report for programs: one object on one line. Lists are cut at [`FOR_PROGRAMS`], beside numbers that are not.
pub fn json(look: &Look) -> String {
    let empty = TaskFile {
        shape: Shape::Tasks,
        tasks: Vec::new(),
        places: Vec::new(),
        left_out: Vec::new(),
        repaired: Vec::new(),
        n_rows: look.faults.len(),
    };
    let found = look.found.as_ref().unwrap_or(&empty);
    let mut repairs = Repairs::default();
    found.repaired.iter().for_each(|(_, done)| repairs += *done);
    let place = |i: &usize| found.places[*i].number();
    let group = |group: &Vec<usize>| json!({ "rows": group.iter().map(place).collect::<Vec<_>>(), "answers_differ": differ(found, group) });
    let left_out = |(at, why): &(At, LeftOut)| json!({ "row": at.number(), "why": why.to_string() });
    let against = |against: &Against| {
        let met = |(here, there, how): &(At, At, aepo::data::same::Meeting)| json!({ "row": here.number(), "how": how.verb(), "other_row": there.number() });
        let file = against.path.display().to_string();
        json!({
            "file": file, "n_rows": against.n_rows, "n_found": against.meetings.len(),
            "found": some(&against.meetings, met),
        })
    };
    let object = json!({
        "file": look.path.display().to_string(),
        "layout": look.found.as_ref().map(|found| found.shape.name()),
        "n_rows": found.n_rows,
        "n_questions": found.tasks.len(),
        "graders": graders(found).into_iter().map(|(name, n)| (name.to_owned(), json!(n))).collect::<serde_json::Map<_, _>>(),
        "fields": look.survey.fields,
        "repaired": { "n_rows": found.repaired.len(), "n_commands": repairs.n_commands, "n_removed": repairs.n_removed },
        "left_out": some(&found.left_out, left_out),
        "n_no_questions": look.faults.len(),
        "no_questions": some(&look.faults, |(at, why)| json!({ "row": at.number(), "why": why })),
        "n_again": look.duplicates.iter().map(|group| group.len() - 1).sum::<usize>(),
        "again": some(&look.duplicates, group),
        "n_not_right": look.ungraded.len(),
        "not_right": some(&look.ungraded, |(i, answer)| json!({ "row": place(i), "answer": answer })),
        "against": some(&look.against, against),
        "wrong": wrong(look),
    });
    format!("{object}\n")
}

fn some<T>(items: &[T], each: impl Fn(&T) -> Value) -> Vec<Value> {
    items.iter().take(FOR_PROGRAMS).map(each).collect()
}
