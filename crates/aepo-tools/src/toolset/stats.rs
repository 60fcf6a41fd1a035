//! What has happened to the calls of one tool? Counts since the start, for records and reports.

use std::collections::BTreeMap;

use aepo::tool::ToolOutcome;

/// Counts of one tool. Every call is exactly one of `n_made`, `n_hits`, `n_joined` and `n_refused` once it is answered.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ToolStats {
    /// Calls submitted.
    pub n_calls: u64,
    /// Calls that a provider was asked.
    pub n_made: u64,
    /// Calls answered from the cache.
    pub n_hits: u64,
    /// Calls that waited for an equal one under way.
    pub n_joined: u64,
    /// Calls that no provider was asked: beyond the budget, held back by the breaker, missing in a replay, not offered.
    pub n_refused: u64,
    /// Of `n_refused`: beyond the budget.
    pub n_over_budget: u64,
    /// Of `n_refused`: held back by the breaker.
    pub n_held_back: u64,
    /// Of `n_refused`: not in the cache that is replayed.
    pub n_missing: u64,
    /// Of `n_made`: not answered by the deadline and given up.
    pub n_overdue: u64,
    /// Answers that were cut at the bound on their size.
    pub n_cut: u64,
    /// Requests that providers have sent again.
    pub n_retries: u64,
    /// Times that the breaker opened.
    pub n_trips: u64,
    /// Workers that were given up and replaced.
    pub n_replaced: u64,
    /// Calls by how they ended.
    pub outcomes: BTreeMap<ToolOutcome, u64>,
    /// Why the last unavailable call was so.
    pub last_trouble: Option<String>,
}

impl ToolStats {
    /// Who answered, and what it took, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let ToolStats { n_calls, n_made, n_hits, n_joined, n_refused, n_retries, n_trips, .. } = self;
        format!(
            "{n_calls} calls: {n_made} made, {n_hits} from the cache, {n_joined} joined to equal ones, {n_refused} refused; \
             {n_retries} requests sent again, held back {n_trips} times"
        )
    }
}
