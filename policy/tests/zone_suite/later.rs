//! Who gains and loses which peer later, by the hours and ends of conduits.

use policy::time::UnixTime;
use policy::zone::Conduit;
use policy::zone::difference::{LaterChanges, later_changes, peer_changes};
use policy::zone::document::parse;
use policy::zone::inspection::Member;
use policy::zone::model::Segmentation;
use policy::zone::schedule::Schedule;
use proptest::prelude::*;

use crate::document::PLANT;
use crate::schedule::any_schedule;

const THURSDAY: &str = "2026-11-26T12:00:00Z";

/// The only device of the listening zone.
fn historian(offers: impl IntoIterator<Item = String>) -> [Member; 1] {
    [Member {
        device: "db".parse().unwrap(),
        zones: ["historian".parse().unwrap()].into(),
        offers: offers.into_iter().map(|service| service.parse().unwrap()).collect(),
        two_sided: [].into(),
    }]
}

/// The times that are told, with how many are gained and lost.
fn times(later: &LaterChanges) -> Vec<(String, usize, usize)> {
    later.told.iter().map(|(at, one)| (at.to_string(), one.gained.len(), one.lost.len())).collect()
}

/// A plant of these hours.
fn open(schedule: Option<Schedule>, expires: Option<UnixTime>) -> Segmentation {
    let plant = parse(PLANT).unwrap();
    let one = Conduit { schedule, expires, ..plant.conduits()[0].clone() };
    Segmentation::new(plant.zones().cloned().collect(), vec![one]).unwrap()
}

#[test]
fn a_window_that_moves_is_told_with_the_times_when_it_opens() {
    let hours = |hours: &str| PLANT.replace("sat,sun 22:00-04:00 in Europe/Berlin", hours);
    let before = parse(PLANT).unwrap();
    let members = historian(["opcua".to_owned()]);
    let now: UnixTime = THURSDAY.parse().unwrap();
    let later = |text: &str| {
        let after = parse(text).unwrap();
        assert!(peer_changes(&before, &after, &members, now).is_empty(), "closed now, before and after");
        times(&later_changes(&before, &after, &members, now))
    };
    let [friday, saturday] = ["2026-11-27T21:00:00Z", "2026-11-28T21:00:00Z"].map(str::to_owned);
    assert_eq!(later(&hours("fri 21:00-22:00")), [(friday, 1, 0), (saturday.clone(), 0, 1)]);
    let closed = PLANT.split_once("[[conduit]]").unwrap().0;
    assert_eq!(later(closed), [(saturday, 0, 1)]);
    assert_eq!(later(PLANT), []);
}

#[test]
fn who_loses_when_a_new_window_or_an_end_comes_is_told_with_the_time() {
    let always = PLANT.replace(
        "schedule = \"sat,sun 22:00-04:00 in Europe/Berlin\"\nexpires = \"2027-01-01T00:00:00Z\"\n",
        "",
    );
    let before = parse(&always).unwrap();
    let members = historian(["opcua".to_owned()]);
    let now: UnixTime = THURSDAY.parse().unwrap();
    let later = |line: &str| {
        let after = parse(&format!("{always}{line}\n")).unwrap();
        assert!(peer_changes(&before, &after, &members, now).is_empty(), "open now, before and after");
        let told = later_changes(&before, &after, &members, now);
        told.told
            .iter()
            .map(|(at, one)| (at.to_string(), one.gained.len(), one.lost.len()))
            .collect::<Vec<_>>()
    };
    assert_eq!(later("schedule = \"daily 00:00-23:59\""), [("2026-11-26T23:59:00Z".to_owned(), 0, 1)]);
    assert_eq!(later("expires = \"2026-12-01T00:00:00Z\""), [("2026-12-01T00:00:00Z".to_owned(), 0, 1)]);
}

#[test]
fn what_closes_soon_does_not_hide_what_opens_later() {
    let zones = PLANT.split_once("[[conduit]]").unwrap().0;
    let conduit = |n: usize, hours: &str| {
        format!("[[conduit]]\nfrom = \"cell-3\"\nto = \"historian\"\nservice = \"opcua-{n}\"\n{hours}")
    };
    let all = |hours: &dyn Fn(usize) -> String| (0..8).map(|n| conduit(n, &hours(n))).collect::<String>();
    let before = parse(&format!("{zones}{}", all(&|_| String::new()))).unwrap();
    // Each closes today at its own time, and a new one opens on Saturday.
    let closing = all(&|n| format!("schedule = \"daily 00:00-13:0{n}\"\n"));
    let opening = conduit(8, "schedule = \"sat 21:00-22:00\"\n");
    let after = parse(&format!("{zones}{closing}{opening}")).unwrap();
    let members = historian((0..9).map(|n| format!("opcua-{n}")));
    let now: UnixTime = THURSDAY.parse().unwrap();
    let told = later_changes(&before, &after, &members, now).told;
    assert_eq!(told.iter().filter(|(_, one)| one.lost.len() == 1).count(), 8, "{told:?}");
    let (at, last) = told.last().unwrap();
    assert_eq!((at.to_string().as_str(), last.gained.len()), ("2026-11-28T21:00:00Z", 1));
}

#[test]
fn hours_that_are_cut_are_told_though_the_next_edges_are_alike() {
    let members = historian(["opcua".to_owned()]);
    let now: UnixTime = THURSDAY.parse().unwrap();
    let later = |old: &str, new: &str| {
        let [old, new] = [old, new].map(|hours| open(Some(hours.parse().unwrap()), None));
        times(&later_changes(&old, &new, &members, now))
    };
    let lost = |at: &str| vec![(at.to_owned(), 0, 1)];
    assert_eq!(later("mon-fri 08:00-16:00", "mon-thu 08:00-16:00"), lost("2026-11-27T08:00:00Z"));
    assert_eq!(later("sat,sun 08:00-16:00", "sat 08:00-16:00"), lost("2026-11-29T08:00:00Z"));
    assert_eq!(
        later("sat 08:00-16:00", "sat 08:00-16:00; tue 07:00-07:30"),
        [("2026-12-01T07:00:00Z".to_owned(), 1, 0)]
    );
}

#[test]
fn an_end_that_is_far_is_told_when_the_hours_come_after_it() {
    let members = historian(["opcua".to_owned()]);
    let now: UnixTime = THURSDAY.parse().unwrap();
    let hours = || Some("sat 08:00-16:00".parse().unwrap());
    let end = "2027-03-01T00:00:00Z".parse().unwrap();
    let [ends, stays] = [Some(end), None].map(|end| open(hours(), end));
    let saturday = "2027-03-06T08:00:00Z".to_owned();
    assert_eq!(times(&later_changes(&ends, &stays, &members, now)), [(saturday.clone(), 1, 0)]);
    assert_eq!(times(&later_changes(&stays, &ends, &members, now)), [(saturday, 0, 1)]);
}

#[test]
fn hours_of_two_clocks_part_when_summer_time_begins() {
    let members = historian(["opcua".to_owned()]);
    let now: UnixTime = THURSDAY.parse().unwrap();
    let [berlin, utc] = ["mon-fri 08:00-16:00 in Europe/Berlin", "mon-fri 07:00-15:00"]
        .map(|hours| open(Some(hours.parse().unwrap()), None));
    let monday = |hour: &str| format!("2027-03-29T{hour}:00:00Z");
    assert_eq!(
        times(&later_changes(&utc, &berlin, &members, now)),
        [(monday("06"), 1, 0), (monday("14"), 0, 1)]
    );
    assert_eq!(
        times(&later_changes(&berlin, &utc, &members, now)),
        [(monday("06"), 0, 1), (monday("14"), 1, 0)]
    );
}

#[test]
fn times_that_are_too_many_are_counted() {
    let zones = PLANT.split_once("[[conduit]]").unwrap().0;
    let ends = |n: u32| {
        format!(
            "[[conduit]]\nfrom = \"cell-3\"\nto = \"historian\"\nservice = \"opcua-{n}\"\nschedule = \"daily 00:00-13:{n:02}\"\n"
        )
    };
    let after = parse(&format!("{zones}{}", (0..20).map(ends).collect::<String>())).unwrap();
    let before = parse(zones).unwrap();
    let now: UnixTime = "2026-11-26T18:00:00Z".parse().unwrap();
    let members = historian((0..20).map(|n| format!("opcua-{n}")));
    let gained = later_changes(&before, &after, &members, now);
    assert_eq!((gained.told.len(), gained.left_out), (1, 0), "all open at midnight");
    let now: UnixTime = THURSDAY.parse().unwrap();
    let always = parse(&format!(
        "{zones}{}",
        (0..20)
            .map(|n| ends(n).replace(&format!("daily 00:00-13:{n:02}"), "daily 00:00-24:00"))
            .collect::<String>()
    ))
    .unwrap();
    let lost = later_changes(&always, &after, &members, now);
    assert_eq!((lost.told.len(), lost.left_out), (8, 12));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What a minute by minute watch sees of the next nine days, first of each kind.
    #[test]
    fn whatever_differs_is_told_with_its_first_time(
        old in any_schedule(), new in any_schedule(), ends in prop::option::of(1_u64..12 * 1440), minute in 0_u64..366 * 1440,
    ) {
        let now = UnixTime(1_767_225_600).plus(minute * 60);
        let ends = ends.map(|ahead| now.plus(ahead * 60));
        let (before, after) = (open(Some(old), None), open(Some(new), ends));
        let members = historian(["opcua".to_owned()]);
        let later = later_changes(&before, &after, &members, now);
        let [was, is] = [&before, &after].map(|plant| &plant.conduits()[0]);
        let gains = |at: UnixTime| is.is_open(at) && !was.is_open(at);
        let loses = |at: UnixTime| was.is_open(at) && !is.is_open(at);
        let told = |gained: bool| {
            let of = |one: &(UnixTime, policy::zone::difference::PeerChanges)| if gained { !one.1.gained.is_empty() } else { !one.1.lost.is_empty() };
            later.told.iter().find(|one| of(one)).map(|one| one.0)
        };
        let sides: [(bool, &dyn Fn(UnixTime) -> bool); 2] = [(true, &gains), (false, &loses)];
        for (gained, differs) in sides {
            let first = (0..9 * 1440).map(|ahead| now.plus(ahead * 60)).find(|at| differs(*at));
            match (first, told(gained)) {
                (Some(at), told) if at == now => prop_assert_eq!(told, None, "told of now already"),
                (Some(at), told) => prop_assert_eq!(told, Some(at)),
                (None, Some(at)) => prop_assert!(differs(at) && at > now.plus(9 * 86_400 - 60)),
                (None, None) => {}
            }
        }
    }
}
