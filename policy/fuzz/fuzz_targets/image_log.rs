//! An image log is parsed without a panic, and what was read is written to be read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::eventlog::image::ImageLog;
use policy::tpm::alg::HashAlg;

fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = ImageLog::parse(bytes) else { return };
    for entry in log.entries() {
        let record = entry.image.to_record(&HashAlg::ALL);
        let again = ImageLog::parse(&record).expect("what is written can be read");
        assert_eq!(again.entries().first().map(|entry| &entry.image), Some(&entry.image));
    }
});
