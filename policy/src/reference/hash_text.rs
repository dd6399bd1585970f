//! The stored and printed form of a digest whose algorithm varies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tpm::alg::{HashAlg, HashValue};

/// A digest as text: the algorithm's name, a colon and lower-case hex digits, `sha256:00ff…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashText(pub HashValue);

impl fmt::Display for HashText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.alg(), self.0)
    }
}

impl fmt::Debug for HashText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no digest with its algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no digest; write the algorithm, a colon and its hex digits, for example sha256:…")]
pub struct ParseHashTextError(String);

impl FromStr for HashText {
    type Err = ParseHashTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once(':')
            .and_then(|(alg, digits)| HashValue::from_hex(alg.parse::<HashAlg>().ok()?, digits))
            .map(Self)
            .ok_or_else(|| ParseHashTextError(text.chars().take(160).collect()))
    }
}

impl Serialize for HashText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HashText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_a_wrong_length_is_refused_by_name() {
        let text = HashText(HashAlg::Sha384.hash(&[b"abc"]));
        assert_eq!(text.to_string().parse(), Ok(text));
        let error = "sha384:00ff".parse::<HashText>().unwrap_err();
        assert!(error.to_string().contains("sha384:00ff"));
    }
}
