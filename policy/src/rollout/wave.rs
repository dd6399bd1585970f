//! Which devices a wave is for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Member, RolloutId};
use crate::digest::Digest;
use crate::id::{DeviceName, ZoneName};

/// Longest name or value of a label in bytes, as an inventory value is.
pub const MAX_LABEL_TEXT: usize = 48;

/// A part of the fleet. Its text is `zone=staging`, `label=line=7` or `10%`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wave {
    /// The devices of a zone.
    Zone(ZoneName),
    /// The devices with this inventory value.
    Label {
        /// Name of the value.
        name: String,
        /// The value.
        value: String,
    },
    /// So many of a hundred devices, 1 to 100: the same ones each time it is asked, and those of a lower share
    /// are among those of a higher one.
    Percent(u8),
}

/// The text is no wave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no wave; write zone=NAME, label=NAME=VALUE, or a share such as 10%")]
pub struct WaveError(String);

impl FromStr for Wave {
    type Err = WaveError;

    fn from_str(text: &str) -> Result<Self, WaveError> {
        let refuse = || WaveError(text.chars().take(80).collect());
        if let Some(share) = text.strip_suffix('%') {
            let share = share.parse().ok().filter(|share| (1..=100).contains(share));
            return share.map(Self::Percent).ok_or_else(refuse);
        }
        match text.split_once('=').ok_or_else(refuse)? {
            ("zone", zone) => zone.parse().map(Self::Zone).map_err(|_| refuse()),
            ("label", label) => {
                let (name, value) = label.split_once('=').ok_or_else(refuse)?;
                let fits = |part: &str| {
                    (1..=MAX_LABEL_TEXT).contains(&part.len()) && !part.chars().any(char::is_control)
                };
                (fits(name) && fits(value))
                    .then(|| Self::Label { name: name.to_owned(), value: value.to_owned() })
                    .ok_or_else(refuse)
            }
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zone(zone) => write!(f, "zone={zone}"),
            Self::Label { name, value } => write!(f, "label={name}={value}"),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

impl Serialize for Wave {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wave {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Wave {
    /// Whether the wave of the rollout `id` is for `member`.
    #[must_use]
    pub fn selects(&self, id: &RolloutId, member: &Member) -> bool {
        match self {
            Self::Zone(zone) => member.zones.contains(zone),
            Self::Label { name, value } => member.labels.get(name) == Some(value),
            Self::Percent(100) => true,
            Self::Percent(share) => place(id, &member.device) < u64::from(*share),
        }
    }
}

/// The device's place among a hundred, 0 to 99. It depends on rollout and device alone, so it is stable, and
/// another rollout begins with other devices.
fn place(id: &RolloutId, device: &DeviceName) -> u64 {
    let digest = Digest::of(format!("touchstone/v1/rollout\0{id}\0{device}").as_bytes());
    let [a, b, c, d, ..] = digest.0;
    (u64::from(u32::from_be_bytes([a, b, c, d])) * 100) >> 32
}
