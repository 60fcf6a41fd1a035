//! How does an agent read a page? By the tool `visit`: an address in, the page's text out, or what a model says of it.

use std::sync::Arc;
use std::time::Instant;

use aepo::tool::{ToolCall, ToolInput, ToolName, ToolOutcome, ToolSpec};
use serde_json::{Value, json};

use super::error::{PageError, PageSettingsError};
use super::summary::{ChatSummary, PROMPT_VERSION, Summarise, SummarySettings, summary};
use super::{PageSettings, Pages, heading, resolve, seconds, shown};
use crate::error::ToolsError;
use crate::toolset::provider::{Answer, Basis, Limits, Offer, Provider};

/// A page is given up at its own limit; the call this much later, seconds.
const AFTER_THE_PAGE_SECS: f64 = 5.0;
/// A goal is given to the model that reads for the agent; more of one, characters, is a mistake.
const MAX_GOAL_CHARS: usize = 4000;

/// The tool `visit`.
pub struct Visit {
    pages: Pages,
    reader: Option<(Box<dyn Summarise>, SummarySettings)>,
    spec: ToolSpec,
    identity: String,
}

impl Visit {
    /// The tool that shows pages themselves.
    #[must_use]
    pub fn new(pages: Pages) -> Visit {
        let identity = identity(&pages.settings, None);
        let about = "The whole address, beginning with http:// or https://.".to_owned();
        let spec = ToolSpec {
            name: ToolName::VISIT,
            description: "Fetches a web page and returns its text.".to_owned(),
            input: ToolInput::Text { argument: "url".to_owned(), about },
        };
        Visit { pages, reader: None, spec, identity }
    }

    /// The tool that has somebody else read the pages.
    #[must_use]
    pub fn with_summaries(pages: Pages, by: Box<dyn Summarise>, settings: SummarySettings) -> Visit {
        let identity = identity(&pages.settings, Some(&settings));
        let schema = json!({
            "type": "object",
            "properties": {
                "url": {
                    "type": "string",
                    "description": "The whole address, beginning with http:// or https://."
                },
                "goal": { "type": "string", "description": "What to look for on the page." }
            },
            "required": ["url", "goal"],
            "additionalProperties": false
        });
        let spec = ToolSpec {
            name: ToolName::VISIT,
            description: "Fetches a web page and returns what it says towards a goal.".to_owned(),
            input: ToolInput::Arguments(schema),
        };
        Visit { pages, reader: Some((by, settings)), spec, identity }
    }

    fn visit(&mut self, input: &str, deadline: Instant) -> Result<String, Refusal> {
        let Some((by, settings)) = &mut self.reader else {
            let page = self.pages.read(input, deadline)?;
            return Ok(self.pages.shown(&page));
        };
        let (url, goal) = arguments(input)?;
        // Half of the time is for the page, so that the other half is for the one who reads it.
        let half = deadline.saturating_duration_since(Instant::now()) / 2;
        let page = self.pages.read(&url, Instant::now() + half)?;
        let given = shown(&page, settings.max_page_chars);
        let said = summary(by.as_mut(), &goal, &given, seconds(settings.secs), deadline)?;
        let max_chars = self.pages.settings.max_chars;
        let said: String = said.chars().take(max_chars).collect();
        Ok(heading(&page) + &said)
    }
}

/// Why a call has no page.
enum Refusal {
    Page(PageError),
    Arguments(&'static str),
}

impl From<PageError> for Refusal {
    fn from(error: PageError) -> Refusal {
        Refusal::Page(error)
    }
}

/// Address and goal of a call.
fn arguments(input: &str) -> Result<(String, String), Refusal> {
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(input) else {
        return Err(Refusal::Arguments("the arguments are no JSON object"));
    };
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let url = text("url").ok_or(Refusal::Arguments("the argument `url` is missing or no text"))?;
    let goal = text("goal").ok_or(Refusal::Arguments("the argument `goal` is missing or no text"))?;
    if goal.chars().nth(MAX_GOAL_CHARS).is_some() {
        return Err(Refusal::Arguments("the argument `goal` is longer than 4000 characters"));
    }
    Ok((url, goal))
}

/// What decides on the text of a page, beside the page: how much is read, how much is shown, and who reads it.
fn identity(settings: &PageSettings, by: Option<&SummarySettings>) -> String {
    let hosts: Vec<String> = settings
        .allow_hosts
        .iter()
        .map(|a| format!("{}:{}", a.host, a.port.map_or(String::new(), |p| p.to_string())))
        .collect();
    let pages = json!({
        "max_chars": settings.max_chars,
        "max_wire_bytes": settings.max_wire_bytes,
        "max_page_bytes": settings.max_page_bytes,
        "max_header_bytes": settings.max_header_bytes,
        "max_redirects": settings.max_redirects,
        "allow_hosts": hosts,
        "user_agent": settings.user_agent,
    });
    let reader = by.map(|by| {
        json!({
            "model": by.llm.model,
            "base_url": by.llm.base_url,
            "temperature": by.temperature,
            "max_tokens": by.max_tokens,
            "max_page_chars": by.max_page_chars,
            "prompt": PROMPT_VERSION,
        })
    });
    format!("visit 1 {}", json!({ "pages": pages, "reader": reader }))
}

impl Provider for Visit {
    fn specs(&self) -> &[ToolSpec] {
        std::slice::from_ref(&self.spec)
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn call(&mut self, call: &ToolCall, deadline: Instant) -> Answer {
        match self.visit(&call.input, deadline) {
            Ok(text) => Answer::ok(text),
            Err(Refusal::Arguments(why)) => Answer::raised(why),
            Err(Refusal::Page(error)) => match error.outcome() {
                ToolOutcome::Unavailable => Answer::unavailable(&error.to_string()),
                outcome => Answer { outcome, text: error.to_string() },
            },
        }
    }

    /// A page may change from one day to the next; within a run it counts as the page it was.
    fn basis(&self) -> Basis {
        Basis::Input
    }

    fn n_retries(&self) -> u64 {
        self.pages.n_retries()
    }
}

/// The tool as a run offers it, `n_workers` pages at once; each worker has connections of its own.
pub fn offer(
    settings: PageSettings,
    by: Option<SummarySettings>,
    n_workers: usize,
) -> Result<Offer, PageSettingsError> {
    // Whatever is wrong with the settings is found now and not with the first call.
    let tool = move || -> Result<Visit, PageSettingsError> {
        let pages = Pages::new(settings.clone(), resolve::system())?;
        Ok(match &by {
            None => Visit::new(pages),
            Some(by) => Visit::with_summaries(pages, Box::new(ChatSummary::new(by)?), by.clone()),
        })
    };
    let first = tool()?;
    let reader_secs = first.reader.as_ref().map_or(0.0, |(_, by)| by.secs);
    // The page has half of the time where somebody reads it, so twice the longer of the two is enough for both.
    let page_secs = first.pages.settings.page_secs;
    let work_secs = if first.reader.is_some() { 2.0 * page_secs.max(reader_secs) } else { page_secs };
    let limits = Limits { n_workers, deadline_secs: work_secs + AFTER_THE_PAGE_SECS, ..Limits::default() };
    let make = move || -> Result<Box<dyn Provider>, ToolsError> { Ok(Box::new(tool()?)) };
    Ok(Offer { make: Arc::new(make), limits, until: None })
}
