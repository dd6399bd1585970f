//! A record is read without a panic, and says the same when it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::audit::{AuditRecord, Event};

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = AuditRecord::parse(bytes) else { return };
    assert!(record.place().is_some());
    assert_eq!(record.head(bytes).writer, record.writer);
    let again = record.encode();
    // Blanks between the words of JSON may make it shorter, and nothing makes it longer than it may be but escapes.
    if let Ok(read) = AuditRecord::parse(&again) {
        assert_eq!(read, record);
    }
    if let Ok(event) = Event::parse(&record.entry) {
        let _ = event.entry();
    }
});
