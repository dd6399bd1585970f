//! An attest is parsed without a panic, and is a quote or a certification, never both.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::tpm::attest::Attest;

fuzz_target!(|bytes: &[u8]| {
    let Ok(attest) = Attest::parse(bytes) else { return };
    assert_ne!(attest.quote().is_ok(), attest.certify().is_ok());
});
