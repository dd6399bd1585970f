//! What a device lives through.

use std::sync::atomic::Ordering;

use attestor::ports::{Clock, System};
use attestor::status::Word;
use attestor::testing::missing_tool;
use attestor::tss2_key;
use proto::v1;
use proto::v1::watch_event::Event;

use crate::broker::Broker;
use crate::server::serve;
use crate::world::{Device, until};

fn is(word: Word) -> impl Fn(&attestor::status::Status) -> bool {
    move |status| status.state == word
}

fn denial(reason: v1::DenialReason) -> v1::Denial {
    let finding = v1::Finding { pcr: Some(4), subject: "kernel".into(), ..v1::Finding::default() };
    let message = "the test says no".into();
    v1::Denial { reason: reason.into(), message, findings: vec![finding], ..v1::Denial::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_enrolls_is_delivered_watches_answers_and_loses_trust() {
    let Some(device) = Device::make() else { return };
    let broker = Broker::new();
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    let status = device.status("trusted", |status| status.state == Word::Trusted).await;
    assert_eq!(status.certificates.len(), 2);
    assert!(status.broker.reachable);

    let purposes: Vec<_> =
        broker.script.lock().unwrap().statements.iter().map(v1::Statement::purpose).collect();
    assert_eq!(purposes, [v1::Purpose::Enroll, v1::Purpose::Renew], "a place first, then its keys");
    assert!(device.delivered("caller.pem").starts_with("-----BEGIN CERTIFICATE-----"));
    tss2_key::parse(&device.delivered("listener.key")).unwrap();
    let open = device.delivered("services/opcua/inbound.pem");

    // The handshake of Watch is signed in the TPM.
    until("watching", || broker.script.lock().unwrap().watchers == 1).await;
    broker.demand();
    let asked = || broker.script.lock().unwrap().statements.last().map(v1::Statement::purpose);
    until("proven on demand", || asked() == Some(v1::Purpose::OnDemand)).await;
    // The broker revokes superseded certificates: a stream under one would be told that trust is lost.
    until("watching under the new certificate", || broker.script.lock().unwrap().watchers == 2).await;

    broker.say(Event::Trust(broker.plant.trust(8, false)));
    device.status("told of the new trust set", |status| status.trust_sequence == 8).await;
    until("delivered", || device.delivered("services/opcua/inbound.pem") != open).await;
    broker.say(Event::Trust(broker.plant.trust(6, true)));
    let status = device.status("refusing the old one", |status| status.problem.is_some()).await;
    assert!(status.problem.unwrap().contains("sequence 6"));
    assert_eq!(status.trust_sequence, 8);

    let reason = v1::DenialReason::Quarantined;
    broker.script.lock().unwrap().denial = Some(denial(reason));
    broker.say(Event::TrustLost(v1::TrustLost { denial: Some(denial(reason)) }));
    let status = device.status("quarantined", is(Word::Quarantined)).await;
    assert_eq!(status.denial.unwrap().reason, "QUARANTINED");
    assert!(status.certificates.is_empty());

    daemon.stop().await;
    device.status("stopped", |status| status.stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conduit_closes_on_time_without_the_broker() {
    let Some(device) = Device::make() else { return };
    let broker = Broker::new();
    let (address, serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    device.status("trusted", is(Word::Trusted)).await;
    until("watching", || broker.script.lock().unwrap().watchers == 1).await;
    broker.say(Event::Trust(broker.plant.trust(8, false)));
    device.status("closed", |status| status.trust_sequence == 8).await;
    let closed = || device.delivered("services/opcua/inbound.pem");
    let nobody = closed();
    let end = System::default().now().plus(3).0;
    broker.say(Event::Trust(broker.plant.trust_until(9, end)));
    until("open", || closed() != nobody).await;
    serving.abort();
    assert!(serving.await.is_err());
    until("closed again", || closed() == nobody).await;
    assert!(System::default().now().0 >= end, "it closed before its time");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_lost_trust_still_closes_its_conduits_on_time() {
    let Some(device) = Device::make() else { return };
    let broker = Broker::new();
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    device.status("trusted", is(Word::Trusted)).await;
    until("watching", || broker.script.lock().unwrap().watchers == 1).await;
    let listener = device.delivered("listener.pem");
    let open = device.delivered("services/opcua/inbound.pem");
    let end = System::default().now().plus(8);
    broker.say(Event::Trust(broker.plant.trust_until(8, end.0)));
    device.status("told when it closes", |status| status.trust_sequence == 8).await;
    let reason = v1::DenialReason::Quarantined;
    broker.script.lock().unwrap().denial = Some(denial(reason));
    broker.say(Event::TrustLost(v1::TrustLost { denial: Some(denial(reason)) }));
    let status = device.status("quarantined", is(Word::Quarantined)).await;
    assert!(
        System::default().now() < end,
        "too slow a machine to see the conduit close after trust was lost"
    );
    assert!(status.certificates.is_empty() && status.software_keys.is_empty());
    until("closed", || device.delivered("services/opcua/inbound.pem") != open).await;
    assert!(System::default().now() >= end, "it closed before its time");
    assert_eq!(device.delivered("listener.pem"), listener, "software keeps what it was given");
    daemon.stop().await;
    // What was revoked is given to nobody who does not have it, as after a reboot.
    std::fs::remove_dir_all(device.path("run")).unwrap();
    let daemon = device.start(&broker, address).await;
    device.status("quarantined still", |status| status.state == Word::Quarantined && !status.stopped).await;
    assert!(!device.path("run/current").exists());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_without_broker_holds_what_it_has_and_its_return_renews() {
    let Some(device) = Device::make() else { return };
    let broker = Broker::new();
    let (address, serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    device.status("trusted", is(Word::Trusted)).await;
    daemon.stop().await;
    let before = device.delivered("caller.pem");
    serving.abort();
    assert!(serving.await.is_err());

    let daemon = device.start(&broker, address).await;
    let status = device.status("holding", is(Word::Holding)).await;
    assert!(!status.broker.reachable && status.problem.unwrap().contains("does not answer"));
    assert_eq!(status.certificates.len(), 2);
    assert_eq!(device.delivered("caller.pem"), before);

    let (_, _serving) = serve(&broker, &address.to_string()).await;
    device.status("trusted again", is(Word::Trusted)).await;
    assert_eq!(broker.script.lock().unwrap().statements.last().unwrap().purpose(), v1::Purpose::Renew);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_told_with_its_findings_and_ends_when_the_device_is_good_again() {
    let Some(device) = Device::make() else { return };
    let broker = Broker::new();
    let manifest_digest = vec![0xab; 32];
    let wanted = v1::WantedRelease { product: "edge".into(), version: "1.4".into(), manifest_digest };
    let refusal = v1::Denial { wanted: Some(wanted), ..denial(v1::DenialReason::ReferenceMismatch) };
    broker.script.lock().unwrap().denial = Some(refusal);
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    let status = device.status("refused", is(Word::Refused)).await;
    let refusal = status.denial.unwrap();
    assert_eq!((refusal.findings[0].pcr, refusal.findings[0].subject.as_str()), (Some(4), "kernel"));
    assert!(refusal.remedy.starts_with("install edge@1.4, which is wanted of it; or "), "{}", refusal.remedy);
    assert!(refusal.remedy.contains("approved firmware"));
    assert_eq!(status.wanted.map(|wanted| wanted.to_string()).as_deref(), Some("edge@1.4"));
    let told = std::fs::read_to_string(device.path("run/wanted.json")).unwrap();
    assert!(told.contains("1.4"), "its updater may mend it: {told}");

    broker.script.lock().unwrap().denial = None;
    let status = device.status("trusted", is(Word::Trusted)).await;
    assert_eq!((status.denial, status.wanted), (None, None), "nothing is wanted any more");

    broker.script.lock().unwrap().forgotten = true;
    daemon.stop().await;
    let daemon = device.start(&broker, address).await;
    let enrolled = || {
        let script = broker.script.lock().unwrap();
        script.statements.last().map(v1::Statement::purpose) == Some(v1::Purpose::Enroll)
    };
    until("enrolled again", enrolled).await;
    device.status("trusted", is(Word::Trusted)).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_keys_are_gone_is_not_trusted_and_closes_its_conduits_on_time() {
    let Some(device) = Device::make() else { return };
    if let Some(tool) = missing_tool(&["tpm2_clear"]) {
        eprintln!("skipped: {tool} is not installed (package tpm2-tools)");
        return;
    }
    let broker = Broker::new();
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    device.status("trusted", is(Word::Trusted)).await;
    until("watching", || broker.script.lock().unwrap().watchers == 1).await;
    let inbound = || device.delivered("services/opcua/inbound.pem");
    broker.say(Event::Trust(broker.plant.trust(8, false)));
    device.status("closed", |status| status.trust_sequence == 8).await;
    let (nobody, files) = (inbound(), ["listener.pem", "listener.key", "services/hmi/server.key"]);
    let kept = files.map(|file| device.delivered(file));
    let end = System::default().now().plus(8);
    broker.say(Event::Trust(broker.plant.trust_until(9, end.0)));
    until("open", || inbound() != nobody || System::default().now() >= end).await;
    broker.script.lock().unwrap().denial = Some(denial(v1::DenialReason::UnsupportedVersion));
    device.clear_tpm();
    broker.demand();
    let status = device.status("without certificates", |status| status.certificates.is_empty()).await;
    assert_eq!(status.state, Word::Refused, "{status:#?}");
    until("closed again", || inbound() == nobody).await;
    assert!(System::default().now() >= end, "it closed before its time");
    assert_eq!(files.map(|file| device.delivered(file)), kept, "software keeps what it was given");
    broker.script.lock().unwrap().denial = None;
    device.status("trusted again", is(Word::Trusted)).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_cleared_tpm_the_device_makes_new_keys_under_its_old_name() {
    let Some(device) = Device::make() else { return };
    if let Some(tool) = missing_tool(&["tpm2_clear"]) {
        eprintln!("skipped: {tool} is not installed (package tpm2-tools)");
        return;
    }
    let broker = Broker::new();
    // Not due for years: that the keys are dead shows by itself.
    broker.plant.fresh.store(true, Ordering::SeqCst);
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    device.status("trusted", is(Word::Trusted)).await;
    daemon.stop().await;
    let before = device.delivered("caller.key");

    device.clear_tpm();
    let daemon = device.start(&broker, address).await;
    device.status("running", |status| !status.stopped).await;
    until("delivered new keys", || device.delivered("caller.key") != before).await;
    device.status("trusted", is(Word::Trusted)).await;
    let statements = broker.script.lock().unwrap().statements.clone();
    assert!(
        statements.iter().skip(1).all(|one| one.purpose() != v1::Purpose::Enroll),
        "the AK outlives TPM2_Clear"
    );

    // Beneath the daemon it shows when it next watches.
    device.status("watching", |status| status.broker.watching).await;
    let before = device.delivered("caller.key");
    device.clear_tpm();
    broker.hang_up();
    until("delivered new keys", || device.delivered("caller.key") != before).await;
    device.status("trusted again", is(Word::Trusted)).await;
    daemon.stop().await;
}
