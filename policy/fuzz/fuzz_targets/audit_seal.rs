//! A seal is read without a panic, and none holds under the plant root but the one that was made.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::audit::SignedSeal;

const ROOT: &[u8] = include_bytes!("../keys/plant-root.der");
const MADE: &[u8] = include_bytes!("../seeds/audit_seal/seal.json");

fuzz_target!(|bytes: &[u8]| {
    let Ok(seal) = SignedSeal::parse(bytes) else { return };
    if seal.verify(ROOT).is_ok() {
        let made = SignedSeal::parse(MADE).expect("it was made");
        assert_eq!(seal.payload, made.payload);
    }
});
