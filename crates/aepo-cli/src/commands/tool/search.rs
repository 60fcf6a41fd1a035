//! What does a query find, in an index, at a retriever, or on the web?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use aepo_tools::SearchSettings;
use aepo_tools::http::{Client, Limits};
use aepo_tools::search::Hit;
use aepo_tools::search::source::{Source, SourceName};

use crate::error::usage;
use crate::progress::print;
use crate::toolbox;

#[derive(Debug, clap::Args)]
pub struct ToolSearchArgs {
    /// What to look for; every text is a query
    pub query: String,
    /// Directory of an index
    #[arg(long, value_name = "DIR")]
    pub index: Option<PathBuf>,
    /// Where to look instead, as tools.search.source of a recipe: an index, the http:// address of a retriever, or serper,
    /// brave, exa, tavily, brightdata
    #[arg(long, value_name = "NAME", conflicts_with = "index")]
    pub source: Option<String>,
    /// Results
    #[arg(short, value_name = "N", default_value_t = 3)]
    pub n: usize,
    /// Deadline of what is asked over the network
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    pub timeout_secs: f64,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

pub fn search(args: &ToolSearchArgs) -> anyhow::Result<()> {
    let name = match (&args.index, &args.source) {
        (Some(directory), _) => SourceName::Directory(directory.clone()),
        (None, Some(source)) => SourceName::parse(source),
        (None, None) => SourceName::Quickstart,
    };
    if args.n == 0 {
        return Err(usage("-n must be at least 1", ""));
    }
    if !(args.timeout_secs > 0.0 && args.timeout_secs <= 86_400.0) {
        return Err(usage("--timeout-secs must be above 0 and at most 86400", ""));
    }
    let settings = SearchSettings { n_results: args.n, ..SearchSettings::default() };
    let source = Source::open(&name, true, || Client::new(Limits::default()), || toolbox::quickstart_index(settings))?;
    let hits = source.search(&args.query, args.n, Instant::now() + Duration::from_secs_f64(args.timeout_secs))?;
    if args.json {
        let result = |hit: &Hit| {
            let d = &hit.document;
            serde_json::json!({ "id": d.id, "title": d.title, "text": d.text, "url": hit.url, "score": hit.score })
        };
        let results: Vec<serde_json::Value> = hits.iter().map(result).collect();
        return print(&format!("{}\n", serde_json::json!({ "query": args.query, "results": results })));
    }
    if hits.is_empty() {
        return print("No results.\n");
    }
    let mut text = String::new();
    for (i, hit) in hits.iter().enumerate() {
        let score = hit.score.map_or_else(String::new, |score| format!("  [{score:.3}]"));
        text += &format!("{}{}. {}{score}\n", if i > 0 { "\n" } else { "" }, i + 1, hit.document.title.trim());
        if let Some(url) = &hit.url {
            text += &format!("{url}\n");
        }
        let body: String = hit.document.text.trim().chars().take(SearchSettings::default().max_chars).collect();
        text += &format!("{body}\n");
    }
    // A page may hold characters that move the cursor of a terminal.
    print(&text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', " "))
}
