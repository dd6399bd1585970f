//! Certificates that are asked for faster than they can be needed.

use policy::id::DeviceName;
use proto::v1;
use proto::v1::complete_response::Outcome;

use super::plant_with;
use super::tpm::TestTpm;
use crate::admin::device::address::{Request, change};
use crate::admin::tests::{Bench, NOW, observing};
use crate::admin::{Act, device::stop};
use crate::record::device::{Device, MAX_HELD, device_key};

const BOTH: [(&str, v1::Role); 2] = [("cell-3", v1::Role::Caller), ("cell-3", v1::Role::Listener)];

async fn scene() -> (Bench, DeviceName, TestTpm) {
    let mut tpm = TestTpm::new();
    let mut zone = observing("cell-3");
    zone.subnets = ["10.1.3.0/24".parse().unwrap()].into();
    let (bench, name) = plant_with(&zone, &tpm, true).await;
    tpm.asks = BOTH.to_vec();
    (bench, name, tpm)
}

async fn attest(bench: &Bench, tpm: &mut TestTpm) -> v1::Issued {
    let answer = tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let Some(Outcome::Issued(issued)) = answer.outcome else { panic!("issued") };
    issued
}

#[tokio::test]
async fn a_device_in_a_hurry_gets_no_certificate_and_has_answered_all_the_same() {
    let (bench, name, mut tpm) = scene().await;
    for time in 1..=MAX_HELD {
        assert_eq!(attest(&bench, &mut tpm).await.svids.len(), 2, "{time}");
    }
    let asking = bench.actor(Act::AttestDevice).await;
    stop::attest_now(&bench.plant, &asking, &name).await.unwrap();
    let issued = attest(&bench, &mut tpm).await;
    assert_eq!(issued.svids.len(), 0);
    let [refused] = &issued.refused_keys[..] else { panic!("{:?}", issued.refused_keys) };
    let denial = refused.denial.as_ref().unwrap();
    assert_eq!((refused.zone.as_str(), refused.service.as_str()), ("cell-3", ""));
    assert_eq!(denial.reason(), v1::DenialReason::TryLater);
    assert_eq!(denial.message, "it holds 4 certificates of cell-3 already; ask again in 3600 s");
    let device: Device = bench.read(device_key(&name)).await;
    assert_eq!(device.answered, device.asked, "its proof counts");
    assert_eq!(issued.valid_serials.len(), 2 * MAX_HELD, "what it holds stays");

    let least = observing("cell-3").timing.certificate_lifetime() / 12;
    bench.clock.set(NOW.plus(least));
    assert_eq!(attest(&bench, &mut tpm).await.svids.len(), 2, "later it gets them");
}

#[tokio::test]
async fn an_administrator_who_is_quick_costs_a_device_nothing() {
    let (bench, name, mut tpm) = scene().await;
    attest(&bench, &mut tpm).await;
    for host in 1..=5_u8 {
        let add = [std::net::IpAddr::from([10, 1, 3, host])].into();
        let request = Request { name: name.clone(), zone: None, add, remove: [].into() };
        change(&bench.plant, &bench.actor(Act::ChangeAddresses).await, &request, false).await.unwrap();
        let issued = attest(&bench, &mut tpm).await;
        assert_eq!((issued.svids.len(), issued.refused_keys.len()), (2, 0), "address {host}");
        let device: Device = bench.read(device_key(&name)).await;
        assert_eq!(device.answered, device.asked);
    }
    assert_eq!(attest(&bench, &mut tpm).await.svids.len(), 0, "nothing changed since");
}
