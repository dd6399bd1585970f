//! The socket as callers see it, good ones and bad.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream as Socket;
use std::path::PathBuf;
use std::sync::Mutex;

use hyper_util::rt::TokioIo;
use proto::workload as pb;
use proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

use super::*;
use crate::config::{Program, Workload};
use crate::role::Role;
use crate::state::State;
use crate::trust::tests::{NOW, Plant};
use crate::workload_api::offer::tests::{certified, workload};
use crate::workload_api::{Offer, Withheld};

/// A device whose state tests change.
struct Device {
    plant: Plant,
    workloads: Vec<Workload>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Source for Device {
    fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    fn offer(&self, program: &Program) -> Result<(Offer, Duration), Withheld> {
        Offer::of(&self.state.lock().unwrap(), &self.plant.domain, program, NOW)
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl Device {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.send_replace(());
    }
}

struct World {
    device: Arc<Device>,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

/// A device whose only workload is who runs this test, or somebody else.
async fn world(known: bool) -> World {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("workload.sock");
    let own = Socket::pair().map(|_| UnixStream::pair().unwrap().0.peer_cred().unwrap()).unwrap();
    let uid = if known { own.uid() } else { own.uid().wrapping_add(1) };
    let one = Workload { uid: Some(uid), gid: Some(own.gid()), ..workload(Role::Listener) };
    let plant = Plant::new();
    let state = Mutex::new(certified(&plant, &one));
    let device = Device { plant, workloads: vec![one], state, changed: watch::Sender::new(()) };
    let device = Arc::new(device);
    let api = WorkloadApi { socket: socket.clone(), mode: 0o660, group: None };
    tokio::spawn(serve(Listener::bind(&api).await.unwrap(), Arc::clone(&device)));
    World { device, socket, _folder: folder }
}

impl World {
    async fn client(&self) -> SpiffeWorkloadApiClient<Channel> {
        let socket = self.socket.clone();
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://workload");
        SpiffeWorkloadApiClient::new(endpoint.connect_with_connector(connect).await.unwrap())
    }

    async fn open(&self) -> Result<Streaming<pb::X509svidResponse>, Status> {
        let asked = with_header(pb::X509svidRequest {});
        self.client().await.fetch_x509svid(asked).await.map(tonic::Response::into_inner)
    }
}

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(HEADER, "true".parse().unwrap());
    request
}

#[tokio::test]
async fn a_workload_hears_what_it_has_and_at_once_that_it_has_nothing() {
    let world = world(true).await;
    let mut stream = world.open().await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.svids[0].hint, "hmi");
    assert_eq!(first.federated_bundles.len(), 1);
    world.device.change(|state| {
        let plant = &world.device.plant;
        let (files, mut set) = (Vec::new(), crate::trust::tests::set());
        (set.files, set.sequence) = (files, 8);
        let device = state.device.clone().unwrap();
        let seen = crate::trust::Seen::default();
        let expected =
            crate::trust::Expected { root: &plant.root, plant: &plant.domain, device: &device, seen };
        state.take_trust(crate::trust::TrustSet::verify(plant.sign(&set), &expected, NOW).unwrap());
    });
    let closed = stream.message().await.unwrap().unwrap();
    assert!(closed.federated_bundles.is_empty() && closed.crl.is_empty(), "the conduit is closed");
    world.device.change(|state| state.software_keys.clear());
    let ended = stream.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    world.device.change(|state| {
        let denial = proto::v1::Denial {
            reason: proto::v1::DenialReason::Quarantined.into(),
            ..proto::v1::Denial::default()
        };
        state.refusal = Some(crate::status::Refusal::new(&denial, NOW));
    });
    let mut stream = world.open().await.unwrap();
    let refused = stream.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().starts_with("no identity issued: the device is refused"), "{refused}");
}

#[tokio::test]
async fn who_is_no_workload_or_sends_no_header_gets_nothing() {
    let stranger = world(false).await;
    let refused = stranger.open().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().starts_with("no identity issued: no [[workload]]"), "{refused}");
    let asked = with_header(pb::X509BundlesRequest {});
    let refused = stranger.client().await.fetch_x509_bundles(asked).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "nor bundles");

    let world = world(true).await;
    let without = world.client().await.fetch_x509svid(pb::X509svidRequest {}).await.unwrap_err();
    assert_eq!(without.code(), Code::InvalidArgument);
    let mut false_header = Request::new(pb::X509svidRequest {});
    false_header.metadata_mut().insert(HEADER, "false".parse().unwrap());
    let refused = world.client().await.fetch_x509svid(false_header).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let jwt = with_header(pb::JwtsvidRequest { audience: vec!["a".into()], spiffe_id: String::new() });
    assert_eq!(world.client().await.fetch_jwtsvid(jwt).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn what_is_no_grpc_is_hung_up_on() {
    let world = world(true).await;
    let socket = world.socket.clone();
    let said = tokio::task::spawn_blocking(move || {
        let mut stream = Socket::connect(socket).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut said = Vec::new();
        drop(stream.read_to_end(&mut said));
        said
    });
    let said = said.await.unwrap();
    assert!(!said.starts_with(b"HTTP/1"), "{said:?}");
    assert!(world.open().await.is_ok(), "others are answered");
}

#[tokio::test]
async fn a_thousand_connections_of_one_user_are_so_many_and_no_more() {
    let world = world(true).await;
    let mut stream = world.open().await.unwrap();
    stream.message().await.unwrap().unwrap();
    let mut held = Vec::new();
    for _ in 0..1000 {
        held.push(UnixStream::connect(&world.socket).await.unwrap());
    }
    // Those that were hung up on say so; the others wait for their first byte.
    let mut open = 0;
    for one in &held {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(20), async {
            one.readable().await.unwrap();
            one.try_read(&mut byte)
        });
        open += usize::from(read.await.is_err());
    }
    assert!(open < EACH, "{open} are open beside the stream");
    world.device.change(|state| state.software_keys.clear());
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable, "who was there is served");
}

#[tokio::test]
async fn streams_of_one_user_are_bounded_and_a_closed_one_gives_its_place_back() {
    let world = world(true).await;
    let mut streams = Vec::new();
    let refused = loop {
        let mut client = world.client().await;
        let asked = || with_header(pb::X509BundlesRequest {});
        match client.fetch_x509_bundles(asked()).await {
            Ok(stream) => streams.push((client.clone(), stream.into_inner())),
            Err(status) => break status,
        }
        let (mut more, many) = (client.clone(), usize::try_from(STREAMS).unwrap() / 2);
        for _ in 1..many {
            if let Ok(stream) = more.fetch_x509_bundles(asked()).await {
                streams.push((client.clone(), stream.into_inner()));
            }
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(streams.len(), 32);
    streams.clear();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while world.open().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "no place is given back");
    }
}
