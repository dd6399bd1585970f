//! Refusals by their reason, and properties over every way to tamper.

use policy::audit::trail::{Place, Witness};
use policy::audit::{AuditRecord, Event, Fault, Found, Seal, Trail};
use policy::time::UnixTime;
use proptest::prelude::*;

use crate::rig::{audit, head, seal};

fn walk(records: &[Vec<u8>], seals: &[Seal], partial: bool) -> Result<Found, Fault> {
    let mut trail = Trail::new(seals, partial);
    for record in records {
        trail.follow(record)?;
    }
    trail.finish()
}

fn place(start: u64, sequence: u64) -> Place {
    Place { writer: format!("b1.{start}"), sequence }
}

/// A seal over the whole audit.
fn whole(records: &[Vec<u8>]) -> Vec<Seal> {
    vec![seal(3, records.last().unwrap(), None)]
}

#[test]
fn an_untouched_audit_is_whole_over_restarts() {
    let records = audit(&[3, 1, 12]);
    let found = walk(&records, &whole(&records), false).unwrap();
    assert_eq!(found, Found { records: 16, unsealed: 0, seal: 3, notes: Vec::new() });
    let early = [seal(2, &records[9], None)];
    assert_eq!(walk(&records, &early, false).unwrap().unsealed, 6);
}

#[test]
fn what_was_done_is_named() {
    let records = audit(&[3, 4]);
    let seals = whole(&records);
    let tampered = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut records = records.clone();
        change(&mut records);
        walk(&records, &seals, false).unwrap_err()
    };
    assert_eq!(tampered(&|r| drop(r.remove(1))), Fault::Missing(place(1, 2)));
    assert_eq!(tampered(&|r| drop(r.remove(2))), Fault::Missing(place(1, 3)));
    assert_eq!(tampered(&|r| r.insert(2, r[1].clone())), Fault::Misplaced(place(1, 2), place(1, 2)));
    assert_eq!(tampered(&|r| r.swap(3, 4)), Fault::Missing(place(2, 1)));
    assert_eq!(tampered(&|r| r.truncate(5)), Fault::Truncated { place: place(2, 4), seal: 3 });
    let front = tampered(&|r| drop(r.drain(..3)));
    assert!(matches!(&front, Fault::NoBeginning { first, .. } if *first == place(2, 1)), "{front}");
    let forge = |at: usize| {
        tampered(&|r| {
            let record = AuditRecord::parse(&r[at]).unwrap();
            let event = Event { subject: "cell-4".into(), ..Event::parse(&record.entry).unwrap() };
            r[at] = AuditRecord { entry: event.entry(), ..record }.encode();
        })
    };
    assert_eq!(forge(1), Fault::Changed(place(1, 2), Witness::Successor(place(1, 3))));
    assert_eq!(forge(2), Fault::Changed(place(1, 3), Witness::Successor(place(2, 1))));
    assert_eq!(forge(6), Fault::Changed(place(2, 4), Witness::Seal(3)));
    assert_eq!(walk(&records, &[], false), Err(Fault::NoSeal));
    assert_eq!(walk(&[], &seals, false), Err(Fault::Empty));
}

#[test]
fn a_seal_speaks_for_no_broker_that_it_does_not_name() {
    let records = audit(&[3]);
    let invented = AuditRecord::after(None, "a.1", &Event::new(UnixTime(7), "eve", "x.y", "z", "").entry());
    let with = |records: &[Vec<u8>]| [&[invented.encode()], records].concat();
    let found = walk(&with(&records), &[seal(1, &records[2], None)], false).unwrap();
    assert_eq!((found.records, found.unsealed), (4, 1), "whoever adds a chain adds nothing that is sealed");
}

#[test]
fn an_archived_beginning_is_the_one_that_the_seal_names() {
    let records = audit(&[4, 4]);
    let seals = [seal(1, &records[3], None), seal(9, &records[7], Some(&records[4]))];
    let found = walk(&records[5..], &seals, false).unwrap();
    assert_eq!((found.records, found.notes.len()), (3, 1));
    for from in [4, 6] {
        let fault = walk(&records[from..], &seals, false).unwrap_err();
        assert!(matches!(fault, Fault::NoBeginning { .. }), "{fault}");
    }
    assert_eq!(walk(&records[6..], &seals, true).unwrap().records, 2, "an export with --since");
}

#[test]
fn a_restore_is_told_and_a_seal_from_before_it_still_misses_what_it_replaced() {
    let mut records = audit(&[5]);
    let lost = records.split_off(3);
    let event = Event::new(UnixTime(9), "ada", "plant.restore", "plant.example", "restored");
    let replaced = head(&lost[1]);
    records.push(AuditRecord::after(Some(&replaced), "b1.2", &event.entry()).encode());
    let found = walk(&records, &whole(&records), false).unwrap();
    assert!(found.notes[0].starts_with("a restore replaced what came after record 3"), "{found:?}");
    let kept = [whole(&records), vec![seal(2, &lost[1], None)]].concat();
    assert_eq!(walk(&records, &kept, false), Err(Fault::Truncated { place: place(1, 5), seal: 2 }));
    let quiet = Event { action: "zone.create".into(), ..event };
    records[3] = AuditRecord::after(Some(&replaced), "b1.2", &quiet.entry()).encode();
    assert_eq!(walk(&records, &whole(&records), false), Err(Fault::Missing(place(1, 5))));
}

/// Something that is done to records.
#[derive(Debug, Clone)]
enum Tampering {
    Remove(usize),
    Change(usize, usize, u8),
    Swap(usize, usize),
    Repeat(usize, usize),
    CutFront(usize),
    CutTail(usize),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let at = 0..1000usize;
    prop_oneof![
        at.clone().prop_map(Tampering::Remove),
        (at.clone(), at.clone(), 1..=255u8).prop_map(|(r, b, x)| Tampering::Change(r, b, x)),
        (at.clone(), at.clone()).prop_map(|(a, b)| Tampering::Swap(a, b)),
        (at.clone(), at.clone()).prop_map(|(a, b)| Tampering::Repeat(a, b)),
        at.clone().prop_map(Tampering::CutFront),
        at.prop_map(Tampering::CutTail),
    ]
}

fn apply(tampering: &Tampering, records: &mut Vec<Vec<u8>>) {
    let n = records.len();
    match *tampering {
        Tampering::Remove(at) => drop(records.remove(at % n)),
        Tampering::Change(at, byte, xor) => {
            let record = &mut records[at % n];
            let byte = byte % record.len();
            record[byte] ^= xor;
        }
        Tampering::Swap(a, b) => records.swap(a % n, b % n),
        Tampering::Repeat(from, to) => records.insert(to % n, records[from % n].clone()),
        Tampering::CutFront(count) => drop(records.drain(..=count % n)),
        Tampering::CutTail(count) => records.truncate(n - 1 - count % n),
    }
}

proptest! {
    #[test]
    fn every_tampering_is_found_and_nothing_else_is(
        starts in proptest::collection::vec(1..6usize, 1..13),
        done in proptest::collection::vec(tampering(), 0..3),
        kept in 0..1000usize,
    ) {
        let records = audit(&starts);
        let seals = [whole(&records), vec![seal(1, &records[kept % records.len()], None)]].concat();
        let mut tampered = records.clone();
        for tampering in done {
            if !tampered.is_empty() {
                apply(&tampering, &mut tampered);
            }
        }
        prop_assert_eq!(walk(&tampered, &seals, false).is_ok(), tampered == records);
    }

    #[test]
    fn hostile_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Trail::new(&[], true).follow(&bytes).is_err());
    }
}
