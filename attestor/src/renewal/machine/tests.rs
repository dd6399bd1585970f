//! Single transitions by hand, the promises of the module header by property.

use proptest::prelude::*;

use policy::renewal::is_due;
use policy::time::{UnixTime, Validity};
use policy::zone::model::Timing;

use super::*;

const NONE: Jitter = Jitter(0);
const MOST: Jitter = Jitter(u16::MAX);
const BOUND: Memory = Memory { bound: true, certified: true, refused: None };

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn issued(incomplete: bool) -> Input {
    let (reattest_every, lifetime) = (seconds(900), seconds(12 * 3600));
    Input::Finished(Outcome::Issued { reattest_every, lifetime, incomplete })
}

fn denied(at_begin: bool, reason: DenialReason, retry_after: u64) -> Input {
    Input::Finished(Outcome::Denied { at_begin, reason, retry_after: seconds(retry_after) })
}

fn started(memory: Memory) -> Machine {
    let mut machine = Machine::new(memory);
    machine.step(Input::Started, NONE).unwrap();
    machine
}

fn wait(effect: Option<Effect>) -> Duration {
    match effect {
        Some(Effect::Wait(wait)) => wait,
        other => panic!("expected a wait, got {other:?}"),
    }
}

#[test]
fn a_new_device_enrolls_makes_keys_for_its_zones_and_holds() {
    let mut machine = Machine::new(Memory::default());
    assert_eq!(machine.step(Input::Started, NONE), Some(Effect::Begin(Exchange::Enroll)));
    let given = Input::Finished(Outcome::Pending { retry_after: Duration::ZERO, keys_missing: true });
    assert_eq!(machine.step(given, NONE), Some(Effect::Begin(Exchange::Renew)));
    assert_eq!(wait(machine.step(issued(false), NONE)), seconds(900));
    assert_eq!(machine.standing(), Standing::Trusted);
}

#[test]
fn a_place_without_certificates_asks_again_at_once_and_then_slower() {
    let mut machine = started(Memory::default());
    let placed = Input::Finished(Outcome::Issued {
        reattest_every: seconds(900),
        lifetime: Duration::ZERO,
        incomplete: true,
    });
    assert_eq!(machine.step(placed, NONE), Some(Effect::Begin(Exchange::Renew)));
    assert_eq!(machine.standing(), Standing::Enrolling);
    assert_eq!(wait(machine.step(placed, MOST)).as_secs_f64().round(), 1.0);
    machine.step(Input::TimerFired, NONE);
    machine.step(placed, NONE);
    assert_eq!(wait(machine.step(placed, MOST)).as_secs_f64().round(), 2.0);
}

#[test]
fn a_broker_that_fails_refuses_nobody() {
    let mut machine = started(BOUND);
    wait(machine.step(denied(false, DenialReason::Unspecified, 0), NONE));
    assert_eq!(machine.standing(), Standing::Holding);
}

#[test]
fn a_refusal_that_says_nothing_of_the_device_takes_nothing_that_it_holds() {
    for reason in [DenialReason::UnsupportedVersion, DenialReason::Malformed] {
        let mut machine = started(BOUND);
        wait(machine.step(denied(true, reason, 0), NONE));
        assert_eq!(machine.standing(), Standing::Holding);
        let mut machine = started(Memory { refused: Some(reason), ..BOUND });
        wait(machine.step(Input::Finished(Outcome::Unreachable), NONE));
        assert_eq!(machine.standing(), Standing::Holding, "nor after a restart");
        let mut machine = started(Memory { bound: true, ..Memory::default() });
        wait(machine.step(denied(true, reason, 0), NONE));
        assert_eq!(machine.standing(), Standing::Refused, "it holds nothing");
    }
}

#[test]
fn a_short_certificate_shortens_the_schedule_to_a_third_of_its_life() {
    let mut machine = started(BOUND);
    let outcome = Outcome::Issued { reattest_every: seconds(900), lifetime: seconds(300), incomplete: false };
    assert_eq!(wait(machine.step(Input::Finished(outcome), NONE)), seconds(100));
}

#[test]
fn a_device_that_waits_for_people_asks_when_the_broker_says_and_enrolls_again() {
    let mut machine = started(Memory::default());
    let waits = Input::Finished(Outcome::Pending { retry_after: seconds(30), keys_missing: false });
    assert_eq!(wait(machine.step(waits, NONE)), seconds(30));
    assert_eq!(machine.standing(), Standing::Pending);
    for _ in 0..20 {
        assert_eq!(machine.step(Input::TimerFired, NONE), Some(Effect::Begin(Exchange::Enroll)));
        assert_eq!(wait(machine.step(waits, NONE)), seconds(30), "however long people take");
    }
}

#[test]
fn a_device_that_the_broker_forgot_keeps_what_holds_while_people_decide() {
    let waits = Input::Finished(Outcome::Pending { retry_after: seconds(30), keys_missing: false });
    let forgotten = denied(true, DenialReason::NotFound, 0);
    let mut machine = started(BOUND);
    assert_eq!(machine.step(forgotten, NONE), Some(Effect::Begin(Exchange::Enroll)));
    assert_eq!(wait(machine.step(waits, NONE)), seconds(30));
    assert_eq!(machine.standing(), Standing::Holding);
    let mut machine = started(Memory { certified: false, ..BOUND });
    machine.step(forgotten, NONE);
    wait(machine.step(waits, NONE));
    assert_eq!(machine.standing(), Standing::Pending, "it holds nothing");
}

#[test]
fn what_changes_on_a_trusted_device_is_told_at_once() {
    let mut machine = started(BOUND);
    wait(machine.step(issued(false), NONE));
    assert_eq!(machine.step(Input::Changed, NONE), Some(Effect::Begin(Exchange::OnDemand)));
    assert_eq!(machine.step(Input::Changed, NONE), None);
    assert_eq!(machine.step(issued(false), NONE), Some(Effect::Begin(Exchange::OnDemand)));
    wait(machine.step(issued(false), NONE));
}

/// A machine that was refused for what it measured until its waits are as long as they become.
fn refused_for_long() -> (Machine, Duration) {
    let mut machine = started(BOUND);
    let mut last = Duration::ZERO;
    for _ in 0..12 {
        last = wait(machine.step(denied(false, DenialReason::ReferenceMismatch, 0), MOST));
        machine.step(Input::TimerFired, NONE);
    }
    (machine, last)
}

#[test]
fn a_refused_device_that_is_mended_asks_soon() {
    let (mut machine, long) = refused_for_long();
    assert!(long > seconds(800));
    wait(machine.step(denied(false, DenialReason::ReferenceMismatch, 0), MOST));
    let soon = wait(machine.step(Input::Measured, MOST));
    assert!((MENDED_WITHIN / 2..=MENDED_WITHIN).contains(&soon), "{soon:?}");
    assert_eq!(machine.step(Input::Measured, MOST), None, "the wait is not pushed on");
    assert_eq!(machine.step(Input::TimerFired, NONE), Some(Effect::Begin(Exchange::OnDemand)));
    wait(machine.step(issued(false), NONE));
    assert_eq!(machine.standing(), Standing::Trusted);
    assert_eq!(machine.step(Input::Measured, NONE), Some(Effect::Begin(Exchange::OnDemand)));
}

#[test]
fn an_image_that_flaps_makes_no_storm() {
    let (mut machine, long) = refused_for_long();
    let (mut asked, mut waited) = (0, Duration::ZERO);
    while waited < 20 * long {
        waited += wait(machine.step(denied(false, DenialReason::ReferenceMismatch, 0), MOST));
        // It changes all the time: only a wait that is cut short is no full one.
        if let Some(Effect::Wait(soon)) = machine.step(Input::Measured, MOST) {
            waited = waited - long + soon;
        }
        assert_eq!(machine.step(Input::Measured, MOST), None);
        machine.step(Input::TimerFired, NONE);
        asked += 1;
    }
    assert!((30..=42).contains(&asked), "{asked} times in twenty waits");
}

#[test]
fn what_is_measured_shortens_no_other_wait() {
    for reason in [DenialReason::Quarantined, DenialReason::NotEndorsed, DenialReason::TryLater] {
        let (mut machine, _) = refused_for_long();
        wait(machine.step(denied(false, reason, 0), MOST));
        assert_eq!(machine.step(Input::Measured, MOST), None, "{reason:?}");
    }
    let (mut machine, _) = refused_for_long();
    wait(machine.step(denied(false, DenialReason::ReferenceMismatch, 60), MOST));
    assert_eq!(machine.step(Input::Measured, MOST), None, "the broker said when");
    let (mut machine, _) = refused_for_long();
    wait(machine.step(denied(false, DenialReason::ReferenceMismatch, 0), MOST));
    assert_eq!(machine.step(Input::Changed, MOST), None, "nothing else was measured");
}

#[test]
fn a_forgotten_device_enrolls_at_once_but_not_in_circles() {
    for reason in [DenialReason::NotFound, DenialReason::NotAdmitted] {
        let mut machine = started(BOUND);
        let forgotten = denied(true, reason, 0);
        assert_eq!(machine.step(forgotten, NONE), Some(Effect::Begin(Exchange::Enroll)));
        let given = Input::Finished(Outcome::Pending { retry_after: Duration::ZERO, keys_missing: true });
        wait(machine.step(given, NONE));
    }
}

#[test]
fn not_admitted_at_enrollment_is_a_refusal() {
    let mut machine = started(Memory::default());
    wait(machine.step(denied(false, DenialReason::NotAdmitted, 0), NONE));
    assert_eq!(machine.standing(), Standing::Refused);
}

#[test]
fn attest_now_is_answered_at_once_and_also_after_an_exchange_in_flight() {
    let mut machine = started(BOUND);
    assert_eq!(machine.step(Input::AttestNow, NONE), None);
    assert_eq!(machine.step(issued(false), NONE), Some(Effect::Begin(Exchange::OnDemand)));
    wait(machine.step(issued(false), NONE));
    assert_eq!(machine.step(Input::AttestNow, NONE), Some(Effect::Begin(Exchange::OnDemand)));
}

#[test]
fn a_device_whose_keys_are_gone_holds_nothing() {
    let mut machine = started(BOUND);
    wait(machine.step(Input::Finished(Outcome::KeysLost), NONE));
    assert_ne!(machine.standing(), Standing::Holding);
    machine.step(Input::TimerFired, NONE);
    wait(machine.step(denied(false, DenialReason::UnsupportedVersion, 0), NONE));
    assert_eq!(machine.standing(), Standing::Refused);
    let mut machine = started(BOUND);
    let (reattest_every, lifetime) = (seconds(900), Duration::ZERO);
    wait(
        machine.step(Input::Finished(Outcome::Issued { reattest_every, lifetime, incomplete: false }), NONE),
    );
    machine.step(Input::TimerFired, NONE);
    wait(machine.step(Input::Finished(Outcome::Unreachable), NONE));
    assert_ne!(machine.standing(), Standing::Holding, "nor does one that got none");
}

#[test]
fn an_absent_broker_means_holding_only_with_certificates() {
    let mut machine = started(BOUND);
    wait(machine.step(Input::Finished(Outcome::Unreachable), NONE));
    assert_eq!(machine.standing(), Standing::Holding);
    let mut machine = started(Memory::default());
    wait(machine.step(Input::Finished(Outcome::Unreachable), NONE));
    assert_eq!(machine.standing(), Standing::Enrolling);
}

#[test]
fn a_refusal_outlasts_an_absent_broker_and_a_restart() {
    let mut machine = started(Memory { refused: Some(DenialReason::NotEndorsed), ..BOUND });
    wait(machine.step(Input::Finished(Outcome::Unreachable), NONE));
    assert_eq!(machine.standing(), Standing::Refused);
    wait(machine.step(Input::TimerFired, NONE).and_then(|_| machine.step(issued(false), NONE)));
    assert_eq!(machine.standing(), Standing::Trusted);
}

#[test]
fn a_busy_broker_changes_no_verdict_and_its_delay_is_kept() {
    let mut machine = started(BOUND);
    wait(machine.step(issued(false), NONE));
    machine.step(Input::TimerFired, NONE);
    assert_eq!(wait(machine.step(denied(true, DenialReason::TryLater, 20), NONE)), seconds(20));
    assert_eq!(machine.standing(), Standing::Trusted);
}

#[test]
fn a_device_that_starts_with_certificates_holds_while_the_broker_is_busy() {
    let mut machine = started(BOUND);
    wait(machine.step(denied(true, DenialReason::TryLater, 20), NONE));
    assert_eq!(machine.standing(), Standing::Holding);
    let mut machine = started(BOUND);
    machine.step(denied(false, DenialReason::MustReattest, 0), NONE);
    wait(machine.step(denied(false, DenialReason::MustReattest, 0), NONE));
    assert_eq!(machine.standing(), Standing::Holding);
    let mut machine = started(Memory { certified: false, ..BOUND });
    wait(machine.step(denied(true, DenialReason::TryLater, 20), NONE));
    assert_eq!(machine.standing(), Standing::Starting, "it holds nothing");
}

#[test]
fn a_loss_in_one_zone_asks_at_once_and_gives_up_what_was_asked_before() {
    let mut machine = started(BOUND);
    assert_eq!(machine.step(Input::ZoneLost, NONE), Some(Effect::Begin(Exchange::OnDemand)));
    wait(machine.step(issued(false), NONE));
    assert_eq!(machine.step(Input::ZoneLost, NONE), Some(Effect::Begin(Exchange::OnDemand)));
    assert_eq!(machine.standing(), Standing::Trusted);
}

#[test]
fn backoff_doubles_up_to_the_zones_interval() {
    let mut machine = started(BOUND);
    let mut waits = Vec::new();
    for _ in 0..12 {
        waits.push(wait(machine.step(Input::Finished(Outcome::Unreachable), MOST)).as_secs_f64().round());
        machine.step(Input::TimerFired, NONE);
    }
    assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 900.0, 900.0]);
}

#[test]
fn a_broker_that_came_back_is_asked_soon() {
    let mut machine = started(BOUND);
    for _ in 0..10 {
        machine.step(Input::Finished(Outcome::Unreachable), MOST);
        machine.step(Input::TimerFired, NONE);
    }
    machine.step(Input::Finished(Outcome::Unreachable), MOST);
    assert!(wait(machine.step(Input::BrokerHeard, MOST)) <= seconds(11));
    assert_eq!(machine.step(Input::BrokerHeard, MOST), None, "the wait is not pushed on");
    machine.step(Input::TimerFired, NONE);
    let busy = wait(machine.step(denied(true, DenialReason::TryLater, 20), MOST));
    assert!(busy <= seconds(22), "it asked for a while, and no more: {busy:?}");
}

#[test]
fn brokers_that_are_heard_and_never_answer_are_asked_ever_more_seldom() {
    let mut machine = started(BOUND);
    let (mut asked, mut waited) = (0, Duration::ZERO);
    while waited < seconds(24 * 3600) {
        let long = wait(machine.step(Input::Finished(Outcome::Unreachable), MOST));
        // It watches another then, which opens the stream and answers no call either.
        waited += match machine.step(Input::BrokerHeard, MOST) {
            Some(Effect::Wait(soon)) => soon,
            _ => long,
        };
        machine.step(Input::TimerFired, NONE);
        asked += 1;
    }
    assert!(asked < 220, "{asked} times in a day");
}

#[test]
fn lost_trust_is_a_refusal_and_asks_again() {
    let mut machine = started(BOUND);
    wait(machine.step(issued(false), NONE));
    assert!(wait(machine.step(Input::TrustLost(DenialReason::ReferenceMismatch), MOST)) <= seconds(1));
    assert_eq!(machine.standing(), Standing::Refused);
    machine.step(Input::TimerFired, NONE);
    wait(machine.step(Input::Finished(Outcome::Unreachable), NONE));
    assert_eq!(machine.standing(), Standing::Refused, "what was revoked does not hold");
}

#[test]
fn an_exchange_in_flight_when_trust_is_lost_is_given_up() {
    let mut machine = started(BOUND);
    assert!(wait(machine.step(Input::TrustLost(DenialReason::ReferenceMismatch), MOST)) <= seconds(1));
    assert_eq!(machine.step(issued(false), NONE), None, "its answer may be older than the loss");
    assert_eq!(machine.standing(), Standing::Refused);
}

#[test]
fn quarantine_is_told_from_other_refusals_and_outlasts_a_restart() {
    let mut machine = started(BOUND);
    wait(machine.step(denied(true, DenialReason::Quarantined, 0), NONE));
    assert_eq!(machine.standing(), Standing::Quarantined);
    let mut machine = started(Memory { refused: Some(DenialReason::Quarantined), ..BOUND });
    wait(machine.step(Input::Finished(Outcome::Unreachable), NONE));
    assert_eq!(machine.standing(), Standing::Quarantined);
    wait(machine.step(Input::TimerFired, NONE).and_then(|_| machine.step(issued(false), NONE)));
    wait(machine.step(Input::TrustLost(DenialReason::Quarantined), NONE));
    assert_eq!(machine.standing(), Standing::Quarantined);
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![0..10_u64, 0..100_000_u64, any::<u64>()].prop_map(Duration::from_secs)
}

fn any_reason() -> impl Strategy<Value = DenialReason> {
    (0..16_i32).prop_map(|n| DenialReason::try_from(n).unwrap())
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let reason = any_reason();
    prop_oneof![
        (any_duration(), any_duration(), any::<bool>()).prop_map(|(reattest_every, lifetime, incomplete)| {
            Outcome::Issued { reattest_every, lifetime, incomplete }
        }),
        (any_duration(), any::<bool>())
            .prop_map(|(retry_after, keys_missing)| Outcome::Pending { retry_after, keys_missing }),
        (any::<bool>(), reason, any_duration()).prop_map(|(at_begin, reason, retry_after)| {
            Outcome::Denied { at_begin, reason, retry_after }
        }),
        Just(Outcome::Unreachable),
        Just(Outcome::Failed),
        Just(Outcome::KeysLost),
    ]
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => any_outcome().prop_map(Input::Finished),
        4 => Just(Input::TimerFired),
        1 => Just(Input::AttestNow),
        2 => Just(Input::Changed),
        2 => Just(Input::Measured),
        1 => any_reason().prop_map(Input::TrustLost),
        1 => Just(Input::ZoneLost),
        1 => Just(Input::BrokerHeard),
        1 => Just(Input::Started),
    ]
}

proptest! {
    #[test]
    fn one_exchange_or_one_timer_always_runs(
        bound: bool, certified: bool, refused in prop::option::of(any_reason()),
        inputs in prop::collection::vec((any_input(), any::<u16>()), 1..200),
    ) {
        let mut machine = Machine::new(Memory { bound, certified, refused });
        prop_assert!(matches!(machine.step(Input::Started, NONE), Some(Effect::Begin(_))));
        let (mut in_flight, mut in_a_row) = (true, 1);
        for (input, jitter) in inputs {
            // The world gives no answer to what was not asked, and rings no timer that does not run.
            let impossible = match input {
                Input::Finished(_) => !in_flight,
                Input::TimerFired => in_flight,
                _ => false,
            };
            if impossible {
                prop_assert_eq!(machine.step(input, Jitter(jitter)), None);
                continue;
            }
            if matches!(input, Input::AttestNow | Input::ZoneLost | Input::Changed | Input::Measured | Input::TimerFired) {
                in_a_row = 0;
            }
            match machine.step(input, Jitter(jitter)) {
                Some(Effect::Begin(exchange)) => {
                    // Lost trust gives up the one in flight.
                    let ended = matches!(input, Input::Finished(_) | Input::TrustLost(_) | Input::ZoneLost);
                    prop_assert!(!in_flight || ended, "two at once");
                    prop_assert_eq!(exchange == Exchange::Enroll, !machine.is_bound());
                    in_flight = true;
                    in_a_row += 1;
                    prop_assert!(in_a_row <= 3, "no wait between exchanges");
                }
                Some(Effect::Wait(wait)) => {
                    in_flight = false;
                    prop_assert!(wait >= Duration::from_millis(500), "{:?}", wait);
                    prop_assert!(wait <= MOST_PERIOD.max(MOST_RETRY_AFTER + MOST_RETRY_AFTER / 10));
                }
                None => prop_assert!(in_flight || !matches!(input, Input::Finished(_) | Input::TimerFired)),
            }
        }
    }

    #[test]
    fn a_good_attestation_is_followed_by_the_next_in_time(
        every in 1..86_400_u64, life in 3..1_000_000_u64, jitter: u16,
    ) {
        let mut machine = started(BOUND);
        let outcome = Outcome::Issued {
            reattest_every: seconds(every), lifetime: seconds(life), incomplete: false,
        };
        let wait = wait(machine.step(Input::Finished(outcome), Jitter(jitter)));
        let latest = seconds(every).min(seconds(life) / 3).max(LEAST_PERIOD);
        prop_assert!(wait <= latest && wait >= latest * 4 / 5);
    }

    #[test]
    fn whenever_the_broker_goes_away_what_outlives_it_is_left(
        outlive in 900..2_592_000_u64, part in 1..=1000_u64, backdate in 0..=300_u64,
        proofs in prop::collection::vec(any::<u16>(), 1..60),
    ) {
        let every = (outlive / 2 * part / 1000).max(15);
        let timing = Timing::new(every, outlive, None).unwrap();
        // In milliseconds, since jitter cuts seconds into parts; a certificate knows whole seconds.
        let mut now = 1_800_000_000_000_u64;
        let issue = |now: u64| {
            let at = UnixTime(now / 1000);
            Validity { not_before: at.minus(backdate), not_after: at.plus(timing.certificate_lifetime()) }
        };
        let (mut held, mut replaced, begun) = (issue(now), 0_u64, now);
        let mut machine = started(BOUND);
        for jitter in proofs {
            let at = UnixTime(now / 1000);
            if is_due(held, at, every.min(MOST_PERIOD.as_secs())) {
                (held, replaced) = (issue(now), replaced + 1);
            }
            let left = seconds(held.not_after.since(at));
            let outcome = Outcome::Issued { reattest_every: seconds(every), lifetime: left, incomplete: false };
            let wait = wait(machine.step(Input::Finished(outcome), Jitter(jitter)));
            machine.step(Input::TimerFired, NONE);
            now += u64::try_from(wait.as_millis()).unwrap();
            // At the next proof the broker is found to be away.
            let left = held.not_after.since(UnixTime(now / 1000));
            prop_assert!(left + 1 >= outlive, "{left} of {outlive} s");
        }
        // Not a certificate at every proof: each is used for what the promise leaves of its third, less one interval.
        let least = (timing.replace_after().saturating_sub(2 * every + backdate + 2)) * 1000;
        prop_assert!(replaced * least <= now - begun, "{replaced} in {} ms", now - begun);
    }

    #[test]
    fn what_changes_on_the_device_does_not_shorten_a_wait(
        outcome in any_outcome(), changes in 1..20_usize, jitter: u16,
    ) {
        let mut machine = started(Memory { certified: false, ..BOUND });
        for _ in 0..changes {
            prop_assert_eq!(machine.step(Input::Changed, Jitter(jitter)), None, "one is in flight");
        }
        if let Some(Effect::Wait(_)) = machine.step(Input::Finished(outcome), Jitter(jitter)) {
            prop_assert!(!matches!(outcome, Outcome::Issued { .. }), "a good one is followed at once");
            for _ in 0..changes {
                prop_assert_eq!(machine.step(Input::Changed, Jitter(jitter)), None);
            }
            let next = machine.step(Input::TimerFired, Jitter(jitter));
            prop_assert!(matches!(next, Some(Effect::Begin(Exchange::OnDemand | Exchange::Enroll))));
        }
    }

    #[test]
    fn the_brokers_delay_is_kept(retry_after in 0..3600_u64, jitter: u16) {
        let mut machine = started(BOUND);
        let input = denied(false, DenialReason::Quarantined, retry_after);
        prop_assert!(wait(machine.step(input, Jitter(jitter))) >= seconds(retry_after));
    }
}
