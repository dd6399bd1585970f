//! Keys of after a backup, once it is restored over a plant that was lost.

use super::*;
use crate::plant::PlantKeys;
use crate::record::plant::{PLANT, Plant as PlantRecord};
use crate::record::stored;
use crate::store::Txn;

/// The store forgets what the device did since `before`, and a new epoch begins.
async fn restore(bench: &Bench, before: Device) {
    let plant: PlantRecord = bench.read(PLANT.to_owned()).await;
    let plant = PlantRecord { epoch: plant.epoch + 1, ..plant };
    let txn =
        Txn::new().put(device_key(&meter()), stored(&before).unwrap()).put(PLANT, stored(&plant).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let keys = PlantKeys::open(bench.plant.store.as_ref(), &bench.plant.kek).await.unwrap();
    bench.plant.keys.store(std::sync::Arc::new(keys));
}

async fn record(bench: &Bench) -> Device {
    bench.read(device_key(&meter())).await
}

#[tokio::test]
async fn a_key_of_after_the_backup_is_believed_and_any_other_then_is_a_copy() {
    let (bench, mut device) = joined().await;
    let before = record(&bench).await;
    device.attest(&bench, &[]).await.unwrap();
    let mut thief = device.clone();
    device.attest(&bench, &[]).await.unwrap();
    restore(&bench, before).await;
    device.attest(&bench, &[]).await.unwrap();
    assert_eq!(generation(&bench).await, 4);
    device.attest(&bench, &[]).await.unwrap();
    let text = refused!(thief.attest(&bench, &[]).await, Quarantined);
    assert!(text.contains("its key number 2 was used after number 5"), "{text}");
}

#[tokio::test]
async fn a_fork_of_before_the_restore_is_no_later_key_once_somebody_came() {
    let (bench, mut device) = joined().await;
    let before = record(&bench).await;
    device.attest(&bench, &[]).await.unwrap();
    let mut thief = device.clone();
    for _ in 0..3 {
        device.attest(&bench, &[]).await.unwrap();
    }
    restore(&bench, before).await;
    thief.attest(&bench, &[]).await.unwrap();
    let text = refused!(device.attest(&bench, &[]).await, Quarantined);
    assert!(text.contains("its key number 5 was used after number 3"), "{text}");
    refused!(thief.attest(&bench, &[]).await, Quarantined);
}

#[tokio::test]
async fn a_line_of_keys_that_ended_is_not_current_again_beside_the_one_that_followed() {
    let (bench, device) = joined().await;
    let before = record(&bench).await;
    bench.clock.set(NOW.plus(60));
    let token = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    let mut anew = Copy::new();
    anew.enroll(&bench, "meter-4", &token).await.unwrap();
    let mut stolen = device;
    restore(&bench, before.clone()).await;
    let mut late = anew.clone();
    anew.attest(&bench, &[]).await.unwrap();
    let text = refused!(stolen.attest(&bench, &[]).await, NotAdmitted);
    assert!(text.starts_with("this key is not meter-4's;"), "{text}");

    restore(&bench, Device { counter: 9, ..before }).await;
    stolen.attest(&bench, &[]).await.unwrap();
    refused!(late.attest(&bench, &[]).await, Quarantined);
}

#[tokio::test]
async fn a_name_of_which_a_restore_left_the_stop_alone_is_free_for_a_new_token() {
    let (bench, mut device) = joined().await;
    let mut thief = device.clone();
    bench.clock.set(NOW.plus(60));
    let early = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    device.attest(&bench, &[]).await.unwrap();
    refused!(thief.attest(&bench, &[]).await, Quarantined);
    let tpm: Tpm = bench.read(ek_key(&no_ek(&meter()))).await;
    let left = Tpm { device: None, ..tpm };
    let txn = Txn::new().delete(device_key(&meter())).put(ek_key(&no_ek(&meter())), stored(&left).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    refused!(thief.enroll(&bench, "meter-4", &early).await, NotAdmitted);
    let retired =
        Txn::new().put(ek_key(&no_ek(&meter())), stored(&Tpm { retired: true, ..left.clone() }).unwrap());
    bench.plant.store.transact(retired).await.unwrap();
    let text = refused!(token_for(&bench, "yard", "meter-4", true).await, Conflict);
    assert!(text.contains("choose another name"), "{text}");
    let stopped = Txn::new().put(ek_key(&no_ek(&meter())), stored(&left).unwrap());
    bench.plant.store.transact(stopped).await.unwrap();
    bench.clock.set(NOW.plus(120));
    let token = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    let mut anew = Copy::new();
    anew.enroll(&bench, "meter-4", &token).await.unwrap();
    anew.attest(&bench, &[]).await.unwrap();
}
