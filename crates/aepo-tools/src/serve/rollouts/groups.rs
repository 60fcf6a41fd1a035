//! Which trees were asked for, which are growing, and which are kept? A group is a tree; its k callers share it.
//!
//! The first caller of a group has its tree grown, the others wait for the same one, and each gets the trajectory of its
//! number, however often it asks. Of what is done as many groups are kept as may be, for some time; those whose every
//! trajectory was fetched go first.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aepo::data::task::Task;
use aepo::record::TreeRecord;
use tokio::sync::watch;

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Groups that wait, grow or are kept.
    pub max_groups: usize,
    /// A done group is kept for so long.
    pub keep: Duration,
}

/// A tree that somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The question and how it is graded; its id is the group's name.
    pub task: Task,
    /// The first prompt, ids.
    pub prompt: Vec<u32>,
    /// Labels that every draw of the tree follows from, below the seed of the recipe.
    pub seed: Vec<u64>,
    /// The servers that sample, where the recipe does not say.
    pub servers: Vec<String>,
}

/// A tree, or why there is none.
pub(super) type Outcome = Result<Arc<TreeRecord>, Arc<str>>;

/// Why a group is not taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwelcome {
    /// As many wait, grow or are kept as may.
    Full,
    /// The name stands for another order.
    Differs,
    /// The service ends.
    Closed,
}

/// All groups, between those who ask and the one who grows.
pub struct Groups {
    books: Mutex<Books>,
    came: Condvar,
    limits: Limits,
}

#[derive(Default)]
struct Books {
    groups: HashMap<String, Group>,
    /// Names of those that nobody grows yet, the oldest first.
    waiting: VecDeque<String>,
    is_closed: bool,
}

struct Group {
    order: Order,
    outcome: watch::Sender<Option<Outcome>>,
    /// `[k]` once done: whether somebody has fetched it.
    fetched: Vec<bool>,
    done_at: Option<Instant>,
}

impl Groups {
    /// None yet.
    #[must_use]
    pub fn new(limits: Limits) -> Groups {
        Groups { books: Mutex::default(), came: Condvar::new(), limits }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing panics between two halves of a change.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the tree of an order will be told; the order is taken on where it is new.
    pub(super) fn join(&self, order: Order) -> Result<watch::Receiver<Option<Outcome>>, Unwelcome> {
        let mut books = self.books();
        if books.is_closed {
            return Err(Unwelcome::Closed);
        }
        let (now, keep) = (Instant::now(), self.limits.keep);
        books.groups.retain(|_, group| group.done_at.is_none_or(|at| now.duration_since(at) < keep));
        if let Some(group) = books.groups.get(&order.task.id) {
            // Who moves to other servers with the same weights asks for the same tree.
            let is_same = Order { servers: order.servers.clone(), ..group.order.clone() } == order;
            return if is_same { Ok(group.outcome.subscribe()) } else { Err(Unwelcome::Differs) };
        }
        if books.groups.len() >= self.limits.max_groups && !books.make_room() {
            return Err(Unwelcome::Full);
        }
        let (outcome, told) = watch::channel(None);
        let name = order.task.id.clone();
        books.groups.insert(name.clone(), Group { order, outcome, fetched: Vec::new(), done_at: None });
        books.waiting.push_back(name);
        self.came.notify_one();
        Ok(told)
    }

    /// Takes note that trajectories went to their caller.
    pub(super) fn note_fetched(&self, name: &str, indices: Range<usize>) {
        let mut books = self.books();
        let fetched = books.groups.get_mut(name).and_then(|group| group.fetched.get_mut(indices));
        fetched.into_iter().flatten().for_each(|fetched| *fetched = true);
    }

    /// Waits until a tree is asked for, at most so long; the order stays where it is.
    pub fn wait(&self, at_most: Duration) -> Option<Order> {
        let books = self.books();
        let waited = self.came.wait_timeout_while(books, at_most, |books| books.waiting.is_empty());
        let (books, _) = waited.unwrap_or_else(PoisonError::into_inner);
        books.waiting.front().and_then(|name| books.groups.get(name)).map(|group| group.order.clone())
    }

    /// Takes the order that has waited longest, if these servers are to sample it.
    pub fn take(&self, servers: &[String]) -> Option<Order> {
        let mut books = self.books();
        let first = books.waiting.front().and_then(|name| books.groups.get(name))?;
        if first.order.servers != servers {
            return None;
        }
        let order = first.order.clone();
        books.waiting.pop_front();
        Some(order)
    }

    /// A tree is done.
    pub fn done(&self, tree: TreeRecord) {
        let mut books = self.books();
        if let Some(group) = books.groups.get_mut(&tree.task.id) {
            group.fetched = vec![false; tree.leaves.len()];
            group.done_at = Some(Instant::now());
            group.outcome.send_replace(Some(Ok(Arc::new(tree))));
        }
    }

    /// What was asked for will not be done. The group is forgotten: who asks again has it grown anew.
    pub fn fail(&self, name: &str, why: &str) {
        let mut books = self.books();
        books.waiting.retain(|waiting| waiting != name);
        if let Some(group) = books.groups.remove(name) {
            group.outcome.send_replace(Some(Err(why.into())));
        }
    }

    /// Ends the service: those who wait are told, and nobody is taken on.
    pub fn close(&self, why: &str) {
        let mut books = self.books();
        books.is_closed = true;
        books.waiting.clear();
        for (_, group) in books.groups.drain() {
            if group.done_at.is_none() {
                group.outcome.send_replace(Some(Err(why.into())));
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.books().is_closed
    }
}

impl Books {
    /// Forgets the group that was done first of those whose every trajectory was fetched; whether there was one.
    fn make_room(&mut self) -> bool {
        let gone = self.groups.iter().filter(|(_, group)| group.fetched.iter().all(|&fetched| fetched));
        let gone = gone.filter_map(|(name, group)| group.done_at.map(|at| (at, name))).min();
        match gone.map(|(_, name)| name.clone()) {
            Some(name) => self.groups.remove(&name).is_some(),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests;
