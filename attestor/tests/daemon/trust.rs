//! Trust sets that a device must not take, and certificates that it keeps until there are others.

use attestor::status::{Status, Word};
use proto::v1::watch_event::Event;

use crate::broker::Broker;
use crate::server::serve;
use crate::world::{Device, until};

const INBOUND: &str = "services/opcua/inbound.pem";

/// The device once it complains in `words`.
async fn complaint(device: &Device, words: &str) -> Status {
    let complains = |status: &Status| status.problem.as_ref().is_some_and(|problem| problem.contains(words));
    device.status(words, complains).await
}

/// Waits until the device watches under the certificates of one more answer, and has nothing to complain of.
async fn well(device: &Device, broker: &Broker, watchers: &mut usize) {
    *watchers += 1;
    until("watching anew", || broker.script.lock().unwrap().watchers == *watchers).await;
    device.status("well", |status| status.problem.is_none() && status.broker.watching).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trust_set_that_is_older_or_not_the_plants_is_refused_and_said_whichever_way_it_comes() {
    let Some(device) = Device::make() else { return };
    let (broker, other) = (Broker::new(), Broker::new());
    let answer_with = |set| broker.script.lock().unwrap().trust = Some(set);
    answer_with(broker.plant.trust(8, false));
    let (address, serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    device.status("trusted", |status| status.state == Word::Trusted).await;
    let mut watchers = 0;
    well(&device, &broker, &mut watchers).await;
    let held = device.delivered(INBOUND);

    let mut changed = broker.plant.trust(9, true);
    changed.trust_set.extend([0x48, 1]);
    // The rest of an answer counts where the set that is held is merely newer.
    let bad = [
        ("has sequence 7, and 8 was seen before", broker.plant.trust(7, true), true),
        ("not signed by the pinned plant root", other.plant.trust(9, true), false),
        ("its signature does not hold", changed, false),
    ];
    for (words, set, adopted) in bad {
        broker.say(Event::Trust(set.clone()));
        complaint(&device, words).await;
        broker.demand();
        well(&device, &broker, &mut watchers).await;
        answer_with(set);
        broker.demand();
        let status = complaint(&device, words).await;
        assert_eq!((status.trust_sequence, status.certificates.len()), (8, 2));
        assert_eq!(device.delivered(INBOUND), held, "{words}");
        answer_with(broker.plant.trust(8, false));
        if adopted {
            watchers += 1;
            until("watching anew", || broker.script.lock().unwrap().watchers == watchers).await;
            broker.demand();
        }
        well(&device, &broker, &mut watchers).await;
    }
    daemon.stop().await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuing_key_that_was_replaced_signs_nothing_and_is_no_broker() {
    let Some(device) = Device::make() else { return };
    let broker = Broker::new();
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    device.status("trusted", |status| status.state == Word::Trusted).await;
    well(&device, &broker, &mut 0).await;
    broker.say(Event::Trust(broker.plant.trust_by_next(9, false)));
    device.status("told by the next key", |status| status.trust_sequence == 9).await;
    let held = device.delivered(INBOUND);
    broker.say(Event::Trust(broker.plant.trust(1 << 50, true)));
    complaint(&device, "signed by issuing key 1 of the plant, and 2 has taken its place").await;
    assert_eq!(device.delivered(INBOUND), held);
    // The port of this broker is certified by the first one.
    broker.demand();
    let words = "certified by issuing key 1 of the plant, and 2 has taken its place";
    let status = complaint(&device, words).await;
    assert_eq!((status.trust_sequence, status.state), (9, Word::Holding));
    daemon.stop().await;
    let daemon = device.start(&broker, address).await;
    complaint(&device, words).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_are_worth_nothing_stay_until_there_are_others() {
    let Some(device) = Device::make() else { return };
    let broker = Broker::new();
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    device.status("trusted", |status| status.state == Word::Trusted).await;
    until("watching", || broker.script.lock().unwrap().watchers == 1).await;
    let files = ["caller.pem", "listener.pem", "services/hmi/server.pem"];
    let before = files.map(|file| device.delivered(file));
    broker.script.lock().unwrap().distrusted = true;
    broker.demand();
    // There is no moment at which a file is not there.
    until("replaced", || files.iter().zip(&before).all(|(file, old)| device.delivered(file) != *old)).await;
    let status = device.status("trusted", |status| status.certificates.len() == 2).await;
    assert_eq!(status.state, Word::Trusted);
    daemon.stop().await;
}
