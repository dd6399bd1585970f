//! Questions of Relying Parties on a plant in memory.

use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use policy::access::grant::TYPE;
use policy::access::{AccessGrant, Audience, Decision};
use policy::id::{DeviceName, SpiffeId, ZoneName};
use policy::time::UnixTime;
use policy::zone::{Conduit, Direction, Role};
use prost::Message as _;
use proto::v1;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, SanType, SerialNumber};

use super::{Answer, GrantKey, Question, authorize};
use crate::admin::authority::{Distrust, distrust};
use crate::admin::conduit::Unoffered;
use crate::admin::tests::{Bench, NOW, enforcing, observing};
use crate::admin::{Act, conduit, device::stop};
use crate::authority;
use crate::ca::{AuthorityKey, Serial};
use crate::grpc::peer::DevicePeer;
use crate::record::device::{Decision as Verdict, HeldCertificate, HeldCertificates, held_key};
use crate::record::zone::{AuthorityRecord, authority_key};
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::store::Txn;
use crate::trust;

/// A press that may open `opcua` of a historian, both with certificates.
struct World {
    bench: Bench,
    press: DeviceName,
    historian: DevicePeer,
    certificate: Vec<u8>,
}

impl World {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let (press, historian) = (device(&bench, "press-7", "cell-3").await, "historian-1");
        device(&bench, historian, "archive").await;
        let certificate = certificate(&bench, &press, "cell-3", Role::Caller, 0x41).await;
        certificate_of(&bench, &historian.parse().unwrap(), "archive", 0x42).await;
        let archive = "archive".parse().unwrap();
        let signer = authority::active(&bench.plant, &archive, Role::Caller).await.unwrap().record;
        let signer = policy::digest::Digest::of(&signer.certificate.0);
        let world = Self {
            historian: DevicePeer {
                id: bench
                    .plant
                    .domain()
                    .trust_domain(&"archive".parse().unwrap())
                    .device(&historian.parse().unwrap()),
                zone: "archive".parse().unwrap(),
                serial: hex::encode([0x42; 16]),
                authority: signer,
                not_after: NOW.plus(3600),
            },
            bench,
            press,
            certificate,
        };
        world.allow(None).await;
        world
    }

    fn conduit(&self, expires: Option<UnixTime>) -> Conduit {
        Conduit {
            from: "cell-3".parse().unwrap(),
            to: "archive".parse().unwrap(),
            service: "opcua".parse().unwrap(),
            schedule: None,
            expires,
            accept_observed: false,
        }
    }

    async fn allow(&self, expires: Option<UnixTime>) {
        let actor = self.bench.actor(Act::AllowConduit).await;
        conduit::allow(&self.bench.plant, &actor, &self.conduit(expires), None, Unoffered::Accept, false)
            .await
            .unwrap();
    }

    fn question(&self, grant: bool) -> Question {
        Question {
            certificate: self.certificate.clone(),
            service: "opcua".parse().unwrap(),
            direction: Direction::Inbound,
            zone: None,
            grant,
        }
    }

    async fn ask(&self, question: &Question) -> Result<Answer, Refusal> {
        authorize(&self.bench.plant, &self.historian, question).await
    }

    async fn codes(&self, question: &Question) -> Vec<&'static str> {
        match self.ask(question).await.unwrap().decision {
            Decision::Allowed(_) => Vec::new(),
            Decision::Refused { reasons, .. } => reasons.iter().map(policy::access::Reason::code).collect(),
        }
    }
}

async fn device(bench: &Bench, name: &str, zone: &str) -> DeviceName {
    bench.zone(&enforcing(zone)).await;
    let name = bench.device(name, &[zone]).await;
    bench.attest(&name, "boot-a", Verdict::Trusted).await;
    name
}

/// A certificate of the zone's own authority, as the device shows it.
async fn certificate(bench: &Bench, name: &DeviceName, zone: &str, role: Role, serial: u8) -> Vec<u8> {
    let domain = bench.plant.domain().trust_domain(&zone.parse().unwrap());
    let der = signed(bench, &domain.device(name), zone, role, serial).await;
    certificate_of(bench, name, zone, serial).await;
    der
}

/// A certificate of the zone's own authority for `id`.
async fn signed(bench: &Bench, id: &SpiffeId, zone: &str, role: Role, serial: u8) -> Vec<u8> {
    let zone_name: ZoneName = zone.parse().unwrap();
    let key = authority_key(&zone_name, role, 1);
    let held: Held<AuthorityRecord> = fetch(bench.plant.store.as_ref(), key).await.unwrap().unwrap();
    let issuer = authority::issuer(&bench.plant, &held).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.to_string().as_str().try_into().unwrap())];
    params.extended_key_usages = vec![match role {
        Role::Caller => ExtendedKeyUsagePurpose::ClientAuth,
        Role::Listener => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.is_ca = IsCa::ExplicitNoCa;
    params.serial_number = Some(SerialNumber::from_slice(&[serial; 16]));
    let at = |at: UnixTime| time::OffsetDateTime::from_unix_timestamp(i64::try_from(at.0).unwrap()).unwrap();
    (params.not_before, params.not_after) = (at(NOW), at(NOW.plus(3600)));
    issuer.sign_certificate(&params, &AuthorityKey::generate().unwrap().spki()).unwrap()
}

/// Puts a certificate on record as held.
async fn certificate_of(bench: &Bench, name: &DeviceName, zone: &str, serial: u8) {
    bench.certificate(name, zone, serial).await;
}

fn claims(world: &World, key: &GrantKey, token: &str) -> AccessGrant {
    let header = decode_header(token).unwrap();
    assert_eq!((header.typ.as_deref(), header.kid.as_deref()), (Some(TYPE), Some(key.kid.as_str())));
    let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let jwk = key.jwks().keys.remove(0);
    let claims = decode::<AccessGrant>(token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation);
    let claims = claims.unwrap().claims;
    assert_eq!(claims.iss, world.bench.plant.domain().to_string());
    claims
}

#[tokio::test]
async fn a_peer_with_a_way_is_allowed_and_its_grant_is_bound_to_its_certificate() {
    let world = World::new().await;
    let answer = world.ask(&world.question(true)).await.unwrap();
    let Decision::Allowed(allowed) = &answer.decision else { panic!("{answer:?}") };
    assert_eq!(allowed.until(), NOW.plus(3601), "with the certificate");
    let granted = answer.grant.as_ref().unwrap();
    assert_eq!(granted.expires, NOW.plus(300));
    let key = GrantKey::find(&world.bench.plant).await.unwrap().unwrap();
    let claims = claims(&world, &key, &granted.token);
    let audience = Audience { device: world.historian.id.clone(), service: "opcua".parse().unwrap() };
    let domain = world.bench.plant.domain();
    let thumbprint = policy::digest::Digest::of(&world.certificate);
    claims.verify(&domain, &audience, allowed.peer(), &thumbprint, NOW).unwrap();

    // The conduit ends sooner.
    world.allow(Some(NOW.plus(60))).await;
    let answer = world.ask(&world.question(true)).await.unwrap();
    assert_eq!(answer.grant.unwrap().expires, NOW.plus(60));
    assert!(world.ask(&world.question(false)).await.unwrap().grant.is_none(), "none was asked for");
}

#[tokio::test]
async fn the_same_grant_is_on_record_once_and_devices_are_told_the_key() {
    let world = World::new().await;
    let plant = &world.bench.plant;
    assert!(trust::signed(plant, world.historian.id.device()).await.is_ok());
    for _ in 0..3 {
        world.ask(&world.question(true)).await.unwrap();
    }
    let events = world.bench.events(None, 100).await;
    let grants: Vec<_> = events.iter().filter(|event| event.action == "grant.issue").collect();
    let [grant] = grants.as_slice() else { panic!("{grants:?}") };
    assert_eq!((grant.actor.as_str(), grant.subject.as_str()), ("historian-1", "press-7"));
    assert!(grant.text.contains("may open opcua until"), "{}", grant.text);
    assert_eq!(events.iter().filter(|event| event.action == "grant-key.create").count(), 1);
    let signed = trust::signed(plant, &world.press).await.unwrap();
    let set = v1::TrustSet::decode(signed.trust_set.as_slice()).unwrap();
    let key = GrantKey::find(plant).await.unwrap().unwrap();
    assert!(set.grant_keys.contains(&key.kid), "{}", set.grant_keys);
}

#[tokio::test]
async fn a_workload_is_decided_about_as_its_device_and_named_in_the_grant() {
    let world = World::new().await;
    let domain = world.bench.plant.domain();
    let viewer = domain.trust_domain(&"cell-3".parse().unwrap());
    let viewer = viewer.workload(&world.press, &"viewer".parse().unwrap());
    let certificate = signed(&world.bench, &viewer, "cell-3", Role::Caller, 0x47).await;
    let question = Question { certificate, ..world.question(true) };
    let answer = world.ask(&question).await.unwrap();
    let Decision::Allowed(allowed) = &answer.decision else { panic!("{answer:?}") };
    assert_eq!(allowed.peer(), &viewer);
    let key = GrantKey::find(&world.bench.plant).await.unwrap().unwrap();
    let claims = claims(&world, &key, &answer.grant.unwrap().token);
    assert_eq!(claims.sub, "spiffe://cell-3.plant.example/device/press-7/workload/viewer");
    let events = world.bench.events(None, 100).await;
    let granted = events.iter().find(|event| event.action == "grant.issue").unwrap();
    assert!(granted.subject == "press-7" && granted.text.contains("/workload/viewer may"), "{granted:?}");
    let ssh = Question { service: "ssh".parse().unwrap(), ..question };
    assert_eq!(world.codes(&ssh).await, ["not-offered"]);
}

#[tokio::test]
async fn refusals_name_what_is_in_the_way() {
    let world = World::new().await;
    let plant = &world.bench.plant;
    let other = |service: &str| Question { service: service.parse().unwrap(), ..world.question(true) };
    assert_eq!(world.codes(&other("ssh")).await, ["not-offered"]);
    assert_eq!(world.codes(&world.question(true)).await, [""; 0]);
    // A server's certificate opens nothing, whatever it is called.
    let server = certificate(&world.bench, &world.press, "cell-3", Role::Listener, 0x43).await;
    let question = Question { certificate: server, ..world.question(true) };
    assert_eq!(world.codes(&question).await, ["unknown-authority"]);

    // The one held now is the last that was put on record; the press is stopped with the first.
    let certificate = HeldCertificate {
        role: Role::Caller,
        generation: 1,
        serial: Serial::from_hex(&hex::encode([0x41; 16])).unwrap().hex(),
        spki: policy::digest::Digest::of(b"key"),
        validity: policy::time::Validity { not_before: NOW, not_after: NOW.plus(3600) },
        service: None,
        workload: None,
        addresses: std::collections::BTreeSet::new(),
    };
    let held = HeldCertificates { certificates: vec![certificate] };
    let key = held_key(&world.press, &"cell-3".parse().unwrap());
    plant.store.transact(Txn::new().put(key, stored(&held).unwrap())).await.unwrap();
    let actor = world.bench.actor(Act::QuarantineDevice).await;
    stop::quarantine(plant, &actor, &world.press, "stolen").await.unwrap();
    assert_eq!(world.codes(&world.question(true)).await, ["revoked"]);
    assert!(world.ask(&world.question(true)).await.unwrap().grant.is_none());

    let actor = world.bench.actor(Act::CloseConduit).await;
    conduit::close(plant, &actor, &world.conduit(None), None, false).await.unwrap();
    assert_eq!(world.codes(&world.question(true)).await, ["no-conduit"]);
}

#[tokio::test]
async fn who_asks_needs_a_certificate_that_holds_and_asks_about_its_own_zones() {
    let world = World::new().await;
    let question = Question { zone: Some("cell-3".parse().unwrap()), ..world.question(false) };
    let refused = world.ask(&question).await.unwrap_err();
    assert!(matches!(&refused, Refusal::NotPermitted(why) if why == "historian-1 is not in zone cell-3"));
    let outbound = Question { direction: Direction::Outbound, ..world.question(true) };
    assert!(matches!(world.ask(&outbound).await, Err(Refusal::Malformed(why)) if why.contains("grant")));

    let actor = world.bench.actor(Act::QuarantineDevice).await;
    let historian = world.historian.id.device().clone();
    stop::quarantine(&world.bench.plant, &actor, &historian, "moved").await.unwrap();
    let refused = world.ask(&world.question(true)).await.unwrap_err();
    assert!(matches!(&refused, Refusal::NotPermitted(why) if why.contains("quarantined")), "{refused:?}");
}

#[tokio::test]
async fn who_asks_under_an_authority_that_is_distrusted_is_told_to_attest() {
    let world = World::new().await;
    assert!(world.ask(&world.question(true)).await.is_ok());
    let wanted = Distrust {
        zone: "archive".parse().unwrap(),
        role: Role::Caller,
        generation: 1,
        reason: "its key was stolen".to_owned(),
    };
    let actor = world.bench.actor(Act::DistrustAuthority).await;
    distrust(&world.bench.plant, &actor, &wanted, false).await.unwrap();
    let refused = world.ask(&world.question(true)).await.unwrap_err();
    let told = "the certificate of historian-1 is of an authority that is distrusted; attest again";
    assert!(matches!(&refused, Refusal::NotPermitted(why) if why == told), "{refused:?}");
}

#[tokio::test]
async fn a_person_is_told_everything_that_is_in_the_way() {
    let world = World::new().await;
    let plant = &world.bench.plant;
    let ask = async |to: &str, service: &str| {
        let scope = crate::admin::reach::Scope::Plant;
        let (to, service) = (to.parse().unwrap(), service.parse().unwrap());
        conduit::why::why(plant, &scope, &world.press, &to, &service).await.map(|answers| {
            let [answer] = answers.as_slice() else { panic!("{answers:?}") };
            let codes = |reasons: &Vec<policy::access::Reason>| {
                reasons.iter().map(policy::access::Reason::code).collect::<Vec<_>>()
            };
            (answer.from.to_string(), answer.outcome.as_ref().map_err(codes).copied())
        })
    };
    assert_eq!(ask("archive", "opcua").await.unwrap(), ("cell-3".to_owned(), Ok(NOW.plus(3601))));
    let refused = ask("archive", "ssh").await.unwrap().1;
    assert_eq!(refused, Err(vec!["no-conduit", "nobody-offers"]));
    assert!(matches!(ask("nowhere", "ssh").await, Err(Refusal::NotFound(_))));
    world.bench.clock.set(NOW.plus(4000));
    assert_eq!(ask("archive", "opcua").await.unwrap().1, Err(vec!["no-certificate"]));
}

#[tokio::test]
async fn a_certificate_of_a_distrusted_authority_opens_nothing() {
    let world = World::new().await;
    let wanted = Distrust {
        zone: "cell-3".parse().unwrap(),
        role: Role::Caller,
        generation: 1,
        reason: "its key was stolen".to_owned(),
    };
    let actor = world.bench.actor(Act::DistrustAuthority).await;
    distrust(&world.bench.plant, &actor, &wanted, false).await.unwrap();
    let scope = crate::admin::reach::Scope::Plant;
    let (to, service) = ("archive".parse().unwrap(), "opcua".parse().unwrap());
    let answers = conduit::why::why(&world.bench.plant, &scope, &world.press, &to, &service).await.unwrap();
    let reasons = answers[0].outcome.as_ref().unwrap_err();
    assert_eq!(reasons.iter().map(policy::access::Reason::code).collect::<Vec<_>>(), ["no-certificate"]);
}

#[tokio::test]
async fn a_zone_out_of_sight_is_as_one_that_is_not_there() {
    let world = World::new().await;
    world.bench.zone(&observing("hall-5")).await;
    let scope = crate::admin::reach::Scope::Zones(["cell-3".parse().unwrap()].into());
    let ask = async |to: &str| {
        let (to, service) = (to.parse().unwrap(), "opcua".parse().unwrap());
        conduit::why::why(&world.bench.plant, &scope, &world.press, &to, &service).await
    };
    let told = async |to: &str| match ask(to).await {
        Err(Refusal::NotFound(told)) => told.replace(to, "ZONE"),
        other => panic!("{other:?}"),
    };
    assert_eq!(told("hall-5").await, told("nowhere").await);
    assert!(told("hall-5").await.starts_with("there is no zone ZONE in your zones (cell-3)"));
    assert!(ask("archive").await.is_ok(), "a conduit of theirs leads there");
}
