//! Who is silent while others are heard: a plant of devices that prove themselves, looked at from time to time.

use policy::time::UnixTime;
use policy::zone::{Listening, Timing};
use proptest::prelude::*;

const START: u64 = 1_800_000_000;
const EVERY: u64 = 60;
/// How often it is looked.
const PACE: u64 = 15;

fn timing() -> Timing {
    Timing::new(EVERY, 900, None).unwrap()
}

/// Every device, as the times at which it proves itself from its first on.
struct Plant(Vec<Vec<u64>>);

impl Plant {
    /// Each proves itself every minute from its `phase` on, at the times that `comes` lets it.
    fn of(phases: &[u64], end: u64, comes: impl Fn(usize, u64) -> bool) -> Self {
        let times = |(device, phase): (usize, &u64)| {
            let mut times: Vec<u64> = (*phase..end).step_by(60).filter(|at| comes(device, *at)).collect();
            // It proved itself before anybody listened.
            times.insert(0, 0);
            times
        };
        Self(phases.iter().enumerate().map(times).collect())
    }

    /// Who was found silent by `end`, with the first moment, of a broker that listens from `from` on.
    fn silent(&self, from: u64, end: u64) -> Vec<(usize, u64)> {
        let timing = timing();
        let mut listening = Listening::from(UnixTime(START + from));
        let mut found: Vec<(usize, u64)> = Vec::new();
        for now in (from..end).step_by(15) {
            let last = |times: &Vec<u64>| {
                UnixTime(START + times.iter().copied().filter(|at| *at <= now).max().unwrap_or_default())
            };
            let heard: Vec<UnixTime> = self.0.iter().map(last).collect();
            let latest = heard.iter().copied().max().unwrap();
            listening = listening.heard(latest, &timing, PACE);
            for (device, at) in heard.into_iter().enumerate() {
                let silent = listening.misses(at, &timing, UnixTime(START + now));
                assert!(!silent || at < latest, "who was heard last is not silent");
                if silent && !found.iter().any(|(known, _)| *known == device) {
                    found.push((device, now));
                }
            }
        }
        found
    }
}

fn phases() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0..EVERY, 2..6)
}

proptest! {
    #[test]
    fn whoever_stops_is_silent_once_another_is_heard(phases in phases(), stop in 600_u64..1_200) {
        let plant = Plant::of(&phases, 3_000, |device, at| device != 0 || at < stop);
        let found = plant.silent(0, 3_000);
        prop_assert_eq!(found.len(), 1, "{:?}", found);
        let (device, at) = found[0];
        prop_assert_eq!(device, 0);
        let limit = timing().silent_after();
        prop_assert!(at > stop - EVERY + limit && at <= stop + limit + EVERY + PACE, "{} {}", stop, at);
    }

    #[test]
    fn nobody_is_silent_when_all_are(phases in phases(), cut in 600_u64..1_200) {
        let plant = Plant::of(&phases, 6_000, |_, at| at < cut);
        prop_assert_eq!(plant.silent(0, 6_000), []);
    }

    /// A broken cable of the whole zone, or a weekend without power: who comes back first makes nobody silent.
    #[test]
    fn whoever_comes_back_later_than_another_has_its_time(
        phases in phases(),
        cut in 600_u64..1_200,
        away in 1_u64..3_000,
    ) {
        let back = |at: u64| at < cut || at >= cut + away;
        let plant = Plant::of(&phases, 6_000, |_, at| back(at));
        prop_assert_eq!(plant.silent(0, 6_000), []);
    }

    /// Those that a broker did not hear before it started are not silent for that.
    #[test]
    fn a_broker_that_starts_knows_of_nobody_who_is_late(phases in phases(), start in 600_u64..1_200) {
        let plant = Plant::of(&phases, 3_000, |device, at| at >= start + if device == 0 { 90 } else { 0 });
        prop_assert_eq!(plant.silent(start, 3_000), []);
        let never = Plant::of(&phases, 3_000, |device, at| device != 0 && at >= start);
        let found = never.silent(start, 3_000);
        prop_assert_eq!(found.len(), 1);
        prop_assert!(found[0].1 > start + timing().silent_after(), "{:?}", found);
    }
}

#[test]
fn a_device_that_is_alone_is_never_silent() {
    let plant = Plant::of(&[0], 3_000, |_, at| at < 600);
    assert_eq!(plant.silent(0, 3_000), []);
}
