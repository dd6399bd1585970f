//! Row 29: what is known against an attesting TPM, by its firmware, its keys and the operator's rules.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::forge::{Authority, judge, store, tpm_names};
use policy::evidence::endorsement::{EndorsedEk, Manufacturer, Weight};
use policy::evidence::flaw::{AttestingTpm, DenyRule, Flaw, flaws};
use policy::tpm::public::{AttestationKey, PublicKey};
use rcgen::{KeyPair, PublicKeyData};

/// A restricted signing key on P-256.
fn ak() -> AttestationKey {
    let key = KeyPair::generate().unwrap();
    let point = key.der_bytes().strip_prefix(&[4]).unwrap();
    let (x, y) = point.split_at(32);
    let mut public = hex::decode("0023000b00050072000000100018000b00030010").unwrap();
    for coordinate in [x, y] {
        public.extend([0, 32]);
        public.extend(coordinate);
    }
    AttestationKey::accept(&public).unwrap()
}

/// An RSA AK with this modulus.
fn rsa_ak(modulus: &[u8]) -> AttestationKey {
    let mut public = hex::decode("0001000b00050072000000100014000b0800000000000100").unwrap();
    public.extend(modulus);
    AttestationKey::accept(&public).unwrap()
}

/// An endorsed EK of this manufacturer.
fn endorsed(manufacturer: Manufacturer) -> EndorsedEk {
    let root = Authority::root("Root");
    let id = format!("id:{}", hex::encode(manufacturer.0));
    let ek = root.ek_with(|params| {
        params.custom_extensions = vec![tpm_names(&[(1, &id), (2, "model"), (3, "id:00010000")])];
    });
    judge(&ek, &[], &store(&[&root.der])).unwrap()
}

/// An EK that is not looked at.
fn any_ek() -> PublicKey {
    PublicKey::Rsa { modulus: vec![0xff; 256], exponent: 65_537 }
}

fn found(ek: &EndorsedEk, ak: &AttestationKey, build: [u16; 4], rules: &[DenyRule]) -> Vec<Flaw> {
    let firmware_version = build.into_iter().fold(0, |number: u64, part| (number << 16) | u64::from(part));
    flaws(&AttestingTpm { endorsed: Some(ek), recorded: None, ek: &any_ek(), ak, firmware_version }, rules)
}

fn weights(flaws: &[Flaw]) -> Vec<(&str, Weight)> {
    flaws.iter().map(|flaw| (flaw.id.as_str(), flaw.weight)).collect()
}

/// Made for this test in the way of the flawed library.
const ROCA: &str = "ca151be24167fd84ac924a0201955943355a0f55c9338fd687ba6e5bfbc365c4ec9bb247078b0e0dc220d1d1d5a9b8a714b3\
    6547948ad8411f5ca3779061a664c74e64b46560fa7f86b38c203040250e5dd0e294bea7681ff0e8e681c3dd68c47932b82b\
    8381e161611d0c0d9eccbe6dac21ac6a471bf6efce2651cfc05e35c91c02bbefda27006a25370c2a6fa1a8efec4259efc0e0\
    eca8d92ed44717fa42d42c808383a54127d42b250f5b4b6d5c85b1c17917d5220fdca10793bab20d0011ad82c980f7955233\
    6c69e83520149b0c258b482f1708e2ec8024d7a8994e626408e934dfd9e73c37013dd477690958aa35fb553e01ca1704d3f9\
    97414820536f";

#[test]
fn row_29_the_firmware_of_the_quote_decides_not_that_of_the_certificate() {
    let (ek, ak) = (endorsed(Manufacturer::INFINEON), ak());
    let affected = found(&ek, &ak, [7, 40, 0, 0], &[]);
    assert_eq!(weights(&affected), [("CVE-2017-15361", Weight::Vulnerable)]);
    assert!(affected[0].sentence.starts_with("Infineon TPM, firmware 7.40.0.0: ROCA"), "{affected:?}");
    assert_eq!(found(&ek, &ak, [7, 62, 0, 0], &[]), []);
    // At manufacture it was 1.0, of which nothing is known.
    assert!(ek.advisories().is_empty());
}

#[test]
fn a_flaw_that_gives_away_ecdsa_keys_breaks_an_ak_that_is_one() {
    let ek = endorsed(Manufacturer::STMICRO);
    let of = |ak: &AttestationKey| weights(&found(&ek, ak, [74, 8, 0, 0], &[]))[0].1;
    assert_eq!(of(&ak()), Weight::Broken);
    assert_eq!(of(&rsa_ak(&[0xff; 256])), Weight::Vulnerable);
}

#[test]
fn what_may_not_concern_this_tpm_is_held_against_nobody() {
    let ak = ak();
    for (manufacturer, build, id) in [
        (Manufacturer::AMD, [3, 92, 0, 0], "faulTPM"),
        (Manufacturer::INTEL, [600, 18, 0, 0], "CVE-2019-11090"),
        (Manufacturer::NUVOTON, [1, 3, 2, 8], "CVE-2023-1017"),
        (Manufacturer::NUVOTON, [7, 2, 3, 1], "CVE-2026-6923"),
    ] {
        assert_eq!(weights(&found(&endorsed(manufacturer), &ak, build, &[])), [(id, Weight::Notice)]);
    }
}

#[test]
fn keys_of_roca_break_the_tpm_whoever_made_it() {
    let modulus = hex::decode(ROCA).unwrap();
    let (weak, strong) = (PublicKey::Rsa { modulus: modulus.clone(), exponent: 65_537 }, any_ek());
    for (ek, ak, key) in [(&weak, ak(), "endorsement key"), (&strong, rsa_ak(&modulus), "attestation key")] {
        let found =
            flaws(&AttestingTpm { endorsed: None, recorded: None, ek, ak: &ak, firmware_version: 0 }, &[]);
        assert_eq!(weights(&found), [("CVE-2017-15361", Weight::Broken)]);
        assert!(found[0].sentence.starts_with(&format!("ROCA: the {key} was made")), "{found:?}");
    }
    let fine = flaws(
        &AttestingTpm { endorsed: None, recorded: None, ek: &strong, ak: &ak(), firmware_version: 0 },
        &[],
    );
    assert_eq!(fine, []);
}

#[test]
fn an_operators_rule_counts_as_it_says() {
    let rule = |before: Option<&str>, weight| DenyRule {
        manufacturer: Manufacturer::NUVOTON,
        firmware_before: before.map(|text| text.parse().unwrap()),
        weight,
        why: "boxes stand open".into(),
    };
    let (ek, ak) = (endorsed(Manufacturer::NUVOTON), ak());
    let rules = [rule(Some("7.2.4.1"), Weight::Broken), rule(None, Weight::Vulnerable)];
    let old = found(&ek, &ak, [7, 2, 4, 0], &rules);
    assert_eq!(weights(&old), [("tpm_deny", Weight::Broken), ("tpm_deny", Weight::Vulnerable)]);
    assert_eq!(
        old[0].sentence,
        "the broker's tpm_deny names TPMs by Nuvoton with firmware before 7.2.4.1: boxes stand open"
    );
    assert_eq!(weights(&found(&ek, &ak, [7, 2, 4, 1], &rules)), [("tpm_deny", Weight::Vulnerable)]);
    assert_eq!(found(&endorsed(Manufacturer::ATMEL), &ak, [7, 2, 4, 0], &rules), []);
}

#[test]
fn a_certificate_left_out_hides_nobody_from_advisories_and_rules() {
    let rule = |manufacturer| DenyRule {
        manufacturer,
        firmware_before: None,
        weight: Weight::Broken,
        why: "boxes stand open".into(),
    };
    let (ek, ak, firmware_version) = (any_ek(), ak(), 0x0007_0028_0000_0000);
    let of = |recorded, rules: &[DenyRule]| {
        flaws(&AttestingTpm { endorsed: None, recorded, ek: &ek, ak: &ak, firmware_version }, rules)
    };
    let known = of(Some(Manufacturer::INFINEON), &[rule(Manufacturer::INFINEON)]);
    assert_eq!(weights(&known), [("CVE-2017-15361", Weight::Vulnerable), ("tpm_deny", Weight::Broken)]);
    let others = of(Some(Manufacturer::ATMEL), &[rule(Manufacturer::INFINEON)]);
    assert_eq!(others, []);

    let unknown = of(None, &[rule(Manufacturer::INFINEON)]);
    assert_eq!(weights(&unknown), [("tpm_deny", Weight::Vulnerable)]);
    assert!(unknown[0].sentence.contains("let the device send its EK certificate"), "{unknown:?}");
    assert_eq!(of(None, &[]), [], "without rules nothing is asked");
}
