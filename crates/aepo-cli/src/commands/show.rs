//! How did a run go? Read from its directory and from nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use aepo::config::Config;
use aepo::tool::ToolOutcome;
use anyhow::Context as _;
use serde_json::Value;

use crate::args::ShowArgs;
use crate::commands::eval::before_after;
use crate::commands::train::Summary;
use crate::error::usage;
use crate::progress::print;
use crate::run_dir::{CONFIG, METRICS, read_json};
use crate::table::{minutes, percent, sparkline, table};

/// Blocks of a sparkline.
const WIDTH: usize = 48;

/// A column: its header, its key (a dot goes one level down), and how a number is shown.
type Column = (&'static str, &'static str, fn(f64) -> String);

const TRAIN: [Column; 16] = [
    ("reward", "reward", |x| format!("{x:.3}")),
    ("accuracy", "accuracy", percent),
    ("format", "format_rate", percent),
    ("H", "entropy", |x| format!("{x:.3}")),
    ("H_root", "root_entropy", |x| format!("{x:.3}")),
    ("H_tool", "tool_entropy", |x| format!("{x:.3}")),
    ("m", "n_global", |x| format!("{x:.1}")),
    ("forks", "n_branches", whole),
    ("calls", "calls_per_trajectory", |x| format!("{x:.2}")),
    ("clip-", "update.clip_frac_low", percent),
    ("clip+", "update.clip_frac_high", percent),
    ("KL k3", "update.old_kl_k3", |x| format!("{x:.1e}")),
    ("|grad|", "update.grad_norm", |x| format!("{x:.2}")),
    ("max|dlogp|", "update.logp_diff_max", |x| format!("{x:.0e}")),
    ("tokens", "n_unique_tokens", whole),
    ("secs", "secs_total", |x| format!("{x:.1}")),
];

const COLD_START: [Column; 5] = [
    ("loss", "loss", |x| format!("{x:.4}")),
    ("rate", "learning_rate", |x| format!("{x:.1e}")),
    ("|grad|", "grad_norm", |x| format!("{x:.2}")),
    ("tokens", "n_tokens", whole),
    ("tokens/s", "tokens_per_sec", whole),
];

/// Prints metrics, the result and the settings that are not at their defaults.
pub fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let root = &args.run;
    let config_path = root.join(CONFIG);
    if !config_path.is_file() {
        let message = format!("{} is no run directory: it has no {CONFIG}", root.display());
        return Err(usage(
            message,
            "name a directory that `aepo train` or `aepo sft` made, for example runs/quickstart-seed1",
        ));
    }
    let label = config_path.display().to_string();
    let text = std::fs::read_to_string(&config_path).with_context(|| label.clone())?;
    let config = Config::resolve(&text, &label, &[])?;
    let rows = read_rows(&root.join(METRICS))?;
    let mut out = format!("{}: {} steps\n\n", root.display(), rows.len());
    let is_training = rows.first().is_none_or(|row| row.get("reward").is_some());
    let columns: &[Column] = if is_training { &TRAIN } else { &COLD_START };
    if !rows.is_empty() {
        out += &metrics(&rows, columns, args.rows);
        out += "\n";
        let name_width = columns.iter().take(6).map(|(name, ..)| name.len()).max().unwrap_or(0);
        for (name, key, show) in columns.iter().take(6) {
            let values: Vec<f64> = rows.iter().map(|row| number(row, key).unwrap_or(f64::NAN)).collect();
            let (first, last) = (values[0], values[values.len() - 1]);
            let line = sparkline(&values, WIDTH);
            out += &format!("{name:<name_width$}  {line}  {} to {}\n", show(first), show(last));
        }
        out += "\n";
    }
    if is_training {
        out += &tools(&rows);
    }
    match read_json::<Value>(&root.join("summary.json"))? {
        None => out += "No result yet: the run is going on, or waits for --resume.\n",
        Some(value) if is_training => {
            let s: Summary =
                serde_json::from_value(value).with_context(|| root.join("summary.json").display().to_string())?;
            out += &before_after(&s.eval_before, &s.eval_after);
            let (time, cpu, memory) = (minutes(s.seconds), minutes(s.cpu_secs), s.peak_memory_mb);
            let (steps, threads) = (s.steps, s.threads);
            out += &format!(
                "\n{steps} steps in {time} on {threads} threads ({cpu} of processors), at most {memory:.0} MiB\n"
            );
            // A run that was resumed only to find itself finished has asked nothing.
            let asked: Vec<_> = s.tools.iter().filter(|(_, stats)| stats.n_calls > 0).collect();
            if !asked.is_empty() {
                out += "Tools since the run was started or resumed last:\n";
            }
            for (tool, stats) in asked {
                out += &format!("  {tool}: {}\n", stats.line());
            }
        }
        Some(value) => {
            let secs = value["seconds"].as_f64().unwrap_or(0.0);
            out += &format!("The model is in {}, made in {}\n", root.join("model").display(), minutes(secs));
        }
    }
    out += "\nSettings that are not at their defaults:\n";
    let defaults = Config::resolve("", "defaults", &[])?;
    let lines = config.explain();
    let changed =
        lines.iter().zip(defaults.explain()).filter(|(line, d)| line.value != d.value && line.no_effect.is_none());
    for (line, default) in changed {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        out += &format!("  {} = {}  (default {})\n", line.key, show(&line.value), show(&default.value));
    }
    print(&out)
}

/// The rows of a run; a last row that is still being written is left out.
fn read_rows(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).enumerate();
    let parse = |(i, line)| serde_json::from_str(line).with_context(|| format!("{}, row {}", path.display(), i + 1));
    whole.map(parse).collect()
}

/// The table: all rows, or `n_rows` of them evenly spaced with the first and the last.
fn metrics(rows: &[Value], columns: &[Column], n_rows: usize) -> String {
    let n_rows = n_rows.clamp(2, rows.len().max(2));
    let shown: Vec<usize> = match rows.len() <= n_rows {
        true => (0..rows.len()).collect(),
        false => (0..n_rows).map(|i| i * (rows.len() - 1) / (n_rows - 1)).collect(),
    };
    let cells = |&i: &usize| -> Vec<String> {
        let step = number(&rows[i], "step").map_or_else(|| "?".to_owned(), whole);
        let cell = |(_, key, show): &Column| number(&rows[i], key).map_or_else(|| "–".to_owned(), show);
        [step].into_iter().chain(columns.iter().map(cell)).collect()
    };
    let header: Vec<&str> = ["step"].into_iter().chain(columns.iter().map(|(name, ..)| *name)).collect();
    table(&header, &shown.iter().map(cells).collect::<Vec<_>>())
}

/// How the calls of each tool ended, all rows together, and what was last said where one was unavailable; empty without
/// calls.
fn tools(rows: &[Value]) -> String {
    let mut counts: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (tool, outcomes) in rows.iter().filter_map(|row| row.get("tool_calls")?.as_object()).flatten() {
        for (outcome, n) in outcomes.as_object().into_iter().flatten() {
            *counts.entry(tool).or_default().entry(outcome).or_default() += n.as_u64().unwrap_or(0);
        }
    }
    if counts.is_empty() {
        return String::new();
    }
    let seen = |name: &&str| counts.values().any(|outcomes| outcomes.contains_key(name));
    let names: Vec<&str> = ToolOutcome::ALL.map(ToolOutcome::name).into_iter().filter(seen).collect();
    let line = |(tool, outcomes): (&&str, &BTreeMap<&str, u64>)| -> Vec<String> {
        let n: u64 = outcomes.values().sum();
        let share = |name: &&str| percent(outcomes.get(name).copied().unwrap_or(0) as f64 / n.max(1) as f64);
        [(*tool).to_owned(), n.to_string()].into_iter().chain(names.iter().map(share)).collect()
    };
    let header: Vec<&str> = ["tool", "calls"].into_iter().chain(names.iter().copied()).collect();
    let mut out = table(&header, &counts.iter().map(line).collect::<Vec<_>>());
    let said = |row: &Value| Some((number(row, "step")?, row.get("unavailable")?.as_object()?.clone()));
    if let Some((step, reasons)) = rows.iter().rev().find_map(said) {
        for (tool, reasons) in &reasons {
            let reasons: Vec<&str> = reasons.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            out += &format!("{tool} was unavailable in step {}: {}\n", step + 1.0, reasons.join("; "));
        }
    }
    out + "\n"
}

fn number(row: &Value, key: &str) -> Option<f64> {
    key.split('.').try_fold(row, |value, part| value.get(part))?.as_f64()
}

fn whole(x: f64) -> String {
    format!("{x:.0}")
}
