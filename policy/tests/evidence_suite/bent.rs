//! Whole evidence with one edit: it is refused, or the bytes are not covered and nothing that counts is different.
//! The test knows which.

use policy::digest::Digest;
use policy::eventlog::event::EventType;
use policy::evidence::Evidence;
use policy::evidence::secure_boot::{Authority, KeyDatabase};
use policy::evidence::verify::{EvidenceError, VerifiedEvidence};
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::{PcrIndex, PcrSelection, PcrValues};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::rig::{SEPARATOR, Scene, Written, boot, encode, pcr, write_log};

/// What appraisal reads of verified evidence but the events' types and places, which no digest covers.
#[derive(Debug, PartialEq)]
struct Counted {
    pcrs: PcrValues,
    digests: Vec<Vec<HashValue>>,
    unexplained: Vec<PcrIndex>,
    enabled: bool,
    keys: Vec<Digest>,
    authorities: Vec<Digest>,
    others: Vec<String>,
}

fn quoted() -> impl Iterator<Item = PcrIndex> {
    (0..16).filter_map(PcrIndex::new)
}

fn counted(verified: &VerifiedEvidence) -> Counted {
    let state = verified.secure_boot();
    let digests = |pcr| verified.events(pcr).iter().map(|event| event.digest).collect();
    Counted {
        pcrs: verified.pcrs().clone(),
        digests: quoted().map(digests).collect(),
        unexplained: verified.unexplained().to_vec(),
        enabled: state.is_enabled(),
        keys: [state.pk(), state.kek(), state.db(), state.dbx()].map(KeyDatabase::digest).to_vec(),
        authorities: state.authorities().iter().map(Authority::identity).collect(),
        others: state.others().iter().map(|other| other.text.clone()).collect(),
    }
}

fn types(verified: &VerifiedEvidence) -> Vec<u32> {
    quoted().flat_map(|pcr| verified.events(pcr).iter().map(|event| event.event_type)).collect()
}

/// An edit of bytes; `None` if it would change nothing.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, u8),
    Remove(Index),
    Swap(Index, Index),
}

impl Edit {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            (any::<Index>(), 1_u8..).prop_map(|(at, change)| Self::Flip(at, change)),
            any::<Index>().prop_map(Self::Cut),
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Self::Insert(at, byte)),
            any::<Index>().prop_map(Self::Remove),
            (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Self::Swap(one, other)),
        ]
    }

    fn of(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = bytes.to_vec();
        let place = |at: &Index| at.index(bytes.len());
        match self {
            Self::Flip(at, change) => out[place(at)] ^= change,
            Self::Cut(at) => out.truncate(place(at)),
            Self::Insert(at, byte) => out.insert(at.index(bytes.len() + 1), *byte),
            Self::Remove(at) => drop(out.remove(place(at))),
            Self::Swap(one, other) => out.swap(place(one), place(other)),
        }
        (out != bytes).then_some(out)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Every byte of the attest is signed, and every byte of the signature signs.
    #[test]
    fn an_edited_quote_is_refused_as_one(edit in Edit::any(), in_signature: bool) {
        let scene = Scene::of(&boot());
        let mut evidence = scene.evidence();
        let part =
            if in_signature { &mut evidence.quote.signature } else { &mut evidence.quote.attest };
        let Some(edited) = edit.of(part) else { return Ok(()) };
        *part = edited;
        let error = scene.judge(&evidence).unwrap_err();
        let of_quote = matches!(error, EvidenceError::Signature(_))
            || !in_signature && matches!(error, EvidenceError::Quote(_));
        prop_assert!(of_quote, "{:?}", error);
    }

    /// Every bit of every PCR value is hashed into the quote, each value in its place.
    #[test]
    fn an_edited_pcr_value_is_refused_as_one(one in 0_u32..16, other in 0_u32..16, bit in 0_usize..256, edit in 0..4) {
        let mut scene = Scene::of(&boot());
        let honest = scene.pcrs.clone();
        let (expected, edited) = edit_values(&honest, pcr(one), pcr(other), bit, edit);
        if edited == honest {
            return Ok(());
        }
        scene.pcrs = edited;
        prop_assert_eq!(scene.verify().unwrap_err(), expected);
    }
}

/// A bit flipped, two values swapped, one left out, or one more.
fn edit_values(
    honest: &PcrValues,
    one: PcrIndex,
    other: PcrIndex,
    bit: usize,
    edit: i32,
) -> (EvidenceError, PcrValues) {
    let mut values = honest.clone();
    let value = |pcr| *honest.value(pcr).unwrap();
    let not_those = EvidenceError::Values(PcrSelection::quoted(HashAlg::Sha256));
    match edit {
        0 => {
            let mut bytes = value(one).as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            values.set(one, HashValue::new(HashAlg::Sha256, &bytes).unwrap());
            (EvidenceError::PcrDigest, values)
        }
        1 => {
            values.set(one, value(other));
            values.set(other, value(one));
            (EvidenceError::PcrDigest, values)
        }
        2 => {
            let mut fewer = PcrValues::new(HashAlg::Sha256);
            for (pcr, value) in honest.iter().filter(|(pcr, _)| *pcr != one) {
                fewer.set(pcr, *value);
            }
            (not_those, fewer)
        }
        _ => {
            values.set(pcr(16 + u32::from(other.number()) % 8), value(one));
            (not_those, values)
        }
    }
}

/// How far the quote reaches a byte of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Any change is refused.
    Covered,
    /// A change is refused, or leaves this PCR without an explanation: Linux goes on extending it.
    Explains(u8),
    /// The type of an event: refused, or told with that type and otherwise the same; `EV_NO_ACTION` may leave its
    /// PCR, from 8 on, without an explanation.
    Type(u8),
    /// The PCR of the header, which extends nothing: only its bound is held.
    Header,
    /// No change makes any difference.
    Uncovered,
}

/// How far the quote reaches each byte of the log of [`boot`].
fn reaches() -> Vec<Reach> {
    use Reach::{Covered, Header, Uncovered};
    let parts = |parts: &[(Reach, usize)]| -> Vec<Reach> {
        parts.iter().flat_map(|(reach, len)| vec![*reach; *len]).collect()
    };
    // PCR, type, digest, size; signature, platform class and version; banks and the length of no vendor info.
    let mut all =
        parts(&[(Header, 4), (Covered, 4), (Uncovered, 20), (Covered, 4), (Covered, 16), (Uncovered, 8)]);
    all.extend(parts(&[(Covered, 4 + 2 * 4 + 1)]));
    for event in boot() {
        let number = u8::try_from(event.pcr).unwrap();
        let counts = if number < 8 { Covered } else { Reach::Explains(number) };
        let data = if number == 7 || event.kind == SEPARATOR { Covered } else { Uncovered };
        // PCR, type, count, two digests with their algorithm, size, data.
        all.extend(parts(&[
            (counts, 4),
            (Reach::Type(number), 4),
            (Covered, 4 + 2),
            (Uncovered, 20),
            (Covered, 2),
            (counts, 32),
            (Covered, 4),
            (data, event.data.len()),
        ]));
    }
    assert_eq!(all.len(), write_log(&boot()).len());
    all
}

fn with_log(scene: &Scene, log: Vec<u8>) -> Result<VerifiedEvidence, EvidenceError> {
    scene.judge(&Evidence { firmware_log: log, ..scene.evidence() })
}

/// Flips `change` in the byte at `at` and holds the verdict against how far the quote reaches it.
fn flip(scene: &Scene, reach: Reach, at: usize, change: u8) {
    let honest = scene.verify().unwrap();
    let mut log = scene.log.clone();
    log[at] ^= change;
    let header_pcr = u32::from_le_bytes(log[..4].try_into().unwrap());
    let flipped = with_log(scene, log);
    let place = format!("offset {at}, bits {change:#04x}, {reach:?}");
    let same = |verified: &VerifiedEvidence| counted(verified) == counted(&honest);
    let unexplained = |verified: &VerifiedEvidence, number: u8| {
        verified.unexplained() == [pcr(number.into())] && verified.secure_boot() == honest.secure_boot()
    };
    match (reach, flipped) {
        (Reach::Covered, flipped) => assert!(flipped.is_err(), "{place}"),
        (Reach::Explains(number), Ok(verified)) => assert!(unexplained(&verified, number), "{place}"),
        (Reach::Type(number), Ok(verified)) => {
            let other_type = same(&verified) && types(&verified) != types(&honest);
            assert!(other_type || number >= 8 && unexplained(&verified, number), "{place}");
        }
        (Reach::Explains(_) | Reach::Type(_), Err(_)) => {}
        (Reach::Header, flipped) => {
            assert_eq!(flipped.is_ok(), PcrIndex::new(header_pcr).is_some(), "{place}");
            assert!(flipped.is_err() || same(&flipped.unwrap()), "{place}");
        }
        (Reach::Uncovered, flipped) => {
            let flipped = flipped.unwrap_or_else(|error| panic!("{place}: {error:?}"));
            assert!(same(&flipped) && types(&flipped) == types(&honest), "{place}");
        }
    }
}

/// A bit of every byte, and all bits of the byte.
#[test]
fn every_byte_of_the_log_is_covered_or_makes_no_difference() {
    let scene = Scene::of(&boot());
    for (at, reach) in reaches().into_iter().enumerate() {
        flip(&scene, reach, at, 1 << (at % 8));
        flip(&scene, reach, at, 0xff);
    }
}

/// The events of each PCR in their order.
fn by_pcr(events: &[Written]) -> Vec<Vec<Vec<u8>>> {
    let of = |pcr: u32| events.iter().filter(|event| event.pcr == pcr).map(encode).collect();
    (0..16).map(of).collect()
}

proptest! {
    #[test]
    fn a_changed_byte_of_the_log_is_covered_or_makes_no_difference(at: Index, change in 1_u8..) {
        let scene = Scene::of(&boot());
        let at = at.index(scene.log.len());
        flip(&scene, reaches()[at], at, change);
    }

    /// Nothing may be cut, put in or taken out, but fill after the end.
    #[test]
    fn an_edited_log_is_refused(edit in Edit::any()) {
        let scene = Scene::of(&boot());
        let log = match edit {
            Edit::Flip(..) | Edit::Swap(..) => return Ok(()),
            edit => edit.of(&scene.log).unwrap(),
        };
        let fills = log.starts_with(&scene.log) && matches!(log.last(), Some(0x00 | 0xff));
        prop_assert_eq!(with_log(&scene, log).is_ok(), fills);
    }

    /// Events swapped, told twice or left out: their order within a PCR is covered, that between PCRs is not.
    #[test]
    fn the_events_of_a_pcr_stay_where_they_are(one: Index, other: Index, edit in 0..3) {
        let scene = Scene::of(&boot());
        let mut events = boot();
        let (one, other) = (one.index(events.len()), other.index(events.len()));
        let touched = events[one].pcr;
        match edit {
            0 => events.swap(one, other),
            1 => events.insert(other, events[one].clone()),
            _ => drop(events.remove(one)),
        }
        let honest = counted(&scene.verify().unwrap());
        match with_log(&scene, write_log(&events)) {
            Ok(verified) if by_pcr(&events) == by_pcr(&boot()) => prop_assert_eq!(counted(&verified), honest),
            Ok(verified) => {
                prop_assert!(touched >= 8 && edit != 0, "an edit of PCR {} was verified", touched);
                prop_assert_eq!(verified.unexplained(), [pcr(touched)]);
                prop_assert!(verified.events(pcr(touched)).is_empty());
            }
            Err(_) => prop_assert!(by_pcr(&events) != by_pcr(&boot())),
        }
    }

    /// An event that extends nothing may stand anywhere and says nothing.
    #[test]
    fn an_event_without_action_makes_no_difference(at: Index, number in 0_u32..24, data in proptest::collection::vec(any::<u8>(), 0..40)) {
        let scene = Scene::of(&boot());
        let mut events = boot();
        events.insert(at.index(events.len() + 1), crate::rig::event(number, EventType::NO_ACTION.0, &data));
        let honest = counted(&scene.verify().unwrap());
        prop_assert_eq!(with_log(&scene, write_log(&events)).map(|verified| counted(&verified)), Ok(honest));
    }
}
