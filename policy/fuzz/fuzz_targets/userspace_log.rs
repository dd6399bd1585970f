//! systemd's log is parsed without a panic, and text is bound only where it hashes to the digest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::eventlog::userspace::UserspaceLog;
use policy::tpm::alg::HashAlg;

fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = UserspaceLog::parse(bytes) else { return };
    for (position, event) in log.events().iter().enumerate() {
        assert_eq!(event.position, position);
        for bank in HashAlg::ALL {
            if let Some(text) = event.bound_text(bank) {
                assert_eq!(event.digests.of(bank), Some(bank.hash(&[text.as_bytes()])));
            }
        }
    }
});
