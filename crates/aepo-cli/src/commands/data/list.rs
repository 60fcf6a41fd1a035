//! Which benchmarks are known?

use std::fmt::Write as _;

use aepo::data::benchmark::{BENCHMARKS, Benchmark};

use super::ListArgs;
use crate::progress::print;
use crate::table::table;

/// Prints the table of benchmarks.
pub fn list(args: &ListArgs) -> anyhow::Result<()> {
    if args.json {
        let lines: Vec<String> = BENCHMARKS.iter().map(|b| object(b).to_string() + "\n").collect();
        return print(&lines.concat());
    }
    let header = ["name", "group", "grader", "metric", "tools", "rows", "paper", "dataset of the hub"];
    let row = |b: &Benchmark| {
        let n_paper = b.n_paper.map_or_else(|| "?".to_owned(), |n| n.to_string());
        let text = [b.name, &groups(b).join(", "), grader(b), b.metric.name(), &tools(b).join(", ")];
        let mut cells: Vec<String> = text.map(str::to_owned).to_vec();
        cells.extend([b.n_rows.to_string(), n_paper, b.hub.to_owned()]);
        cells
    };
    let rows: Vec<Vec<String>> = BENCHMARKS.iter().map(row).collect();
    let mut text = left(&header, &rows);
    let _ = writeln!(
        text,
        "\nrows: of the whole set that text alone can answer; paper: those that the papers' evaluation takes.\n\
         A file is known by its name (gsm8k.jsonl, gaia.parquet, SimpleQA.csv, …) or by --benchmark."
    );
    print(&text)
}

fn object(b: &Benchmark) -> serde_json::Value {
    serde_json::json!({
        "name": b.name, "title": b.title, "aliases": b.aliases, "groups": groups(b), "grader": grader(b),
        "metric": b.metric.name(), "tools": tools(b), "n_rows": b.n_rows, "n_paper": b.n_paper, "hub": b.hub,
        "recipe": b.recipe(),
    })
}

fn groups(b: &Benchmark) -> Vec<&'static str> {
    b.groups.iter().map(|group| group.name()).collect()
}

fn tools(b: &Benchmark) -> Vec<&'static str> {
    b.tools.iter().map(|tool| tool.name()).collect()
}

fn grader(b: &Benchmark) -> &'static str {
    match b.layout.grader {
        aepo::data::benchmark::GraderOf::Set => b.grader.name(),
        aepo::data::benchmark::GraderOf::AnswerType => "by row",
    }
}

/// A table whose words are flush left; numbers stay flush right.
fn left(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let pad = |column: usize, text: &str| {
        let width = width(column).max(header[column].chars().count());
        text.to_owned() + &" ".repeat(width - text.chars().count())
    };
    let is_number = |column: usize| header[column] == "rows" || header[column] == "paper";
    let cells = |row: &[String]| -> Vec<String> {
        let cell = |(i, text): (usize, &String)| if is_number(i) { text.clone() } else { pad(i, text) };
        row.iter().enumerate().map(cell).collect()
    };
    let rows: Vec<Vec<String>> = rows.iter().map(|row| cells(row)).collect();
    let header: Vec<String> = cells(&header.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}
