//! When the broker gave its last sign of life.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use policy::time::UnixTime;
use tokio::time::Instant;

/// Silence after which the broker is taken not to be heard: three heartbeats of 30 s.
pub(crate) const SILENCE: Duration = Duration::from_secs(90);

/// The last sign of life whose signature was verified.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Option<(UnixTime, Instant)>>);

impl Heard {
    /// Takes a sign of life that the broker gave at `broker_time`; whether it is a new one. One that is repeated is none.
    pub(super) fn note(&self, broker_time: UnixTime) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = last.is_none_or(|(before, _)| broker_time > before);
        if new {
            *last = Some((broker_time, Instant::now()));
        }
        new
    }

    /// A stream begins: its signs of life follow each other, whatever time the broker before had, which may be another or
    /// have had another clock. What was heard last is not older for that.
    pub(super) fn anew(&self) {
        if let Some((time, _)) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            *time = UnixTime(0);
        }
    }

    /// How long ago the last one was; None before the first.
    pub(super) fn ago(&self) -> Option<Duration> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|(_, at)| at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_that_is_repeated_is_none() {
        let heard = Heard::default();
        assert_eq!(heard.ago(), None, "before the first");
        assert!(heard.note(UnixTime(100)));
        let long_ago = Instant::now().checked_sub(2 * SILENCE).unwrap();
        heard.0.lock().unwrap().as_mut().unwrap().1 = long_ago;
        assert!(!heard.note(UnixTime(100)) && !heard.note(UnixTime(99)));
        assert!(heard.ago().unwrap() > SILENCE);
        assert!(heard.note(UnixTime(101)));
        assert!(heard.ago().unwrap() < SILENCE);
    }

    #[test]
    fn a_broker_whose_clock_went_back_is_heard_on_its_next_stream() {
        let heard = Heard::default();
        heard.anew();
        assert_eq!(heard.ago(), None, "to open a stream is no sign of life");
        assert!(heard.note(UnixTime(1_000)) && !heard.note(UnixTime(100)));
        heard.anew();
        assert!(heard.note(UnixTime(100)) && !heard.note(UnixTime(100)));
    }
}
