//! A public area is parsed without a panic, keeps its bytes, and is never both kinds of key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::tpm::public::{AttestationKey, EkPublic, Name, Public};

fuzz_target!(|bytes: &[u8]| {
    let _ = Public::parse_2b(bytes);
    let _ = Name::parse(bytes);
    let Ok(public) = Public::parse(bytes) else { return };
    assert_eq!(public.as_bytes(), bytes);
    let _ = public.spki_der();
    assert!(AttestationKey::accept(bytes).is_err() || EkPublic::parse(bytes).is_err());
});
