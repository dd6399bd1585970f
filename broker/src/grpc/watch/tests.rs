//! "Attest now": a fleet takes turns under new golden values. Silence after "attest now": excused while devices are turned away, three times at most.

use policy::id::{DeviceName, SpiffeId};
use policy::zone::Role;
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::admin::tests::{Bench, NOW, observing};
use crate::authority;
use crate::record::device::{
    Attested, Decision, Device, HeldCertificates, attested_key, device_key, held_key,
};
use crate::record::zone::AuthorityState;
use crate::record::{fetch, stored};
use crate::store::Txn;

type Told = Receiver<Result<v1::WatchEvent, Status>>;

/// The stream of press-7, which an administrator asked to attest.
async fn asked() -> (TempDir, Arc<Plant>, Stream, Told) {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let press = bench.device("press-7", &["cell-3"]).await;
    bench.attest(&press, "boot-a", Decision::Trusted).await;
    bench.certificate(&press, "cell-3", 0x41).await;
    let mut device: Device = bench.read(device_key(&press)).await;
    device.asked = 1;
    bench.plant.store.transact(Txn::new().put(device_key(&press), stored(&device).unwrap())).await.unwrap();
    let (send, told) = mpsc::channel(64);
    let (zone, id) =
        SpiffeId::parse("spiffe://cell-3.plant.example/device/press-7", &"plant.example".parse().unwrap())
            .unwrap();
    let caller = authority::active(&bench.plant, &zone, Role::Caller).await.unwrap().record;
    let authority = Digest::of(&caller.certificate.0);
    let peer = DevicePeer { id, zone, serial: "41".repeat(16), authority, not_after: NOW.plus(3600) };
    let hub = Arc::new(Hub::default());
    let listener = hub.listen(&press);
    let (plant, dir) = bench.into_plant();
    let stream = Stream {
        plant: Arc::clone(&plant),
        hub,
        patience: Arc::default(),
        listener,
        _present: plant.attendance.enter(peer.id.device(), &plant.clock),
        peer,
        send,
        sequence: u64::MAX,
        content: None,
        turn: None,
        asked: None,
        excused: 0,
        wanted: None,
    };
    (dir, plant, stream, told)
}

async fn certificates(plant: &Plant) -> usize {
    let press: DeviceName = "press-7".parse().unwrap();
    let key = held_key(&press, &"cell-3".parse().unwrap());
    let held: Option<Held<HeldCertificates>> = fetch(plant.store.as_ref(), key).await.unwrap();
    held.map_or(0, |held| held.record.certificates.len())
}

/// The device is told to attest.
async fn told_to_attest(stream: &mut Stream, told: &mut Told) {
    assert!(stream.tell().await.is_ok(), "the stream goes on");
    let event = told.try_recv().unwrap().unwrap().event;
    assert!(matches!(event, Some(Event::AttestNow(_))), "{event:?}");
}

/// It leaves that unanswered until the alarm, while another device finds no place.
async fn turned_away_and_silent(plant: &Plant, stream: &mut Stream, told: &mut Told) {
    told_to_attest(stream, told).await;
    plant.turned_away.fetch_add(1, Ordering::Relaxed);
    stream.overdue().await;
}

#[tokio::test]
async fn a_stream_under_a_distrusted_authority_is_cut_and_the_device_asked_to_prove_itself() {
    let (_dir, plant, mut stream, mut told) = asked().await;
    stream.peer.authority = Digest([7; 32]);
    assert!(matches!(stream.tell().await, Err(End::Told)), "under no authority of the zone");
    told.try_recv().unwrap().unwrap();
    let zone = "cell-3".parse().unwrap();
    let held = authority::active(&plant, &zone, Role::Caller).await.unwrap();
    stream.peer.authority = Digest::of(&held.record.certificate.0);
    told_to_attest(&mut stream, &mut told).await;
    for (state, cut) in [(AuthorityState::Old, false), (AuthorityState::Distrusted, true)] {
        let txn = Txn::new().put(held.key.clone(), stored(&held.record.turned(state, NOW)).unwrap());
        plant.store.transact(trust::raise(&plant, txn, NOW).await.unwrap()).await.unwrap();
        assert_eq!(matches!(stream.tell().await, Err(End::Told)), cut, "{state:?}");
    }
    let event = told.try_recv().unwrap().unwrap().event;
    let Some(Event::AttestNow(asks)) = event else { panic!("{event:?}") };
    assert!(asks.reason.contains("distrusted"), "{}", asks.reason);
    assert_eq!(certificates(&plant).await, 1, "it is no refusal");
}

#[tokio::test]
async fn silence_costs_the_certificates() {
    let (_dir, plant, mut stream, mut told) = asked().await;
    told_to_attest(&mut stream, &mut told).await;
    stream.overdue().await;
    assert_eq!(certificates(&plant).await, 0);
    let press: DeviceName = "press-7".parse().unwrap();
    let attested: Option<Held<Attested>> = fetch(plant.store.as_ref(), attested_key(&press)).await.unwrap();
    assert_eq!(attested.unwrap().record.decision, Decision::Silent);
    assert!(matches!(stream.tell().await, Err(End::Told)));
}

#[tokio::test]
async fn whoever_connects_again_has_no_more_time_than_was_left() {
    let whole = Duration::from_secs(ANSWER);
    let press: DeviceName = "press-7".parse().unwrap();
    let (_dir, _plant, mut stream, mut told) = asked().await;
    told_to_attest(&mut stream, &mut told).await;
    let patience = Arc::clone(&stream.patience);
    let asked_now = stream.asked.as_mut().unwrap();
    // As if it had listened for 50 s.
    asked_now.alarm -= Duration::from_secs(50);
    let counter = asked_now.device.record.counter;
    drop(stream);
    let left = patience.left(&press, counter, whole);
    assert!(left <= Duration::from_secs(10), "{left:?}");
    assert_eq!(patience.left(&press, counter + 1, whole), whole, "it answered in between");

    let (_dir, plant, mut stream, mut told) = asked().await;
    stream.patience = Arc::clone(&patience);
    told_to_attest(&mut stream, &mut told).await;
    let alarm = stream.asked.as_ref().unwrap().alarm;
    assert!(alarm <= Instant::now() + left);
    stream.overdue().await;
    assert_eq!(certificates(&plant).await, 0);
    assert_eq!(patience.left(&press, counter, whole), whole, "it was judged");
}

#[tokio::test]
async fn silence_while_others_are_turned_away_is_excused_three_times() {
    let (_dir, plant, mut stream, mut told) = asked().await;
    for time in 1..=3 {
        turned_away_and_silent(&plant, &mut stream, &mut told).await;
        assert_eq!(certificates(&plant).await, 1, "excused {time}");
    }
    turned_away_and_silent(&plant, &mut stream, &mut told).await;
    assert_eq!(certificates(&plant).await, 0, "a flood does not keep a silent device trusted");
}

#[tokio::test]
async fn an_answer_makes_the_excuses_anew() {
    let (_dir, plant, mut stream, mut told) = asked().await;
    for _ in 0..3 {
        turned_away_and_silent(&plant, &mut stream, &mut told).await;
    }
    assert_eq!(stream.excused, 3);
    told_to_attest(&mut stream, &mut told).await;
    let key = device_key(&"press-7".parse().unwrap());
    let held: Held<Device> = fetch(plant.store.as_ref(), key.clone()).await.unwrap().unwrap();
    let answered = Device { counter: held.record.counter + 1, ..held.record };
    plant.store.transact(Txn::new().put(key, stored(&answered).unwrap())).await.unwrap();
    stream.tell().await.ok().unwrap();
    assert_eq!(stream.excused, 0);
}

#[tokio::test]
async fn a_fleet_takes_turns_under_new_golden_values_and_within_ten_seconds() {
    let (_dir, plant, mut stream, mut told) = asked().await;
    let press: DeviceName = "press-7".parse().unwrap();
    let device = reread(&plant, &press).await.record;
    assert!(stream.spread(&device).await.is_ok_and(|spread| spread < SPREAD_EACH), "one device is no fleet");

    let names = (0..5000).map(|number| format!("press-{number}").parse::<DeviceName>().unwrap());
    let fleet: Vec<Listener> = names.map(|name| stream.hub.listen(&name)).collect();
    assert_eq!(fleet.len(), 5000);
    let mut spreads = Vec::new();
    for _ in 0..64 {
        spreads.push(stream.spread(&device).await.ok().unwrap());
    }
    assert!(spreads.iter().all(|spread| *spread < MOST_SPREAD), "{spreads:?}");
    assert!(spreads.iter().max().unwrap().saturating_sub(*spreads.iter().min().unwrap()) > SPREAD_EACH);

    stream.turn = Some(Instant::now() + MOST_SPREAD);
    stream.ask(&reread(&plant, &press).await, Some(Ask::Golden)).await.ok().unwrap();
    assert!(told.try_recv().is_err(), "it is not this device's turn");
    stream.turn = Some(Instant::now());
    stream.ask(&reread(&plant, &press).await, Some(Ask::Golden)).await.ok().unwrap();
    assert!(told.try_recv().is_ok());
}

#[tokio::test]
async fn an_administrator_waits_for_no_turn() {
    let (_dir, _plant, mut stream, mut told) = asked().await;
    stream.turn = Some(Instant::now() + MOST_SPREAD);
    told_to_attest(&mut stream, &mut told).await;
}

async fn reread(plant: &Plant, device: &DeviceName) -> Held<Device> {
    fetch(plant.store.as_ref(), device_key(device)).await.unwrap().unwrap()
}
