//! The floor of the clock: what the device learns of time from the plant, and keeps for a start without a battery.
//!
//! Promises: what a conduit's hours closed is not opened by a power cut. The floor falls only when broker and device show
//! the same earlier time: then the broker's clock ran ahead once, and what it issues now would have ended by that. Does not
//! promise the time that passes while the device is off: nothing here can tell it.

use policy::time::UnixTime;

use super::attester::Attester;
use crate::ports::{CLOCKS_ARE_SET, MOST_APART, is_set};
use crate::state::{SaveStateError, State};

/// Seconds after which the time is kept again while a clock that was never set waits for an edge: a box whose power
/// is cut more often comes no nearer to it, and a state file that is written more often wears out the flash.
const KEEP_EVERY: u64 = 600;

/// Times that the plant's authorities signed just now: the clock was not earlier. `own` is what the device's clock shows.
pub(super) fn learn_time(state: &mut State, signed: impl IntoIterator<Item = UnixTime>, own: UnixTime) {
    let signed = signed.into_iter().fold(UnixTime(0), UnixTime::max);
    state.clock_floor = learned(state.clock_floor, signed, own);
}

/// The floor once the plant has signed at `signed`. A clock that is set follows by a day at most: a broker whose
/// clock ran ahead once must not carry devices into a time in which its next certificates have ended. Before the plant has
/// signed anything nothing tells whether it is set: it may be late by months and show no year that is impossible.
fn learned(floor: UnixTime, signed: UnixTime, own: UnixTime) -> UnixTime {
    let first = floor == UnixTime(0);
    let most = if !first && is_set(own, floor) { own.plus(MOST_APART) } else { UnixTime(u64::MAX) };
    floor.max(signed.min(most))
}

/// The time now, if what counts as `now` is ahead of the broker, which just `said` its time, and of the device's `own` clock,
/// which agree.
fn ran_ahead(now: UnixTime, own: UnixTime, said: UnixTime) -> Option<UnixTime> {
    let apart = own.since(said).max(said.since(own));
    let agree = own >= CLOCKS_ARE_SET && apart <= AGREE;
    (agree && now > own.max(said).plus(AGREE)).then_some(said)
}

/// Seconds by which two clocks differ that show the same time.
pub(super) const AGREE: u64 = 3_600;

/// The floor to be kept at `now`, if the clock here, which shows `own`, was never set: `edge` is the first second
/// after the present floor at which a conduit opens or closes.
fn gone_by(floor: UnixTime, now: UnixTime, own: UnixTime, edge: Option<UnixTime>) -> Option<UnixTime> {
    let passed = edge.is_some_and(|edge| edge <= now) || now >= floor.plus(KEEP_EVERY);
    (!is_set(own, floor) && passed && now > floor).then_some(now)
}

impl Attester {
    /// Hears what time it is at the broker, from its answer to a call of this moment.
    pub(super) fn hear_time(&self, said: UnixTime) {
        let Some(floor) = ran_ahead(self.now(), self.clock.own(), said) else { return };
        tracing::warn!(
            "the time of this device was ahead of the broker's, {said}, and of its own clock, which agree: it goes by them again"
        );
        self.clock.lower(floor);
        self.keeper.note(|state| state.clock_floor = state.clock_floor.min(floor));
    }

    /// Keeps the time, before software is shown what it opens and closes.
    pub(super) fn keep_time(&self) -> Result<(), SaveStateError> {
        let (now, own) = (self.now(), self.clock.own());
        let kept = self.keeper.read(|state: &State| {
            let edge = state.trust.as_ref().and_then(|trust| trust.next_edge(state.clock_floor));
            gone_by(state.clock_floor, now, own, edge)
        });
        match kept {
            Some(now) => self.keeper.update(|state| state.clock_floor = state.clock_floor.max(now)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);
    const FAR: UnixTime = UnixTime(1_900_000_000);

    #[test]
    fn a_clock_that_is_set_follows_the_broker_by_a_day_at_most() {
        let floor = NOW.minus(3600);
        assert_eq!(learned(floor, NOW.plus(60), NOW), NOW.plus(60));
        assert_eq!(learned(floor, NOW.plus(MOST_APART), NOW), NOW.plus(86_400));
        assert_eq!(learned(floor, FAR, NOW), NOW.plus(86_400), "a broker whose clock ran ahead once");
        assert_eq!(learned(floor, NOW.minus(7200), NOW), floor, "what is learnt takes it no lower");
        assert_eq!(learned(NOW, FAR, NOW.minus(1)), NOW.plus(86_399), "late by a second, it is set");
    }

    #[test]
    fn a_clock_that_was_never_set_follows_as_far_as_the_broker_says() {
        assert_eq!(learned(UnixTime(0), NOW, UnixTime(0)), NOW, "1970");
        let late = NOW.minus(100 * MOST_APART);
        assert!(late >= CLOCKS_ARE_SET);
        assert_eq!(learned(UnixTime(0), NOW, late), NOW, "a new box, whose battery was empty for a season");
        assert_eq!(
            learned(NOW, FAR, NOW.minus(86_401)),
            FAR,
            "a day behind its own floor: without a battery"
        );
    }

    #[test]
    fn a_floor_of_a_broker_that_ran_ahead_falls_once_both_clocks_say_so() {
        let ahead = NOW.plus(13 * 3600);
        assert_eq!(ran_ahead(ahead, NOW, NOW.plus(60)), Some(NOW.plus(60)));
        assert_eq!(ran_ahead(ahead, NOW.plus(60), NOW), Some(NOW));
        assert_eq!(ran_ahead(ahead, ahead, NOW), None, "the device's clock shows it as well");
        assert_eq!(ran_ahead(ahead, NOW, ahead), None, "the broker still says so");
        assert_eq!(ran_ahead(ahead, UnixTime(60), NOW), None, "a clock that was never set says nothing");
        assert_eq!(ran_ahead(ahead, UnixTime(60), UnixTime(60)), None, "nor do both");
        assert_eq!(ran_ahead(ahead, NOW, NOW.plus(3_601)), None, "they do not agree");
        assert_eq!(ran_ahead(NOW.plus(3_600), NOW, NOW), None, "that is no running ahead");
    }

    #[test]
    fn a_conduit_that_closed_stays_closed_over_a_power_cut() {
        let (unset, edge) = (UnixTime(60), Some(NOW.plus(100)));
        assert_eq!(gone_by(NOW, NOW.plus(99), unset, edge), None, "not yet");
        assert_eq!(gone_by(NOW, NOW.plus(100), unset, edge), Some(NOW.plus(100)));
        assert_eq!(gone_by(NOW, NOW.plus(100), NOW.plus(100), edge), None, "a set clock knows by itself");
        assert_eq!(gone_by(NOW, NOW, unset, Some(NOW)), None, "it is kept");
    }

    #[test]
    fn a_box_whose_power_is_cut_before_the_edge_comes_nearer_to_it() {
        let (unset, edge) = (UnixTime(60), Some(NOW.plus(86_400)));
        assert_eq!(gone_by(NOW, NOW.plus(KEEP_EVERY - 1), unset, edge), None);
        assert_eq!(gone_by(NOW, NOW.plus(KEEP_EVERY), unset, edge), Some(NOW.plus(KEEP_EVERY)));
    }
}
