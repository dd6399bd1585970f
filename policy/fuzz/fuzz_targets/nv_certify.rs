//! An NV certification and an NV index' public area are parsed without a panic; no certification is a
//! quote too, and a Name depends on nothing but the public area.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::tpm::attest::Attest;
use policy::tpm::nv::{NvAttest, NvPublic};
use policy::tpm::public::Name;

fuzz_target!(|bytes: &[u8]| {
    if NvAttest::parse(bytes).is_ok() {
        assert!(Attest::parse(bytes).is_err());
    }
    if let Ok(public) = NvPublic::parse(bytes) {
        let own = Name::of(public.name_alg, bytes);
        assert!(own == public.name(true) || own == public.name(false));
        assert!(public.name(true) != public.name(false));
    }
});
