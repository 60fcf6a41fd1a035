//! How do threads work together? As a small team, started once, that takes numbered chunks from one counter.
//!
//! A product of a decoded token takes microseconds, and there are hundreds of them in a row, so handing out work must
//! cost next to nothing. The caller opens a gate, works along, and waits only for those who came in: a thread that the
//! system has not given a core is not missed. Between jobs threads look for work for a while, yielding their core,
//! and then sleep. No call allocates.
//!
//! Who computes a chunk is chance; what a chunk is, is the caller's choice. Sums over chunks that are added in the
//! order of the chunks therefore do not depend on the number of threads.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Looks at the gate in a row before a thread yields its core: less than a microsecond.
const N_LOOKS: usize = 32;

/// How long a thread without work looks for some before it sleeps. Longer than what lies between two products of a
/// token, shorter than what anybody else would notice.
const LOOK_FOR: Duration = Duration::from_micros(100);

/// How long the caller looks for the others to finish before it sleeps. Sleeping leaves it a core that it can be
/// finished on, where other programs hold the rest.
const WAIT_FOR: Duration = Duration::from_micros(50);

/// The gate's bits: how many are inside, whether the caller sleeps until nobody is, whether one may come in, whether
/// all shall go home, and the number of the job.
const INSIDE: u64 = (1 << 16) - 1;
const CALLER_SLEEPS: u64 = 1 << 16;
const OPEN: u64 = 1 << 17;
const CLOSED_FOR_GOOD: u64 = 1 << 18;
const JOB: u64 = 1 << 32;

/// A value with a cache line (and its prefetched neighbour) of its own.
#[repr(align(128))]
struct Alone<T>(T);

/// What all threads share.
struct Shared {
    gate: Alone<AtomicU64>,
    /// The first chunk that nobody has taken.
    next: Alone<AtomicUsize>,
    job: UnsafeCell<Job>,
    /// Whether somebody's job is under way.
    busy: AtomicBool,
    n_asleep: AtomicUsize,
    /// Held by who is about to sleep and by who wakes.
    sleep: Mutex<()>,
    work: Condvar,
    done: Condvar,
    /// What a chunk panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A closure `Fn(usize, usize)` of (thread, chunk) whose type and lifetime have been forgotten.
#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), usize, usize),
    closure: *const (),
    n_chunks: usize,
}

// SAFETY: `job` is the only part that is not `Sync` by itself. It is written only by the thread that has `busy` while
// the gate is closed and nobody is inside, and read only by those inside; the gate's atomic operations order the two.
// The closure that it points to is `Sync`, as `Team::run` demands.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is never used outside of a job.
unsafe impl Send for Shared {}

/// Threads that take part in each other's work: the caller, and those the team has started.
pub struct Team {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Team {
    /// A team of `n_threads`, the caller being one of them; 0 counts as 1.
    pub fn new(n_threads: usize) -> std::io::Result<Team> {
        let shared = Arc::new(Shared {
            gate: Alone(AtomicU64::new(0)),
            next: Alone(AtomicUsize::new(0)),
            job: UnsafeCell::new(Job { call: |_, _, _| (), closure: std::ptr::null(), n_chunks: 0 }),
            busy: AtomicBool::new(false),
            n_asleep: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            work: Condvar::new(),
            done: Condvar::new(),
            panic: Mutex::new(None),
        });
        let mut team = Team { shared, threads: Vec::new() };
        for i in 1..n_threads.min(INSIDE as usize) {
            let shared = Arc::clone(&team.shared);
            // Where this fails, dropping the team ends those that run already.
            let builder = std::thread::Builder::new().name(format!("engine-{i}"));
            team.threads.push(builder.spawn(move || shared.serve(i))?);
        }
        Ok(team)
    }

    /// Threads, the caller included.
    #[must_use]
    pub fn n_threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `f` once with each number below `n_chunks` and returns when all calls have. Within a chunk, and while
    /// another thread uses the team, the caller does all of it alone. A panic of `f` is passed on, after which some
    /// chunks may not have been worked on.
    pub fn for_each(&self, n_chunks: usize, f: impl Fn(usize) + Sync) {
        self.run(n_chunks, &|_, chunk| f(chunk));
    }

    /// [`Team::for_each`] with one of `scratch` for each thread, of which there must be [`Team::n_threads`].
    pub fn for_each_with<S: Send>(&self, scratch: &mut [S], n_chunks: usize, f: impl Fn(&mut S, usize) + Sync) {
        assert!(scratch.len() >= self.n_threads(), "{} buffers for {} threads", scratch.len(), self.n_threads());
        let scratch = Slots::new(scratch, 1);
        self.run(n_chunks, &|thread, chunk| {
            // SAFETY: the numbers of threads inside of one job are different, and below the length, as checked above.
            let scratch = unsafe { scratch.get(thread) };
            f(&mut scratch[0], chunk);
        });
    }

    /// Cuts slices into chunks and calls `f` with each chunk's number and the chunk itself. `parts` is a slice with
    /// the length of its chunks, or two or three such pairs with as many chunks each.
    pub fn split<P: Parts>(&self, parts: P, f: impl Fn(usize, P::Part) + Sync) {
        let (n_chunks, slots) = parts.slots();
        self.run(n_chunks, &|_, chunk| {
            // SAFETY: `run` hands out each number below `n_chunks` once.
            f(chunk, unsafe { P::part(&slots, chunk) });
        });
    }

    /// [`Team::split`] with one of `scratch` for each thread, of which there must be [`Team::n_threads`].
    pub fn split_with<S: Send, P: Parts>(
        &self,
        scratch: &mut [S],
        parts: P,
        f: impl Fn(&mut S, usize, P::Part) + Sync,
    ) {
        let (n_chunks, slots) = parts.slots();
        self.for_each_with(scratch, n_chunks, |scratch, chunk| {
            // SAFETY: `for_each_with` hands out each number below `n_chunks` once.
            f(scratch, chunk, unsafe { P::part(&slots, chunk) });
        });
    }

    /// Calls `f(thread, chunk)` once for each chunk; no two calls at a time have the same thread.
    fn run<F: Fn(usize, usize) + Sync>(&self, n_chunks: usize, f: &F) {
        /// # Safety
        /// `closure` must point to an `F` that lives.
        unsafe fn call<F: Fn(usize, usize)>(closure: *const (), thread: usize, chunk: usize) {
            // SAFETY: demanded above.
            unsafe { (*closure.cast::<F>())(thread, chunk) }
        }
        let shared = &*self.shared;
        if n_chunks <= 1 || self.threads.is_empty() || shared.busy.swap(true, Ordering::Acquire) {
            (0..n_chunks).for_each(|chunk| f(0, chunk));
            return;
        }
        let job = Job { call: call::<F>, closure: std::ptr::from_ref(f).cast(), n_chunks };
        // SAFETY: we have `busy`, so no other caller writes, and whoever had it before left the gate closed and nobody
        // inside, so nobody reads.
        unsafe { *shared.job.get() = job };
        shared.next.0.store(0, Ordering::Relaxed);
        let number = (shared.gate.0.load(Ordering::Relaxed) / JOB).wrapping_add(1);
        shared.gate.0.store(number.wrapping_mul(JOB) | OPEN, Ordering::SeqCst);
        if shared.n_asleep.load(Ordering::SeqCst) > 0 {
            let _held = shared.lock();
            shared.work.notify_all();
        }
        // Whatever happens in here, the closure must outlive all who may call it: this does not unwind.
        shared.take_chunks(job, 0);
        shared.close();
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        shared.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.gate.0.fetch_or(CLOSED_FOR_GOOD, Ordering::SeqCst);
        {
            let _held = self.shared.lock();
            self.shared.work.notify_all();
        }
        for thread in self.threads.drain(..) {
            // A thread of ours catches what its chunks panic with, so there is nothing to be told here.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until the team is dropped.
    fn serve(&self, thread: usize) {
        let mut last_job = 0;
        loop {
            let gate = self.wait_for_job(last_job);
            if gate & CLOSED_FOR_GOOD != 0 {
                return;
            }
            if self.gate.0.compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            last_job = gate / JOB;
            // SAFETY: we are inside, so the job was written before the gate was opened and is written again only
            // after we have left.
            let job = unsafe { *self.job.get() };
            self.take_chunks(job, thread);
            let before = self.gate.0.fetch_sub(1, Ordering::AcqRel);
            if before & CALLER_SLEEPS != 0 && before & INSIDE == 1 {
                let _held = self.lock();
                self.done.notify_all();
            }
        }
    }

    /// Returns the gate when it is open for another job than the last one, or closed for good.
    fn wait_for_job(&self, last_job: u64) -> u64 {
        let look = |order| {
            let gate = self.gate.0.load(order);
            let is_new = gate & OPEN != 0 && gate / JOB != last_job;
            (is_new || gate & CLOSED_FOR_GOOD != 0).then_some(gate)
        };
        if let Some(gate) = look_for(LOOK_FOR, || look(Ordering::Relaxed)) {
            return gate;
        }
        let mut held = self.lock();
        self.n_asleep.fetch_add(1, Ordering::SeqCst);
        let gate = loop {
            // Either this sees the opened gate, or who opened it sees that we sleep: both are sequentially consistent.
            match look(Ordering::SeqCst) {
                Some(gate) => break gate,
                None => held = self.work.wait(held).unwrap_or_else(PoisonError::into_inner),
            }
        };
        self.n_asleep.fetch_sub(1, Ordering::SeqCst);
        gate
    }

    /// Works on chunks until none is left. Never unwinds.
    fn take_chunks(&self, job: Job, thread: usize) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let chunk = self.next.0.fetch_add(1, Ordering::Relaxed);
                if chunk >= job.n_chunks {
                    break;
                }
                // SAFETY: the caller of this job is inside of `run` until nobody is inside of the gate, so the closure
                // lives; whoever calls this is the caller or inside.
                unsafe { (job.call)(job.closure, thread, chunk) };
            }
        }));
        if let Err(panic) = result {
            // What is left is not worth working on.
            self.next.0.store(job.n_chunks, Ordering::Relaxed);
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }

    /// Lets nobody in any more and waits until nobody is inside.
    fn close(&self) {
        let gate = self.gate.0.fetch_and(!OPEN, Ordering::AcqRel);
        let empty = || (self.gate.0.load(Ordering::Acquire) & INSIDE == 0).then_some(());
        if gate & INSIDE == 0 || look_for(WAIT_FOR, empty).is_some() {
            return;
        }
        let mut held = self.lock();
        let mut gate = self.gate.0.fetch_or(CALLER_SLEEPS, Ordering::AcqRel);
        while gate & INSIDE != 0 {
            held = self.done.wait(held).unwrap_or_else(PoisonError::into_inner);
            gate = self.gate.0.load(Ordering::Acquire);
        }
        // The next job's gate is stored whole, which takes the bit away.
    }
}

/// Asks again and again, for about so long, yielding the core in between.
fn look_for<R>(time: Duration, ask: impl Fn() -> Option<R>) -> Option<R> {
    let mut start = None;
    loop {
        for _ in 0..N_LOOKS {
            if let Some(found) = ask() {
                return Some(found);
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
        if start.get_or_insert_with(Instant::now).elapsed() > time {
            return ask();
        }
    }
}

/// A slice whose chunks are given out one by one.
pub struct Slots<'a, T> {
    data: *mut T,
    len: usize,
    chunk_len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Slots` is a `&mut [T]` of which each chunk is given to one thread only, so that `T: Send` is enough.
unsafe impl<T: Send> Sync for Slots<'_, T> {}

impl<'a, T> Slots<'a, T> {
    fn new(data: &'a mut [T], chunk_len: usize) -> Slots<'a, T> {
        Slots { len: data.len(), data: data.as_mut_ptr(), chunk_len: chunk_len.max(1), owner: PhantomData }
    }

    /// # Safety
    /// `index · chunk_len` must be less than the length, and no chunk may be asked for while it is in use.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, index: usize) -> &'a mut [T] {
        let start = index * self.chunk_len;
        // SAFETY: the chunk lies inside of the slice that this was made from, whose borrow lasts as long as `'a`, and
        // by the caller's promise nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), self.chunk_len.min(self.len - start)) }
    }
}

/// Slices with the lengths of their chunks: what [`Team::split`] cuts.
///
/// # Safety
/// `part` must give different memory for different indices.
pub unsafe trait Parts: Sized {
    /// A chunk.
    type Part;
    /// What chunks are taken from.
    type Slots: Sync;
    /// The number of chunks and what they are taken from.
    fn slots(self) -> (usize, Self::Slots);
    /// A chunk.
    ///
    /// # Safety
    /// `index` must be below the number of chunks, and each chunk may be asked for once.
    unsafe fn part(slots: &Self::Slots, index: usize) -> Self::Part;
}

// SAFETY: chunks of a slice do not overlap.
unsafe impl<'a, T: Send> Parts for (&'a mut [T], usize) {
    type Part = &'a mut [T];
    type Slots = Slots<'a, T>;

    fn slots(self) -> (usize, Self::Slots) {
        (self.0.len().div_ceil(self.1.max(1)), Slots::new(self.0, self.1))
    }

    unsafe fn part(slots: &Self::Slots, index: usize) -> Self::Part {
        // SAFETY: an index below the number of chunks begins inside of the slice; each is asked for once.
        unsafe { slots.get(index) }
    }
}

// SAFETY: each is of another slice, and the chunks of each do not overlap.
unsafe impl<A: Parts, B: Parts> Parts for (A, B) {
    type Part = (A::Part, B::Part);
    type Slots = (A::Slots, B::Slots);

    fn slots(self) -> (usize, Self::Slots) {
        let ((n, a), (n_b, b)) = (self.0.slots(), self.1.slots());
        assert_eq!(n, n_b, "slices that are cut together must have as many chunks");
        (n, (a, b))
    }

    unsafe fn part(slots: &Self::Slots, index: usize) -> Self::Part {
        // SAFETY: both have the same number of chunks, and each chunk is asked for once.
        unsafe { (A::part(&slots.0, index), B::part(&slots.1, index)) }
    }
}

#[cfg(test)]
mod tests;
