//! How does a model do on benchmarks? A directory of answers that grows until all are there, and its report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aepo::config::{Config, Source};
use aepo::data::benchmark::ToolKind;
use aepo::eval::agent::AgentSettings;
use aepo::eval::answer::{AnswerName, AnswerRecord};
use aepo::prompt::Dialect;
use aepo::rollout::tree::StopReason;
use aepo::tool::Toolset as _;
use aepo_engine::checkpoint::write_whole;
use aepo_tools::hub::What;
use aepo_tools::llm::{Llm, LlmSettings};
use anyhow::Context as _;

use super::args::{EvalArgs, ResultsArg};
use super::embedded::{self, Asked};
use super::held_out::run_recipe;
use super::judged::judge_all;
use super::plan::{self, PLAN, Plan, SetFile};
use super::report;
use super::served::{self, Job, Served};
use super::sets::{self, Set};
use super::store::Store;
use crate::assets::{BENCHMARK, QUICKSTART};
use crate::benchmarks;
use crate::error::{Interrupted, usage};
use crate::interrupt;
use crate::machine::certificates;
use crate::progress::{Teller, print};
use crate::recipe;
use crate::run_dir::{CONFIG, check_empty, lock, make, read_json};
use crate::source::{self, Place};
use crate::toolbox;
use crate::world;

/// Answers what is not answered yet, and reports.
pub fn run(model: Option<&str>, args: &EvalArgs) -> anyhow::Result<()> {
    interrupt::install()?;
    let b = &args.benchmarks;
    let data = benchmarks::place(b.data.as_deref()).0;
    let all = ["all".to_owned()];
    let names = if b.benchmark.is_empty() && b.reproduce.is_some() && data.is_dir() { &all } else { &b.benchmark[..] };
    let (sets, missing) = sets::find(names, &data, b.limit)?;
    let config = settings(model, &sets, args)?;
    let judge = args.judge.start()?;
    let mut teller = Teller::new(args.telling);
    config.left_out.iter().for_each(|line| teller.note(&line.to_string()));
    let place = match model {
        None => None,
        Some(model) => Some(source::bring(&source::named(model)?, What::Everything, args.net.offline, &mut teller)?.0),
    };
    let plan = plan(model, place.as_ref(), &sets, &config, args)?;
    let dir = b.out.clone().unwrap_or_else(|| default_dir(model, args));
    let _lock = open(&dir, &plan, &config, b.resume)?;
    let store = Store::open(&dir)?;

    let n_all: usize = sets.iter().map(|set| set.tasks.len() * plan.samples).sum();
    let missing_answers = missing_answers(&sets, &plan, &store);
    let n_done = (n_all - missing_answers.len()) as u64;
    if b.resume && n_done > 0 {
        teller.note(&format!("{n_done} of {n_all} answers are there"));
    }
    let mut outcome = Ok(());
    if !missing_answers.is_empty() {
        let mut tools = toolbox::start(&config, &mut teller)?;
        if config.search.source == QUICKSTART && tools.tools().iter().any(|tool| tool.name.as_str() == "search") {
            teller.warn("search looks in the quickstart's own articles; tools.search.source says where else");
        }
        match place {
            Some(place) => {
                let mut model = world::load_to_measure(&place, &config, tools.tools())?;
                let asked = questions(&missing_answers, &sets, &config, &model, &store)?;
                let settings = config.eval_drive_settings();
                teller.begin("answers", n_all as u64, n_done);
                let (model, tools) = (&mut model, &mut tools);
                outcome = embedded::ask_all(model, &asked, &settings, &store, tools, n_done, &mut teller);
            }
            None => {
                let (llm, agent) = (llm(args)?, agent(&config, tools.tools(), args.server.results));
                let served = Served {
                    llm: &llm,
                    agent: &agent,
                    temperature: config.eval.temperature,
                    top_p: config.eval.top_p,
                    patience: patience(args.server.request_secs)?,
                    n_jobs: args.server.jobs,
                };
                let job = |&(set, question, sample): &(usize, usize, usize)| {
                    let (set, task) = (&sets[set], &sets[set].tasks[question]);
                    let seed = plan::answer_seed(&config, &set.name, &task.id, sample);
                    Job { set: &set.name, task, sample, seed }
                };
                let jobs = missing_answers.iter().map(job).collect();
                teller.begin("answers", n_all as u64, n_done);
                outcome = served::ask_all(&served, jobs, &store, &mut tools, n_done, &mut teller);
            }
        }
        teller.end();
    }
    let answers = store.into_answers();
    let judged = judge_all(judge.as_ref(), &sets, &plan, &answers, &mut teller)?;
    let told = report::write(&dir, &plan, &config, &sets, &missing, &answers, &judged)?;
    teller.event("evaluation", &told.evaluation);
    if teller.for_people() {
        print(&told.text)?;
    }
    let hint = "the same command with --resume goes on";
    match outcome {
        Err(error) => Err(error.context(format!("the evaluation stopped; {hint}"))),
        Ok(()) if interrupt::asked() => Err(Interrupted { hint: Some(hint.to_owned()) }.into()),
        Ok(()) if told.evaluation.sets.iter().all(|set| set.n_answers == 0) => {
            Err(anyhow::anyhow!("nothing was measured: every answer is left out, a tool or the server failed; {hint}"))
        }
        Ok(()) => Ok(()),
    }
}

/// The settings: of the recipe, with the paper's and then the user's own over them.
fn settings(model: Option<&str>, sets: &[Set], args: &EvalArgs) -> anyhow::Result<Config> {
    let recipe = match (&args.recipe, model) {
        (Some(name), _) => recipe::find(name)?,
        (None, Some(model)) => run_recipe(Path::new(model))?.map_or_else(|| recipe::find(QUICKSTART), Ok)?,
        (None, None) => recipe::find(BENCHMARK)?,
    };
    let own = recipe::parse_sets(&args.sets)?;
    let own = own.into_iter().chain(args.benchmarks.samples.map(|n| ("eval.samples".to_owned(), n.to_string())));
    let own: Vec<(String, String)> = own.collect();
    let paper = args.benchmarks.reproduce.map_or(&[][..], |paper| paper.paper().settings());
    let mut all: Vec<(String, String)> = paper.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    all.retain(|(key, _)| own.iter().all(|(k, _)| k != key));
    all.extend(own);
    let config = recipe::resolve(&recipe, &all)?;
    if model.is_some() {
        return Ok(config);
    }
    if config.prompt.protocol.dialect() != Some(Dialect::Aepo) {
        let message = "a served model is asked to call tools in tags, which need nothing of its server";
        return Err(usage(message, "set prompt.protocol to \"aepo\""));
    }
    if config.source("tools.offer") != Source::Default {
        return Ok(config);
    }
    let mut kinds: Vec<ToolKind> = sets.iter().flat_map(|set| set.tools.iter().copied()).collect();
    kinds.sort();
    kinds.dedup();
    let names: Vec<String> = kinds.iter().map(|kind| format!("\"{}\"", kind.name())).collect();
    all.push(("tools.offer".to_owned(), format!("[{}]", names.join(", "))));
    recipe::resolve(&recipe, &all)
}

fn plan(
    model: Option<&str>,
    place: Option<&Place>,
    sets: &[Set],
    config: &Config,
    args: &EvalArgs,
) -> anyhow::Result<Plan> {
    let samples = config.eval.samples;
    let mut ks = args.benchmarks.k.clone();
    if ks.is_empty() {
        ks = vec![1, samples];
    }
    ks.sort_unstable();
    ks.dedup();
    if let Some(k) = ks.iter().find(|k| **k == 0 || **k > samples) {
        let message = format!("--k {k}: there are {samples} answers per question");
        return Err(usage(message, "ask for more with --samples"));
    }
    let named = |place: &Place| match place {
        Place::Embedded => Ok(QUICKSTART.to_owned()),
        Place::Directory(path) | Place::Gguf(path) => Ok(std::path::absolute(path)?.display().to_string()),
    };
    let served = || args.server.served.clone().unwrap_or_default();
    let words: Vec<String> = std::env::args().skip(1).map(|word| quoted(&word)).collect();
    Ok(Plan {
        model: place.map_or_else(|| Ok(served()), named).map_err(|e: std::io::Error| anyhow::Error::new(e))?,
        server: args.server.server.clone(),
        results: model.is_none().then(|| match args.server.results {
            ResultsArg::Message => "message".to_owned(),
            ResultsArg::Turn => "turn".to_owned(),
        }),
        sets: sets.iter().map(SetFile::of).collect::<anyhow::Result<_>>()?,
        samples,
        ks,
        limit: args.benchmarks.limit,
        paper: args.benchmarks.reproduce.map(super::args::PaperArg::paper),
        command: format!("aepo {}", words.join(" ")),
    })
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./,:=+@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

fn default_dir(model: Option<&str>, args: &EvalArgs) -> PathBuf {
    let name = model.or(args.server.served.as_deref()).unwrap_or("model").trim_end_matches('/');
    let name = Path::new(name).file_name().map_or_else(|| name.to_owned(), |n| n.to_string_lossy().into_owned());
    let name: String = name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    Path::new("runs").join(format!("eval-{name}"))
}

/// Makes the directory, or opens it to go on; nobody else works in it while the result lives.
fn open(dir: &Path, plan: &Plan, config: &Config, resume: bool) -> anyhow::Result<std::fs::File> {
    let text = config.to_toml();
    let lock = match resume {
        false => {
            let left = ["lock", "config.tmp", "plan.tmp", CONFIG];
            // Settings alone were left by an evaluation that ended before it asked anything.
            let allowed: &[&str] = if dir.join(PLAN).exists() { &left[..3] } else { &left };
            check_empty(dir, allowed, "--resume goes on with the evaluation in it, --out DIR takes another directory")?;
            make(dir)?;
            lock(dir)?
        }
        true => {
            let before: Option<Plan> = read_json(&dir.join(PLAN))?;
            let Some(before) = before else {
                let message = format!("there is no evaluation to resume in {}", dir.display());
                return Err(usage(message, "leave --resume out to start one, or name its directory with --out"));
            };
            let held = lock(dir)?;
            let path = dir.join(CONFIG);
            let old = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            plan::check(dir, &before, plan, [&old, &text])?;
            held
        }
    };
    write_whole(&dir.join(CONFIG), text.as_bytes())?;
    let mut json = serde_json::to_string_pretty(plan)?;
    json.push('\n');
    write_whole(&dir.join(PLAN), json.as_bytes())?;
    Ok(lock)
}

/// Set, question and sample of every answer that is not there, questions in their order.
fn missing_answers(sets: &[Set], plan: &Plan, store: &Store) -> Vec<(usize, usize, usize)> {
    let mut missing = Vec::new();
    for (s, set) in sets.iter().enumerate() {
        for (q, task) in set.tasks.iter().enumerate() {
            let is_there = |sample: usize| store.has(&(set.name.clone(), task.id.clone(), sample));
            missing.extend((0..plan.samples).filter(|sample| !is_there(*sample)).map(|sample| (s, q, sample)));
        }
    }
    missing
}

/// The questions that lack answers, for the engine inside. One that fills the model's context leaves no room for an answer,
/// and that is its answer.
fn questions<'a>(
    missing: &[(usize, usize, usize)],
    sets: &'a [Set],
    config: &Config,
    model: &world::Model,
    store: &Store,
) -> anyhow::Result<Vec<Asked<'a>>> {
    let mut asked: Vec<Asked<'a>> = Vec::new();
    for &(s, q, sample) in missing {
        let (set, task) = (&sets[s], &sets[s].tasks[q]);
        // All answers of a question are sampled together.
        if asked.last().is_some_and(|last| last.set == set.name && last.task.id == task.id) {
            continue;
        }
        let seed = plan::question_seed(config, &set.name, &task.id);
        if embedded::fits(model, task)? {
            asked.push(Asked { set: &set.name, task, seed });
            continue;
        }
        let name = AnswerName { benchmark: &set.name, id: &task.id, sample, seed: seed.0 };
        store.add(&AnswerRecord::without(&name, StopReason::ContextFull.name()))?;
    }
    Ok(asked)
}

fn llm(args: &EvalArgs) -> anyhow::Result<Llm> {
    let (url, name) = (args.server.server.clone().unwrap_or_default(), args.server.served.clone().unwrap_or_default());
    let settings = LlmSettings {
        key_env: args.server.key_env.clone(),
        certificates: certificates(),
        ..LlmSettings::of(url.clone(), name)
    };
    Llm::new(&settings).map_err(|e| usage(format!("--server {url}: {e}"), ""))
}

fn patience(secs: f64) -> anyhow::Result<Duration> {
    match secs > 0.0 && secs <= 86_400.0 {
        true => Ok(Duration::from_secs_f64(secs)),
        false => Err(usage(format!("--request-secs {secs}"), "it must be more than 0 and at most 86400")),
    }
}

fn agent(config: &Config, tools: &[aepo::tool::ToolSpec], results: ResultsArg) -> AgentSettings {
    AgentSettings {
        system: config.prompt.system.clone().unwrap_or_else(|| Dialect::Aepo.system(tools)),
        tools: tools.to_vec(),
        limits: config.eval_drive_settings().limits,
        results: results.results(),
        code_fences: config.prompt.code_fences,
    }
}
