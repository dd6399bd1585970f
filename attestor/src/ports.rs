//! What the attestor asks of the world besides TPM, files and broker: the time and random numbers.
//!
//! Both are ports, so that tests state them; nothing else in this crate reads the wall clock or draws a random
//! number. Waiting is measured by the runtime's monotonic clock and needs no port.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use policy::time::UnixTime;
use tokio::time::Instant;

/// The wall clock: used for validity and for people, never for order.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> UnixTime;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> UnixTime {
        self.as_ref().now()
    }
}

/// Where jitter comes from.
pub trait Entropy: fmt::Debug + Send + Sync {
    /// A new random number. It spreads load and protects nothing.
    fn jitter(&self) -> Jitter;
}

/// A random fraction, from 0 to just under 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(pub u16);

impl Jitter {
    /// This fraction of `span`.
    #[must_use]
    pub fn of(self, span: Duration) -> Duration {
        span.mul_f64(f64::from(self.0) / 65_536.0)
    }
}

/// Clock and random numbers of the operating system.
#[derive(Debug, Default)]
pub struct System(SystemRandom);

impl System {
    /// Draws a first random number on a thread of its own. It takes tens of milliseconds, in which the library gathers
    /// what it cannot predict; nobody waits for them if they pass while the TPM works.
    pub fn gather_entropy() {
        // Without the thread, whoever is first waits.
        drop(std::thread::Builder::new().name("entropy".to_owned()).spawn(|| Self::default().jitter()));
    }
}

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> UnixTime {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixTime(since.map_or(0, |elapsed| elapsed.as_secs()))
    }
}

impl Entropy for System {
    fn jitter(&self) -> Jitter {
        let mut bytes = [0; 2];
        match self.0.fill(&mut bytes) {
            Ok(()) => Jitter(u16::from_be_bytes(bytes)),
            // Without random numbers nothing else works either; the middle is as good as any.
            Err(_) => Jitter(u16::MAX / 2),
        }
    }
}

/// A clock that shows an earlier time than this was never set.
pub(crate) const CLOCKS_ARE_SET: UnixTime = UnixTime(1_767_225_600); // 2026-01-01

/// Seconds by which a clock that is set and the time that the plant signed may differ: one that runs late by more has
/// lost its battery, whatever year it begins in.
pub(crate) const MOST_APART: u64 = 86_400;

/// Whether a clock that shows `own` was set, once the plant has signed at `floor`.
pub(crate) fn is_set(own: UnixTime, floor: UnixTime) -> bool {
    own >= CLOCKS_ARE_SET && own.plus(MOST_APART) >= floor
}

/// A clock that never shows less than the last time the broker signed: a box without a
/// battery starts in 1970, or when its firmware was built, and no certificate is valid yet. The system's own clock is left alone.
///
/// The time goes on from the floor, as long as the clock shows less: a conduit must close when its hours are over,
/// broker or not.
#[derive(Debug)]
pub struct FlooredClock<C> {
    clock: C,
    floor: Mutex<Floor>,
}

#[derive(Debug, Clone, Copy)]
struct Floor {
    at: UnixTime,
    learnt: Instant,
}

impl Floor {
    fn new(at: UnixTime) -> Self {
        Self { at, learnt: Instant::now() }
    }

    /// The least that the time is: the plant signed at the floor, and so long has passed since.
    fn least(&self) -> UnixTime {
        self.at.plus(self.learnt.elapsed().as_secs())
    }
}

impl<C: Clock> FlooredClock<C> {
    /// `clock`, but never before `floor`.
    pub fn new(clock: C, floor: UnixTime) -> Self {
        Self { clock, floor: Mutex::new(Floor::new(floor)) }
    }

    /// The clock without its floor.
    pub fn own(&self) -> UnixTime {
        self.clock.now()
    }

    /// Takes the floor down: what it rested on is known to have been wrong. A higher one changes nothing.
    pub fn lower(&self, floor: UnixTime) {
        let mut held = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        if floor < held.least() {
            *held = Floor::new(floor);
        }
    }

    /// Raises the floor; a lower one changes nothing.
    pub fn raise(&self, floor: UnixTime) {
        let mut held = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        if floor > held.least() {
            *held = Floor::new(floor);
        }
    }
}

impl<C: Clock> Clock for FlooredClock<C> {
    fn now(&self) -> UnixTime {
        self.own().max(self.floor.lock().unwrap_or_else(PoisonError::into_inner).least())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(u64);

    impl Clock for Fixed {
        fn now(&self) -> UnixTime {
            UnixTime(self.0)
        }
    }

    #[test]
    fn a_clock_without_battery_starts_at_the_floor() {
        let clock = FlooredClock::new(Fixed(0), UnixTime(1000));
        assert_eq!(clock.now(), UnixTime(1000));
        clock.raise(UnixTime(900));
        assert_eq!(clock.now(), UnixTime(1000));
        clock.raise(UnixTime(1100));
        assert_eq!(clock.now(), UnixTime(1100));
        clock.lower(UnixTime(1200));
        assert_eq!(clock.now(), UnixTime(1100));
        clock.lower(UnixTime(1050));
        assert_eq!(clock.now(), UnixTime(1050));
        assert_eq!(FlooredClock::new(Fixed(2000), UnixTime(1000)).now(), UnixTime(2000));
    }

    #[test]
    fn time_goes_on_from_the_floor_while_the_clock_shows_less() {
        let floor = CLOCKS_ARE_SET.plus(100 * MOST_APART);
        let a_minute_ago = |own: UnixTime| {
            let clock = FlooredClock::new(Fixed(own.0), floor);
            clock.floor.lock().unwrap().learnt = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
            clock
        };
        let minute = floor.plus(60)..floor.plus(120);
        let late = floor.minus(8 * 3600);
        for (own, year) in [
            (UnixTime(7), "1970"),
            (CLOCKS_ARE_SET, "when the firmware was built"),
            (late, "local time, west of Greenwich"),
        ] {
            let unset = a_minute_ago(own);
            assert!(minute.contains(&unset.now()), "{year}: {}", unset.now());
            unset.raise(floor.plus(30));
            assert!(minute.contains(&unset.now()), "time does not go back");
            unset.raise(floor.plus(500));
            assert!((floor.plus(500)..floor.plus(560)).contains(&unset.now()));
        }
        let ahead = floor.plus(1000);
        assert_eq!(a_minute_ago(ahead).now(), ahead, "a clock that shows more goes by itself");
    }

    #[test]
    fn a_clock_is_set_if_it_shows_the_time_of_the_plant_within_a_day() {
        let floor = CLOCKS_ARE_SET.plus(100 * MOST_APART);
        for own in [floor.minus(MOST_APART), floor, floor.plus(1000 * MOST_APART)] {
            assert!(is_set(own, floor), "{own}");
        }
        for own in [UnixTime(0), CLOCKS_ARE_SET, floor.minus(MOST_APART + 1)] {
            assert!(!is_set(own, floor), "{own}");
        }
        assert!(!is_set(CLOCKS_ARE_SET.minus(1), UnixTime(0)) && is_set(CLOCKS_ARE_SET, UnixTime(0)));
    }

    #[test]
    fn jitter_stays_below_the_whole() {
        let hour = Duration::from_secs(3600);
        assert_eq!(Jitter(0).of(hour), Duration::ZERO);
        assert!(Jitter(u16::MAX).of(hour) < hour);
    }
}
