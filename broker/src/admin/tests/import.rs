//! Lists that are too large for one transaction: nobody sees a part of one.

use policy::digest::Digest;

use super::device::entry;
use super::{Bench, NOW, observing, refused};
use crate::admin::Act;
use crate::admin::device::import::{Entry, Imported, import};
use crate::admin::device::view::{Filter, page};
use crate::admin::reach::Scope;
use crate::admin::staging::{self, Staging};
use crate::record::device::{DEVICE, Device, Quarantine, Tpm, device_key, ek_key};
use crate::record::stage::{STAGE, Stage};
use crate::record::{fetch, list, stored};
use crate::store::Txn;

const LIST: u8 = 200;

fn long() -> Vec<Entry> {
    (0..LIST).map(|n| entry(&format!("press-{n}"), n)).collect()
}

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    bench
}

async fn devices(bench: &Bench) -> usize {
    let listed: Vec<crate::record::Held<Device>> = list(bench.plant.store.as_ref(), DEVICE).await.unwrap();
    assert_eq!(
        page(&bench.plant, &Scope::Plant, &Filter::default()).await.unwrap().devices.len(),
        listed.len()
    );
    listed.len()
}

/// Keys below these prefixes, whether they count or not.
async fn keys(bench: &Bench) -> usize {
    let mut keys = 0;
    for prefix in [DEVICE, "ek/", "inventory/"] {
        keys += bench.plant.store.scan(prefix, None, 1000).await.unwrap().len();
    }
    keys
}

#[tokio::test]
async fn a_long_list_counts_as_a_whole() {
    let bench = bench().await;
    let actor = bench.actor(Act::ImportDevices).await;
    let all = Imported { created: usize::from(LIST), ..Imported::default() };
    assert_eq!(import(&bench.plant, &actor, &long(), true).await.unwrap(), all);
    assert_eq!(devices(&bench).await, 0);
    assert_eq!(import(&bench.plant, &actor, &long(), false).await.unwrap(), all);
    assert_eq!(devices(&bench).await, usize::from(LIST));
    let tpm: Tpm = bench.read(ek_key(&Digest([77; 32]))).await;
    assert!(tpm.registered && tpm.device == Some("press-77".parse().unwrap()));
    let again = import(&bench.plant, &actor, &long(), false).await.unwrap();
    assert_eq!(again, Imported { unchanged: usize::from(LIST), ..Imported::default() });
    let events = bench.events(None, 10).await;
    let told: Vec<_> = events.iter().filter(|event| event.action == "device.import").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].text, "200 devices registered, press-0 to press-199");
}

#[tokio::test]
async fn what_was_staged_when_the_broker_died_never_counts() {
    let bench = bench().await;
    let staging = Staging::begin(&bench.plant, "ada").await.unwrap();
    let actor = bench.actor(Act::ImportDevices).await;
    let device = crate::admin::device::import::new_device(
        "press-1".parse().unwrap(),
        Digest([1; 32]),
        Vec::new(),
        &actor,
        NOW,
    );
    let key = device_key(&device.name);
    let part = staging.txn().absent(key.clone()).put(key.clone(), staging.stored(&device).unwrap());
    staging.write(&bench.plant, vec![part]).await.unwrap();
    assert_eq!((devices(&bench).await, keys(&bench).await), (0, 1));
    assert!(fetch::<Device>(bench.plant.store.as_ref(), key).await.unwrap().is_none());

    // A change that began later is somebody's who is at work.
    staging::sweep(&bench.plant, NOW.minus(1)).await.unwrap();
    assert_eq!(keys(&bench).await, 1);
    staging::sweep(&bench.plant, NOW).await.unwrap();
    assert_eq!(keys(&bench).await, 0);
    assert!(list::<Stage>(bench.plant.store.as_ref(), STAGE).await.unwrap().is_empty());
    let text = refused!(staging.commit(&bench.plant, staging.txn()).await, Conflict);
    assert!(text.contains("nothing was changed, try again"), "{text}");
    assert_eq!(import(&bench.plant, &actor, &long(), false).await.unwrap().created, usize::from(LIST));
}

#[tokio::test]
async fn a_name_that_is_taken_meanwhile_leaves_nothing_behind() {
    let bench = bench().await;
    let actor = bench.actor(Act::ImportDevices).await;
    let staging = Staging::begin(&bench.plant, "ada").await.unwrap();
    let part = |n: u8| {
        let key = device_key(&format!("press-{n}").parse().unwrap());
        staging.txn().absent(key.clone()).put(key, "{\"v\":1,\"s\":\"\",\"d\":{}}")
    };
    import(&bench.plant, &actor, &[entry("press-1", 1)], false).await.unwrap();
    let text = refused!(staging.write(&bench.plant, vec![part(1)]).await, Conflict);
    assert_eq!(
        text,
        "somebody else changed device/press-1 at the same moment; nothing was changed, try again"
    );
    assert!(list::<Stage>(bench.plant.store.as_ref(), STAGE).await.unwrap().is_empty());
    assert_eq!(devices(&bench).await, 1);
}

#[tokio::test]
async fn a_quarantine_holds_while_and_after_a_list_is_staged() {
    let bench = bench().await;
    let actor = bench.actor(Act::ImportDevices).await;
    let stop = Quarantine { at: NOW, by: "ada".to_owned(), reason: "stolen".to_owned(), beneath: None };
    let stopped = Tpm {
        device: None,
        registered: false,
        quarantine: Some(stop),
        retired: false,
        manufacturer: Some(*b"IFX\0"),
        other_eks: Vec::new(),
    };
    let key = ek_key(&Digest([9; 32]));
    bench.plant.store.transact(Txn::new().put(key.clone(), stored(&stopped).unwrap())).await.unwrap();
    import(&bench.plant, &actor, &long(), false).await.unwrap();
    let tpm: Tpm = bench.read(key).await;
    assert_eq!(tpm.quarantine.unwrap().reason, "stolen");
    assert_eq!((tpm.registered, tpm.manufacturer), (true, Some(*b"IFX\0")));
}

#[tokio::test]
async fn one_conflict_refuses_the_whole_list() {
    let bench = bench().await;
    let actor = bench.actor(Act::ImportDevices).await;
    import(&bench.plant, &actor, &[entry("other", 150)], false).await.unwrap();
    let before = keys(&bench).await;
    let text = refused!(import(&bench.plant, &actor, &long(), false).await, Conflict);
    assert!(text.starts_with("nothing was registered: EK sha256:9696"), "{text}");
    let mut nowhere = long();
    nowhere[199].zones = vec!["nowhere".parse().unwrap()];
    refused!(import(&bench.plant, &actor, &nowhere, false).await, NotFound);
    assert_eq!(keys(&bench).await, before);
}
