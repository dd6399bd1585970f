use std::time::Duration;

use policy::digest::Digest;
use policy::id::ZoneName;
use policy::zone::{DrillBounds, Fault, Zone};

use super::{Passage, device_of, is_cut_off, passage, refresh, turn};
use crate::admin::drill::{Begun, Request, end, observe, start};
use crate::admin::reach::Scope;
use crate::admin::tests::{Bench, NOW, observing, refused};
use crate::admin::{Act, zone as zones};
use crate::config::Backend;
use crate::record::device::{Decision, Device, KeyLine, Prover, device_key};
use crate::record::drill::drill_key;
use crate::record::zone::zone_key;
use crate::record::{fetch, stored};
use crate::session::Refusal;
use crate::store::Txn;
use crate::store::etcd::EtcdOptions;

fn zone(text: &str) -> ZoneName {
    text.parse().unwrap()
}

fn staging() -> Zone {
    Zone { drills: Some(DrillBounds::default()), ..observing("staging") }
}

/// A staging zone with press-7, a line with press-8, and a gateway in both.
async fn bench() -> Bench {
    let bench = Bench::new().await;
    for zone in [staging(), observing("line")] {
        bench.zone(&zone).await;
    }
    for (name, zones) in
        [("press-7", &["staging"][..]), ("press-8", &["line"]), ("gate", &["line", "staging"])]
    {
        let device = bench.device(name, zones).await;
        bench.attest(&device, "boot-a", Decision::Trusted).await;
        bench.certificate(&device, zones[0], 7).await;
    }
    bench
}

fn asked(fault: Fault) -> Request {
    Request {
        zone: zone("staging"),
        fault,
        device: fault.is_of_one().then(|| "press-7".parse().unwrap()),
        seconds: 60,
        delay: 0,
        reason: "the yearly drill".to_owned(),
        dry_run: false,
    }
}

async fn begin(bench: &Bench, request: &Request) -> Result<Begun, Refusal> {
    start(&bench.plant, &bench.actor(Act::StartDrill).await, request).await
}

async fn passed(bench: &Bench, device: &str) -> Passage {
    passage(&bench.plant, &device.parse().unwrap()).await.unwrap()
}

async fn cut_off(bench: &Bench, device: &str) -> bool {
    is_cut_off(&bench.plant, &device.parse().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_zone_that_is_not_marked_is_never_drilled() {
    let bench = bench().await;
    for fault in Fault::ALL {
        let text =
            refused!(begin(&bench, &Request { zone: zone("line"), ..asked(fault) }).await, NotPermitted);
        assert!(text.contains("`touchstone zone set line --drills on`"), "{text}");
    }
    assert!(!cut_off(&bench, "press-8").await);
}

#[tokio::test]
async fn a_lost_link_is_lost_for_devices_of_the_zone_alone_and_only_until_its_end() {
    let bench = bench().await;
    let begun = begin(&bench, &asked(Fault::LinkLoss)).await.unwrap();
    assert_eq!(begun.before.left_out, ["gate".parse().unwrap()]);
    let hit = async |name: &str| passed(&bench, name).await == Passage::Lost;
    assert!(cut_off(&bench, "press-7").await && hit("press-7").await);
    let of_ek = async |name: &str| device_of(&bench.plant, &Digest::of(name.as_bytes())).await.unwrap();
    assert_eq!(of_ek("press-7").await, Some("press-7".parse().unwrap()), "it enrolls again by its EK alone");
    assert_eq!(of_ek("nobody").await, None);
    for other in ["press-8", "gate", "nobody"] {
        assert!(!cut_off(&bench, other).await && !hit(other).await, "{other}");
    }
    let text = refused!(begin(&bench, &asked(Fault::LinkLoss)).await, Conflict);
    assert!(text.contains("a drill of ada runs in zone staging"), "{text}");
    bench.clock.set(NOW.plus(59));
    assert!(cut_off(&bench, "press-7").await);
    // Nobody does anything, and it is over.
    bench.clock.set(NOW.plus(60));
    assert!(!cut_off(&bench, "press-7").await);
    turn(&bench.plant).await.unwrap();
    let key = drill_key(&zone("staging"));
    assert!(fetch::<crate::record::drill::Drill>(bench.plant.store.as_ref(), key).await.unwrap().is_none());
    let over = &bench.events(None, 1).await[0];
    assert_eq!((over.actor.as_str(), over.action.as_str()), ("broker", "drill.end"));
    begin(&bench, &asked(Fault::LinkLoss)).await.unwrap();
}

#[tokio::test]
async fn who_began_it_and_why_is_on_record_and_whoever_may_ends_it() {
    let bench = bench().await;
    begin(&bench, &asked(Fault::LinkLoss)).await.unwrap();
    let event = &bench.events(None, 1).await[0];
    assert_eq!((event.actor.as_str(), event.action.as_str()), ("ada", "drill.start"));
    assert!(event.subject == "staging" && event.text.ends_with(": the yearly drill"), "{event:?}");
    let actor = bench.actor(Act::EndDrill).await;
    assert!(end(&bench.plant, &actor, &zone("staging")).await.unwrap());
    assert!(!cut_off(&bench, "press-7").await);
    assert!(!end(&bench.plant, &actor, &zone("staging")).await.unwrap(), "it is over");
}

#[tokio::test]
async fn a_zone_whose_mark_is_taken_off_is_whole_again_at_once() {
    let bench = bench().await;
    begin(&bench, &asked(Fault::LinkLoss)).await.unwrap();
    let settings = zones::Settings { drills: Some(None), ..zones::Settings::default() };
    let actor = bench.actor(Act::SetZone).await;
    zones::set(&bench.plant, &actor, &zone("staging"), &settings, false).await.unwrap();
    refresh(&bench.plant).await.unwrap();
    assert!(!cut_off(&bench, "press-7").await);
    let seen = observe(&bench.plant, &Scope::Plant, &zone("staging")).await.unwrap();
    assert_eq!(seen.ends, None, "whoever watches is told that it is over");
}

#[tokio::test]
async fn a_fault_that_touches_nobody_or_another_zone_is_refused_with_what_to_do() {
    let bench = bench().await;
    let gate = Request { device: Some("gate".parse().unwrap()), ..asked(Fault::Reboot) };
    let text = refused!(begin(&bench, &gate).await, NotFound);
    assert!(text.contains("gate is not in zone staging alone"), "{text}");
    let text = refused!(begin(&bench, &Request { device: None, ..asked(Fault::Reboot) }).await, Malformed);
    assert!(text.contains("reboot befalls one device"), "{text}");
    let late = Request { delay: 21, ..asked(Fault::Delay) };
    assert_eq!(refused!(begin(&bench, &late).await, Malformed), "delay: a drill takes 1 to 20, not 21");
    let long = Request { seconds: 3_601, ..asked(Fault::LinkLoss) };
    assert_eq!(refused!(begin(&bench, &long).await, Malformed), "seconds: a drill takes 1 to 3600, not 3601");
    let text = refused!(begin(&bench, &asked(Fault::CorruptedUpdate)).await, Conflict);
    assert!(text.contains("observes, so it refuses no update"), "{text}");
    let mut device: Device = bench.read(device_key(&"press-7".parse().unwrap())).await;
    device.prover = Prover::Key(KeyLine::default());
    let txn = Txn::new().put(device_key(&device.name), stored(&device).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let text = refused!(begin(&bench, &asked(Fault::Reboot)).await, Conflict);
    assert!(text.starts_with("press-7 has no TPM, so nothing proves that it started again"), "{text}");
    let mute = Request { reason: String::new(), ..asked(Fault::LinkLoss) };
    assert!(refused!(begin(&bench, &mute).await, Malformed).starts_with("reason: "));
}

#[tokio::test]
async fn a_compromised_credential_is_revoked_in_this_zone_and_of_this_device_alone() {
    let bench = bench().await;
    let begun = begin(&bench, &Request { dry_run: true, ..asked(Fault::CompromisedCredential) }).await;
    let revoked = begun.unwrap().revoked;
    let sight = async || observe(&bench.plant, &Scope::Plant, &zone("staging")).await.unwrap();
    assert!(revoked > 0 && sight().await.devices[0].certificates.len() == revoked, "a dry run takes nothing");
    begin(&bench, &asked(Fault::CompromisedCredential)).await.unwrap();
    let seen = sight().await;
    assert_eq!((seen.devices.len(), seen.devices[0].certificates.len()), (1, 0));
    assert_eq!(seen.ends, Some(NOW.plus(60)));
    let line = observe(&bench.plant, &Scope::Plant, &zone("line")).await.unwrap();
    assert!(line.devices.iter().all(|device| !device.certificates.is_empty()));
}

#[tokio::test]
async fn a_late_answer_is_late_for_whom_it_befalls() {
    let bench = bench().await;
    begin(&bench, &Request { delay: 7, ..asked(Fault::Delay) }).await.unwrap();
    assert_eq!(passed(&bench, "press-7").await, Passage::Late(Duration::from_secs(7)));
    for other in ["press-8", "gate", "nobody"] {
        assert_eq!(passed(&bench, other).await, Passage::Free, "{other}");
    }
}

#[tokio::test]
async fn a_record_of_a_drill_in_a_zone_that_is_not_marked_does_nothing() {
    let bench = bench().await;
    begin(&bench, &asked(Fault::LinkLoss)).await.unwrap();
    let plain = observing("staging");
    let txn = Txn::new().put(zone_key(&plain.name), stored(&plain).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    turn(&bench.plant).await.unwrap();
    assert!(!cut_off(&bench, "press-7").await);
}

#[tokio::test]
async fn whoever_was_heard_lately_and_is_not_connected_here_watches_another_broker_if_there_may_be_one() {
    let mut bench = bench().await;
    let elsewhere = async |bench: &Bench| {
        let seen = observe(&bench.plant, &Scope::Plant, &zone("staging")).await.unwrap();
        seen.devices.iter().map(|device| device.elsewhere).collect::<Vec<_>>()
    };
    assert_eq!(elsewhere(&bench).await, [false], "it is the only broker");
    let options = EtcdOptions { endpoints: Vec::new(), prefix: "plant".to_owned(), tls: None };
    bench.plant.config.store = Backend::Etcd(options);
    assert_eq!(elsewhere(&bench).await, [true]);
    let here = bench.plant.attendance.enter(&"press-7".parse().unwrap(), &bench.plant.clock);
    assert_eq!(elsewhere(&bench).await, [false], "it is connected here");
    drop(here);
    bench.clock.set(NOW.plus(staging().timing.silent_after() + 1));
    assert_eq!(elsewhere(&bench).await, [false], "it is switched off, for all that is known");
}
