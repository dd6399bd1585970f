//! Devices that move, are replaced and retire.

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use proto::v1;
use proto::v1::DenialReason as Reason;
use proto::v1::admin_server::Admin;

use super::office::{Office, by, refusal, waits};
use super::{Bench, NOW, authorize, observing, refused};
use crate::admin::device::moving::{Moved, Request, begin};
use crate::admin::device::replace::replace;
use crate::admin::device::retire::retire;
use crate::admin::device::view::{Seen, State, one};
use crate::admin::device::{DeviceRef, admit, stop};
use crate::admin::reach::Scope;
use crate::admin::status::status;
use crate::admin::{Act, calendar, graph};
use crate::record::device::{
    Attested, Decision, Device, HeldCertificates, KeyLine, Leaving, MAX_ZONES, Prover, Tpm, attested_key,
    device_key, ek_key, held_key, held_prefix,
};
use crate::record::overriding::{OverrideRecord, override_key};
use crate::record::plant::AdminRole;
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::store::Txn;

pub(super) fn zone(name: &str) -> ZoneName {
    name.parse().unwrap()
}

pub(super) async fn bench() -> (Bench, DeviceName) {
    let bench = Bench::new().await;
    for name in ["cell-3", "cell-4", "hall-5"] {
        bench.zone(&observing(name)).await;
    }
    let press = bench.device("press-7", &["cell-3"]).await;
    bench.attest(&press, "boot-a", Decision::Trusted).await;
    bench.certificate(&press, "cell-3", 0x41).await;
    (bench, press)
}

pub(super) fn request(name: &DeviceName, to: &str, window: Option<&str>) -> Request {
    let window = window.map(|text| text.parse().unwrap());
    Request {
        name: name.clone(),
        to: zone(to),
        from: None,
        window,
        reason: "line 4 grows".to_owned(),
        seen: None,
    }
}

pub(super) async fn ask(bench: &Bench, request: &Request) -> Result<Moved, Refusal> {
    begin(&bench.plant, &bench.actor(Act::MoveDevice).await, request, false).await
}

async fn held(bench: &Bench, name: &DeviceName) -> usize {
    let all: Vec<Held<HeldCertificates>> =
        list(bench.plant.store.as_ref(), &held_prefix(name)).await.unwrap();
    all.iter().map(|held| held.record.certificates.len()).sum()
}

#[tokio::test]
async fn a_device_that_moves_is_in_both_zones_and_can_come_back() {
    let (bench, press) = bench().await;
    let moved = ask(&bench, &request(&press, "cell-4", None)).await.unwrap();
    assert_eq!((moved.from, moved.to, moved.begins), (zone("cell-3"), zone("cell-4"), None));
    let device: Device = bench.read(device_key(&press)).await;
    let leaving = |from: &str, to: &str| Some(Leaving { from: zone(from), to: zone(to), since: NOW });
    assert_eq!((device.zones.len(), device.asked), (2, 1));
    assert_eq!(device.leaving, leaving("cell-3", "cell-4"));
    assert_eq!(held(&bench, &press).await, 1, "nothing is revoked before it has arrived");
    let text = refused!(ask(&bench, &request(&press, "hall-5", None)).await, Conflict);
    assert!(text.contains("moves from cell-3 to cell-4 already"), "{text}");
    ask(&bench, &request(&press, "cell-3", None)).await.unwrap();
    let device: Device = bench.read(device_key(&press)).await;
    assert_eq!(device.leaving, leaving("cell-4", "cell-3"), "and back");
}

#[tokio::test]
async fn a_move_that_does_not_end_is_seen() {
    let (bench, press) = bench().await;
    ask(&bench, &request(&press, "cell-4", None)).await.unwrap();
    let due = bench.read::<Device>(device_key(&press)).await.leaving.unwrap().due();
    let actor = bench.actor(Act::ReadStatus).await;
    let entry = async || {
        let all = calendar::all(&bench.plant, &actor).await.unwrap();
        all.into_iter().find(|entry| entry.kind == "move").map(|entry| (entry.at, entry.text))
    };
    let told = async || {
        let page = status(&bench.plant, &actor).await.unwrap();
        page.attention.into_iter().find(|one| one.message.contains("did not end")).map(|one| one.message)
    };
    let text = "press-7, on its way to cell-4, gets no new certificates of cell-3";
    assert_eq!(entry().await, Some((due, text.to_owned())));
    assert_eq!(told().await, None, "it has a week");
    bench.clock.set(due.plus(1));
    assert_eq!(entry().await, None, "what it held has ended too");
    let text = told().await.unwrap();
    assert!(text.contains("cell-4 gives it no certificate, and it has none of cell-3 any more"), "{text}");
    assert!(text.contains("touchstone device move press-7 --to cell-3"), "{text}");
    bench.certificate(&press, "cell-3", 0x42).await;
    let end = bench.read::<HeldCertificates>(held_key(&press, &zone("cell-3"))).await.certificates[0]
        .validity
        .not_after;
    let text = "press-7, on its way to cell-4, has no certificate of cell-3 any more";
    assert_eq!(entry().await, Some((end, text.to_owned())));
    let text = told().await.unwrap();
    assert!(text.contains(&format!("its last one of cell-3 ends on {end}")), "{text}");
    bench.certificate(&press, "cell-4", 0x43).await;
    let text = told().await.unwrap();
    assert!(text.contains("it has certificates of cell-4 and does not say that its software"), "{text}");
}

#[tokio::test]
async fn the_calendar_names_devices_whose_certificates_nothing_replaces() {
    let bench = Bench::new().await;
    for zone in ["cell-3", "cell-4"] {
        bench.zone(&observing(zone)).await;
    }
    let heard = bench.device("press-1", &["cell-3"]).await;
    let gateway = bench.device("gateway-1", &["cell-3", "cell-4"]).await;
    for (serial, (name, zone)) in
        [(&heard, "cell-3"), (&gateway, "cell-3"), (&gateway, "cell-4")].into_iter().enumerate()
    {
        bench.certificate(name, zone, u8::try_from(serial).unwrap()).await;
    }
    bench.attest(&heard, "boot-a", Decision::Trusted).await;
    bench.attest(&gateway, "boot-a", Decision::Refused).await;
    let dates = async |actor: &crate::admin::Actor| {
        let all = calendar::all(&bench.plant, actor).await.unwrap();
        let of_devices = all.into_iter().filter(|entry| entry.kind == "device");
        of_devices.map(|entry| (entry.subject, entry.at, entry.next_command)).collect::<Vec<_>>()
    };
    let owner = bench.actor(Act::ReadStatus).await;
    assert_eq!(dates(&owner).await, [], "who was heard lately gets others");
    let silent = NOW.plus(observing("cell-3").timing.silent_after() + 1);
    bench.clock.set(silent);
    bench.attest(&heard, "boot-a", Decision::Trusted).await;
    let end = NOW.plus(3600);
    let entry =
        |zone: &str| (format!("gateway-1/{zone}"), end, "touchstone device attest gateway-1".to_owned());
    assert_eq!(dates(&owner).await, [entry("cell-3"), entry("cell-4")], "also where one zone refused it");
    let limited = bench.administrator("bob", AdminRole::Viewer, Some(&["cell-4"])).await;
    let limited = authorize(&bench.plant, &limited, Act::ReadStatus).await.unwrap();
    assert_eq!(dates(&limited).await, [entry("cell-4")], "the other zone is not theirs");
    bench.clock.set(end);
    assert_eq!(dates(&owner).await, [], "what ended is past");
}

#[tokio::test]
async fn the_calendar_has_when_an_open_window_closes() {
    let bench = Bench::new().await;
    for zone in ["cell-3", "cell-4"] {
        bench.zone(&observing(zone)).await;
    }
    // It is a Friday, 08:00.
    let conduit = policy::zone::Conduit {
        from: zone("cell-3"),
        to: zone("cell-4"),
        service: "ssh".parse().unwrap(),
        schedule: Some("daily 07:00-09:00".parse().unwrap()),
        expires: None,
        accept_observed: false,
    };
    let actor = bench.actor(Act::AllowConduit).await;
    let unoffered = crate::admin::conduit::Unoffered::Accept;
    crate::admin::conduit::allow(&bench.plant, &actor, &conduit, None, unoffered, false).await.unwrap();
    let dates = async || {
        let all = calendar::all(&bench.plant, &bench.actor(Act::ReadStatus).await).await.unwrap();
        let all = all.into_iter().filter(|one| one.subject == "cell-3/cell-4/ssh");
        all.map(|one| (one.kind, one.at, one.until)).collect::<Vec<_>>()
    };
    let next = NOW.plus(23 * 3_600);
    let opens = ("window", next, Some(next.plus(7_200)));
    assert_eq!(dates().await, [("closing", NOW.plus(3_600), None), opens]);
    bench.clock.set(NOW.plus(3_600));
    assert_eq!(dates().await, [opens]);
}

#[tokio::test]
async fn the_calendar_is_not_flooded_by_a_plant_that_is_not_heard() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    for nth in 0..103 {
        let name = bench.device(&format!("press-{nth:03}"), &["cell-3"]).await;
        bench.attest(&name, "boot-a", Decision::Trusted).await;
        bench.certificate(&name, "cell-3", nth).await;
    }
    bench.clock.set(NOW.plus(3000));
    let all = calendar::all(&bench.plant, &bench.actor(Act::ReadStatus).await).await.unwrap();
    let dates: Vec<_> = all.iter().filter(|entry| entry.kind == "device").collect();
    assert_eq!(dates.len(), 101);
    let more = dates.iter().find(|entry| entry.subject == "more").unwrap();
    assert!(more.text.starts_with("3 more certificates of devices"), "{}", more.text);
}

#[tokio::test]
async fn the_calendar_has_the_roots_that_the_plant_trusts() {
    let root = |name: &str, year: i32| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    let mut bench = Bench::new().await;
    let (chips, former, boxes) = (root("Chip Works", 2090), root("Old Chips", 2001), root("Box Works", 2091));
    bench.plant.roots.add("chips.pem", &chips).unwrap();
    bench.plant.roots.add("copy.pem", &chips).unwrap();
    bench.plant.roots.add("former.pem", &former).unwrap();
    bench.plant.idevid_roots.add("boxes.pem", &boxes).unwrap();
    let all = calendar::all(&bench.plant, &bench.actor(Act::ReadStatus).await).await.unwrap();
    let dates: Vec<_> = all.into_iter().filter(|entry| entry.kind == "manufacturer").collect();
    let told = dates.iter().map(|entry| (entry.at.to_string(), entry.text.as_str()));
    let told: Vec<(String, &str)> = told.collect();
    let [chip, maker] = &told[..] else { panic!("what ended is past, a copy is no other: {told:?}") };
    assert_eq!((&chip.0[..10], &maker.0[..10]), ("2090-01-01", "2091-01-01"));
    assert!(chip.1.starts_with("the root CN=Chip Works (chips.pem) ends: TPMs"), "{chip:?}");
    assert!(maker.1.contains("CN=Box Works") && maker.1.contains("`idevid_roots`"), "{maker:?}");
    assert_eq!(dates[0].subject, format!("tpm_roots/{}", Digest::of(&chips)));
}

#[tokio::test]
async fn a_move_that_ends_before_its_end_leaves_the_old_zone() {
    let (bench, press) = bench().await;
    ask(&bench, &request(&press, "cell-4", None)).await.unwrap();
    let aside = Request { from: Some(zone("hall-5")), ..request(&press, "cell-3", None) };
    let text = refused!(ask(&bench, &aside).await, Conflict);
    assert_eq!(
        text,
        "press-7 moves from cell-3 to cell-4 already; to move it back, it leaves cell-4 and not hall-5"
    );
    let actor = bench.actor(Act::RetireDevice).await;
    retire(&bench.plant, &actor, &press, "scrapped", false).await.unwrap();
    let readmitting = bench.actor(Act::ReadmitDevice).await;
    stop::readmit(&bench.plant, &readmitting, (&press, None), "repaired").await.unwrap();
    let device: Device = bench.read(device_key(&press)).await;
    assert_eq!((&device.zones[..], device.leaving), (&[zone("cell-4")][..], None));
}

#[tokio::test]
async fn a_move_names_what_it_cannot_do() {
    let (bench, press) = bench().await;
    let before = bench.revision();
    let text = refused!(ask(&bench, &request(&press, "cell-3", None)).await, Conflict);
    assert_eq!(text, "press-7 is in cell-3 already");
    refused!(ask(&bench, &request(&press, "cell-9", None)).await, NotFound);
    let elsewhere = Request { from: Some(zone("hall-5")), ..request(&press, "cell-4", None) };
    let text = refused!(ask(&bench, &elsewhere).await, Conflict);
    assert_eq!(text, "press-7 cannot leave hall-5: it is not there");
    let actor = bench.actor(Act::MoveDevice).await;
    begin(&bench.plant, &actor, &request(&press, "cell-4", None), true).await.unwrap();
    assert_eq!(bench.revision(), before, "refusals and dry runs change nothing");
    let gateway = bench.device("gateway", &["cell-3", "hall-5"]).await;
    let text = refused!(ask(&bench, &request(&gateway, "cell-4", None)).await, Malformed);
    assert!(text.contains("is in 2 zones; say which one it leaves"), "{text}");
    let from = Request { from: Some(zone("hall-5")), ..request(&gateway, "cell-4", None) };
    assert_eq!(ask(&bench, &from).await.unwrap().from, zone("hall-5"));
    let mut everywhere: Device = bench.read(device_key(&press)).await;
    everywhere.zones.extend((1..MAX_ZONES).map(|n| zone(&format!("lab-{n}"))));
    let txn = Txn::new().put(device_key(&press), stored(&everywhere).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let ninth = Request { from: Some(zone("cell-3")), ..request(&press, "cell-4", None) };
    let text = refused!(ask(&bench, &ninth).await, Malformed);
    assert!(text.starts_with("press-7 is in 8 zones and cannot join one before it leaves one"), "{text}");
}

#[tokio::test]
async fn a_retired_device_loses_everything_and_comes_back_only_when_it_is_readmitted() {
    let (bench, press) = bench().await;
    let actor = bench.actor(Act::RetireDevice).await;
    let excused = OverrideRecord {
        device: press.clone(),
        zones: vec![zone("cell-3")],
        excused: policy::zone::Override { mismatches: [].into(), until: NOW.plus(3_600) },
        at: NOW,
        by: "ada".to_owned(),
        approved_by: "sam".to_owned(),
        reason: "line stands".to_owned(),
    };
    let txn = Txn::new().put(override_key(&press), stored(&excused).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    assert_eq!(retire(&bench.plant, &actor, &press, "scrapped", true).await.unwrap(), 1);
    assert_eq!(held(&bench, &press).await, 1, "a dry run revokes nothing");
    assert_eq!(retire(&bench.plant, &actor, &press, "scrapped", false).await.unwrap(), 1);
    assert_eq!(held(&bench, &press).await, 0);
    assert!(bench.read::<Tpm>(ek_key(&Digest::of(b"press-7"))).await.retired);
    refused!(retire(&bench.plant, &actor, &press, "scrapped", false).await, Retired);
    let left: Option<Held<OverrideRecord>> =
        fetch(bench.plant.store.as_ref(), override_key(&press)).await.unwrap();
    assert!(left.is_none(), "whoever is readmitted comes back without it");
    refused!(ask(&bench, &request(&press, "cell-4", None)).await, Retired);
    let view = graph::view(&bench.plant, &Scope::Plant).await.unwrap();
    assert!(view.members.is_empty(), "it is nobody's peer");
    let readmitting = bench.actor(Act::ReadmitDevice).await;
    stop::readmit(&bench.plant, &readmitting, (&press, None), "repaired").await.unwrap();
    let Seen::Device(view) = one(&bench.plant, &Scope::Plant, &DeviceRef::Name(press.clone())).await.unwrap()
    else {
        panic!("no device")
    };
    assert_eq!(view.state, State::Trusted);
    assert!(!view.tpm.retired && view.device.asked == 1, "it is asked for proof");
}

#[tokio::test]
async fn another_tpm_takes_the_name_and_the_former_is_barred() {
    let (bench, press) = bench().await;
    let stopping = bench.actor(Act::QuarantineDevice).await;
    stop::quarantine(&bench.plant, &stopping, &press, "odd traffic").await.unwrap();
    bench.certificate(&press, "cell-3", 0x42).await;
    let actor = bench.actor(Act::ReplaceDevice).await;
    let (old, new) = (Digest::of(b"press-7"), Digest([9; 32]));
    let text = refused!(replace(&bench.plant, &actor, (&press, &old), "board", false).await, Conflict);
    assert!(text.contains("press-7 has EK"), "{text}");
    let other = bench.device("press-8", &["cell-3"]).await;
    let taken = bench.read::<Device>(device_key(&other)).await.ek;
    let text = refused!(replace(&bench.plant, &actor, (&press, &taken), "board", false).await, Conflict);
    assert!(text.contains("belongs to press-8"), "{text}");

    stop::quarantine(&bench.plant, &stopping, &other, "stolen").await.unwrap();
    let mut spare: Tpm = bench.read(ek_key(&taken)).await;
    spare.device = None;
    bench.plant.store.transact(Txn::new().put(ek_key(&taken), stored(&spare).unwrap())).await.unwrap();
    let text = refused!(replace(&bench.plant, &actor, (&press, &taken), "board", false).await, Quarantined);
    assert!(text.contains(&taken.to_string()) && text.contains("stolen"), "{text}");

    let done = replace(&bench.plant, &actor, (&press, &new), "board", false).await.unwrap();
    assert_eq!((done.former, done.revoked), (old, 1));
    let (former, next): (Tpm, Tpm) = (bench.read(ek_key(&old)).await, bench.read(ek_key(&new)).await);
    assert!(former.retired && former.device.is_none() && former.quarantine.is_some(), "{former:?}");
    assert!(next.registered && next.quarantine.is_none() && !next.retired, "{next:?}");
    let device: Device = bench.read(device_key(&press)).await;
    assert_eq!((device.ek, device.ak.is_none(), device.counter), (new, true, 2));
    let attested = fetch::<Attested>(bench.plant.store.as_ref(), attested_key(&press)).await.unwrap();
    assert!(attested.is_none(), "counters of the former TPM say nothing of this one");
    let text = refused!(replace(&bench.plant, &actor, (&press, &old), "back", false).await, Conflict);
    assert!(text.contains("barred for good"), "{text}");
}

#[tokio::test]
async fn out_of_a_zone_that_asks_for_two_people_two_move_retire_and_replace() {
    let office = Office::new().await;
    let name = || "press-7".to_owned();
    let moving = v1::MoveDeviceRequest { name: name(), to: "cell-4".to_owned(), ..Default::default() };
    let id = waits(office.service.move_device(by(&office.ada, moving)).await.map(drop));
    let retiring = v1::RetireDeviceRequest { name: name(), reason: "old".to_owned(), dry_run: false };
    waits(office.service.retire_device(by(&office.ada, retiring)).await.map(drop));
    let replacing = v1::ReplaceDeviceRequest {
        name: name(),
        ek_digest: vec![9; 32],
        reason: "board".to_owned(),
        dry_run: false,
    };
    waits(office.service.replace_device(by(&office.ada, replacing)).await.map(drop));
    assert!(office.device("press-7").await.leaving.is_none());
    office.approve(&office.bob, &id).await.unwrap();
    assert_eq!(office.device("press-7").await.leaving.unwrap().to, zone("cell-4"));
    let bad = v1::MoveDeviceRequest {
        name: name(),
        to: "cell-4".to_owned(),
        window: "night".to_owned(),
        ..Default::default()
    };
    let (reason, text) = refusal(office.service.move_device(by(&office.ada, bad)).await.map(drop));
    assert!(reason == Reason::Malformed && text.contains("`night` is no window"), "{text}");
}

#[tokio::test]
async fn a_device_without_a_tpm_goes_into_no_zone_that_asks_for_one() {
    let (bench, press) = bench().await;
    let mut device: Device = bench.read(device_key(&press)).await;
    device.prover = Prover::Key(KeyLine::default());
    let txn = Txn::new().put(device_key(&press), stored(&device).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let before = bench.revision();
    let text = refused!(ask(&bench, &request(&press, "cell-4", None)).await, Conflict);
    assert!(text.contains("which a device without a TPM cannot prove"), "{text}");
    let (actor, wanted) = (bench.actor(Act::AdmitDevice).await, vec![zone("cell-3"), zone("cell-4")]);
    let device = DeviceRef::Name(press.clone());
    let admitted = admit::Request { device, name: None, zones: wanted, seen: None };
    let text = refused!(admit::admit(&bench.plant, &actor, &admitted).await, Conflict);
    assert!(text.starts_with("zone cell-4 asks for "), "{text}");
    assert_eq!(bench.revision(), before, "nothing changes");
}
