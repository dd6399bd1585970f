//! A walk over changed records never panics, and finds every change before the seal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::audit::{AuditRecord, Seal, SignedSeal, Trail};

const SEAL: &[u8] = include_bytes!("../seeds/audit_seal/seal.json");
const RECORDS: &[u8] = include_bytes!("../seeds/audit_trail/whole");

fn seal() -> Seal {
    let signed = SignedSeal::parse(SEAL).expect("it was made");
    serde_json::from_str(&signed.payload).expect("it was made")
}

fn broker(record: &[u8]) -> Option<String> {
    AuditRecord::parse(record).ok()?.place().map(|(broker, _)| broker.to_owned())
}

fuzz_target!(|bytes: &[u8]| {
    let records: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let made: Vec<&[u8]> = RECORDS.split(|byte| *byte == b'\n').collect();
    for partial in [false, true] {
        let mut trail = Trail::new(&[seal()], partial);
        if records.iter().any(|record| trail.follow(record).is_err()) {
            continue;
        }
        let Ok(found) = trail.finish() else { continue };
        assert_eq!(found.records, records.len() as u64);
        // Other brokers may have written what the seal does not know; nothing of it counts as sealed.
        let ours: Vec<&[u8]> =
            records.iter().copied().filter(|record| broker(record) == broker(made[0])).collect();
        let end = ours.iter().position(|record| Some(record) == made.last()).expect("the seal names it");
        assert!(found.unsealed as usize >= records.len() - 1 - end, "more is sealed than the seal says");
        let sealed = &ours[..=end];
        assert!(if partial { made.ends_with(sealed) } else { made == sealed }, "a change was not found");
    }
});
