//! Schedules open and close by the clock on the wall, and say beforehand when.

use policy::time::UnixTime;
use policy::zone::schedule::{MAX_SCHEDULE_TEXT, MAX_WINDOWS, Schedule, ScheduleError};
use proptest::prelude::*;

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap()
}

fn time(text: &str) -> UnixTime {
    text.parse().unwrap()
}

#[test]
fn it_is_open_from_the_first_minute_to_the_last() {
    let nights = schedule("sat,sun 22:00-04:00");
    for (at, open) in [
        // 2026-11-28 is a Saturday.
        ("2026-11-28T21:59:59Z", false),
        ("2026-11-28T22:00:00Z", true),
        ("2026-11-29T03:59:59Z", true),
        ("2026-11-29T04:00:00Z", false),
        ("2026-11-30T03:00:00Z", true),
        ("2026-11-30T23:00:00Z", false),
        ("2026-11-28T03:00:00Z", false),
    ] {
        assert_eq!(nights.is_open(time(at)), open, "{at}");
    }
    assert_eq!(nights.next_edge(time("2026-11-26T12:00:00Z")), Some(time("2026-11-28T22:00:00Z")));
    assert_eq!(nights.next_edge(time("2026-11-28T22:00:00Z")), Some(time("2026-11-29T04:00:00Z")));
    assert_eq!(nights.next_opening(time("2026-11-28T23:00:00Z")), Some(time("2026-11-28T23:00:00Z")));
}

#[test]
fn it_follows_summer_time() {
    let early = schedule("daily 02:15-02:45 in Europe/Berlin");
    // 2026-03-29 has no hour from 02:00 to 03:00 there.
    assert_eq!(early.next_edge(time("2026-03-28T12:00:00Z")), Some(time("2026-03-30T00:15:00Z")));
    // 2026-10-25 has it twice.
    assert_eq!(early.next_edge(time("2026-10-24T12:00:00Z")), Some(time("2026-10-25T00:15:00Z")));
    assert_eq!(early.next_edge(time("2026-10-25T00:50:00Z")), Some(time("2026-10-25T01:15:00Z")));
    let over = schedule("sun 01:00-05:00 in Europe/Berlin");
    assert_eq!(over.next_edge(time("2026-03-29T00:00:00Z")), Some(time("2026-03-29T03:00:00Z")));
    let skipped = schedule("sun 02:10-02:50 in Europe/Berlin");
    assert_eq!(skipped.next_edge(time("2026-03-23T00:00:00Z")), Some(time("2026-04-05T00:10:00Z")));
}

#[test]
fn one_that_is_always_open_has_no_edge() {
    for always in ["daily 00:00-24:00", "daily 12:00-24:00; daily 00:00-12:00"] {
        assert_eq!(schedule(always).next_edge(time("2026-11-26T12:00:00Z")), None, "{always}");
    }
}

#[test]
fn it_has_one_form() {
    for (text, canonical) in [
        ("SAT,sun,fri 22:00-04:00", "fri-sun 22:00-04:00"),
        ("sat-mon 06:00-07:00 in UTC", "mon,sat,sun 06:00-07:00"),
        ("mon 06:00-07:00 in utc", "mon 06:00-07:00"),
        ("mon-sun 00:00-24:00", "daily 00:00-24:00"),
        (
            "wed  06:00-07:00 ;tue 08:00-09:30 in europe/berlin",
            "wed 06:00-07:00; tue 08:00-09:30 in Europe/Berlin",
        ),
    ] {
        let read = schedule(text);
        assert_eq!(read.to_string(), canonical);
        assert_eq!(schedule(canonical), read);
    }
}

#[test]
fn what_is_no_schedule_is_refused_with_its_reason() {
    let refused = |text: &str| text.parse::<Schedule>().unwrap_err();
    assert_eq!(refused(""), ScheduleError::Windows(0));
    assert_eq!(refused(&["mon 01:00-02:00"; 9].join(";")), ScheduleError::Windows(9));
    assert_eq!(refused("mon"), ScheduleError::Window("mon".to_owned()));
    assert_eq!(refused("mon 01:00"), ScheduleError::Window("mon 01:00".to_owned()));
    assert_eq!(refused("monday 01:00-02:00"), ScheduleError::Day("monday".to_owned()));
    assert_eq!(refused("mon 1:00-02:00"), ScheduleError::Time("1:00".to_owned()));
    assert_eq!(refused("mon 23:00-24:01"), ScheduleError::Time("24:01".to_owned()));
    assert_eq!(refused("mon +1:00-02:00"), ScheduleError::Time("+1:00".to_owned()));
    for empty in ["mon 03:00-03:00", "mon 24:00-03:00", "mon 00:00-00:00"] {
        assert_eq!(refused(empty), ScheduleError::Empty(empty.to_owned()));
    }
    assert_eq!(refused("mon 01:00-02:00 in Berlin"), ScheduleError::Zone("Berlin".to_owned()));
    assert_eq!(refused(&" ".repeat(MAX_SCHEDULE_TEXT + 1)), ScheduleError::Long(MAX_SCHEDULE_TEXT + 1));
}

const ZONES: [&str; 5] =
    ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"];

fn any_windows(most: usize) -> impl Strategy<Value = String> {
    let days = prop::sample::subsequence(vec!["mon", "tue", "wed", "thu", "fri", "sat", "sun"], 1..=7);
    let window = (days, 0..1439_u16, 1..1439_u16).prop_map(|(days, from, length)| {
        let to = (from + length) % 1440;
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        format!("{} {}-{}", days.join(","), clock(from), clock(to))
    });
    prop::collection::vec(window, 1..=most).prop_map(|windows| windows.join("; "))
}

pub(crate) fn any_schedule() -> impl Strategy<Value = Schedule> {
    (any_windows(3), prop::sample::select(&ZONES[..]))
        .prop_map(|(windows, zone)| schedule(&format!("{windows} in {zone}")))
}

#[test]
fn one_that_would_not_be_read_back_is_refused() {
    let windows = ["fri-mon 00:00-01:00"; MAX_WINDOWS].join(";");
    let text = format!("{windows} in America/Argentina/Buenos_Aires");
    assert!(text.len() <= MAX_SCHEDULE_TEXT, "{}", text.len());
    assert_eq!(text.parse::<Schedule>(), Err(ScheduleError::SpeltOut(232)));
    let two = schedule("fri-mon 00:00-01:00;tue 00:00-01:00 in America/Argentina/Buenos_Aires");
    assert_eq!(two.to_string().parse::<Schedule>(), Ok(two));
}

proptest! {
    /// The next edge is where a minute by minute watch sees the first change.
    #[test]
    fn edges_are_where_it_opens_and_closes(schedule in any_schedule(), minute in 0_u64..2 * 366 * 1440) {
        let now = time("2026-01-01T00:00:00Z").plus(minute * 60);
        let open = schedule.is_open(now);
        let watched = (1..=9 * 1440).map(|ahead| now.plus(ahead * 60)).find(|at| schedule.is_open(*at) != open);
        let edge = schedule.next_edge(now);
        match watched {
            Some(at) => prop_assert_eq!(edge, Some(at)),
            None => prop_assert!(edge.is_none_or(|edge| edge > now.plus(9 * 86_400))),
        }
        if let Some(edge) = edge {
            prop_assert_eq!(schedule.is_open(edge.minus(1)), open);
        }
    }

    #[test]
    fn one_within_another_is_never_open_alone(one in any_windows(2), more in any_windows(2)) {
        let [narrow, other, wide] = [one.clone(), more.clone(), format!("{one}; {more}")].map(|text| schedule(&text));
        prop_assert!(narrow.is_within(&narrow) && narrow.is_within(&wide) && other.is_within(&wide));
        let week = || (0..7 * 1440).map(|minute| UnixTime(minute * 60));
        for (one, other) in [(&narrow, &other), (&wide, &narrow)] {
            let alone = week().any(|at| one.is_open(at) && !other.is_open(at));
            prop_assert_eq!(one.is_within(other), !alone);
        }
    }

    #[test]
    fn its_text_reads_back(schedule in any_schedule()) {
        prop_assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
    }

    /// Also of days and time zones whose canonical form is longer than what was written.
    #[test]
    fn what_is_read_can_be_read_back(
        windows in prop::collection::vec("(fri-mon|sat-mon|daily|mon,wed,fri) 0[0-9]:00-1[0-9]:30", 1..=MAX_WINDOWS),
        zone in prop::sample::select(vec!["", " in America/Argentina/Buenos_Aires", " in Europe/Berlin"]),
    ) {
        let text = format!("{}{zone}", windows.join(";"));
        if let Ok(schedule) = text.parse::<Schedule>() {
            prop_assert_eq!(schedule.to_string().parse::<Schedule>(), Ok(schedule));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9:;, -]{0,40}( in [A-Za-z/]{0,20})?") {
        let _ = text.parse::<Schedule>();
    }
}
