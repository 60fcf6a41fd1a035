//! How are the next steps' trees grown while the model still learns from earlier ones?
//!
//! Two programs that share the weights can work at the same time. One thread samples: the trees of step *i* by the
//! weights that the steps before *i* − lag have made, never by others, so that a run repeats. The caller's thread learns, one
//! step after the other. Weights change hands between two steps' trees, so each tree is of one version.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvError, Sender, channel};

use aepo::policy::polled::Polled;
use aepo::policy::{PolicyError, PolicyVersion};
use aepo::run::{Event, Grown, Run, RunError, Stage};
use aepo::tool::Toolset;

use crate::publish::{Follower, Published, Publisher};
use crate::room::Room;

/// Steps of a run of which several are under way at once.
pub struct Plan<'r> {
    /// The run.
    pub run: &'r Run,
    /// Which steps. All of them have been learned from at the end, and the sampler has the last weights.
    pub steps: Range<u64>,
    /// Steps between the weights that sample and those that learn, > 0; fewer at the beginning, where there are none.
    pub lag: u64,
    /// Whether to stop: asked at each poll.
    pub halt: fn() -> bool,
}

/// Where the weights are and go: what a [`crate::pair::Pair`] is made of.
pub struct Parts<'p, S: ?Sized> {
    /// What samples.
    pub sampler: &'p mut S,
    /// What learns.
    pub learner: &'p mut dyn Publisher,
    /// Where weights are handed over.
    pub room: &'p mut Room,
}

/// What the thread that samples tells.
enum Told<'r> {
    Event(Event),
    Follows(PolicyVersion),
    Grown(Grown<'r>),
    Failed(RunError),
}

/// What the thread that learns does with a step.
pub trait Steps<'r> {
    /// What can stop it.
    type Error: From<RunError> + From<PolicyError>;
    /// Hears how the trees get on that are waited for.
    fn on(&mut self, event: Event);
    /// Learns from the trees of a step.
    ///
    /// # Errors
    /// When it cannot; nothing is sampled or learned from then on.
    fn learn(&mut self, grown: Grown<'r>, learner: &mut dyn Publisher) -> Result<(), Self::Error>;
}

/// Runs the steps of a plan.
///
/// # Errors
/// The first error of either side. What has been learned stays learned, and the sampler may have older weights then.
pub fn ahead<'r, S: Follower + Send + ?Sized, E: From<RunError> + From<PolicyError>>(
    plan: Plan<'r>,
    parts: Parts<'_, S>,
    tools: &mut (dyn Toolset + Send),
    work: &mut dyn Steps<'r, Error = E>,
) -> Result<(), E> {
    let Plan { run, steps, lag, halt } = plan;
    let Parts { sampler, learner, room } = parts;
    let over = &AtomicBool::new(false);
    let (told, tell) = channel();
    let (publish, published) = channel();
    std::thread::scope(|scope| {
        let sampling = {
            let steps = steps.clone();
            let told = told.clone();
            move || {
                let halted = || halt() || over.load(Ordering::Relaxed);
                let outcome = sample(run, steps, lag, sampler, tools, &halted, &published, &told);
                // Whoever does not listen any more has an error of its own.
                let _ = outcome.map_err(|error| told.send(Told::Failed(error)));
            }
        };
        let thread = std::thread::Builder::new().name("aepo-ahead".to_owned()).spawn_scoped(scope, sampling);
        drop(told);
        let gone = |why: &str| PolicyError::Remote(format!("the thread that samples ahead {why}"));
        thread.map_err(|e| gone(&format!("cannot be started: {e}")))?;
        let all = || -> Result<(), E> {
            for _ in steps {
                work.on(Event::Stage(Stage::Rollout));
                let grown = wait(&tell, room, &mut |event| work.on(event))?;
                work.learn(grown, learner)?;
                let new = room.publish(learner)?;
                // A thread that has ended has said why, which is heard next.
                let _ = publish.send(new);
            }
            Ok(())
        };
        let outcome = all();
        over.store(outcome.is_err(), Ordering::Relaxed);
        drop(publish);
        outcome?;
        // The weights of the last step are taken over yet.
        while let Ok(told) = tell.recv() {
            match told {
                Told::Follows(version) => room.forget_before(version)?,
                Told::Failed(error) => return Err(error.into()),
                Told::Event(_) | Told::Grown(_) => {}
            }
        }
        Ok(())
    })
}

/// Waits for the next step's trees.
fn wait<'r>(tell: &Receiver<Told<'r>>, room: &mut Room, on: &mut dyn FnMut(Event)) -> Result<Grown<'r>, RunError> {
    let gone = |_: RecvError| PolicyError::Remote("the thread that samples ahead ended".to_owned());
    loop {
        match tell.recv().map_err(|e| failed(gone(e)))? {
            Told::Event(event) => on(event),
            Told::Follows(version) => room.forget_before(version).map_err(failed)?,
            Told::Grown(grown) => return Ok(grown),
            Told::Failed(error) => return Err(error),
        }
    }
}

fn failed(error: PolicyError) -> RunError {
    RunError::Rollout(error.into())
}

/// Grows the trees of all steps, each as soon as the weights are there that it wants.
#[allow(clippy::too_many_arguments)] // The thread's whole state, each part with a name.
fn sample<'r, S: Follower + ?Sized>(
    run: &'r Run,
    steps: Range<u64>,
    lag: u64,
    sampler: &mut S,
    tools: &mut dyn Toolset,
    halted: &dyn Fn() -> bool,
    published: &Receiver<Published>,
    told: &Sender<Told<'r>>,
) -> Result<(), RunError> {
    let follow = |sampler: &mut S, new: &Published| -> Result<(), RunError> {
        if sampler.version() != new.version {
            sampler.follow(new).map_err(failed)?;
        }
        let _ = told.send(Told::Follows(new.version));
        Ok(())
    };
    for step in steps.clone() {
        // The first steps have no other weights than those of the beginning.
        if step > steps.start + lag {
            // Each step's weights come once, so these are of the step after those that sampled last.
            let Ok(new) = published.recv() else { return Ok(()) };
            follow(sampler, &new)?;
        }
        let poll = |sampler: &mut S| match halted() {
            true => Err(PolicyError::Misuse("sampling was interrupted".to_owned())),
            false => sampler.poll(),
        };
        let mut on = |event| {
            if let Event::Progress(_) = event {
                let _ = told.send(Told::Event(event));
            }
        };
        let grown = run.sample(step, &mut Polled { policy: sampler, poll }, tools, &mut on)?;
        let _ = told.send(Told::Grown(grown));
    }
    let Some(last) = published.iter().last() else { return Ok(()) };
    follow(sampler, &last)
}
