//! A broker whose clock is days behind, or whose certificate has ended by the clock here.

use std::fs;
use std::sync::atomic::Ordering;

use attestor::doctor::Report;
use attestor::status::{Status, Word};
use serde_json::Value;

use crate::broker::Broker;
use crate::server::serve;
use crate::world::Device;

const DAYS: u64 = 2 * 86_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_clock_is_days_behind_is_told_nothing_and_left_for_another() {
    let Some(mut device) = Device::make() else { return };
    let late = Broker::new();
    let broker = late.another();
    late.script.lock().unwrap().behind = DAYS;
    let (address, _serving) = serve(&late, "127.0.0.1:0").await;
    let (second, _serving_too) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&late, address).await;
    let status = device.status("in doubt", |status| status.problem.is_some()).await;
    let problem = status.problem.as_ref().unwrap();
    assert!(problem.contains("set the clock that is wrong"), "{problem}");
    assert!(status.broker.reachable && status.certificates.is_empty(), "{status:#?}");
    daemon.stop().await;

    device.others = vec![second];
    let daemon = device.start(&late, address).await;
    let trusted = |status: &Status| status.state == Word::Trusted && status.broker.watching;
    let status = device.status("trusted", trusted).await;
    assert_eq!((status.broker.address, status.problem), (second.to_string(), None));
    daemon.stop().await;
    let late = late.script.lock().unwrap();
    assert!(late.begun >= 2 && late.statements.is_empty(), "it was asked, and told nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_certificate_ended_is_left_for_another() {
    let Some(mut device) = Device::make() else { return };
    let ended = Broker::new();
    ended.plant.ended.store(true, Ordering::SeqCst);
    let (address, _serving) = serve(&ended, "127.0.0.1:0").await;
    let daemon = device.start(&ended, address).await;
    let status = device.status("in doubt", |status| status.problem.is_some()).await;
    let problem = status.problem.as_ref().unwrap();
    assert!(problem.contains("ended at 2026-01-01T00:00:00Z, and the clock of this device"), "{problem}");
    assert!(status.broker.asked && !status.broker.reachable, "{status:#?}");
    daemon.stop().await;

    let broker = ended.another();
    broker.plant.ended.store(false, Ordering::SeqCst);
    let (second, _serving_too) = serve(&broker, "127.0.0.1:0").await;
    device.others = vec![second];
    let daemon = device.start(&ended, address).await;
    let trusted = |status: &Status| status.state == Word::Trusted && status.broker.watching;
    let status = device.status("trusted", trusted).await;
    assert_eq!((status.broker.address, status.problem), (second.to_string(), None));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_a_broker_whose_certificate_ended_doubts_the_clock_once() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::new();
    broker.plant.ended.store(true, Ordering::SeqCst);
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let file = folder.path().join("attestor.toml");
    fs::write(folder.path().join("root.pem"), broker.plant.root_pem()).unwrap();
    let text = format!(
        "broker = \"{address}\"\nplant = \"plant.example\"\nplant_root = \"root.pem\"\ntpm = \"none\"\n\
         device = \"press-1\"\nstate = \"state\"\ndeliver = \"run\"\n"
    );
    fs::write(&file, text).unwrap();
    let report = serde_json::to_value(Report::of(&file).await).unwrap();
    let of = |check: &str| {
        let findings = report["findings"].as_array().unwrap().iter();
        findings.filter(|one| one["check"] == check).collect::<Vec<&Value>>()
    };
    let [clock] = of("clock")[..] else { panic!("{report:#}") };
    assert_eq!(clock["verdict"], "warning", "{clock}");
    assert!(
        clock["found"].as_str().unwrap().contains("after the end of the broker's certificate"),
        "{clock}"
    );
    let [found] = of("broker")[..] else { panic!("{report:#}") };
    assert_eq!(found["verdict"], "fault", "{found}");
    assert!(found["found"].as_str().unwrap().contains("ended at 2026-01-01T00:00:00Z"), "{found}");
}
