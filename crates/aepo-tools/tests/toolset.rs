//! Does every call come back, whatever a provider does?

use std::sync::Arc;
use std::time::Instant;

use aepo::seed::Seed;
use aepo::tool::{CallId, ToolCall, ToolName, ToolOutcome, ToolSpec, Toolset};
use aepo_tools::Tools;
use aepo_tools::toolset::{Answer, Limits, Offer, Provider};

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

fn call(id: u64, tool: ToolName, input: &str) -> ToolCall {
    ToolCall { id: CallId(id), tool, input: input.to_owned(), seed: Seed(0), earlier: Arc::default(), shared: false }
}

#[test]
fn a_panicking_worker_answers_and_goes_on() {
    let specs = vec![ToolSpec::python()];
    let make = move || Ok(Box::new(Panics(specs.clone())) as Box<dyn Provider>);
    let mut tools = Tools::of(vec![Offer { make: Arc::new(make), limits: Limits::default(), until: None }]).unwrap();
    tools.submit(call(1, ToolName::PYTHON, "panic"));
    tools.submit(call(2, ToolName::PYTHON, "work"));
    tools.submit(call(3, ToolName::SEARCH, "never offered"));
    let mut outcomes = std::collections::BTreeMap::new();
    while outcomes.len() < 3 {
        outcomes.extend(tools.poll(true).into_iter().map(|result| (result.id.0, result.outcome)));
    }
    let (ok, unavailable) = (ToolOutcome::Ok, ToolOutcome::Unavailable);
    assert_eq!(outcomes.into_values().collect::<Vec<_>>(), [unavailable, ok, unavailable]);
    assert!(tools.poll(true).is_empty(), "nothing is in flight");
}
