//! "Attest now" while something else takes long, and what is said before the broker was asked at all.

use std::sync::Arc;
use std::time::Duration;

use attestor::evidence::Prover;
use attestor::renewal::driver;
use attestor::service_manager::ServiceManager;
use attestor::status::Word;
use proto::v1;
use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::server::serve;
use crate::world::{Device, until};

/// A health command that fails with 3 once it is let go on.
const SLOW: &str = "\
[health]
command = [\"/bin/sh\", \"-c\", \"test ! -e slow || until test -e done; do sleep 0.05; done; test ! -e done || exit 3\"]
timeout = 30
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_command_that_runs_keeps_no_demand_waiting_and_is_heard_once_it_ends() {
    let Some(mut device) = Device::make() else { return };
    let folder = device.path("").display().to_string();
    device.more = SLOW.replace("test ! -e slow", &format!("cd {folder}; test ! -e slow"));
    let broker = Broker::new();
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    device.status("watching", |status| status.state == Word::Trusted && status.broker.watching).await;
    let said = |health: v1::Health| {
        broker.script.lock().unwrap().statements.iter().any(|one| one.health.as_ref() == Some(&health))
    };
    let (well, ill) = (v1::Health::default(), v1::Health { exit_code: 3, ..v1::Health::default() });
    assert!(said(well.clone()), "the first proof waits for it");
    std::fs::write(device.path("slow"), "").unwrap();
    broker.demand();
    until("answered while it runs", || said(v1::Health { unfinished: true, ..well.clone() })).await;
    assert!(!said(ill.clone()));
    std::fs::write(device.path("done"), "").unwrap();
    until("heard how it ended", || said(ill.clone())).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_that_fails_before_the_broker_was_asked_is_what_is_told() {
    let Some(mut device) = Device::make() else { return };
    let broker = Broker::new();
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    device.status("trusted", |status| status.state == Word::Trusted && status.broker.asked).await;
    daemon.stop().await;
    let tpm = device.tpm().with_deadline(Duration::from_secs(10));
    let prover = Prover::new(tpm, device.path("log")).await.unwrap();
    let attester = Arc::new(device.assemble_with(&broker, address, prover));
    attester.look_at_boot().await;
    device.swtpm.switch_off().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { drop(stopped.await) };
    let running = tokio::spawn(driver::run(attester, ServiceManager::default(), stopped));
    let failed =
        |status: &attestor::status::Status| status.state == Word::Holding && status.problem.is_some();
    let status = device.status("holding", failed).await;
    let words = status.sentence(status.written_at);
    assert!(
        words.starts_with("trusted (no new proof, ") && words.contains("no software TPM answers"),
        "{words}"
    );
    assert!(!status.broker.asked && status.describe(status.written_at, true).contains("was not asked yet"));
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
