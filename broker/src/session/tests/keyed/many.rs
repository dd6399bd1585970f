//! A device without a TPM that has much, or comes often.

use policy::id::ZoneName;
use policy::time::Validity;
use policy::zone::Role;

use super::*;
use crate::record::device::{HeldCertificate, HeldCertificates, MAX_ZONES, held_key};
use crate::record::stored;
use crate::store::Txn;

/// A certificate that ended long ago.
fn ended(zone: &ZoneName, serial: u8) -> HeldCertificate {
    HeldCertificate {
        role: if serial.is_multiple_of(2) { Role::Caller } else { Role::Listener },
        generation: 1,
        serial: hex::encode([serial; 16]),
        spki: Digest::of(format!("{zone} {serial}").as_bytes()),
        validity: Validity { not_before: NOW.minus(9000), not_after: NOW.minus(1000) },
        service: None,
        workload: None,
        addresses: std::collections::BTreeSet::new(),
    }
}

#[tokio::test]
async fn a_device_in_many_zones_comes_back_after_all_its_certificates_ended() {
    let (bench, mut device) = joined().await;
    let least = LeastClaims::new([(Claim::InstanceIdentity, ClaimValue::AFFIRMING)].into());
    let zones: Vec<ZoneName> = (1..=MAX_ZONES).map(|n| format!("yard-{n}").parse().unwrap()).collect();
    let mut txn = Txn::new();
    for zone in &zones {
        bench.zone(&Zone { least: least.clone(), ..Zone::new(zone.clone()) }).await;
        let certificates = (0..12).map(|n| ended(zone, n));
        let held = HeldCertificates { certificates: certificates.collect() };
        txn = txn.put(held_key(&meter(), zone), stored(&held).unwrap());
    }
    let record: Device = bench.read(device_key(&meter())).await;
    let record = Device { zones: zones.clone(), ..record };
    bench.plant.store.transact(txn.put(device_key(&meter()), stored(&record).unwrap())).await.unwrap();

    let keys: Vec<_> =
        zones.iter().flat_map(|zone| [(zone.to_string(), csr()), (zone.to_string(), csr())]).collect();
    let issued = device.attest_for(&bench, &keys).await.unwrap();
    assert_eq!(issued.svids.len(), 2 * MAX_ZONES);
}

#[tokio::test]
async fn a_device_is_put_off_that_comes_faster_than_a_tpm_could_and_a_copy_is_not() {
    let (bench, mut device) = joined().await;
    let mut thief = device.clone();
    let text = loop {
        match device.attest(&bench, &[]).await {
            Ok(_) => {}
            Err(refusal) => break refused!(Err::<(), _>(refusal), TryLater),
        }
    };
    assert_eq!(text, "the device proves itself too often; ask again in 2 s");
    assert!((5..20).contains(&generation(&bench).await), "some come at once");
    refused!(thief.attest(&bench, &[]).await, Quarantined);
}
