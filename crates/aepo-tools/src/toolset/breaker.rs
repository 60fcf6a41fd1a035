//! Is it worth asking this provider now? After many failures in a row it is left alone for a while that grows.

use std::time::{Duration, Instant};

/// When a provider is left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerSettings {
    /// Calls in a row that end `Unavailable` before it is left alone; 0 means that it never is.
    pub n_failures: u32,
    /// How long the first time, seconds. Each further time in a row it is twice as long.
    pub first_secs: f64,
    /// How long at most, seconds.
    pub max_secs: f64,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        BreakerSettings { n_failures: 8, first_secs: 1.0, max_secs: 60.0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Calls go through; so many in a row have failed.
    Closed(u32),
    /// No call goes through until then.
    Open(Instant),
    /// One call has gone through, and its end decides.
    Probing,
}

/// What is known of one provider.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Times in a row that it was left alone.
    n_trips: u32,
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Breaker {
        Breaker { settings, state: State::Closed(0), n_trips: 0 }
    }

    /// Whether a call may be made. One that may while the breaker is open is the probe: its end must be told.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed(_) => true,
            State::Open(until) if now >= until => {
                self.state = State::Probing;
                true
            }
            State::Open(_) | State::Probing => false,
        }
    }

    /// Takes note of how a call ended; true when the provider is left alone from now on.
    pub(crate) fn ended(&mut self, available: bool, now: Instant) -> bool {
        if available {
            (self.state, self.n_trips) = (State::Closed(0), 0);
            return false;
        }
        let n_failed = match self.state {
            State::Closed(n) => n.saturating_add(1),
            State::Probing => self.settings.n_failures,
            // A call from before; what it tells is known.
            State::Open(_) => return false,
        };
        if self.settings.n_failures == 0 || n_failed < self.settings.n_failures {
            self.state = State::Closed(n_failed);
            return false;
        }
        let secs = (self.settings.first_secs * 2f64.powi(self.n_trips.min(60) as i32)).min(self.settings.max_secs);
        self.n_trips = self.n_trips.saturating_add(1);
        self.state = State::Open(now + Duration::from_secs_f64(secs));
        true
    }

    /// Whether calls are refused at this moment.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        match self.state {
            State::Closed(_) => false,
            State::Open(until) => now < until,
            State::Probing => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_for_a_time_that_doubles_up_to_a_bound() {
        let mut breaker = Breaker::new(BreakerSettings { n_failures: 3, first_secs: 2.0, max_secs: 5.0 });
        let start = Instant::now();
        let at = |secs: f64| start + Duration::from_secs_f64(secs);
        for (available, trips) in [(false, false), (false, false), (true, false), (false, false), (false, false)] {
            assert!(breaker.admits(start));
            assert_eq!(breaker.ended(available, start), trips);
        }
        assert!(breaker.ended(false, start), "the third in a row");
        assert!(!breaker.ended(false, start), "one that was under way");
        assert!(breaker.is_open(at(1.9)) && !breaker.admits(at(1.9)));
        assert!(breaker.admits(at(2.0)), "the probe");
        assert!(!breaker.admits(at(2.1)), "only one");
        assert!(breaker.ended(false, at(3.0)), "one failure of the probe is enough");
        assert!(!breaker.admits(at(6.9)));
        assert!(breaker.admits(at(7.0)));
        assert!(breaker.ended(false, at(7.0)));
        assert!(!breaker.admits(at(11.9)));
        assert!(breaker.admits(at(12.0)), "5 seconds, not 8");
        assert!(!breaker.ended(true, at(12.0)));
        assert!(breaker.admits(at(12.0)) && breaker.admits(at(12.0)));
        assert!(!breaker.ended(false, at(12.0)), "it counts from the beginning");
    }

    #[test]
    fn without_a_number_it_never_opens() {
        let settings = BreakerSettings { n_failures: 0, ..BreakerSettings::default() };
        let (mut breaker, now) = (Breaker::new(settings), Instant::now());
        assert!((0..1000).all(|_| breaker.admits(now) && !breaker.ended(false, now)));
    }
}
