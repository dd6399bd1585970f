//! When to come back: pure schedules, used by both ends. Jitter comes in as a random byte.
//!
//! What this module does not promise: it does not know whether anybody answers. A renewal that fails
//! is tried again after [`Backoff::delay`]; the certificate lives on meanwhile.

use std::time::Duration;

use crate::time::{UnixTime, Validity};
use crate::zone::model::Timing;

/// The part of a wait by which jitter may shorten it: an eighth.
const JITTER_PART: u64 = 8;

/// When a certificate is replaced at latest: after a third of its life, so that two thirds, `outlive_broker`, are
/// left when the broker goes away.
#[must_use]
pub fn replace_by(validity: Validity) -> UnixTime {
    validity.not_before.plus(validity.not_after.since(validity.not_before) / 3)
}

/// When a certificate is replaced by a device that proves itself `now` and again after `every` seconds at latest:
/// at the last proof that comes in time. Jitter needs no room of its own, it only makes proofs come earlier.
#[must_use]
pub fn is_due(validity: Validity, now: UnixTime, every: u64) -> bool {
    // One that has not begun is of a broker whose clock ran ahead.
    let begun = validity.not_before <= now;
    !begun || now.plus(next_proof(validity.not_after.since(now), every)) > replace_by(validity)
}

/// How many seconds a device waits at most for its next proof: what its zone says, and no longer than a third of what
/// its certificate has `left`.
#[must_use]
pub fn next_proof(left: u64, every: u64) -> u64 {
    every.min(left.div_ceil(3))
}

/// When a device proves itself again, after it did so at `last`.
#[must_use]
pub fn reattest_at(last: UnixTime, timing: &Timing, jitter: u8) -> UnixTime {
    last.plus(earlier(timing.reattest_every(), jitter))
}

fn earlier(seconds: u64, jitter: u8) -> u64 {
    let most = seconds / JITTER_PART;
    seconds - most.saturating_mul(u64::from(jitter)) / 255
}

/// How long to wait after a failure: doubled each time up to a limit, half of it random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Default for Backoff {
    /// 2 seconds to 5 minutes.
    fn default() -> Self {
        Self { first: Duration::from_secs(2), longest: Duration::from_secs(300) }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row, counted from 1: between half of it and all of it.
    #[must_use]
    pub fn delay(&self, failures: u32, jitter: u8) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        let half = self.first.saturating_mul(factor).min(self.longest) / 2;
        half + part(half, jitter)
    }

    /// The wait after the broker said TRY_LATER with a delay: never less, up to a quarter more, since
    /// it told the others the same.
    #[must_use]
    pub fn after_try_later(asked: Duration, jitter: u8) -> Duration {
        asked.saturating_add(part(asked / 4, jitter))
    }
}

fn part(whole: Duration, jitter: u8) -> Duration {
    whole / 255 * u32::from(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_replaced_at_the_last_proof_that_leaves_what_outlives_the_broker() {
        let timing = Timing::default();
        let start = UnixTime(1_000_000);
        let validity = Validity { not_before: start, not_after: start.plus(timing.certificate_lifetime()) };
        assert_eq!(validity.not_after.since(replace_by(validity)), timing.outlive_broker());
        let last = replace_by(validity).minus(timing.reattest_every());
        assert!(!is_due(validity, start, 900) && !is_due(validity, last, 900));
        assert!(is_due(validity, last.plus(1), 900) && is_due(validity, validity.not_after.plus(1), 900));
        assert!(is_due(validity, start.minus(1), 900), "it has not begun");
    }

    #[test]
    fn reattestation_is_never_late() {
        let timing = Timing::default();
        assert_eq!(reattest_at(UnixTime(0), &timing, 0), UnixTime(900));
        assert_eq!(reattest_at(UnixTime(0), &timing, 255), UnixTime(788));
    }

    #[test]
    fn backoff_doubles_to_its_limit_and_stays_within_its_half() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(1, 0), Duration::from_secs(1));
        assert_eq!(backoff.delay(2, 0), Duration::from_secs(2));
        for failures in [9, 40, u32::MAX] {
            assert_eq!(backoff.delay(failures, 0), Duration::from_secs(150), "{failures}");
            assert!(backoff.delay(failures, 255) <= Duration::from_secs(300), "{failures}");
        }
    }

    #[test]
    fn a_delay_that_was_asked_for_is_kept() {
        let asked = Duration::from_secs(60);
        assert_eq!(Backoff::after_try_later(asked, 0), asked);
        assert!(Backoff::after_try_later(asked, 255) <= Duration::from_secs(75));
    }
}
