//! How does the engine inside answer benchmarks? Some questions at a time, all of a question's answers together.

use aepo::data::task::Task;
use aepo::eval::answer::{AnswerName, of_trajectory};
use aepo::eval::sample;
use aepo::policy::Sampler as _;
use aepo::rollout::drive::DriveSettings;
use aepo::rollout::trajectory::Trajectory;
use aepo::run::Event;
use aepo::seed::Seed;
use aepo::tool::Toolset;

use super::store::Store;
use crate::interrupt::{self, interruptible};
use crate::machine::Clock;
use crate::progress::Teller;
use crate::world::Model;

/// A question that lacks answers.
pub struct Asked<'a> {
    /// The set it belongs to.
    pub set: &'a str,
    /// What is asked.
    pub task: &'a Task,
    /// Its seed.
    pub seed: Seed,
}

/// Trees whose answers are sampled together. What is sampled does not depend on it.
const MIN_AT_ONCE: usize = 4;

/// Answers every question, or as many as there is time for until somebody asks to stop; those whose answers were under way
/// are then asked again as a whole, and give the same ones.
pub fn ask_all(
    model: &mut Model,
    asked: &[Asked<'_>],
    settings: &DriveSettings,
    store: &Store,
    tools: &mut dyn Toolset,
    mut n_done: u64,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    let n_at_once = (settings.max_live_paths / settings.k.max(1)).max(MIN_AT_ONCE);
    for questions in asked.chunks(n_at_once) {
        if interrupt::asked() {
            return Ok(());
        }
        let clock = Clock::start();
        let pairs: Vec<(&Task, Seed)> = questions.iter().map(|q| (q.task, q.seed)).collect();
        let before = n_done;
        let mut on = |event: Event| {
            if let Event::Progress(mut progress) = event {
                progress.n_ended += before as usize;
                teller.sampling(progress);
            }
        };
        let policy = &mut interruptible(&mut model.engine);
        let trees = match sample(policy, tools, &model.renderer, &pairs, settings, &mut on) {
            Err(_) if interrupt::asked() => return Ok(()),
            trees => trees?,
        };
        let secs = clock.secs() / (questions.len() * settings.k).max(1) as f64;
        for (q, tree) in questions.iter().zip(&trees) {
            for (sample, t) in Trajectory::all(tree).iter().enumerate() {
                let name = AnswerName { benchmark: q.set, id: &q.task.id, sample, seed: q.seed.0 };
                let record = of_trajectory(t, &model.renderer, &name, secs);
                if !store.has(&(q.set.to_owned(), q.task.id.clone(), sample)) {
                    n_done += u64::from(record.counts());
                    store.add(&record)?;
                }
            }
        }
        teller.at(n_done);
        let all_lost = trees.iter().flat_map(|tree| &tree.leaves).all(|leaf| !leaf.counts());
        if all_lost && !trees.is_empty() {
            // Tools that are away would only spoil the questions that are left.
            let calls = trees.iter().flat_map(Trajectory::all).flat_map(|t| t.calls().cloned().collect::<Vec<_>>());
            let why = calls.filter_map(|call| call.reason.map(|why| format!("{}: {why}", call.tool))).next_back();
            let n = questions.len() * settings.k;
            anyhow::bail!("{n} answers in a row ended because a tool was unavailable. {}", why.unwrap_or_default());
        }
    }
    Ok(())
}

/// Whether a question leaves room for an answer.
pub fn fits(model: &Model, task: &Task) -> anyhow::Result<bool> {
    Ok(model.renderer.first_prompt(task)?.len() < model.engine.context_len())
}
