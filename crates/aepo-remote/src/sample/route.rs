//! Which replica is asked? The one that holds the path's prefix; of the others the least busy; one that failed only
//! after a pause, and then one request looks first.
//!
//! A tree's requests share their prefix, so the tree has a home: the replica that its first request went to. Forks are
//! paths of the same tree and go there too. A tree moves when its home fails, and pays its prefix once; where its home
//! has no room, a request goes elsewhere and the tree stays. Where nobody has room it waits in `line`. While a home gets
//! other weights its trees wait for it, as all replicas do that at once: the first to have them would else become the
//! home of all.
//!
//! Nothing here reads a clock or waits, so a simulation drives it as well as servers do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::line::Line;
pub use super::line::Ticket;

/// Wait after a first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// No wait is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What a replica is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes requests.
    Ready,
    /// Somebody looks after it: whether it is well, and whether its weights are the right ones.
    Looking,
    /// It was ready and gets other weights.
    Updating,
    /// It failed; it is looked after again from then on.
    Down(Instant),
}

/// One replica.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its address.
    pub url: String,
    /// What it is good for.
    pub health: Health,
    /// Requests in flight.
    pub n_in_flight: usize,
    /// Failures since it last answered.
    pub n_failures: u32,
    /// What it failed by last.
    pub cause: Option<String>,
    /// Requests that it answered.
    pub n_answers: u64,
    /// Trees that live there.
    n_homes: usize,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// To this one, which counts it as in flight.
    Send(usize),
    /// Nowhere yet: the caller has this one looked after.
    LookAfter(usize),
    /// Nowhere before something changes, or this time: the caller joins the line.
    Wait(Option<Instant>),
}

/// All replicas, and where trees live.
#[derive(Clone, Debug)]
pub struct Router {
    /// In the order of the settings.
    pub replicas: Vec<Replica>,
    homes: HashMap<u64, usize>,
    line: Line,
    max_in_flight: usize,
}

impl Router {
    /// None of them is known to be well.
    #[must_use]
    pub fn new(urls: &[String], max_in_flight: usize, now: Instant) -> Router {
        let replica = |url: &String| Replica {
            url: url.clone(),
            health: Health::Down(now),
            n_in_flight: 0,
            n_failures: 0,
            cause: None,
            n_answers: 0,
            n_homes: 0,
        };
        let replicas = urls.iter().map(replica).collect();
        let line = Line::new(urls.len());
        Router { replicas, homes: HashMap::new(), line, max_in_flight: max_in_flight.max(1) }
    }

    /// Where a request of the tree `key` goes that has failed at those to `avoid`.
    pub fn choose(&mut self, key: u64, avoid: &[usize], now: Instant) -> Choice {
        let due = |r: &Replica| matches!(r.health, Health::Down(until) if until <= now);
        if let Some(idx) = self.replicas.iter().position(due) {
            self.replicas[idx].health = Health::Looking;
            return Choice::LookAfter(idx);
        }
        let home = self.homes.get(&key).copied();
        let updates = home.is_some_and(|home| self.replicas[home].health == Health::Updating && !avoid.contains(&home));
        let open = |&idx: &usize| !updates && self.has_room(idx);
        let other = || {
            let all = (0..self.replicas.len()).filter(open);
            // One that failed this request before is better than none.
            let busy = |idx: usize| (self.replicas[idx].n_in_flight, self.replicas[idx].n_homes);
            all.min_by_key(|&idx| (avoid.contains(&idx), busy(idx), idx))
        };
        let chosen = home.filter(|h| open(h) && !avoid.contains(h)).or_else(other);
        let Some(idx) = chosen else {
            let due_at = |r: &Replica| if let Health::Down(until) = r.health { Some(until) } else { None };
            return Choice::Wait(self.replicas.iter().filter_map(due_at).min());
        };
        self.send(key, idx);
        Choice::Send(idx)
    }

    /// Whether a replica takes one more request.
    #[must_use]
    pub fn has_room(&self, idx: usize) -> bool {
        let replica = &self.replicas[idx];
        replica.health == Health::Ready && replica.n_in_flight < self.max_in_flight
    }

    /// Where a tree lives, if it is well there or will be at once.
    fn well_home(&self, key: u64) -> Option<usize> {
        let stays = |&home: &usize| matches!(self.replicas[home].health, Health::Ready | Health::Updating);
        self.homes.get(&key).copied().filter(stays)
    }

    /// A request goes to a replica, and a tree without a home that is well makes it its own.
    fn send(&mut self, key: u64, idx: usize) {
        if self.well_home(key).is_none() {
            self.line.moves(key, self.homes.get(&key).copied(), idx);
            self.forget(key);
            self.homes.insert(key, idx);
            self.replicas[idx].n_homes += 1;
        }
        self.replicas[idx].n_in_flight += 1;
    }

    /// A request for which nobody has room joins the line, at the place that it had before if it has waited.
    pub fn join(&mut self, key: u64, before: Option<Ticket>) -> Ticket {
        let home = self.well_home(key);
        self.line.join(key, home, before)
    }

    /// A request waits no longer; false where it did not, because it was granted room.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        let home = self.line.key(ticket).and_then(|key| self.homes.get(&key).copied());
        self.line.leave(ticket, home).is_some()
    }

    /// Who of the line gets room at a replica, where there is any; it is counted as in flight there. To be asked until
    /// nobody does: of a replica where a request has landed or that is well. Where one is found unwell, who waited for it
    /// asks again, or all others are asked for room.
    pub fn grant(&mut self, idx: usize) -> Option<Ticket> {
        if !self.has_room(idx) {
            return None;
        }
        let ticket = self.line.next(idx, |home| self.replicas[home].health == Health::Updating)?;
        let home = self.line.key(ticket).and_then(|key| self.homes.get(&key).copied());
        let key = self.line.leave(ticket, home)?;
        self.send(key, idx);
        Some(ticket)
    }

    /// How many wait in the line.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        self.line.len()
    }

    /// Whether somebody takes requests, with or without room.
    #[must_use]
    pub fn takes_requests(&self) -> bool {
        self.replicas.iter().any(|replica| replica.health == Health::Ready)
    }

    /// Other weights are in force: no replica takes requests before it is looked after. Those that nobody looks after
    /// yet, which is for the caller to do; one that somebody looks after gets the new weights from that.
    pub fn look_at_all(&mut self) -> Vec<usize> {
        let idle = |idx: &usize| matches!(self.replicas[*idx].health, Health::Ready | Health::Down(_));
        let first: Vec<usize> = (0..self.replicas.len()).filter(idle).collect();
        for &idx in &first {
            let health = &mut self.replicas[idx].health;
            *health = if *health == Health::Ready { Health::Updating } else { Health::Looking };
        }
        first
    }

    /// A request is no longer in flight, however it ended.
    pub fn landed(&mut self, idx: usize) {
        self.replicas[idx].n_in_flight -= 1;
    }

    /// A request was answered.
    pub fn answered(&mut self, idx: usize) {
        let replica = &mut self.replicas[idx];
        replica.n_failures = 0;
        replica.n_answers += 1;
    }

    /// A request failed there. Many that were in flight together fail as one, and one that fails while somebody looks
    /// after the replica tells nothing new.
    pub fn failed(&mut self, idx: usize, cause: String, now: Instant) {
        self.down(idx, &[Health::Ready], cause, now);
    }

    /// Looking after it failed.
    pub fn unwell(&mut self, idx: usize, cause: String, now: Instant) {
        self.down(idx, &[Health::Looking, Health::Updating], cause, now);
    }

    fn down(&mut self, idx: usize, from: &[Health], cause: String, now: Instant) {
        let replica = &mut self.replicas[idx];
        let pause = FIRST_PAUSE.saturating_mul(1 << replica.n_failures.min(10)).min(LONGEST_PAUSE);
        replica.cause = Some(cause);
        if from.contains(&replica.health) {
            replica.n_failures += 1;
            replica.health = Health::Down(now + pause);
            self.line.evict(idx);
        }
    }

    /// It is well and has the weights that it should.
    pub fn well(&mut self, idx: usize) {
        self.replicas[idx].health = Health::Ready;
    }

    /// Its weights are not the right ones: it is looked after before it is asked again.
    pub fn outdated(&mut self, idx: usize, cause: String, now: Instant) {
        let replica = &mut self.replicas[idx];
        replica.cause = Some(cause);
        if replica.health == Health::Ready {
            replica.health = Health::Down(now);
            self.line.evict(idx);
        }
    }

    /// A tree is over.
    pub fn forget(&mut self, key: u64) {
        if let Some(idx) = self.homes.remove(&key) {
            self.replicas[idx].n_homes -= 1;
        }
    }

    /// What happened to each, for an error.
    #[must_use]
    pub fn causes(&self) -> String {
        let of = |r: &Replica| {
            let cause = r.cause.as_deref().unwrap_or("no failure, but no room");
            format!("{}: {cause} ({} failures in a row)", r.url, r.n_failures)
        };
        self.replicas.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(n: usize, max_in_flight: usize, now: Instant) -> Router {
        let urls: Vec<String> = (0..n).map(|i| format!("r{i}")).collect();
        let mut router = Router::new(&urls, max_in_flight, now);
        (0..n).for_each(|idx| router.well(idx));
        router
    }

    #[test]
    fn a_tree_stays_at_home_and_new_trees_go_where_least_is_in_flight() {
        let now = Instant::now();
        let mut router = ready(3, 100, now);
        for _ in 0..4 {
            assert_eq!(router.choose(7, &[], now), Choice::Send(0));
        }
        assert_eq!(router.choose(8, &[], now), Choice::Send(1));
        assert_eq!(router.choose(9, &[], now), Choice::Send(2));
        // All is quiet again: the tree of 7 goes home, and a new one to a replica with fewer trees.
        (0..4).for_each(|_| router.landed(0));
        router.landed(1);
        router.forget(8);
        assert_eq!(router.choose(7, &[], now), Choice::Send(0));
        assert_eq!(router.choose(10, &[], now), Choice::Send(1));
    }

    #[test]
    fn without_room_at_home_a_request_goes_elsewhere_and_the_tree_stays() {
        let now = Instant::now();
        let mut router = ready(2, 2, now);
        assert_eq!([0; 3].map(|_| router.choose(1, &[], now)), [Choice::Send(0), Choice::Send(0), Choice::Send(1)]);
        router.landed(0);
        assert_eq!(router.choose(1, &[], now), Choice::Send(0));
        assert_eq!(router.choose(1, &[], now), Choice::Send(1));
        assert_eq!(router.choose(1, &[], now), Choice::Wait(None));
    }

    #[test]
    fn a_failed_replica_is_left_alone_and_then_looked_after_by_one() {
        let now = Instant::now();
        let mut router = ready(2, 10, now);
        assert_eq!(router.choose(1, &[], now), Choice::Send(0));
        router.landed(0);
        router.failed(0, "gone".to_owned(), now);
        // Its tree moves and stays where it went.
        assert_eq!(router.choose(1, &[0], now), Choice::Send(1));
        let later = now + FIRST_PAUSE;
        assert_eq!(router.choose(2, &[], later), Choice::LookAfter(0));
        assert_eq!(router.choose(2, &[], later), Choice::Send(1));
        // Still not well: the pause doubles, and failures that come late do not lengthen it.
        router.unwell(0, "still gone".to_owned(), later);
        router.failed(0, "late news".to_owned(), later);
        assert_eq!(router.replicas[0].health, Health::Down(later + 2 * FIRST_PAUSE));
        assert_eq!(router.choose(2, &[], later + 2 * FIRST_PAUSE), Choice::LookAfter(0));
        router.well(0);
        assert_eq!(router.choose(1, &[], later), Choice::Send(1), "it does not move back");
        assert!(router.causes().contains("r0: late news (2 failures in a row)"), "{}", router.causes());
    }

    #[test]
    fn where_all_are_down_a_request_waits_for_the_first() {
        let now = Instant::now();
        let mut router = ready(2, 10, now);
        router.failed(1, "gone".to_owned(), now);
        router.failed(0, "gone".to_owned(), now + FIRST_PAUSE / 2);
        assert_eq!(router.choose(1, &[], now), Choice::Wait(Some(now + FIRST_PAUSE)));
        // Outdated weights are seen to at once.
        router.well(0);
        router.outdated(0, "old".to_owned(), now);
        assert_eq!(router.choose(1, &[], now), Choice::LookAfter(0));
    }

    #[test]
    fn room_goes_to_those_at_home_then_to_new_trees_then_to_anybody() {
        let now = Instant::now();
        let mut router = ready(2, 1, now);
        assert_eq!([1, 2].map(|key| router.choose(key, &[], now)), [Choice::Send(0), Choice::Send(1)]);
        assert_eq!(router.choose(3, &[], now), Choice::Wait(None));
        let [other, new, sibling, own] = [2, 3, 3, 1].map(|key| router.join(key, None));
        assert_eq!((router.grant(0), router.n_waiting()), (None, 4), "there is no room");
        let next = |router: &mut Router| {
            router.landed(0);
            router.grant(0)
        };
        assert_eq!(next(&mut router), Some(own));
        // The new tree finds its home, and its other request lives there from now on.
        assert_eq!(next(&mut router), Some(new));
        assert_eq!(next(&mut router), Some(sibling));
        // Nobody else waits: the tree of 2 does not move, but nothing idles.
        assert_eq!(next(&mut router), Some(other));
        assert_eq!(next(&mut router), None);
        assert_eq!(router.choose(3, &[], now), Choice::Send(0));
        router.landed(1);
        assert_eq!(router.choose(2, &[], now), Choice::Send(1));
    }

    #[test]
    fn whoever_waits_for_a_replica_that_fails_is_next_elsewhere_and_keeps_its_place() {
        let now = Instant::now();
        let mut router = ready(2, 1, now);
        assert_eq!([1, 2].map(|key| router.choose(key, &[], now)), [Choice::Send(0), Choice::Send(1)]);
        let (first, second) = (router.join(1, None), router.join(9, None));
        router.landed(0);
        router.failed(0, "gone".to_owned(), now);
        assert_eq!(router.grant(0), None, "it is down");
        // Somebody who looks after the replica leaves the line and joins it again.
        assert!(router.leave(first));
        assert_eq!(router.join(1, Some(first)), first);
        router.landed(1);
        assert_eq!(router.grant(1), Some(first));
        assert!(!router.leave(first), "it was granted room");
        assert!(router.leave(second) && router.n_waiting() == 0);
        // Its tree lives there now.
        router.landed(1);
        router.well(0);
        assert_eq!(router.choose(1, &[], now), Choice::Send(1));
    }

    #[test]
    fn other_weights_are_looked_after_at_every_replica() {
        let now = Instant::now();
        let mut router = ready(3, 1, now);
        router.failed(1, "gone".to_owned(), now);
        assert_eq!(router.choose(1, &[], now + FIRST_PAUSE), Choice::LookAfter(1));
        assert_eq!(router.look_at_all(), [0, 2], "1 is looked after already");
        assert_eq!(router.choose(1, &[], now), Choice::Wait(None));
        let ticket = router.join(1, None);
        router.well(2);
        assert_eq!(router.grant(2), Some(ticket));
    }

    #[test]
    fn trees_wait_for_a_home_that_gets_other_weights_and_move_where_it_fails() {
        let now = Instant::now();
        let mut router = ready(3, 4, now);
        assert_eq!([0, 1, 2].map(|key| router.choose(key, &[], now)), [0, 1, 2].map(Choice::Send));
        (0..3).for_each(|idx| router.landed(idx));
        assert_eq!(router.look_at_all(), [0, 1, 2]);
        assert_eq!(router.look_at_all(), [0; 0], "they get the last weights from who looks after them");
        let [at_0, at_1] = [0, 1].map(|key| router.join(key, None));
        router.well(2);
        assert_eq!((router.grant(2), router.choose(1, &[], now)), (None, Choice::Wait(None)));
        router.well(0);
        assert_eq!((router.grant(0), router.grant(0)), (Some(at_0), None));
        router.unwell(1, "no such file".to_owned(), now);
        assert_eq!((router.grant(2), router.n_waiting()), (Some(at_1), 0));
        assert_eq!(router.choose(1, &[], now + FIRST_PAUSE), Choice::LookAfter(1));
        assert_eq!(router.choose(1, &[], now), Choice::Send(2), "the tree lives there now");
    }
}
