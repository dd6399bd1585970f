//! Two people: what waits, who approves it, and what happened meanwhile.

use policy::id::ZoneName;
use policy::zone::Zone;
use proto::v1;
use proto::v1::DenialReason as Reason;
use proto::v1::admin_server::Admin;

use super::office::{Office, by, refusal, waits};
use super::{Bench, NOW, observing};
use crate::admin::second::{self, WAITS};
use crate::admin::{Act, authorize};
use crate::record::change::CHANGE;
use crate::record::plant::{AdminRole, admin_key};
use crate::record::stored;
use crate::record::zone::zone_key;
use crate::store::record::decode;
use crate::store::{Txn, TxnError};

#[tokio::test]
async fn a_change_waits_and_is_carried_out_once_in_the_name_of_both() {
    let office = Office::new().await;
    let before = office.state().await;
    let id = waits(office.readmit(&office.ada, "press-7").await);
    assert_eq!(office.state().await, before, "nothing is carried out");
    let listed = office.waiting(&office.bob).await;
    assert_eq!(
        (listed.len(), listed[0].id.as_str(), listed[0].act.as_str()),
        (1, id.as_str(), "device.readmit")
    );
    assert_eq!((listed[0].subject.as_str(), listed[0].text.as_str()), ("press-7", "repaired"));
    assert!(listed[0].yours_to_approve && !office.waiting(&office.ada).await[0].yours_to_approve);
    assert_eq!(waits(office.readmit(&office.ada, "press-7").await), id, "asked again, it is the same change");

    office.approve(&office.bob, &id).await.unwrap();
    assert_eq!(office.device("press-7").await.asked, 1, "it is readmitted");
    let (reason, text) = refusal(office.approve(&office.bob, &id).await);
    assert_eq!(reason, Reason::NotFound, "{text}");
    assert_eq!(office.device("press-7").await.asked, 1, "once");
    let events = office.events().await;
    let told = |actor: &str, action: &str| {
        events
            .iter()
            .find(|event| event.actor == actor && event.action == action)
            .map(|event| event.text.clone())
    };
    assert_eq!(told("ada", "device.readmit").unwrap(), "approved by bob; repaired");
    assert_eq!(told("bob", "change.approve").unwrap(), "device.readmit press-7, asked for by ada");
    assert!(told("ada", "change.ask").unwrap().contains("asks for device.readmit press-7"));
}

#[tokio::test]
async fn what_touches_no_such_zone_and_what_must_not_wait_is_done_at_once() {
    let office = Office::new().await;
    office.readmit(&office.ada, "press-8").await.unwrap();
    let stop =
        |name: &str| v1::QuarantineDeviceRequest { name: name.to_owned(), reason: "stolen".to_owned() };
    office.service.quarantine_device(by(&office.ada, stop("press-7"))).await.unwrap();
    let dry = v1::SetZoneRequest {
        name: "cell-3".to_owned(),
        two_person: Some(false),
        dry_run: true,
        ..v1::SetZoneRequest::default()
    };
    office.service.set_zone(by(&office.ada, dry)).await.unwrap();
    assert!(office.waiting(&office.ada).await.is_empty());
    // Into such a zone, and out of it.
    waits(office.move_to(&office.ada, "press-8", &["cell-3"]).await);
    waits(office.move_to(&office.ada, "press-7", &["cell-4"]).await);
}

#[tokio::test]
async fn two_people_are_asked_for_by_one_and_no_longer_by_two() {
    let office = Office::new().await;
    let id = waits(office.two_person(&office.ada, "cell-3", false).await);
    office.approve(&office.bob, &id).await.unwrap();
    office.readmit(&office.ada, "press-7").await.unwrap();
}

#[tokio::test]
async fn a_zone_asks_for_two_people_only_where_there_are_two() {
    let bench = Bench::new().await;
    let mut zone = observing("cell-3");
    zone.two_person = true;
    let actor = bench.actor(Act::CreateZone).await;
    let made = crate::admin::zone::create(&bench.plant, &actor, &zone, false).await;
    let text = super::refused!(made, Conflict);
    assert!(text.contains("only ada could approve"), "{text}");
    bench.administrator("eve", AdminRole::Security, Some(&["cell-4"])).await;
    super::refused!(crate::admin::zone::create(&bench.plant, &actor, &zone, false).await, Conflict);
    bench.administrator("bob", AdminRole::Security, Some(&["cell-3"])).await;
    crate::admin::zone::create(&bench.plant, &actor, &zone, false).await.unwrap();
}

/// How the store takes an act of one person in `zones`, of which `changed` is written anew after it was read.
async fn overtaken(bench: &Bench, zones: &[ZoneName], changed: Option<&ZoneName>) -> Result<(), String> {
    let reach = bench.actor(Act::ReadmitDevice).await.reach(&bench.plant, zones).await.unwrap();
    assert!(!reach.waits());
    if let Some(name) = changed {
        let asking = Zone { two_person: true, ..observing(name.as_str()) };
        let txn = Txn::new().put(zone_key(name), stored(&asking).unwrap());
        bench.plant.store.transact(txn).await.unwrap();
    }
    let deed = reach.deed("press-7", "repaired");
    let txn = second::settle(&bench.plant, &deed, Txn::new().put("done", "yes")).await.unwrap().unwrap();
    match bench.plant.store.transact(txn).await {
        Ok(_) => Ok(()),
        Err(TxnError::Conflict { key, .. }) => Err(key),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_zone_that_asks_for_two_people_from_this_moment_on_is_heard() {
    // As many zones as fit a transaction, and as do not.
    for count in [1, 8, 150] {
        let bench = Bench::new().await;
        let zones: Vec<ZoneName> = (0..count).map(|n| format!("cell-{n}").parse().unwrap()).collect();
        for zone in &zones {
            let txn = Txn::new().put(zone_key(zone), stored(&observing(zone.as_str())).unwrap());
            bench.plant.store.transact(txn).await.unwrap();
        }
        let last = zones.last().unwrap();
        assert_eq!(overtaken(&bench, &zones, None).await, Ok(()), "{count}");
        assert_eq!(overtaken(&bench, &zones, Some(last)).await, Err(zone_key(last)), "{count}");
    }
}

#[tokio::test]
async fn nobody_approves_their_own_and_everybody_drops_it() {
    let office = Office::new().await;
    let id = waits(office.readmit(&office.ada, "press-7").await);
    let (reason, text) = refusal(office.approve(&office.ada, &id).await);
    assert_eq!(
        (reason, text),
        (Reason::NotPermitted, format!("ada asked for change {id}; nobody approves their own"))
    );
    office.reject(&office.ada, &id).await.unwrap();
    assert_eq!(refusal(office.approve(&office.bob, &id).await).0, Reason::NotFound);
}

#[tokio::test]
async fn the_morning_page_names_what_waits_for_whoever_reads_it() {
    let office = Office::new().await;
    let id = waits(office.readmit(&office.ada, "press-7").await);
    let page = async |who| {
        let answer = office.service.get_status(by(who, v1::GetStatusRequest {})).await.unwrap();
        answer.into_inner().attention.into_iter().map(|one| one.next_command).collect::<Vec<_>>()
    };
    let command = format!("touchstone change show {id}");
    assert!(page(&office.bob).await.contains(&command));
    assert!(!page(&office.ada).await.contains(&command), "their own waits for others");
}

#[tokio::test]
async fn an_approval_that_is_only_tried_changes_nothing() {
    let office = Office::new().await;
    let id = waits(office.move_to(&office.ada, "press-8", &["cell-3"]).await);
    let before = office.plant.store.revision();
    let request = v1::ApproveChangeRequest { id: id.clone(), dry_run: true };
    office.service.approve_change(by(&office.bob, request)).await.unwrap();
    assert_eq!(office.plant.store.revision(), before);
    office.approve(&office.bob, &id).await.unwrap();
}

#[tokio::test]
async fn an_approver_needs_role_and_reach_of_the_act() {
    let office = Office::new().await;
    let id = waits(office.move_to(&office.ada, "press-8", &["cell-3"]).await);
    let viewer = office.administrator("vic", AdminRole::Viewer, None).await;
    let engineer = office.administrator("eve", AdminRole::Engineer, None).await;
    let half = office.administrator("half", AdminRole::Operator, Some(&["cell-3"])).await;
    let far = office.administrator("far", AdminRole::Operator, Some(&["historian"])).await;
    for (who, reason, words) in [
        (&viewer, Reason::NotPermitted, "needs the role operator; vic has the role viewer"),
        (&engineer, Reason::NotPermitted, "needs the role operator; eve has the role engineer"),
        (&half, Reason::NotPermitted, "device.admit touches zone cell-4; half is limited to cell-3"),
        (&far, Reason::NotFound, "no change"),
    ] {
        let (found, text) = refusal(office.approve(who, &id).await);
        assert!(found == reason && text.contains(words), "{}: {found:?} {text}", who.name);
        let (found, text) = refusal(office.reject(who, &id).await);
        assert_eq!(found, reason, "{}: {text}", who.name);
        assert!(office.waiting(who).await.iter().all(|change| !change.yours_to_approve), "{}", who.name);
    }
    assert!(office.waiting(&far).await.is_empty(), "it is not shown");
    let both = office.administrator("both", AdminRole::Operator, Some(&["cell-3", "cell-4"])).await;
    office.approve(&both, &id).await.unwrap();
    assert_eq!(office.device("press-8").await.zones, ["cell-3".parse().unwrap()]);
}

#[tokio::test]
async fn a_change_ends_after_a_day_and_is_swept() {
    let office = Office::new().await;
    let id = waits(office.readmit(&office.ada, "press-7").await);
    office.clock.set(NOW.plus(WAITS));
    let (reason, text) = refusal(office.approve(&office.bob, &id).await);
    assert!(reason == Reason::Conflict && text.contains("which is past; ask for it again"), "{text}");
    assert!(office.waiting(&office.bob).await.is_empty());
    let again = waits(office.readmit(&office.ada, "press-7").await);
    assert_ne!(again, id);
    assert_eq!(office.plant.store.scan(CHANGE, None, 10).await.unwrap().len(), 1, "the old one is swept");
}

#[tokio::test]
async fn what_changed_meanwhile_is_named() {
    let office = Office::new().await;
    let id = waits(office.move_to(&office.ada, "press-8", &["cell-3"]).await);
    office.two_person(&office.ada, "cell-4", true).await.unwrap();
    let (reason, text) = refusal(office.approve(&office.bob, &id).await);
    assert!(reason == Reason::Conflict && text.contains("others changed zone cell-4;"), "{text}");
    office.reject(&office.bob, &id).await.unwrap();

    let id = waits(office.readmit(&office.ada, "press-7").await);
    let moved = waits(office.move_to(&office.ada, "press-7", &["cell-4"]).await);
    office.approve(&office.bob, &moved).await.unwrap();
    let (reason, text) = refusal(office.approve(&office.bob, &id).await);
    assert!(reason == Reason::Conflict && text.contains("what it touches (now the zones cell-4)"), "{text}");
}

#[tokio::test]
async fn what_is_so_already_is_over() {
    let office = Office::new().await;
    let first = waits(office.move_to(&office.ada, "press-8", &["cell-3"]).await);
    let second = waits(office.move_to(&office.bob, "press-8", &["cell-3"]).await);
    office.approve(&office.bob, &first).await.unwrap();
    office.approve(&office.ada, &second).await.unwrap();
    assert!(office.waiting(&office.ada).await.is_empty());
    let events = office.events().await;
    assert!(events.iter().any(|event| event.text == "device.admit press-8: it was so already"));
}

#[tokio::test]
async fn whoever_asked_and_was_removed_asks_for_nothing_any_more() {
    let office = Office::new().await;
    let cy = office.administrator("cy", AdminRole::Operator, None).await;
    let id = waits(office.readmit(&cy, "press-7").await);
    office.plant.store.transact(Txn::new().delete(admin_key("cy"))).await.unwrap();
    let (reason, text) = refusal(office.approve(&office.bob, &id).await);
    assert!(reason == Reason::Conflict && text.contains("cy, who asked for change"), "{text}");
    // Another person of the same name did not ask.
    office.clock.set(NOW.plus(60));
    office.administrator("cy", AdminRole::Operator, None).await;
    assert_eq!(refusal(office.approve(&office.bob, &id).await).0, Reason::Conflict);
}

#[tokio::test]
async fn whoever_asked_and_lost_the_role_asks_for_nothing_any_more() {
    let office = Office::new().await;
    let cy = office.administrator("cy", AdminRole::Operator, None).await;
    let id = waits(office.readmit(&cy, "press-7").await);
    office.administrator("cy", AdminRole::Viewer, None).await;
    let (reason, text) = refusal(office.approve(&office.bob, &id).await);
    assert_eq!(reason, Reason::NotPermitted);
    assert_eq!(text, "device.readmit needs the role operator; cy has the role viewer");
}

#[tokio::test]
async fn two_approvals_at_once_carry_it_out_once() {
    let office = Office::new().await;
    let cy = office.administrator("cy", AdminRole::Operator, None).await;
    let id = waits(office.readmit(&cy, "press-7").await);
    let actor = |peer| authorize(&office.plant, peer, Act::ApproveChange);
    let (ada, bob) = (actor(&office.ada).await.unwrap(), actor(&office.bob).await.unwrap());
    let first = second::approve(&office.plant, &ada, &id, false).await.unwrap();
    let other = second::approve(&office.plant, &bob, &id, false).await.unwrap();
    let name = "press-7".parse().unwrap();
    let readmit = crate::admin::device::stop::readmit;
    readmit(&office.plant, &first.actor, (&name, None), "repaired").await.unwrap();
    let late = readmit(&office.plant, &other.actor, (&name, None), "repaired").await;
    let text = super::refused!(late, Conflict);
    assert!(text.contains("approved or rejected by somebody else"), "{text}");
    assert_eq!(office.device("press-7").await.asked, 1);
}

#[tokio::test]
async fn a_long_list_waits_as_a_whole() {
    let office = Office::new().await;
    let entry = |n: u8| v1::DeviceEntry {
        name: format!("new-{n}"),
        zones: vec!["cell-3".to_owned()],
        ek_digest: vec![n; 32],
        ..v1::DeviceEntry::default()
    };
    let request = v1::ImportDevicesRequest { devices: (1..=20).map(entry).collect(), dry_run: false };
    let outcome = office.service.import_devices(by(&office.ada, request)).await;
    let id = waits(outcome.map(drop));
    assert_eq!(office.waiting(&office.bob).await[0].subject, "new-1 and 19 more");
    office.approve(&office.bob, &id).await.unwrap();
    for n in 1..=20 {
        assert_eq!(office.device(&format!("new-{n}")).await.admitted_by, "ada");
    }
    let approvals = office.events().await.into_iter().filter(|event| event.action == "change.approve");
    assert_eq!(approvals.count(), 1);
}

#[tokio::test]
async fn one_person_does_not_fill_the_list() {
    let office = Office::new().await;
    for n in 0..32 {
        let request = v1::ReadmitDeviceRequest {
            name: "press-7".to_owned(),
            reason: format!("reason {n}"),
            seen: None,
        };
        waits(office.service.readmit_device(by(&office.ada, request)).await);
    }
    let (reason, text) = refusal(office.readmit(&office.ada, "press-7").await);
    assert!(reason == Reason::Conflict && text.starts_with("32 changes of ada wait"), "{text}");
    waits(office.readmit(&office.bob, "press-7").await);
}

#[tokio::test]
async fn the_secret_of_a_token_goes_to_whoever_approved_it() {
    let office = Office::new().await;
    let request =
        v1::CreateTokenRequest { zones: vec!["cell-3".to_owned()], ..v1::CreateTokenRequest::default() };
    let id = waits(office.service.create_token(by(&office.ada, request)).await);
    let try_it = v1::ApproveChangeRequest { id: id.clone(), dry_run: true };
    let tried = office.service.approve_change(by(&office.bob, try_it)).await.unwrap().into_inner();
    assert!(tried.answer.is_empty(), "a token that is not made is not shown");
    let answer = office.approve(&office.bob, &id).await.unwrap().answer;
    let made: v1::CreateTokenResponse = prost::Message::decode(answer.as_slice()).unwrap();
    assert!(made.token.starts_with("ts1."));
}

#[tokio::test]
async fn the_blobs_of_a_change_are_in_use() {
    let office = Office::new().await;
    waits(office.readmit(&office.ada, "press-7").await);
    let used = crate::admin::backup::blobs_in_use(office.plant.store.as_ref(), NOW).await.unwrap();
    let stored = office.plant.store.scan(CHANGE, None, 10).await.unwrap();
    let change: crate::record::change::Change = decode(&stored[0].0, &stored[0].1.value).unwrap();
    assert!(used.contains(&change.request) && used.contains(&change.basis));
}
