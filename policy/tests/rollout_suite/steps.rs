//! What is done next.

use std::sync::Arc;

use policy::rollout::{Effect, Health, Holders, Member, Position, Trust};

use crate::fleet::{DEADLINE, Memory, NOW, depending, member, plan, proven, release, tell};

fn run(fleet: &mut [Member], name: &str) {
    let member = fleet.iter_mut().find(|member| member.device.as_str() == name).unwrap();
    member.running = Some(release("2.0"));
}

fn with(fleet: &mut [Member], name: &str, change: impl Fn(&mut Member)) {
    change(fleet.iter_mut().find(|member| member.device.as_str() == name).unwrap());
}

fn staged(name: &str) -> Member {
    Member { zones: ["staging".parse().unwrap()].into(), ..member(name) }
}

#[test]
fn waves_follow_each_other_with_a_hold() {
    let mut memory = Memory::new(plan(&["zone=staging", "100%"], 2, 2, 600));
    let mut fleet = [member("press-1"), staged("test-1"), member("press-2")];
    assert_eq!(memory.settle(&fleet, NOW), [tell(&["test-1"])]);
    assert_eq!(memory.settle(&fleet, NOW.plus(60)), []);
    run(&mut fleet, "test-1");
    assert_eq!(memory.settle(&fleet, NOW.plus(120)), [proven(&["test-1"]), Effect::WaveDone]);
    assert_eq!(memory.settle(&fleet, NOW.plus(719)), []);
    assert_eq!(memory.settle(&fleet, NOW.plus(720)), [Effect::NextWave, tell(&["press-1", "press-2"])]);
    run(&mut fleet, "press-2");
    assert_eq!(memory.settle(&fleet, NOW.plus(800)), [proven(&["press-2"])]);
    run(&mut fleet, "press-1");
    assert_eq!(memory.settle(&fleet, NOW.plus(900)), [proven(&["press-1"]), Effect::Finished]);
    assert_eq!(memory.settle(&fleet, NOW.plus(901)), []);
}

#[test]
fn as_many_are_in_flight_as_the_budget_has() {
    let mut memory = Memory::new(plan(&["100%"], 2, 5, 0));
    let mut fleet = [member("press-1"), member("press-2"), member("press-3")];
    assert_eq!(memory.settle(&fleet, NOW), [tell(&["press-1", "press-2"])]);
    with(&mut fleet, "press-1", |member| member.trust = Trust::Lost);
    run(&mut fleet, "press-2");
    assert_eq!(
        memory.settle(&fleet, NOW.plus(60)),
        [proven(&["press-2"]), tell(&["press-3"])],
        "one of two is lost, so one may be in flight"
    );
    with(&mut fleet, "press-3", |member| member.trust = Trust::Lost);
    let effects = memory.settle(&fleet, NOW.plus(120));
    let [Effect::Halt(reason)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(
        reason.to_string(),
        "the budget is used up: 2 lost trust, did not prove the release in time or went back from it: press-1, press-3"
    );
    with(&mut fleet, "press-1", |member| member.trust = Trust::Trusted);
    assert_eq!(memory.settle(&fleet, NOW.plus(180)), [], "halted tells nobody");
}

#[test]
fn a_failing_health_command_halts_unless_it_failed_before() {
    let mut memory = Memory::new(plan(&["100%"], 9, 1, 0));
    let failing = Health::Failing { in_a_row: 3 };
    let mut fleet = [Member { health: failing, ..member("press-1") }, member("press-2"), member("press-3")];
    assert_eq!(memory.settle(&fleet, NOW), [tell(&["press-1"])]);
    run(&mut fleet, "press-1");
    assert_eq!(memory.settle(&fleet, NOW.plus(60)), [proven(&["press-1"]), tell(&["press-2"])]);
    run(&mut fleet, "press-2");
    with(&mut fleet, "press-2", |member| member.health = Health::Failing { in_a_row: 1 });
    assert_eq!(memory.settle(&fleet, NOW.plus(120)), []);
    with(&mut fleet, "press-2", |member| member.health = Health::Failing { in_a_row: 2 });
    let effects = memory.settle(&fleet, NOW.plus(180));
    let [Effect::Halt(reason)] = effects.as_slice() else { panic!("{effects:?}") };
    assert!(reason.to_string().ends_with("which did not fail before: press-2"), "{reason}");
}

#[test]
fn devices_that_share_a_dependency_are_never_in_flight_together() {
    let mut memory = Memory::new(plan(&["100%"], 9, 9, 0));
    let mut fleet = [
        depending("press-1", &["cooling"]),
        depending("press-2", &["cooling"]),
        depending("press-3", &["press-4"]),
        member("press-4"),
        member("press-5"),
    ];
    assert_eq!(memory.settle(&fleet, NOW), [tell(&["press-1", "press-3", "press-5"])]);
    run(&mut fleet, "press-3");
    assert_eq!(memory.settle(&fleet, NOW.plus(60)), [proven(&["press-3"]), tell(&["press-4"])]);
    ["press-1", "press-4", "press-5"].iter().for_each(|name| run(&mut fleet, name));
    let next = memory.settle(&fleet, NOW.plus(120));
    assert_eq!(next, [proven(&["press-1", "press-4", "press-5"]), tell(&["press-2"])]);
}

#[test]
fn a_device_that_vanishes_holds_up_nobody_but_its_peers() {
    let mut memory = Memory::new(plan(&["zone=staging", "100%"], 3, 3, 0));
    let peer = || depending("press-1", &["test-1"]);
    let mut fleet = [staged("test-1"), peer(), member("press-2")];
    assert_eq!(memory.settle(&fleet, NOW), [tell(&["test-1"])]);
    with(&mut fleet, "test-1", |member| member.trust = Trust::Unknown);
    assert_eq!(memory.settle(&fleet, NOW.plus(DEADLINE - 1)), []);
    let next = [Effect::WaveDone, Effect::NextWave, tell(&["press-2"])];
    assert_eq!(memory.settle(&fleet, NOW.plus(DEADLINE)), next);
    run(&mut fleet, "press-2");
    let after = NOW.plus(DEADLINE + 60);
    assert_eq!(memory.settle(&fleet, after), [proven(&["press-2"])], "press-1 is not given up");
    let seen = memory.seen(&fleet);
    assert_eq!(Holders::new(&memory.plan, &seen, after).of(&seen[1]), [&"test-1".parse().unwrap()]);
    // An administrator takes the one that vanished out of the fleet.
    let mut left = [peer(), fleet[2].clone()];
    assert_eq!(memory.settle(&left, after), [tell(&["press-1"])]);
    run(&mut left, "press-1");
    assert_eq!(memory.settle(&left, after), [proven(&["press-1"]), Effect::Finished]);
}

#[test]
fn a_device_that_comes_late_is_told_in_whatever_wave_it_is() {
    let mut memory = Memory::new(plan(&["zone=staging", "100%"], 1, 1, 600));
    let mut fleet =
        [Member { trust: Trust::Unknown, ..staged("test-1") }, staged("test-2"), member("press-1")];
    assert_eq!(memory.settle(&fleet, NOW), [tell(&["test-2"])]);
    run(&mut fleet, "test-2");
    assert_eq!(memory.settle(&fleet, NOW.plus(1)), [proven(&["test-2"]), Effect::WaveDone]);
    with(&mut fleet, "test-1", |member| member.trust = Trust::Trusted);
    assert_eq!(memory.settle(&fleet, NOW.plus(2)), [tell(&["test-1"])]);
    assert_eq!(memory.settle(&fleet, NOW.plus(700)), [], "nobody else before it is back");
    run(&mut fleet, "test-1");
    assert_eq!(memory.position, Position { wave: 0, done_at: Some(NOW.plus(1)) });
    let next = [proven(&["test-1"]), Effect::NextWave, tell(&["press-1"])];
    assert_eq!(memory.settle(&fleet, NOW.plus(701)), next);
}

#[test]
fn the_way_back_is_one_wave_that_nothing_halts() {
    let back = plan(&["10%", "100%"], 1, 1, 600).back(release("1.0"));
    let mut memory = Memory::new(back);
    let mut fleet: Vec<_> = (1..=5).map(|n| member(&format!("press-{n}"))).collect();
    for member in &mut fleet {
        member.running = Some(release("2.0"));
    }
    fleet[4].depends_on = Arc::new(["press-1".to_owned()].into());
    assert_eq!(memory.settle(&fleet, NOW), [tell(&["press-1", "press-2", "press-3", "press-4"])]);
    with(&mut fleet, "press-2", |member| member.trust = Trust::Lost);
    for name in ["press-1", "press-3", "press-4"] {
        with(&mut fleet, name, |member| member.running = Some(release("1.0")));
    }
    let next = [proven(&["press-1", "press-3", "press-4"]), tell(&["press-5"])];
    assert_eq!(memory.settle(&fleet, NOW.plus(60)), next);
}

#[test]
fn whoever_lost_trust_is_told_the_way_back_at_once() {
    let mut memory = Memory::new(plan(&["100%"], 1, 1, 0).back(release("1.0")));
    let mut fleet = [depending("press-1", &["cooling"]), depending("press-2", &["cooling"])];
    with(&mut fleet, "press-2", |member| member.running = Some(release("2.0")));
    with(&mut fleet, "press-1", |member| (member.trust, member.running) = (Trust::Lost, None));
    assert_eq!(memory.settle(&fleet, NOW), [tell(&["press-1"])], "press-2 waits for it");
    with(&mut fleet, "press-1", |member| {
        (member.trust, member.running) = (Trust::Trusted, Some(release("1.0")));
    });
    assert_eq!(memory.settle(&fleet, NOW.plus(60)), [proven(&["press-1"]), tell(&["press-2"])]);
    // The way forward tells nobody who lost trust.
    let mut memory = Memory::new(plan(&["100%"], 1, 1, 0));
    let lost = [Member { trust: Trust::Lost, ..member("press-1") }, member("press-2")];
    assert_eq!(memory.settle(&lost, NOW), [tell(&["press-2"])]);
}

#[test]
fn devices_of_other_products_are_never_told_and_hold_back_their_peers() {
    let outside = |member| Member { outside: true, running: None, ..member };
    let mut memory = Memory::new(plan(&["100%"], 9, 9, 0));
    let mut fleet = [
        outside(Member { moving: true, ..depending("gate-1", &["cooling"]) }),
        outside(Member { trust: Trust::Unknown, ..member("gate-2") }),
        depending("press-1", &["cooling"]),
        depending("press-2", &["gate-2"]),
        Member { moving: true, ..member("press-3") },
        member("press-4"),
    ];
    assert_eq!(memory.settle(&fleet, NOW), [tell(&["press-4"])]);
    let seen = memory.seen(&fleet);
    let holders = Holders::new(&memory.plan, &seen, NOW);
    assert_eq!(holders.of(&seen[2]), [&"gate-1".parse().unwrap()]);
    assert_eq!(holders.of(&seen[3]), [&"gate-2".parse().unwrap()]);
    run(&mut fleet, "press-4");
    assert_eq!(memory.settle(&fleet, NOW.plus(60)), [proven(&["press-4"])], "the moving ones are waited for");
    fleet.iter_mut().for_each(|member| member.moving = false);
    assert_eq!(memory.settle(&fleet, NOW.plus(120)), [tell(&["press-1", "press-3"])]);
    ["press-1", "press-3"].iter().for_each(|name| run(&mut fleet, name));
    let last = memory.settle(&fleet, NOW.plus(180));
    assert_eq!(last, [proven(&["press-1", "press-3"])], "press-2 is not given up while gate-2 is down");
    with(&mut fleet, "gate-2", |member| member.trust = Trust::Trusted);
    assert_eq!(memory.settle(&fleet, NOW.plus(240)), [tell(&["press-2"])]);
}
