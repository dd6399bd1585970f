//! The chain as it is stored. How it is verified is tested where that is done, in `policy`.

use super::*;
use crate::store::limit::{MAX_AUDIT_ENTRY, MAX_VALUE};

#[test]
fn what_is_stored_is_what_is_verified() {
    let first = append("b1.1", None, b"one").unwrap();
    let second = append("b1.1", Some(&first.head), b"two").unwrap();
    assert_eq!(second.key, "audit/b1.1/00000000000000000002");
    let record = AuditRecord::parse(&second.value).unwrap();
    assert_eq!((record.follows.as_ref(), record.encode()), (Some(&first.head), second.value));
    assert_eq!(policy::audit::event::MAX_ENTRY, MAX_AUDIT_ENTRY);
    assert_eq!(policy::audit::record::MAX_RECORD, MAX_VALUE);
}

#[test]
fn longest_entry_fits_a_value() {
    let writer = format!("{}.{}", "b".repeat(MAX_BROKER_ID), u64::MAX);
    let head = ChainHead { writer: writer.clone(), sequence: u64::MAX - 1, digest: Digest::of(b"") };
    let appended = append(&writer, Some(&head), &[0xff; MAX_AUDIT_ENTRY]).unwrap();
    assert!(appended.value.len() <= MAX_VALUE, "{}", appended.value.len());
}

#[test]
fn broker_ids_are_labels() {
    assert_eq!("edge-1".parse::<BrokerId>().unwrap().to_string(), "edge-1");
    for text in ["", "B1", "b.1", "b/1", "ü", &"b".repeat(41)] {
        assert_eq!(text.parse::<BrokerId>(), Err(BrokerIdError { text: text.to_owned() }));
    }
}
