//! What does a served model do, and when? It reads prompts in chunks between steps of all its live sequences, as vLLM
//! and SGLang do; how long a step takes is a formula of what is in it.
//!
//! Between two events the formula's value is kept, so time goes from event to event and not from token to token.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::prefix::{Chain, Prefixes};

/// Tokens of a block, the unit of caches; all that a simulation counts is whole blocks.
pub const BLOCK: u32 = 16;

/// How long a replica takes, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// A step with nothing in it, seconds.
    pub step_secs: f64,
    /// More for each live sequence, seconds.
    pub secs_per_sequence: f64,
    /// More for each token of their contexts, seconds.
    pub secs_per_context_token: f64,
    /// More for each token of a prompt that is read in it, seconds.
    pub secs_per_prompt_token: f64,
    /// Tokens of prompts that a step reads at most.
    pub chunk_tokens: u32,
    /// Sequences that are served at once.
    pub max_batch: usize,
    /// Tokens that the cache has room for.
    pub cache_tokens: u64,
}

/// What a replica is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Names it.
    pub request: usize,
    /// The path, with what will be sampled.
    pub chain: Chain,
    /// Blocks of the prompt, and to be sampled.
    pub n_prompt: u32,
    /// See there.
    pub n_new: u32,
}

/// A number that is ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark(f64);

impl Eq for Mark {}
impl PartialOrd for Mark {
    fn partial_cmp(&self, other: &Mark) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Mark {
    fn cmp(&self, other: &Mark) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// What was counted at a replica; tokens, and seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    /// Tokens of prompts, and of these, cached ones.
    pub n_prompt: u64,
    /// See there.
    pub n_cached: u64,
    /// Tokens sampled in requests that were answered.
    pub n_sampled: u64,
    /// Tokens sampled in requests that were not.
    pub n_wasted: f64,
    /// Seconds with something to do.
    pub busy_secs: f64,
    /// Live sequences, summed over seconds.
    pub sequence_secs: f64,
}

/// A replica.
#[derive(Clone, Debug)]
pub struct Server {
    speed: Speed,
    prefixes: Prefixes,
    /// Not yet served.
    queue: VecDeque<Asked>,
    /// Being read, with the number of tokens read in all when each is.
    reading: VecDeque<(f64, Asked)>,
    n_read: f64,
    n_to_read: f64,
    /// Tokens that the step now being done reads, and the number read in all behind it.
    chunk: f64,
    chunk_end: f64,
    /// Live, by the number of steps done in all when each is finished; by place in `slots`.
    live: BinaryHeap<Reverse<(Mark, usize)>>,
    slots: Vec<Option<Asked>>,
    free: Vec<usize>,
    n_live: usize,
    /// Tokens of the live ones' contexts.
    n_context: f64,
    n_steps: f64,
    /// Up to when all this is reckoned, nanoseconds.
    at: u64,
    /// What it did.
    pub count: Count,
}

/// Steps and tokens that are as good as none.
const EPS: f64 = 1e-5;

impl Server {
    /// One that was just started.
    pub fn new(speed: Speed, now: u64) -> Server {
        Server {
            prefixes: Prefixes::new(speed.cache_tokens / u64::from(BLOCK)),
            speed,
            queue: VecDeque::new(),
            reading: VecDeque::new(),
            n_read: 0.0,
            n_to_read: 0.0,
            chunk: 0.0,
            chunk_end: 0.0,
            live: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            n_live: 0,
            n_context: 0.0,
            n_steps: 0.0,
            at: now,
            count: Count::default(),
        }
    }

    /// Requests in the queue or served.
    pub fn n_asked(&self) -> usize {
        self.queue.len() + self.reading.len() + self.n_live
    }

    /// Seconds of a step as things are.
    fn step_secs(&self) -> f64 {
        let speed = &self.speed;
        speed.step_secs
            + speed.secs_per_sequence * self.n_live as f64
            + speed.secs_per_context_token * self.n_context
            + speed.secs_per_prompt_token * self.chunk
    }

    /// The next chunk, where the one before is read.
    fn next_chunk(&mut self) {
        if self.n_read + EPS >= self.chunk_end {
            self.n_read = self.chunk_end;
            self.chunk = (self.n_to_read - self.n_read).min(f64::from(self.speed.chunk_tokens));
            self.chunk_end += self.chunk;
        }
    }

    /// Reckons up to `now`, nanoseconds.
    fn advance(&mut self, now: u64) {
        let secs = (now - self.at) as f64 * 1e-9;
        self.at = now;
        let n_served = self.reading.len() + self.n_live;
        if n_served == 0 {
            return;
        }
        let n_steps = secs / self.step_secs();
        self.n_read += n_steps * self.chunk;
        self.n_steps += n_steps;
        self.n_context += n_steps * self.n_live as f64;
        self.count.busy_secs += secs;
        self.count.sequence_secs += secs * self.n_live as f64;
    }

    /// Takes a request.
    pub fn ask(&mut self, asked: Asked, now: u64) {
        self.advance(now);
        self.queue.push_back(asked);
        self.serve();
        self.next_chunk();
    }

    /// Serves whom there is room for, in order.
    fn serve(&mut self) {
        while self.reading.len() + self.n_live < self.speed.max_batch {
            let Some(first) = self.queue.front() else { return };
            let Some(hit) = self.prefixes.hold(&first.chain, first.n_prompt) else { return };
            let Some(first) = self.queue.pop_front() else { return };
            self.count.n_prompt += u64::from(first.n_prompt * BLOCK);
            self.count.n_cached += u64::from(hit * BLOCK);
            self.n_to_read += f64::from((first.n_prompt - hit) * BLOCK);
            self.reading.push_back((self.n_to_read, first));
        }
    }

    /// When something happens next if nobody asks before, nanoseconds.
    pub fn next_at(&self) -> Option<u64> {
        let read = (self.chunk > 0.0).then(|| (self.chunk_end - self.n_read) / self.chunk);
        let finished = self.live.peek().map(|Reverse((end, _))| end.0 - self.n_steps);
        let n_steps = read.into_iter().chain(finished).reduce(f64::min)?;
        Some(self.at + (n_steps.max(0.0) * self.step_secs() * 1e9).ceil() as u64)
    }

    /// What is finished at `now`, nanoseconds: names of requests.
    pub fn finish(&mut self, now: u64) -> Vec<usize> {
        self.advance(now);
        // A step's prompts are read when it is done.
        let is_read = self.n_read + EPS >= self.chunk_end;
        while let Some((end, _)) = self.reading.front()
            && is_read
            && *end <= self.chunk_end + EPS
        {
            let Some((_, asked)) = self.reading.pop_front() else { break };
            self.n_context += f64::from(asked.n_prompt * BLOCK);
            self.n_live += 1;
            let end = Mark(self.n_steps + f64::from(asked.n_new * BLOCK));
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            self.slots[slot] = Some(asked);
            self.live.push(Reverse((end, slot)));
        }
        let mut done = Vec::new();
        while let Some(Reverse((end, slot))) = self.live.peek().copied()
            && end.0 <= self.n_steps + EPS
        {
            self.live.pop();
            self.free.push(slot);
            let Some(asked) = self.slots[slot].take() else { continue };
            self.n_live -= 1;
            self.n_context -= f64::from((asked.n_prompt + asked.n_new) * BLOCK);
            self.count.n_sampled += u64::from(asked.n_new * BLOCK);
            self.prefixes.release(&asked.chain);
            done.push(asked.request);
        }
        if self.n_live == 0 {
            // What rounding left.
            self.n_context = 0.0;
        }
        self.serve();
        self.next_chunk();
        done
    }

    /// Everything that it was doing is lost, and all it had cached: names of requests, in the order of their names.
    pub fn die(&mut self, now: u64) -> Vec<usize> {
        self.advance(now);
        let mut count = self.count;
        let of_live = self.live.iter().filter_map(|Reverse((end, slot))| Some((end.0, self.slots[*slot].as_ref()?)));
        count.n_wasted += of_live.map(|(end, a)| f64::from(a.n_new * BLOCK) - (end - self.n_steps)).sum::<f64>();
        let waiting = self.queue.iter().chain(self.reading.iter().map(|(_, asked)| asked));
        let mut lost: Vec<usize> = waiting.chain(self.slots.iter().flatten()).map(|asked| asked.request).collect();
        lost.sort_unstable();
        *self = Server { count, ..Server::new(self.speed, now) };
        lost
    }

    /// Somebody hung up on a request; what it has got so far is lost.
    pub fn cancel(&mut self, request: usize, now: u64) {
        self.advance(now);
        let is_it = |asked: &Asked| asked.request == request;
        if let Some(i) = self.queue.iter().position(is_it) {
            self.queue.remove(i);
        } else if let Some(i) = self.reading.iter().position(|(_, asked)| is_it(asked)) {
            // What is being read is read.
            if let Some((_, asked)) = self.reading.remove(i) {
                self.prefixes.release(&asked.chain);
            }
        } else if let Some(slot) = self.slots.iter().position(|slot| slot.as_ref().is_some_and(is_it)) {
            let end = self.live.iter().find(|Reverse((_, s))| *s == slot).map_or(0.0, |Reverse((end, _))| end.0);
            if let Some(asked) = self.slots[slot].take() {
                let n_sampled = f64::from(asked.n_new * BLOCK) - (end - self.n_steps);
                self.n_live -= 1;
                self.n_context -= f64::from(asked.n_prompt * BLOCK) + n_sampled;
                self.count.n_wasted += n_sampled;
                self.prefixes.release(&asked.chain);
            }
        }
        self.serve();
        self.next_chunk();
    }
}

#[cfg(test)]
mod tests {
    use super::super::prefix::Span;
    use super::*;

    fn speed() -> Speed {
        Speed {
            step_secs: 0.01,
            secs_per_sequence: 0.0,
            secs_per_context_token: 0.0,
            secs_per_prompt_token: 0.001,
            chunk_tokens: 160,
            max_batch: 2,
            cache_tokens: 16_000,
        }
    }

    fn asked(request: usize, n_prompt: u32, n_new: u32) -> Asked {
        let chain = [Span { path: request as u64, end: n_prompt + n_new }].into();
        Asked { request, chain, n_prompt, n_new }
    }

    /// Who is finished when, seconds.
    fn run(server: &mut Server) -> Vec<(usize, f64)> {
        let mut done = Vec::new();
        while let Some(at) = server.next_at() {
            done.extend(server.finish(at).into_iter().map(|request| (request, at as f64 * 1e-9)));
        }
        done
    }

    #[track_caller]
    fn check(done: &[(usize, f64)], expected: &[(usize, f64)]) {
        assert_eq!(done.len(), expected.len(), "{done:?}");
        for (got, wanted) in done.iter().zip(expected) {
            assert!(got.0 == wanted.0 && (got.1 - wanted.1).abs() < 1e-5, "{done:?} instead of {expected:?}");
        }
    }

    #[test]
    fn a_request_takes_its_prompt_and_a_step_per_token() {
        let mut server = Server::new(speed(), 0);
        // 320 tokens in two chunks of 0.17 s, then 32 steps of 0.01 s.
        server.ask(asked(0, 20, 2), 0);
        check(&run(&mut server), &[(0, 0.34 + 0.32)]);
        assert_eq!((server.count.n_prompt, server.count.n_cached, server.count.n_sampled), (320, 0, 32));
        assert!((server.count.busy_secs - 0.66).abs() < 1e-5 && (server.count.sequence_secs - 0.32).abs() < 1e-5);
    }

    #[test]
    fn a_third_waits_where_two_are_served() {
        let mut server = Server::new(Speed { secs_per_prompt_token: 0.0, ..speed() }, 0);
        (0..3).for_each(|i| server.ask(asked(i, 1, 10), 0));
        // A step reads the first prompt, which found it idle, and the next one the second; the third waits for the first,
        // and its prompt is read in the second's last step.
        check(&run(&mut server), &[(0, 1.61), (1, 1.62), (2, 1.62 + 1.6)]);
    }

    #[test]
    fn live_sequences_go_slower_while_a_prompt_is_read() {
        let mut server = Server::new(speed(), 0);
        server.ask(asked(0, 1, 10), 0);
        // At 0.026 the first prompt is read. The second's 160 tokens take one step of 0.17 s, in which the first gains
        // one token and not 17.
        let mut done = Vec::new();
        let at = server.next_at().unwrap();
        done.extend(server.finish(at));
        assert!(done.is_empty() && at.abs_diff(26_000_000) < 10, "{at}");
        server.ask(asked(1, 10, 20), at);
        check(&run(&mut server), &[(0, 0.026 + 0.17 + 1.59), (1, 0.026 + 0.17 + 3.2)]);
    }

    #[test]
    fn contexts_make_steps_longer() {
        let slow = Speed { secs_per_context_token: 1e-4, secs_per_prompt_token: 0.0, ..speed() };
        let mut server = Server::new(slow, 0);
        server.ask(asked(0, 10, 1), 0);
        // The formula is evaluated when the sequence begins to be sampled: 160 tokens of context.
        check(&run(&mut server), &[(0, 0.01 + 16.0 * (0.01 + 0.016))]);
        assert_eq!(server.n_context, 0.0);
    }

    #[test]
    fn a_dead_one_loses_all_it_did() {
        let mut server = Server::new(Speed { secs_per_prompt_token: 0.0, ..speed() }, 0);
        (0..3).for_each(|i| server.ask(asked(i, 1, 10), 0));
        assert!(server.finish(10_000_000).is_empty() && server.finish(20_000_000).is_empty());
        // Half a second of steps of both, and one before for the first.
        assert_eq!(server.die(520_000_000), [0, 1, 2]);
        assert!((server.count.n_wasted - 101.0).abs() < 1e-3, "{}", server.count.n_wasted);
        assert_eq!((server.n_asked(), server.next_at(), server.count.n_sampled), (0, None, 0));
    }
}
