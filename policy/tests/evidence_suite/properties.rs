//! Parsers over arbitrary bytes, and one flipped bit in every place.

use policy::eventlog::event::describe;
use policy::eventlog::replay::replay_all;
use policy::eventlog::tcg::EventLog;
use policy::evidence::secure_boot::told_by;
use policy::reader::ReadError;
use policy::tpm::alg::HashAlg;
use policy::tpm::attest::Attest;
use policy::tpm::pcr::PcrIndex;
use policy::tpm::public::{AttestationKey, EkPublic, Name, Public, PublicError};
use policy::tpm::signature::Signature;
use proptest::prelude::*;

use crate::rig::{AK_ATTRIBUTES, Key, Scene, boot, write_log};

proptest! {
    #[test]
    fn parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Attest::parse(&bytes);
        let _ = Signature::parse(&bytes);
        let _ = Public::parse(&bytes);
        let _ = Public::parse_2b(&bytes);
        let _ = AttestationKey::accept(&bytes);
        let _ = EkPublic::parse(&bytes);
        let _ = Name::parse(&bytes);
        let _ = EventLog::parse(&bytes);
    }

    /// A few bytes changed in a whole log: parsed, described and replayed, or refused.
    #[test]
    fn changed_logs_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut log = write_log(&boot());
        for (index, byte) in changes {
            let at = index.index(log.len());
            log[at] = byte;
        }
        if let Ok(parsed) = EventLog::parse(&log) {
            let _: Vec<_> = parsed.events().iter().map(describe).collect();
            let _ = replay_all(&parsed);
            let _ = told_by(&parsed, HashAlg::Sha256);
        }
    }

    /// A log cut anywhere is refused, or explains another boot.
    #[test]
    fn a_cut_log_is_refused(at in any::<prop::sample::Index>()) {
        let mut scene = Scene::of(&boot());
        let at = at.index(scene.log.len());
        scene.log.truncate(at);
        prop_assert!(scene.verify().is_err());
    }
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out[bit / 8] ^= 1 << (bit % 8);
    out
}

#[test]
fn every_flipped_bit_of_quote_and_signature_is_refused() {
    let scene = Scene::of(&boot());
    let good = scene.evidence();
    scene.judge(&good).unwrap();
    for bit in 0..good.quote.attest.len() * 8 {
        let mut evidence = good.clone();
        evidence.quote.attest = flipped(&good.quote.attest, bit);
        assert!(scene.judge(&evidence).is_err(), "bit {bit} of the attest");
    }
    for bit in 0..good.quote.signature.len() * 8 {
        let mut evidence = good.clone();
        evidence.quote.signature = flipped(&good.quote.signature, bit);
        assert!(scene.judge(&evidence).is_err(), "bit {bit} of the signature");
    }
}

/// A flipped bit of the log is refused or lies where no digest reaches: then what was extended into
/// PCRs 0 to 8 is what it was. Every third bit is flipped, two or three in each byte.
#[test]
fn flipped_bits_of_the_log_are_refused_or_uncovered() {
    let scene = Scene::of(&boot());
    let good = scene.evidence();
    let honest = scene.judge(&good).unwrap();
    let mut uncovered = 0;
    for bit in (0..good.firmware_log.len() * 8).step_by(3) {
        let mut evidence = good.clone();
        evidence.firmware_log = flipped(&good.firmware_log, bit);
        let Ok(verified) = scene.judge(&evidence) else { continue };
        uncovered += 1;
        assert_eq!(verified.secure_boot(), honest.secure_boot(), "bit {bit}");
        for pcr in (0..=8).filter_map(PcrIndex::new) {
            let digests = |of: &policy::evidence::verify::VerifiedEvidence| -> Vec<_> {
                of.events(pcr).iter().map(|event| event.digest).collect()
            };
            assert_eq!(digests(&verified), digests(&honest), "bit {bit}");
        }
    }
    assert!(uncovered > 0, "SHA-1 digests and image paths are not covered, so some flips must pass");
}

#[test]
fn public_areas_round_trip() {
    let public = Key::new().public(AK_ATTRIBUTES);
    let parsed = Public::parse(&public).unwrap();
    assert_eq!(parsed.as_bytes(), public);
    let mut surplus = public.clone();
    surplus.push(0);
    let error = Public::parse(&surplus).unwrap_err();
    assert!(matches!(error, PublicError::Structure(ReadError::TrailingBytes { .. })), "{error:?}");
    let sized = crate::rig::tpm2b(&public);
    assert_eq!(Public::parse_2b(&sized).unwrap(), parsed);
    assert!(Public::parse_2b(&[sized, vec![0]].concat()).is_err());
}
