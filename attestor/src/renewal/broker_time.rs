//! What time the brokers say that it is, and whether they go on saying it.
//!
//! Promises: a broker whose clock jumped gets no proof from a device that holds certificates, if the device's own clock went on
//! as the broker's had: what it issued now would begin or end at another time, and take the place of what is good. A device whose
//! clock runs ahead of the broker's by as much as the longest of its certificates lives, and by more than clocks differ that
//! agree, asks for none: they would have ended here, and would only use up what the broker issues. Does not judge the first broker after a start, nor one that a device without
//! certificates asks: there is nothing to lose.

use std::sync::{Mutex, PoisonError};

use policy::time::UnixTime;
use tokio::time::Instant;

use super::attester::Attester;
use super::exchange::ExchangeError;
use super::floor::AGREE;
use crate::ports::MOST_APART;
use crate::state::State;
use crate::svid::HeldSvid;

/// What a broker said last, and when.
#[derive(Debug, Default)]
pub(super) struct BrokerTime(Mutex<Option<(UnixTime, Instant)>>);

impl BrokerTime {
    /// What a broker should say now.
    fn expected(&self) -> Option<UnixTime> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|(said, at)| said.plus(at.elapsed().as_secs()))
    }

    fn said(&self, time: UnixTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((time, Instant::now()));
    }
}

fn apart(one: UnixTime, other: UnixTime) -> u64 {
    one.since(other).max(other.since(one))
}

/// How long the certificates live that the broker issues to this device, in seconds, by those that it has; a clock that is set
/// is not as far ahead of the plant as it is before the first. One that ends with its authority says little of the next, which
/// may be the only one: clocks that agree are apart by no life.
fn longest_life(state: &State) -> u64 {
    let life = |svid: &HeldSvid| svid.not_after().since(svid.not_before());
    state.svids.values().map(life).max().unwrap_or(MOST_APART).max(AGREE)
}

/// Whether the clock that `said` this jumped, and not the `own` one, which shows what was `expected`.
fn jumped(said: UnixTime, expected: UnixTime, own: UnixTime) -> bool {
    apart(said, expected) > AGREE && apart(own, expected) <= AGREE / 2
}

impl Attester {
    /// Takes the time that a broker says in an answer of this moment, unless its clock jumped, or the clock here is so far ahead
    /// of it that nothing it issues would hold.
    pub(super) fn take_time(&self, said: UnixTime) -> Result<(), ExchangeError> {
        let own = self.clock.own();
        if let Some(expected) = self.broker_time.expected()
            && jumped(said, expected, own)
            && self.is_certified()
        {
            return Err(ExchangeError::BrokerClock { said, expected, own });
        }
        self.broker_time.said(said);
        self.hear_time(said);
        let now = self.now();
        match now.since(said) < self.keeper.read(longest_life) {
            true => Ok(()),
            false => Err(ExchangeError::ClockAhead { now, said }),
        }
    }

    /// Why certificates may have ended here though they have not, if the broker's last word says so.
    pub(super) fn clock_doubt(&self) -> Option<String> {
        let (now, expected) = (self.now(), self.broker_time.expected()?);
        let end = self.keeper.read(State::last_end)?;
        (expected <= end && end < now).then(|| {
            format!(
                "this device takes the time to be {now}, and by what the broker said last it is {expected}: set the clock here; \
                 the certificates hold until {end}"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);
    const YEARS: u64 = 10 * 365 * 86_400;

    #[test]
    fn two_clocks_that_go_on_tell_which_third_one_jumped() {
        for said in [NOW.plus(YEARS), NOW.minus(YEARS), NOW.plus(AGREE + 1)] {
            assert!(jumped(said, NOW, NOW), "{said}");
            assert!(!jumped(said, NOW, said), "both were set, or this device slept");
            assert!(!jumped(said, said, NOW), "this clock is another, as the broker knew before");
        }
        assert!(!jumped(NOW.plus(AGREE), NOW, NOW), "it was set by a little");
        assert!(!jumped(NOW, NOW.plus(YEARS), UnixTime(60)), "a clock that was never set says nothing");
    }

    #[test]
    fn the_first_broker_is_believed() {
        let time = BrokerTime::default();
        assert_eq!(time.expected(), None);
        time.said(NOW);
        assert!(time.expected() >= Some(NOW));
    }
}
