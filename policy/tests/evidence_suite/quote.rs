//! The quote itself: checklist rows 1, 2, 9, 10, 12 to 15.

use policy::evidence::verify::EvidenceError;
use policy::evidence::{HardwareProof, Quote};
use policy::reader::ReadError;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::attest::AttestError;
use policy::tpm::clock::ClockInfo;
use policy::tpm::pcr::{PcrSelection, PcrValues};
use policy::tpm::public::Scheme;
use policy::tpm::signature::SignatureError;

use crate::rig::{BANKS, Key, Scene, boot, pcr, pcrs_after, quote_info, write_log};

#[test]
fn an_honest_boot_is_verified() {
    let verified = Scene::of(&boot()).verify().unwrap();
    assert_eq!(verified.pcrs(), &pcrs_after(&boot(), HashAlg::Sha256, 0));
    assert_eq!((verified.bank(), verified.hardware()), (HashAlg::Sha256, HardwareProof::Endorsed));
    assert_eq!(
        verified.clock(),
        ClockInfo { clock_ms: 69_142, reset_count: 7, restart_count: 1, safe: true }
    );
    assert_eq!(verified.firmware_version(), 0x0020_1910_0116_3636);
    assert!(verified.secure_boot().is_enabled());
    assert!(verified.unexplained().is_empty());
    let events = verified.events(pcr(7));
    assert_eq!(events.len(), 7);
    // The log's header is event 0, so the first event of the boot is event 1.
    assert_eq!((events[0].position, events[0].event_type), (3, 0x8000_0001));
    assert_eq!(events[0].description.as_deref(), Some("SecureBoot"));
}

#[test]
fn row_1_another_magic_is_refused() {
    let mut scene = Scene::of(&boot());
    scene.attest.magic = 0xff54_4346;
    assert_eq!(scene.verify().unwrap_err(), EvidenceError::Quote(AttestError::Magic { found: 0xff54_4346 }));
}

#[test]
fn row_2_other_attestations_are_no_quote() {
    for kind in [0x8014, 0x8015, 0x8016, 0x8019, 0x801a, 0x801c] {
        let mut scene = Scene::of(&boot());
        scene.attest.kind = kind;
        let error = scene.verify().unwrap_err();
        assert!(
            matches!(error, EvidenceError::Quote(AttestError::Type { found, .. }) if found == kind),
            "{error}"
        );
    }
}

#[test]
fn row_2_a_certification_is_no_quote() {
    let mut scene = Scene::of(&boot());
    scene.attest.kind = 0x8017;
    scene.attest.body = [crate::rig::tpm2b(&[0, 0xb]), crate::rig::tpm2b(&[0, 0xb])].concat();
    let wanted = "a quote (0x8018)";
    assert_eq!(
        scene.verify().unwrap_err(),
        EvidenceError::Quote(AttestError::Type { found: 0x8017, wanted })
    );
}

#[test]
fn row_10_another_keys_signature_is_refused() {
    let scene = Scene::of(&boot());
    let mut evidence = scene.evidence();
    evidence.quote.signature = Key::new().sign(&evidence.quote.attest);
    assert_eq!(scene.judge(&evidence).unwrap_err(), EvidenceError::Signature(SignatureError::Forged));
}

#[test]
fn row_12_the_signature_must_agree_with_the_keys_scheme() {
    let scene = Scene::of(&boot());
    let expected = Scheme::Ecdsa(HashAlg::Sha256);
    let other_hash = |hash: [u8; 2]| {
        let mut evidence = scene.evidence();
        evidence.quote.signature[2..4].copy_from_slice(&hash);
        scene.judge(&evidence).unwrap_err()
    };
    for (hash, alg) in [([0, 0x04], HashAlg::Sha1), ([0, 0x0c], HashAlg::Sha384)] {
        let mismatch = SignatureError::Scheme { expected, found: Scheme::Ecdsa(alg) };
        assert_eq!(other_hash(hash), EvidenceError::Signature(mismatch));
    }
    assert_eq!(other_hash([0, 0x12]), EvidenceError::Signature(SignatureError::Hash(0x12)));
    let mut evidence = scene.evidence();
    evidence.quote.signature = [vec![0, 0x14, 0, 0x0b], crate::rig::tpm2b(&[1; 256])].concat();
    let mismatch = SignatureError::Scheme { expected, found: Scheme::RsaSsa(HashAlg::Sha256) };
    assert_eq!(scene.judge(&evidence).unwrap_err(), EvidenceError::Signature(mismatch));
    evidence.quote.signature[1] = 0x05;
    let error = EvidenceError::Signature(SignatureError::Algorithm(0x0005));
    assert_eq!(scene.judge(&evidence).unwrap_err(), error);
}

#[test]
fn row_9_a_replayed_quote_answers_another_challenge() {
    for extra_data in [vec![], vec![0x5a; 31], vec![0x5b; 32], vec![0x5a; 33]] {
        let mut scene = Scene::of(&boot());
        scene.attest.extra_data = extra_data;
        assert_eq!(scene.verify().unwrap_err(), EvidenceError::QualifyingData);
    }
}

#[test]
fn row_13_only_the_selection_asked_for_is_accepted() {
    let asked = (0x000b, [0xff, 0xff, 0]);
    for selections in [
        vec![],
        vec![(0x000b, [0xff, 0x7f, 0])],
        vec![(0x000b, [0xff, 0xff, 1])],
        vec![(0x000b, [0, 0, 0x81])],
        vec![(0x0004, [0xff, 0xff, 0])],
        vec![asked, (0x0004, [0xff, 0xff, 0])],
        vec![asked, asked],
    ] {
        let mut scene = Scene::of(&boot());
        let selection = PcrSelection::quoted(HashAlg::Sha256);
        let digest = scene.pcrs.quote_digest(&selection, HashAlg::Sha256).unwrap();
        scene.attest.body = quote_info(&selections, digest.as_bytes());
        let error = scene.verify().unwrap_err();
        assert!(matches!(error, EvidenceError::Selection { .. }), "{selections:?}: {error}");
    }
}

#[test]
fn row_13_an_empty_selection_over_the_empty_hash_is_refused() {
    let mut scene = Scene::of(&boot());
    scene.attest.body = quote_info(&[], HashAlg::Sha256.hash(&[]).as_bytes());
    scene.pcrs = PcrValues::new(HashAlg::Sha256);
    assert!(matches!(scene.verify().unwrap_err(), EvidenceError::Selection { .. }));
}

#[test]
fn row_13_values_must_be_those_of_the_selection() {
    let selection = PcrSelection::quoted(HashAlg::Sha256);
    let mut surplus = Scene::of(&boot());
    surplus.pcrs.set(pcr(16), HashValue::repeated(HashAlg::Sha256, 0));
    assert_eq!(surplus.verify().unwrap_err(), EvidenceError::Values(selection));

    let mut missing = Scene::of(&boot());
    missing.pcrs = PcrValues::new(HashAlg::Sha256);
    assert_eq!(missing.verify().unwrap_err(), EvidenceError::Values(selection));

    let mut other_bank = Scene::of(&boot());
    other_bank.pcrs = pcrs_after(&boot(), HashAlg::Sha1, 0);
    assert_eq!(other_bank.verify().unwrap_err(), EvidenceError::Values(selection));
}

#[test]
fn row_14_values_must_hash_to_the_quoted_digest() {
    let mut scene = Scene::of(&boot());
    scene.pcrs.set(pcr(4), HashValue::repeated(HashAlg::Sha256, 7));
    assert_eq!(scene.verify().unwrap_err(), EvidenceError::PcrDigest);
}

#[test]
fn row_15_a_sha1_bank_proves_nothing() {
    assert!(BANKS.contains(&HashAlg::Sha1));
    let scene = Scene::with(pcrs_after(&boot(), HashAlg::Sha1, 0), write_log(&boot()));
    assert_eq!(scene.verify().unwrap_err(), EvidenceError::WeakBank(HashAlg::Sha1));
}

#[test]
fn row_11_empty_evidence_is_refused() {
    let scene = Scene::of(&boot());
    let mut evidence = scene.evidence();
    evidence.quote = Quote { attest: vec![], signature: vec![] };
    let error = scene.judge(&evidence).unwrap_err();
    assert!(matches!(error, EvidenceError::Quote(AttestError::Structure(_))), "{error}");
    let mut evidence = scene.evidence();
    evidence.quote.signature = vec![];
    let error = scene.judge(&evidence).unwrap_err();
    assert!(matches!(error, EvidenceError::Signature(SignatureError::Structure(_))), "{error}");
}

#[test]
fn row_25_an_oversize_attest_is_refused_unread() {
    let scene = Scene::of(&boot());
    let mut evidence = scene.evidence();
    evidence.quote.attest.resize(1025, 0);
    let error = scene.judge(&evidence).unwrap_err();
    assert!(matches!(error, EvidenceError::Quote(AttestError::Structure(_))), "{error}");
}

#[test]
fn surplus_bytes_are_refused_even_when_signed() {
    let mut scene = Scene::of(&boot());
    scene.attest.body.push(0);
    let EvidenceError::Quote(AttestError::Structure(error)) = scene.verify().unwrap_err() else {
        panic!("refused for another reason")
    };
    assert!(matches!(error, ReadError::TrailingBytes { what: "TPMS_ATTEST", left: 1, .. }), "{error}");

    let scene = Scene::of(&boot());
    let mut evidence = scene.evidence();
    evidence.quote.signature.push(0);
    let EvidenceError::Signature(SignatureError::Structure(error)) = scene.judge(&evidence).unwrap_err()
    else {
        panic!("refused for another reason")
    };
    assert!(matches!(error, ReadError::TrailingBytes { what: "TPMT_SIGNATURE", left: 1, .. }), "{error}");
}

#[test]
fn a_refused_selection_is_shown_as_people_write_it() {
    let mut scene = Scene::of(&boot());
    scene.attest.body = quote_info(&[(0x000b, [0x81, 0, 1]), (0x0012, [1, 0, 0])], &[0; 32]);
    let text = scene.verify().unwrap_err().to_string();
    assert!(text.contains("covers [sha256:{0, 7, 16}, 0x0012:{0}]"), "{text}");
}
