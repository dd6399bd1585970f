//! The order of Debian versions (Debian Policy, section 5.6.12; deb-version(7)).

use std::cmp::Ordering;

/// Compares `epoch:upstream-revision`; nothing if one is no such version.
pub(super) fn compare(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (Parts::of(a)?, Parts::of(b)?);
    let upstream = || part(a.upstream.as_bytes(), b.upstream.as_bytes());
    let revision = || part(a.revision.as_bytes(), b.revision.as_bytes());
    Some(a.epoch.cmp(&b.epoch).then_with(upstream).then_with(revision))
}

struct Parts<'a> {
    epoch: u32,
    upstream: &'a str,
    revision: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().ok()?, rest),
            None => (0, text),
        };
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-~:".contains(&b));
        let versioned = upstream.starts_with(|c: char| c.is_ascii_digit());
        (versioned && plain(rest)).then_some(Self { epoch, upstream, revision })
    }
}

/// Where a character that is no digit stands: `~` before the end, letters before all others.
fn order(byte: Option<&u8>) -> i32 {
    match byte {
        None | Some(b'0'..=b'9') => 0,
        Some(b'~') => -1,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    }
}

/// Compares one part: text and numbers in turns.
fn part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let text = |part: &[u8]| part.first().is_some_and(|byte| !byte.is_ascii_digit());
        while text(a) || text(b) {
            match order(a.first()).cmp(&order(b.first())) {
                Ordering::Equal => (a, b) = (rest(a), rest(b)),
                differs => return differs,
            }
        }
        let (number_a, number_b);
        (number_a, a) = super::digits(a);
        (number_b, b) = super::digits(b);
        match super::number(number_a, number_b) {
            Ordering::Equal => {}
            differs => return differs,
        }
    }
    Ordering::Equal
}

fn rest(part: &[u8]) -> &[u8] {
    part.split_first().map_or(&[], |(_, rest)| rest)
}
