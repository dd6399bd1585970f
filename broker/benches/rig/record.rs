//! Records of a device that was admitted and attested.

use std::collections::{BTreeMap, BTreeSet};

use broker::record::device::{
    Admitted, Attested, BoundAk, Decision, Device, HeldCertificate, HeldCertificates, Inventory,
    InventoryValue, Prover, Source, Tpm, attested_key, device_key, ek_key, inventory_key,
};
use broker::record::stored;
use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::time::{UnixTime, Validity};
use policy::zone::Role;

use super::Written;

/// A device of one zone, which `ek` identifies and which offers OPC UA.
pub(crate) fn device(name: &DeviceName, zone: &ZoneName, ek: Digest, now: UnixTime) -> Device {
    let admitted = Admitted {
        name: name.clone(),
        ek,
        prover: Prover::Tpm,
        zones: vec![zone.clone()],
        by: "ada".to_owned(),
        at: now,
    };
    Device {
        ak: Some(BoundAk { public: vec![1; 90].into(), name: vec![2; 34].into(), since: now }),
        counter: 1,
        services: BTreeMap::from([("opcua".to_owned(), 4840)]),
        ..Device::new(admitted)
    }
}

/// Its attestation, found to be of the release `running`, whose blobs are all `blob`.
pub(crate) fn attested(running: &str, blob: Digest, now: UnixTime) -> Attested {
    Attested {
        at: now,
        decision: Decision::Trusted,
        verdict: "affirming".to_owned(),
        release: Some(running.to_owned()),
        result: blob,
        evidence: blob,
        logs: None,
        basis: Some(blob),
        found: None,
        nonce: None,
        vouched: None,
        golden: 1,
        reset_count: 7,
        restart_count: 0,
        clock: 69_142,
        clock_safe: Some(true),
        clone_alarm: false,
        firmware_version: 0x0007_0055_0011_0000,
        running: Some(vec![running.parse().unwrap()]),
        failing_hooks: BTreeSet::new(),
        two_sided: BTreeSet::new(),
        lost: None,
        silent: std::collections::BTreeMap::new(),
    }
}

/// The inventory with these values, which an administrator vouched for.
pub(crate) fn inventory<const N: usize>(values: [(&str, String); N], now: UnixTime) -> Inventory {
    let vouched = |value| InventoryValue { value, source: Source::Vouched, at: now };
    Inventory { values: values.map(|(name, value)| (name.to_owned(), vouched(value))).into() }
}

/// What is stored of a device besides its attestation.
pub(crate) fn registered(device: &Device, inventory: &Inventory) -> [Written; 3] {
    let name = Some(device.name.clone());
    let tpm = Tpm {
        device: name,
        registered: true,
        quarantine: None,
        retired: false,
        manufacturer: None,
        other_eks: Vec::new(),
    };
    [
        (device_key(&device.name), stored(device).unwrap()),
        (ek_key(&device.ek), stored(&tpm).unwrap()),
        (inventory_key(&device.name), stored(inventory).unwrap()),
    ]
}

/// How its attestation is stored.
pub(crate) fn attestation(name: &DeviceName, attested: &Attested) -> Written {
    (attested_key(name), stored(attested).unwrap())
}

/// The certificates of a caller and a listener, for a key with this digest.
pub(crate) fn certificates(spki: Digest, serial: &str, now: UnixTime) -> HeldCertificates {
    let validity = Validity { not_before: now, not_after: now.plus(12 * 3600) };
    let certificate = |role| HeldCertificate {
        role,
        generation: 1,
        serial: serial.to_owned(),
        spki,
        validity,
        service: None,
        workload: None,
        addresses: std::collections::BTreeSet::new(),
    };
    HeldCertificates { certificates: vec![certificate(Role::Caller), certificate(Role::Listener)] }
}
