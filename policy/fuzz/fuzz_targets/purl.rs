//! A purl is read without a panic, and what is written of it is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::component::Purl;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(purl) = text.parse::<Purl>() else { return };
    if let Ok(again) = purl.to_string().parse::<Purl>() {
        assert_eq!(again.name(), purl.name());
    }
});
