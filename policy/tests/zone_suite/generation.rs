//! A rotation never leaves a zone without an authority that its peers believe.

use policy::time::UnixTime;
use policy::zone::generation::{Generation, GenerationState, Step, next_step};
use proptest::prelude::*;

const LIFETIME: u64 = 100;
/// The longest that any certificate lives.
const LONGEST: u64 = 45 * 86_400;
const LIFE: u64 = 20 * LONGEST;

fn generation(number: u32, state: GenerationState, since: u64) -> Generation {
    Generation {
        number,
        state,
        since: UnixTime(since),
        published: since,
        not_before: UnixTime(since),
        not_after: UnixTime(since + LIFE),
    }
}

fn step(all: &[Generation], now: u64, lagging: usize) -> Option<Step> {
    next_step(all, LIFETIME, 0, UnixTime(now), |_| lagging)
}

#[test]
fn one_that_is_half_over_is_followed_by_the_next() {
    let active = [generation(1, GenerationState::Active, 0)];
    assert_eq!(step(&active, LIFE / 2 - 1, 0), None);
    assert_eq!(step(&active, LIFE / 2, 0), Some(Step::Prepare));
    let with = [active[0], generation(2, GenerationState::Prepared, LIFE / 2)];
    assert_ne!(step(&with, LIFE / 2 + 1, 1), Some(Step::Prepare), "one is enough");
}

#[test]
fn it_signs_once_all_believe_it_or_the_deadline_passed() {
    let all = [generation(1, GenerationState::Active, 0), generation(2, GenerationState::Prepared, 5_000)];
    assert_eq!(step(&all, 5_001, 3), None);
    assert_eq!(step(&all, 5_001, 0), Some(Step::Activate { number: 2, stragglers: 0 }));
    assert_eq!(step(&all, 5_100, 3), Some(Step::Activate { number: 2, stragglers: 3 }));
    let published = next_step(&all, LIFETIME, 0, UnixTime(5_001), |sequence| usize::from(sequence != 5_000));
    assert_eq!(published, Some(Step::Activate { number: 2, stragglers: 0 }), "asked about its own sequence");
}

#[test]
fn it_signs_once_readers_of_published_bundles_have_looked_again() {
    let all = [generation(1, GenerationState::Active, 0), generation(2, GenerationState::Prepared, 5_000)];
    let at = |now, lagging| next_step(&all, LIFETIME, 50, UnixTime(now), |_| lagging);
    assert_eq!(at(5_049, 0), None);
    assert_eq!(at(5_050, 3), None, "devices are waited for as well");
    assert_eq!(at(5_050, 0), Some(Step::Activate { number: 2, stragglers: 0 }));
    assert_eq!(at(5_100, 3), Some(Step::Activate { number: 2, stragglers: 3 }));
}

#[test]
fn one_that_ended_while_the_broker_was_off_is_followed_at_once() {
    let all = [generation(1, GenerationState::Active, 0), generation(2, GenerationState::Prepared, LIFE)];
    assert_eq!(step(&all, LIFE - 1, 3), None);
    assert_eq!(step(&all, LIFE, 3), Some(Step::Activate { number: 2, stragglers: 3 }));
}

#[test]
fn an_old_one_is_believed_until_its_last_certificate_ended() {
    let all = [generation(1, GenerationState::Old, 5_000), generation(2, GenerationState::Active, 5_000)];
    assert_eq!(step(&all, 5_000 + LONGEST - 1, 0), None);
    assert_eq!(step(&all, 5_000 + LONGEST, 0), Some(Step::Forget(1)));
}

#[test]
fn where_no_generation_signs_another_does_at_once() {
    let gone = generation(1, GenerationState::Distrusted, 0);
    assert_eq!(step(&[gone], 1, 0), Some(Step::Replace));
    assert_eq!(step(&[], 1, 0), None, "a zone without a line is not there");
}

proptest! {
    /// A zone that is left alone for long, its devices coming and going, always has exactly one authority that signs,
    /// everything that it signed is believed while it holds, and the numbers rise.
    #[test]
    fn a_zone_that_is_left_alone_is_never_without_an_authority(
        lags in prop::collection::vec(0_usize..3, 400),
        ticks in prop::collection::vec(1_u64..LONGEST / 4, 400),
    ) {
        let mut all = vec![generation(1, GenerationState::Active, 0)];
        let (mut now, mut last_signed) = (0, std::collections::BTreeMap::new());
        for (lag, tick) in lags.into_iter().zip(ticks) {
            now += tick;
            match step(&all, now, lag) {
                Some(Step::Prepare) => {
                    let number = all.iter().map(|one| one.number).max().unwrap() + 1;
                    all.push(generation(number, GenerationState::Prepared, now));
                }
                Some(Step::Activate { number, .. }) => {
                    for one in &mut all {
                        let next = match one.state {
                            _ if one.number == number => GenerationState::Active,
                            GenerationState::Active => GenerationState::Old,
                            other => other,
                        };
                        if next != one.state {
                            (one.state, one.since) = (next, UnixTime(now));
                        }
                    }
                }
                Some(Step::Forget(number)) => {
                    let ended = last_signed[&number] + LONGEST;
                    prop_assert!(ended <= now, "a certificate of {number} holds until {ended}, it is {now}");
                    all.iter_mut().find(|one| one.number == number).unwrap().state = GenerationState::Distrusted;
                }
                Some(Step::Replace) => prop_assert!(false, "there is one that signs"),
                None => {}
            }
            let active: Vec<&Generation> = all.iter().filter(|one| one.state == GenerationState::Active).collect();
            prop_assert_eq!(active.len(), 1);
            prop_assert!(active[0].not_after.0 > now, "it ended");
            last_signed.insert(active[0].number, now);
        }
    }
}
