//! Schedules: the hours of a week in which a conduit is open, by the clock on the wall of the plant.
//!
//! A schedule is written as people say it, `sat,sun 22:00-04:00; wed 06:00-07:00 in Europe/Berlin`, and in exactly
//! one canonical form. Promises: [`Schedule::is_open`] and [`Schedule::next_edge`] never disagree, and both sides of
//! a conduit compute the same from the same text, with no clock and no zone files of the machine. A window holds by
//! the wall clock: an hour that the change from summer time repeats is open twice, one that it skips not at all.
//! What this module does not promise: single dates. A conduit that ends has `expires`.

mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::civil::{self, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use text::{MAX_SCHEDULE_TEXT, MAX_WINDOWS, ScheduleError};

use crate::time::UnixTime;

/// How many days ahead an edge is looked for: each window comes once a week, and one that the change to summer
/// time skips comes the week after.
const HORIZON_DAYS: i64 = 16;
/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// One span of a day on some days of the week; one that ends before it begins ends on the next day.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    /// Monday is 0.
    days: BTreeSet<u8>,
    /// First minute of the day at which it is open.
    from: u16,
    /// First minute at which it is closed again.
    to: u16,
}

impl Window {
    fn contains(&self, day: u8, minute: u16) -> bool {
        let on = |day: u8| self.days.contains(&day);
        if self.from < self.to {
            return on(day) && (self.from..self.to).contains(&minute);
        }
        (on(day) && minute >= self.from) || (on(before(day)) && minute < self.to)
    }
}

const fn before(day: u8) -> u8 {
    (day + 6) % 7
}

/// The hours of a week in which something is open.
#[derive(Clone)]
pub struct Schedule {
    windows: Vec<Window>,
    /// Name in the IANA time zone database; UTC if there is none.
    zone: Option<&'static str>,
    clock: TimeZone,
}

impl Schedule {
    /// Whether it is open at `now`.
    #[must_use]
    pub fn is_open(&self, now: UnixTime) -> bool {
        instant(now).is_some_and(|now| self.is_open_at(now))
    }

    fn is_open_at(&self, now: Timestamp) -> bool {
        let local = self.clock.to_datetime(now);
        let day = monday_is_0(local.weekday());
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        self.holds(day, minute)
    }

    /// Whether it is open at this minute of a day of every week.
    fn holds(&self, day: u8, minute: u16) -> bool {
        self.windows.iter().any(|window| window.contains(day, minute))
    }

    /// Whether it is open only while `other` is. Only said of two by one clock: those of others differ with the season.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let windows = self.windows.iter().chain(&other.windows);
        let changes: BTreeSet<u16> =
            windows.flat_map(|one| [one.from, one.to]).map(|minute| minute % DAY).chain([0]).collect();
        // Nothing opens or closes between two of these minutes.
        let within =
            |day: u8| changes.iter().all(|minute| !self.holds(day, *minute) || other.holds(day, *minute));
        self.zone == other.zone && (0..7).all(within)
    }

    /// The first second after `now` at which it opens or closes; `None` if it is always open.
    #[must_use]
    pub fn next_edge(&self, now: UnixTime) -> Option<UnixTime> {
        self.edges(now).next()
    }

    /// The seconds after `now` at which it opens or closes, of two weeks at least.
    pub fn edges(&self, now: UnixTime) -> impl Iterator<Item = UnixTime> {
        let now = instant(now);
        let mut open = now.is_some_and(|now| self.is_open_at(now));
        let candidates = now.map(|now| self.candidates(now)).unwrap_or_default();
        let turns = move |at: &Timestamp| {
            let was = std::mem::replace(&mut open, self.is_open_at(*at));
            was != open
        };
        candidates.into_iter().filter(turns).filter_map(unix)
    }

    /// When its clock is set next, and back: from then on it is open at other times than before.
    pub fn clock_changes(&self, now: UnixTime) -> impl Iterator<Item = UnixTime> {
        let following = instant(now).into_iter().flat_map(|now| self.clock.following(now).take(2));
        following.filter_map(|change| unix(change.timestamp()))
    }

    /// The first second from `now` on at which it is open.
    #[must_use]
    pub fn next_opening(&self, now: UnixTime) -> Option<UnixTime> {
        if self.is_open(now) { Some(now) } else { self.next_edge(now) }
    }

    /// Every instant after `now` at which something can change: the ends of windows, and where the clock is set.
    fn candidates(&self, now: Timestamp) -> BTreeSet<Timestamp> {
        let today = self.clock.to_datetime(now).date();
        let minutes: BTreeSet<u16> = self.windows.iter().flat_map(|one| [one.from, one.to]).collect();
        let mut found = BTreeSet::new();
        for ahead in 0..=HORIZON_DAYS {
            let Ok(date) = today.checked_add(Span::new().days(ahead)) else { break };
            for local in minutes.iter().filter_map(|minute| at(date, *minute)) {
                let ambiguous = self.clock.to_ambiguous_timestamp(local);
                found.extend(ambiguous.earlier());
                found.extend(ambiguous.later());
            }
        }
        let last = found.last().copied().unwrap_or(now);
        let changes = self.clock.following(now).map(|change| change.timestamp());
        found.extend(changes.take_while(|change| *change <= last));
        found.into_iter().filter(|instant| *instant > now).collect()
    }
}

fn at(date: civil::Date, minute: u16) -> Option<DateTime> {
    let date = if minute >= DAY { date.tomorrow().ok()? } else { date };
    let minute = minute % DAY;
    let part = |value: u16| i8::try_from(value).ok();
    Some(date.to_datetime(civil::Time::new(part(minute / 60)?, part(minute % 60)?, 0, 0).ok()?))
}

fn monday_is_0(day: Weekday) -> u8 {
    day.to_monday_zero_offset().unsigned_abs()
}

fn instant(time: UnixTime) -> Option<Timestamp> {
    i64::try_from(time.0).ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
}

fn unix(instant: Timestamp) -> Option<UnixTime> {
    u64::try_from(instant.as_second()).ok().map(UnixTime)
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (&self.windows, self.zone) == (&other.windows, other.zone)
    }
}

impl Eq for Schedule {}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({self})")
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(&self.windows, self.zone, f)
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let (windows, zone) = text::read(text)?;
        let (zone, clock) = match zone {
            None => (None, TimeZone::UTC),
            Some((name, data)) => {
                let clock = TimeZone::tzif(name, data).map_err(|_| ScheduleError::Zone(name.to_owned()))?;
                (Some(name), clock)
            }
        };
        let schedule = Self { windows, zone, clock };
        // What is kept and sent is what it writes, and that is read again.
        match schedule.to_string().len() {
            0..=MAX_SCHEDULE_TEXT => Ok(schedule),
            length => Err(ScheduleError::SpeltOut(length)),
        }
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
