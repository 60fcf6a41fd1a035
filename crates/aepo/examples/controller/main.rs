//! What does everything cost that is neither model nor tool? The real driver, records and update around a script.

mod script;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use aepo::config::Config;
use aepo::data::countries::{Split, parse_countries};
use aepo::data::questions::quickstart_tasks;
use aepo::data::task::Task;
use aepo::data::world::search_corpus;
use aepo::prompt::{Renderer, Tokenizer};
use aepo::record::tree_record;
use aepo::rollout::drive::{DriveTask, Protocol, drive};
use aepo::rollout::trajectory::Trajectory;
use aepo::score::score;
use aepo::seed::Seed;
use aepo::tool::ToolSpec;
use aepo::train::group::{ScoredTree, train_groups};
use aepo::train::pack::pack;
use aepo::train::update::update;
use script::{Lines, PROMPT_TOKENS, ReadyTools, ScriptedPolicy};

const RECIPE: &str = include_str!("../../../../recipes/quickstart.toml");
const COUNTRIES: &str = include_str!("../../../../recipes/quickstart/countries.csv");
const TOKENIZER: &[u8] = include_bytes!("../../../../recipes/quickstart/tokenizer.json");

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let k: usize = args.first().map_or(8, |a| a.parse().unwrap());
    let sizes: Vec<usize> = args[1..].iter().map(|a| a.parse().unwrap()).collect();
    let countries = parse_countries("countries.csv", COUNTRIES).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_bytes(TOKENIZER).unwrap());
    let renderer = Renderer::tags(Arc::clone(&tokenizer), &ToolSpec::python_and_search()).unwrap();
    let texts: Vec<String> = search_corpus(&countries).iter().map(|a| a.shown()).collect();
    let all: Vec<Task> = quickstart_tasks(&countries, Split::Train, 500, Seed(0));
    let all: Vec<Task> = all.into_iter().filter(|t| renderer.first_prompt(t).unwrap().len() <= PROMPT_TOKENS).collect();
    let mut lines = Lines { calls: Vec::new(), answers: Vec::new() };
    for (i, c) in countries.iter().enumerate() {
        let name = &c.name;
        let think = format!("<think> I will search for the article on {name} and read the number {i} from it.</think>");
        lines.calls.push(tokenizer.encode_marked(&format!("{think}<search> {name} population and area</search>")));
        let sum = format!("<think> I will compute the sum of both now and then give the answer.</think>");
        lines.calls.push(tokenizer.encode_marked(&format!("{sum}<python>print( {i} + 7340{i})</python>")));
        let end = if i % 4 == 0 { format!(" {i}") } else { format!("\\boxed{{ {i}}}") };
        lines.answers.push(tokenizer.encode_marked(&format!("<answer>{end}</answer><|end|>")));
        for t in all.iter().skip(i).step_by(countries.len()).take(1) {
            lines
                .answers
                .push(tokenizer.encode_marked(&format!("<answer>\\boxed{{ {}}}</answer><|end|>", t.answers[0])));
        }
    }
    let mean = |l: &[Vec<u32>]| l.iter().map(Vec::len).sum::<usize>() as f64 / l.len() as f64;
    println!("tokens: call {:.1}, answer {:.1}", mean(&lines.calls), mean(&lines.answers));
    for n in sizes {
        let sets = [
            ("rollout.k", k.to_string()),
            ("tasks.n_train", (n / k).max(2000).to_string()),
            ("rollout.max_live_paths", n.max(k).to_string()),
            ("train.tasks_per_step", (n / k).max(1).to_string()),
        ];
        let sets: Vec<(String, String)> = sets.map(|(key, value)| (key.to_owned(), value)).to_vec();
        let config = Config::resolve(RECIPE, "quickstart.toml", &sets).unwrap();
        let tasks: Vec<&Task> = (0..(n / k).max(1)).map(|i| &all[i % all.len()]).collect();
        case(n, k, &config, &tasks, &renderer, &lines, &texts);
    }
}

fn case(n: usize, k: usize, config: &Config, tasks: &[&Task], renderer: &Renderer, lines: &Lines, texts: &[String]) {
    let mut policy = ScriptedPolicy::new(lines, renderer.tokenizer().vocab_size(), 1024);
    let mut tools = ReadyTools::new(texts.to_vec());
    let settings = config.drive_settings();
    let (parse_secs, render_secs, n_turns) = (Cell::new(0.0), Cell::new(0.0), Cell::new(0usize));
    let protocol = Protocol {
        stop: renderer.stop(),
        parse: &|ids| {
            let start = Instant::now();
            let action = renderer.parse(ids);
            parse_secs.set(parse_secs.get() + start.elapsed().as_secs_f64());
            n_turns.set(n_turns.get() + 1);
            action
        },
        render_result: &|text, max_tokens| {
            let start = Instant::now();
            let ids = renderer.tool_result(text, max_tokens);
            render_secs.set(render_secs.get() + start.elapsed().as_secs_f64());
            ids
        },
    };
    let mut at = Instant::now();
    let mut lap = || {
        let secs = at.elapsed().as_secs_f64();
        at = Instant::now();
        secs
    };
    let seed = Seed(1);
    let prompts: Vec<DriveTask> = tasks
        .iter()
        .enumerate()
        .map(|(i, task)| DriveTask { prompt: renderer.first_prompt(task).unwrap(), seed: seed.child(i as u64) })
        .collect();
    let prompt_secs = lap();
    let trees = drive(&mut policy, &mut tools, &protocol, &prompts, &settings, &mut |_| ()).unwrap();
    let drive_secs = lap() - policy.secs - tools.secs - parse_secs.get() - render_secs.get();
    let scored: Vec<ScoredTree> = tasks
        .iter()
        .zip(trees)
        .map(|(task, tree)| {
            let scores = Trajectory::all(&tree).iter().map(|t| score(task, &t.transcript())).collect();
            ScoredTree { tree, scores }
        })
        .collect();
    let score_secs = lap();
    let rule = config.rules().advantage;
    let (groups, stats) = train_groups(&scored, &rule);
    let advantage_secs = lap();
    let which: Vec<usize> = (0..groups.len()).collect();
    let batches = pack(&groups, &which, config.train.max_batch_tokens);
    let pack_secs = lap();
    let rollout_policy_secs = policy.secs;
    let update_settings = config.update_settings(0, seed, stats.high);
    let report = update(&mut policy, None, &groups, &update_settings, &mut |_| ()).unwrap();
    let update_secs = lap() - (policy.secs - rollout_policy_secs);
    let records: Vec<_> = tasks
        .iter()
        .zip(&scored)
        .zip(&groups)
        .map(|((task, scored), group)| tree_record(0, task, scored, group, renderer, 8))
        .collect();
    let record_secs = lap();
    let mut bytes = Vec::new();
    for record in &records {
        serde_json::to_writer(&mut bytes, record).unwrap();
        bytes.push(b'\n');
    }
    let json_secs = lap();
    drop(records);
    drop(batches);
    let n_unique: usize = groups.iter().map(|g| g.n_unique_tokens()).sum();
    let n_unrolled: usize = groups.iter().map(|g| g.n_unrolled_tokens()).sum();
    drop(groups);
    drop(scored);
    let drop_secs = lap();
    let turns = n_turns.get() as f64;
    let us = |secs: f64| 1e6 * secs / turns;
    let total = prompt_secs
        + parse_secs.get()
        + render_secs.get()
        + drive_secs
        + score_secs
        + advantage_secs
        + update_secs
        + record_secs
        + json_secs
        + drop_secs;
    println!(
        "n {n} k {k}: {turns} turns, {n_unique} unique {n_unrolled} unrolled tokens, {} bytes, hash {:016x}, applied {} open {}",
        bytes.len(),
        fnv(&bytes),
        report.n_applied,
        policy.n_open_max
    );
    println!(
        "   us/turn: total {:.2} | prompt {:.2} parse {:.2} render {:.2} drive {:.2} score {:.2} advantage {:.2} (pack {:.2}) update {:.2} record {:.2} json {:.2} drop {:.2} | policy {:.2} tools {:.2}",
        us(total),
        us(prompt_secs),
        us(parse_secs.get()),
        us(render_secs.get()),
        us(drive_secs),
        us(score_secs),
        us(advantage_secs),
        us(pack_secs),
        us(update_secs),
        us(record_secs),
        us(json_secs),
        us(drop_secs),
        us(policy.secs),
        us(tools.secs)
    );
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf29ce484222325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100000001b3))
}
