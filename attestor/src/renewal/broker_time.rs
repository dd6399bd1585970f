//! What time the brokers say that it is, and whether they go on saying it.
//!
//! Promises: a broker whose clock jumped gets no proof from a device that holds certificates, if the device's own clock went on
//! as the broker's had: what it issued now would begin or end at another time, and take the place of what is good. Does not
//! judge the first broker after a start, nor one that a device without certificates asks: there is nothing to lose.

use std::sync::{Mutex, PoisonError};

use policy::time::UnixTime;
use tokio::time::Instant;

use super::attester::Attester;
use super::exchange::ExchangeError;
use super::floor::AGREE;

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

/// Whether the clock that `said` this jumped, and not the `own` one, which shows what was `expected`.
fn jumped(said: UnixTime, expected: UnixTime, own: UnixTime) -> bool {
    apart(said, expected) > AGREE && apart(own, expected) <= AGREE / 2
}

impl Attester {
    /// Takes the time that a broker says in an answer of this moment, unless its clock jumped.
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
        Ok(())
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
