//! Moves that wait for their window, and what becomes of them when it opens.

use policy::id::DeviceName;
use policy::time::UnixTime;

use super::day_two::{ask, bench, request, zone};
use super::office::{Office, by, waits};
use super::{Bench, NOW, refused};
use crate::admin::Act;
use crate::admin::device::moving::cancel;
use crate::admin::device::retire::retire;
use crate::moving;
use crate::record::device::{Admission, Device, KeyLine, MAX_ZONES, Prover, device_key};
use crate::record::moving::{PlannedMove, move_key};
use crate::record::plant::{AdminRole, admin_key};
use crate::record::zone::zone_key;
use crate::record::{fetch, stored};
use crate::store::Txn;
use proto::v1;
use proto::v1::admin_server::Admin;

/// Saturdays and Sundays, and [`NOW`] is a Friday.
const WINDOW: &str = "sat,sun 22:00-04:00";

/// A device that is to move to cell-4, and when.
async fn planned() -> (Bench, DeviceName, UnixTime) {
    let (bench, press) = bench().await;
    let opens = ask(&bench, &request(&press, "cell-4", Some(WINDOW))).await.unwrap().begins.unwrap();
    assert!(opens > NOW && opens < NOW.plus(2 * 86_400), "{opens}");
    (bench, press, opens)
}

async fn waits_for_its_window(bench: &Bench, device: &DeviceName) -> bool {
    fetch::<PlannedMove>(bench.plant.store.as_ref(), move_key(device)).await.unwrap().is_some()
}

/// What is on record about the move once its window was open; it begins, or is dropped, once.
async fn due(bench: &Bench, press: &DeviceName, opens: UnixTime) -> String {
    bench.clock.set(opens);
    moving::turn(&bench.plant).await.unwrap();
    assert!(!waits_for_its_window(bench, press).await, "it is looked at once");
    bench.events(Some(press), 1).await.remove(0).text
}

/// Why the move is dropped after the device became something else.
async fn dropped(change: impl FnOnce(&mut Device)) -> String {
    let (bench, press, opens) = planned().await;
    let mut device: Device = bench.read(device_key(&press)).await;
    change(&mut device);
    let txn = Txn::new().put(device_key(&press), stored(&device).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let text = due(&bench, &press, opens).await;
    let after: Device = bench.read(device_key(&press)).await;
    assert_eq!((after.zones, after.leaving), (device.zones, device.leaving), "{text}");
    text.strip_prefix("not from cell-3 to cell-4, as ada planned it: ").expect(&text).to_owned()
}

#[tokio::test]
async fn it_begins_when_its_window_opens_and_once() {
    let (bench, press, opens) = planned().await;
    moving::turn(&bench.plant).await.unwrap();
    assert_eq!(bench.read::<Device>(device_key(&press)).await.leaving, None, "its window is not open");
    assert_eq!(due(&bench, &press, opens).await, "from cell-3 to cell-4, planned by ada");
    let device: Device = bench.read(device_key(&press)).await;
    assert_eq!(device.leaving.unwrap().to, zone("cell-4"));
    assert_eq!(device.zones, [zone("cell-3"), zone("cell-4")]);
}

#[tokio::test]
async fn one_that_cannot_be_read_keeps_no_other_from_beginning() {
    let (bench, press, opens) = planned().await;
    let broken = bench.device("a-first", &["cell-3"]).await;
    ask(&bench, &request(&broken, "cell-4", Some(WINDOW))).await.unwrap();
    let txn = Txn::new().put(device_key(&broken), b"not a record".to_vec());
    bench.plant.store.transact(txn).await.unwrap();
    assert_eq!(due(&bench, &press, opens).await, "from cell-3 to cell-4, planned by ada");
    assert!(waits_for_its_window(&bench, &broken).await, "it is tried again");
}

#[tokio::test]
async fn it_is_dropped_when_the_device_is_not_as_it_was() {
    let text = dropped(|device| device.zones = vec![zone("hall-5")]).await;
    assert_eq!(text, "press-7 is not in the zones any more that it was in");
    let text = dropped(|device| device.zones = vec![zone("cell-3"), zone("cell-4")]).await;
    assert_eq!(text, "press-7 is not in the zones any more that it was in");
    let text = dropped(|device| device.prover = Prover::Key(KeyLine::default())).await;
    assert!(text.starts_with("zone cell-4 asks for "), "{text}");
    let text = dropped(|device| device.admission = Admission::Retired).await;
    assert_eq!(text, "press-7 is no device in service any more");
    let leaving = crate::record::device::Leaving { from: zone("cell-3"), to: zone("hall-5"), since: NOW };
    let text = dropped(|device| device.leaving = Some(leaving)).await;
    assert_eq!(text, "press-7 is on its way to another zone");
    let more = (1..MAX_ZONES).map(|n| zone(&format!("lab-{n}")));
    let text = dropped(|device| device.zones.extend(more)).await;
    assert_eq!(text, "press-7 is in 8 zones and cannot join one more");
}

#[tokio::test]
async fn it_is_dropped_when_its_zone_is_gone() {
    let (bench, press, opens) = planned().await;
    bench.plant.store.transact(Txn::new().delete(zone_key(&zone("cell-4")))).await.unwrap();
    let text = due(&bench, &press, opens).await;
    assert!(text.ends_with("there is no zone cell-4 any more"), "{text}");
}

#[tokio::test]
async fn it_does_not_outlive_whoever_planned_it() {
    let (bench, press, opens) = planned().await;
    bench.plant.store.transact(Txn::new().delete(admin_key("ada"))).await.unwrap();
    bench.administrator("olga", AdminRole::Owner, None).await;
    let reads = async |bench: &Bench| bench.read::<Device>(device_key(&press)).await.zones;
    bench.clock.set(opens);
    moving::turn(&bench.plant).await.unwrap();
    assert_eq!(reads(&bench).await, [zone("cell-3")]);
    assert!(!waits_for_its_window(&bench, &press).await);

    // Nor does another person of that name stand for it, or who has less to say now.
    for (role, zones) in
        [(AdminRole::Owner, None), (AdminRole::Viewer, None), (AdminRole::Operator, Some(&["cell-3"][..]))]
    {
        let (bench, press, opens) = planned().await;
        let since: PlannedMove = bench.read(move_key(&press)).await;
        bench.clock.set(NOW.plus(u64::from(role == AdminRole::Owner)));
        bench.administrator("ada", role, zones).await;
        assert_eq!(since.people[0].since == Some(bench.plant.now()), role != AdminRole::Owner);
        bench.clock.set(opens);
        moving::turn(&bench.plant).await.unwrap();
        assert_eq!(bench.read::<Device>(device_key(&press)).await.zones, [zone("cell-3")], "{role:?}");
    }
}

#[tokio::test]
async fn a_zone_that_asks_for_two_people_since_takes_no_device_that_one_planned() {
    let office = Office::new().await;
    let plan = |name: &str, to: &str| v1::MoveDeviceRequest {
        name: name.to_owned(),
        to: to.to_owned(),
        window: WINDOW.to_owned(),
        ..Default::default()
    };
    // Two people planned this one, one person the other.
    let id = waits(office.service.move_device(by(&office.ada, plan("press-7", "cell-4"))).await.map(drop));
    office.approve(&office.bob, &id).await.unwrap();
    let id = waits(office.two_person(&office.ada, "cell-3", false).await);
    office.approve(&office.bob, &id).await.unwrap();
    let answer = office.service.move_device(by(&office.ada, plan("press-8", "cell-3"))).await.unwrap();
    let opens = UnixTime(answer.into_inner().begins_at);
    office.two_person(&office.ada, "cell-3", true).await.unwrap();
    office.clock.set(opens);
    moving::turn(&office.plant).await.unwrap();
    assert_eq!(office.device("press-7").await.leaving.unwrap().to, zone("cell-4"), "two planned it");
    assert_eq!(office.device("press-8").await.zones, [zone("cell-4")]);
    let texts: Vec<String> = office.events().await.into_iter().map(|event| event.text).collect();
    let why = "not from cell-4 to cell-3, as ada planned it: zone cell-3 asks for two people, and ada planned it alone";
    assert!(texts.iter().any(|text| text == why), "{texts:#?}");
}

#[tokio::test]
async fn it_can_be_cancelled_and_goes_with_its_device() {
    let (bench, press, _) = planned().await;
    let actor = bench.actor(Act::MoveDevice).await;
    assert_eq!(cancel(&bench.plant, &actor, &press, true).await.unwrap().to, zone("cell-4"));
    assert!(waits_for_its_window(&bench, &press).await, "a dry run changes nothing");
    assert_eq!(cancel(&bench.plant, &actor, &press, false).await.unwrap().to, zone("cell-4"));
    let text = refused!(cancel(&bench.plant, &actor, &press, false).await, NotFound);
    assert_eq!(text, "no move of press-7 waits for its window");
    ask(&bench, &request(&press, "cell-4", Some(WINDOW))).await.unwrap();
    let retiring = bench.actor(Act::RetireDevice).await;
    retire(&bench.plant, &retiring, &press, "scrapped", false).await.unwrap();
    assert!(!waits_for_its_window(&bench, &press).await, "it is not moved when it is readmitted");
}

#[tokio::test]
async fn a_window_that_never_opens_is_refused() {
    let (bench, press) = bench().await;
    // The calendar ends with the year 9999.
    bench.clock.set(UnixTime(400_000_000_000));
    let text = refused!(ask(&bench, &request(&press, "cell-4", Some(WINDOW))).await, Malformed);
    assert_eq!(text, format!("the window `{WINDOW}` never opens; name hours that come"));
}
