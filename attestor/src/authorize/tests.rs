//! Questions to a device that was sent one trust set: `cell` may open its `opcua`, nobody its `ssh`.

use jsonwebtoken::jwk::{Jwk, JwkSet, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use policy::access::{AccessGrant, grant::Confirmation};
use policy::digest::Digest;
use proto::v1;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};

use super::*;
use crate::role::{Role, Seat};
use crate::state::tests::{svid, svid_from};
use crate::trust::tests::{NOW, Plant};
use crate::trust::{Expected, TrustSet};

const REVOKED: u8 = 0x66;

/// The device, an authority of the zone `cell`, and the broker's key for grants.
pub(crate) struct World {
    pub(crate) state: State,
    plant: Plant,
    cell: Issuer<'static, KeyPair>,
    grants: EncodingKey,
    kid: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_ways(vec![v1::Way { zone: "cell".into(), schedule: String::new(), expires_at: 0 }])
    }

    /// The same with these ways from others into its opcua.
    pub(crate) fn with_ways(ways: Vec<v1::Way>) -> Self {
        let file = |service: &str, ways: Vec<v1::Way>| v1::TrustFile {
            zone: "press".into(),
            service: service.into(),
            direction: v1::Direction::Inbound.into(),
            ways,
            ..v1::TrustFile::default()
        };
        Self::with_files(vec![file("opcua", ways), file("ssh", Vec::new())])
    }

    fn with_files(files: Vec<v1::TrustFile>) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "cell.plant.example caller 1");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        let cell = Issuer::new(params, key);
        let crl = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from_slice(&[REVOKED; 16]),
                revocation_time: rcgen::date_time_ymd(2026, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = crl.signed_by(&cell).unwrap().der().to_vec();
        let grants = KeyPair::generate().unwrap();
        let grants = EncodingKey::from_ec_der(&grants.serialize_der());
        let mut public = Jwk::from_encoding_key(&grants, Algorithm::ES256).unwrap();
        let kid = public.thumbprint(ThumbprintHash::SHA256).unwrap();
        public.common.key_id = Some(kid.clone());
        let set = v1::TrustSet {
            sequence: 7,
            issued_at: NOW.0,
            authorities: vec![v1::Authority {
                zone: "cell".into(),
                role: v1::Role::Caller.into(),
                generation: 1,
                certificate,
                crl,
            }],
            files,
            device: "press-1".into(),
            grant_keys: serde_json::to_string(&JwkSet { keys: vec![public] }).unwrap(),
            ..v1::TrustSet::default()
        };
        let plant = Plant::new();
        let device = "press-1".parse().unwrap();
        let expected = Expected {
            root: &plant.root,
            plant: &plant.domain,
            device: &device,
            seen: crate::trust::Seen::default(),
        };
        let trust = TrustSet::verify(plant.sign(&set), &expected, NOW).unwrap();
        let state = State {
            device: Some(device.clone()),
            zones: vec!["press".parse().unwrap()],
            trust: Some(std::sync::Arc::new(trust)),
            ..State::default()
        };
        Self { state, plant, cell, grants, kid }
    }

    /// What `camera-1` of `cell` shows.
    pub(super) fn shown(&self, serial: u8) -> Vec<u8> {
        self.shown_by("spiffe://cell.plant.example/device/camera-1", serial)
    }

    fn shown_by(&self, uri: &str, serial: u8) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.serial_number = Some(SerialNumber::from_slice(&[serial; 16]));
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.cell).unwrap().der().to_vec()
    }

    pub(super) fn answer(&self, question: &Question) -> Answer {
        answer(&self.state, &self.plant.domain, question, NOW)
    }

    fn codes(&self, question: &Question) -> Vec<&'static str> {
        let answer = self.answer(question);
        assert_eq!(answer.allowed, answer.reasons.is_empty(), "{answer:?}");
        answer.reasons.iter().map(|reason| reason.code).collect()
    }

    /// A grant for the certificate `shown`, with a header of the test's own.
    fn grant(&self, shown: &[u8], change: impl Fn(&mut Header, &mut AccessGrant)) -> String {
        use base64::Engine as _;
        let thumbprint = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Digest::of(shown).0);
        let mut claims = AccessGrant {
            iss: "plant.example".to_owned(),
            aud: "spiffe://press.plant.example/device/press-1#opcua".to_owned(),
            sub: "spiffe://cell.plant.example/device/camera-1".to_owned(),
            iat: NOW.0,
            nbf: NOW.0,
            exp: NOW.0 + 300,
            cnf: Confirmation { thumbprint },
        };
        let mut header = Header::new(Algorithm::ES256);
        (header.typ, header.kid) = (Some(policy::access::grant::TYPE.to_owned()), Some(self.kid.clone()));
        change(&mut header, &mut claims);
        encode(&header, &claims, &self.grants).unwrap()
    }
}

pub(super) fn question(certificate: Option<Vec<u8>>) -> Question {
    Question {
        certificate,
        service: "opcua".parse().unwrap(),
        direction: Direction::Inbound,
        zone: None,
        grant: None,
        grant_required: false,
    }
}

#[test]
fn a_peer_is_let_in_by_what_was_delivered_alone() {
    let world = World::new();
    let shown = world.shown(0x41);
    let answer = world.answer(&question(Some(shown.clone())));
    assert!(answer.allowed, "{answer:?}");
    assert_eq!(answer.peer.as_deref(), Some("spiffe://cell.plant.example/device/camera-1"));
    assert_eq!(answer.until, Some("2027-01-01T00:00:01Z".parse().unwrap()));
    assert!(answer.words().contains("may open opcua in zone press, until 2027-01-01T00:00:01Z"));
    let ssh = Question { service: "ssh".parse().unwrap(), ..question(Some(shown.clone())) };
    assert_eq!(world.codes(&ssh), ["no-conduit"]);
    let http = Question { service: "http".parse().unwrap(), ..question(Some(shown.clone())) };
    assert_eq!(world.codes(&http), ["not-offered"]);
    assert_eq!(world.codes(&question(Some(world.shown(REVOKED)))), ["revoked"]);
    assert_eq!(world.codes(&question(Some(World::new().shown(0x41)))), ["unknown-authority"]);
    assert_eq!(world.codes(&question(None)), ["no-certificate-shown"]);
    let elsewhere = Question { zone: Some("cell".parse().unwrap()), ..question(Some(shown)) };
    assert_eq!(world.codes(&elsewhere), ["not-in-zone"]);
}

#[test]
fn a_workload_is_let_in_as_its_device_is_and_is_named() {
    let world = World::new();
    let uri = "spiffe://cell.plant.example/device/camera-1/workload/viewer";
    let answer = world.answer(&question(Some(world.shown_by(uri, 0x41))));
    assert!(answer.allowed, "{answer:?}");
    assert_eq!(answer.peer.as_deref(), Some(uri));
    assert_eq!(world.codes(&question(Some(world.shown_by(uri, REVOKED)))), ["revoked"]);
    let below = world.shown_by(&format!("{uri}/x"), 0x41);
    assert_eq!(world.codes(&question(Some(below))), ["foreign"]);
    // The device's grant is not the workload's.
    let shown = world.shown_by(uri, 0x41);
    let granted = |sub: &str| {
        let token = world.grant(&shown, |_, claims| claims.sub = sub.to_owned());
        world.codes(&Question { grant: Some(token), ..question(Some(shown.clone())) })
    };
    assert_eq!(granted(uri), [""; 0]);
    assert_eq!(granted("spiffe://cell.plant.example/device/camera-1"), ["grant"]);
}

#[test]
fn the_zone_is_one_of_the_devices_own() {
    let file = |zone: &str| v1::TrustFile {
        zone: zone.into(),
        service: "opcua".into(),
        direction: v1::Direction::Inbound.into(),
        ways: vec![v1::Way { zone: "cell".into(), schedule: String::new(), expires_at: 0 }],
        ..v1::TrustFile::default()
    };
    let mut world = World::with_files(vec![file("press"), file("vendor")]);
    let asked = question(Some(world.shown(0x41)));
    assert_eq!(world.codes(&asked), [""; 0], "the set is of before it left the other zone");
    world.state.zones = vec!["press".parse().unwrap(), "vendor".parse().unwrap()];
    let zone = |world: &World| world.answer(&asked).zone.unwrap().to_string();
    assert_eq!((world.codes(&asked), zone(&world)), (vec![], "press".into()), "it was there first");
    for (name, role) in [("press", Role::Caller), ("vendor", Role::Listener)] {
        let (seat, key) = (Seat { zone: name.parse().unwrap(), role }, KeyPair::generate().unwrap());
        let held = svid(&seat, &key, &world.plant.domain);
        world.state.svids.insert(seat, held);
    }
    assert_eq!(zone(&world), "vendor", "its certificate as a listener holds there alone");
    let seat = Seat { zone: "press".parse().unwrap(), role: Role::Listener };
    let later = svid_from(&seat, &KeyPair::generate().unwrap(), &world.plant.domain, 2029);
    world.state.svids.insert(seat, later);
    assert_eq!(zone(&world), "vendor", "one that has not begun holds nowhere");
    world.state.void_certificates();
    assert_eq!(zone(&world), "press", "none does");
    let one = Question { zone: Some("vendor".parse().unwrap()), ..asked.clone() };
    assert_eq!(world.codes(&one), [""; 0]);
    // Of a zone that it left it does not speak, whoever asks and however.
    world.state.zones = vec!["hall".parse().unwrap()];
    assert_eq!(world.codes(&asked), ["not-offered"]);
    assert_eq!(world.codes(&one), ["not-in-zone"]);
    let outbound = Question { direction: Direction::Outbound, ..asked.clone() };
    assert_eq!(world.codes(&outbound), ["not-reached"]);
    world.state.zones.clear();
    assert_eq!(world.codes(&asked), ["no-zone"]);
}

#[test]
fn a_device_without_a_name_believes_no_grant() {
    let mut world = World::new();
    let shown = world.shown(0x41);
    let asked = Question { grant: Some(world.grant(&shown, |_, _| {})), ..question(Some(shown)) };
    assert_eq!(world.codes(&asked), [""; 0]);
    world.state.device = None;
    assert_eq!(world.codes(&asked), ["no-device"]);
}

#[test]
fn what_a_peer_writes_into_its_certificate_reaches_no_terminal() {
    let world = World::new();
    let mut params = CertificateParams::default();
    let uri = "spiffe://cell.plant.example/device/\u{1b}[2Jcamera\r\n- allowed";
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    let shown = params.signed_by(&KeyPair::generate().unwrap(), &world.cell).unwrap().der().to_vec();
    let answer = world.answer(&question(Some(shown)));
    let [reason] = answer.reasons.as_slice() else { panic!("{answer:?}") };
    assert_eq!(reason.code, "foreign");
    assert!(reason.message.contains(r"\u{1b}[2Jcamera\r\n- allowed"), "{}", reason.message);
    assert!(!reason.message.contains(char::is_control));
}

#[test]
fn hours_are_kept_without_the_broker() {
    let shut = v1::Way { zone: "cell".into(), schedule: "mon 01:00-01:01".into(), expires_at: 0 };
    let world = World::with_ways(vec![shut]);
    let shown = world.shown(0x41);
    assert_eq!(world.codes(&question(Some(shown.clone()))), ["conduit-closed"]);
    let ended = v1::Way { zone: "cell".into(), schedule: String::new(), expires_at: NOW.0 };
    let world = World::with_ways(vec![ended]);
    assert_eq!(world.codes(&question(Some(world.shown(0x41)))), ["conduit-ended"]);
}

#[test]
fn a_device_without_a_trust_set_lets_nobody_in() {
    let mut world = World::new();
    world.state.trust = None;
    assert_eq!(world.codes(&question(Some(world.shown(0x41)))), ["no-trust-set"]);
}

#[test]
fn a_grant_that_is_brought_along_must_be_good_and_for_this_certificate() {
    let world = World::new();
    let shown = world.shown(0x41);
    let with = |token: Option<String>| {
        let asked = Question { grant: token, grant_required: true, ..question(Some(shown.clone())) };
        let answer = world.answer(&asked);
        answer
            .reasons
            .first()
            .map(|reason| format!("{}: {}", reason.code, reason.message))
            .unwrap_or_default()
    };
    assert_eq!(with(Some(world.grant(&shown, |_, _| {}))), "");
    assert_eq!(with(None), "no-grant: the peer brought no grant along");
    assert!(with(Some(world.grant(&world.shown(0x42), |_, _| {}))).contains("bound to another certificate"));
    assert!(with(Some(world.grant(&shown, |_, claims| claims.exp = NOW.0))).contains("the grant ended"));
    let ssh = world.grant(&shown, |_, claims| claims.aud = claims.aud.replace("opcua", "ssh"));
    assert!(with(Some(ssh)).contains("the grant is for"));
    let other_type = world.grant(&shown, |header, _| header.typ = Some("eat+jwt".to_owned()));
    assert!(with(Some(other_type)).contains("a grant is needed"));
    let critical = world.grant(&shown, |header, _| header.crit = Some(vec!["b64".to_owned()]));
    assert!(with(Some(critical)).contains("crit"));
    let foreign = World::new().grant(&shown, |_, _| {});
    assert!(with(Some(foreign)).contains("no key that this device was told of"));
    let posing = World::new().grant(&shown, |header, _| header.kid = Some(world.kid.clone()));
    assert!(with(Some(posing)).contains("not validly signed"));
    let token = world.grant(&shown, |_, _| {});
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    assert!(with(Some(unsigned)).contains("not validly signed"));
    assert!(with(Some("a".repeat(5000))).contains("at most 4096"));
}
