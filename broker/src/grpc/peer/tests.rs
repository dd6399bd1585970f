//! Which client certificates are somebody's, and whose (checklist row 32).

use policy::zone::{NameConstraint, Role};
use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, Issuer, SanType};

use super::*;
use crate::admin::tests::NOW;
use crate::ca::profile::{ADMINISTRATOR_EKU, issuing, zone_authority};
use crate::ca::{AuthorityKey, Serial};

const DEVICE: &str = "spiffe://press.plant.example/device/press-1";
const ADMINISTRATOR: &str = "spiffe://control.plant.example/admin/alice";

/// A key with its certificate.
struct Authority {
    params: CertificateParams,
    key: AuthorityKey,
}

impl Authority {
    fn new(params: CertificateParams) -> Self {
        Self { params, key: AuthorityKey::generate().unwrap() }
    }

    fn of_zone(zone: &str, role: Role) -> Self {
        let plant: PlantDomain = "plant.example".parse().unwrap();
        let domain = plant.trust_domain(&zone.parse().unwrap());
        let serial = Serial::from_random([1; 16]);
        let subnets = Default::default();
        let confined =
            crate::ca::profile::Confined { constraint: NameConstraint::Critical, subnets: &subnets };
        Self::new(zone_authority(&domain, role, 1, confined, validity(), serial).unwrap())
    }

    fn certificate(&self) -> Vec<u8> {
        self.key.self_signed(&self.params).unwrap()
    }

    fn sign(&self, leaf: &CertificateParams) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        leaf.signed_by(&key, &issuer).unwrap().der().clone()
    }
}

fn validity() -> Validity {
    Validity { not_before: NOW.minus(3600), not_after: NOW.plus(3600) }
}

fn leaf(uris: &[&str], usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    let at =
        |time: UnixTime| time::OffsetDateTime::from_unix_timestamp(i64::try_from(time.0).unwrap()).unwrap();
    (params.not_before, params.not_after) = (at(validity().not_before), at(validity().not_after));
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.extended_key_usages = vec![usage];
    params
}

fn caller(uri: &str) -> CertificateParams {
    leaf(&[uri], ExtendedKeyUsagePurpose::ClientAuth)
}

fn administrator(uri: &str) -> CertificateParams {
    leaf(&[uri], ExtendedKeyUsagePurpose::Other(ADMINISTRATOR_EKU.to_vec()))
}

/// A plant with the zones press and vision.
struct Plant {
    issuing: Authority,
    press: Authority,
    vision: Authority,
    anchors: Anchors,
}

fn plant() -> Plant {
    let domain: PlantDomain = "plant.example".parse().unwrap();
    let issuing = Authority::new(issuing(&domain, 1, validity(), Serial::from_random([2; 16])).unwrap());
    let press = Authority::of_zone("press", Role::Caller);
    let vision = Authority::of_zone("vision", Role::Caller);
    let callers = [("press", &press), ("vision", &vision)];
    let anchors = Anchors {
        plant: Some(domain),
        issuing: issuing.certificate(),
        callers: callers.map(|(zone, of)| (zone.parse().unwrap(), of.certificate())).to_vec(),
    };
    Plant { issuing, press, vision, anchors }
}

fn refused(plant: &Plant, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>], at: UnixTime) -> String {
    match plant.anchors.identify(leaf, chain, at) {
        Err(PeerError(why)) => why,
        Ok(peer) => panic!("accepted: {peer:?}"),
    }
}

#[test]
fn everybody_is_who_their_own_authority_says() {
    let plant = plant();
    let identify = |leaf| plant.anchors.identify(&leaf, &[], NOW).unwrap();
    let device = identify(plant.press.sign(&caller(DEVICE)));
    let device = device.device().unwrap();
    assert_eq!((device.zone.as_str(), device.id.to_string().as_str()), ("press", DEVICE));
    assert_eq!(device.not_after, validity().not_after);
    let alice = identify(plant.issuing.sign(&administrator(ADMINISTRATOR)));
    assert_eq!(alice.administrator().unwrap().name, "alice");
    // Each is nothing else.
    assert!(matches!(alice.device().unwrap_err(), Refusal::NotPermitted(_)));
    for other in [identify(plant.vision.sign(&caller(&DEVICE.replace("press.", "vision.")))), Peer::Anonymous]
    {
        assert!(matches!(other.administrator().unwrap_err(), Refusal::NotPermitted(_)));
    }
}

#[test]
fn row_32_a_certificate_of_another_zone_or_of_nobody_is_refused() {
    let plant = plant();
    let other_zone = plant.vision.sign(&caller(DEVICE));
    assert_eq!(refused(&plant, &other_zone, &[], NOW), "UnknownIssuer");
    let impostor = Authority::of_zone("press", Role::Caller);
    let namesake = refused(&plant, &impostor.sign(&caller(DEVICE)), &[], NOW);
    assert!(namesake.starts_with("InvalidSignature"), "{namesake}");
    // An authority that the caller brings along proves nothing.
    let own = CertificateDer::from(impostor.certificate());
    let brought = refused(&plant, &impostor.sign(&caller(DEVICE)), &[own], NOW);
    assert!(brought.starts_with("InvalidSignature"), "{brought}");

    let key = rcgen::KeyPair::generate().unwrap();
    let self_signed = caller(DEVICE).self_signed(&key).unwrap();
    assert_eq!(refused(&plant, self_signed.der(), &[], NOW), "UnknownIssuer");
    let unknown_zone = plant.press.sign(&caller(&DEVICE.replace("press.", "paint.")));
    assert_eq!(refused(&plant, &unknown_zone, &[], NOW), "zone paint has no authority here");
    let starting = Anchors::default().identify(&self_signed.der().clone(), &[], NOW).unwrap_err();
    assert_eq!(starting.0, "the broker is starting");
}

#[test]
fn row_32_a_zones_authority_makes_no_administrator() {
    let plant = plant();
    let by_zone = refused(&plant, &plant.press.sign(&administrator(ADMINISTRATOR)), &[], NOW);
    assert!(by_zone.contains("SPIFFE ID"), "{by_zone}");
    let not_one = refused(&plant, &plant.issuing.sign(&caller(ADMINISTRATOR)), &[], NOW);
    assert!(not_one.contains("SPIFFE ID"), "{not_one}");
    let nameless = plant.issuing.sign(&administrator("spiffe://control.plant.example/admin/"));
    assert_eq!(refused(&plant, &nameless, &[], NOW), "it names no administrator of this plant");
    let of_device = refused(&plant, &plant.issuing.sign(&administrator(DEVICE)), &[], NOW);
    assert_eq!(of_device, "it names no administrator of this plant");
}

#[test]
fn row_32_time_use_and_name_are_held() {
    let plant = plant();
    let good = plant.press.sign(&caller(DEVICE));
    let before = refused(&plant, &good, &[], validity().not_before.minus(1));
    assert!(before.starts_with("CertNotValidYet"), "{before}");
    let after = refused(&plant, &good, &[], validity().not_after.plus(1));
    assert!(after.starts_with("CertExpired"), "{after}");
    let person = plant.issuing.sign(&administrator(ADMINISTRATOR));
    let after = refused(&plant, &person, &[], validity().not_after.plus(1));
    assert!(after.starts_with("CertExpired"), "a person's: {after}");
    let listener = plant.press.sign(&leaf(&[DEVICE], ExtendedKeyUsagePurpose::ServerAuth));
    let of_listener = refused(&plant, &listener, &[], NOW);
    assert!(of_listener.starts_with("RequiredEkuNotFound"), "{of_listener}");
    for uris in [&[][..], &[DEVICE, DEVICE]] {
        let odd = plant.press.sign(&leaf(uris, ExtendedKeyUsagePurpose::ClientAuth));
        let why = refused(&plant, &odd, &[], NOW);
        assert!(why.contains("URI") || why.contains("no subject alternative name"), "{why}");
    }
    let workload = plant.press.sign(&caller(&format!("{DEVICE}/workload/hmi")));
    let why = refused(&plant, &workload, &[], NOW);
    assert!(why.contains("SPIFFE ID"), "{why}");
    let mut strange = caller(DEVICE);
    let mut extension = CustomExtension::from_oid_content(&[2, 25, 7], vec![5, 0]);
    extension.set_criticality(true);
    strange.custom_extensions.push(extension);
    let why = refused(&plant, &plant.press.sign(&strange), &[], NOW);
    assert!(why.starts_with("UnsupportedCriticalExtension"), "{why}");
}
