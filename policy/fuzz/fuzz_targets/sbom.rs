//! An SBOM is read without a panic, and what was read is within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::sbom::{MAX_COMPONENTS, Sbom};

fuzz_target!(|bytes: &[u8]| {
    let Ok(sbom) = Sbom::parse(bytes) else { return };
    assert!(sbom.components.len() <= MAX_COMPONENTS);
});
