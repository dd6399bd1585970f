//! A signature is parsed without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::tpm::signature::Signature;

fuzz_target!(|bytes: &[u8]| {
    let _ = Signature::parse(bytes).map(|signature| signature.scheme());
});
