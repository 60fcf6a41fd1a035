//! How does a program go on where an earlier one ended? Live interpreters, found by what has run in them.
//!
//! The result of a call is a function of the cells before it and its own. Three ways lead to the same state: going on in
//! the interpreter that has it, when nobody else will need it; making a clone of it by `fork`; running the earlier cells
//! again in a fresh one. The last always works, so the others may refuse whenever they are not exact.
//!
//! A family is an interpreter and its clones. They have memory and descriptors of their own, but one namespace: one
//! private directory, one set of process ids. So a family runs one cell at a time; only an interpreter without files,
//! descriptors, threads and children of its own is cloned; and where a cell leaves any of these behind, its interpreter
//! keeps the namespace to itself. A clone cannot signal the others (Landlock's scope). What remains visible is its own
//! process id.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aepo::tool::ToolOutcome;

use crate::python::execution::{Cell, Limits, Program};
use crate::python::idle::{Idle, Live, Room};
use crate::python::sandbox::{self, Exit, How};
use crate::python::supervise::{self, Done, Heard, Killed, Pipes, Ran};
use crate::python::zygote::{self, Running, Trouble, Zygote};
use crate::python::{message, tally};

/// A clone is ready after milliseconds, or something holds it.
const CLONE_PATIENCE: Duration = Duration::from_secs(2);
/// The end of a clone is told at once, or not at all.
const END_PATIENCE: Duration = Duration::from_secs(1);
/// Clones that live in one family. `zygote.py` has room for more.
const MAX_CLONES: usize = 32;

/// The live interpreters of an executor.
pub(crate) struct Sessions {
    idle: Idle,
    next_id: AtomicU64,
    /// Cells that went on in a live interpreter, in a clone, in one built anew after others.
    n_cells: [AtomicU64; 3],
}

/// How many cells of sessions came to their state in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Went on in the interpreter that had it.
    pub continued: u64,
    /// Went on in a clone of it.
    pub cloned: u64,
    /// Ran the earlier cells again first.
    pub rebuilt: u64,
}

/// What has run in an interpreter: SHA-256 over cells and their seeds.
pub(crate) type Key = [u8; 32];

/// An interpreter and how to talk to it.
pub(crate) struct Member {
    pub(crate) family: Arc<Family>,
    pipes: Pipes,
    /// Where its cells go.
    cells: OwnedFd,
    /// Its id in its own namespace; the first of a family is the server's child, the others are told of by its reaper.
    pid: i32,
    /// The id that we see it by; 0 if it is not known.
    outer_pid: i32,
    is_first: bool,
}

/// A namespace with one or more interpreters. Ends with its last one.
pub(crate) struct Family {
    pub(crate) id: u64,
    running: Running,
    /// Kept open for the first interpreter, with whose end the namespace ends.
    _first: OwnedFd,
    /// Where the ends of clones are told.
    ends: OwnedFd,
    /// Interpreters beside the first one.
    n_clones: AtomicUsize,
}

impl Drop for Family {
    fn drop(&mut self) {
        self.running.kill();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.is_first {
            self.family.n_clones.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Sessions {
    /// Keeps idle interpreters as long as there is room.
    pub(crate) fn new(room: Room) -> Sessions {
        Sessions { idle: Idle::new(room), next_id: AtomicU64::new(0), n_cells: Default::default() }
    }

    /// What has happened so far.
    pub(crate) fn counts(&self) -> SessionCounts {
        let [continued, cloned, rebuilt] = self.n_cells.each_ref().map(|n| n.load(Ordering::Relaxed));
        SessionCounts { continued, cloned, rebuilt }
    }

    /// Runs the last cell of a program in the state that the earlier ones lead to.
    pub(crate) fn run(&self, server: &Zygote, program: &Program, slot: u64, cancel: &OwnedFd) -> Result<Ran, Trouble> {
        if !program.stdin.is_empty() {
            // An interpreter has one input; a program with one of its own gets an interpreter of its own.
            return server.run(program, slot, cancel);
        }
        let before = key(program.earlier);
        let cell = Cell { code: program.code.to_owned(), seed: program.seed };
        let after = next(before, &cell);
        if !program.earlier.is_empty()
            && let Some(live) = self.idle.take(before)
        {
            let family = live.member.family.id;
            let ran = self.go_on(live, program, before, after, cancel);
            self.idle.rest(family);
            if let Some(ran) = ran? {
                return Ok(ran);
            }
        }
        self.begin(server, program, slot, before, after, cancel)
    }

    /// Runs a cell in a live interpreter or in its clone. None if the state must be built anew.
    fn go_on(
        &self,
        mut live: Live,
        program: &Program,
        before: Key,
        after: Key,
        cancel: &OwnedFd,
    ) -> Result<Option<Ran>, Trouble> {
        let began = Instant::now();
        let member = if program.shared {
            if !live.is_clean || live.member.family.n_clones.load(Ordering::Relaxed) >= MAX_CLONES {
                self.idle.keep(live);
                return Ok(None);
            }
            match live.member.clone_self() {
                Ok(clone) => {
                    self.idle.keep(live);
                    clone
                }
                Err(_) => {
                    // Neither of the two can be trusted to be what it should be.
                    self.idle.forget(live.member.family.id);
                    return Ok(None);
                }
            }
        } else {
            live.member
        };
        if member.send(program).is_err() {
            // It ended while it was idle: the state is lost, nothing has run.
            return Ok(None);
        }
        let deadline = began + Duration::from_secs_f64(program.limits.wall_secs);
        self.n_cells[usize::from(program.shared)].fetch_add(1, Ordering::Relaxed);
        // Nothing runs again here: the only cell is the last.
        let last = Program { earlier: &[], ..*program };
        self.finish(member, &last, deadline, began, (before, after), cancel).map(Some)
    }

    /// Runs all cells of a program in a fresh interpreter.
    fn begin(
        &self,
        server: &Zygote,
        program: &Program,
        slot: u64,
        before: Key,
        after: Key,
        cancel: &OwnedFd,
    ) -> Result<Ran, Trouble> {
        let began = Instant::now();
        if !program.earlier.is_empty() {
            self.n_cells[2].fetch_add(1, Ordering::Relaxed);
        }
        let ours = |e: std::io::Error| Trouble::Refused(format!("making a descriptor: {e}"));
        let n_cells = 1 + program.earlier.len() as u32;
        let deadline = began + Duration::from_secs_f64(program.limits.wall_secs) * n_cells;
        let (cells, cells_end) = message::pair().map_err(ours)?;
        let (ends, ends_end) = message::pair().map_err(ours)?;
        let first = cells.try_clone().map_err(ours)?;
        let mut running = server.begin(program, slot, deadline, &[&cells_end, &ends_end])?;
        drop((cells_end, ends_end));
        // Our ends of its pipes go with the interpreter, the rest with the namespace.
        let (spare, _) = zygote::pipes().map_err(ours)?;
        let pipes = std::mem::replace(&mut running.pipes, spare);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let family = Arc::new(Family { id, running, _first: first, ends, n_clones: AtomicUsize::new(0) });
        self.idle.begin(id);
        let outer_pid = family.running.pids[0];
        let member = Member { family, pipes, cells, pid: 2, outer_pid, is_first: true };
        let ran = self.finish(member, program, deadline, began, (before, after), cancel);
        self.idle.rest(id);
        ran
    }

    /// Listens until a cell has ended, and keeps or drops its interpreter.
    fn finish(
        &self,
        mut member: Member,
        program: &Program,
        deadline: Instant,
        began: Instant,
        (before, after): (Key, Key),
        cancel: &OwnedFd,
    ) -> Result<Ran, Trouble> {
        let (limits, family) = (program.limits, Arc::clone(&member.family));
        let mut heard = Heard::default();
        let is_done = |heard: &Heard| heard.is_silent() || supervise::parse(&heard.status).done.is_some();
        let cpu_secs = limits.cpu_secs as f64 * (1 + program.earlier.len()) as f64;
        let killed = member.watch(&mut heard, limits, deadline, cancel, cpu_secs, is_done).map_err(waiting)?;
        let done = supervise::parse(&heard.status).done;
        let exit = match (killed, done) {
            (None, Some(done)) => {
                heard.drain(&mut member.pipes, limits).map_err(waiting)?;
                Exit { how: How::Code(done.code), cpu_secs: done.cpu_secs, max_rss_mb: done.max_rss_mb }
            }
            _ => {
                // Whatever else lives in the namespace may have seen what the cell left there.
                self.idle.forget(family.id);
                let end = if killed.is_none() { member.end().map_err(waiting)? } else { None };
                family.running.kill();
                heard.drain(&mut member.pipes, limits).map_err(waiting)?;
                if let Some((b'X', reason)) = heard.status.split_first() {
                    return Err(Trouble::Refused(String::from_utf8_lossy(reason).into_owned()));
                }
                match (killed, end) {
                    (_, Some(exit)) => exit,
                    (Some(_), None) => Exit { how: How::Signal(libc::SIGKILL), cpu_secs: 0.0, max_rss_mb: 0.0 },
                    (None, None) => return Err(Trouble::Refused("an interpreter was lost".to_owned())),
                }
            }
        };
        let ran = supervise::ran(limits, program.earlier.len(), killed, exit, &heard, began);
        let ran = ran.map_err(Trouble::Refused)?;
        let key = match ran.execution.outcome {
            ToolOutcome::Ok | ToolOutcome::Raised => after,
            // Nothing has run.
            ToolOutcome::Syntax => before,
            _ => {
                self.idle.forget(family.id);
                return Ok(ran);
            }
        };
        if let (Some(done), None) = (done, killed) {
            self.keep_rested(member, key, done, limits);
        }
        Ok(ran)
    }

    /// Keeps an interpreter after its cell: alone, if the cell left something that others would see; not at all, if
    /// something in it is still at work.
    fn keep_rested(&self, member: Member, key: Key, done: Done, limits: &Limits) {
        let family = Arc::clone(&member.family);
        // The namespace's first process, the first interpreter and its clones.
        let n_expected = 2 + family.n_clones.load(Ordering::Relaxed);
        let max_bytes = limits.total_memory_mb << 20;
        let Some((n_processes, n_bytes)) = tally::quiet(family.running.pids, max_bytes) else {
            return self.idle.forget(family.id);
        };
        if n_processes > n_expected {
            return self.idle.forget(family.id);
        }
        let is_clean = done.is_clean && n_bytes <= max_bytes;
        if !is_clean {
            self.idle.forget(family.id);
        }
        self.idle.keep(Live { key, member, is_clean, family_bytes: n_bytes });
    }
}

impl Member {
    /// Hands it a cell.
    fn send(&self, program: &Program) -> std::io::Result<()> {
        let limits = program.limits;
        let source = sandbox::memory_file(program.code.as_bytes())?;
        let n_others = self.family.n_clones.load(Ordering::Relaxed) as u64;
        let numbers = [limits.cpu_secs.min(u64::from(u32::MAX)), limits.max_processes + n_others, program.seed.0];
        let mut bytes = b"C".to_vec();
        bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        message::send(&self.cells, &bytes, &[source.as_raw_fd()])
    }

    /// Another interpreter with the same state.
    fn clone_self(&mut self) -> std::io::Result<Member> {
        let (pipes, ends) = zygote::pipes()?;
        let (cells, cells_end) = message::pair()?;
        let fds: Vec<i32> = ends.iter().chain([&cells_end]).map(AsRawFd::as_raw_fd).collect();
        message::send(&self.cells, b"F", &fds)?;
        drop((ends, cells_end));
        self.family.n_clones.fetch_add(1, Ordering::Relaxed);
        let mut clone =
            Member { family: Arc::clone(&self.family), pipes, cells, pid: 0, outer_pid: 0, is_first: false };
        clone.pid = clone.greeting()?.pid;
        // The original speaks, too, once the process between the two is gone and the clone is the namespace's child.
        self.greeting()?;
        clone.outer_pid = tally::child_with_inner_id(self.family.running.pids[1], clone.pid).unwrap_or(0);
        Ok(clone)
    }

    /// Waits until it says that it is ready for a cell.
    fn greeting(&mut self) -> std::io::Result<Done> {
        let deadline = Instant::now() + CLONE_PATIENCE;
        let mut said = Vec::new();
        loop {
            if let Some(done) = supervise::parse(&said).done {
                return Ok(done);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let [ready] = sandbox::wait_readable([self.pipes.status.as_raw_fd()], left)?;
            let before = said.len();
            if !ready || !supervise::read_some(&mut self.pipes.status, &mut said)? || said.len() == before {
                return Err(std::io::Error::other("no sign of readiness"));
            }
        }
    }

    /// Listens until its cell has ended, `is_done` is content, or it must be killed.
    fn watch(
        &mut self,
        heard: &mut Heard,
        limits: &Limits,
        deadline: Instant,
        cancel: &OwnedFd,
        cpu_secs: f64,
        is_done: impl Fn(&Heard) -> bool,
    ) -> std::io::Result<Option<Killed>> {
        let family = Arc::clone(&self.family);
        let pids = family.running.pids;
        // What idle relatives hold is not this cell's doing.
        let own = limits.total_memory_mb << 20;
        let n_idle = if family.n_clones.load(Ordering::Relaxed) == 0 { 0 } else { tally::held(pids, own) };
        let max_bytes = n_idle + own;
        let outer_pid = self.outer_pid;
        let cpu_secs = sandbox::cpu_secs(outer_pid).unwrap_or(0.0) + cpu_secs;
        let look = || zygote::over_limits(pids, outer_pid, cpu_secs, max_bytes);
        let fds = [family.running.reply.as_raw_fd(), cancel.as_raw_fd()];
        supervise::watch(&mut self.pipes, heard, fds, limits, deadline, is_done, look)
    }

    /// How it ended by itself: told by the server for the first of a family, by the namespace's first process for the
    /// others. None if nobody knows.
    fn end(&self) -> std::io::Result<Option<Exit>> {
        let deadline = Instant::now() + END_PATIENCE;
        let running = &self.family.running;
        let from = if self.is_first { &running.reply } else { &self.family.ends };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let [told] = sandbox::wait_readable([from.as_raw_fd()], left)?;
            if !told {
                return Ok(None);
            }
            let (told, _) = message::receive(from)?;
            let told = match (self.is_first, told.split_first_chunk::<4>()) {
                (true, _) => return Ok(told.strip_prefix(b"E").and_then(zygote::exit)),
                (false, Some((pid, rest))) if i32::from_le_bytes(*pid) == self.pid => zygote::exit(rest),
                (false, Some(_)) => continue,
                (false, None) => None,
            };
            return Ok(told);
        }
    }
}

fn waiting(e: std::io::Error) -> Trouble {
    Trouble::Lost(format!("waiting for the program: {e}"))
}

/// The state after some cells.
fn key(cells: &[Cell]) -> Key {
    cells.iter().fold([0; 32], next)
}

fn next(before: Key, cell: &Cell) -> Key {
    let mut sum = ring::digest::Context::new(&ring::digest::SHA256);
    sum.update(&before);
    sum.update(&cell.seed.0.to_le_bytes());
    sum.update(cell.code.as_bytes());
    let mut key = Key::default();
    key.copy_from_slice(sum.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use aepo::seed::Seed;

    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_state_is_named_by_every_cell_and_seed_in_their_order() {
        let cell = |code: &str, seed| Cell { code: code.to_owned(), seed: Seed(seed) };
        let chains = [
            vec![],
            vec![cell("a", 1)],
            vec![cell("a", 2)],
            vec![cell("b", 1)],
            vec![cell("a", 1), cell("b", 1)],
            vec![cell("b", 1), cell("a", 1)],
            vec![cell("", 1), cell("", 1)],
            vec![cell("", 1)],
        ];
        let keys: HashSet<Key> = chains.iter().map(|chain| key(chain)).collect();
        assert_eq!(keys.len(), chains.len());
        assert_eq!(key(&chains[4]), next(key(&chains[1]), &cell("b", 1)));
    }
}
