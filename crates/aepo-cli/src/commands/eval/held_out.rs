//! How good is a model? Measured like a run measures, before and after.

use std::path::Path;

use aepo::data::countries::Split;
use aepo::eval::{EvalPlan, EvalReport, evaluate};
use aepo::rollout::drive::told;
use aepo::run::Event;
use aepo::tool::Toolset as _;
use aepo_tools::hub::What;

use super::args::EvalArgs;
use crate::args::SplitArg;
use crate::assets::QUICKSTART;
use crate::error::{Interrupted, usage};
use crate::interrupt::{self, interruptible};
use crate::progress::{Teller, print};
use crate::recipe::{self, Recipe};
use crate::run_dir::CONFIG;
use crate::source;
use crate::table::{percent, table};
use crate::toolbox;
use crate::world;

/// Measures a model and prints what was measured.
pub fn eval(model: &str, args: &EvalArgs) -> anyhow::Result<()> {
    interrupt::install()?;
    let recipe = match &args.recipe {
        Some(name) => recipe::find(name)?,
        None => run_recipe(Path::new(model))?.map_or_else(|| recipe::find(QUICKSTART), Ok)?,
    };
    let config = recipe::resolve(&recipe, &recipe::parse_sets(&args.sets)?)?;
    let mut teller = Teller::new(args.telling);
    let tasks = world::tasks(&config, split(args.split), &mut |note| teller.note(note))?;
    // Of the training questions as many are taken as of the others.
    let tasks = &tasks[..tasks.len().min(config.eval.n_tasks)];
    let named = source::named(model)?;
    let (place, _) = source::bring(&named, What::Everything, args.net.offline, &mut teller)?;
    let mut tools = toolbox::start(&config, &mut teller)?;
    let mut model = world::load_to_measure(&place, &config, tools.tools())?;
    let plan = EvalPlan::of(&config);
    config.left_out.iter().for_each(|line| teller.note(&line.to_string()));
    teller.begin("measure", (tasks.len() * plan.drive.k) as u64, 0);
    let mut on = |event: Event| {
        if let Event::Progress(p) = event {
            teller.sampling(p);
        }
    };
    let policy = &mut interruptible(&mut model.engine);
    let report = evaluate(policy, &mut tools, &model.renderer, tasks, &plan, &mut on);
    teller.end();
    let report = match report {
        Err(_) if interrupt::asked() => return Err(Interrupted { hint: None }.into()),
        report => report?,
    };
    teller.event("eval", &report);
    if let Some(line) = answers_left_out(&report) {
        teller.warn(&line);
    }
    if teller.for_people() {
        print(&columns(&[("", &report)]))?;
    }
    Ok(())
}

/// The settings of a run directory as a recipe; `None` for other places.
pub fn run_recipe(dir: &Path) -> anyhow::Result<Option<Recipe>> {
    let path = dir.join(CONFIG);
    if !path.is_file() {
        return Ok(None);
    }
    let label = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|e| usage(format!("cannot read {label}: {e}"), ""))?;
    let name = dir.file_name().map_or_else(|| label.clone(), |n| n.to_string_lossy().into_owned());
    Ok(Some(Recipe { name, label, text, dir: dir.to_owned() }))
}

/// The split that was asked for.
pub fn split(arg: SplitArg) -> Split {
    match arg {
        SplitArg::Train => Split::Train,
        SplitArg::HeldOut => Split::HeldOut,
    }
}

/// Why answers are left out, in one line; `None` when none are.
pub fn answers_left_out(report: &EvalReport) -> Option<String> {
    let n = report.n_unavailable;
    (n > 0).then(|| format!("{n} answers left out, a tool failed. {}", told(&report.unavailable)))
}

/// Two measurements side by side, with the change.
pub fn before_after(before: &EvalReport, after: &EvalReport) -> String {
    columns(&[("before", before), ("after", after)])
}

/// Measurements side by side; the change where there are two.
fn columns(reports: &[(&str, &EvalReport)]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: String, show: &dyn Fn(f64) -> String, of: &dyn Fn(&EvalReport) -> Option<f64>, unit: &str| {
        let values: Vec<Option<f64>> = reports.iter().map(|(_, r)| of(r)).collect();
        let mut cells = vec![name];
        cells.extend(values.iter().map(|v| v.map_or_else(|| "–".to_owned(), show)));
        if let [Some(before), Some(after)] = values[..] {
            let scale = if unit == "points" { 100.0 } else { 1.0 };
            cells.push(format!("{:+.1} {unit}", scale * (after - before)).trim_end().to_owned());
        }
        rows.push(cells);
    };
    row("pass@1".to_owned(), &percent, &|r| Some(r.pass_at_1), "points");
    row("  95 % interval, from".to_owned(), &percent, &|r| Some(r.pass_at_1_interval[0]), "points");
    row("  95 % interval, to".to_owned(), &percent, &|r| Some(r.pass_at_1_interval[1]), "points");
    let kinds = reports.iter().flat_map(|(_, r)| r.kinds.keys());
    let kinds: std::collections::BTreeSet<&String> = kinds.collect();
    for kind in kinds {
        row(format!("  {kind}"), &percent, &|r| r.kinds.get(kind).map(|k| k.pass_at_1), "points");
    }
    let samples = reports[0].1.samples;
    row(format!("pass@{samples}"), &percent, &|r| Some(r.pass_at_samples), "points");
    row("format kept".to_owned(), &percent, &|r| Some(r.format_rate), "points");
    row("tool calls per answer".to_owned(), &|x| format!("{x:.2}"), &|r| Some(r.calls_per_answer), "");
    row("tokens per answer".to_owned(), &|x| format!("{x:.1}"), &|r| Some(r.tokens_per_answer), "");
    let mut header = vec![""];
    header.extend(reports.iter().map(|(name, _)| *name));
    if reports.len() == 2 {
        header.push("change");
    }
    let first = reports[0].1;
    let mut text = table(&header, &rows).trim_start_matches('\n').to_owned();
    text += &format!("\n{} questions, {samples} answers each", first.n_questions);
    let n_unavailable: usize = reports.iter().map(|(_, r)| r.n_unavailable).sum();
    if n_unavailable > 0 {
        text += &format!("; {n_unavailable} answers left out because a tool failed");
    }
    text.push('\n');
    text
}
