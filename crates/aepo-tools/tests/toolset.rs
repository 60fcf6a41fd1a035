//! Does every call come back, whatever a provider does?

use std::sync::Arc;
use std::time::Instant;

use aepo::seed::Seed;
use aepo::tool::{CallId, Tool, ToolCall, ToolOutcome, Toolset};
use aepo_tools::Tools;
use aepo_tools::toolset::{Answer, Limits, Offer, Provider, ToolInput, ToolSpec};

struct Panics(Vec<ToolSpec>);

impl Provider for Panics {
    fn specs(&self) -> &[ToolSpec] {
        &self.0
    }

    fn identity(&self) -> String {
        "panics".to_owned()
    }

    fn call(&mut self, call: &ToolCall, _deadline: Instant) -> Answer {
        match call.input.as_str() {
            "panic" => panic!("on purpose"),
            _ => Answer::ok("fine"),
        }
    }
}

fn call(id: u64, tool: Tool, input: &str) -> ToolCall {
    ToolCall { id: CallId(id), tool, input: input.to_owned(), seed: Seed(0) }
}

#[test]
fn a_panicking_worker_answers_and_goes_on() {
    let input = ToolInput::Text { argument: "code".to_owned(), about: String::new() };
    let specs = vec![ToolSpec { name: "python".to_owned(), description: String::new(), input }];
    let make = move || Ok(Box::new(Panics(specs.clone())) as Box<dyn Provider>);
    let mut tools = Tools::of(vec![Offer { make: Arc::new(make), limits: Limits::default(), until: None }]).unwrap();
    tools.submit(call(1, Tool::Python, "panic"));
    tools.submit(call(2, Tool::Python, "work"));
    tools.submit(call(3, Tool::Search, "never offered"));
    let mut outcomes = std::collections::BTreeMap::new();
    while outcomes.len() < 3 {
        outcomes.extend(tools.poll(true).into_iter().map(|result| (result.id.0, result.outcome)));
    }
    let (ok, unavailable) = (ToolOutcome::Ok, ToolOutcome::Unavailable);
    assert_eq!(outcomes.into_values().collect::<Vec<_>>(), [unavailable, ok, unavailable]);
    assert!(tools.poll(true).is_empty(), "nothing is in flight");
}
