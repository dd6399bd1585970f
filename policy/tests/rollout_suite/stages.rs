//! What a device's state means.

use policy::rollout::{Baseline, Health, Member, Stage, Told, Trust};

use crate::fleet::{DEADLINE, NOW, member, plan, release, told};

fn stage(member: &Member) -> Stage {
    member.stage(&plan(&["100%"], 1, 1, 0), NOW.plus(60))
}

fn late(member: &Member) -> Stage {
    member.stage(&plan(&["100%"], 1, 1, 0), NOW.plus(DEADLINE))
}

fn updated(health: Health, baseline: Baseline) -> Member {
    let told = Told { at: NOW, baseline, proven: None };
    Member { running: Some(release("2.0")), health, told: Some(told), ..member("press-7") }
}

#[test]
fn only_a_quote_of_the_new_release_proves_it() {
    assert_eq!(stage(&member("press-7")), Stage::Waiting);
    assert_eq!(stage(&told(member("press-7"))), Stage::InFlight, "it still runs the former release");
    assert_eq!(stage(&updated(Health::Ok, Baseline::Ok)), Stage::Running);
    let silent = Member { trust: Trust::Unknown, ..updated(Health::Ok, Baseline::Ok) };
    assert_eq!((stage(&silent), late(&silent)), (Stage::InFlight, Stage::Missing));
    let refused = Member { trust: Trust::Lost, ..told(member("press-7")) };
    assert_eq!(stage(&refused), Stage::Lost);
    assert_eq!(late(&told(member("press-7"))), Stage::Missing);
}

#[test]
fn health_counts_against_the_devices_own_baseline() {
    let failing = |in_a_row| Health::Failing { in_a_row };
    assert_eq!(stage(&updated(failing(1), Baseline::Ok)), Stage::InFlight, "a start may not be over");
    assert_eq!(stage(&updated(failing(2), Baseline::Ok)), Stage::Sick);
    assert_eq!(stage(&updated(failing(2), Baseline::None)), Stage::Sick);
    assert_eq!(late(&updated(failing(1), Baseline::Ok)), Stage::Sick);
    assert_eq!(stage(&updated(failing(9), Baseline::Failing)), Stage::Running, "it failed before");
    assert_eq!(stage(&updated(Health::None, Baseline::None)), Stage::Running);
    assert_eq!(stage(&updated(Health::None, Baseline::Failing)), Stage::Running);
    let mute = updated(Health::None, Baseline::Ok);
    assert_eq!((stage(&mute), late(&mute)), (Stage::InFlight, Stage::Missing), "the check is gone");
}

#[test]
fn what_was_proven_stays_so_unless_it_goes_wrong_later() {
    let proven = |change: fn(&mut Member)| {
        let mut member = updated(Health::Ok, Baseline::Ok);
        member.told = member.told.map(|told| Told { proven: Some(NOW.plus(10)), ..told });
        change(&mut member);
        late(&member)
    };
    assert_eq!(proven(|member| member.trust = Trust::Unknown), Stage::Running, "switched off");
    assert_eq!(proven(|member| member.trust = Trust::Lost), Stage::Lost);
    assert_eq!(proven(|member| member.health = Health::Failing { in_a_row: 1 }), Stage::InFlight);
    assert_eq!(proven(|member| member.health = Health::Failing { in_a_row: 2 }), Stage::Sick);
    assert_eq!(proven(|member| member.running = Some(release("3.0"))), Stage::Running, "moved on");
    let back =
        |member: &mut Member| (member.ran, member.running) = (Some(release("1.0")), Some(release("1.0")));
    assert_eq!(proven(back), Stage::Missing, "its updater gave the release up");
}
