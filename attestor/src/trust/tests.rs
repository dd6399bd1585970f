//! Refusals of trust sets, each by its reason.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use proto::v1;
use rcgen::{BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyPair};
use rcgen::{DistinguishedName, KeyIdMethod, KeyUsagePurpose, SerialNumber};

use super::*;

/// A plant in miniature: a root, an issuing authority, and trust sets signed by it.
pub(crate) struct Plant {
    pub(crate) root: PlantRoot,
    issuing_key: KeyPair,
    issuing: Vec<u8>,
    pub(crate) domain: PlantDomain,
}

pub(crate) const NOW: UnixTime = UnixTime(1_790_000_000);

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(rcgen::DnType::CommonName, name);
    named
}

const fn sequence(sequence: u64) -> Seen {
    Seen { sequence, issuing_number: 0 }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    params
}

/// A self-signed authority and its empty CRL.
pub(crate) fn zone_authority(name: &str) -> (Vec<u8>, Vec<u8>) {
    let (key, params) = (KeyPair::generate().unwrap(), authority_params(name));
    let certificate = params.self_signed(&key).unwrap();
    let crl = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(2040, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let crl = crl.signed_by(&Issuer::new(params, key)).unwrap();
    (certificate.der().to_vec(), crl.der().to_vec())
}

impl Plant {
    pub(crate) fn new() -> Self {
        Self::with_issuing(|_| {})
    }

    fn with_issuing(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (root_key, issuing_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root_params = authority_params("plant root");
        let root = root_params.self_signed(&root_key).unwrap();
        let mut params = authority_params("");
        params.distinguished_name = named("plant.example issuing 2");
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        change(&mut params);
        let issuer = Issuer::from_params(&root_params, &root_key);
        let issuing = params.signed_by(&issuing_key, &issuer).unwrap().der().to_vec();
        let root = PlantRoot::pin(root.der()).unwrap();
        let domain = "plant.example".parse().unwrap();
        Self { root, issuing_key, issuing, domain }
    }

    pub(crate) fn sign(&self, set: &v1::TrustSet) -> SignedTrustSet {
        let trust_set = set.encode_to_vec();
        let message = [b"touchstone/v1/trust-set\0".as_slice(), &trust_set].concat();
        let key = self.issuing_key.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key).unwrap();
        let signature = key.sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec();
        let (nobody_certificate, nobody_crl) = zone_authority("nobody");
        let issuing_certificate = self.issuing.clone();
        SignedTrustSet { trust_set, signature, issuing_certificate, nobody_certificate, nobody_crl }
    }

    fn refusal(&self, signed: SignedTrustSet, sequence: u64) -> TrustError {
        self.refusal_of(signed, Seen { sequence, issuing_number: 0 })
    }

    fn refusal_of(&self, signed: SignedTrustSet, seen: Seen) -> TrustError {
        let device = "press-1".parse().unwrap();
        let expected = Expected { root: &self.root, plant: &self.domain, device: &device, seen };
        TrustSet::verify(signed, &expected, NOW).unwrap_err()
    }
}

/// A set for press-1 that lets `cell` call its service opcua, and lets it call nobody.
pub(crate) fn set() -> v1::TrustSet {
    let (certificate, crl) = zone_authority("cell caller 1");
    let role = v1::Role::Caller.into();
    let authority = v1::Authority { zone: "cell".into(), role, generation: 1, certificate, crl };
    let file = |direction: v1::Direction, authorities| v1::TrustFile {
        zone: "press".into(),
        service: "opcua".into(),
        direction: direction.into(),
        authorities,
        openings: Vec::new(),
        ways: Vec::new(),
    };
    v1::TrustSet {
        sequence: 7,
        issued_at: NOW.0,
        authorities: vec![authority],
        files: vec![file(v1::Direction::Inbound, vec![0]), file(v1::Direction::Outbound, Vec::new())],
        timings: vec![v1::ZoneTiming {
            zone: "press".into(),
            reattest_every_seconds: 60,
            outlive_broker_seconds: 28_800,
            silent_after_seconds: 180,
            ..v1::ZoneTiming::default()
        }],
        device: "press-1".into(),
        grant_keys: String::new(),
    }
}

#[test]
fn a_good_set_is_taken_and_an_empty_direction_believes_nobody() {
    let plant = Plant::new();
    let device = "press-1".parse().unwrap();
    let expected = Expected { root: &plant.root, plant: &plant.domain, device: &device, seen: sequence(7) };
    let signed = plant.sign(&set());
    let trust = TrustSet::verify(signed.clone(), &expected, NOW).unwrap();
    let files: Vec<_> = trust.files(NOW).map(|(file, found)| (file.direction, found.len())).collect();
    assert_eq!(files, [(Direction::Inbound, 1), (Direction::Outbound, 1)]);
    let outbound = trust.files(NOW).nth(1).unwrap().1;
    assert_eq!(outbound[0].certificate, signed.nobody_certificate);
    let late = NOW.plus(40 * 365 * 86_400);
    assert!(matches!(
        TrustSet::verify(signed, &expected, late),
        Err(TrustError::NotSigned(SignatureFault::Time { .. }))
    ));
    let zones = ["press", "cell"].map(|zone| zone.parse().unwrap());
    assert_eq!(trust.reattest_every(&zones), Some(Duration::from_secs(60)));
    assert_eq!(TrustSet::recall(&trust.to_bytes(), &expected).unwrap(), trust);
}

#[test]
fn conduits_open_and_close_by_the_clock_without_the_broker() {
    let plant = Plant::new();
    let device = "press-1".parse().unwrap();
    let expected = Expected { root: &plant.root, plant: &plant.domain, device: &device, seen: sequence(7) };
    let mut set = set();
    // Open while it was made, which says nothing about other hours.
    let opening =
        |schedule: &str, end| v1::Opening { authority: 0, schedule: schedule.into(), expires_at: end };
    let (saturday, end) = ("2026-11-28T22:00:00Z", "2026-12-06T00:00:00Z".parse::<UnixTime>().unwrap());
    set.files[0].openings = vec![opening("sat,sun 22:00-04:00", end.0)];
    let trust = TrustSet::verify(plant.sign(&set), &expected, NOW).unwrap();
    let opens: UnixTime = saturday.parse().unwrap();
    let believed = |at: UnixTime| trust.files(at).next().unwrap().1[0] != &trust.nobody;
    for (at, open) in [(opens.minus(1), false), (opens, true), (opens.plus(6 * 3600), false), (end, false)] {
        assert_eq!(believed(at), open, "{at}");
    }
    assert!(believed("2026-12-05T23:59:59Z".parse().unwrap()));
    assert_eq!(trust.next_edge(opens.minus(1)), Some(opens));
    assert_eq!(trust.next_edge(end.minus(1)), Some(end));
    assert_eq!(trust.next_edge(end), None);
    // An ACL goes by the way, also where no authority is believed.
    let mut bare = set.clone();
    bare.files[0].openings.clear();
    bare.files[0].ways =
        vec![v1::Way { zone: "cell".into(), schedule: "sat,sun 22:00-04:00".into(), expires_at: end.0 }];
    let bare = TrustSet::verify(plant.sign(&bare), &expected, NOW).unwrap();
    assert_eq!((bare.next_edge(opens.minus(1)), bare.next_edge(end.minus(1))), (Some(opens), Some(end)));
    set.files[0].openings = vec![opening("when it suits", 0)];
    assert!(matches!(plant.refusal(plant.sign(&set), 7), TrustError::Malformed(_)));
    set.files[0].openings = vec![v1::Opening { authority: 1, ..opening("", 0) }];
    assert!(plant.refusal(plant.sign(&set), 7).to_string().contains("not in the set"));
}

#[test]
fn an_older_set_is_refused() {
    let plant = Plant::new();
    assert!(matches!(plant.refusal(plant.sign(&set()), 8), TrustError::Older { sequence: 7, floor: 8 }));
}

#[test]
fn a_set_of_an_issuing_key_that_was_replaced_is_refused_whatever_its_sequence() {
    let plant = Plant::new();
    let set = v1::TrustSet { sequence: u64::MAX, ..set() };
    let seen = Seen { sequence: 7, issuing_number: 3 };
    let refusal = plant.refusal_of(plant.sign(&set), seen);
    assert!(matches!(refusal, TrustError::Replaced { number: 2, seen: 3 }), "{refusal}");
    let device = "press-1".parse().unwrap();
    let seen = Seen { issuing_number: 2, ..seen };
    let expected = Expected { root: &plant.root, plant: &plant.domain, device: &device, seen };
    assert_eq!(TrustSet::verify(plant.sign(&set), &expected, NOW).unwrap().issuing_number(), 2);
}

#[test]
fn a_changed_set_and_a_foreign_signer_are_refused_by_reason() {
    let (plant, other) = (Plant::new(), Plant::new());
    let fault = |signed| match plant.refusal(signed, 0) {
        TrustError::NotSigned(fault) => fault,
        other => panic!("{other}"),
    };
    let mut changed = plant.sign(&set());
    changed.trust_set.push(0);
    assert_eq!(fault(changed), SignatureFault::Signature);
    assert_eq!(fault(other.sign(&set())), SignatureFault::OtherRoot);
    let stolen = SignedTrustSet { issuing_certificate: plant.issuing.clone(), ..other.sign(&set()) };
    assert_eq!(fault(stolen), SignatureFault::Signature);
    let torn = SignedTrustSet { issuing_certificate: vec![0x30], ..plant.sign(&set()) };
    assert_eq!(fault(torn), SignatureFault::Certificate);
}

#[test]
fn a_certificate_of_the_root_that_is_no_authority_signs_no_trust() {
    for plant in [
        Plant::with_issuing(|params| params.is_ca = IsCa::ExplicitNoCa),
        Plant::with_issuing(|params| params.key_usages.truncate(2)),
        Plant::with_issuing(|params| params.distinguished_name = named("plant.example audit")),
        Plant::with_issuing(|params| params.distinguished_name = named("other.example issuing 3")),
    ] {
        let refusal = plant.refusal(plant.sign(&set()), 0);
        assert!(matches!(refusal, TrustError::NotSigned(SignatureFault::NoAuthority)), "{refusal}");
    }
}

#[test]
fn a_set_for_another_device_is_refused() {
    let plant = Plant::new();
    let other = v1::TrustSet { device: "press-2".into(), ..set() };
    let refusal = plant.refusal(plant.sign(&other), 0);
    assert!(matches!(refusal, TrustError::OtherDevice { named, .. } if named == "press-2"));
}

#[test]
fn what_cannot_be_used_is_malformed() {
    let plant = Plant::new();
    let refuse = |change: fn(&mut v1::TrustSet)| {
        let mut bad = set();
        change(&mut bad);
        match plant.refusal(plant.sign(&bad), 0) {
            TrustError::Malformed(what) => what,
            other => panic!("{other}"),
        }
    };
    assert!(refuse(|set| set.files[0].authorities = vec![1]).contains("not in the set"));
    assert!(refuse(|set| set.files[1].authorities = vec![0]).contains("other direction"));
    assert!(refuse(|set| set.files[0].service = "../../etc".into()).contains("service name"));
    assert!(refuse(|set| set.files[0].zone = "..".into()).contains("zone name"));
    assert!(refuse(|set| set.files[0].direction = 0).contains("no direction"));
    assert!(refuse(|set| set.files.push(set.files[0].clone())).contains("twice"));
    assert!(refuse(|set| set.authorities[0].crl.clear()).contains("CRL"));
    assert!(refuse(|set| set.authorities[0].certificate.truncate(40)).contains("authority"));
}

#[test]
fn a_sign_of_life_is_the_brokers_for_this_device_as_it_is() {
    let (plant, other) = (Plant::new(), Plant::new());
    let device: DeviceName = "press-1".parse().unwrap();
    let beat = |plant: &Plant, device: &str| {
        let message = proto::convert::heartbeat(NOW.0, 7, &device.parse().unwrap());
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &plant.issuing_key.serialize_der());
        let signature = key.unwrap().sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec();
        let issuing_certificate = plant.issuing.clone();
        v1::Heartbeat { broker_time: NOW.0, trust_sequence: 7, signature, issuing_certificate }
    };
    let verdict = |beat: &v1::Heartbeat, issuing_number| {
        let seen = Seen { sequence: 7, issuing_number };
        verify_heartbeat(beat, &Expected { root: &plant.root, plant: &plant.domain, device: &device, seen })
    };
    let good = beat(&plant, "press-1");
    assert_eq!(verdict(&good, 2), Ok(()));
    assert_eq!(verdict(&good, 3), Err(SignatureFault::NoAuthority), "its key was replaced");
    assert_eq!(verdict(&beat(&other, "press-1"), 2), Err(SignatureFault::OtherRoot));
    assert_eq!(verdict(&beat(&plant, "press-2"), 2), Err(SignatureFault::Signature));
    let later = v1::Heartbeat { broker_time: NOW.0 + 1, ..good.clone() };
    assert_eq!(verdict(&later, 2), Err(SignatureFault::Signature));
    let unsigned = v1::Heartbeat { broker_time: NOW.0, trust_sequence: 7, ..v1::Heartbeat::default() };
    assert_eq!(verdict(&unsigned, 2), Err(SignatureFault::Certificate));
}
