//! What happens next? One heap of events on a clock of its own, between the real router and servers that are formulas.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use aepo::policy::PolicyVersion;
use aepo::seed::Seed;
use aepo_remote::sample::route::{Choice, Health, Router, Ticket};
use aepo_remote::sample::tries::Tries;

use super::assumed;
use super::prefix::{Chain, Span};
use super::server::{Asked, BLOCK, Server, Speed};

/// Who chooses a replica. All of them take the router's word for who is well and who has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Routing {
    /// The router, as samplers use it.
    Home,
    /// The router, but whoever has waited longest is next at any replica.
    Fifo,
    /// Least in flight.
    LeastBusy,
    /// One after the other.
    RoundRobin,
    /// Drawn.
    Random,
}

impl Routing {
    /// As rows write it.
    pub fn name(self) -> &'static str {
        match self {
            Routing::Home => "ours",
            Routing::Fifo => "ours, one line for all",
            Routing::LeastBusy => "least busy",
            Routing::RoundRobin => "round robin",
            Routing::Random => "random",
        }
    }
}

/// Other weights, in the middle of a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// When, seconds.
    pub at_secs: f64,
    /// Bytes.
    pub bytes: f64,
    /// Whether they are a whole model, for which a replica finishes what it has begun.
    pub whole: bool,
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Who chooses.
    pub routing: Routing,
    /// Replicas, all alike.
    pub n_replicas: usize,
    /// How fast they are.
    pub speed: Speed,
    /// Requests in flight at one, at most.
    pub max_in_flight: usize,
    /// All tries of a request, seconds, and one.
    pub deadline_secs: f64,
    /// See there.
    pub try_secs: f64,
    /// What reading a token's answer takes, seconds, and how many answers are read at once; 0 for no time.
    pub read_secs_per_token: f64,
    /// See there.
    pub n_readers: usize,
    /// Replicas that die: which, when, and when they are back, seconds.
    pub deaths: Vec<(usize, f64, f64)>,
    /// Other weights.
    pub updates: Vec<Update>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The sampler's path.
    pub path: u64,
    /// Weights that it is sampled by.
    pub version: PolicyVersion,
    chain: Chain,
    n_prompt: u32,
    n_new: u32,
    tries: Tries,
    /// Names its try among all tries of all requests.
    number: u64,
    since: u64,
    line_ns: u64,
    /// The place in line, and since when.
    waits: Option<(Ticket, u64)>,
    replica: usize,
    is_finished: bool,
}

/// What may happen. A try is named by its request and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A replica's state changes, unless it has done so since.
    Server(usize, u64),
    /// An answer has been read.
    Answer(usize, u64),
    /// A connection is found broken.
    Broken(usize, u64),
    /// A try has taken too long.
    Late(usize, u64),
    /// A request goes on after a pause.
    Again(usize),
    /// A tool answers.
    Tool(u64),
    /// Somebody may look after a replica.
    Due,
    /// Somebody has looked after it, by the weights of then.
    Looked(usize, u64),
    Dies(usize),
    IsBack(usize),
    Update(usize),
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Of each request, milliseconds from asking to the answer, and of these in the line.
    pub request_ms: Vec<u32>,
    /// See there.
    pub line_ms: Vec<u32>,
    /// Tries that gave nothing.
    pub n_failed_tries: u64,
    /// Tokens of answers.
    pub n_answered: u64,
    /// When replicas were well again: since the death or the update, seconds.
    pub well_secs: Vec<f64>,
    /// Seconds that readers of answers worked.
    pub read_secs: f64,
    /// Most requests that waited.
    pub n_waiting_max: usize,
    /// Tokens of answers in each [`TICK_SECS`].
    pub by_time: Vec<u64>,
}

/// Seconds over which a rate is told.
pub const TICK_SECS: f64 = 5.0;

/// Everything but the driver.
pub struct World {
    fleet: Fleet,
    origin: Instant,
    /// Nanoseconds.
    pub now: u64,
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    n_events: u64,
    router: Router,
    /// The replicas.
    pub servers: Vec<Server>,
    generations: Vec<u64>,
    is_up: Vec<bool>,
    /// Weights that it has.
    has: Vec<u64>,
    /// Since when it is missed.
    missed: Vec<Option<u64>>,
    /// A look that waits for the last request in flight.
    waits_for_quiet: Vec<bool>,
    requests: Vec<Option<Request>>,
    free: Vec<usize>,
    tickets: BTreeMap<Ticket, usize>,
    /// The line of [`Routing::Fifo`].
    line: VecDeque<usize>,
    n_requests: u64,
    n_tries: u64,
    readers: Vec<u64>,
    /// Weights in force.
    pub version: PolicyVersion,
    update: Option<Update>,
    /// Requests that were answered, and calls.
    pub answered: Vec<Request>,
    /// See there.
    pub called: Vec<u64>,
    /// What a request could not be given.
    pub failed: Option<String>,
    /// What was counted.
    pub tally: Tally,
    seed: Seed,
}

/// Nanoseconds.
pub fn nanos(secs: f64) -> u64 {
    (secs * 1e9) as u64
}

impl World {
    /// Everything is well and nothing has been asked.
    pub fn new(fleet: Fleet, seed: Seed) -> World {
        let n = fleet.n_replicas;
        let urls: Vec<String> = (0..n).map(|i| format!("replica {i}")).collect();
        let origin = Instant::now();
        let mut router = Router::new(&urls, fleet.max_in_flight, origin);
        (0..n).for_each(|idx| router.well(idx));
        let mut world = World {
            origin,
            now: 0,
            heap: BinaryHeap::new(),
            n_events: 0,
            router,
            servers: vec![Server::new(fleet.speed, 0); n],
            generations: vec![0; n],
            is_up: vec![true; n],
            has: vec![0; n],
            missed: vec![None; n],
            waits_for_quiet: vec![false; n],
            requests: Vec::new(),
            free: Vec::new(),
            tickets: BTreeMap::new(),
            line: VecDeque::new(),
            n_requests: 0,
            n_tries: 0,
            readers: vec![0; fleet.n_readers.max(1)],
            version: PolicyVersion(0),
            update: None,
            answered: Vec::new(),
            called: Vec::new(),
            failed: None,
            tally: Tally::default(),
            seed,
            fleet,
        };
        for (idx, dies, is_back) in world.fleet.deaths.clone() {
            world.put(nanos(dies), Event::Dies(idx));
            world.put(nanos(is_back), Event::IsBack(idx));
        }
        for i in 0..world.fleet.updates.len() {
            world.put(nanos(world.fleet.updates[i].at_secs), Event::Update(i));
        }
        world
    }

    fn put(&mut self, at: u64, event: Event) {
        self.n_events += 1;
        self.heap.push(Reverse((at, self.n_events, event)));
    }

    fn instant(&self) -> Instant {
        self.origin + Duration::from_nanos(self.now)
    }

    /// A call that is answered after so long.
    pub fn call(&mut self, call: u64, secs: f64) {
        self.put(self.now + nanos(secs), Event::Tool(call));
    }

    /// A tree is over.
    pub fn forget(&mut self, tree: u64) {
        self.router.forget(tree);
    }

    /// Asks for more of a path.
    pub fn ask(&mut self, path: u64, tree: u64, chain: Chain, n_prompt: u32, n_new: u32) {
        let number = self.n_requests;
        self.n_requests += 1;
        let n = self.fleet.n_replicas;
        // A key that no other request has keeps no home.
        let alone = (1 << 63) | number;
        let (key, only) = match self.fleet.routing {
            Routing::Home | Routing::Fifo => (tree, None),
            Routing::LeastBusy => (alone, None),
            Routing::RoundRobin => (alone, Some((number % n as u64) as usize)),
            Routing::Random => (alone, Some((self.seed.uniform(number) * n as f64) as usize)),
        };
        let mut tries = Tries::new(key, self.instant() + Duration::from_secs_f64(self.fleet.deadline_secs));
        if let Some(only) = only {
            // All others are avoided, as though they had failed it.
            let now = self.instant();
            (0..n).filter(|&idx| idx != only).for_each(|idx| _ = tries.failed(idx, n, now));
        }
        let request = Request {
            path,
            version: self.version,
            chain,
            n_prompt,
            n_new,
            tries,
            number: 0,
            since: self.now,
            line_ns: 0,
            waits: None,
            replica: 0,
            is_finished: false,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.requests[id] = Some(request);
                id
            }
            None => {
                self.requests.push(Some(request));
                self.requests.len() - 1
            }
        };
        self.go_on(id);
    }

    /// Asks the router until it sends a request, or lets it wait.
    fn go_on(&mut self, id: usize) {
        loop {
            let now = self.instant();
            let Some(request) = &mut self.requests[id] else { return };
            match request.tries.next(&mut self.router, now) {
                None => {
                    let causes = self.router.causes();
                    self.failed.get_or_insert(format!("no replica answered in time. {causes}"));
                    return;
                }
                Some(Choice::LookAfter(idx)) => self.look(idx),
                Some(Choice::Wait(_)) => {
                    let since = self.now;
                    if self.fleet.routing == Routing::Fifo {
                        request.waits = Some((Ticket(0), since));
                        self.line.push_back(id);
                    } else {
                        let before = request.waits.map(|(ticket, _)| ticket);
                        let ticket = self.router.join(request.tries.key, before);
                        request.waits = Some((ticket, since));
                        self.tickets.insert(ticket, id);
                    }
                    let n_waiting = self.tickets.len() + self.line.len();
                    self.tally.n_waiting_max = self.tally.n_waiting_max.max(n_waiting);
                    return;
                }
                Some(Choice::Send(idx)) => return self.send(id, idx),
            }
        }
    }

    fn send(&mut self, id: usize, idx: usize) {
        let now = self.now;
        self.n_tries += 1;
        let number = self.n_tries;
        let Some(request) = &mut self.requests[id] else { return };
        (request.replica, request.version, request.number) = (idx, self.version, number);
        if !self.is_up[idx] {
            return self.put(now + nanos(assumed::ROUND_TRIP_SECS), Event::Broken(id, number));
        }
        // What other weights computed is another prefix.
        let by_version = |span: &Span| Span { path: span.path + (self.version.0 << 48), ..*span };
        let chain = match self.version.0 {
            0 => request.chain.clone(),
            _ => request.chain.iter().map(by_version).collect(),
        };
        let (n_prompt, n_new) = (request.n_prompt, request.n_new);
        self.servers[idx].ask(Asked { request: id, chain, n_prompt, n_new }, now);
        self.schedule(idx);
        if self.servers[idx].n_asked() > self.fleet.speed.max_batch {
            // Only where it queues can it be late.
            self.put(now + nanos(self.fleet.try_secs), Event::Late(id, number));
        }
    }

    fn schedule(&mut self, idx: usize) {
        self.generations[idx] += 1;
        if let Some(at) = self.servers[idx].next_at() {
            self.put(at.max(self.now), Event::Server(idx, self.generations[idx]));
        }
    }

    /// Nothing of a request is at its replica any more: others may have its room.
    fn lands(&mut self, idx: usize) {
        self.router.landed(idx);
        self.grant(idx);
        if self.waits_for_quiet[idx] && self.router.replicas[idx].n_in_flight == 0 {
            self.waits_for_quiet[idx] = false;
            self.load(idx);
        }
    }

    /// Room at a replica goes to those who wait.
    fn grant(&mut self, idx: usize) {
        while let Some(&id) = self.line.front()
            && self.has_room()
        {
            self.line.pop_front();
            self.stops_waiting(id);
            self.go_on(id);
        }
        while let Some(ticket) = self.router.grant(idx) {
            let Some(id) = self.tickets.remove(&ticket) else { return self.router.landed(idx) };
            self.stops_waiting(id);
            if let Some(request) = &mut self.requests[id] {
                request.tries.granted();
            }
            self.send(id, idx);
        }
    }

    fn has_room(&self) -> bool {
        (0..self.fleet.n_replicas).any(|idx| self.router.has_room(idx))
    }

    fn stops_waiting(&mut self, id: usize) {
        let (now, instant) = (self.now, self.instant());
        if let Some(request) = &mut self.requests[id]
            && let Some((_, since)) = &mut request.waits
        {
            let since = std::mem::replace(since, now);
            request.line_ns += now - since;
            request.tries.waited(&self.router, self.origin + Duration::from_nanos(since), instant);
        }
    }

    /// A try gave nothing.
    fn fails(&mut self, id: usize, why: &str) {
        let Some(idx) = self.requests[id].as_ref().map(|request| request.replica) else { return };
        self.lands(idx);
        let now = self.instant();
        self.router.failed(idx, why.to_owned(), now);
        self.note_due(idx);
        self.tally.n_failed_tries += 1;
        let Some(request) = &mut self.requests[id] else { return };
        request.waits = None;
        match request.tries.failed(idx, self.fleet.n_replicas, now) {
            Some(pause) => self.put(self.now + pause.as_nanos() as u64, Event::Again(id)),
            None => self.go_on(id),
        }
    }

    /// Somebody thinks of a replica that is down when it may be looked after.
    fn note_due(&mut self, idx: usize) {
        if let Health::Down(until) = self.router.replicas[idx].health {
            let at = until.saturating_duration_since(self.origin).as_nanos() as u64;
            self.put(at.max(self.now), Event::Due);
        }
    }

    /// Looks after a replica: whether it is there, and that it has the weights.
    fn look(&mut self, idx: usize) {
        let is_whole = self.update.is_some_and(|update| update.whole);
        let must_load = self.has[idx] != self.version.0;
        if self.is_up[idx] && must_load && is_whole && self.router.replicas[idx].n_in_flight > 0 {
            self.waits_for_quiet[idx] = true;
        } else {
            self.load(idx);
        }
    }

    fn load(&mut self, idx: usize) {
        let bytes = self.update.filter(|_| self.has[idx] != self.version.0).map_or(0.0, |update| update.bytes);
        let secs = if self.is_up[idx] { assumed::LOOK_SECS + load_secs(bytes, self.fleet.n_replicas) } else { 0.0 };
        self.put(self.now + nanos(assumed::ROUND_TRIP_SECS + secs), Event::Looked(idx, self.version.0));
    }

    fn looked(&mut self, idx: usize, version: u64) {
        if !self.is_up[idx] {
            self.router.unwell(idx, "connection refused".to_owned(), self.instant());
            // Whoever waited for it goes where there is room.
            (0..self.fleet.n_replicas).for_each(|other| self.grant(other));
            return self.note_due(idx);
        }
        self.has[idx] = version;
        if version != self.version.0 {
            return self.look(idx);
        }
        self.router.well(idx);
        if let Some(since) = self.missed[idx].take() {
            self.tally.well_secs.push((self.now - since) as f64 * 1e-9);
        }
        self.grant(idx);
    }

    /// Whether `number` is the try that a request waits for.
    fn is_current(&self, id: usize, number: u64) -> bool {
        self.requests[id].as_ref().is_some_and(|request| request.number == number)
    }

    /// The next event; false when there is none.
    pub fn step(&mut self) -> bool {
        let Some(Reverse((at, _, event))) = self.heap.pop() else { return false };
        self.now = at;
        match event {
            Event::Server(idx, generation) if generation == self.generations[idx] => {
                for id in self.servers[idx].finish(at) {
                    self.finishes(id);
                }
                self.schedule(idx);
            }
            Event::Server(..) => {}
            Event::Answer(id, number) if self.is_current(id, number) => self.answers(id),
            Event::Broken(id, number) if self.is_current(id, number) => self.fails(id, "connection broken"),
            Event::Late(id, number) if self.is_current(id, number) => {
                let late = self.requests[id].as_ref().filter(|request| !request.is_finished);
                if let Some(idx) = late.map(|request| request.replica) {
                    self.servers[idx].cancel(id, at);
                    self.schedule(idx);
                    self.fails(id, "no answer in time");
                }
            }
            Event::Answer(..) | Event::Broken(..) | Event::Late(..) => {}
            Event::Again(id) => self.go_on(id),
            Event::Tool(call) => self.called.push(call),
            Event::Due => {
                // Whoever waits asks the router again and keeps the place.
                let first = self.tickets.pop_first().map(|(ticket, id)| (self.router.leave(ticket), id).1);
                if let Some(id) = first.or_else(|| self.line.pop_front()) {
                    self.stops_waiting(id);
                    self.go_on(id);
                }
            }
            Event::Looked(idx, version) => self.looked(idx, version),
            Event::Dies(idx) => {
                self.is_up[idx] = false;
                self.has[idx] = 0;
                self.missed[idx] = Some(at);
                for id in self.servers[idx].die(at) {
                    let number = self.requests[id].as_ref().map_or(0, |request| request.number);
                    self.put(at + nanos(assumed::ROUND_TRIP_SECS), Event::Broken(id, number));
                }
                self.schedule(idx);
            }
            Event::IsBack(idx) => self.is_up[idx] = true,
            Event::Update(i) => {
                self.update = Some(self.fleet.updates[i]);
                self.version.0 += 1;
                for idx in self.router.look_at_all() {
                    self.missed[idx] = Some(at);
                    self.look(idx);
                }
            }
        }
        true
    }

    /// A replica is done with a request; somebody reads the answer.
    fn finishes(&mut self, id: usize) {
        let Some(request) = &mut self.requests[id] else { return };
        request.is_finished = true;
        let (number, n_tokens) = (request.number, request.n_new * BLOCK);
        let secs = self.fleet.read_secs_per_token * f64::from(n_tokens);
        self.tally.read_secs += secs;
        let there = self.now + nanos(assumed::ROUND_TRIP_SECS);
        let mut at = there;
        if let Some(reader) = self.readers.iter_mut().min() {
            at = there.max(*reader) + nanos(secs);
            *reader = at;
        }
        self.put(at, Event::Answer(id, number));
    }

    fn answers(&mut self, id: usize) {
        let Some(request) = self.requests[id].take() else { return };
        self.free.push(id);
        let idx = request.replica;
        self.lands(idx);
        self.router.answered(idx);
        if !matches!(self.fleet.routing, Routing::Home | Routing::Fifo) {
            self.router.forget(request.tries.key);
        }
        let ms = |ns: u64| (ns / 1_000_000) as u32;
        self.tally.request_ms.push(ms(self.now - request.since));
        self.tally.line_ms.push(ms(request.line_ns));
        let n_tokens = u64::from(request.n_new * BLOCK);
        self.tally.n_answered += n_tokens;
        let tick = (self.now as f64 * 1e-9 / TICK_SECS) as usize;
        self.tally.by_time.resize(self.tally.by_time.len().max(tick + 1), 0);
        self.tally.by_time[tick] += n_tokens;
        self.answered.push(request);
    }
}

/// What a replica takes to get so many bytes from the store, while all do, and to put them into place, seconds.
pub fn load_secs(bytes: f64, n_replicas: usize) -> f64 {
    let rate = assumed::NIC_BYTES_PER_SEC.min(assumed::STORE_BYTES_PER_SEC / n_replicas as f64);
    bytes / rate + bytes / assumed::APPLY_BYTES_PER_SEC
}
