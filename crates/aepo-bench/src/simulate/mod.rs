//! How would many replicas and a million trajectories behave? The real driver and the real router on a clock of their
//! own; servers, tools and networks are formulas.
//!
//! From the inside out: `prefix` is a cache as counts, `server` a replica as a formula, `world` the events between them
//! and the router, `face` the policy and the tools that the driver sees; `assumed` has every number that was not measured.

pub mod assumed;
pub mod face;
pub mod picture;
pub mod prefix;
pub mod server;
pub mod world;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

use aepo::prompt::Action;
use aepo::rollout::branch::BranchRule;
use aepo::rollout::budget::BudgetRule;
use aepo::rollout::drive::{DriveSettings, DriveTask, Limits, Protocol, drive};
use aepo::rollout::tree::{NodeKind, RolloutTree};
use aepo::seed::Seed;
use aepo::stop::Stop;
use aepo::tool::ToolName;
use serde::Serialize;

use crate::agent::{QUICKSTART, recipe};
use assumed::Work;
use face::{ANSWER, CALL, SimPolicy, SimTools, TEXT};
use server::{BLOCK, Count};
use world::{Fleet, World};

/// Longest path, tokens.
const CONTEXT_TOKENS: u32 = 32_768;
/// Tokens over which an entropy is averaged.
const ENTROPY_TOKENS: u32 = 32;

/// Which trees grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// One trajectory first; then some from the root, and forks.
    Aepo,
    /// All from the root at once.
    Grpo,
}

/// A step of a rollout.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The replicas.
    pub fleet: Fleet,
    /// What the agent does.
    pub work: Work,
    /// Which trees grow.
    pub rule: Rule,
    /// Their leaves.
    pub k: usize,
    /// How many.
    pub n_trees: usize,
    /// Everything is drawn with this.
    pub seed: u64,
}

/// What came of it. Tokens, and seconds on the simulated clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Trajectories.
    pub n_trajectories: usize,
    /// The most of them that were under way at once.
    pub n_open_max: usize,
    /// The whole step.
    pub secs: f64,
    /// When nine tenths of the trajectories had ended.
    pub most_secs: f64,
    /// Sampled tokens in the trees.
    pub n_sampled: u64,
    /// Those per second and replica.
    pub tokens_per_replica_sec: f64,
    /// Share of the time in which a replica had something to do, mean over replicas.
    pub busy: f64,
    /// Live sequences at a replica, mean over the step.
    pub batch: f64,
    /// Tokens of prompts that replicas were sent.
    pub n_prompt: u64,
    /// Of these, tokens that they had to read.
    pub n_read: u64,
    /// Share of the prompts that was cached.
    pub hit: f64,
    /// Requests, from asking to the answer: median, 99 of 100, longest.
    pub request_secs: [f64; 3],
    /// Of these, in our own line.
    pub line_secs: [f64; 3],
    /// Most requests in that line.
    pub n_waiting_max: usize,
    /// Tries that gave nothing.
    pub n_failed_tries: u64,
    /// Tokens sampled for nothing.
    pub n_wasted: u64,
    /// From a death or an update until a replica took requests again: mean and longest; 0 where nothing happened.
    pub well_secs: [f64; 2],
    /// Share of the time in which a reader of answers worked.
    pub reading: f64,
    /// Names the trees: the same where every token, call and fork is.
    pub trees: String,
    /// Sampled tokens per second, in ticks.
    #[serde(skip)]
    pub rates: Vec<f64>,
}

/// Simulates a step.
///
/// # Errors
/// When no replica answers in time, as in a real run, and when the books do not balance, which is a fault of this program.
pub fn simulate(scenario: &Scenario) -> anyhow::Result<Outcome> {
    let Scenario { fleet, work, rule, k, n_trees, seed } = scenario;
    let seed = Seed(*seed);
    let world = Rc::new(RefCell::new(World::new(fleet.clone(), seed.child(1))));
    let mut policy = SimPolicy::new(Rc::clone(&world), *work, (CONTEXT_TOKENS / BLOCK) as usize);
    let mut tools = SimTools::new(Rc::clone(&world), *work);
    let protocol = Protocol {
        stop: Stop::at(&[CALL, ANSWER]),
        parse: &|ids| match ids.last() {
            Some(&CALL) => Action::Call { tool: ToolName::PYTHON, input: String::new() },
            _ => Action::Answer(String::new()),
        },
        // A byte stands for a block.
        render_result: &|text, n_most| Ok(vec![TEXT; text.len().min(n_most)]),
    };
    let prompt = vec![TEXT; ((work.n_system + work.n_question) / BLOCK) as usize];
    let tasks: Vec<DriveTask> =
        (0..*n_trees as u64).map(|i| DriveTask { prompt: prompt.clone(), seed: seed.child(2).child(i) }).collect();
    let settings = settings(*rule, *k, *n_trees)?;
    let n_most = n_trees * k * 9 / 10;
    let mut most_secs = None;
    let trees = drive(&mut policy, &mut tools, &protocol, &tasks, &settings, &mut |progress| {
        if progress.n_ended >= n_most && most_secs.is_none() {
            most_secs = Some(world.borrow().now as f64 * 1e-9);
        }
    })?;
    let n_sampled = trees.iter().flat_map(|tree| &tree.nodes).map(|node| node.kind.sampled().len()).sum::<usize>();
    let world = world.borrow();
    let n_sampled = n_sampled as u64 * u64::from(BLOCK);
    let sums = world.servers.iter().fold(Count::default(), |a, server| {
        let b = server.count;
        Count {
            n_prompt: a.n_prompt + b.n_prompt,
            n_cached: a.n_cached + b.n_cached,
            n_sampled: a.n_sampled + b.n_sampled,
            n_wasted: a.n_wasted + b.n_wasted,
            busy_secs: a.busy_secs + b.busy_secs,
            sequence_secs: a.sequence_secs + b.sequence_secs,
        }
    });
    let tally = &world.tally;
    anyhow::ensure!(
        n_sampled == tally.n_answered && n_sampled == sums.n_sampled,
        "the trees have {n_sampled} sampled tokens, answers had {}, and replicas finished {}",
        tally.n_answered,
        sums.n_sampled
    );
    let secs = world.now as f64 * 1e-9;
    let replica_secs = secs * fleet.n_replicas as f64;
    let well = &tally.well_secs;
    Ok(Outcome {
        n_trajectories: n_trees * k,
        n_open_max: policy.n_open_max,
        secs,
        most_secs: most_secs.unwrap_or(secs),
        n_sampled,
        tokens_per_replica_sec: n_sampled as f64 / replica_secs,
        busy: sums.busy_secs / replica_secs,
        batch: sums.sequence_secs / replica_secs,
        n_prompt: sums.n_prompt,
        n_read: sums.n_prompt - sums.n_cached,
        hit: sums.n_cached as f64 / sums.n_prompt.max(1) as f64,
        request_secs: ranks(&tally.request_ms),
        line_secs: ranks(&tally.line_ms),
        n_waiting_max: tally.n_waiting_max,
        n_failed_tries: tally.n_failed_tries,
        n_wasted: sums.n_wasted.round() as u64,
        well_secs: [
            well.iter().fold(0.0, |sum, secs| sum + secs) / well.len().max(1) as f64,
            well.iter().copied().fold(0.0, f64::max),
        ],
        reading: tally.read_secs / (secs * fleet.n_readers.max(1) as f64),
        trees: digest(&trees),
        rates: tally.by_time.iter().map(|&n| n as f64 / world::TICK_SECS).collect(),
    })
}

/// The rules of the quickstart, or none, over blocks.
fn settings(rule: Rule, k: usize, n_trees: usize) -> anyhow::Result<DriveSettings> {
    let of_recipe = recipe(QUICKSTART, &[])?.drive_settings();
    let (budget, branch) = match rule {
        Rule::Aepo => (of_recipe.budget, of_recipe.branch),
        Rule::Grpo => (BudgetRule::AllGlobal, BranchRule::None),
    };
    let limits = Limits {
        n_calls: 10,
        n_equal_calls: 0,
        n_python: 0,
        n_search: 0,
        response_tokens: (16_384 / BLOCK) as usize,
        turn_tokens: (4096 / BLOCK) as usize,
        result_tokens: (2048 / BLOCK) as usize,
    };
    let entropy_tokens = (ENTROPY_TOKENS / BLOCK) as usize;
    Ok(DriveSettings { k, budget, branch, entropy_tokens, limits, max_live_paths: n_trees * k, ..of_recipe })
}

/// Median, 99 of 100 and the longest of milliseconds, in seconds.
fn ranks(ms: &[u32]) -> [f64; 3] {
    let mut sorted = ms.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| sorted.get((share * (sorted.len().saturating_sub(1)) as f64) as usize);
    [0.5, 0.99, 1.0].map(|share| at(share).map_or(0.0, |&ms| f64::from(ms) / 1000.0))
}

/// A number over everything in the trees but versions and times.
fn digest(trees: &[RolloutTree]) -> String {
    let mut sum = Seed(0);
    for tree in trees {
        for node in &tree.nodes {
            let (kind, last) = match &node.kind {
                NodeKind::Context { .. } => (0, 0),
                NodeKind::Sampled { tokens, .. } => (1, tokens.last().map_or(0, |t| t.token + 1)),
            };
            let parent = node.parent.map_or(0, |parent| u64::from(parent.0) + 1);
            sum = sum.child(parent).child(node.kind.n_tokens() as u64).child(kind << 8 | u64::from(last));
        }
        for leaf in &tree.leaves {
            sum = leaf.key.0.iter().fold(sum.child(u64::from(leaf.node.0)), |sum, &part| sum.child(u64::from(part)));
        }
    }
    format!("{:016x}", sum.0)
}
