//! An image is read without a panic, and what signing changes is in no hash.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::predict::pe::Pe;
use policy::predict::uki::Uki;
use policy::tpm::alg::HashAlg;

fuzz_target!(|bytes: &[u8]| {
    let Ok(pe) = Pe::parse(bytes) else { return };
    let _ = (pe.authenticode(HashAlg::Sha256), pe.authenticode_once_signed(HashAlg::Sha384));
    for section in pe.sections() {
        let _ = section.content();
    }
    if let Ok(uki) = Uki::parse(bytes) {
        let _ = (uki.profile(0), uki.profile(1));
    }
});
