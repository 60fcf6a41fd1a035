//! When is a request sent? Not faster than a rate, not more often than a budget, and again only after a pause.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// No pause is longer than this unless the server asks for it.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A server that asks for a longer pause is treated as if it asked for this one.
const MAX_RETRY_AFTER_SECS: u64 = 24 * 3600;

/// A bucket of tokens: one per request, filled at a steady rate.
#[derive(Debug)]
pub struct Rate {
    /// Requests per second.
    per_second: f64,
    /// Most requests at one moment.
    burst: f64,
    /// Tokens, below 0 when they are promised to those who sleep; and when that was so.
    state: Mutex<(f64, Instant)>,
}

impl Rate {
    /// `per_second` requests on average, and as many at once as a second gives, but at least one. `None` when
    /// `per_second` is not a positive number.
    #[must_use]
    pub fn new(per_second: f64) -> Option<Rate> {
        if !(per_second.is_finite() && per_second > 0.0) {
            return None;
        }
        let burst = per_second.max(1.0);
        Some(Rate { per_second, burst, state: Mutex::new((burst, Instant::now())) })
    }

    /// Waits for a token; `Err` at once, and without one, when it would come after `deadline`.
    pub(super) fn turn(&self, deadline: Instant) -> Result<(), ()> {
        let now = Instant::now();
        let wait = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let filled = now.saturating_duration_since(state.1).as_secs_f64() * self.per_second;
            let tokens = (state.0 + filled).min(self.burst);
            let wait = ((1.0 - tokens) / self.per_second).max(0.0);
            if wait > deadline.saturating_duration_since(now).as_secs_f64() {
                return Err(());
            }
            *state = (tokens - 1.0, now);
            wait
        };
        std::thread::sleep(Duration::from_secs_f64(wait));
        Ok(())
    }
}

/// How many requests a run may send. Every try counts: a server may bill it.
#[derive(Debug)]
pub struct Budget {
    max_calls: u64,
    n_spent: AtomicU64,
}

impl Budget {
    /// A budget of `max_calls` requests.
    #[must_use]
    pub fn new(max_calls: u64) -> Budget {
        Budget { max_calls, n_spent: AtomicU64::new(0) }
    }

    /// Requests that were sent.
    #[must_use]
    pub fn n_spent(&self) -> u64 {
        self.n_spent.load(Ordering::Relaxed)
    }

    /// Takes one request out; `Err` names the bound when there is none left.
    pub(super) fn spend(&self) -> Result<(), u64> {
        let take = |n| (n < self.max_calls).then_some(n + 1);
        match self.n_spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.max_calls),
        }
    }
}

/// The pause before try `n_failed + 1`: `first · 2^(n_failed - 1)`, at most 30 s, of which a random half is left out so
/// that those who failed together do not come back together.
#[must_use]
pub fn backoff(first: Duration, n_failed: u32) -> Duration {
    let full = first.saturating_mul(2u32.saturating_pow(n_failed.saturating_sub(1))).min(MAX_BACKOFF);
    // Its keys are random; no answer depends on this number.
    let draw = RandomState::new().hash_one(n_failed) as f64 / u64::MAX as f64;
    full.mul_f64(0.5 + 0.5 * draw)
}

/// The pause of a `Retry-After` header, seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(header: &str) -> Option<Duration> {
    let header = header.trim();
    let secs = match header.parse::<u64>() {
        Ok(secs) => secs,
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
            http_date(header)?.saturating_sub(now)
        }
    };
    Some(Duration::from_secs(secs.min(MAX_RETRY_AFTER_SECS)))
}

/// Seconds since 1970 of a date like `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7, the form that must be written).
fn http_date(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, clock, "GMT"] = words[..] else { return None };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|m| *m == month)?;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    let mut parts = clock.split(':').map(|part| part.parse::<u64>().ok().filter(|n| *n < 62));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let leap = |year: u64| u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)));
    let days_before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let of_years: u64 = (1970..year).map(|year| 365 + leap(year)).sum();
    let days = of_years + days_before[month] + if month > 1 { leap(year) } else { 0 } + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_seconds() {
        // The example of RFC 9110, and dates around a leap day, by `date -u -d … +%s`.
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(http_date("Fri, 01 Mar 2024 00:00:00 GMT"), Some(1_709_251_200));
        for bad in [
            "",
            "soon",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 0 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 99999999 08:49:37 GMT",
        ] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO), "it has passed");
        assert_eq!(retry_after("99999999999"), Some(Duration::from_secs(24 * 3600)));
        assert_eq!(retry_after("-1"), None);
    }

    #[test]
    fn pauses_double_and_vary_by_half() {
        for n in 1..70 {
            let full = Duration::from_millis(500).saturating_mul(2u32.saturating_pow(n - 1)).min(MAX_BACKOFF);
            let pause = backoff(Duration::from_millis(500), n);
            assert!(pause >= full / 2 && pause <= full, "{n}: {pause:?}");
        }
    }

    #[test]
    fn a_budget_ends_and_a_rate_refuses_what_comes_too_late() {
        let budget = Budget::new(2);
        assert_eq!([budget.spend(), budget.spend(), budget.spend()], [Ok(()), Ok(()), Err(2)]);
        assert_eq!(budget.n_spent(), 2);
        let rate = Rate::new(0.5).unwrap();
        let soon = Instant::now() + Duration::from_millis(100);
        assert_eq!(rate.turn(soon), Ok(()), "the bucket begins full");
        assert_eq!(rate.turn(soon), Err(()), "the next token comes in two seconds");
        assert_eq!(rate.turn(soon), Err(()), "and refusing costs none");
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Rate::new(bad).is_none());
        }
    }
}
