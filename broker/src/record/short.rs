//! Digests in the records of which every device has some: base64url without padding (RFC 4648, section 5), 43 characters
//! where people read 71.
//!
//! Both forms are read: older records have the long one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use policy::digest::Digest;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Characters of the short form; none of the long one are as many.
const SHORT: usize = 43;

pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&URL_SAFE_NO_PAD.encode(digest.0))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    parse(&String::deserialize(deserializer)?)
}

fn parse<E: Error>(text: &str) -> Result<Digest, E> {
    if text.len() != SHORT {
        return text.parse().map_err(E::custom);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(E::custom)?;
    Digest::try_from(bytes.as_slice()).map_err(E::custom)
}

/// Data of the first version, which wrote every digest in its long form: it is read, too.
pub(super) fn long_digests(from: u32, data: Value) -> Option<Value> {
    (from == 1).then_some(data)
}

/// Digests that may not be known.
pub(super) mod option {
    use super::*;

    #[expect(clippy::ref_option, reason = "serde passes a reference")]
    pub(crate) fn serialize<S: Serializer>(
        digest: &Option<Digest>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        digest.map(|digest| URL_SAFE_NO_PAD.encode(digest.0)).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Digest>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|text| parse(&text)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Two {
        #[serde(with = "super")]
        one: Digest,
        #[serde(default, with = "super::option", skip_serializing_if = "Option::is_none")]
        other: Option<Digest>,
    }

    #[test]
    fn the_short_form_is_written_and_both_are_read() {
        for other in [None, Some(Digest::of(b"b"))] {
            let two = Two { one: Digest::of(b"a"), other };
            let written = serde_json::to_string(&two).unwrap();
            assert!(!written.contains("sha256"), "{written}");
            assert_eq!(serde_json::from_str::<Two>(&written).unwrap(), two);
            let long = serde_json::json!({ "one": two.one, "other": two.other });
            assert_eq!(serde_json::from_value::<Two>(long).unwrap(), two);
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        let short = URL_SAFE_NO_PAD.encode(Digest::of(b"a").0);
        for text in ["", &short[1..], &format!("{short}A"), &format!("{}!", &short[1..]), &"é".repeat(21)] {
            assert!(serde_json::from_value::<Two>(serde_json::json!({ "one": text })).is_err(), "{text}");
        }
    }
}
