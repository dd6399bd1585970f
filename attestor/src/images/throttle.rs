//! Keeps hashing to its limits: bytes read in a second, and the share of one processor.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What was not used of the limits within this time may be used up at once: timers are no finer than a millisecond.
const BURST: Duration = Duration::from_millis(50);
/// Longest wait for one piece of work; no limits that may be asked for need as much.
const LONGEST: Duration = Duration::from_secs(600);

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Bytes in a second.
    pub bytes: NonZeroU64,
    /// Share of one processor, above 0 and at most 1.
    pub processor: f64,
}

/// When the next piece of work may begin, whoever does it.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: Limits,
    due: Mutex<Instant>,
}

impl Throttle {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, due: Mutex::new(Instant::now()) }
    }

    /// Bytes that may be read before the next payment: what the limit gives in the time that may be used up at once.
    pub(super) fn at_once(&self) -> u64 {
        let of_second = u128::from(self.limits.bytes.get()).saturating_mul(BURST.as_nanos()) / 1_000_000_000;
        u64::try_from(of_second).unwrap_or(u64::MAX)
    }

    /// Waits until work that took `busy` of a processor and read `bytes` has been paid for.
    pub(super) async fn pay(&self, bytes: u64, busy: Duration) {
        let now = Instant::now();
        let due = self.due(bytes, busy, now);
        if due > now {
            sleep_until(due).await;
        }
    }

    fn due(&self, bytes: u64, busy: Duration, now: Instant) -> Instant {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = (*due).max(earliest) + self.limits.cost(bytes, busy).min(LONGEST);
        *due
    }
}

impl Limits {
    /// The time that a piece of work may not be faster than.
    fn cost(&self, bytes: u64, busy: Duration) -> Duration {
        let nanos = u128::from(bytes).saturating_mul(1_000_000_000) / u128::from(self.bytes.get());
        let by_bytes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        by_bytes.max(busy.div_f64(self.processor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bytes: u64, processor: f64) -> Limits {
        Limits { bytes: NonZeroU64::new(bytes).unwrap(), processor }
    }

    #[test]
    fn the_tighter_limit_counts() {
        let limits = limits(1_000_000, 0.25);
        let cost = |bytes, busy| limits.cost(bytes, Duration::from_millis(busy)).as_millis();
        assert_eq!((cost(500_000, 10), cost(500_000, 200), cost(0, 0)), (500, 800, 0));
    }

    #[test]
    fn a_gibibyte_takes_the_time_that_its_limit_says() {
        let begin = Instant::now();
        let (throttle, mut now) = (Throttle::new(limits(1 << 26, 1.0)), begin);
        for _ in 0..1024 {
            // A millisecond of work, and a timer that is a millisecond late.
            let due = throttle.due(1 << 20, Duration::from_millis(1), now);
            now = due.max(now) + Duration::from_millis(2);
        }
        let took = now.duration_since(begin);
        assert!((Duration::from_millis(15_900)..Duration::from_millis(16_100)).contains(&took), "{took:?}");
    }

    #[test]
    fn no_more_is_read_at_once_than_a_pause_of_a_moment_pays_for() {
        assert_eq!(Throttle::new(limits(100_000_000, 1.0)).at_once(), 5_000_000);
        assert_eq!(Throttle::new(limits(1, 1.0)).at_once(), 0, "one piece");
        assert!(Throttle::new(limits(u64::MAX, 1.0)).at_once() > u64::MAX / 21);
    }

    #[test]
    fn idle_time_is_no_credit() {
        let throttle = Throttle::new(limits(1000, 1.0));
        let later = Instant::now() + Duration::from_secs(3600);
        let due = throttle.due(10_000, Duration::ZERO, later);
        assert!(due.duration_since(later) >= Duration::from_secs(9));
        assert!(
            throttle.due(u64::MAX, Duration::ZERO, later) <= due + LONGEST,
            "a wait of any length is no overflow"
        );
    }
}
