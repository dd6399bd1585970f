//! When a certificate is replaced: a pure schedule.
//!
//! What this module does not promise: it does not know whether anybody answers. When a device tries again after a failure is
//! the device's own matter; the certificate lives on meanwhile.

use crate::time::{UnixTime, Validity};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::model::Timing;

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
}
