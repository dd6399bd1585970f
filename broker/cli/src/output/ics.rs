//! iCalendar (RFC 5545): what calendar programs subscribe to. Written, never read.

use std::fmt::Write as _;

use policy::time::UnixTime;

/// Octets of the longest line, its end not counted (section 3.1).
const MAX_LINE: usize = 75;

/// One date.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    /// Stays the same from one writing to the next.
    pub(crate) uid: &'a str,
    /// When it begins.
    pub(crate) at: UnixTime,
    /// When it ends; none: a moment.
    pub(crate) until: Option<UnixTime>,
    /// One line.
    pub(crate) summary: &'a str,
    /// More; may be empty.
    pub(crate) description: &'a str,
    /// What kind of thing it is.
    pub(crate) category: &'a str,
}

/// The calendar with these events, written at `now`.
pub(crate) fn write(name: &str, events: &[Event<'_>], now: UnixTime) -> String {
    let mut out = String::new();
    for line in ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Touchstone//touchstone//EN"] {
        fold(&mut out, line);
    }
    fold(&mut out, &format!("X-WR-CALNAME:{}", text(name)));
    for event in events {
        fold(&mut out, "BEGIN:VEVENT");
        fold(&mut out, &format!("UID:{}", text(event.uid)));
        fold(&mut out, &format!("DTSTAMP:{}", instant(now)));
        fold(&mut out, &format!("DTSTART:{}", instant(event.at)));
        if let Some(until) = event.until {
            fold(&mut out, &format!("DTEND:{}", instant(until)));
        }
        fold(&mut out, &format!("SUMMARY:{}", text(event.summary)));
        if !event.description.is_empty() {
            fold(&mut out, &format!("DESCRIPTION:{}", text(event.description)));
        }
        fold(&mut out, &format!("CATEGORIES:{}", text(event.category)));
        // It takes nobody's time.
        fold(&mut out, "TRANSP:TRANSPARENT");
        fold(&mut out, "END:VEVENT");
    }
    fold(&mut out, "END:VCALENDAR");
    out
}

/// DATE-TIME in UTC (section 3.3.5): `20260102T030405Z`.
fn instant(at: UnixTime) -> String {
    at.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

/// TEXT (section 3.3.11). Other control characters have no place in it.
fn text(value: &str) -> String {
    let mut out = String::new();
    for character in value.chars() {
        match character {
            '\\' | ';' | ',' => {
                let _ = write!(out, "\\{character}");
            }
            '\n' => out.push_str("\\n"),
            control if control.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

/// Adds a content line, folded between characters (section 3.1).
fn fold(out: &mut String, line: &str) {
    let mut length: usize = 0;
    for character in line.chars() {
        if length.saturating_add(character.len_utf8()) > MAX_LINE {
            out.push_str("\r\n ");
            length = 1;
        }
        out.push(character);
        length = length.saturating_add(character.len_utf8());
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_is_written_as_calendar_programs_read_it() {
        let event = Event {
            uid: "conduit/cell-3@plant.example",
            at: UnixTime(1_800_000_000),
            until: Some(UnixTime(1_800_003_600)),
            summary: "opens; a, b",
            description: "",
            category: "window",
        };
        let written = write("plant.example", &[event], UnixTime(1_700_000_000));
        for line in [
            "UID:conduit/cell-3@plant.example",
            "DTSTAMP:20231114T221320Z",
            "DTSTART:20270115T080000Z",
            "DTEND:20270115T090000Z",
            "SUMMARY:opens\\; a\\, b",
        ] {
            assert!(written.contains(&format!("{line}\r\n")), "{line} in {written}");
        }
        assert!(written.starts_with("BEGIN:VCALENDAR\r\n") && written.ends_with("END:VCALENDAR\r\n"));
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_nothing_is_lost(value in ".{0,300}") {
            let mut folded = String::new();
            fold(&mut folded, &text(&value));
            prop_assert!(folded.split("\r\n").all(|line| line.len() <= MAX_LINE));
            prop_assert_eq!(folded.replace("\r\n ", ""), text(&value) + "\r\n");
            prop_assert!(!text(&value).contains(char::is_control));
        }
    }
}
