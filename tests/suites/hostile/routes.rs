//! Checklist row 32: every route of the port, called with every wrong certificate.
//!
//! The methods are those of the contract: a method that is added and has no row here fails the test. Five things are
//! open to callers without a certificate. Enrollment and Attestation are proven by the TPM and not by a certificate,
//! which a device does not have yet or not any more; an invitation by its code; health and reflection tell what the
//! published contract tells.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use attestor::role::Role;
use attestor::tpm::TpmIdentityKey;
use e2e::{World, until};
use prost::Message;
use proto::v1;
use proto::v1::DenialReason as Reason;
use proto::v1::authorize_client::AuthorizeClient;
use proto::v1::watch_client::WatchClient;
use proto::v1::watch_event::Event;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::Request;
use tonic::transport::Channel;
use tower::ServiceExt;

use super::caller::{Identity, connect, connect_ahead, software_key};
use super::roles::person;
use super::thief::Thief;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Anybody,
    Device,
    Administrator,
}

impl For {
    /// Words of the refusal to everybody else.
    const fn refusal(self) -> &'static str {
        match self {
            Self::Anybody => "",
            Self::Device => "this call needs the device's own certificate",
            Self::Administrator => "this call needs an administrator's certificate",
        }
    }
}

/// The services of the contract.
const SERVICES: [(&str, For); 6] = [
    ("touchstone.v1.Enrollment", For::Anybody),
    ("touchstone.v1.Attestation", For::Anybody),
    ("touchstone.v1.Invitation", For::Anybody),
    ("touchstone.v1.Watch", For::Device),
    ("touchstone.v1.Authorize", For::Device),
    ("touchstone.v1.Admin", For::Administrator),
];

/// Where the methods of the Admin service are.
pub(super) const ADMIN: &str = "/touchstone.v1.Admin/";

/// By then every certificate of a device or person has ended.
const LATER: Duration = Duration::from_secs(400 * 86_400);

/// What anybody may ask.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// What else the port serves.
const OTHERS: [&str; 3] =
    [HEALTH, "/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"];

/// As much of `google.protobuf.FileDescriptorSet` as names the methods.
#[derive(Message)]
struct FileSet {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Named>,
}

/// A service with its methods, or a method.
#[derive(Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<MethodName>,
}

#[derive(Message)]
struct MethodName {
    #[prost(string, tag = "1")]
    name: String,
}

/// Every method of the port with who may call it.
pub(super) fn routes() -> BTreeMap<String, For> {
    let set = FileSet::decode(proto::FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let mut routes: BTreeMap<String, For> = OTHERS.map(|path| (path.to_owned(), For::Anybody)).into();
    for file in set.files {
        for service in file.services {
            let name = format!("{}.{}", file.package, service.name);
            let row = SERVICES.iter().find(|(known, _)| *known == name);
            let (_, whose) = row.unwrap_or_else(|| panic!("say in SERVICES who may call {name}"));
            routes.extend(service.methods.iter().map(|method| (format!("/{name}/{}", method.name), *whose)));
        }
    }
    assert!(routes.len() > 30, "{routes:?}");
    routes
}

/// Calls a method with an empty message; `Ok` once an answer begins.
pub(super) async fn call(world: &World, identity: Option<Identity>, path: &str) -> Result<(), Status> {
    call_on(connect(world, identity).await?, path).await
}

/// The same on an open connection.
async fn call_on(mut channel: Channel, path: &str) -> Result<(), Status> {
    let uri = format!("http://broker.control.plant.example{path}");
    // Not compressed, no bytes.
    let message = Body::new(String::from("\0\0\0\0\0"));
    let request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    let request = request.body(message).expect("a request");
    let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let channel = channel.ready().await.map_err(unavailable)?;
    let response = channel.call(request).await.map_err(unavailable)?;
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != tonic::Code::Ok => Err(status),
        _ => Ok(()),
    }
}

/// What is wrong with the answer to a caller that the port knows, as who it is.
fn misjudged(path: &str, whose: For, caller: For, answer: &Result<(), Status>) -> Option<String> {
    let denial = answer.as_ref().err().and_then(proto::denial::from_status);
    let refused = denial.as_ref().is_some_and(|denial| denial.reason() == Reason::NotPermitted);
    let right = match whose == For::Anybody || whose == caller {
        true => !refused,
        false => refused && denial.is_some_and(|denial| denial.message == whose.refusal()),
    };
    (!right).then(|| format!("{path} as {caller:?}: {answer:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_32_every_route_refuses_every_wrong_certificate() {
    let Some((world, [device])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe --software-keys allow");
    device.measure("boot-a");
    world.register(&device, "press");
    let mut thief = Thief::of(&device).await;
    thief.make_keys("press").await;
    let workload = rcgen::KeyPair::generate().expect("a key");
    thief.software_keys = vec![workload_key(&workload)];
    let svids = thief.enroll().await.svids;
    let key_of = |role| {
        let (_, key) = thief.keys.iter().find(|(seat, _)| seat.role == role).expect("a key of the role");
        TpmIdentityKey::new(thief.prover.tpm().clone(), key.clone())
    };
    let leaf_of = |role: v1::Role| {
        let mut of_device = svids.iter().filter(|svid| svid.workload.is_empty());
        of_device.find(|svid| svid.role() == role).expect("a certificate of the role").chain[0].clone()
    };
    let of_workload = svids.iter().find(|svid| svid.workload == "hmi").expect("a workload's certificate");
    let of_workload = (of_workload.chain[0].clone(), software_key(&workload.serialize_der()));
    let owner = person(&world.plant.path("owner"));
    let before = world.store();
    let strangers = strangers(&leaf_of(v1::Role::Caller));
    let mut wrong = Vec::new();
    for (path, whose) in routes() {
        let nobody = call(&world, None, &path).await;
        wrong.extend(misjudged(&path, whose, For::Anybody, &nobody));
        let own = (leaf_of(v1::Role::Caller), Arc::new(key_of(Role::Caller)) as _);
        let as_device = call(&world, Some(own), &path).await;
        wrong.extend(misjudged(&path, whose, For::Device, &as_device));
        if whose != For::Administrator {
            let as_owner = call(&world, Some(owner.clone()), &path).await;
            wrong.extend(misjudged(&path, whose, For::Administrator, &as_owner));
        }
        let server = (leaf_of(v1::Role::Listener), Arc::new(key_of(Role::Listener)) as _);
        let others = strangers.iter().map(|(who, identity)| (*who, identity.clone()));
        for (who, identity) in others
            .chain([("a server's certificate", server), ("a workload's certificate", of_workload.clone())])
        {
            // Refused by TLS: no method answers, not even with a refusal of its own.
            match call(&world, Some(identity), &path).await {
                Err(status) if proto::denial::from_status(&status).is_none() => {}
                answer => wrong.push(format!("{path} with {who}: {answer:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(world.store(), before, "a refusal changes nothing");
}

/// A key of the workload `hmi`, which opens connections.
fn workload_key(key: &rcgen::KeyPair) -> v1::SoftwareKey {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    v1::SoftwareKey {
        zone: "press".into(),
        workload: "hmi".into(),
        role: v1::Role::Caller.into(),
        csr: params.serialize_request(key).expect("a request").der().to_vec(),
        ..v1::SoftwareKey::default()
    }
}

/// Certificates that no authority of the plant made for whoever holds the key.
fn strangers(stolen: &[u8]) -> Vec<(&'static str, Identity)> {
    let params = |uri: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into().expect("a URI")));
        params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
        params
    };
    let key = rcgen::KeyPair::generate().expect("a key");
    let pkcs8 = key.serialize_der();
    let device = params("spiffe://press.plant.example/device/press-1");
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "press.plant.example caller 1");
    let of_another_plant = rcgen::Issuer::new(authority, rcgen::KeyPair::generate().expect("a key"));
    let self_signed = device.self_signed(&key).expect("a certificate").der().to_vec();
    let foreign = device.signed_by(&key, &of_another_plant).expect("a certificate").der().to_vec();
    let administrator = params("spiffe://control.plant.example/admin/alice");
    let administrator = administrator.self_signed(&key).expect("a certificate").der().to_vec();
    [
        ("a self-signed certificate", self_signed),
        ("a certificate of another plant's zone", foreign),
        ("an administrator's self-signed certificate", administrator),
        ("a device's certificate and another key", stolen.to_vec()),
    ]
    .map(|(who, leaf)| (who, (leaf, software_key(&pkcs8))))
    .into()
}

/// Whether the first thing that a stopped device hears is that it is.
async fn is_told_of_its_end(world: &World, press: &Identity) -> Result<(), String> {
    let channel = connect(world, Some(press.clone())).await.map_err(|status| status.to_string())?;
    let stream = WatchClient::new(channel).watch(v1::WatchRequest::default()).await;
    let mut stream = stream.map_err(|status| status.to_string())?.into_inner();
    match stream.message().await {
        Ok(Some(v1::WatchEvent { event: Some(Event::TrustLost(_)), .. })) => Ok(()),
        other => Err(format!("Watch said {other:?}")),
    }
}

/// Whether the word of a stopped device is asked for nothing.
async fn is_not_asked(world: &World, press: &Identity) -> Result<(), String> {
    let channel = connect(world, Some(press.clone())).await.map_err(|status| status.to_string())?;
    let question = v1::AuthorizeRequest {
        service: "opcua".into(),
        direction: v1::Direction::Inbound.into(),
        peer_certificate: press.0.clone(),
        ..v1::AuthorizeRequest::default()
    };
    match AuthorizeClient::new(channel).authorize(question).await {
        Err(status) if status.message().contains("is quarantined") => Ok(()),
        other => Err(format!("Authorize said {other:?}")),
    }
}

/// Whether `caller` is refused at `path`, whoever may call it, by TLS or in these words.
async fn refused(world: &World, caller: &Identity, path: &str, words: &str) -> Result<(), String> {
    match call(world, Some(caller.clone()), path).await {
        Err(status) => match proto::denial::from_status(&status) {
            Some(denial) if !denial.message.contains(words) => Err(format!("{path}: {denial:?}")),
            _ => Ok(()),
        },
        Ok(()) => Err(format!("{path} answered")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_counted_once_open_nothing_any_more() {
    let Some(later) = e2e::clock("+400d") else { return };
    let Some((mut world, [device])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    device.measure("boot-a");
    world.register(&device, "press");
    let mut thief = Thief::of(&device).await;
    thief.make_keys("press").await;
    let svids = thief.enroll().await.svids;
    let caller = svids.iter().find(|svid| svid.role() == v1::Role::Caller).expect("a certificate");
    let (_, key) = thief.keys.iter().find(|(seat, _)| seat.role == Role::Caller).expect("a key");
    let press = (
        caller.chain[0].clone(),
        Arc::new(TpmIdentityKey::new(thief.prover.tpm().clone(), key.clone())) as _,
    );
    let viewer = person(&world.invite("viewer", "--role viewer"));
    let of = |whose| routes().into_iter().filter(move |(_, of)| *of == whose).map(|(path, _)| path);
    assert!(call(&world, Some(press.clone()), "/touchstone.v1.Watch/Watch").await.is_ok(), "it counts");
    assert!(call(&world, Some(viewer.clone()), "/touchstone.v1.Admin/GetStatus").await.is_ok(), "it counts");

    world.admin("device quarantine press-1 --reason test");
    world.admin("admin remove viewer");
    let mut wrong = Vec::new();
    assert_eq!(of(For::Device).count(), 2, "say below what they do for a device that is stopped");
    wrong.extend(is_told_of_its_end(&world, &press).await.err());
    wrong.extend(is_not_asked(&world, &press).await.err());
    for path in of(For::Administrator) {
        wrong.extend(refused(&world, &viewer, &path, "no longer, registered").await.err());
    }
    assert!(wrong.is_empty(), "revoked: {wrong:#?}");

    let owner = person(&world.plant.path("owner"));
    world.stop_broker();
    world.plant.environment = later;
    world.start_broker();
    assert_eq!(
        ahead(&world, None, HEALTH).await.map_err(|status| status.to_string()),
        Ok(()),
        "it serves then"
    );
    for (who, identity) in [("press-1", &press), ("the owner", &owner)] {
        let named = expired(&world);
        for path in routes().into_keys() {
            // Refused by TLS, wherever it leads.
            match ahead(&world, Some(identity.clone()), &path).await {
                Err(status) if proto::denial::from_status(&status).is_none() => {}
                answer => wrong.push(format!("{path} as {who}: {answer:?}")),
            }
        }
        until("the broker says why", || match expired(&world) - named {
            times if times >= routes().len() => Ok(()),
            times => Err(format!("{who}: {times} times that a certificate has ended")),
        });
    }
    assert!(wrong.is_empty(), "expired: {wrong:#?}");

    // The same certificates at a time at which they hold.
    world.stop_broker();
    world.plant.environment.clear();
    world.start_broker();
    assert_eq!(is_told_of_its_end(&world, &press).await, Ok(()), "TLS lets it in");
    let answer = call(&world, Some(owner), "/touchstone.v1.Admin/GetStatus").await;
    assert!(answer.is_ok(), "{answer:?}");
}

/// How often the broker said that a certificate has ended: to whoever showed it, its TLS gives no reason.
fn expired(world: &World) -> usize {
    let log = fs::read_to_string(world.plant.run_path("broker.log")).expect("its log");
    log.matches("CertExpired").count()
}

/// Calls a method when all certificates of today have ended.
async fn ahead(world: &World, identity: Option<Identity>, path: &str) -> Result<(), Status> {
    call_on(connect_ahead(world, identity, LATER).await?, path).await
}
