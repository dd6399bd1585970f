//! Values in the words of people: ages, times, digests, and text that a device chose.

use policy::time::UnixTime;

/// Hex digits of a short digest: enough to tell two apart, never enough to trust one.
const SHORT_DIGEST: usize = 12;

/// `text` with control characters escaped: what a device or a file says must not steer the terminal.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_direction_mark(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that reorder what stands beside them (Unicode UAX 9, section 2).
const fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A span of seconds in its largest sensible unit: `90 s`, `5 min`, `8 h`, `30 d`.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long ago `at` was; `-` for a time that never came.
pub(crate) fn age(at: u64, now: UnixTime) -> String {
    match at {
        0 => "-".to_owned(),
        at if at > now.0 => left(at, now),
        at => format!("{} ago", span(now.since(UnixTime(at)))),
    }
}

/// How long until `at`; `-` for a time that does not come.
pub(crate) fn left(at: u64, now: UnixTime) -> String {
    match at {
        0 => "-".to_owned(),
        at if at <= now.0 => format!("over since {}", span(now.since(UnixTime(at)))),
        at => format!("in {}", span(UnixTime(at).since(now))),
    }
}

/// A time as RFC 3339; `-` for a time that never came.
pub(crate) fn rfc3339(at: u64) -> String {
    json_time(at).unwrap_or_else(|| "-".to_owned())
}

/// A time as RFC 3339, or JSON null for a time that never came.
pub(crate) fn json_time(at: u64) -> Option<String> {
    (at != 0).then(|| UnixTime(at).to_string())
}

/// Bytes of a digest as `sha256:…`; empty for no bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    named_hex(&hex::encode(bytes))
}

/// Hex digits with the name of the hash that makes so many; other text as it is.
pub(crate) fn named_hex(text: &str) -> String {
    let name = match text.len() {
        40 => "sha1",
        64 => "sha256",
        96 => "sha384",
        128 => "sha512",
        _ => return text.to_owned(),
    };
    if text.bytes().all(|b| b.is_ascii_hexdigit()) { format!("{name}:{text}") } else { text.to_owned() }
}

/// The first digits of a digest, without its algorithm's name; `-` for none.
pub(crate) fn short(digest: &str) -> String {
    let digits = digest.split_once(':').map_or(digest, |(_, digits)| digits);
    match digits.is_empty() {
        true => "-".to_owned(),
        false => digits.chars().take(SHORT_DIGEST).collect(),
    }
}

/// `text`, or `-` for nothing.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// The items with commas, or `-` for none.
pub(crate) fn list<T: AsRef<str>>(items: &[T]) -> String {
    or_dash(&items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "))
}

/// `1 device`, `2 devices`.
pub(crate) fn count(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_the_unit_that_people_use() {
        let now = UnixTime(1_000_000);
        assert_eq!(age(1_000_000 - 300, now), "5 min ago");
        assert_eq!(age(1_000_000 - 30, now), "30 s ago");
        assert_eq!(age(0, now), "-");
        assert_eq!(left(1_000_000 + 8 * 3_600, now), "in 8 h");
        assert_eq!(left(1_000_000 - 8 * 86_400, now), "over since 8 d");
    }

    #[test]
    fn digests_carry_their_algorithm() {
        assert_eq!(digest(&[0xab; 32]), format!("sha256:{}", "ab".repeat(32)));
        assert_eq!(named_hex(&"0".repeat(96)), format!("sha384:{}", "0".repeat(96)));
        assert_eq!(named_hex("any text"), "any text");
        assert_eq!(short(&digest(&[0xab; 32])), "abababababab");
        assert_eq!(short(&digest(&[])), "-");
    }

    #[test]
    fn times_that_never_came_are_null() {
        assert_eq!(json_time(0), None);
        assert_eq!(json_time(1), Some("1970-01-01T00:00:01Z".to_owned()));
    }
}
