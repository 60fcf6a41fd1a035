//! What happens in a training step? This file names the stages in order.

mod orders;

use std::collections::BTreeMap;

use crate::config::Config;
use crate::data::sampler::task_indices;
use crate::data::task::Task;
use crate::policy::{Learner, Policy, PolicyVersion, Sampler};
use crate::prompt::Renderer;
pub use crate::record::Stage;
use crate::record::{StepFacts, StepRecord, TreeRecord, reasons, step_record, tool_secs, tree_record, update_record};
use crate::rollout::drive::{DriveSettings, DriveTask, Progress, Protocol, RolloutError, drive};
use crate::rollout::trajectory::Trajectory;
use crate::rollout::tree::RolloutTree;
use crate::score::{overlong_punishment, score};
use crate::seed::Seed;
use crate::tool::{ToolName, Toolset};
use crate::train::group::{ScoredTree, train_groups};
use crate::train::pack::TrainGroup;
use crate::train::update::{UpdateError, UpdateStage, update};

pub use orders::{Order, Orders};

/// What a run tells while it works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A stage begins; the one before it has ended.
    Stage(Stage),
    /// The rollout got further.
    Progress(Progress),
}

/// What can stop a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// While sampling.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// While updating.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

/// A training run. A step is a function of this, its number, the weights and the tools' answers: to resume, load
/// weights and optimiser and go on with the next number.
#[derive(Clone)]
pub struct Run {
    /// Every setting.
    pub config: Config,
    /// The training questions.
    pub tasks: Vec<Task>,
    /// Prompts, and actions read back.
    pub renderer: Renderer,
}

/// What a step leaves behind.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// The row of metrics.
    pub record: StepRecord,
    /// Every tree.
    pub trees: Vec<TreeRecord>,
    /// Seconds inside each tool; the part that does not repeat.
    pub tool_secs: BTreeMap<ToolName, f64>,
}

/// The scored trees of a step that nothing was learned from yet.
#[derive(Clone, Debug)]
pub struct Grown<'t> {
    /// Which step.
    pub step: u64,
    /// The weights that sampled.
    pub version: PolicyVersion,
    /// A task for each tree.
    tasks: Vec<&'t Task>,
    /// Those to learn from first.
    trees: Vec<ScoredTree>,
    /// How many those are.
    n_learnt: usize,
}

/// Labels of the run seed's streams.
const ORDER: u64 = 1;
const STEP: u64 = 2;
const UPDATE: u64 = 3;
const REFILL: u64 = 4;

impl Run {
    /// One training step. `reference` is the initial policy; it is needed only where `loss.kl_coef` is not 0.
    ///
    /// # Errors
    /// When the policy fails, the toolset breaks its protocol, or tools are unavailable to too many trajectories. The
    /// weights then are those of the last optimiser step that was made.
    pub fn step(
        &self,
        step: u64,
        policy: &mut dyn Policy,
        reference: Option<&mut dyn Learner>,
        tools: &mut dyn Toolset,
        on: &mut dyn FnMut(Event),
    ) -> Result<StepOutput, RunError> {
        let grown = self.sample(step, policy, tools, on)?;
        let trained = policy.version();
        self.learn(grown, trained, policy, reference, on)
    }

    /// The first half of a step: grows and scores its trees.
    ///
    /// # Errors
    /// When the sampler fails, the toolset breaks its protocol, or tools are unavailable to too many trajectories.
    pub fn sample(
        &self,
        step: u64,
        sampler: &mut dyn Sampler,
        tools: &mut dyn Toolset,
        on: &mut dyn FnMut(Event),
    ) -> Result<Grown<'_>, RunError> {
        let version = sampler.version();
        let (tasks, trees, n_learnt) = self.grow(step, self.seed_of(step), sampler, tools, on)?;
        Ok(Grown { step, version, tasks, trees, n_learnt })
    }

    /// The second half of a step: learns from its trees. `trained` is which weights the learner has; where they are
    /// later ones than those that sampled, the record says by how much, and `loss.is_cap` corrects for it.
    ///
    /// # Errors
    /// When the learner fails.
    pub fn learn(
        &self,
        grown: Grown<'_>,
        trained: PolicyVersion,
        learner: &mut dyn Learner,
        reference: Option<&mut dyn Learner>,
        on: &mut dyn FnMut(Event),
    ) -> Result<StepOutput, RunError> {
        let Grown { step, version, tasks, trees, n_learnt } = grown;
        let rules = self.config.rules();
        let (groups, entropy) = train_groups(&trees[..n_learnt], &rules.advantage);

        let settings = self.config.update_settings(step, self.seed_of(step).child(UPDATE), entropy.high);
        let report = update(learner, reference, &groups, &settings, &mut |stage| on(Event::Stage(stage.into())))?;

        on(Event::Stage(Stage::Score));
        let entropy_tokens = self.config.rollout.entropy_tokens;
        let update = update_record(&report, self.config.learning_rate(step), &rules);
        let staleness = trained.0.saturating_sub(version.0);
        let (groups, entropy) = (&groups[..], &entropy);
        let facts = StepFacts { step, version, staleness, trees: &trees, groups, entropy, entropy_tokens, update };
        Ok(StepOutput {
            record: step_record(facts),
            trees: self.tree_records(step, &tasks, &trees, groups),
            tool_secs: tool_secs(&trees),
        })
    }

    fn seed_of(&self, step: u64) -> Seed {
        Seed(self.config.train.seed).child(STEP).child(step)
    }

    /// Samples and scores trees without learning from them.
    ///
    /// # Errors
    /// As for [`Run::step`].
    pub fn explore(
        &self,
        tasks: &[&Task],
        policy: &mut dyn Sampler,
        tools: &mut dyn Toolset,
        seed: Seed,
        on: &mut dyn FnMut(Event),
    ) -> Result<Vec<TreeRecord>, RunError> {
        on(Event::Stage(Stage::Rollout));
        let trees = rollout(policy, tools, &self.renderer, tasks, &self.config.drive_settings(), seed, on)?;
        on(Event::Stage(Stage::Score));
        let trees = score_trees(tasks, trees);
        let (groups, _) = train_groups(&trees, &self.config.rules().advantage);
        Ok(self.tree_records(0, tasks, &trees, &groups))
    }

    /// The scored trees of a step, those to learn from first, and how many those are: all, or with dynamic sampling as
    /// many as have a signal, but no more than a step has tasks. Further tasks are drawn while there are too few.
    fn grow<'t>(
        &'t self,
        step: u64,
        seed: Seed,
        policy: &mut dyn Sampler,
        tools: &mut dyn Toolset,
        on: &mut dyn FnMut(Event),
    ) -> Result<(Vec<&'t Task>, Vec<ScoredTree>, usize), RunError> {
        let (rules, train) = (self.config.rules(), &self.config.train);
        let settings = self.config.drive_settings();
        let n_rounds = 1 + if rules.dynamic_sampling { train.max_refills as u64 } else { 0 };
        let (mut learnt, mut rest) = (Vec::new(), Vec::new());
        for round in 0..n_rounds {
            on(Event::Stage(Stage::Rollout));
            let (tasks, seed) = match round {
                0 => (self.tasks_of(step), seed),
                _ => (self.refill(step * (n_rounds - 1) + round - 1), seed.child(REFILL).child(round)),
            };
            let trees = rollout(policy, tools, &self.renderer, &tasks, &settings, seed, on)?;

            on(Event::Stage(Stage::Score));
            let trees = shape(score_trees(&tasks, trees), rules.overlong_share, settings.limits.response_tokens);
            for (task, tree) in tasks.into_iter().zip(trees) {
                let teaches = !rules.dynamic_sampling || tree.has_signal();
                let to = if teaches && learnt.len() < train.tasks_per_step { &mut learnt } else { &mut rest };
                to.push((task, tree));
            }
            if learnt.len() == train.tasks_per_step {
                break;
            }
        }
        let n_learnt = learnt.len();
        let (tasks, trees): (Vec<&Task>, Vec<ScoredTree>) = learnt.into_iter().chain(rest).unzip();
        let leaves = || trees.iter().flat_map(|tree| &tree.tree.leaves);
        let (n_lost, n) = (leaves().filter(|leaf| !leaf.counts()).count(), leaves().count());
        let max_share = train.max_unavailable;
        if n_lost as f64 > max_share * n as f64 {
            return Err(RolloutError::Unavailable { n_lost, n, max_share, reasons: reasons(&trees) }.into());
        }
        Ok((tasks, trees, n_learnt))
    }

    /// The tasks of the `round`-th refill of the run, drawn apart from those of the steps.
    fn refill(&self, round: u64) -> Vec<&Task> {
        let order = Seed(self.config.train.seed).child(ORDER).child(REFILL);
        let indices = task_indices(order, round, self.config.train.tasks_per_step, self.tasks.len());
        indices.into_iter().map(|i| &self.tasks[i]).collect()
    }

    /// The tasks of a step.
    #[must_use]
    pub fn tasks_of(&self, step: u64) -> Vec<&Task> {
        let order = Seed(self.config.train.seed).child(ORDER);
        let indices = task_indices(order, step, self.config.train.tasks_per_step, self.tasks.len());
        indices.into_iter().map(|i| &self.tasks[i]).collect()
    }

    /// Of the trees behind the `learnt` groups nothing is learnt: their advantages are written down as 0.
    fn tree_records(
        &self,
        step: u64,
        tasks: &[&Task],
        trees: &[ScoredTree],
        learnt: &[TrainGroup<'_>],
    ) -> Vec<TreeRecord> {
        let (mut rest, _) = train_groups(&trees[learnt.len()..], &self.config.rules().advantage);
        rest.iter_mut().flat_map(|g| &mut g.samples).for_each(|s| s.advantages.fill(0.0));
        let line = |((task, scored), group)| {
            tree_record(step, task, scored, group, &self.renderer, self.config.rollout.entropy_tokens)
        };
        tasks.iter().copied().zip(trees).zip(learnt.iter().chain(&rest)).map(line).collect()
    }
}

/// The rewards that training sees: with the punishment of overlong trajectories, where there is one.
fn shape(mut trees: Vec<ScoredTree>, share: f64, max_tokens: usize) -> Vec<ScoredTree> {
    for ScoredTree { tree, scores } in &mut trees {
        let n_prompt = tree.nodes[0].kind.n_tokens();
        for (score, trajectory) in scores.iter_mut().zip(Trajectory::all(tree)) {
            score.reward += overlong_punishment(trajectory.n_tokens() - n_prompt, max_tokens, share);
        }
    }
    trees
}

/// Grows a tree for each task. Training and evaluation both come through here.
pub(crate) fn rollout(
    policy: &mut dyn Sampler,
    tools: &mut dyn Toolset,
    renderer: &Renderer,
    tasks: &[&Task],
    settings: &DriveSettings,
    seed: Seed,
    on: &mut dyn FnMut(Event),
) -> Result<Vec<RolloutTree>, RolloutError> {
    let seeds: Vec<Seed> = (0..tasks.len()).map(|i| seed.child(i as u64)).collect();
    rollout_from(policy, tools, renderer, tasks, settings, &seeds, on)
}

/// The same with a seed for each task.
pub(crate) fn rollout_from(
    policy: &mut dyn Sampler,
    tools: &mut dyn Toolset,
    renderer: &Renderer,
    tasks: &[&Task],
    settings: &DriveSettings,
    seeds: &[Seed],
    on: &mut dyn FnMut(Event),
) -> Result<Vec<RolloutTree>, RolloutError> {
    let prompts: Vec<DriveTask> = tasks
        .iter()
        .zip(seeds)
        .map(|(task, &seed)| Ok(DriveTask { prompt: renderer.first_prompt(task)?, seed }))
        .collect::<Result<_, RolloutError>>()?;
    let mut drive = |protocol: &Protocol<'_>| {
        drive(policy, tools, protocol, &prompts, settings, &mut |progress| on(Event::Progress(progress)))
    };
    in_protocol(renderer, &mut drive)
}

/// What a rollout returns.
type Driven<T> = Result<T, RolloutError>;

/// Does `work` in the renderer's protocol.
fn in_protocol<T>(renderer: &Renderer, work: &mut dyn FnMut(&Protocol<'_>) -> Driven<T>) -> Driven<T> {
    work(&Protocol {
        stop: renderer.stop(),
        parse: &|ids| renderer.parse(ids),
        render_result: &|text, max_tokens| renderer.tool_result(text, max_tokens),
    })
}

/// The verdict on every trajectory.
pub(crate) fn score_trees(tasks: &[&Task], trees: Vec<RolloutTree>) -> Vec<ScoredTree> {
    let scored = |(task, tree): (&&Task, RolloutTree)| {
        let scores = Trajectory::all(&tree).iter().map(|t| score(task, &t.transcript())).collect();
        ScoredTree { tree, scores }
    };
    tasks.iter().zip(trees).map(scored).collect()
}

impl From<UpdateStage> for Stage {
    fn from(stage: UpdateStage) -> Stage {
        match stage {
            UpdateStage::OldLogprobs => Stage::OldLogprobs,
            UpdateStage::RefLogprobs => Stage::RefLogprobs,
            UpdateStage::Optimise => Stage::Optimise,
        }
    }
}

#[cfg(test)]
mod tests;
