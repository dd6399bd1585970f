use std::sync::atomic::Ordering;

use policy::id::DeviceName;
use policy::zone::{OnSilence, Timing, Zone};

use super::Ears;
use crate::admin::device::view::{self, State};
use crate::admin::device::why::why;
use crate::admin::reach::Scope;
use crate::admin::tests::{Bench, NOW, observing};
use crate::admin::{Act, zone as zones};
use crate::metrics::page::Page;
use crate::record::device::{
    Attested, Decision, HeldCertificates, Quarantine, Tpm, attested_key, ek_key, held_key,
};
use crate::record::leader::TurnedAway;
use crate::record::{fetch, stored};
use crate::store::Txn;

/// Seconds between two looks.
const PACE: u64 = 15;
/// `silent_after` of the zones here.
const LIMIT: u64 = 180;

fn zone(name: &str, on_silence: OnSilence) -> Zone {
    Zone { timing: Timing::new(60, 900, None).unwrap(), on_silence, ..observing(name) }
}

/// A plant that is looked at.
struct Heard {
    bench: Bench,
    ears: Ears,
    now: u64,
}

impl Heard {
    /// Zone cell-3 with press-7 and press-8.
    async fn new(on_silence: OnSilence) -> Self {
        let bench = Bench::new().await;
        bench.zone(&zone("cell-3", on_silence)).await;
        for (serial, name) in [(7, "press-7"), (8, "press-8")] {
            let device = bench.device(name, &["cell-3"]).await;
            bench.attest(&device, "boot-a", Decision::Trusted).await;
            bench.certificate(&device, "cell-3", serial).await;
        }
        let ears = Ears::new(&bench.plant);
        Self { bench, ears, now: NOW.0 }
    }

    /// Lets so many seconds pass, while those that are named prove themselves every minute.
    async fn pass(&mut self, seconds: u64, heard: &[&str]) {
        for _ in 0..seconds / PACE {
            self.now += PACE;
            self.bench.clock.set(policy::time::UnixTime(self.now));
            if (self.now - NOW.0).is_multiple_of(60) {
                self.hear(heard).await;
            }
            self.look(PACE).await;
        }
    }

    async fn hear(&self, names: &[&str]) {
        for name in names {
            self.bench.attest(&name.parse().unwrap(), "boot-a", Decision::Trusted).await;
        }
    }

    async fn look(&mut self, passed: u64) {
        self.ears.look(&self.bench.plant, passed).await.unwrap();
    }

    /// What the audit chain says of silent devices, oldest first.
    async fn told(&self) -> Vec<String> {
        let events = self.bench.events(None, 1_000).await;
        let events = events.iter().rev().filter(|event| event.action == "device.silent");
        events.map(|event| format!("{}: {}", event.subject, event.text)).collect()
    }

    async fn certificates(&self, name: &str, zone: &str) -> usize {
        let key = held_key(&name.parse().unwrap(), &zone.parse().unwrap());
        let held = fetch::<HeldCertificates>(self.bench.plant.store.as_ref(), key).await.unwrap();
        held.map_or(0, |held| held.record.certificates.len())
    }

    async fn decision(&self, name: &str) -> Decision {
        self.bench.read::<Attested>(attested_key(&name.parse().unwrap())).await.decision
    }

    /// State, and what is said about it.
    async fn why(&self, name: &str) -> (State, String) {
        let name: DeviceName = name.parse().unwrap();
        let view = view::device(&self.bench.plant, &Scope::Plant, &name).await.unwrap();
        let seen = view::Seen::Device(Box::new(view));
        (seen.state(), why(&seen, &[], self.bench.plant.now()).sentences.join("; "))
    }

    async fn set(&self, settings: zones::Settings) {
        let actor = self.bench.actor(Act::SetZone).await;
        zones::set(&self.bench.plant, &actor, &"cell-3".parse().unwrap(), &settings, false).await.unwrap();
    }
}

#[tokio::test]
async fn a_silence_is_told_once_and_the_next_one_again() {
    let mut heard = Heard::new(OnSilence::Alert).await;
    heard.pass(LIMIT, &["press-8"]).await;
    assert!(heard.told().await.is_empty(), "its time is not over");
    heard.pass(600, &["press-8"]).await;
    let told = heard.told().await;
    assert_eq!(
        told,
        ["press-7: zone cell-3 did not hear it for 240 s, and heard others; its certificates hold"]
    );
    assert_eq!(
        (heard.certificates("press-7", "cell-3").await, heard.decision("press-7").await),
        (1, Decision::Trusted)
    );
    let (state, why) = heard.why("press-7").await;
    assert!(state == State::Silent && why.contains("zone cell-3 heard others meanwhile"), "{why}");

    heard.ears = Ears::new(&heard.bench.plant);
    heard.pass(600, &["press-8"]).await;
    assert_eq!(heard.told().await.len(), 1, "a broker that starts tells no silence again");

    heard.pass(60, &["press-7", "press-8"]).await;
    assert_eq!(heard.why("press-7").await.0, State::Trusted, "it ends by the next proof");
    heard.pass(600, &["press-8"]).await;
    assert_eq!(heard.told().await.len(), 2);
    let page = Page::new(heard.bench.into_plant().0).text().await;
    assert!(page.contains("touchstone_silences_total{zone=\"cell-3\",on_silence=\"alert\"} 2"), "{page}");
}

#[tokio::test]
async fn a_zone_that_refuses_takes_what_a_silent_device_holds_until_it_proves_itself() {
    let mut heard = Heard::new(OnSilence::Refuse).await;
    let head = crate::trust::view(&heard.bench.plant).await.unwrap().sequence(1);
    heard.pass(600, &["press-8"]).await;
    let told = heard.told().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("trusted again as soon as it proves itself; 1 certificates revoked"),
        "{told:?}"
    );
    assert_eq!(
        (heard.certificates("press-7", "cell-3").await, heard.decision("press-7").await),
        (0, Decision::Silent)
    );
    assert_eq!(heard.certificates("press-8", "cell-3").await, 1);
    assert!(crate::trust::view(&heard.bench.plant).await.unwrap().sequence(1) > head, "peers are told");
    let (state, why) = heard.why("press-7").await;
    assert!(state == State::Silent && why.contains("zone cell-3 did not hear it for 240 s"), "{why}");
    heard.pass(60, &["press-7", "press-8"]).await;
    assert_eq!(heard.why("press-7").await.0, State::Trusted);
}

#[tokio::test]
async fn a_zone_of_which_nobody_is_heard_loses_nobody() {
    let mut heard = Heard::new(OnSilence::Refuse).await;
    heard.pass(300, &["press-7", "press-8"]).await;
    heard.pass(900, &[]).await;
    assert!(heard.told().await.is_empty());
    heard.pass(120, &["press-8"]).await;
    assert!(heard.told().await.is_empty(), "who comes back first makes nobody silent");
    heard.pass(300, &["press-8"]).await;
    assert_eq!(heard.told().await.len(), 1, "who does not come back is");
}

#[tokio::test]
async fn a_broker_that_did_not_listen_knows_of_no_silence() {
    let mut heard = Heard::new(OnSilence::Refuse).await;
    heard.pass(120, &["press-8"]).await;
    // It was away for ten minutes.
    heard.now += 600;
    heard.bench.clock.set(policy::time::UnixTime(heard.now));
    heard.ears = Ears::new(&heard.bench.plant);
    heard.hear(&["press-8"]).await;
    heard.pass(LIMIT, &["press-8"]).await;
    assert!(heard.told().await.is_empty(), "it started");
    // Its clock is set ten minutes ahead.
    heard.now += 600;
    heard.bench.clock.set(policy::time::UnixTime(heard.now));
    heard.hear(&["press-8"]).await;
    heard.look(PACE).await;
    heard.pass(120, &["press-8"]).await;
    assert!(heard.told().await.is_empty(), "its clock was set");
    // It has no places.
    heard.bench.plant.turned_away.fetch_add(1, Ordering::Relaxed);
    heard.pass(LIMIT, &["press-8"]).await;
    assert!(heard.told().await.is_empty(), "whoever was turned away is not silent");
    let elsewhere = TurnedAway { broker: "another".to_owned(), count: 1 };
    super::put(&heard.bench.plant, elsewhere).await.unwrap();
    heard.pass(LIMIT, &["press-8"]).await;
    assert!(heard.told().await.is_empty(), "nor whoever another broker turned away");
    heard.pass(120, &["press-8"]).await;
    assert_eq!(heard.told().await.len(), 1);
}

#[tokio::test]
async fn another_choice_and_other_numbers_hold_from_then_on() {
    let mut heard = Heard::new(OnSilence::Alert).await;
    heard.pass(300, &["press-8"]).await;
    assert_eq!((heard.told().await.len(), heard.certificates("press-7", "cell-3").await), (1, 1));
    heard.set(zones::Settings { on_silence: Some(OnSilence::Refuse), ..Default::default() }).await;
    heard.pass(PACE, &["press-8"]).await;
    assert_eq!((heard.told().await.len(), heard.certificates("press-7", "cell-3").await), (2, 0));

    let mut heard = Heard::new(OnSilence::Refuse).await;
    heard.pass(120, &["press-8"]).await;
    let key = crate::record::zone::zone_key(&"cell-3".parse().unwrap());
    let faster = Zone { timing: Timing::new(30, 900, None).unwrap(), ..heard.bench.read(key.clone()).await };
    let raised = crate::trust::raise(&heard.bench.plant, Txn::new().put(key, stored(&faster).unwrap()), NOW);
    heard.bench.plant.store.transact(raised.await.unwrap()).await.unwrap();
    heard.pass(120, &["press-8"]).await;
    assert!(heard.told().await.is_empty(), "it comes by the former interval once more");
    heard.pass(120, &["press-8"]).await;
    assert_eq!(heard.told().await.len(), 1);
}

#[tokio::test]
async fn who_was_stopped_or_holds_nothing_is_not_missed() {
    let mut heard = Heard::new(OnSilence::Refuse).await;
    let bench = &heard.bench;
    let new = bench.device("new", &["cell-3"]).await;
    bench.attest(&new, "boot-a", Decision::Refused).await;
    let key = ek_key(&policy::digest::Digest::of(b"press-7"));
    let (at, by, reason) = (NOW, "ada".to_owned(), "looked at".to_owned());
    let stopped = Tpm {
        quarantine: Some(Quarantine { at, by, reason, beneath: None }),
        ..bench.read(key.clone()).await
    };
    bench.plant.store.transact(Txn::new().put(key, stored(&stopped).unwrap())).await.unwrap();
    heard.pass(600, &["press-8"]).await;
    assert!(heard.told().await.is_empty());
}

#[tokio::test]
async fn a_gateway_that_is_silent_loses_what_it_holds_in_each_zone_that_refuses() {
    let mut heard = Heard::new(OnSilence::Refuse).await;
    let bench = &heard.bench;
    bench.zone(&zone("it", OnSilence::Refuse)).await;
    bench.zone(&zone("lab", OnSilence::Alert)).await;
    let all = ["cell-3", "it", "lab"];
    let gate = bench.device("gate", &all).await;
    bench.attest(&gate, "boot-a", Decision::Trusted).await;
    let other = bench.device("server", &["it", "lab"]).await;
    bench.attest(&other, "boot-a", Decision::Trusted).await;
    for (serial, zone) in (20..).zip(all) {
        bench.certificate(&gate, zone, serial).await;
    }
    heard.pass(300, &["press-7", "press-8", "server"]).await;
    let left = [
        heard.certificates("gate", "cell-3").await,
        heard.certificates("gate", "it").await,
        heard.certificates("gate", "lab").await,
    ];
    assert_eq!((left, heard.told().await.len()), ([0, 0, 1], 3));
    assert_eq!(heard.decision("gate").await, Decision::Silent);
}
