//! When to prove oneself: the renewal loop as a pure machine. Inputs come in with a random number, what to do
//! next comes out; it knows no clock, no network and no TPM.
//!
//! Promises: after every input either one exchange is in flight or one timer runs, so the device never falls
//! silent; never two exchanges at once; a failure is never answered by more than one exchange before the next
//! wait; "attest now" is answered at once, also when it comes while an exchange is in flight. What changes on the device is
//! told at once as well, unless a failure or the broker's delay is waited out; a device that was refused for what it
//! booted or measured asks once before its wait is over if it measures something else, however often that is.
//! Does not promise: that a certificate is still valid. The driver compares its end with the clock.

mod terms;

use std::time::Duration;

use proto::v1::DenialReason;

pub use self::terms::{Effect, Exchange, Input, Outcome, Standing, is_of_one_zone, revokes};
use crate::ports::Jitter;
use crate::state::distrusts;

/// How often a device proves itself until a zone has said so.
pub const DEFAULT_REATTEST_EVERY: Duration = Duration::from_secs(15 * 60);
/// First wait after a failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Shortest time between two attestations that a zone or a certificate's life can ask for.
const LEAST_PERIOD: Duration = Duration::from_secs(1);
/// Longest time between two attestations: a slip of the broker must not silence a device for good.
pub(crate) const MOST_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// Most that the broker can put a device off, for the same reason.
const MOST_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Time in which a device that measured something after it was refused for that asks again: what is installed is several files.
const MENDED_WITHIN: Duration = Duration::from_secs(10);
/// Time over which the devices of a plant spread their first attestation after the broker came back.
const RETURN_SPREAD: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Enrolling,
    Attesting,
    /// Waits for the next turn of its schedule.
    Holding,
    /// Waits after a failure.
    Backoff(Until),
}

/// What ends a wait before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Nothing but a demand.
    Over,
    /// The broker, which did not answer, is heard.
    Heard,
    /// The device, which was refused for what it booted or measured, measures something else.
    Mended,
}

/// What a restart knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// The broker knows this device and its AK.
    pub bound: bool,
    /// There are certificates that have not ended.
    pub certified: bool,
    /// Why the last verdict was a refusal, if it was one.
    pub refused: Option<DenialReason>,
}

/// The renewal loop.
#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    bound: bool,
    certified: bool,
    standing: Standing,
    reattest_every: Duration,
    failures: u32,
    /// The broker asked for proof and no exchange began since.
    demanded: bool,
    /// The device has something to tell and no exchange began since.
    changed: bool,
    /// An exchange followed another without a wait; the next failure waits.
    repeated: bool,
    /// A wait was cut short because of what was measured; the one after the next refusal is not.
    early: bool,
    /// A wait was cut short because the broker was heard; the one after an exchange that it still does not answer is not.
    heard: bool,
}

impl Machine {
    /// A machine that waits for [`Input::Started`].
    #[must_use]
    pub const fn new(memory: Memory) -> Self {
        let standing = match memory.refused {
            Some(reason) if distrusts(reason) || !memory.certified => Standing::refused(reason),
            Some(_) | None => Standing::Starting,
        };
        Self {
            phase: Phase::Idle,
            bound: memory.bound,
            certified: memory.certified,
            standing,
            reattest_every: DEFAULT_REATTEST_EVERY,
            failures: 0,
            demanded: false,
            changed: false,
            repeated: false,
            early: false,
            heard: false,
        }
    }

    /// Where the device stands.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether the broker is believed to know this device and its AK.
    #[must_use]
    pub const fn is_bound(&self) -> bool {
        self.bound
    }

    /// There are certificates after all that have not ended.
    pub const fn find_certified(&mut self) {
        self.certified = true;
        if let Phase::Backoff(_) = self.phase {
            self.hold_at_start();
        }
    }

    /// Takes an input; None if nothing changes.
    pub fn step(&mut self, input: Input, jitter: Jitter) -> Option<Effect> {
        match (input, self.phase) {
            (Input::Finished(outcome), Phase::Enrolling | Phase::Attesting) => {
                Some(self.finish(outcome, jitter))
            }
            (Input::Started, Phase::Idle) => Some(self.begin()),
            (Input::TimerFired, Phase::Holding | Phase::Backoff(_)) => {
                self.repeated = false;
                Some(self.begin())
            }
            (Input::AttestNow, Phase::Enrolling | Phase::Attesting | Phase::Idle)
            | (Input::ZoneLost, Phase::Idle) => {
                self.demanded = true;
                None
            }
            // What an exchange in flight brings may have been revoked with the rest: it is given up for another.
            (Input::ZoneLost, Phase::Enrolling | Phase::Attesting)
            | (Input::AttestNow | Input::ZoneLost, Phase::Holding | Phase::Backoff(_)) => {
                self.demanded = true;
                self.repeated = false;
                Some(self.begin())
            }
            (Input::Changed | Input::Measured, Phase::Holding) => {
                self.changed = true;
                self.repeated = false;
                Some(self.begin())
            }
            (Input::Measured, Phase::Backoff(Until::Mended)) => {
                (self.changed, self.early) = (true, true);
                self.phase = Phase::Backoff(Until::Over);
                Some(Effect::Wait(MENDED_WITHIN / 2 + jitter.of(MENDED_WITHIN / 2)))
            }
            (
                Input::Changed | Input::Measured,
                Phase::Idle | Phase::Enrolling | Phase::Attesting | Phase::Backoff(_),
            ) => {
                self.changed = true;
                None
            }
            (Input::TrustLost(reason), phase) => self.lose_trust(reason, phase, jitter),
            (Input::BrokerHeard, Phase::Backoff(Until::Heard)) => {
                self.heard = true;
                self.phase = Phase::Backoff(Until::Over);
                Some(Effect::Wait(LEAST_PERIOD + jitter.of(RETURN_SPREAD)))
            }
            (
                Input::Started | Input::TimerFired | Input::BrokerHeard | Input::Finished(_),
                Phase::Idle | Phase::Enrolling | Phase::Attesting | Phase::Holding | Phase::Backoff(_),
            ) => None,
        }
    }

    fn begin(&mut self) -> Effect {
        let demanded = std::mem::take(&mut self.demanded) | std::mem::take(&mut self.changed);
        let (phase, exchange) = match (self.bound, demanded) {
            (false, _) => (Phase::Enrolling, Exchange::Enroll),
            (true, false) => (Phase::Attesting, Exchange::Renew),
            (true, true) => (Phase::Attesting, Exchange::OnDemand),
        };
        self.phase = phase;
        if exchange == Exchange::Enroll && self.standing == Standing::Starting {
            self.standing = Standing::Enrolling;
        }
        Effect::Begin(exchange)
    }

    fn finish(&mut self, outcome: Outcome, jitter: Jitter) -> Effect {
        let heard = std::mem::take(&mut self.heard);
        if heard && outcome != Outcome::Unreachable {
            // It is back: a delay of a few seconds that it asks for now is not one of many minutes.
            self.failures = 0;
        }
        match outcome {
            Outcome::Issued { reattest_every, lifetime, incomplete } => {
                self.bound = true;
                self.reattest_every = reattest_every.clamp(LEAST_PERIOD, MOST_PERIOD);
                self.certified = !lifetime.is_zero();
                if self.certified {
                    self.standing = Standing::Trusted;
                }
                match incomplete {
                    true => self.repeat_or_back_off(Duration::ZERO, jitter),
                    false => self.hold(lifetime, jitter),
                }
            }
            Outcome::Pending { keys_missing: true, retry_after } => {
                self.bound = true;
                self.repeat_or_back_off(retry_after, jitter)
            }
            Outcome::Pending { keys_missing: false, retry_after } => {
                self.bound = false;
                // A broker that was restored from before the device came knows it no more; what it holds is as good as before.
                self.standing = match self.certified && !self.standing.is_refusal() {
                    true => Standing::Holding,
                    false => Standing::Pending,
                };
                if !retry_after.is_zero() {
                    // People are slow, but once they acted the device need not be.
                    self.failures = 0;
                }
                self.back_off(retry_after, jitter)
            }
            Outcome::Denied { at_begin, reason, retry_after } => {
                self.deny(at_begin, reason, retry_after, jitter)
            }
            Outcome::Unreachable | Outcome::Failed | Outcome::KeysLost => {
                self.certified &= outcome != Outcome::KeysLost;
                self.hold_on();
                let effect = self.back_off(Duration::ZERO, jitter);
                if let (Outcome::Unreachable, false, Phase::Backoff(until)) =
                    (outcome, heard, &mut self.phase)
                {
                    *until = Until::Heard;
                }
                effect
            }
        }
    }

    fn deny(&mut self, at_begin: bool, reason: DenialReason, after: Duration, jitter: Jitter) -> Effect {
        let forgotten = matches!(reason, DenialReason::NotFound | DenialReason::NotAdmitted);
        if self.phase == Phase::Attesting && at_begin && forgotten {
            self.bound = false;
            return self.repeat_or_back_off(after, jitter);
        }
        match reason {
            // No verdict on the device: the challenge was overtaken, or the broker is busy.
            DenialReason::MustReattest => {
                self.hold_at_start();
                self.repeat_or_back_off(after, jitter)
            }
            DenialReason::TryLater => {
                self.hold_at_start();
                self.back_off(after, jitter)
            }
            // The broker failed, which says nothing of the device.
            DenialReason::Unspecified => {
                self.hold_on();
                self.back_off(after, jitter)
            }
            // It says nothing of what the device holds.
            _ if self.certified && !distrusts(reason) => {
                self.hold_on();
                self.back_off(after, jitter)
            }
            _ => {
                self.certified &= !revokes(reason);
                self.standing = Standing::refused(reason);
                let early = std::mem::take(&mut self.early);
                let effect = self.back_off(after, jitter);
                if let (DenialReason::ReferenceMismatch, Phase::Backoff(until), Effect::Wait(wait)) =
                    (reason, &mut self.phase, effect)
                    && !early
                    && after.is_zero()
                    && wait > MENDED_WITHIN
                {
                    *until = Until::Mended;
                }
                effect
            }
        }
    }

    /// No answer that counts: certificates hold, and what was refused stays refused.
    fn hold_on(&mut self) {
        if self.certified && !self.standing.is_refusal() {
            self.standing = Standing::Holding;
        }
    }

    /// No answer yet: what a device held before it started it still holds.
    const fn hold_at_start(&mut self) {
        if let (true, Standing::Starting | Standing::Enrolling) = (self.certified, self.standing) {
            self.standing = Standing::Holding;
        }
    }

    /// What an exchange in flight brings may have been revoked with the rest: it is given up for another.
    fn lose_trust(&mut self, reason: DenialReason, phase: Phase, jitter: Jitter) -> Option<Effect> {
        self.certified = false;
        self.standing = Standing::refused(reason);
        self.failures = 0;
        match phase {
            Phase::Idle => None,
            Phase::Enrolling | Phase::Attesting | Phase::Holding | Phase::Backoff(_) => {
                Some(self.back_off(Duration::ZERO, jitter))
            }
        }
    }

    /// The next turn of the schedule: the zone's interval, and at latest a third of the certificate's life.
    fn hold(&mut self, lifetime: Duration, jitter: Jitter) -> Effect {
        if self.demanded || self.changed {
            return self.begin();
        }
        (self.repeated, self.early) = (false, false);
        self.failures = 0;
        self.phase = Phase::Holding;
        let period = self.reattest_every.min(lifetime / 3).max(LEAST_PERIOD);
        Effect::Wait(period - jitter.of(period / 5))
    }

    /// Another exchange at once, but only one: the second in a row waits its turn.
    fn repeat_or_back_off(&mut self, retry_after: Duration, jitter: Jitter) -> Effect {
        match self.repeated {
            true => self.back_off(retry_after, jitter),
            false => {
                self.repeated = true;
                self.begin()
            }
        }
    }

    fn back_off(&mut self, retry_after: Duration, jitter: Jitter) -> Effect {
        if self.demanded && !self.repeated {
            self.repeated = true;
            return self.begin();
        }
        let doubled = FIRST_BACKOFF.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let own = doubled.min(self.reattest_every);
        self.failures = self.failures.saturating_add(1).min(31);
        self.phase = Phase::Backoff(Until::Over);
        let own = own / 2 + jitter.of(own / 2);
        let asked = retry_after.min(MOST_RETRY_AFTER);
        Effect::Wait(own.max(asked + jitter.of(asked / 10)))
    }
}

#[cfg(test)]
mod tests;
