//! Refusals of the audit chain, each by its reason.

use super::*;
use crate::store::limit::{MAX_AUDIT_ENTRY, MAX_VALUE};

type Stored = Vec<(String, Vec<u8>)>;

fn chain(writer: &str, mut head: Option<ChainHead>, length: u64) -> Stored {
    let mut stored = Stored::new();
    for number in 0..length {
        let appended = append(writer, head.as_ref(), number.to_string().as_bytes()).unwrap();
        stored.push((appended.key, appended.value));
        head = Some(appended.head);
    }
    stored
}

fn verify(stored: &Stored) -> Result<ChainHead, ChainError> {
    verify_chain(stored.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
}

fn key(sequence: u64) -> String {
    audit_key("b1.1", sequence)
}

#[test]
fn whole_chain_gives_its_head() {
    let stored = chain("b1.1", None, 5);
    let head = verify(&stored).unwrap();
    assert_eq!((head.writer.as_str(), head.sequence), ("b1.1", 5));
    assert_eq!(head.digest, Digest::of(&stored[4].1));
    assert_eq!(stored[4].0, "audit/b1.1/00000000000000000005");
}

#[test]
fn first_record_names_the_chain_before() {
    let head = verify(&chain("b1.1", None, 3)).unwrap();
    let mut verifier = ChainVerifier::new();
    for (key, value) in chain("b1.2", Some(head.clone()), 2) {
        verifier.follow(&key, &value).unwrap();
    }
    assert_eq!(verifier.begins_after(), Some(&head));
    assert_eq!(verifier.head().unwrap().sequence, 2);
}

#[test]
fn altered_record_is_named() {
    let mut stored = chain("b1.1", None, 5);
    let forged = append(
        "b1.1",
        head_at(&"b1".parse().unwrap(), &stored[1].0, &stored[1].1).map(|h| h.1).as_ref(),
        b"x",
    );
    stored[2].1 = forged.unwrap().value;
    let error = verify(&stored).unwrap_err();
    assert!(
        matches!(&error, ChainError::Altered { key: altered, successor } if *altered == key(3) && *successor == key(4)),
        "{error}"
    );
}

#[test]
fn removed_record_is_named() {
    let mut middle = chain("b1.1", None, 5);
    middle.remove(2);
    let error = verify(&middle).unwrap_err();
    assert!(matches!(&error, ChainError::Missing { key: missing } if *missing == key(3)), "{error}");

    let mut first = chain("b1.1", None, 5);
    first.remove(0);
    let error = verify(&first).unwrap_err();
    assert!(matches!(&error, ChainError::Missing { key: missing } if *missing == key(1)), "{error}");
}

#[test]
fn moved_damaged_and_foreign_records_are_named() {
    let mut moved = chain("b1.1", None, 3);
    moved[1].1 = moved[2].1.clone();
    let error = verify(&moved).unwrap_err();
    assert!(matches!(&error, ChainError::Misplaced { key: found } if *found == key(2)), "{error}");

    let mut damaged = chain("b1.1", None, 3);
    damaged[1].1.pop();
    let error = verify(&damaged).unwrap_err();
    assert!(
        matches!(&error, ChainError::Unreadable(DecodeError::Damaged { key: found, .. }) if *found == key(2))
    );

    let mut mixed = chain("b1.1", None, 1);
    mixed.extend(chain("b2.1", None, 1));
    let error = verify(&mixed).unwrap_err();
    assert!(matches!(&error, ChainError::OtherWriter { writer, .. } if writer == "b1.1"), "{error}");

    assert!(matches!(verify(&Stored::new()), Err(ChainError::Empty)));
}

#[test]
fn archived_beginning_is_continued_from_its_head() {
    let mut archive = chain("b1.1", None, 5);
    let live = archive.split_off(2);
    let mut verifier = ChainVerifier::after(verify(&archive).unwrap());
    for (key, value) in &live {
        verifier.follow(key, value).unwrap();
    }
    assert_eq!(verifier.head().unwrap().sequence, 5);
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
