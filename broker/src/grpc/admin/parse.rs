//! From wire values to domain values, with a refusal that names the field.

use std::fmt::Display;
use std::str::FromStr;

use policy::digest::Digest;
use proto::v1;

use crate::admin::Seen;
use crate::admin::device::DeviceRef;
use crate::session::Refusal;
use crate::store::Revision;

/// Longest text of a name, digest or version; what is longer is none of them.
const MAX_TEXT: usize = 160;
/// Most names of one list that are parsed at all: the services bound their lists tighter.
const MAX_LIST: usize = 256;

/// The value that `text` spells.
pub(super) fn text<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Refusal> {
    if text.len() > MAX_TEXT {
        return Err(Refusal::malformed(format!("{field} has {} bytes, at most {MAX_TEXT}", text.len())));
    }
    text.parse().map_err(|error: T::Err| Refusal::malformed(format!("{field}: {error}")))
}

/// The value that `text` spells; none if it is empty.
pub(super) fn optional<T: FromStr<Err: Display>>(field: &str, value: &str) -> Result<Option<T>, Refusal> {
    if value.is_empty() { Ok(None) } else { text(field, value).map(Some) }
}

/// The values of a list.
pub(super) fn texts<T: FromStr<Err: Display>>(field: &str, values: &[String]) -> Result<Vec<T>, Refusal> {
    if values.len() > MAX_LIST {
        return Err(Refusal::malformed(format!("{field}: {} values, at most {MAX_LIST}", values.len())));
    }
    values.iter().map(|value| text(field, value)).collect()
}

/// A SHA-256 digest in bytes.
pub(super) fn digest(field: &str, bytes: &[u8]) -> Result<Digest, Refusal> {
    Digest::try_from(bytes).map_err(|_| {
        Refusal::malformed(format!("{field} has {} bytes, a SHA-256 digest has 32", bytes.len()))
    })
}

/// A device by its name, or by `sha256:` and the digest of its EK.
pub(super) fn device(field: &str, value: &str) -> Result<DeviceRef, Refusal> {
    if value.starts_with("sha256:") {
        return text(field, value).map(DeviceRef::Ek);
    }
    text(field, value).map(DeviceRef::Name)
}

/// What a caller says that they saw, if they say it.
pub(super) fn seen(seen: Option<v1::Seen>) -> Result<Option<Seen>, Refusal> {
    let Some(v1::Seen { revision, words }) = seen else { return Ok(None) };
    if words.len() > MAX_TEXT || words.chars().any(char::is_control) {
        return Err(Refusal::malformed(format!("seen: write at most {MAX_TEXT} printable bytes")));
    }
    Ok(Some(Seen { revision: Revision(revision), words }))
}

/// What a caller may say later that they saw.
pub(super) fn to_wire(seen: Seen) -> v1::Seen {
    v1::Seen { revision: seen.revision.0, words: seen.words }
}

/// A count from the wire.
pub(super) fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A count for the wire.
pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
