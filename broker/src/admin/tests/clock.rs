//! Order of a TPM's clocks between attestations.

use policy::id::DeviceName;
use policy::tpm::clock::ClockInfo;

use super::{Bench, NOW, observing, refused};
use crate::admin::device::view::{self, State};
use crate::admin::device::why::why;
use crate::admin::device::{DeviceRef, stop};
use crate::admin::reach::Scope;
use crate::admin::{Act, calendar};
use crate::record::device::{Decision, Device, device_key};
use crate::session::ruling::in_order;

const fn clock(reset_count: u32, clock_ms: u64) -> ClockInfo {
    ClockInfo { clock_ms, reset_count, restart_count: 0, safe: false }
}

/// A device whose last attestation was at reset 1, clock 1.
async fn attested(bench: &Bench) -> DeviceName {
    bench.zone(&observing("cell-3")).await;
    let press = bench.device("press-7", &["cell-3"]).await;
    bench.attest(&press, "boot-a", Decision::Trusted).await;
    press
}

async fn device(bench: &Bench, name: &DeviceName) -> Device {
    bench.read(device_key(name)).await
}

#[tokio::test]
async fn a_clone_alarm_is_on_record_once_and_readmission_forgives_it() {
    let bench = Bench::new().await;
    let press = attested(&bench).await;
    let mut known = device(&bench, &press).await;
    // After a power cut the clock may have fallen.
    assert!(in_order(&bench.plant, &mut known, &clock(2, 0)).await.unwrap().is_some());
    for _ in 0..2 {
        let told = refused!(in_order(&bench.plant, &mut known, &clock(0, 9)).await, EvidenceInvalid);
        assert!(told.starts_with("clone alarm: the TPM's reset count fell from 1 to 0"), "{told}");
        assert!(told.contains("touchstone device expect-clear press-7"), "{told}");
    }
    let told = refused!(in_order(&bench.plant, &mut known, &clock(1, 0)).await, EvidenceInvalid);
    assert!(told.contains("clock fell from 1 to 0 ms within one boot"), "{told}");
    assert!(told.contains("touchstone device readmit press-7"), "{told}");
    let events = bench.events(Some(&press), 10).await;
    let actions: Vec<&str> = events.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["device.clone-alarm"], "asking again is no news");
    assert!(events[0].text.starts_with("the TPM's reset count fell from 1 to 0"), "{}", events[0].text);

    let actor = bench.actor(Act::ReadmitDevice).await;
    stop::readmit(&bench.plant, &actor, (&press, None), "cleared for service").await.unwrap();
    let mut known = device(&bench, &press).await;
    assert!(in_order(&bench.plant, &mut known, &clock(1, 0)).await.unwrap().is_some());
    assert!(in_order(&bench.plant, &mut known, &clock(1, 0)).await.is_err(), "once");
}

#[tokio::test]
async fn a_device_whose_counters_fell_waits_for_a_person() {
    let bench = Bench::new().await;
    let press = attested(&bench).await;
    assert!(in_order(&bench.plant, &mut device(&bench, &press).await, &clock(0, 9)).await.is_err());
    let seen = view::one(&bench.plant, &Scope::Plant, &DeviceRef::Name(press)).await.unwrap();
    assert_eq!(seen.state(), State::Pending);
    let why = why(&seen, &[], NOW);
    assert!(why.sentences[0].starts_with("clone alarm: press-7 came with counters"), "{why:?}");
    assert_eq!(why.next_command, "touchstone device expect-clear press-7 --reason TEXT");
}

#[tokio::test]
async fn an_announced_clear_is_no_alarm_once_and_in_its_time() {
    let bench = Bench::new().await;
    let press = attested(&bench).await;
    let actor = bench.actor(Act::ExpectClear).await;
    let announce = async |seconds| stop::expect_clear(&bench.plant, &actor, &press, seconds, "service").await;
    for seconds in [0, 59, 7 * 86_400 + 1] {
        let told = refused!(announce(seconds).await, Malformed);
        assert!(told.starts_with("a Clear is announced for 60 to 604800 seconds"), "{told}");
    }
    assert_eq!(announce(3600).await.unwrap(), NOW.plus(3600));
    bench.plant.metrics.publishes_until(NOW.plus(60));
    let dates = calendar::all(&bench.plant, &bench.actor(Act::ReadStatus).await).await.unwrap();
    let dated = |kind, subject: &str| {
        dates.iter().find(|entry| entry.kind == kind && entry.subject == subject).map(|entry| entry.at)
    };
    assert_eq!(dated("clear", "press-7"), Some(NOW.plus(3600)));
    assert_eq!(dated("broker", "publish"), Some(NOW.plus(60)));
    assert!(dated("broker", "root") > dated("broker", "issuing"), "{dates:?}");

    let mut known = device(&bench, &press).await;
    // It stays announced while the device proves itself as before, and excuses nothing else.
    assert!(in_order(&bench.plant, &mut known, &clock(1, 9)).await.unwrap().is_some());
    let told = refused!(in_order(&bench.plant, &mut known, &clock(1, 0)).await, EvidenceInvalid);
    assert!(told.contains("clock fell"), "{told}");
    assert!(in_order(&bench.plant, &mut known, &clock(0, 9)).await.unwrap().is_some());
    let told = refused!(in_order(&bench.plant, &mut known, &clock(0, 9)).await, EvidenceInvalid);
    assert!(told.contains("reset count fell"), "{told}");

    let mut late = device(&bench, &press).await;
    late.clear_expected = Some(NOW);
    let told = refused!(in_order(&bench.plant, &mut late, &clock(0, 9)).await, EvidenceInvalid);
    assert!(told.contains("reset count fell"), "{told}");
}
