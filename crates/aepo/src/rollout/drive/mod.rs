//! In what order do policy and tools work on a batch of tasks? One closed event loop, no barrier between tasks.
//!
//! Every path goes on as soon as its own completion or tool result is there. What a tree looks like in the end does
//! not depend on the order in which they come: `fork` says how forks that entropies decide come about, `lockstep` those
//! that are drawn, `expand` how a finished tree grows on, and `growth` holds what is known of a tree meanwhile.

mod books;
mod expand;
mod fork;
mod growth;
mod lockstep;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::policy::{Completion, PathId, PolicyError, SampleParams, SampleRequest, SampleStop, Sampler};
use crate::prompt::{Action, PromptError};
use crate::rollout::branch::{BranchRule, entropy_verdict};
use crate::rollout::budget::BudgetRule;
use crate::rollout::tree::{CallRecord, RolloutTree, StopReason};
use crate::seed::Seed;
use crate::stop::Stop;
use crate::tool::{CallId, EarlierCall, ToolCall, ToolName, ToolOutcome, ToolResult, Toolset};
use growth::{ForkPoint, Growth, Measure, Path, State};

/// Where a path is cut. Every limit ends the path by its state: no token is ever added that the model did not sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tool calls per trajectory.
    pub n_calls: usize,
    /// Of these, calls of the same tool with the same input; 0 for any number.
    pub n_equal_calls: usize,
    /// Of these, programs; 0 for no bound of their own.
    pub n_python: usize,
    /// Of these, searches; 0 for no bound of their own.
    pub n_search: usize,
    /// Tokens per trajectory, the prompt excluded, tool results included.
    pub response_tokens: usize,
    /// Tokens per turn.
    pub turn_tokens: usize,
    /// Tokens of a tool result that the model gets to read.
    pub result_tokens: usize,
}

impl Limits {
    /// Whether a path that has made these calls may make another of `tool`.
    #[must_use]
    pub fn allow(&self, earlier: &[EarlierCall], tool: &ToolName) -> bool {
        let n_own = match tool {
            tool if *tool == ToolName::PYTHON => self.n_python,
            tool if *tool == ToolName::SEARCH => self.n_search,
            _ => 0,
        };
        earlier.len() < self.n_calls && (n_own == 0 || earlier.iter().filter(|call| call.tool == *tool).count() < n_own)
    }

    /// Whether another call of `tool` with `input` would be one more equal call than a path may make.
    #[must_use]
    pub fn repeats(&self, earlier: &[EarlierCall], tool: &ToolName, input: &str) -> bool {
        let n_equal = earlier.iter().filter(|call| call.tool == *tool && *call.input == *input).count();
        self.n_equal_calls > 0 && n_equal >= self.n_equal_calls
    }
}

/// What the loop is to do for each task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriveSettings {
    /// k: leaves per tree, ≥ 1.
    pub k: usize,
    /// How k is divided.
    pub budget: BudgetRule,
    /// When paths fork.
    pub branch: BranchRule,
    /// Tokens over which an entropy is averaged, ≥ 1.
    pub entropy_tokens: usize,
    /// Z: new children per fork, ≥ 1; where forks are drawn, tries per path and round.
    pub branch_width: usize,
    /// Where paths are cut.
    pub limits: Limits,
    /// How tokens are drawn.
    pub params: SampleParams,
    /// Trees are started while their leaves fit this number (one tree always is), so that memory stays bounded. What
    /// is sampled does not depend on it.
    pub max_live_paths: usize,
}

/// How ids become actions and tool texts ids.
pub struct Protocol<'a> {
    /// What ends a turn.
    pub stop: Arc<Stop>,
    /// Reads a turn's ids.
    pub parse: &'a dyn Fn(&[u32]) -> Action,
    /// Ids that bridge a turn and the next: the result's text, cut to so many tokens, in its frame.
    pub render_result: &'a RenderResult<'a>,
}

/// A result's text and the most ids of it that may be shown, to ids in their frame.
pub type RenderResult<'a> = dyn Fn(&str, usize) -> Result<Vec<u32>, PromptError> + 'a;

/// One task of a batch.
#[derive(Clone, Debug)]
pub struct DriveTask {
    /// The first prompt.
    pub prompt: Vec<u32>,
    /// Every draw of its tree follows from this.
    pub seed: Seed,
}

/// How far the loop has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tokens sampled so far.
    pub n_sampled: usize,
    /// Paths that have ended.
    pub n_ended: usize,
    /// Paths that will have ended when all is done.
    pub n_total: usize,
    /// Tool calls in flight.
    pub n_calling: usize,
}

/// What can stop a rollout. Nothing that a single path does can.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// The policy failed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A prompt or a result could not be rendered.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A first prompt leaves no room for an answer.
    #[error("the prompt of task {task_idx} has {n_tokens} tokens and the model's context only {context_len}")]
    PromptTooLong {
        /// Position in the batch.
        task_idx: usize,
        /// Its length.
        n_tokens: usize,
        /// The model's limit.
        context_len: usize,
    },
    /// The toolset broke its promise that every call comes back.
    #[error("{n_in_flight} tool calls are in flight but the toolset returns none of them")]
    ToolsSilent {
        /// Calls without an answer.
        n_in_flight: usize,
    },
    /// Tools failed on too many trajectories of a step.
    #[error(
        "{n_lost} of {n} trajectories ended because a tool was unavailable, a share above train.max_unavailable = \
         {max_share}, so nothing was learned in this step. {}",
        told(reasons)
    )]
    Unavailable {
        /// Trajectories that a failing tool ended.
        n_lost: usize,
        /// Of so many.
        n: usize,
        /// The share that is allowed.
        max_share: f64,
        /// What the tools said.
        reasons: Reasons,
    },
    /// Tools failed on every answer of an evaluation.
    #[error("nothing was measured: all {n} answers ended because a tool was unavailable. {}", told(reasons))]
    NothingMeasured {
        /// Answers.
        n: usize,
        /// What the tools said.
        reasons: Reasons,
    },
    /// An answer to a call that was not made.
    #[error("the toolset answered call {0:?}, which is not in flight")]
    StrayResult(CallId),
}

/// Why tools were unavailable, a few different reasons of each.
pub type Reasons = BTreeMap<ToolName, Vec<String>>;

/// Reasons as a sentence for each tool.
#[must_use]
pub fn told(reasons: &Reasons) -> String {
    let of = |(tool, reasons): (&ToolName, &Vec<String>)| format!("{tool}: {}.", reasons.join("; "));
    reasons.iter().map(of).collect::<Vec<String>>().join(" ")
}

/// Where the loop takes its tasks from, and leaves their trees.
pub trait Supply {
    /// The next task, if there is one now. It is asked for whenever there is room; once nothing grows and there is none,
    /// the loop ends.
    fn next(&mut self) -> Option<DriveTask>;
    /// The tree of the task that was taken as the `task_idx`-th, from 0.
    fn done(&mut self, task_idx: usize, tree: RolloutTree);
    /// Tasks in all, as far as is known.
    fn n_tasks(&self) -> usize;
}

/// A batch: every task is known from the start.
struct Batch<'a> {
    tasks: &'a [DriveTask],
    n_taken: usize,
    trees: Vec<Option<RolloutTree>>,
}

impl Supply for Batch<'_> {
    fn next(&mut self) -> Option<DriveTask> {
        let task = self.tasks.get(self.n_taken)?;
        self.n_taken += 1;
        Some(task.clone())
    }
    fn done(&mut self, task_idx: usize, tree: RolloutTree) {
        self.trees[task_idx] = Some(tree);
    }
    fn n_tasks(&self) -> usize {
        self.tasks.len()
    }
}

/// Grows one tree of k leaves for every task.
///
/// # Errors
/// When the policy fails, a prompt does not fit, or the toolset breaks its protocol. All paths are closed then too.
pub fn drive(
    policy: &mut dyn Sampler,
    tools: &mut dyn Toolset,
    protocol: &Protocol<'_>,
    tasks: &[DriveTask],
    settings: &DriveSettings,
    on: &mut dyn FnMut(Progress),
) -> Result<Vec<RolloutTree>, RolloutError> {
    let context_len = policy.context_len();
    if let Some((task_idx, task)) = tasks.iter().enumerate().find(|(_, t)| t.prompt.len() >= context_len) {
        return Err(RolloutError::PromptTooLong { task_idx, n_tokens: task.prompt.len(), context_len });
    }
    let mut batch = Batch { tasks, n_taken: 0, trees: vec![None; tasks.len()] };
    drive_on(policy, tools, protocol, &mut batch, settings, on)?;
    Ok(batch.trees.into_iter().flatten().collect())
}

/// Grows one tree of k leaves for every task, as tasks come.
///
/// # Errors
/// As for [`drive`]; every tree that is not done is lost then.
pub fn drive_on(
    policy: &mut dyn Sampler,
    tools: &mut dyn Toolset,
    protocol: &Protocol<'_>,
    supply: &mut dyn Supply,
    settings: &DriveSettings,
    on: &mut dyn FnMut(Progress),
) -> Result<(), RolloutError> {
    let context_len = policy.context_len();
    let (sampling, calling) = (HashMap::new(), HashMap::new());
    let n_first = settings.entropy_tokens;
    let measure = match settings.branch.is_drawn() {
        true => Measure::Reference { n_first, vocab_size: policy.vocab_size() },
        false => Measure::Mean { n_first },
    };
    let mut driver = Driver {
        policy,
        tools,
        protocol,
        settings,
        context_len,
        measure,
        supply,
        trees: Vec::new(),
        free: Vec::new(),
        n_taken: 0,
        sampling,
        calling,
        n_calls: 0,
        progress: Progress::default(),
    };
    let outcome = driver.admit().and_then(|()| driver.run(on));
    if let Err(error) = outcome {
        driver.close_all();
        return Err(error);
    }
    Ok(())
}

/// Characters of a tool's reason that are kept; a whole page of an error would be in every record.
const REASON_CHARS: usize = 300;

/// A path: which tree, which of its paths.
type At = (usize, usize);

struct Driver<'a> {
    policy: &'a mut dyn Sampler,
    tools: &'a mut dyn Toolset,
    protocol: &'a Protocol<'a>,
    settings: &'a DriveSettings,
    context_len: usize,
    /// How the branch rule measures entropies.
    measure: Measure,
    supply: &'a mut dyn Supply,
    /// Trees that grow, and between them empty ones where others have been.
    trees: Vec<Growth>,
    /// Places of empty ones.
    free: Vec<usize>,
    n_taken: usize,
    sampling: HashMap<PathId, At>,
    calling: HashMap<CallId, At>,
    n_calls: u64,
    progress: Progress,
}

impl Driver<'_> {
    /// Starts trees while there is room for them.
    fn admit(&mut self) -> Result<(), RolloutError> {
        let max_trees = (self.settings.max_live_paths / self.settings.k.max(1)).max(1);
        while self.trees.len() - self.free.len() < max_trees {
            let Some(DriveTask { prompt, seed }) = self.supply.next() else { break };
            let (task_idx, n_tokens, context_len) = (self.n_taken, prompt.len(), self.context_len);
            self.n_taken += 1;
            if n_tokens >= context_len {
                return Err(RolloutError::PromptTooLong { task_idx, n_tokens, context_len });
            }
            let base = self.policy.open(&prompt)?;
            let growth = Growth::new(task_idx, prompt, seed, base);
            let tree = self.free.pop().unwrap_or(self.trees.len());
            match self.trees.get_mut(tree) {
                Some(place) => *place = growth,
                None => self.trees.push(growth),
            }
            self.start_roots(tree, self.settings.budget.n_first(self.settings.k))?;
        }
        self.progress.n_total = self.supply.n_tasks() * self.settings.k;
        Ok(())
    }

    /// Policy completions and tool results, whichever come first, until nothing is in flight.
    fn run(&mut self, on: &mut dyn FnMut(Progress)) -> Result<(), RolloutError> {
        while !(self.sampling.is_empty() && self.calling.is_empty()) {
            // Waiting for tools is right only when the policy has nothing to do.
            let block = self.sampling.is_empty();
            let results = self.tools.poll(block);
            if block && results.is_empty() {
                return Err(RolloutError::ToolsSilent { n_in_flight: self.calling.len() });
            }
            let before = self.progress;
            for result in results {
                self.on_result(result)?;
            }
            if !self.sampling.is_empty() {
                for completion in self.policy.poll()? {
                    self.on_completion(completion)?;
                }
            }
            self.admit()?;
            self.progress.n_calling = self.calling.len();
            if self.progress != before {
                on(self.progress);
            }
        }
        Ok(())
    }

    /// How many leaves the tree still lacks.
    fn n_free(&self, tree: usize) -> usize {
        self.settings.k.saturating_sub(self.trees[tree].paths.len())
    }

    /// Starts further paths at the root.
    fn start_roots(&mut self, tree: usize, n: usize) -> Result<(), RolloutError> {
        for _ in 0..n {
            let growth = &self.trees[tree];
            let policy_path = self.policy.fork(growth.base, growth.prompt.len())?;
            let path = self.trees[tree].root_path(policy_path);
            self.start_path(tree, path)?;
        }
        Ok(())
    }

    /// Starts a further child of a path at a tool result's end; `clock` is its logical time.
    fn start_child(&mut self, tree: usize, parent: usize, at: ForkPoint, clock: usize) -> Result<(), RolloutError> {
        let policy_path = self.policy.fork(self.trees[tree].paths[parent].policy_path, at.n_tokens)?;
        let child = self.trees[tree].child_path(parent, at, clock, policy_path);
        self.start_path(tree, child)
    }

    fn start_path(&mut self, tree: usize, path: Path) -> Result<(), RolloutError> {
        let idx = self.trees[tree].start(path);
        self.sample_on(tree, idx)
    }

    /// Asks for more of the current turn, or ends the path when a limit leaves no room.
    fn sample_on(&mut self, tree: usize, idx: usize) -> Result<(), RolloutError> {
        let limits = self.settings.limits;
        let path = &self.trees[tree].paths[idx];
        let room = self.context_len.saturating_sub(path.n_tokens);
        let (turn_room, response_room) = (
            limits.turn_tokens.saturating_sub(path.turn.len()),
            limits.response_tokens.saturating_sub(path.n_response),
        );
        let stop = if room == 0 {
            Some(StopReason::ContextFull)
        } else if response_room == 0 {
            Some(StopReason::MaxResponseTokens)
        } else if turn_room == 0 {
            Some(StopReason::MaxTurnTokens)
        } else {
            None
        };
        if let Some(stop) = stop {
            return self.end_path(tree, idx, stop);
        }
        let mut max_tokens = room.min(turn_room).min(response_room);
        if path.fork_point.is_some() {
            // The fork is decided on the first tokens after the result, so they are asked for alone.
            max_tokens = max_tokens.min(self.settings.entropy_tokens - path.turn.len());
        }
        let request = SampleRequest {
            path: path.policy_path,
            max_tokens,
            stop: Arc::clone(&self.protocol.stop),
            n_turn: path.turn.len(),
            params: self.settings.params,
            seed: path.turn_seed(),
        };
        self.sampling.insert(path.policy_path, (tree, idx));
        Ok(self.policy.submit(request)?)
    }

    fn on_completion(&mut self, completion: Completion) -> Result<(), RolloutError> {
        let Some((tree, idx)) = self.sampling.remove(&completion.path) else {
            return Err(PolicyError::Misuse(format!("{:?} completed without a request", completion.path)).into());
        };
        self.progress.n_sampled += completion.tokens.len();
        let stop = completion.stop;
        self.trees[tree].add_sampled(idx, completion);
        self.note_decision(tree, idx, stop);
        match stop {
            SampleStop::StopToken => self.act(tree, idx)?,
            SampleStop::ContextFull => self.end_path(tree, idx, StopReason::ContextFull)?,
            SampleStop::MaxTokens => self.sample_on(tree, idx)?,
        }
        self.settle(tree)
    }

    /// The turn has ended by itself: call a tool, or end the path.
    fn act(&mut self, tree: usize, idx: usize) -> Result<(), RolloutError> {
        let path = &mut self.trees[tree].paths[idx];
        let ids: Vec<u32> = path.turn.iter().map(|t| t.token).collect();
        path.end_turn(self.measure);
        match (self.protocol.parse)(&ids) {
            Action::Answer(answer) => self.end_path(tree, idx, StopReason::Answered(answer)),
            Action::Malformed(how) => self.end_path(tree, idx, StopReason::Malformed(how)),
            Action::Call { tool, .. } if !self.settings.limits.allow(&path.earlier, &tool) => {
                self.end_path(tree, idx, StopReason::CallLimit)
            }
            Action::Call { tool, input } if self.settings.limits.repeats(&path.earlier, &tool, &input) => {
                self.end_path(tree, idx, StopReason::RepeatedCall)
            }
            Action::Call { tool, input } => {
                let id = CallId(self.n_calls);
                self.n_calls += 1;
                let (seed, earlier) = (path.call_seed(), Arc::clone(&path.earlier));
                let shared = self.is_shared(tree, idx);
                let call = ToolCall { id, tool: tool.clone(), input: input.clone(), seed, earlier, shared };
                let path = &mut self.trees[tree].paths[idx];
                path.state = State::Calling { tool, input };
                self.calling.insert(id, (tree, idx));
                self.tools.submit(call);
                Ok(())
            }
        }
    }

    /// See [`ToolCall::shared`].
    fn is_shared(&self, tree: usize, idx: usize) -> bool {
        let expands = matches!(self.settings.branch, BranchRule::ExpandEvenly { .. } | BranchRule::ExpandBest { .. });
        self.trees[tree].is_shared(idx, self.n_free(tree), expands)
    }

    fn on_result(&mut self, result: ToolResult) -> Result<(), RolloutError> {
        let Some((tree, idx)) = self.calling.remove(&result.id) else {
            return Err(RolloutError::StrayResult(result.id));
        };
        let limits = self.settings.limits;
        let path = &mut self.trees[tree].paths[idx];
        let State::Calling { tool, input } = std::mem::replace(&mut path.state, State::Sampling) else {
            return Err(RolloutError::StrayResult(result.id));
        };
        let failed = result.outcome == ToolOutcome::Unavailable;
        let reason = failed.then(|| result.text.chars().take(REASON_CHARS).collect());
        let record = CallRecord { tool, input, outcome: result.outcome, reason, wall_secs: result.wall_secs };
        let tokens = (self.protocol.render_result)(&result.text, limits.result_tokens)?;
        // A result is read whole or not at all, and only if a token can follow it.
        let stop = if failed {
            Some(StopReason::ToolUnavailable)
        } else if path.n_tokens + tokens.len() >= self.context_len {
            Some(StopReason::ContextFull)
        } else if path.n_response + tokens.len() >= limits.response_tokens {
            Some(StopReason::MaxResponseTokens)
        } else {
            None
        };
        if let Some(stop) = stop {
            self.trees[tree].add_result(idx, Vec::new(), record);
            self.end_path(tree, idx, stop)?;
        } else {
            self.policy.append(path.policy_path, &tokens)?;
            self.trees[tree].add_result(idx, tokens, record);
            match self.settings.branch {
                BranchRule::Entropy { .. } => {
                    let path = &mut self.trees[tree].paths[idx];
                    path.fork_point = Some(path.here());
                }
                BranchRule::DrawnAepo | BranchRule::DrawnArpo => self.note_round(tree, idx),
                BranchRule::None | BranchRule::ExpandEvenly { .. } | BranchRule::ExpandBest { .. } => {}
            }
            self.sample_on(tree, idx)?;
        }
        self.settle(tree)
    }

    fn end_path(&mut self, tree: usize, idx: usize, stop: StopReason) -> Result<(), RolloutError> {
        let path = &mut self.trees[tree].paths[idx];
        path.end_turn(self.measure);
        self.trees[tree].end(idx, stop);
        self.progress.n_ended += 1;
        self.trees[tree].paths[idx].kept = self.is_expandable(tree, idx);
        self.close_if_unneeded(tree, idx);
        Ok(())
    }

    /// An ended path stays open in the policy while children may still be forked off it.
    fn close_if_unneeded(&mut self, tree: usize, idx: usize) {
        let path = &self.trees[tree].paths[idx];
        if !path.is_live() && path.undecided.is_empty() && !path.kept {
            self.policy.close(path.policy_path);
        }
    }

    /// Does what the tree's state calls for, until it has to wait for its paths or is done.
    fn settle(&mut self, tree: usize) -> Result<(), RolloutError> {
        while !self.trees[tree].done && self.advance(tree)? {}
        Ok(())
    }

    /// Divides the budget, forks, expands or fills up, whichever is next; false when nothing can be done yet.
    fn advance(&mut self, tree: usize) -> Result<bool, RolloutError> {
        let growth = &mut self.trees[tree];
        let is_live = growth.books.n_live() > 0;
        if growth.budget.is_none() {
            let pre_monitors =
                matches!(self.settings.budget, BudgetRule::Entropy { .. } | BudgetRule::EntropyReference);
            if pre_monitors && is_live {
                return Ok(false);
            }
            let (root, tool) = if pre_monitors { growth.first_entropies(self.measure) } else { (0.0, 0.0) };
            let budget = self.settings.budget.split(self.settings.k, root, tool);
            growth.budget = Some(budget);
            let n_started = growth.paths.len();
            self.start_roots(tree, budget.n_global.saturating_sub(n_started))?;
            return Ok(true);
        }
        let forked = match self.settings.branch {
            BranchRule::None | BranchRule::ExpandEvenly { .. } | BranchRule::ExpandBest { .. } => false,
            BranchRule::Entropy { alpha, gamma, tau, penalty_slope } => {
                self.fork_next(tree, &|delta, l| entropy_verdict(alpha, gamma, tau, penalty_slope, delta, l))?
            }
            BranchRule::DrawnAepo | BranchRule::DrawnArpo => self.draw_round(tree)?,
        };
        let n_free = self.n_free(tree);
        if forked {
            Ok(true)
        } else if is_live {
            Ok(false)
        } else if n_free > 0 {
            if !self.expand(tree)? {
                self.start_roots(tree, n_free)?;
            }
            Ok(true)
        } else {
            let growth = std::mem::replace(&mut self.trees[tree], Growth::empty());
            self.free.push(tree);
            self.policy.close(growth.base);
            self.supply.done(growth.task_idx, growth.finish(self.settings.entropy_tokens));
            Ok(true)
        }
    }

    /// After an error: nothing may stay open behind it.
    fn close_all(&mut self) {
        for growth in &self.trees {
            for path in growth.paths.iter().filter(|p| p.is_live() || !p.undecided.is_empty() || p.kept) {
                self.policy.close(path.policy_path);
            }
            if !growth.done {
                self.policy.close(growth.base);
            }
        }
    }
}
