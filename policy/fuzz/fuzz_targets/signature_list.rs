//! A signature database is read or refused without a panic, no entry is longer than the input, and two databases in
//! a row are the entries of both.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::eventlog::typed::signature_list::{MAX_SIGNATURES, parse_database};

fuzz_target!(|bytes: &[u8]| {
    let Ok(entries) = parse_database(bytes) else { return };
    assert!(entries.len() <= MAX_SIGNATURES);
    assert!(entries.iter().map(|entry| entry.data.len()).sum::<usize>() <= bytes.len());
    if entries.len() * 2 <= MAX_SIGNATURES {
        let twice = [bytes, bytes].concat();
        assert_eq!(parse_database(&twice), Ok([entries.as_slice(), &entries].concat()));
    }
});
