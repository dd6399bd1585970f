//! IP addresses of devices: whose they are, and how many there may be.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::digest::Digest;
use policy::id::DeviceName;
use policy::time::Validity;
use policy::zone::{Role, Zone};

use super::{Bench, NOW, observing, refused};
use crate::admin::conduit::Unoffered;
use crate::admin::device::address::{Addressed, Request, change};
use crate::admin::zone::{Settings, authorities, set};
use crate::admin::{Act, graph};
use crate::record::device::{
    BoundAk, Device, HeldCertificate, HeldCertificates, Leaving, MAX_ADDRESSES, MAX_ALL_ADDRESSES, MAX_HELD,
    MAX_SERVICES, MAX_ZONES, device_key, held_key,
};
use crate::record::zone::{AuthorityState, NARROWING, Narrowing};
use crate::record::{Held, list, stored};
use crate::session::Refusal;
use crate::store::{MAX_VALUE, Txn};
use crate::withdrawal::{Outside, finish, outside};

fn v4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 3, host).into()
}

/// The longest text of an address.
fn v6(n: usize) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0xdb81, 0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x1000 + u16::try_from(n).unwrap())
        .into()
}

fn addressed(name: &str) -> Zone {
    let subnets = ["10.1.3.0/24".parse().unwrap(), "fd00::/8".parse().unwrap()].into();
    Zone { subnets, ..observing(name) }
}

async fn bench() -> (Bench, DeviceName) {
    let bench = Bench::new().await;
    bench.zone(&addressed("cell-3")).await;
    bench.zone(&addressed("cell-4")).await;
    let press = bench.device("press-7", &["cell-3"]).await;
    (bench, press)
}

async fn ask(
    bench: &Bench,
    name: &DeviceName,
    zone: Option<&str>,
    add: &[IpAddr],
    remove: &[IpAddr],
) -> Result<Addressed, Refusal> {
    let zone = zone.map(|zone| zone.parse().unwrap());
    let (add, remove) = (add.iter().copied().collect(), remove.iter().copied().collect());
    let request = Request { name: name.clone(), zone, add, remove };
    change(&bench.plant, &bench.actor(Act::ChangeAddresses).await, &request, false).await
}

#[tokio::test]
async fn an_address_is_one_devices_until_it_gives_it_up() {
    let (bench, press) = bench().await;
    let other = bench.device("press-8", &["cell-3", "cell-4"]).await;
    ask(&bench, &press, None, &[v4(7)], &[]).await.unwrap();
    let before = bench.revision();
    let text = refused!(ask(&bench, &other, Some("cell-3"), &[v4(7)], &[]).await, Conflict);
    assert_eq!(text, "10.1.3.7 in cell-3 is the address of press-7");
    let text = refused!(ask(&bench, &other, None, &[v4(8)], &[]).await, Malformed);
    assert_eq!(text, "press-8 is in 2 zones; say in which with --zone ZONE");
    let outside = IpAddr::from([192, 0, 2, 1]);
    let text = refused!(ask(&bench, &press, None, &[outside], &[]).await, Conflict);
    assert!(text.contains("192.0.2.1 is in no subnet of zone cell-3"), "{text}");
    assert_eq!(bench.revision(), before, "refusals change nothing");
    ask(&bench, &other, Some("cell-4"), &[v4(7)], &[]).await.unwrap();
    ask(&bench, &press, None, &[], &[v4(7)]).await.unwrap();
    ask(&bench, &other, Some("cell-3"), &[v4(7)], &[]).await.unwrap();
}

#[tokio::test]
async fn there_are_as_many_addresses_as_records_hold() {
    let (bench, press) = bench().await;
    let all: Vec<IpAddr> = (0..MAX_ADDRESSES).map(v6).collect();
    let text = refused!(ask(&bench, &press, None, &[&all[..], &[v4(1)]].concat(), &[]).await, Malformed);
    assert_eq!(text, "change at most 6 addresses at once");
    ask(&bench, &press, None, &all, &[]).await.unwrap();
    let text = refused!(ask(&bench, &press, None, &[v4(1)], &[]).await, Malformed);
    assert_eq!(text, "a device has at most 6 addresses in a zone");
    let gateway = bench.device("gateway", &["cell-3"]).await;
    let mut device: Device = bench.read(device_key(&gateway)).await;
    let zones = (0..MAX_ALL_ADDRESSES / MAX_ADDRESSES).map(|n| format!("hall-{n}").parse().unwrap());
    device.addresses = zones.map(|zone| (zone, all.iter().copied().collect())).collect();
    let txn = Txn::new().put(device_key(&gateway), stored(&device).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let text = refused!(ask(&bench, &gateway, None, &[v4(1)], &[]).await, Malformed);
    assert_eq!(text, "a device has at most 24 addresses in all its zones");
}

#[tokio::test]
async fn the_largest_records_fit_the_store() {
    let (bench, press) = bench().await;
    let long = |n: usize| format!("{:a<39}{n:x}", "z");
    let mut device: Device = bench.read(device_key(&press)).await;
    device.name = long(0).parse().unwrap();
    device.zones = (0..MAX_ZONES).map(|n| long(n).parse().unwrap()).collect();
    let each: BTreeSet<IpAddr> = (0..MAX_ALL_ADDRESSES / MAX_ZONES).map(v6).collect();
    device.addresses = device.zones.iter().map(|zone| (zone.clone(), each.clone())).collect();
    device.services = (0..MAX_SERVICES).map(|n| (long(n), u16::MAX)).collect();
    device.ak = Some(BoundAk { public: vec![0xff; 122].into(), name: vec![0xff; 34].into(), since: NOW });
    device.admitted_by = "x".repeat(80);
    (device.counter, device.asked, device.answered) = (u64::MAX, u64::MAX, u64::MAX);
    (device.trust_sequence, device.clear_expected) = (u64::MAX, Some(NOW));
    let (from, to) = (device.zones[0].clone(), device.zones[1].clone());
    device.leaving = Some(Leaving { from, to, since: NOW });
    let size = stored(&device).unwrap().len();
    assert!(size <= MAX_VALUE, "{size} bytes");

    let certificate = HeldCertificate {
        role: Role::Listener,
        generation: u32::MAX,
        serial: "ff".repeat(16),
        spki: Digest([0xff; 32]),
        validity: Validity { not_before: NOW, not_after: NOW },
        service: None,
        workload: None,
        addresses: (0..MAX_ADDRESSES).map(v6).collect(),
    };
    let held = HeldCertificates { certificates: vec![certificate; 2 * MAX_HELD] };
    let size = stored(&held).unwrap().len();
    assert!(size <= MAX_VALUE, "{size} bytes");
}

#[tokio::test]
async fn subnets_are_bounded_and_change_in_a_file_as_by_hand() {
    let (bench, press) = bench().await;
    let key = held_key(&press, &"cell-3".parse().unwrap());
    bench.certificate(&press, "cell-3", 7).await;
    let mut held: HeldCertificates = bench.read(key.clone()).await;
    held.certificates[0].addresses = [v4(7)].into();
    bench.plant.store.transact(Txn::new().put(key, stored(&held).unwrap())).await.unwrap();
    let many = (0..17).map(|n| format!("10.{n}.0.0/16").parse().unwrap()).collect();
    let actor = bench.actor(Act::SetZone).await;
    let settings = Settings { subnets: Some(many), ..Settings::default() };
    let text =
        refused!(set(&bench.plant, &actor, &"cell-3".parse().unwrap(), &settings, false).await, Malformed);
    assert_eq!(text, "zone cell-3 has 17 subnets; name at most 16");
    let seen = graph::view(&bench.plant, &crate::admin::reach::Scope::Plant).await.unwrap().document;
    let other = seen.replacen("10.1.3.0/24", "10.1.4.0/24", 1);
    assert_ne!(seen, other);
    let actor = bench.actor(Act::ApplyGraph).await;
    let apply = async |text: &str, dry_run| {
        let applied = graph::apply(&bench.plant, &actor, text, &seen, Unoffered::Refuse, dry_run).await;
        applied.unwrap()
    };
    let before = bench.revision();
    let planned = apply(&other, true).await;
    let names =
        |planned: &graph::Planned| planned.outside.iter().map(|one| one.device.clone()).collect::<Vec<_>>();
    assert_eq!((names(&planned), bench.revision()), (vec![press.clone()], before), "a dry run says who");
    assert_eq!(names(&apply(&other, false).await), [press]);
    let left: Vec<Held<Narrowing>> = list(bench.plant.store.as_ref(), NARROWING).await.unwrap();
    assert_eq!(left.len(), 1, "what names an address outside is replaced, or revoked after an interval");
    let states = authorities(&bench.plant, &crate::admin::reach::Scope::Plant).await.unwrap();
    let prepared = states.iter().filter(|view| view.record.state == AuthorityState::Prepared);
    assert_eq!(prepared.count(), 2, "the next authorities have them");
}

#[tokio::test]
async fn narrower_subnets_ask_for_other_certificates_and_end_what_still_names_others() {
    let (bench, press) = bench().await;
    ask(&bench, &press, None, &[v4(7)], &[]).await.unwrap();
    let other = bench.device("press-8", &["cell-3"]).await;
    for (device, serial, addresses) in [(&press, 7, vec![v4(7)]), (&other, 8, vec![])] {
        bench.certificate(device, "cell-3", serial).await;
        let key = held_key(device, &"cell-3".parse().unwrap());
        let mut held: HeldCertificates = bench.read(key.clone()).await;
        held.certificates[0].addresses = addresses.into_iter().collect();
        bench.plant.store.transact(Txn::new().put(key, stored(&held).unwrap())).await.unwrap();
    }
    let actor = bench.actor(Act::SetZone).await;
    let narrower = Settings { subnets: Some(["fd00::/8".parse().unwrap()].into()), ..Settings::default() };
    let set = async |dry_run| {
        let zone = set(&bench.plant, &actor, &"cell-3".parse().unwrap(), &narrower, dry_run).await.unwrap();
        outside(&bench.plant, &zone.zone).await.unwrap()
    };
    let asked = async |name| bench.read::<Device>(device_key(name)).await.asked;
    let kept = async |name| {
        let key = held_key(name, &"cell-3".parse().unwrap());
        bench.read::<HeldCertificates>(key).await.certificates.len()
    };
    let (before, asked_before) = (bench.revision(), asked(&press).await);
    let until = NOW.plus(3600);
    let told = [Outside { device: press.clone(), addresses: [v4(7)].into(), until }];
    assert_eq!((set(true).await.as_slice(), bench.revision()), (&told[..], before), "a dry run says who");
    assert_eq!(set(false).await, told);
    for _ in 0..2 {
        finish(&bench.plant).await.unwrap();
        assert_eq!((asked(&press).await, kept(&press).await), (asked_before + 1, 1), "it is asked, once");
    }
    bench.clock.set(NOW.plus(900));
    finish(&bench.plant).await.unwrap();
    assert_eq!((kept(&press).await, kept(&other).await, asked(&other).await), (0, 1, 0));
    let left: Vec<Held<Narrowing>> = list(bench.plant.store.as_ref(), NARROWING).await.unwrap();
    assert!(left.is_empty());
    let events = bench.events(None, 100).await;
    let event = events.iter().find(|event| event.action == "zone.narrowed").unwrap();
    assert_eq!(event.text, "reached 1 devices, 1 certificates revoked");
}
