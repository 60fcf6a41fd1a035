//! What is the quickstart made of? `demos [n]`, `stats`, `tasks [n]` and `corpus` show it, `tokenizer` makes its vocabulary.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use aepo::data::countries::{Split, parse_countries};
use aepo::data::demos::{DemoSettings, Role, RowKind};
use aepo::data::questions::quickstart_tasks;
use aepo::data::world::search_corpus;
use aepo::prompt::demo::{demonstrator, encode_demo, quickstart_tokenizer};
use aepo::prompt::{Renderer, Tokenizer};
use aepo::seed::Seed;
use aepo::tool::ToolSpec;

const FACTS: &str = include_str!("../../../recipes/quickstart/countries.csv");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let countries = parse_countries("countries.csv", FACTS)?;
    let mut out = std::io::stdout().lock();
    let command = arguments.first().map_or("demos", String::as_str);
    if command == "tokenizer" {
        out.write_all(&quickstart_tokenizer(&countries)?)?;
        return Ok(());
    }
    let json = std::fs::read("recipes/quickstart/tokenizer.json")?;
    let renderer = Renderer::tags(Arc::new(Tokenizer::from_bytes(&json)?), &ToolSpec::python_and_search())?;
    let source = demonstrator(renderer.tokenizer(), &countries);
    let settings = DemoSettings::default();
    let n: u64 = arguments.get(1).map_or(Ok(20), |n| n.parse())?;
    match command {
        "demos" => {
            for seed in 0..n {
                let demo = source.demo(Seed(1).child(seed), &settings);
                let segments = encode_demo(&renderer, &demo)?;
                let n_tokens: usize = segments.iter().map(|(_, ids)| ids.len()).sum();
                writeln!(out, "--- {:?}, right: {}, {n_tokens} tokens", demo.kind, demo.right)?;
                for (role, ids) in segments {
                    let pieces: Vec<String> = ids.iter().map(|id| renderer.decode(&[*id])).collect();
                    writeln!(out, "{}{}", if role == Role::Written { "> " } else { "  " }, pieces.join("|"))?;
                }
            }
        }
        "tasks" => {
            for split in [Split::Train, Split::HeldOut] {
                for task in quickstart_tasks(&countries, split, n as usize, Seed(1)) {
                    writeln!(out, "{}", serde_json::to_string(&task)?)?;
                }
            }
        }
        "corpus" => {
            for article in search_corpus(&countries) {
                let (id, title, text) = (article.id, article.title, article.text);
                writeln!(out, "{}", serde_json::json!({ "id": id, "title": title, "text": text }))?;
            }
        }
        "stats" => {
            let mut rows: BTreeMap<String, [f64; 4]> = BTreeMap::new();
            let n = n.max(2000);
            for seed in 0..n {
                let demo = source.demo(Seed(2).child(seed), &settings);
                let segments = encode_demo(&renderer, &demo)?;
                let count = |written: bool| -> usize {
                    segments.iter().filter(|(r, _)| !written || *r == Role::Written).map(|(_, i)| i.len()).sum()
                };
                let all = if matches!(demo.kind, RowKind::Task(_)) { "all tasks" } else { "all drills" };
                for key in [format!("{:?}", demo.kind), all.to_owned()] {
                    let row = rows.entry(key).or_default();
                    row[0] += 1.0;
                    row[1] += count(false) as f64;
                    row[2] += count(true) as f64;
                    row[3] += f64::from(u8::from(demo.right));
                }
            }
            for (kind, [n, tokens, written, right]) in rows {
                writeln!(
                    out,
                    "{kind}: {n} rows, {:.1} tokens, {:.1} written, {:.3} right",
                    tokens / n,
                    written / n,
                    right / n
                )?;
            }
        }
        other => return Err(format!("no command {other:?}: use demos, stats, tasks, corpus or tokenizer").into()),
    }
    Ok(())
}
