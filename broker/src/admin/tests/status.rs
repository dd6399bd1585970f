//! The morning page.

use policy::digest::Digest;
use policy::zone::Conduit;

use super::{Bench, NOW, enforcing, observing};
use crate::admin::device::view::State;
use crate::admin::status::{Attention, status};
use crate::admin::{Act, authorize, conduit};
use crate::record::device::{Decision, Device, device_key};
use crate::record::stored;
use crate::store::Txn;
use crate::trust;

fn about<'a>(attention: &'a [Attention], subject: &str) -> &'a Attention {
    attention.iter().find(|one| one.subject == subject).unwrap_or_else(|| panic!("{subject}: {attention:?}"))
}

#[tokio::test]
async fn a_quiet_plant_needs_nobody() {
    let bench = Bench::new().await;
    let page = status(&bench.plant, &bench.actor(Act::ReadStatus).await).await.unwrap();
    assert_eq!(page.attention, []);
    assert_eq!((page.plant.as_str(), page.epoch, page.zones), ("plant.example", 1, 0));
    assert!(page.plant_root.is_some_and(|pin| pin != Digest([0; 32])));
}

#[tokio::test]
async fn the_page_names_what_needs_a_person_and_the_next_command() {
    let bench = Bench::new().await;
    bench.zone(&observing("lab")).await;
    bench.zone(&enforcing("cell-3")).await;
    let allow = bench.actor(Act::AllowConduit).await;
    let wanted = Conduit {
        from: "lab".parse().unwrap(),
        to: "cell-3".parse().unwrap(),
        service: "opcua".parse().unwrap(),
        schedule: None,
        expires: None,
        accept_observed: true,
    };
    conduit::allow(&bench.plant, &allow, &wanted, None, false).await.unwrap();
    for (name, decision) in
        [("bad", Decision::Refused), ("soft", Decision::WouldRefuse), ("good", Decision::Trusted)]
    {
        let device = bench.device(name, &["lab"]).await;
        bench.attest(&device, "boot-a", decision).await;
    }
    let mut owner = bench.owner();
    owner.not_after = NOW.plus(86_400);
    let actor = authorize(&bench.plant, &owner, Act::ReadStatus).await.unwrap();
    let page = status(&bench.plant, &actor).await.unwrap();
    let attention = &page.attention;
    assert_eq!(about(attention, "bad").next_command, "touchstone device why bad");
    assert!(about(attention, "soft").message.contains("enforcing would refuse it"));
    assert!(attention.iter().all(|one| one.subject != "good"));
    assert!(about(attention, "lab -> cell-3 opcua").message.contains("observing zone"));
    assert!(about(attention, "cell-3").message.contains("no active golden release"));
    assert!(about(attention, "the administrator certificate of ada").message.contains("ends on"));
    assert_eq!((page.devices[&State::Trusted], page.devices[&State::Refused]), (2, 1));
    let lab = page.outlook.iter().find(|one| one.zone.as_str() == "lab").unwrap();
    assert_eq!((lab.observes, lab.released, lab.devices, lab.silent), (true, false, 3, 0));
    assert!(page.changes.iter().any(|event| event.action == "conduit.allow"), "{:?}", page.changes);
}

#[tokio::test]
async fn a_broker_whose_disk_was_put_back_is_told_of_the_devices_that_refuse_its_trust_files() {
    let bench = Bench::new().await;
    bench.zone(&observing("lab")).await;
    let key = device_key(&bench.device("press-7", &["lab"]).await);
    let sequence = trust::view(&bench.plant).await.unwrap().sequence(1);
    for (held, refuses) in [(sequence, false), (sequence + 1, true)] {
        let device = Device { trust_sequence: held, ..bench.read::<Device>(key.clone()).await };
        bench.plant.store.transact(Txn::new().put(key.clone(), stored(&device).unwrap())).await.unwrap();
        let page = status(&bench.plant, &bench.actor(Act::ReadStatus).await).await.unwrap();
        let found = page.attention.iter().find(|one| one.subject == "trust files");
        assert_eq!(found.is_some(), refuses, "{:?}", page.attention);
        let words = found.map_or("", |found| found.message.as_str());
        assert!(!refuses || words.contains("press-7 holds trust files of sequence"), "{words}");
    }
}
