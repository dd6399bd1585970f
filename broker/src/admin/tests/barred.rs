//! What was stopped since a backup stays stopped when it is restored.

use std::collections::BTreeMap;

use policy::digest::Digest;
use policy::id::DeviceName;

use super::backup::{furnished, put_back, save};
use super::{Bench, refused};
use crate::admin::Act;
use crate::admin::device::import::{Entry, import};
use crate::admin::device::replace::{Replaced, replace};
use crate::admin::device::retire::retire;
use crate::admin::device::stop;
use crate::record::device::{
    Admission, AkOwner, Device, HeldCertificates, Tpm, ak_key, device_key, ek_key, held_key, other_ek_key,
};
use crate::record::stored;
use crate::session::Refusal;
use crate::store::Txn;

fn press() -> DeviceName {
    "press-7".parse().unwrap()
}

fn former() -> Digest {
    Digest::of(b"press-7")
}

async fn another_board(bench: &Bench) -> Result<Replaced, Refusal> {
    let actor = bench.actor(Act::ReplaceDevice).await;
    replace(&bench.plant, &actor, (&press(), &Digest([9; 32])), "board", false).await
}

#[tokio::test]
async fn a_tpm_that_was_replaced_does_not_come_back_and_the_new_one_is_given_again() {
    let bench = furnished().await;
    let file = save(&bench).await;
    another_board(&bench).await.unwrap();
    let notes = put_back(&bench, &file, &[]).await.unwrap().notes;
    let note = notes.iter().find(|note| note.starts_with("TPMs that were stopped")).unwrap();
    assert!(note.contains(&former().to_string()) && note.contains("touchstone device replace"), "{note}");
    let tpm: Tpm = bench.read(ek_key(&former())).await;
    assert!(tpm.retired && tpm.device == Some(press()), "{tpm:?}");
    let held = held_key(&press(), &"cell-3".parse().unwrap());
    let held: HeldCertificates = bench.read(held).await;
    assert!(held.certificates.is_empty(), "what was revoked is not held again");

    let actor = bench.actor(Act::ReadmitDevice).await;
    let text = refused!(stop::readmit(&bench.plant, &actor, (&press(), None), "it is here").await, Conflict);
    assert!(text.starts_with("the TPM of press-7 was replaced and is barred for good"), "{text}");
    another_board(&bench).await.unwrap();
    let device: Device = bench.read(device_key(&press())).await;
    assert_eq!((device.ek, device.admission), (Digest([9; 32]), Admission::Admitted));
    let tpm: Tpm = bench.read(ek_key(&former())).await;
    assert!(tpm.retired && tpm.device.is_none());
}

#[tokio::test]
async fn a_device_that_was_retired_stays_out_of_service_until_it_is_readmitted() {
    let bench = furnished().await;
    let file = save(&bench).await;
    retire(&bench.plant, &bench.actor(Act::RetireDevice).await, &press(), "scrapped", false).await.unwrap();
    put_back(&bench, &file, &[]).await.unwrap();
    let device: Device = bench.read(device_key(&press())).await;
    assert_eq!(device.admission, Admission::Retired);
    refused!(another_board(&bench).await, Retired);
    let actor = bench.actor(Act::ReadmitDevice).await;
    stop::readmit(&bench.plant, &actor, (&press(), None), "needed after all").await.unwrap();
    assert!(!bench.read::<Tpm>(ek_key(&former())).await.is_barred());
}

#[tokio::test]
async fn a_quarantine_outlives_a_device_that_the_backup_does_not_know() {
    let bench = furnished().await;
    let file = save(&bench).await;
    let thief = bench.device("press-9", &["cell-3"]).await;
    let ek = Digest::of(b"press-9");
    let (other, owner) = (Digest::of(b"other"), stored(&AkOwner { ek }).unwrap());
    let owner = Txn::new().put(ak_key(b"thief"), owner.clone()).put(other_ek_key(&other), owner);
    bench.plant.store.transact(owner).await.unwrap();
    let actor = bench.actor(Act::QuarantineDevice).await;
    stop::quarantine(&bench.plant, &actor, &thief, "stolen").await.unwrap();
    let notes = put_back(&bench, &file, &[]).await.unwrap().notes;
    assert!(notes.iter().any(|note| note.contains(&ek.to_string())), "{notes:?}");
    let tpm: Tpm = bench.read(ek_key(&ek)).await;
    assert_eq!((tpm.device, tpm.quarantine.unwrap().reason.as_str()), (None, "stolen"));
    for known_by in [ak_key(b"thief"), other_ek_key(&other)] {
        assert_eq!(bench.read::<AkOwner>(known_by).await.ek, ek, "under any EK of the TPM");
    }

    let entry = Entry { name: thief, zones: vec!["cell-3".parse().unwrap()], ek, inventory: BTreeMap::new() };
    import(&bench.plant, &bench.actor(Act::ImportDevices).await, &[entry], false).await.unwrap();
    assert!(bench.read::<Tpm>(ek_key(&ek)).await.quarantine.is_some(), "a list does not end it");
}

#[tokio::test]
async fn what_the_backup_stopped_already_is_no_news_and_another_plant_keeps_nothing() {
    let bench = furnished().await;
    let actor = bench.actor(Act::QuarantineDevice).await;
    stop::quarantine(&bench.plant, &actor, &press(), "odd traffic").await.unwrap();
    let file = save(&bench).await;
    let told = |notes: &[String]| notes.iter().any(|note| note.starts_with("TPMs that were stopped"));
    assert!(!told(&put_back(&bench, &file, &[]).await.unwrap().notes));

    let other = furnished().await;
    retire(&other.plant, &other.actor(Act::RetireDevice).await, &press(), "scrapped", false).await.unwrap();
    let notes = put_back(&other, &file, &[]).await.unwrap().notes;
    assert!(!told(&notes), "{notes:?}");
    assert!(notes.iter().any(|note| note.starts_with("quarantines, replaced and retired devices")));
    let tpm: Tpm = other.read(ek_key(&former())).await;
    assert_eq!((tpm.retired, tpm.quarantine.unwrap().reason.as_str()), (false, "odd traffic"));
}

#[tokio::test]
async fn what_is_known_of_other_eks_is_restored() {
    let bench = furnished().await;
    let other = Digest::of(b"other");
    let mut tpm: Tpm = bench.read(ek_key(&former())).await;
    tpm.other_eks = vec![other];
    let named = Txn::new()
        .put(ek_key(&former()), stored(&tpm).unwrap())
        .put(other_ek_key(&other), stored(&AkOwner { ek: former() }).unwrap());
    bench.plant.store.transact(named).await.unwrap();
    let file = save(&bench).await;
    bench.plant.store.transact(Txn::new().delete(other_ek_key(&other))).await.unwrap();
    put_back(&bench, &file, &[]).await.unwrap();
    assert_eq!(bench.read::<AkOwner>(other_ek_key(&other)).await.ek, former());
    assert_eq!(bench.read::<Tpm>(ek_key(&former())).await.other_eks, [other]);
}
