//! Which interpreters wait for their next cell? Found by what has run in them, and given up where there is no room.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::python::session::{Key, Member};

/// How long a call waits for a family at work before it runs the earlier cells again.
const FAMILY_PATIENCE: Duration = Duration::from_millis(100);

/// Idle interpreters and the families at work.
pub(crate) struct Idle {
    state: Mutex<State>,
    /// A family has finished a cell.
    rested: Condvar,
    room: Room,
}

#[derive(Default)]
struct State {
    /// Idle interpreters, the longest unused first.
    live: Vec<Live>,
    /// Families that run a cell.
    at_work: HashSet<u64>,
}

/// An idle interpreter.
pub(crate) struct Live {
    /// What has run in it.
    pub key: Key,
    /// The interpreter itself.
    pub member: Member,
    /// Whether it can be cloned.
    pub is_clean: bool,
    /// What its family held after its cell, bytes.
    pub family_bytes: u64,
}

/// What idle interpreters may take together.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    /// Interpreters.
    pub max_live: usize,
    /// Memory, bytes.
    pub max_bytes: u64,
}

impl Room {
    fn is_passed(&self, live: &[Live]) -> bool {
        // The latest that is known of each family.
        let bytes: HashMap<u64, u64> = live.iter().map(|l| (l.member.family.id, l.family_bytes)).collect();
        live.len() > self.max_live || bytes.values().sum::<u64>() > self.max_bytes
    }
}

impl Idle {
    /// Nobody yet.
    pub(crate) fn new(room: Room) -> Idle {
        Idle { state: Mutex::default(), rested: Condvar::new(), room }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The idle interpreter with a state, its family marked as at work.
    pub(crate) fn take(&self, key: Key) -> Option<Live> {
        let deadline = Instant::now() + FAMILY_PATIENCE;
        let mut state = self.state();
        loop {
            let free =
                state.live.iter().position(|live| live.key == key && !state.at_work.contains(&live.member.family.id));
            if let Some(i) = free {
                let live = state.live.remove(i);
                state.at_work.insert(live.member.family.id);
                return Some(live);
            }
            let now = Instant::now();
            if now >= deadline || !state.live.iter().any(|live| live.key == key) {
                return None;
            }
            let waited = self.rested.wait_timeout(state, deadline - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A family has begun to run a cell.
    pub(crate) fn begin(&self, family: u64) {
        self.state().at_work.insert(family);
    }

    /// A family has finished a cell.
    pub(crate) fn rest(&self, family: u64) {
        self.state().at_work.remove(&family);
        self.rested.notify_all();
    }

    /// Keeps an interpreter. What does not fit any more is dropped outside the lock.
    pub(crate) fn keep(&self, live: Live) {
        let mut dropped = Vec::new();
        let mut state = self.state();
        state.live.push(live);
        while self.room.is_passed(&state.live) {
            dropped.push(state.live.remove(0));
        }
        drop(state);
    }

    /// Drops every idle interpreter of a family.
    pub(crate) fn forget(&self, family: u64) {
        let mut state = self.state();
        let (gone, kept) =
            std::mem::take(&mut state.live).into_iter().partition(|l: &Live| l.member.family.id == family);
        state.live = kept;
        drop(state);
        let _: Vec<Live> = gone;
    }
}
