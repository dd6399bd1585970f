//! What goes through a gate, and what ends it.

use std::sync::Arc;
use std::time::Duration;

use attestor::config::Limits;
use attestor::role::Role;
use attestor::uptime::Uptime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::rig::{Device, NOW, Plant, Running, Told, local};

/// Long enough for two slow cores.
const SOON: Duration = Duration::from_secs(20);

/// Two devices with a gate each: a client of camera-1 reaches a server of press-1.
pub(crate) struct Pair {
    pub(crate) press: Arc<Device>,
    pub(crate) camera: Arc<Device>,
    pub(crate) server: TcpListener,
    pub(crate) inner: Running,
    pub(crate) outer: Running,
}

impl Pair {
    pub(crate) async fn new(limits: Limits) -> Self {
        let plant = Arc::new(Plant::new());
        let press = Device::new(&plant, Role::Listener, plant.usual("press-1", "press", "listener"));
        let camera = Device::new(&plant, Role::Caller, plant.usual("camera-1", "cell", "caller"));
        let (server, address) = local().await;
        let inner = Running::open(&press, address, limits).await;
        let outer = Running::open(&camera, inner.address, limits).await;
        Self { press, camera, server, inner, outer }
    }

    /// A connection through both gates: the client's end and the server's.
    pub(crate) async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.outer.address).await.unwrap();
        let (server, _) = timeout(SOON, self.server.accept()).await.expect("let through").unwrap();
        (client, server)
    }
}

/// One message there and back.
async fn talk(client: &mut TcpStream, server: &mut TcpStream) {
    let both = async {
        let mut bytes = [0; 4];
        client.write_all(b"read").await.unwrap();
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"read");
        server.write_all(b"done").await.unwrap();
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"done");
    };
    timeout(SOON, both).await.expect("there and back");
}

/// Waits until `what` holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, waited).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Waits until the gate refused `count` connections by this reason.
pub(crate) async fn until_refused(gate: &Running, code: &str, count: u64) {
    let mut refused = gate.gate.status().refused;
    let waited = async {
        while refused.get(code) != Some(&count) {
            sleep(Duration::from_millis(5)).await;
            refused = gate.gate.status().refused;
        }
    };
    let in_time = timeout(SOON, waited).await.is_ok();
    assert!(in_time, "{code}: {refused:?}");
}

/// Reads until the connection is cut.
async fn until_cut(stream: &mut TcpStream) {
    let mut bytes = [0; 1024];
    let read = async {
        loop {
            match stream.read(&mut bytes).await {
                Ok(0) => panic!("it looks like an end"),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    };
    let error = timeout(SOON, read).await.expect("cut in time");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_both_ways_in_any_amount_and_stay_what_they_are() {
    let pair = Pair::new(Limits::default()).await;
    let (mut client, mut server) = pair.connect().await;
    talk(&mut client, &mut server).await;
    let sent: Vec<u8> = (0..1_250_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let count = sent.len();
    let read = async |stream: &mut (dyn tokio::io::AsyncRead + Unpin + Send)| {
        let mut got = vec![0; count];
        stream.read_exact(&mut got).await.unwrap();
        got
    };
    let (up, down, one, two) = tokio::join!(
        read(&mut from_server),
        read(&mut from_client),
        to_client.write_all(&sent),
        to_server.write_all(&sent)
    );
    one.unwrap();
    two.unwrap();
    assert!(up == sent && down == sent);
    assert_eq!(pair.inner.gate.status().sessions, 1);
}

#[tokio::test]
async fn the_end_of_one_direction_leaves_the_other_open() {
    let pair = Pair::new(Limits::default()).await;
    for from_client in [true, false] {
        let (client, server) = pair.connect().await;
        let (mut first, mut last) = if from_client { (client, server) } else { (server, client) };
        first.write_all(b"all of it").await.unwrap();
        first.shutdown().await.unwrap();
        let mut got = Vec::new();
        timeout(SOON, last.read_to_end(&mut got)).await.expect("the end is passed on").unwrap();
        assert_eq!(got, b"all of it");
        last.write_all(b"an answer").await.unwrap();
        last.shutdown().await.unwrap();
        got.clear();
        timeout(SOON, first.read_to_end(&mut got)).await.expect("the other end too").unwrap();
        assert_eq!(got, b"an answer");
    }
    until("nothing is left", || {
        pair.inner.gate.status().sessions == 0 && pair.outer.gate.status().sessions == 0
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_is_stuck_slows_its_writer_down_and_holds_no_memory() {
    let pair = Pair::new(Limits::default()).await;
    let (client, mut server) = pair.connect().await;
    // What the kernel takes on both ways, and no more: the writer comes to a halt.
    let (mut sent, block) = (0_usize, [7; 64 << 10]);
    while let Ok(ready) = timeout(Duration::from_millis(500), client.writable()).await {
        ready.unwrap();
        sent += client.try_write(&block).unwrap_or_default();
        assert!(sent < 1 << 30, "it never ends");
    }
    // Once the server reads again, all of it is there.
    drop(client);
    let mut got = Vec::new();
    timeout(SOON, server.read_to_end(&mut got)).await.expect("all of it").unwrap();
    assert_eq!(got.len(), sent);
}

#[tokio::test]
async fn a_peer_that_lost_trust_is_cut_and_its_session_does_not_look_ended() {
    let pair = Pair::new(Limits::default()).await;
    let (mut client, mut server) = pair.connect().await;
    talk(&mut client, &mut server).await;
    pair.press.tell(&Told { revoked: vec![0x42], ..Told::default() });
    talk(&mut client, &mut server).await;
    pair.press.tell(&Told { revoked: vec![0x41], ..Told::default() });
    until_cut(&mut server).await;
    until_cut(&mut client).await;
    let status = pair.inner.gate.status();
    assert_eq!((status.sessions, status.cut.get("revoked")), (0, Some(&1)));
}

#[tokio::test]
async fn nothing_passes_after_the_cut() {
    let pair = Pair::new(Limits::default()).await;
    let (mut client, mut server) = pair.connect().await;
    talk(&mut client, &mut server).await;
    pair.press.tell(&Told { revoked: vec![0x41], ..Told::default() });
    until("it is cut", || pair.inner.gate.status().sessions == 0).await;
    // The other gate may have heard of it by now, and the client with it.
    drop(client.write_all(b"late").await);
    let read = timeout(SOON, server.read(&mut [0; 4])).await.expect("an error at once");
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

/// As at an update of the attestor, or when it is killed: the kernel closes what is left.
#[test]
fn sessions_of_a_gate_that_stops_do_not_look_ended() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (gates, ends) = (runtime(), runtime());
    let pair = gates.block_on(Pair::new(Limits::default()));
    let mut client = ends.block_on(TcpStream::connect(pair.outer.address)).unwrap();
    let accepted = gates.block_on(async { timeout(SOON, pair.server.accept()).await });
    let (accepted, _) = accepted.expect("let through").unwrap();
    let accepted = accepted.into_std().unwrap();
    let mut server = ends.block_on(async { TcpStream::from_std(accepted).unwrap() });
    ends.block_on(talk(&mut client, &mut server));
    gates.shutdown_timeout(SOON);
    ends.block_on(async {
        until_cut(&mut server).await;
        until_cut(&mut client).await;
    });
}

#[tokio::test]
async fn either_gate_cuts_when_the_conduit_closes() {
    for at_press in [true, false] {
        let pair = Pair::new(Limits::default()).await;
        let (mut client, mut server) = pair.connect().await;
        talk(&mut client, &mut server).await;
        let device = if at_press { &pair.press } else { &pair.camera };
        device.tell(&Told { conduit: None, ..Told::default() });
        until_cut(&mut server).await;
        until_cut(&mut client).await;
        let gate = if at_press { &pair.inner } else { &pair.outer };
        assert_eq!(gate.gate.status().cut.get("no-conduit"), Some(&1));
    }
}

#[tokio::test]
async fn a_session_ends_with_the_hours_of_its_conduit_by_the_clock_alone() {
    let pair = Pair::new(Limits::default()).await;
    // NOW is a Monday, 14:13:20 UTC.
    pair.press.tell(&Told { conduit: Some("mon 14:00-15:00"), ..Told::default() });
    let (mut client, mut server) = pair.connect().await;
    talk(&mut client, &mut server).await;
    pair.press.set_clock(NOW.plus(46 * 60 + 39));
    talk(&mut client, &mut server).await;
    pair.press.set_clock(NOW.plus(46 * 60 + 40));
    until_cut(&mut server).await;
    assert_eq!(pair.inner.gate.status().cut.get("conduit-closed"), Some(&1));
}

#[tokio::test]
async fn a_session_ends_with_the_certificate_of_its_peer() {
    let plant = Arc::new(Plant::new());
    let press = Device::new(&plant, Role::Listener, plant.usual("press-1", "press", "listener"));
    let end = i64::try_from(NOW.0).unwrap() + 2;
    let camera = Device::new(&plant, Role::Caller, plant.leaf("camera-1", "cell", "caller", 0x41, end));
    let (server, address) = local().await;
    let inner = Running::open(&press, address, Limits::default()).await;
    let outer = Running::open(&camera, inner.address, Limits::default()).await;
    let pair = Pair { press, camera, server, inner, outer };
    let (mut client, mut server) = pair.connect().await;
    talk(&mut client, &mut server).await;
    pair.press.set_clock(NOW.plus(2));
    talk(&mut client, &mut server).await;
    pair.press.set_clock(NOW.plus(3));
    until_cut(&mut server).await;
    assert_eq!(pair.inner.gate.status().cut.get("ended"), Some(&1));
}

#[tokio::test]
async fn a_device_that_lost_trust_itself_cuts_everything() {
    let pair = Pair::new(Limits::default()).await;
    let (mut client, mut server) = pair.connect().await;
    talk(&mut client, &mut server).await;
    pair.press.change(attestor::state::State::void_certificates);
    until_cut(&mut server).await;
    until_cut(&mut client).await;
    let status = pair.inner.gate.status();
    assert_eq!(status.cut.get("no-own-certificate"), Some(&1));
    assert!(status.closed.unwrap().contains("no certificate as listener in zone press that holds"));
}

#[tokio::test]
async fn a_zone_may_give_sessions_a_while_to_end() {
    let pair = Pair::new(Limits::default()).await;
    pair.press.tell(&Told { drain: 3_600, ..Told::default() });
    let (mut client, mut server) = pair.connect().await;
    talk(&mut client, &mut server).await;
    pair.press.tell(&Told { conduit: None, drain: 3_600, ..Told::default() });
    until("it is to end", || pair.inner.gate.status().draining == 1).await;
    talk(&mut client, &mut server).await;
    let mut refused = TcpStream::connect(pair.outer.address).await.unwrap();
    drop(refused.read(&mut [0; 1]).await);
    until_refused(&pair.inner, "no-conduit", 1).await;
    // Once it may be again, nothing happened.
    pair.press.tell(&Told { drain: 3_600, ..Told::default() });
    until("it goes on", || pair.inner.gate.status().draining == 0).await;
    talk(&mut client, &mut server).await;
    pair.press.tell(&Told { revoked: vec![0x41], drain: 1, ..Told::default() });
    until_cut(&mut server).await;
    until_cut(&mut client).await;
    assert_eq!(pair.inner.gate.status().cut.get("revoked"), Some(&1));
}

#[tokio::test]
async fn a_zone_may_close_to_others_while_the_broker_is_not_heard() {
    let pair = Pair::new(Limits::default()).await;
    let closed = Told { closed: true, ..Told::default() };
    pair.press.tell(&closed);
    let (mut client, mut server) = pair.connect().await;
    pair.press.hears(false);
    let mut refused = TcpStream::connect(pair.outer.address).await.unwrap();
    drop(refused.read(&mut [0; 1]).await);
    until_refused(&pair.inner, "broker-not-heard", 1).await;
    assert!(pair.inner.gate.status().closed.unwrap().contains("no zone but press is let in"));
    // What is open goes on, and so does a zone that says nothing.
    talk(&mut client, &mut server).await;
    pair.press.tell(&Told::default());
    pair.connect().await;
    pair.press.tell(&closed);
    pair.press.hears(true);
    pair.connect().await;
}

#[tokio::test]
async fn a_session_in_which_nothing_moves_ends() {
    let pair = Pair::new(Limits { idle: Duration::from_secs(1), ..Limits::default() }).await;
    let (mut client, mut server) = pair.connect().await;
    talk(&mut client, &mut server).await;
    until_cut(&mut server).await;
    until_cut(&mut client).await;
    until("both gates forget it", || {
        pair.inner.gate.status().sessions == 0 && pair.outer.gate.status().sessions == 0
    })
    .await;
}

#[tokio::test]
async fn a_gate_tells_what_it_did() {
    let pair = Pair::new(Limits::default()).await;
    let (mut client, mut server) = pair.connect().await;
    talk(&mut client, &mut server).await;
    let read = || attestor::gate::read_all(pair.inner.reports().parent().unwrap(), &Uptime::now());
    assert!(read().is_empty(), "it is in a folder of another name");
    let file = pair.inner.reports().join("gate.json");
    until("the status says so", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\"sessions\": 1"))
    })
    .await;
    let line = pair.inner.gate.status().describe();
    assert!(line.contains("gate          gate serves opcua of zone press at"), "{line}");
    assert!(line.ends_with(": 1 sessions\n"), "{line}");
}
