//! PCR values as text are read without a panic, and what was read is written to be read as the same.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use policy::evidence::offline::PcrTable;
use policy::tpm::alg::HashAlg;
use policy::tpm::pcr::PcrValues;

fuzz_target!(|bytes: &[u8]| {
    let Ok(table) = PcrTable::parse(bytes) else { return };
    let mut text = String::new();
    for bank in HashAlg::ALL {
        for (pcr, value) in table.values(bank).into_iter().flat_map(PcrValues::iter) {
            let _ = writeln!(text, "{}:{}:{value}", bank.name(), pcr.number());
        }
    }
    assert_eq!(PcrTable::parse(text.as_bytes()), Ok(table));
});
