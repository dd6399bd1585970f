//! Devices and tokens.

use policy::digest::Digest;
use policy::id::DeviceName;

use super::{Bench, NOW, observing, refused};
use crate::admin::device::import::{Entry, Imported, import};
use crate::admin::device::view::{Filter, Seen, State, one, page};
use crate::admin::device::why::why;
use crate::admin::device::{DeviceRef, admit, stop};
use crate::admin::reach::Scope;
use crate::admin::{Act, token};
use crate::record::device::{
    Decision, Device, HeldCertificates, Pending, Token, Tpm, device_key, ek_key, held_key, pending_key,
    token_key,
};
use crate::record::plant::{TRUST, TrustHead};
use crate::record::zone::{RevokedCertificate, revoked_key};
use crate::record::{fetch, stored};
use crate::store::Txn;

fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

pub(super) fn entry(device: &str, ek: u8) -> Entry {
    Entry {
        name: name(device),
        zones: vec!["cell-3".parse().unwrap()],
        ek: Digest([ek; 32]),
        inventory: [("owner".to_owned(), "line 3".to_owned())].into(),
    }
}

async fn pending(bench: &Bench, ek: u8, asks: Option<&str>) -> Digest {
    let ek = Digest([ek; 32]);
    let pending =
        Pending { ek, name: asks.map(name), zones: Vec::new(), tpm: "IFX SLB 9670".to_owned(), since: NOW };
    let txn = Txn::new().put(pending_key(&ek), stored(&pending).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    ek
}

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    bench
}

#[tokio::test]
async fn an_import_is_idempotent_and_registers() {
    let bench = bench().await;
    let actor = bench.actor(Act::ImportDevices).await;
    let list: Vec<Entry> = (1..=20).map(|n| entry(&format!("press-{n}"), n)).collect();
    let before = bench.revision();
    let dry = import(&bench.plant, &actor, &list, true).await.unwrap();
    assert_eq!((dry.clone(), bench.revision()), (Imported { created: 20, ..Imported::default() }, before));
    assert_eq!(import(&bench.plant, &actor, &list, false).await.unwrap(), dry);
    let again = import(&bench.plant, &actor, &list, false).await.unwrap();
    assert_eq!(again, Imported { unchanged: 20, ..Imported::default() });
    assert!(bench.read::<Tpm>(ek_key(&Digest([7; 32]))).await.registered);
    let Seen::Device(view) =
        one(&bench.plant, &Scope::Plant, &DeviceRef::Name(name("press-7"))).await.unwrap()
    else {
        panic!("no device")
    };
    assert_eq!((view.state, view.inventory.values["owner"].value.as_str()), (State::Registered, "line 3"));
}

#[tokio::test]
async fn an_import_tells_every_conflict_and_writes_nothing() {
    let bench = bench().await;
    let actor = bench.actor(Act::ImportDevices).await;
    import(&bench.plant, &actor, &[entry("press-1", 1), entry("press-2", 2)], false).await.unwrap();
    let before = bench.revision();
    let list = [entry("press-1", 9), entry("press-9", 2), entry("press-3", 3)];
    let text = refused!(import(&bench.plant, &actor, &list, false).await, Conflict);
    assert!(text.contains("press-1 belongs to EK sha256:0101"), "{text}");
    assert!(text.contains("is press-2's, the list gives it to press-9"), "{text}");
    let twice = [entry("press-4", 4), entry("press-4", 4)];
    let text = refused!(import(&bench.plant, &actor, &twice, false).await, Conflict);
    assert!(text.contains("the name press-4 stands twice") && text.contains("EK sha256:0404"), "{text}");
    let mut long = entry("press-5", 5);
    long.inventory.insert("model".to_owned(), "x".repeat(49));
    refused!(import(&bench.plant, &actor, &[long], false).await, Malformed);
    let mut nowhere = entry("press-6", 6);
    nowhere.zones = vec!["cell-9".parse().unwrap()];
    refused!(import(&bench.plant, &actor, &[nowhere], false).await, NotFound);
    assert_eq!(bench.revision(), before);
}

#[tokio::test]
async fn a_pending_device_is_admitted_by_its_ek_and_not_registered_by_that() {
    let bench = bench().await;
    let actor = bench.actor(Act::AdmitDevice).await;
    let ek = pending(&bench, 5, Some("press-5")).await;
    let request = |device, zones: &[&str], name| admit::Request {
        device,
        name,
        zones: zones.iter().map(|zone| zone.parse().unwrap()).collect(),
        seen: None,
    };
    let no_zone = request(DeviceRef::Ek(ek), &[], None);
    let text = refused!(admit::admit(&bench.plant, &actor, &no_zone).await, Malformed);
    assert_eq!(text, "name the zone that press-5 joins with --zone ZONE");
    let good = request(DeviceRef::Name(name("press-5")), &["cell-3"], None);
    assert_eq!(admit::admit(&bench.plant, &actor, &good).await.unwrap(), name("press-5"));
    assert!(!bench.read::<Tpm>(ek_key(&ek)).await.registered, "the digest came from the enrollment");
    assert!(fetch::<Pending>(bench.plant.store.as_ref(), pending_key(&ek)).await.unwrap().is_none());

    let other = pending(&bench, 6, Some("press-5")).await;
    let taken = request(DeviceRef::Ek(other), &["cell-3"], None);
    let text = refused!(admit::admit(&bench.plant, &actor, &taken).await, Conflict);
    assert!(text.contains("belongs to another TPM"), "{text}");
    let unknown = request(DeviceRef::Ek(Digest([9; 32])), &["cell-3"], None);
    refused!(admit::admit(&bench.plant, &actor, &unknown).await, NotFound);
}

#[tokio::test]
async fn a_device_that_moves_loses_the_certificates_of_the_zone_it_left() {
    let bench = bench().await;
    bench.zone(&observing("cell-4")).await;
    let press = bench.device("press-7", &["cell-3"]).await;
    bench.certificate(&press, "cell-3", 0x41).await;
    let actor = bench.actor(Act::AdmitDevice).await;
    let request = admit::Request {
        device: DeviceRef::Name(press.clone()),
        name: None,
        zones: vec!["cell-4".parse().unwrap()],
        seen: None,
    };
    admit::admit(&bench.plant, &actor, &request).await.unwrap();
    let serial = crate::ca::Serial::from_hex(&hex::encode([0x41; 16])).unwrap();
    let key = revoked_key(&"cell-3".parse().unwrap(), policy::zone::Role::Caller, 1, serial);
    assert_eq!(bench.read::<RevokedCertificate>(key).await.device, press);
    assert_eq!(bench.read::<Device>(device_key(&press)).await.zones, ["cell-4".parse().unwrap()]);
    let renamed = admit::Request { name: Some(name("press-8")), ..request };
    let text = refused!(admit::admit(&bench.plant, &actor, &renamed).await, Conflict);
    assert!(text.contains("a device keeps its name"), "{text}");
}

#[tokio::test]
async fn quarantine_revokes_and_readmission_forgives_the_clock_once() {
    let bench = bench().await;
    let press = bench.device("press-7", &["cell-3"]).await;
    bench.attest(&press, "boot-a", Decision::Trusted).await;
    bench.certificate(&press, "cell-3", 0x41).await;
    let (stopper, head) =
        (bench.actor(Act::QuarantineDevice).await, bench.read::<TrustHead>(TRUST.to_owned()).await.n);
    refused!(stop::quarantine(&bench.plant, &stopper, &press, "  ").await, Malformed);
    assert_eq!(stop::quarantine(&bench.plant, &stopper, &press, "odd traffic").await.unwrap(), 1);
    assert_eq!(bench.read::<TrustHead>(TRUST.to_owned()).await.n, head + 1);
    let held = held_key(&press, &"cell-3".parse().unwrap());
    assert!(fetch::<HeldCertificates>(bench.plant.store.as_ref(), held).await.unwrap().is_none());
    let seen = one(&bench.plant, &Scope::Plant, &DeviceRef::Name(press.clone())).await.unwrap();
    let why = why(&seen, &[], NOW);
    assert!(why.sentences[0].contains("by ada: odd traffic"), "{why:?}");
    assert_eq!(why.next_command, "touchstone device readmit press-7 --reason TEXT");
    let asking = bench.actor(Act::AttestDevice).await;
    refused!(stop::attest_now(&bench.plant, &asking, &press).await, Quarantined);

    let actor = bench.actor(Act::ReadmitDevice).await;
    stop::readmit(&bench.plant, &actor, (&press, None), "mainboard serviced").await.unwrap();
    let device: Device = bench.read(device_key(&press)).await;
    assert!(device.clock_excused && device.asked == 1);
    stop::attest_now(&bench.plant, &asking, &press).await.unwrap();
    assert_eq!(bench.read::<Device>(device_key(&press)).await.asked, 2);

    let events = bench.events(Some(&press), 10).await;
    let actions: Vec<&str> = events.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["device.attest-now", "device.readmit", "device.quarantine"], "newest first");
    assert_eq!(events[2].text, "odd traffic; 1 certificates revoked");
}

#[tokio::test]
async fn the_list_pages_through_devices_and_then_those_that_wait() {
    let bench = bench().await;
    for device in ["a", "b", "c"] {
        let device = bench.device(device, &["cell-3"]).await;
        bench.attest(&device, "boot-a", Decision::Trusted).await;
    }
    bench.attest(&name("b"), "boot-a", Decision::Refused).await;
    for ek in [2, 1] {
        pending(&bench, ek, None).await;
    }
    let mut filter = Filter { limit: 2, ..Filter::default() };
    let mut states = Vec::new();
    loop {
        let page = page(&bench.plant, &Scope::Plant, &filter).await.unwrap();
        states.extend(page.devices.iter().map(Seen::state));
        let Some(next) = page.next else { break };
        assert!(next > filter.after, "{next} leads on from {}", filter.after);
        filter.after = next;
    }
    use State::{Pending as Waiting, Refused, Trusted};
    assert_eq!(states, [Trusted, Refused, Trusted, Waiting, Waiting]);
    let refused = Filter { state: Some(Refused), ..Filter::default() };
    let page = page(&bench.plant, &Scope::Plant, &refused).await.unwrap();
    assert_eq!((page.devices.len(), page.next), (1, None));
    let elsewhere = Filter { zone: Some("cel-3".parse().unwrap()), ..Filter::default() };
    let text =
        refused!(super::super::device::view::page(&bench.plant, &Scope::Plant, &elsewhere).await, NotFound);
    assert!(text.contains("there is no zone cel-3"), "{text}");
}

#[tokio::test]
async fn a_device_that_was_not_heard_is_silent() {
    let bench = bench().await;
    let press = bench.device("press-7", &["cell-3"]).await;
    bench.attest(&press, "boot-a", Decision::Trusted).await;
    bench.clock.set(NOW.plus(2_700));
    let state =
        async || one(&bench.plant, &Scope::Plant, &DeviceRef::Name(press.clone())).await.unwrap().state();
    assert_eq!(state().await, State::Trusted);
    bench.clock.set(NOW.plus(2_701));
    assert_eq!(state().await, State::Silent);
}

#[tokio::test]
async fn a_token_opens_only_under_its_own_name() {
    let bench = bench().await;
    let actor = bench.actor(Act::CreateToken).await;
    let request = |zones: &[&str], lifetime| token::Request {
        zones: zones.iter().map(|zone| zone.parse().unwrap()).collect(),
        ek: None,
        device: None,
        lifetime,
        without_tpm: false,
    };
    let created = token::create(&bench.plant, &actor, &request(&["cell-3"], 0)).await.unwrap();
    assert_eq!(created.expires, NOW.plus(86_400));
    let parts: Vec<&str> = created.text.split('.').collect();
    let [prefix, id, secret] = parts[..] else { panic!("{} parts", parts.len()) };
    assert_eq!((prefix, id.len(), secret.len()), ("ts1", 32, 64));
    let record: Token = bench.read(token_key(id)).await;
    let opened = bench.plant.kek.open(token_key(id).as_bytes(), &record.wrapped_secret.0).unwrap();
    assert_eq!(hex::encode(opened.as_slice()), secret);
    assert!(!format!("{created:?}").contains(secret));

    refused!(token::create(&bench.plant, &actor, &request(&[], 0)).await, Malformed);
    refused!(token::create(&bench.plant, &actor, &request(&["cell-9"], 0)).await, NotFound);
    refused!(token::create(&bench.plant, &actor, &request(&["cell-3"], 2_592_001)).await, Malformed);
    bench.clock.set(NOW.plus(86_401));
    token::create(&bench.plant, &actor, &request(&["cell-3"], 60)).await.unwrap();
    let old = fetch::<Token>(bench.plant.store.as_ref(), token_key(id)).await.unwrap();
    assert!(old.is_none(), "expired tokens are swept");
}
