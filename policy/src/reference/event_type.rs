//! The text form of firmware event types, as manifests and findings write them.
//!
//! An event's type is chosen by whoever wrote the log and is not bound by the digest. It is compared
//! together with the digest, never instead of it.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::eventlog::event::EventType;

/// Where the numbers of named types lie (TCG PC Client Platform Firmware Profile 1.06, table 27), and
/// ours for events of other logs.
const NAMED: [std::ops::RangeInclusive<u32>; 3] =
    [0..=0x1f, 0x8000_0000..=0x8000_00ff, 0xfffe_0000..=0xfffe_000f];

fn named() -> impl Iterator<Item = EventType> {
    NAMED.into_iter().flatten().map(EventType)
}

/// The text names no event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no event type; write a name such as EV_EFI_BOOT_SERVICES_APPLICATION, or 0x and eight hex digits"
)]
pub struct ParseEventTypeError(String);

impl FromStr for EventType {
    type Err = ParseEventTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(known) = named().find(|known| known.name() == Some(text)) {
            return Ok(known);
        }
        text.strip_prefix("0x")
            .filter(|digits| digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .map(Self)
            .ok_or_else(|| ParseEventTypeError(text.chars().take(80).collect()))
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_every_number_round_trips() {
        assert_eq!(named().filter(|known| known.name().is_some()).count(), 41);
        for event_type in named() {
            assert_eq!(event_type.to_string().parse(), Ok(event_type));
        }
        assert_eq!(EventType(0x40e).to_string(), "0x0000040e");
        assert_eq!("0x0000040e".parse(), Ok(EventType(0x40e)));
    }

    #[test]
    fn a_number_in_another_form_is_refused_by_name() {
        for bad in ["0x40e", "1038", "EV_KERNEL", "0x+000040e"] {
            assert!(bad.parse::<EventType>().unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
