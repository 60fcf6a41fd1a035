//! What would a model read of a page?

use std::time::{Duration, Instant};

use aepo::seed::Seed;
use aepo::tool::{CallId, ToolCall, ToolName, ToolOutcome};
use aepo_tools::pages::{AllowedHost, ChatSummary, PageSettings, Pages, SummarySettings, Visit, system};
use aepo_tools::toolset::{Answer, Provider as _};
use serde_json::{Value, json};

use crate::args::ToolVisitArgs;
use crate::error::usage;
use crate::machine::certificates;
use crate::progress::print;

/// Reads one page.
pub fn visit(args: &ToolVisitArgs) -> anyhow::Result<()> {
    if !(args.timeout_secs > 0.0 && args.timeout_secs <= 3600.0) {
        return Err(usage("--timeout-secs must be more than 0 and at most 3600", ""));
    }
    let wrong = |e: aepo_tools::pages::PageSettingsError| usage(e.to_string(), "");
    let hosts = args.allow_hosts.iter().map(|written| AllowedHost::parse(written));
    let settings = PageSettings {
        allow_hosts: hosts.collect::<Result<_, _>>().map_err(wrong)?,
        max_chars: args.max_chars,
        page_secs: args.timeout_secs,
        certificates: certificates(),
        ..PageSettings::default()
    };
    let pages = Pages::new(settings, system()).map_err(wrong)?;
    let deadline = Instant::now() + Duration::from_secs_f64(args.timeout_secs);
    let (answer, page) = match &args.goal {
        None => match pages.read(&args.url, deadline) {
            Ok(page) => (Answer::ok(pages.shown(&page)), Some(page)),
            Err(error) => (Answer { outcome: error.outcome(), text: error.to_string() }, None),
        },
        Some(goal) => {
            let summaries = summaries(args);
            let reader = ChatSummary::new(&summaries).map_err(wrong)?;
            let mut visit = Visit::with_summaries(pages, Box::new(reader), summaries);
            let input = json!({ "goal": goal, "url": args.url }).to_string();
            let (id, tool) = (CallId(0), ToolName::VISIT);
            let call = ToolCall { id, tool, input, seed: Seed(0), earlier: [].into(), shared: false };
            (visit.call(&call, deadline), None)
        }
    };
    if args.json {
        let page = page.map_or(Ok(Value::Null), |page| serde_json::to_value(&page))?;
        return print(&format!("{}\n", json!({ "outcome": answer.outcome, "shown": answer.text, "page": page })));
    }
    match answer.outcome {
        ToolOutcome::Ok => print(&format!("{}\n", answer.text)),
        _ => anyhow::bail!(answer.text),
    }
}

/// The model that reads the page.
fn summaries(args: &ToolVisitArgs) -> SummarySettings {
    let (base_url, model) = (args.endpoint.clone().unwrap_or_default(), args.model.clone().unwrap_or_default());
    let mut by = SummarySettings::of(base_url, model, args.timeout_secs);
    by.llm.key_env = args.key_env.clone();
    by.llm.certificates = certificates();
    by
}
