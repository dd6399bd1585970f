//! One decision for broker and device: both come to the same with what each of them knows, and only for a peer that
//! zones, conduits, certificate and time allow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use policy::access::grant::MAX_LIFETIME;
use policy::access::{
    AccessGrant, AccessGrantError, Allowed, Audience, Decision, KnownAuthority, Reason, View, decide,
    decide_again,
};
use policy::id::{PlantDomain, SpiffeId, ZoneName};
use policy::time::UnixTime;
use policy::zone::authorize::Refusal;
use policy::zone::model::Segmentation;
use policy::zone::{Direction, Placement, Role, Ways, compile};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    SerialNumber,
};

use crate::trust::{NOW, SERVICES, ZONES, any_plant, is_allowed, placement, zone_name};

/// An authority of a zone with its key.
struct Authority {
    zone: ZoneName,
    role: Role,
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// Both authorities of each zone.
static AUTHORITIES: LazyLock<Vec<Authority>> = LazyLock::new(|| {
    let roles = [Role::Caller, Role::Listener];
    ZONES.iter().flat_map(|zone| roles.map(|role| authority(zone, role))).collect()
});

fn authority(zone: &str, role: Role) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, format!("{zone}.plant.example {role:?} 1"));
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().to_vec();
    Authority { zone: zone_name(zone), role, certificate, issuer: Issuer::new(params, key) }
}

fn plant() -> PlantDomain {
    "plant.example".parse().unwrap()
}

/// A certificate that names a device of `zone`, by the authority of a zone and role, good for `validity`.
fn certificate(zone: &str, by: (&str, Role), usage: Role, validity: (u64, u64), serial: u8) -> Vec<u8> {
    certificate_of(zone, "", by, usage, validity, serial)
}

/// The same with `below` after the device's SPIFFE ID.
fn certificate_of(
    zone: &str,
    below: &str,
    by: (&str, Role),
    usage: Role,
    validity: (u64, u64),
    serial: u8,
) -> Vec<u8> {
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://{zone}.plant.example/device/press-7{below}");
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
    params.extended_key_usages = vec![match usage {
        Role::Caller => ExtendedKeyUsagePurpose::ClientAuth,
        Role::Listener => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.is_ca = IsCa::ExplicitNoCa;
    params.serial_number = Some(SerialNumber::from_slice(&[0x41, serial]));
    let time = |at| time::OffsetDateTime::from_unix_timestamp(i64::try_from(at).unwrap()).unwrap();
    (params.not_before, params.not_after) = (time(validity.0), time(validity.1));
    let found = AUTHORITIES.iter().find(|one| (one.zone.as_str(), one.role) == by).unwrap();
    params.signed_by(&KeyPair::generate().unwrap(), &found.issuer).unwrap().der().to_vec()
}

/// What authorities are known, and that each of them revoked `revoked`.
fn known<'a>(
    revoked: &'a BTreeSet<Vec<u8>>,
    is_known: impl Fn(&Authority) -> bool,
) -> Vec<KnownAuthority<'a>> {
    let all = AUTHORITIES.iter().filter(|one| is_known(one));
    all.map(|one| KnownAuthority { zone: &one.zone, role: one.role, certificate: &one.certificate, revoked })
        .collect()
}

/// After a device's SPIFFE ID.
const WORKLOAD: &str = "/workload/hmi";

/// A question: who asks about whom.
#[derive(Debug, Clone)]
struct Case {
    own: &'static str,
    service: &'static str,
    direction: Direction,
    offers: BTreeSet<&'static str>,
    peer: &'static str,
    /// What stands after its device's SPIFFE ID: the peer is a workload.
    below: &'static str,
    signer: (&'static str, Role),
    usage: Role,
    validity: (u64, u64),
    revoked: bool,
    /// The device got its trust set then, and decides now.
    informed: u64,
}

fn any_case() -> impl Strategy<Value = Case> {
    let zone = || prop::sample::select(ZONES.to_vec());
    let role = || prop::sample::select(vec![Role::Caller, Role::Listener]);
    let direction = prop::sample::select(vec![Direction::Inbound, Direction::Outbound]);
    let offers = prop::collection::btree_set(prop::sample::select(SERVICES.to_vec()), 0..4);
    let service = prop::sample::select(SERVICES.to_vec());
    // Mostly what an honest peer shows, so that most questions come as far as the certificate.
    let honest = prop::bool::weighted(0.7);
    let below = prop::sample::select(vec!["", WORKLOAD]);
    (
        (zone(), service, direction, offers),
        ((zone(), below), zone(), role(), role(), honest),
        (900_u64..1_005, 995_u64..1_100, prop::bool::weighted(0.2), 990_u64..=1_000),
    )
        .prop_map(
            |((own, service, direction, offers), ((peer, below), signer, by, usage, honest), times)| {
                let right = direction.peer();
                let signer = if honest { (peer, right) } else { (signer, by) };
                let usage = if honest { right } else { usage };
                let (from, to, revoked, informed) = times;
                Case {
                    own,
                    service,
                    direction,
                    offers,
                    peer,
                    below,
                    signer,
                    usage,
                    validity: (from, to),
                    revoked,
                    informed,
                }
            },
        )
}

impl Case {
    fn shown(&self) -> Vec<u8> {
        certificate_of(self.peer, self.below, self.signer, self.usage, self.validity, 7)
    }

    fn placement(&self) -> Placement {
        let offers: Vec<&str> = self.offers.iter().copied().collect();
        placement(self.own, &offers, &["ssh"])
    }

    fn revoked(&self) -> BTreeSet<Vec<u8>> {
        BTreeSet::from([if self.revoked { vec![0x41, 7] } else { vec![0x41, 8] }])
    }

    /// As the broker decides: from the graph itself, with every authority of the plant.
    fn online(&self, graph: &Segmentation, shown: &[u8]) -> Decision {
        self.online_at(graph, shown, NOW)
    }

    fn online_at(&self, graph: &Segmentation, shown: &[u8], now: UnixTime) -> Decision {
        let (own, service) = (zone_name(self.own), self.service.parse().unwrap());
        let ways = Ways::of(graph, &own, &service, self.direction).unwrap();
        let listed = self.placement().lists(graph, &service, self.direction);
        let (plant, revoked) = (plant(), self.revoked());
        let authorities = known(&revoked, |_| true);
        decide(&View { plant: &plant, listed, ways: &ways, authorities: &authorities }, shown, now)
    }

    /// Decides again about a peer that was let in before, whatever it shows.
    fn again_at(&self, graph: &Segmentation, before: &Allowed, now: UnixTime) -> Decision {
        let (own, service) = (zone_name(self.own), self.service.parse().unwrap());
        let ways = Ways::of(graph, &own, &service, self.direction).unwrap();
        let listed = self.placement().lists(graph, &service, self.direction);
        let (plant, revoked) = (plant(), self.revoked());
        let authorities = known(&revoked, |_| true);
        decide_again(&View { plant: &plant, listed, ways: &ways, authorities: &authorities }, before, now)
    }

    /// As the device decides: from trust files that were made earlier, with the authorities that stand in them.
    fn offline(&self, graph: &Segmentation, shown: &[u8]) -> Decision {
        let files = compile(graph, &self.placement(), UnixTime(self.informed)).unwrap();
        let sent: BTreeSet<(ZoneName, Role)> = files
            .files
            .iter()
            .flat_map(|file| {
                let openings = file.openings.iter().map(|opening| &opening.authority);
                file.believed.authorities().chain(openings)
            })
            .map(|authority| (authority.zone.clone(), authority.role))
            .collect();
        let wanted = |file: &&policy::zone::TrustFile| {
            (file.service.as_str(), file.direction) == (self.service, self.direction)
        };
        let file = files.files.iter().find(wanted);
        let listed = file.is_some();
        let stated = file.map(|file| file.ways.clone()).unwrap_or_default();
        let (own, service) = (zone_name(self.own), self.service.parse().unwrap());
        let ways = Ways::stated(own, service, self.direction, stated);
        let (plant, revoked) = (plant(), self.revoked());
        let authorities = known(&revoked, |one| sent.contains(&(one.zone.clone(), one.role)));
        decide(&View { plant: &plant, listed, ways: &ways, authorities: &authorities }, shown, NOW)
    }

    /// By the model's own definition.
    fn is_allowed(&self, graph: &Segmentation) -> bool {
        let (from, to) = match self.direction {
            Direction::Inbound => (self.peer, self.own),
            Direction::Outbound => (self.own, self.peer),
        };
        let right = self.direction.peer();
        is_allowed(graph, from, to, self.service)
            && self.placement().lists(graph, &self.service.parse().unwrap(), self.direction)
            && (self.signer, self.usage) == ((self.peer, right), right)
            && (self.validity.0..=self.validity.1).contains(&NOW.0)
            && !self.revoked
    }
}

proptest! {
    #[test]
    fn broker_and_device_decide_alike_and_as_the_model_says(graph in any_plant(), case in any_case()) {
        let shown = case.shown();
        let decision = case.online(&graph, &shown);
        prop_assert_eq!(matches!(decision, Decision::Allowed(_)), case.is_allowed(&graph), "{:?}", decision);
        if let Decision::Allowed(allowed) = &decision {
            let named = format!("{}{}", id(case.peer, "press-7"), case.below);
            prop_assert_eq!(allowed.peer().to_string(), named, "a workload is named, and not its device");
        }
        prop_assert_eq!(case.offline(&graph, &shown), decision);
    }

    #[test]
    fn a_decision_stands_until_the_time_it_says(graph in any_plant(), case in any_case()) {
        let shown = case.shown();
        if let Decision::Allowed(allowed) = case.online(&graph, &shown) {
            let until = allowed.until();
            prop_assert!(until > NOW && until.0 <= case.validity.1 + 1);
            let last = case.online_at(&graph, &shown, until.minus(1));
            prop_assert_eq!(last, Decision::Allowed(allowed));
            let Decision::Refused { reasons, .. } = case.online_at(&graph, &shown, until) else {
                return Err(TestCaseError::fail("it is over"));
            };
            let over = ["ended", "conduit-ended", "conduit-closed"];
            prop_assert!(reasons.iter().all(|reason| over.contains(&reason.code())), "{:?}", reasons);
        }
    }
}

proptest! {
    #[test]
    fn what_is_decided_again_is_what_would_be_decided_anew(
        before in any_plant(), after in any_plant(), case in any_case(), revoked: bool, later in 0_u64..120,
    ) {
        let shown = case.shown();
        if let Decision::Allowed(allowed) = case.online(&before, &shown) {
            let (case, now) = (Case { revoked, ..case }, UnixTime(NOW.0 + later));
            let (anew, again) = (case.online_at(&after, &shown, now), case.again_at(&after, &allowed, now));
            match (anew, again) {
                (Decision::Refused { reasons: anew, .. }, Decision::Refused { peer, reasons }) => {
                    prop_assert_eq!((peer.as_ref(), reasons), (Some(allowed.peer()), anew));
                }
                (anew, again) => prop_assert_eq!(anew, again),
            }
        }
    }
}

#[test]
fn who_was_let_in_is_out_once_its_authority_is_believed_no_more() {
    let (graph, shown) = (graph(None), honest((0, 2_000)));
    let before = allowed(asked(&graph, &shown, &[0x41, 9], NOW));
    let (own, service) = (zone_name("b"), "opcua".parse().unwrap());
    let ways = Ways::of(&graph, &own, &service, Direction::Inbound).unwrap();
    let (plant, revoked) = (plant(), BTreeSet::new());
    let again = |authorities: &[KnownAuthority<'_>], listed| match decide_again(
        &View { plant: &plant, listed, ways: &ways, authorities },
        &before,
        NOW,
    ) {
        Decision::Allowed(_) => "",
        Decision::Refused { reasons, .. } => reasons[0].code(),
    };
    assert_eq!(again(&known(&revoked, |_| true), true), "");
    assert_eq!(again(&known(&revoked, |one| one.role == Role::Listener), true), "unknown-authority");
    assert_eq!(again(&known(&revoked, |_| true), false), "not-offered");
}

fn graph(schedule: Option<&str>) -> Segmentation {
    let zones = ["a", "b"].map(|name| policy::zone::Zone::new(zone_name(name)));
    let conduit = policy::zone::Conduit {
        from: zone_name("a"),
        to: zone_name("b"),
        service: "opcua".parse().unwrap(),
        schedule: schedule.map(|hours| hours.parse().unwrap()),
        expires: None,
        accept_observed: false,
    };
    Segmentation::new(zones.into(), vec![conduit]).unwrap()
}

fn asked(graph: &Segmentation, shown: &[u8], revoked: &[u8], now: UnixTime) -> Decision {
    let (own, service) = (zone_name("b"), "opcua".parse().unwrap());
    let ways = Ways::of(graph, &own, &service, Direction::Inbound).unwrap();
    let (plant, revoked) = (plant(), BTreeSet::from([revoked.to_vec()]));
    let authorities = known(&revoked, |_| true);
    decide(&View { plant: &plant, listed: true, ways: &ways, authorities: &authorities }, shown, now)
}

fn honest(validity: (u64, u64)) -> Vec<u8> {
    certificate("a", ("a", Role::Caller), Role::Caller, validity, 7)
}

fn allowed(decision: Decision) -> Allowed {
    match decision {
        Decision::Allowed(allowed) => allowed,
        Decision::Refused { reasons, .. } => panic!("{reasons:?}"),
    }
}

#[test]
fn every_refusal_says_what_is_wrong_and_what_to_do() {
    let open = graph(None);
    let ask = |shown: &[u8]| match asked(&open, shown, &[0x41, 9], NOW) {
        Decision::Refused { reasons, .. } => reasons,
        Decision::Allowed(allowed) => panic!("{allowed:?}"),
    };
    let by = |zone, signer, usage| ask(&certificate(zone, signer, usage, (0, 2_000), 7));
    let found: BTreeMap<&str, Vec<Reason>> = BTreeMap::from([
        ("malformed", ask(b"no certificate")),
        ("foreign", ask(&AUTHORITIES[0].certificate)),
        ("no-conduit", by("c", ("c", Role::Caller), Role::Caller)),
        ("intra-zone", by("b", ("b", Role::Caller), Role::Caller)),
        // Another zone's authority, the zone's own for servers, and a caller's that says it is a server.
        ("unknown-authority", by("a", ("c", Role::Caller), Role::Caller)),
        ("unknown-authority ", by("a", ("a", Role::Listener), Role::Listener)),
        ("unknown-authority  ", by("a", ("a", Role::Caller), Role::Listener)),
        ("not-yet-valid", ask(&honest((1_001, 2_000)))),
        ("ended", ask(&honest((0, 999)))),
        ("revoked", ask(&certificate("a", ("a", Role::Caller), Role::Caller, (0, 2_000), 9))),
    ]);
    for (code, reasons) in found {
        let [reason] = reasons.as_slice() else { panic!("{code}: {reasons:?}") };
        assert_eq!(reason.code(), code.trim(), "{reason}");
        assert!(!reason.remedy().is_empty() && !reason.to_string().contains('\n'), "{reason}");
    }
    // Both of two things that are wrong are said.
    let both = ask(&certificate("a", ("a", Role::Caller), Role::Caller, (0, 999), 9));
    assert_eq!(both.iter().map(Reason::code).collect::<Vec<_>>(), ["ended", "revoked"]);
}

#[test]
fn hours_open_and_close_a_decision_and_a_refusal_says_when() {
    // At NOW, 00:16 on a Thursday.
    let graph = graph(Some("thu 00:00-01:00"));
    let shown = honest((0, 1_000_000));
    assert_eq!(allowed(asked(&graph, &shown, &[], NOW)).until(), UnixTime(3_600));
    let Decision::Refused { reasons, peer } = asked(&graph, &shown, &[], UnixTime(3_600)) else {
        panic!("open after hours")
    };
    assert_eq!(peer.unwrap().to_string(), "spiffe://a.plant.example/device/press-7");
    let Reason::NoWay(Refusal::Closed { opens, .. }) = &reasons[0] else { panic!("{reasons:?}") };
    assert_eq!(*opens, Some(UnixTime(7 * 86_400)));
    assert!(reasons[0].remedy().contains("1970-01-08"), "{}", reasons[0].remedy());
}

fn id(zone: &str, device: &str) -> SpiffeId {
    plant().trust_domain(&zone_name(zone)).device(&device.parse().unwrap())
}

#[test]
fn a_workload_is_matched_segment_by_segment() {
    let open = graph(None);
    let ask = |below: &str| {
        let shown = certificate_of("a", below, ("a", Role::Caller), Role::Caller, (0, 2_000), 7);
        asked(&open, &shown, &[], NOW)
    };
    let named = |below: &str| allowed(ask(below)).peer().to_string();
    assert_eq!(named(""), "spiffe://a.plant.example/device/press-7");
    assert_eq!(named(WORKLOAD), "spiffe://a.plant.example/device/press-7/workload/hmi");
    for below in
        ["/", "/workload", "/workload/", "/workload/hmi/", "/workload/hmi/x", "/program/hmi", "/workload/HMI"]
    {
        let Decision::Refused { peer: None, reasons } = ask(below) else { panic!("{below} is let in") };
        assert_eq!(reasons.iter().map(Reason::code).collect::<Vec<_>>(), ["foreign"], "{below}");
    }
    // A grant for the one is none for the other.
    let audience = Audience { device: id("b", "historian-1"), service: "opcua".parse().unwrap() };
    let decided = allowed(ask(WORKLOAD));
    let grant = AccessGrant::new(&decided, &plant(), &audience, NOW).unwrap();
    let verified = |peer| grant.verify(&plant(), &audience, peer, &decided.thumbprint(), NOW);
    assert_eq!(verified(decided.peer()), Ok(()));
    assert_eq!(verified(&id("a", "press-7")), Err(AccessGrantError::Subject(grant.sub.clone())));
}

#[test]
fn a_service_that_is_not_there_is_refused_before_anything_is_read() {
    let graph = graph(None);
    let code = |direction| {
        let ways = Ways::of(&graph, &zone_name("b"), &"opcua".parse().unwrap(), direction).unwrap();
        let view = View { plant: &plant(), listed: false, ways: &ways, authorities: &[] };
        match decide(&view, b"no certificate", NOW) {
            Decision::Refused { peer: None, reasons } if reasons.len() == 1 => reasons[0].code(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([code(Direction::Inbound), code(Direction::Outbound)], ["not-offered", "not-reached"]);
}

#[test]
fn a_grant_is_for_who_opens_the_service_that_was_decided_about() {
    let graph = graph(None);
    let audience =
        |service: &str| Audience { device: id("b", "historian-1"), service: service.parse().unwrap() };
    let inbound = allowed(asked(&graph, &honest((0, 2_000)), &[], NOW));
    let refused = AccessGrant::new(&inbound, &plant(), &audience("ssh"), NOW);
    assert_eq!(refused, Err(AccessGrantError::Service("opcua".parse().unwrap())));
    let server = certificate("b", ("b", Role::Listener), Role::Listener, (0, 2_000), 7);
    let ways = Ways::of(&graph, &zone_name("a"), &"opcua".parse().unwrap(), Direction::Outbound).unwrap();
    let (plant, revoked) = (plant(), BTreeSet::new());
    let authorities = known(&revoked, |_| true);
    let view = View { plant: &plant, listed: true, ways: &ways, authorities: &authorities };
    let outbound = allowed(decide(&view, &server, NOW));
    let refused = AccessGrant::new(&outbound, &plant, &audience("opcua"), NOW);
    assert_eq!(refused, Err(AccessGrantError::Direction));
}

#[test]
fn a_grant_ends_with_decision_or_five_minutes_and_is_for_one_peer_and_service() {
    let shown = honest((0, 2_000_000));
    let audience = Audience { device: id("b", "historian-1"), service: "opcua".parse().unwrap() };
    let grant = |graph: &Segmentation, shown: &[u8], now: UnixTime| {
        let allowed = allowed(asked(graph, shown, &[], now));
        (AccessGrant::new(&allowed, &plant(), &audience, now).unwrap(), allowed)
    };
    let (long, decided) = grant(&graph(None), &shown, NOW);
    assert_eq!(
        (long.exp, long.aud.as_str()),
        (NOW.0 + MAX_LIFETIME, "spiffe://b.plant.example/device/historian-1#opcua")
    );
    let hours = graph(Some("thu 00:00-01:00"));
    assert_eq!(grant(&hours, &shown, UnixTime(3_590)).0.exp, 3_600, "never beyond the hours");
    assert_eq!(grant(&graph(None), &honest((0, 1_010)), NOW).0.exp, 1_011, "never beyond the certificate");

    let verify = |grant: &AccessGrant, audience: &Audience, peer: &SpiffeId, shown, now| {
        grant.verify(&plant(), audience, peer, &shown, now)
    };
    let (peer, thumbprint) = (id("a", "press-7"), decided.thumbprint());
    assert_eq!(verify(&long, &audience, &peer, thumbprint, NOW), Ok(()));
    let ssh = Audience { service: "ssh".parse().unwrap(), ..audience.clone() };
    let refused = verify(&long, &ssh, &peer, thumbprint, NOW);
    assert_eq!(refused, Err(AccessGrantError::Audience(long.aud.clone())));
    let refused = verify(&long, &audience, &id("a", "press-8"), thumbprint, NOW);
    assert_eq!(refused, Err(AccessGrantError::Subject(long.sub.clone())));
    let other = policy::digest::Digest::of(b"another certificate");
    assert_eq!(verify(&long, &audience, &peer, other, NOW), Err(AccessGrantError::Certificate));
    let end = UnixTime(long.exp);
    assert_eq!(verify(&long, &audience, &peer, thumbprint, end.minus(1)), Ok(()));
    assert_eq!(verify(&long, &audience, &peer, thumbprint, end), Err(AccessGrantError::Ended(end)));
    let early = verify(&long, &audience, &peer, thumbprint, NOW.minus(6));
    assert_eq!(early, Err(AccessGrantError::Early(NOW)));
    let foreign = AccessGrant { iss: "other.example".to_owned(), ..long.clone() };
    let refused = verify(&foreign, &audience, &peer, thumbprint, NOW);
    assert_eq!(refused, Err(AccessGrantError::Issuer("other.example".to_owned())));
    let lasting = AccessGrant { exp: long.exp + 1, ..long };
    let refused = verify(&lasting, &audience, &peer, thumbprint, NOW);
    assert_eq!(refused, Err(AccessGrantError::Lifetime(MAX_LIFETIME + 1)));
}
