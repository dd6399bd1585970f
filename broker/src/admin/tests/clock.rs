//! Order of a TPM's clocks between attestations.

use policy::tpm::clock::ClockInfo;

use super::{Bench, observing, refused};
use crate::admin::device::stop;
use crate::admin::{Act, audit};
use crate::record::device::{Decision, Device, device_key};
use crate::session::ruling::in_order;

const fn clock(reset_count: u32, clock_ms: u64) -> ClockInfo {
    ClockInfo { clock_ms, reset_count, restart_count: 0, safe: false }
}

#[tokio::test]
async fn a_clone_alarm_is_on_record_once_and_readmission_forgives_it() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let press = bench.device("press-7", &["cell-3"]).await;
    bench.attest(&press, "boot-a", Decision::Trusted).await;
    let device: Device = bench.read(device_key(&press)).await;
    // The last attestation was at reset 1, clock 1. After a power cut the clock may have fallen.
    assert!(in_order(&bench.plant, &device, &clock(2, 0)).await.unwrap().is_some());
    for _ in 0..2 {
        let told = refused!(in_order(&bench.plant, &device, &clock(0, 9)).await, EvidenceInvalid);
        assert!(told.starts_with("clone alarm: the TPM's reset count fell from 1 to 0"), "{told}");
        assert!(told.contains("touchstone device readmit press-7"), "{told}");
    }
    let told = refused!(in_order(&bench.plant, &device, &clock(1, 0)).await, EvidenceInvalid);
    assert!(told.contains("clock fell from 1 to 0 ms within one boot"), "{told}");
    let events = audit::latest(&bench.plant, Some(&press), 10).await.unwrap();
    let actions: Vec<&str> = events.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["device.clone-alarm"], "asking again is no news");
    assert!(events[0].text.starts_with("the TPM's reset count fell from 1 to 0"), "{}", events[0].text);

    let actor = bench.actor(Act::ReadmitDevice).await;
    stop::readmit(&bench.plant, &actor, &press, "cleared for service").await.unwrap();
    let device: Device = bench.read(device_key(&press)).await;
    assert!(in_order(&bench.plant, &device, &clock(0, 9)).await.unwrap().is_some());
}
