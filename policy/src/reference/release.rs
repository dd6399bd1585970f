//! What a release is called: a product and its version.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::ProductName;

/// Longest version: room for a semantic version with a build hash.
pub const MAX_VERSION: usize = 64;

/// A name of a release is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseNameError {
    /// Not a version.
    #[error("`{0}` is no version; use 1 to 64 of letters, digits and . + - _, for example 1.4.0")]
    Version(String),
    /// Not a release.
    #[error("`{0}` is no release; write product@version, for example edge-box@1.4.0")]
    Release(String),
}

/// The version of a release. Versions have no order here: the manifest's counter has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseVersion(String);

impl ReleaseVersion {
    /// The version's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReleaseVersion {
    type Err = ReleaseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || b".+-_".contains(b);
        if (1..=MAX_VERSION).contains(&text.len()) && text.as_bytes().iter().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(ReleaseNameError::Version(text.chars().take(80).collect()))
    }
}

impl fmt::Display for ReleaseVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A release by name. Its text is `edge-box@1.4.0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseId {
    /// The product that it is made for.
    pub product: ProductName,
    /// Its version.
    pub version: ReleaseVersion,
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.product, self.version))
    }
}

impl FromStr for ReleaseId {
    type Err = ReleaseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ReleaseNameError::Release(text.chars().take(160).collect());
        let (product, version) = text.split_once('@').ok_or_else(refuse)?;
        Ok(Self { product: product.parse().map_err(|_| refuse())?, version: version.parse()? })
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(ReleaseVersion);
serde_as_text!(ReleaseId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_round_trips() {
        let id: ReleaseId = "edge-box@1.4.0+g1a2b".parse().unwrap();
        assert_eq!(id.to_string(), "edge-box@1.4.0+g1a2b");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            "edge-box".parse::<ReleaseId>().unwrap_err(),
            ReleaseNameError::Release("edge-box".to_owned())
        );
        assert_eq!(
            "edge-box@1 2".parse::<ReleaseId>().unwrap_err(),
            ReleaseNameError::Version("1 2".to_owned())
        );
    }
}
