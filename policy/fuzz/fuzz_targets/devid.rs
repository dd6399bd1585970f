//! Certificates of devices are read without a panic, and none is believed under a store that holds nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::evidence::devid::{verify_iak, verify_idevid};
use policy::evidence::endorsement::{RootStore, ValidityPolicy};
use policy::time::UnixTime;
use policy::x509::{Certificate, extension};

fuzz_target!(|bytes: &[u8]| {
    let mut own = RootStore::new();
    // With its own certificate as a root a device gets as far as it can.
    let _ = own.pin("own", bytes);
    let (at, policy) = (UnixTime(u64::MAX), ValidityPolicy::AtLeafNotBefore);
    for roots in [&own, &RootStore::new()] {
        let idevid = verify_idevid(bytes, &[bytes], roots, at, policy);
        let iak = verify_iak(bytes, &[bytes], roots, at, policy);
        assert!(roots.anchors() > 0 || (idevid.is_err() && iak.is_err()));
    }
    let Ok(certificate) = Certificate::parse(bytes) else { return };
    for found in certificate.extensions() {
        let _ = extension::parse_other_names(found.value);
        let _ = extension::parse_policies(found.value);
    }
});
