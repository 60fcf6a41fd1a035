//! How are trees grown for others, one by one as they ask?

use std::collections::HashMap;

use super::{Run, RunError, in_protocol, score_trees, shape};
use crate::data::task::Task;
use crate::policy::Sampler;
use crate::record::TreeRecord;
use crate::rollout::drive::{DriveTask, Supply, drive_on};
use crate::rollout::tree::RolloutTree;
use crate::seed::Seed;
use crate::tool::Toolset;
use crate::train::group::train_groups;

/// A tree that somebody asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The question.
    pub task: Task,
    /// Its first prompt, shorter than the model's context.
    pub prompt: Vec<u32>,
    /// Every draw of the tree follows from it.
    pub seed: Seed,
}

/// Who asks for trees, and takes them.
pub trait Orders {
    /// The next order, if there is one now.
    fn next(&mut self) -> Option<Order>;
    /// A tree is done; its advantages are those of its own trajectories alone, as if it were the whole batch.
    fn done(&mut self, tree: TreeRecord);
}

impl Run {
    /// Grows a tree for each order, many at the same time, until none is growing and there is no order.
    ///
    /// # Errors
    /// When the sampler fails, the toolset breaks its protocol, or a prompt is too long; every tree that is not done is
    /// lost then.
    pub fn fulfil(
        &self,
        orders: &mut dyn Orders,
        sampler: &mut dyn Sampler,
        tools: &mut dyn Toolset,
    ) -> Result<(), RunError> {
        let mut book = Book { run: self, orders, tasks: HashMap::new(), n_taken: 0 };
        let settings = self.config.drive_settings();
        Ok(in_protocol(&self.renderer, &mut |protocol| {
            drive_on(sampler, tools, protocol, &mut book, &settings, &mut |_| {})
        })?)
    }
}

/// The orders under way.
struct Book<'a> {
    run: &'a Run,
    orders: &'a mut dyn Orders,
    tasks: HashMap<usize, Task>,
    n_taken: usize,
}

impl Supply for Book<'_> {
    fn next(&mut self) -> Option<DriveTask> {
        let Order { task, prompt, seed } = self.orders.next()?;
        self.tasks.insert(self.n_taken, task);
        self.n_taken += 1;
        Some(DriveTask { prompt, seed })
    }

    fn done(&mut self, task_idx: usize, tree: RolloutTree) {
        let Some(task) = self.tasks.remove(&task_idx) else { return };
        let run = self.run;
        let max_tokens = run.config.drive_settings().limits.response_tokens;
        let trees = shape(score_trees(&[&task], vec![tree]), run.config.rules().overlong_share, max_tokens);
        let (groups, _) = train_groups(&trees, &run.config.rules().advantage);
        run.tree_records(0, &[&task], &trees, &groups).into_iter().for_each(|tree| self.orders.done(tree));
    }

    fn n_tasks(&self) -> usize {
        self.n_taken
    }
}
