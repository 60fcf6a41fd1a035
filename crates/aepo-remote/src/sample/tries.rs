//! When is a request tried again, where not, and until when?

use std::time::{Duration, Instant};

use super::route::{Choice, Router};

/// Wait before a request goes on when every replica has failed it once.
const PAUSE: Duration = Duration::from_millis(100);

/// The tries of one request.
#[derive(Clone, Debug)]
pub struct Tries {
    /// The tree that it belongs to.
    pub key: u64,
    /// How often a replica was asked.
    pub n_tries: u32,
    /// Replicas that failed it since all had.
    avoid: Vec<usize>,
    deadline: Instant,
}

impl Tries {
    /// None so far.
    #[must_use]
    pub fn new(key: u64, deadline: Instant) -> Tries {
        Tries { key, n_tries: 0, avoid: Vec::new(), deadline }
    }

    /// What is to be done next; `None` when its time is over.
    pub fn next(&mut self, router: &mut Router, now: Instant) -> Option<Choice> {
        if now >= self.deadline {
            return None;
        }
        let choice = router.choose(self.key, &self.avoid, now);
        self.n_tries += u32::from(matches!(choice, Choice::Send(_)));
        Some(choice)
    }

    /// A replica that it waited for has room and counts it as in flight.
    pub fn granted(&mut self) {
        self.n_tries += 1;
    }

    /// It has waited in the line since then. While somebody takes requests that is nobody's failure, and does not count.
    pub fn waited(&mut self, router: &Router, since: Instant, now: Instant) {
        if router.takes_requests() {
            self.deadline += now.saturating_duration_since(since);
        }
    }

    /// How long it may still take.
    #[must_use]
    pub fn left(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }

    /// A replica failed it; how long to wait before the next try, where every one of `n_replicas` has.
    pub fn failed(&mut self, idx: usize, n_replicas: usize, now: Instant) -> Option<Duration> {
        self.avoid.push(idx);
        if self.avoid.len() < n_replicas {
            return None;
        }
        self.avoid.clear();
        Some(PAUSE.min(self.left(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(n: usize, now: Instant) -> Router {
        let urls: Vec<String> = (0..n).map(|i| format!("r{i}")).collect();
        let mut router = Router::new(&urls, 1, now);
        (0..n).for_each(|idx| router.well(idx));
        router
    }

    #[test]
    fn a_request_avoids_who_failed_it_and_rests_when_all_have() {
        let now = Instant::now();
        let mut router = ready(2, now);
        let mut tries = Tries::new(1, now + Duration::from_secs(1));
        assert_eq!(tries.next(&mut router, now), Some(Choice::Send(0)));
        router.landed(0);
        assert_eq!(tries.failed(0, 2, now), None);
        assert_eq!(tries.next(&mut router, now), Some(Choice::Send(1)));
        assert_eq!(tries.failed(1, 2, now), Some(PAUSE));
        // Nobody is avoided any more; the last rest is no longer than its time.
        assert_eq!(tries.next(&mut router, now), Some(Choice::Send(0)));
        let late = now + Duration::from_millis(990);
        assert_eq!(tries.failed(0, 1, late), Some(Duration::from_millis(10)));
        assert_eq!((tries.n_tries, tries.next(&mut router, now + Duration::from_secs(1))), (3, None));
    }

    #[test]
    fn only_time_in_which_nobody_takes_requests_counts_in_the_line() {
        let now = Instant::now();
        let after = |secs| now + Duration::from_secs(secs);
        let mut router = ready(1, now);
        let mut tries = Tries::new(1, after(10));
        tries.waited(&router, now, after(100));
        assert_eq!(tries.left(after(100)), Duration::from_secs(10));
        router.failed(0, "gone".to_owned(), after(100));
        tries.waited(&router, after(100), after(107));
        assert_eq!(tries.left(after(107)), Duration::from_secs(3));
    }
}
