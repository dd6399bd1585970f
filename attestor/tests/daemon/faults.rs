//! What must not cost a device its certificates, nor stop it, nor go unsaid: a broker that is another one or talks
//! nonsense, a disk that is full, a state that is torn or of another device, a TPM that fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use attestor::evidence::Prover;
use attestor::ports::{Clock, System};
use attestor::renewal::{Means, driver};
use attestor::service_manager::ServiceManager;
use attestor::status::{Status, Word};
use futures::FutureExt as _;
use proto::v1;
use proto::v1::complete_response::Outcome;
use proto::v1::watch_event::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::broker::Broker;
use crate::server::{self, serve};
use crate::world::{Daemon, Device, until};

/// A device that is trusted, and watches.
async fn trusted() -> Option<(Device, Broker, SocketAddr, JoinHandle<()>, Daemon)> {
    let device = Device::make()?;
    let broker = Broker::new();
    let (address, serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    device.status("trusted", |status| status.state == Word::Trusted && status.broker.watching).await;
    Some((device, broker, address, serving, daemon))
}

async fn ended(serving: JoinHandle<()>) {
    serving.abort();
    assert!(serving.await.is_err());
}

/// The status once it names a problem in `words`; the certificates are held all the same.
async fn holds(device: &Device, words: &str) -> Status {
    let says = |status: &Status| status.problem.as_ref().is_some_and(|problem| problem.contains(words));
    let status = device.status(words, says).await;
    assert_eq!((status.state, status.certificates.len()), (Word::Holding, 2), "{status:#?}");
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_plants_broker_is_told_nothing_and_costs_nothing() {
    let Some((device, broker, address, serving, daemon)) = trusted().await else { return };
    let before = device.delivered("caller.pem");
    daemon.stop().await;
    ended(serving).await;
    let other = Broker::new();
    let (_, serving) = serve(&other, &address.to_string()).await;
    let daemon = device.start(&broker, address).await;
    let problem = holds(&device, "is not the broker of this plant").await.problem.unwrap();
    assert!(problem.contains("plant_root") && problem.contains("or the clock"), "{problem}");
    assert!(other.script.lock().unwrap().statements.is_empty(), "it was told nothing");
    assert_eq!(device.delivered("caller.pem"), before);
    ended(serving).await;
    let (_, _serving) = serve(&broker, &address.to_string()).await;
    device.status("trusted again", |status| status.state == Word::Trusted).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_from_the_broker_is_named_and_costs_nothing() {
    let Some((device, broker, _, _serving, daemon)) = trusted().await else { return };
    let issued = |change: fn(&mut v1::Issued)| {
        let zones = vec!["press".to_owned()];
        let mut issued = v1::Issued { device: "press-1".into(), zones, ..v1::Issued::default() };
        change(&mut issued);
        v1::CompleteResponse { outcome: Some(Outcome::Issued(issued)) }
    };
    let nonsense = [
        ("the broker's answer is empty", v1::CompleteResponse::default()),
        ("it names no zone", issued(|issued| issued.zones.clear())),
        ("malformed", issued(|issued| issued.device = "../../etc".into())),
        ("a certificate is for no key", issued(|issued| issued.svids.push(of("cell", Vec::new())))),
        ("cannot be read", issued(|issued| issued.svids.push(of("press", vec![vec![0x30; 100]])))),
        ("cannot be read", issued(|issued| issued.svids.push(of("press", vec![vec![0; 9000]])))),
        // As long as an answer without end: no more is read than a message may have.
        ("failed with", issued(|issued| issued.key_ticket = vec![7; 17 * 1024 * 1024])),
    ];
    for (words, answer) in nonsense {
        let watchers = broker.script.lock().unwrap().watchers;
        broker.script.lock().unwrap().answer = Some(answer);
        broker.demand();
        holds(&device, words).await;
        broker.script.lock().unwrap().answer = None;
        // It asks again by itself, and watches under what it gets.
        until("watching anew", || broker.script.lock().unwrap().watchers > watchers).await;
        device.status("well", |status| status.problem.is_none() && status.broker.watching).await;
    }
    daemon.stop().await;
}

fn of(zone: &str, chain: Vec<Vec<u8>>) -> v1::Svid {
    v1::Svid { zone: zone.into(), role: v1::Role::Caller.into(), chain, ..v1::Svid::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_update_does_not_suit_is_named_and_costs_nothing() {
    let Some((device, broker, _, _serving, daemon)) = trusted().await else { return };
    let reason = v1::DenialReason::UnsupportedVersion.into();
    let denial = v1::Denial { reason, message: "the test is newer".into(), ..v1::Denial::default() };
    broker.script.lock().unwrap().denial = Some(denial);
    broker.demand();
    let status = device.status("refused", |status| status.denial.is_some()).await;
    assert_eq!((status.state, status.certificates.len()), (Word::Holding, 2), "{status:#?}");
    let words = status.describe(status.written_at, true);
    assert!(
        words.contains("trusted (refused: UNSUPPORTED_VERSION, ") && words.contains("update the attestor"),
        "{words}"
    );
    recovered(&broker);
    device.status("trusted again", |status| status.state == Word::Trusted && status.denial.is_none()).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_speaks_no_protocol_is_named_and_costs_nothing() {
    let Some((device, broker, address, serving, daemon)) = trusted().await else { return };
    daemon.stop().await;
    ended(serving).await;
    // It has the right certificate, and sends zeros for as long as it is listened to.
    let listener = TcpListener::bind(address).await.unwrap();
    let acceptor = server::acceptor(&broker);
    let babbling = tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let mut request = [0; 64];
            drop(tls.read(&mut request).await);
            while tls.write_all(&[0; 4096]).await.is_ok() {}
        }
    });
    let daemon = device.start(&broker, address).await;
    holds(&device, "127.0.0.1").await;
    ended(babbling).await;
    let (_, _serving) = serve(&broker, &address.to_string()).await;
    device.status("trusted again", |status| status.state == Word::Trusted).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_named_and_costs_neither_what_is_issued_nor_what_is_lost() {
    let Some((device, broker, address, _serving, daemon)) = trusted().await else { return };
    let (open, caller) = (device.delivered("services/opcua/inbound.pem"), device.delivered("caller.pem"));
    let (serials, watchers) = (serials(&device).await, broker.script.lock().unwrap().watchers);
    // Nothing can be saved: where the new file is written first is a folder.
    let blocked = device.path("state/state.json.new");
    std::fs::create_dir(&blocked).unwrap();
    broker.demand();
    // The broker has issued others, and revokes those that they replace.
    let newer = |status: &Status| status.certificates.iter().all(|one| !serials.contains(&one.serial));
    let full =
        |status: &Status| status.problem.as_ref().is_some_and(|problem| problem.contains("free space"));
    let status = device.status("renewed", |status| newer(status) && full(status)).await;
    assert_eq!((status.state, status.certificates.len()), (Word::Trusted, 2), "{status:#?}");
    assert_ne!(device.delivered("caller.pem"), caller);
    until("watching anew", || broker.script.lock().unwrap().watchers > watchers).await;
    // That peers lost trust counts all the same.
    broker.say(Event::Trust(broker.plant.trust(8, false)));
    until("delivered", || device.delivered("services/opcua/inbound.pem") != open).await;
    let reason = v1::DenialReason::Quarantined.into();
    let denial = v1::Denial { reason, message: "the test says no".into(), ..v1::Denial::default() };
    broker.script.lock().unwrap().denial = Some(denial.clone());
    broker.say(Event::TrustLost(v1::TrustLost { denial: Some(denial) }));
    let status = device.status("quarantined", |status| status.state == Word::Quarantined).await;
    assert!(status.certificates.is_empty(), "{status:#?}");
    std::fs::remove_dir(blocked).unwrap();
    recovered(&broker);
    device.status("trusted again", |status| status.state == Word::Trusted && status.problem.is_none()).await;
    daemon.stop().await;
    let daemon = device.start(&broker, address).await;
    device.status("trusted", |status| status.state == Word::Trusted && !status.stopped).await;
    daemon.stop().await;
}

/// It refuses nobody any more, and has not forgotten its newest trust set.
fn recovered(broker: &Broker) {
    let mut script = broker.script.lock().unwrap();
    (script.denial, script.trust) = (None, Some(broker.plant.trust(8, false)));
}

async fn serials(device: &Device) -> Vec<String> {
    let status = device.status("read", |_| true).await;
    status.certificates.into_iter().map(|one| one.serial).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_state_is_set_aside_and_the_device_enrolls_again() {
    let Some((device, broker, address, serving, daemon)) = trusted().await else { return };
    daemon.stop().await;
    ended(serving).await;
    let (file, delivered) = (device.path("state/state.json"), device.delivered("caller.pem"));
    let torn = std::fs::read(&file).unwrap()[..700].to_vec();
    std::fs::write(&file, &torn).unwrap();
    let asked = broker.script.lock().unwrap().statements.len();
    told_until_issued(&device, &broker, address, "is corrupt: ").await;
    let first = broker.script.lock().unwrap().statements[asked].purpose();
    assert_eq!(first, v1::Purpose::Enroll);
    assert_eq!(std::fs::read(device.path("state/state.json.corrupt")).unwrap(), torn);
    assert_ne!(device.delivered("caller.pem"), delivered);
}

/// Whatever is wrong beside it, and however often the attestor starts, the status says in `words` what became of the state
/// until there are certificates again.
async fn told_until_issued(device: &Device, broker: &Broker, address: SocketAddr, words: &str) {
    let daemon = device.start(broker, address).await;
    let says = |status: &Status, words: &[&str]| {
        let problem = status.problem.as_deref().unwrap_or_default();
        !status.stopped && words.iter().all(|words| problem.contains(words))
    };
    let away = [words, &address.to_string()];
    device.status("told while the broker is away", |status| status.broker.asked && says(status, &away)).await;
    daemon.stop().await;
    let outcome = Some(Outcome::Pending(v1::Pending { retry_after_seconds: 1, ..v1::Pending::default() }));
    broker.script.lock().unwrap().answer = Some(v1::CompleteResponse { outcome });
    let (_, serving) = serve(broker, &address.to_string()).await;
    let daemon = device.start(broker, address).await;
    let pending = |status: &Status| status.state == Word::Pending && status.broker.reachable;
    device.status("told while pending", |status| pending(status) && says(status, &[words])).await;
    broker.script.lock().unwrap().answer = None;
    let status = device.status("trusted", |status| status.state == Word::Trusted).await;
    assert_eq!(status.problem, None);
    daemon.stop().await;
    ended(serving).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_disk_shows_nothing_of_the_device_that_it_was_copied_from() {
    let Some((first, broker, address, serving, daemon)) = trusted().await else { return };
    daemon.stop().await;
    ended(serving).await;
    let Some(second) = Device::make() else { return };
    for folder in ["state", "run"] {
        let (from, to) = (first.path(folder), second.path(folder));
        let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
        assert!(copied.success());
    }
    let daemon = second.start(&broker, address).await;
    let status = second.status("running", |status| !status.stopped).await;
    assert!(status.certificates.is_empty() && status.software_keys.is_empty(), "{status:#?}");
    assert!(matches!(status.state, Word::Starting | Word::Enrolling), "{status:#?}");
    assert!(!second.path("run/current").exists(), "software is shown no key of another device");
    assert!(!second.path("run/generations").exists());
    daemon.stop().await;
    told_until_issued(&second, &broker, address, "is of another TPM: ").await;
    assert_ne!(second.delivered("caller.key"), first.delivered("caller.key"));
    let statements = broker.script.lock().unwrap().statements.clone();
    let (before, after) = (&statements[0], statements.last().unwrap());
    assert_ne!(before.ek_name, after.ek_name);
    assert!(
        statements.iter().any(|one| one.ek_name == after.ek_name && one.purpose() == v1::Purpose::Enroll)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_that_vanishes_and_comes_back_costs_nothing() {
    let Some((mut device, broker, _, _serving, daemon)) = trusted().await else { return };
    let serials = serials(&device).await;
    device.swtpm.switch_off().unwrap();
    broker.demand();
    let problem = holds(&device, "no software TPM answers").await.problem.unwrap();
    assert!(problem.contains("start swtpm"), "{problem}");
    assert_eq!(self::serials(&device).await, serials);
    device.swtpm.switch_on().unwrap();
    device.status("trusted again", |status| status.state == Word::Trusted && status.problem.is_none()).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_boot_that_could_not_be_read_is_read_again_without_broker() {
    let Some((device, broker, address, serving, daemon)) = trusted().await else { return };
    daemon.stop().await;
    ended(serving).await;
    let tpm = device.tpm().with_deadline(Duration::from_secs(10));
    let prover = Prover::new(tpm, device.path("log")).await.unwrap();
    let attester = device.assemble_with(&broker, address, prover);
    device.swtpm.pause().unwrap();
    let daemon = Daemon::run(attester);
    let in_doubt = |status: &Status| status.state == Word::Starting && !status.stopped;
    device.status("in doubt", in_doubt).await;
    device.swtpm.resume().unwrap();
    let status = device.status("read", |status| status.state == Word::Holding).await;
    assert_eq!(status.certificates.len(), 2, "{status:#?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_that_is_dead_at_a_start_keeps_no_conduit_open() {
    let Some((device, broker, address, serving, daemon)) = trusted().await else { return };
    let inbound = || device.delivered("services/opcua/inbound.pem");
    broker.say(Event::Trust(broker.plant.trust(8, false)));
    device.status("closed", |status| status.trust_sequence == 8).await;
    let (nobody, listener) = (inbound(), device.delivered("listener.pem"));
    let end = System::default().now().plus(10);
    broker.say(Event::Trust(broker.plant.trust_until(9, end.0)));
    device.status("open", |status| status.trust_sequence == 9).await;
    daemon.stop().await;
    ended(serving).await;
    device.swtpm.pause().unwrap();
    let means = Means::Absent("the TPM does not answer".to_owned());
    let attester = Arc::new(device.assemble_with(&broker, address, means));
    attester.look_at_boot().await;
    let (found, there) = oneshot::channel();
    let there = there.map(|sent| sent.map_err(|_| unreachable!("the test sends it")));
    let waiting = tokio::spawn(driver::go_without(attester, ServiceManager::default(), there));
    let status = device.status("waiting", |status| status.state == Word::Starting && !status.stopped).await;
    assert_eq!(status.problem.as_deref(), Some("the TPM does not answer"));
    until("closed again", || inbound() == nobody).await;
    assert!(System::default().now() >= end, "it closed before its time");
    assert_eq!(device.delivered("listener.pem"), listener, "software keeps what it was given");
    device.swtpm.resume().unwrap();
    found.send(()).unwrap();
    waiting.await.unwrap().unwrap();
    let daemon = device.start(&broker, address).await;
    device.status("holding", |status| status.state == Word::Holding).await;
    daemon.stop().await;
}

/// On one thread: whoever waits for the TPM without giving it back would hold up everybody.
#[tokio::test]
async fn a_tpm_that_hangs_makes_nobody_deaf() {
    let Some((device, broker, _, _serving, daemon)) = trusted().await else { return };
    let asked = || broker.script.lock().unwrap().begun;
    let before = asked();
    device.swtpm.pause().unwrap();
    broker.demand();
    until("asked for evidence", || asked() > before).await;
    let reason = v1::DenialReason::Quarantined.into();
    let denial = v1::Denial { reason, message: "the test says no".into(), ..v1::Denial::default() };
    broker.script.lock().unwrap().denial = Some(denial.clone());
    broker.say(Event::TrustLost(v1::TrustLost { denial: Some(denial) }));
    let status = device.status("quarantined", |status| status.state == Word::Quarantined).await;
    // Well before the TPM would have been given up.
    assert!(status.certificates.is_empty() && status.problem.is_none(), "{status:#?}");
    device.swtpm.resume().unwrap();
    recovered(&broker);
    device.status("trusted again", |status| status.state == Word::Trusted).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_that_is_reset_beneath_the_attestor_is_named_and_costs_nothing() {
    let Some((device, broker, _, _serving, daemon)) = trusted().await else { return };
    if let Some(tool) = attestor::testing::missing_tool(&["swtpm_ioctl", "tpm2_startup"]) {
        eprintln!("skipped: {tool} is not installed (packages swtpm-tools, tpm2-tools)");
        return;
    }
    device.swtpm.reset().unwrap();
    broker.demand();
    holds(&device, "the TPM was reset in the midst of its work").await;
    device.start_tpm();
    device.status("trusted again", |status| status.state == Word::Trusted && status.problem.is_none()).await;
    daemon.stop().await;
}
