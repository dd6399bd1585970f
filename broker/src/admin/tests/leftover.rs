//! Zones that are made under the name of one that was removed.

use super::day_two::{ask, bench, request, zone};
use super::{Bench, observing, refused};
use crate::admin::device::existing_zones;
use crate::admin::device::retire::retire;
use crate::admin::device::stop;
use crate::admin::{Act, leftover, token, zone as zones};
use crate::record::device::{Admission, Device, TOKEN, Token, device_key};
use crate::record::moving::{PlannedMove, move_key};
use crate::record::{Held, fetch, list};
use crate::store::{Txn, TxnError};

async fn tokens(bench: &Bench) -> Vec<Held<Token>> {
    list(bench.plant.store.as_ref(), TOKEN).await.unwrap()
}

async fn token_for(bench: &Bench, name: &str) {
    let request =
        token::Request { zones: vec![zone(name)], ek: None, device: None, lifetime: 0, without_tpm: false };
    token::create(&bench.plant, &bench.actor(Act::CreateToken).await, &request).await.unwrap();
}

#[tokio::test]
async fn tokens_and_planned_moves_into_a_removed_zone_end_with_the_next_of_its_name() {
    let (bench, press) = bench().await;
    token_for(&bench, "cell-4").await;
    token_for(&bench, "cell-3").await;
    ask(&bench, &request(&press, "cell-4", Some("sat,sun 22:00-04:00"))).await.unwrap();
    bench.without_zone("cell-4").await;
    assert_eq!(tokens(&bench).await.len(), 2, "they are of no use and expire by themselves");
    let actor = bench.actor(Act::CreateZone).await;
    zones::create(&bench.plant, &actor, &observing("cell-4"), true).await.unwrap();
    assert_eq!(tokens(&bench).await.len(), 2, "a dry run ends nothing");
    zones::create(&bench.plant, &actor, &observing("cell-4"), false).await.unwrap();
    let left = tokens(&bench).await;
    assert_eq!((left.len(), &left[0].record.zones[..]), (1, &[zone("cell-3")][..]));
    let planned = fetch::<PlannedMove>(bench.plant.store.as_ref(), move_key(&press)).await.unwrap();
    assert!(planned.is_none(), "it was planned into another zone");
    let told = bench.events(None, 1).await.remove(0).text;
    assert!(told.contains("2 tokens and planned moves into an earlier one of its name end"), "{told}");
}

#[tokio::test]
async fn no_zone_is_made_around_a_device_that_an_earlier_one_of_its_name_left() {
    let bench = Bench::new().await;
    // As if it had come in at the moment of the removal.
    bench.device("late", &["cell-4"]).await;
    let actor = bench.actor(Act::CreateZone).await;
    let text = refused!(zones::create(&bench.plant, &actor, &observing("cell-4"), false).await, Conflict);
    assert!(text.starts_with("late was put into an earlier zone cell-4 when that was removed"), "{text}");
}

#[tokio::test]
async fn a_retired_device_does_not_come_back_into_a_later_zone_of_the_name() {
    let (bench, press) = bench().await;
    let actor = bench.actor(Act::RetireDevice).await;
    retire(&bench.plant, &actor, &press, "scrapped", false).await.unwrap();
    bench.without_zone("cell-3").await;
    bench.zone(&observing("cell-3")).await;
    let device: Device = bench.read(device_key(&press)).await;
    assert!(device.zones.is_empty(), "{:?}", device.zones);
}

#[tokio::test]
async fn a_readmitted_device_is_not_in_zones_that_were_removed_meanwhile() {
    let (bench, press) = bench().await;
    let actor = bench.actor(Act::RetireDevice).await;
    retire(&bench.plant, &actor, &press, "scrapped", false).await.unwrap();
    bench.without_zone("cell-3").await;
    let actor = bench.actor(Act::ReadmitDevice).await;
    let next = stop::readmit(&bench.plant, &actor, (&press, None), "repaired").await.unwrap();
    assert_eq!(next.as_deref(), Some("touchstone device admit press-7 --zone ZONE"));
    let device: Device = bench.read(device_key(&press)).await;
    assert!(device.zones.is_empty() && device.admission == Admission::Admitted, "{device:?}");
    let told = bench.events(Some(&press), 1).await.remove(0).text;
    assert_eq!(told, "repaired; not in cell-3, removed meanwhile");
    bench.zone(&observing("cell-3")).await;
}

#[tokio::test]
async fn what_was_decided_for_a_zone_does_not_hold_of_the_next_of_its_name() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-4")).await;
    let (_, decided) = existing_zones(&bench.plant, &[zone("cell-4")], Txn::new()).await.unwrap();
    bench.without_zone("cell-4").await;
    bench.zone(&observing("cell-4")).await;
    let late = bench.plant.store.transact(decided.put("test/late", b"in".to_vec())).await;
    assert!(matches!(late, Err(TxnError::Conflict { .. })), "{late:?}");
}

#[tokio::test]
async fn one_device_and_one_token_of_two_zones_that_come_back_at_once_leave_both() {
    let (bench, press) = bench().await;
    let both = [zone("cell-3"), zone("cell-4")];
    let mut device: Device = bench.read(device_key(&press)).await;
    device.zones = both.to_vec();
    let txn = Txn::new().put(device_key(&press), crate::record::stored(&device).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let request =
        token::Request { zones: both.to_vec(), ek: None, device: None, lifetime: 0, without_tpm: false };
    token::create(&bench.plant, &bench.actor(Act::CreateToken).await, &request).await.unwrap();
    let actor = bench.actor(Act::RetireDevice).await;
    retire(&bench.plant, &actor, &press, "scrapped", false).await.unwrap();
    for name in &both {
        bench.without_zone(name.as_str()).await;
    }
    let (ended, txn) = leftover::ended(&bench.plant, &both.into(), Txn::new()).await.unwrap();
    assert_eq!(ended, 1, "the token");
    bench.plant.store.transact(txn).await.unwrap();
    let device: Device = bench.read(device_key(&press)).await;
    assert!(device.zones.is_empty() && tokens(&bench).await.is_empty(), "{:?}", device.zones);
}
