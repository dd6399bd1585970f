//! The codec of stored records: `{"v":N,"d":{...}}`, with `"s":"<id>"` before the data while the record counts
//! only if the change of that id was committed.
//!
//! For: every record says which version of its kind wrote it, so that a new broker reads old stores and
//! an old broker refuses new ones by name instead of misreading them.
//! Does not promise: that the data make sense; a record's own type parses them.

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;
use thiserror::Error;

/// A kind of stored record.
pub trait Record: Serialize + DeserializeOwned {
    /// The version this broker writes. Raise it with every change that an older broker would misread.
    const VERSION: u32;

    /// What people call the record, in errors: "device", "join token".
    const KIND: &'static str;

    /// The data of a record written as the older version `from`, in today's form, or `None` if that version
    /// is no longer read.
    fn upgrade(from: u32, data: Value) -> Option<Value> {
        let _ = (from, data);
        None
    }
}

#[derive(Serialize)]
struct Written<'a, R> {
    v: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'a str>,
    d: &'a R,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read<D> {
    v: u32,
    #[serde(default)]
    s: Option<String>,
    d: D,
}

/// A record could not be written.
#[derive(Debug, Error)]
#[error("a {kind} record cannot be written as JSON; this is a defect, report it")]
pub struct EncodeError {
    kind: &'static str,
    source: serde_json::Error,
}

/// A stored value is not a record of the kind that was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The value is not `{"v":N,"d":{...}}` at all.
    #[error("the {kind} record under store key {key:?} is damaged; restore the last backup")]
    Damaged {
        /// Kind of record.
        kind: &'static str,
        /// Its key.
        key: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The data do not fit the version they claim.
    #[error(
        "the {kind} record under store key {key:?} does not fit its version {version}; restore the last backup"
    )]
    Unfit {
        /// Kind of record.
        kind: &'static str,
        /// Its key.
        key: String,
        /// The version it claims.
        version: u32,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The record belongs to a change that may not have been committed.
    #[error(
        "the {kind} record under store key {key:?} belongs to a larger change; this is a defect, report it"
    )]
    Staged {
        /// Kind of record.
        kind: &'static str,
        /// Its key.
        key: String,
    },
    /// A later broker wrote the record.
    #[error(
        "the {kind} record under store key {key:?} has version {version}, this broker reads up to {known}: \
         written by a newer broker; do not downgrade"
    )]
    Newer {
        /// Kind of record.
        kind: &'static str,
        /// Its key.
        key: String,
        /// The version it has.
        version: u32,
        /// The highest version this broker reads.
        known: u32,
    },
    /// The version is one this broker no longer reads.
    #[error(
        "the {kind} record under store key {key:?} has version {version}, which this broker no longer reads; \
         start the release before this one once, it rewrites old records"
    )]
    TooOld {
        /// Kind of record.
        kind: &'static str,
        /// Its key.
        key: String,
        /// The version it has.
        version: u32,
    },
}

/// The stored form of `record`.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, EncodeError> {
    encode_staged(record, None)
}

/// The stored form of `record`, as part of the change `stage` if it is part of one.
pub fn encode_staged<R: Record>(record: &R, stage: Option<&str>) -> Result<Vec<u8>, EncodeError> {
    serde_json::to_vec(&Written { v: R::VERSION, s: stage, d: record })
        .map_err(|source| EncodeError { kind: R::KIND, source })
}

/// The record stored as `bytes` under `key`, which is part of no larger change; the key only serves the error.
pub fn decode<R: Record>(key: &str, bytes: &[u8]) -> Result<R, DecodeError> {
    match decode_staged(key, bytes)? {
        (record, None) => Ok(record),
        (_, Some(_)) => Err(DecodeError::Staged { kind: R::KIND, key: key.to_owned() }),
    }
}

/// The change that a stored record is part of, whatever its kind; `None` for one that stands alone.
#[must_use]
pub fn stage_of(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<Read<IgnoredAny>>(bytes).ok()?.s
}

/// The record stored as `bytes` under `key`, and the id of the change that it is part of: without that
/// change's commit it does not count.
pub fn decode_staged<R: Record>(key: &str, bytes: &[u8]) -> Result<(R, Option<String>), DecodeError> {
    let kind = R::KIND;
    let key = || key.to_owned();
    // Nearly every record is of today's version, and is read in one go: a fleet has many.
    if let Ok(Read { v, s: stage, d: record }) = serde_json::from_slice::<Read<R>>(bytes)
        && v == R::VERSION
    {
        return Ok((record, stage));
    }
    let Read { v: version, s: stage, d: data } = serde_json::from_slice::<Read<Value>>(bytes)
        .map_err(|source| DecodeError::Damaged { kind, key: key(), source })?;
    if version > R::VERSION {
        return Err(DecodeError::Newer { kind, key: key(), version, known: R::VERSION });
    }
    let data = if version == R::VERSION {
        data
    } else {
        R::upgrade(version, data).ok_or_else(|| DecodeError::TooOld { kind, key: key(), version })?
    };
    let record = serde_json::from_value(data);
    let record = record.map_err(|source| DecodeError::Unfit { kind, key: key(), version, source })?;
    Ok((record, stage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Lamp {
        colour: String,
    }

    impl Record for Lamp {
        const VERSION: u32 = 3;
        const KIND: &'static str = "lamp";

        fn upgrade(from: u32, data: Value) -> Option<Value> {
            (from == 2).then(|| serde_json::json!({ "colour": data.get("color").cloned() }))
        }
    }

    fn refusal(bytes: &str) -> String {
        decode::<Lamp>("lamp/hall", bytes.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn round_trip_is_plain_json() {
        let lamp = Lamp { colour: "red".into() };
        let bytes = encode(&lamp).unwrap();
        assert_eq!(bytes, br#"{"v":3,"d":{"colour":"red"}}"#);
        assert_eq!(decode::<Lamp>("lamp/hall", &bytes).unwrap(), lamp);
    }

    #[test]
    fn part_of_a_larger_change_is_never_taken_for_a_record() {
        let lamp = Lamp { colour: "red".into() };
        let bytes = encode_staged(&lamp, Some("7f")).unwrap();
        assert_eq!(bytes, br#"{"v":3,"s":"7f","d":{"colour":"red"}}"#);
        assert_eq!(decode_staged("lamp/hall", &bytes).unwrap(), (lamp, Some("7f".to_owned())));
        assert_eq!(stage_of(&bytes).as_deref(), Some("7f"));
        let refused = decode::<Lamp>("lamp/hall", &bytes).unwrap_err();
        assert!(matches!(refused, DecodeError::Staged { kind: "lamp", .. }), "{refused}");
    }

    #[test]
    fn older_version_is_upgraded_or_named() {
        let lamp: Lamp = decode("lamp/hall", br#"{"v":2,"d":{"color":"red"}}"#).unwrap();
        assert_eq!(lamp.colour, "red");
        assert_eq!(
            refusal(r#"{"v":1,"d":{}}"#),
            "the lamp record under store key \"lamp/hall\" has version 1, which this broker no longer reads; \
             start the release before this one once, it rewrites old records"
        );
    }

    #[test]
    fn newer_version_says_do_not_downgrade() {
        assert_eq!(
            refusal(r#"{"v":4,"d":{"colour":"red"}}"#),
            "the lamp record under store key \"lamp/hall\" has version 4, this broker reads up to 3: \
             written by a newer broker; do not downgrade"
        );
    }

    #[test]
    fn damaged_and_unfit_differ() {
        let damaged = "the lamp record under store key \"lamp/hall\" is damaged; restore the last backup";
        for bytes in ["", "{", "[]", r#"{"v":3}"#, r#"{"v":3,"d":{},"x":1}"#, r#"{"v":-1,"d":{}}"#] {
            assert_eq!(refusal(bytes), damaged, "{bytes}");
        }
        for bytes in [r#"{"v":3,"d":{}}"#, r#"{"v":3,"d":{"colour":"red","x":1}}"#, r#"{"v":3,"d":7}"#] {
            assert!(refusal(bytes).contains("does not fit its version 3"), "{bytes}");
        }
    }
}
