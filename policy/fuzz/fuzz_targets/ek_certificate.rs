//! An EK certificate is taken out of its wrapping, read, described and walked without a panic, and never endorsed
//! by a store that holds nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::evidence::endorsement::{RootStore, ValidityPolicy, describe, endorse};
use policy::time::UnixTime;
use policy::x509::{Certificate, SubjectKey, readout};

fuzz_target!(|bytes: &[u8]| {
    let _ = describe(bytes);
    let policy = ValidityPolicy::AtLeafNotBefore;
    assert!(endorse(bytes, &[bytes], &RootStore::new(), UnixTime(u64::MAX), policy).is_err());
    let Ok(der) = readout::certificate_in(bytes) else { return };
    let Ok(certificate) = Certificate::parse(&der) else { return };
    assert_eq!(certificate.der(), &der[..]);
    let _ = certificate.label();
    if let Ok(key) = SubjectKey::parse(certificate.spki()) {
        // The canonical form is a fixed point.
        assert_eq!(SubjectKey::parse(&key.to_der()).map(|same| same.digest()), Ok(key.digest()));
    }
});
