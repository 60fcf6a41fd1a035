//! How does a source of search results answer the calls of agents? As a [`Provider`].

use std::sync::Arc;
use std::time::Instant;

use aepo::tool::{ToolCall, ToolSpec};

use super::SearchSettings;
use super::source::Source;
use crate::error::ToolsError;
use crate::toolset::provider::{Answer, Basis, Limits, Offer, Provider};

/// The search tool over a source.
#[must_use]
pub fn offer(source: Source, settings: SearchSettings, limits: Limits) -> Offer {
    let identity: Arc<str> = format!("{} {settings:?}", source.identity()).into();
    let specs = Arc::new([ToolSpec::search()]);
    let make = move || -> Result<Box<dyn Provider>, ToolsError> {
        let (specs, identity) = (Arc::clone(&specs), Arc::clone(&identity));
        Ok(Box::new(SearchTool { source: source.counted_apart(), settings: settings.clone(), specs, identity }))
    };
    Offer { make: Arc::new(make), limits, until: None }
}

struct SearchTool {
    source: Source,
    settings: SearchSettings,
    specs: Arc<[ToolSpec; 1]>,
    identity: Arc<str>,
}

impl Provider for SearchTool {
    fn specs(&self) -> &[ToolSpec] {
        &*self.specs
    }

    fn identity(&self) -> String {
        self.identity.to_string()
    }

    fn call(&mut self, call: &ToolCall, deadline: Instant) -> Answer {
        self.source.answer(&call.input, &self.settings, deadline)
    }

    fn basis(&self) -> Basis {
        Basis::Input
    }

    fn n_retries(&self) -> u64 {
        self.source.n_retries()
    }
}
