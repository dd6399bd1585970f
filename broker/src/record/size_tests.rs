//! What a usual device takes in the store.

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::time::{UnixTime, Validity};
use policy::zone::Role;

use super::boot::{EarlierBoot, boot_key};
use super::device::{
    Admitted, AkOwner, Attested, BoundAk, CertifiedKeyOwner, Decision, Device, HeldCertificate,
    HeldCertificates, Prover, StoredLogs, Tpm, ak_key, attested_key, certified_key, device_key, ek_key,
    held_key,
};
use super::{Bytes, stored};
use crate::store::record::{Record, decode};

/// Bytes of keys and values that a device may take: 100,000 of them have 300 MiB.
const MOST: usize = 3 << 10;
const NOW: UnixTime = UnixTime(1_800_000_000);

fn digest(n: u32) -> Digest {
    Digest::of(&n.to_be_bytes())
}

fn device(name: &DeviceName, zone: &ZoneName) -> Device {
    let admitted = Admitted {
        name: name.clone(),
        ek: digest(1),
        prover: Prover::Tpm,
        zones: vec![zone.clone()],
        by: "administrator ada".to_owned(),
        at: NOW,
    };
    let ak = BoundAk { public: Bytes(vec![7; 86]), name: Bytes(vec![8; 34]), since: NOW };
    Device { ak: Some(ak), counter: 100_000, trust_sequence: 1_000, ..Device::new(admitted) }
}

fn attested() -> Attested {
    let [firmware, userspace, images] = [2, 3, 4].map(|n| Some(digest(n)));
    Attested {
        at: NOW,
        decision: Decision::Trusted,
        verdict: "affirming".to_owned(),
        release: Some("edge-box@2026.11.28".to_owned()),
        result: digest(5),
        evidence: digest(6),
        logs: Some(StoredLogs { firmware, userspace, images, ima: Vec::new() }),
        basis: Some(digest(7)),
        found: Some(digest(9)),
        nonce: Some(Bytes(vec![7; 32])),
        vouched: Some(digest(8)),
        golden: 1_000,
        reset_count: 1_000,
        restart_count: 0,
        clock: 1 << 40,
        clock_safe: Some(true),
        clone_alarm: false,
        firmware_version: 1 << 60,
        running: Some(vec!["edge-box@2026.11.28".parse().unwrap()]),
        failing_hooks: [].into(),
        two_sided: [].into(),
        lost: None,
        silent: [].into(),
    }
}

/// Those of its keys and the ones before. Between two replacements an honest device has a third of each role, two times 201
/// bytes more: then it takes some 190 bytes more than [`MOST`].
fn held() -> HeldCertificates {
    let certificate = |n: u32| HeldCertificate {
        role: if n.is_multiple_of(2) { Role::Caller } else { Role::Listener },
        generation: 10,
        serial: "5f".repeat(16),
        spki: digest(10 + n % 2),
        validity: Validity { not_before: NOW, not_after: NOW.plus(43_200) },
        service: None,
        workload: None,
        addresses: [].into(),
    };
    HeldCertificates { certificates: (0..4).map(certificate).collect() }
}

fn taken<R: Record>(key: &str, record: &R) -> usize {
    let value = stored(record).unwrap();
    let again: R = decode(key, &value).unwrap();
    assert_eq!(stored(&again).unwrap(), value, "{key} is read as it was written");
    key.len() + value.len()
}

#[test]
fn a_usual_device_takes_few_bytes() {
    let name: DeviceName = "press-12345-line-7".parse().unwrap();
    let zone: ZoneName = "bodyshop-cell-3".parse().unwrap();
    let tpm = Tpm {
        device: Some(name.clone()),
        registered: true,
        quarantine: None,
        retired: false,
        manufacturer: Some(*b"INTC"),
        other_eks: Vec::new(),
    };
    let [evidence, firmware, userspace] = [20, 21, 22].map(|n| Some(digest(n)));
    let boot = EarlierBoot { at: NOW, reset_count: 999, evidence, firmware, userspace };
    let key = |role| CertifiedKeyOwner { device: name.clone(), zone: zone.clone(), role, until: None };
    let all = [
        taken(&device_key(&name), &device(&name, &zone)),
        taken(&attested_key(&name), &attested()),
        taken(&held_key(&name, &zone), &held()),
        taken(&boot_key(&name), &boot),
        taken(&ek_key(&digest(1)), &tpm),
        taken(&ak_key(&[8; 34]), &AkOwner { ek: digest(1) }),
        taken(&certified_key(&digest(10)), &key(Role::Caller)),
        taken(&certified_key(&digest(11)), &key(Role::Listener)),
    ];
    let sum: usize = all.iter().sum();
    assert!(sum <= MOST, "{sum} bytes: {all:?}");
}

#[test]
fn older_records_have_long_digests_and_nulls() {
    let old = br#"{"v":1,"d":{"device":"press-7","registered":true,"quarantine":null,"retired":false,"manufacturer":null}}"#;
    let tpm: Tpm = decode("ek/x", old).unwrap();
    assert!(tpm.registered && !tpm.is_barred() && tpm.manufacturer.is_none());
    let old = format!(r#"{{"v":1,"d":{{"ek":"{}"}}}}"#, digest(1));
    assert_eq!(decode::<AkOwner>("ak/x", old.as_bytes()).unwrap().ek, digest(1));
    let logs = format!(r#"{{"firmware":"{}","userspace":null,"images":null}}"#, digest(2));
    let logs: StoredLogs = serde_json::from_str(&logs).unwrap();
    assert_eq!(
        logs,
        StoredLogs { firmware: Some(digest(2)), userspace: None, images: None, ima: Vec::new() }
    );
    let old = format!(
        r#"{{"v":1,"d":{{"at":5,"reset_count":1,"values":["{0}"],"firmware":"{0}","userspace":null}}}}"#,
        digest(3)
    );
    let boot: EarlierBoot = decode("boot/x", old.as_bytes()).unwrap();
    assert_eq!((boot.at, boot.evidence, boot.firmware), (UnixTime(5), None, Some(digest(3))));
}
